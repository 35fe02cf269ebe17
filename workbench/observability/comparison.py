"""Candidate against baseline: the difference and the ratio of one metric, paired where both saw the same units once each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.errors import InsufficientData
from workbench.observability.metric import Kind, Metric
from workbench.observability.model import Direction
from workbench.observability.readings import Reading
from workbench.stats.cluster import ClusteredDifference, difference_of_ratios, p_of_t
from workbench.stats.estimate import Estimate, p_by_inversion
from workbench.stats.paired import PairCounts, mcnemar, paired_mean_difference, paired_rate_difference, paired_t_p
from workbench.stats.proportion import hybrid_difference
from workbench.stats.ratio import conservative_difference, conservative_ratio, level_of_each

LEVEL = 0.95
INVERTED = "inverted interval"
ReadAt = Callable[[float], Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPair:
    """What one unit contributed on each side: rows, and its sums of y, x and observations k."""

    has_unit: bool
    """False for a request that names no unit and stands for itself."""
    rows: tuple[int, int]
    """Candidate, baseline; the same order everywhere."""
    y: tuple[float, float]
    x: tuple[float, float]
    k: tuple[int, int]

    @property
    def is_complete(self) -> bool:
        """Whether both sides hold an observation."""
        return self.k[0] > 0 and self.k[1] > 0


def is_paired(units: Sequence[UnitPair]) -> bool:
    """Whether both sides have exactly the same units, with one request each."""
    return bool(units) and all(unit.has_unit and unit.rows == (1, 1) for unit in units)


def compare(metric: Metric, candidate: ReadAt, baseline: ReadAt, units: Sequence[UnitPair]) -> dict[str, Any]:
    """`design`, `difference` and `ratio` of a comparison record. What cannot be said is None.

    Sampled answers are not paired: those pairs of which both sides are known are not like the others.

    Args:
        metric: what is compared.
        candidate: coverage to the candidate's reading.
        baseline: the same for the baseline.
        units: everything that both sides saw, by unit.
    """
    pairs = [unit for unit in units if unit.is_complete] if is_paired(units) and not metric.is_weighted else []
    compared = _Compared(metric=metric, candidate=candidate, baseline=baseline, units=units, pairs=pairs, by_unit=_by_unit(metric, units))
    difference = compared.difference()
    wins, losses = compared.wins_and_losses() if pairs and _has_winners(metric) else (None, None)
    p, p_method = compared.p(difference)
    if p is None and wins is not None and losses is not None:
        p, p_method = mcnemar(wins, losses), "exact sign test"
    tested = {"n_pairs": len(pairs) or None, "wins": wins, "losses": losses, "p": p, "p_method": p_method}
    return {"design": "paired" if pairs else "unpaired", "difference": _entry(difference) | tested, "ratio": _entry(compared.ratio())}


def _by_unit(metric: Metric, units: Sequence[UnitPair]) -> ClusteredDifference | None:
    """The difference with units as clusters over both sides; None where it cannot be had. Its sums are exact, so order is no matter."""
    counted = [unit for unit in units if unit.k != (0, 0)]
    left, right = (([unit.y[side] for unit in counted], [unit.x[side] for unit in counted]) for side in (0, 1))
    try:
        return difference_of_ratios(left, right) if metric.kind in {Kind.RATE, Kind.MEAN, Kind.RATIO} else None
    except InsufficientData:
        return None


def _has_winners(metric: Metric) -> bool:
    """Whether one unit alone can be better on one side; a ratio such as cost per success needs many units to mean something."""
    return metric.direction is not Direction.NEITHER and metric.kind is not Kind.RATIO


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Both sides of one metric, and their complete pairs, which are empty when the design is unpaired."""

    metric: Metric
    candidate: ReadAt
    baseline: ReadAt
    units: Sequence[UnitPair]
    pairs: Sequence[UnitPair]
    by_unit: ClusteredDifference | None

    def sides(self, level: float) -> tuple[Estimate, Estimate] | None:
        """Both estimates at this coverage; None when a side has no data."""
        first, second = self.candidate(level).as_estimate(), self.baseline(level).as_estimate()
        return None if first is None or second is None else (first, second)

    @property
    def is_binary(self) -> bool:
        """Whether the pairs are single answers of yes or no."""
        return bool(self.pairs) and self.metric.kind is Kind.RATE and all(pair.k == (1, 1) for pair in self.pairs)

    def pair_counts(self) -> PairCounts:
        seen = [(pair.y[0] > 0, pair.y[1] > 0) for pair in self.pairs]
        both, wins, losses = (seen.count(answers) for answers in ((True, True), (True, False), (False, True)))
        return PairCounts(both=both, wins=wins, losses=losses, neither=len(seen) - both - wins - losses)

    def values(self) -> tuple[list[float], list[float]]:
        """Each pair's own value on both sides."""
        whole = [pair for pair in self.pairs if pair.x[0] and pair.x[1]]
        return [pair.y[0] / pair.x[0] for pair in whole], [pair.y[1] / pair.x[1] for pair in whole]

    def wins_and_losses(self) -> tuple[int, int]:
        """On how many units the candidate is better, and worse; ties are neither."""
        sign = 1 if self.metric.direction is Direction.HIGHER else -1
        gains = [sign * (c - b) for c, b in zip(*self.values(), strict=True)]
        return sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)

    def difference(self) -> Estimate | None:
        """Candidate less baseline; None when a side has no data."""
        sides = self.sides(LEVEL)
        if sides is None:
            return None
        match self.metric.kind:
            case Kind.RATE:
                return paired_rate_difference(self.pair_counts(), level=LEVEL) if self.is_binary else self._rate_difference(LEVEL)
            case Kind.MEAN | Kind.RATIO:
                return self._mean_difference(LEVEL) or _unbounded(*sides)
            case Kind.QUANTILE:
                each = self.sides(level_of_each(LEVEL))
                return conservative_difference(*each) if each else None
            case Kind.COUNT | Kind.SUM | Kind.DISTINCT:
                return _unbounded(*sides)

    def _rate_difference(self, level: float) -> Estimate | None:
        """Of independent sides the hybrid; where both hold the same units, that or the clustered one, end by end the wider.

        Units that tend to differ between the sides make the difference less sure than independence would.
        """
        sides = self.sides(level)
        if sides is None:
            return None
        independent = hybrid_difference(*sides)
        if self.by_unit is None or not any(unit.is_complete for unit in self.units):
            return independent
        return _wider(independent, self.by_unit.at(level, within=None if self.by_unit.error else (-1.0, 1.0)))

    def _mean_difference(self, level: float) -> Estimate | None:
        """None below two units."""
        if self.pairs and self.metric.kind is Kind.MEAN:
            return paired_mean_difference(*self.values(), level=level, within=None if self._differs else self._range)
        return self.by_unit.at(level, within=None if self._differs else self._range) if self.by_unit else None

    @property
    def _differs(self) -> bool:
        """Whether the units differ in what they say, so that the data themselves bound the difference."""
        return self.by_unit is not None and self.by_unit.error > 0

    @property
    def _range(self) -> tuple[float, float] | None:
        """Within which the difference of two single observations lies."""
        if self.metric.within is None:
            return None
        width = self.metric.within[1] - self.metric.within[0]
        return -width, width

    def p(self, difference: Estimate | None) -> tuple[float | None, str | None]:
        """The two-sided p of no difference, and the test it comes from."""
        if difference is None or difference.low is None:
            return None, None
        if self.is_binary:
            counts = self.pair_counts()
            return mcnemar(counts.wins, counts.losses), "exact McNemar"
        if self.metric.kind is Kind.RATE:
            return p_by_inversion(lambda level: _known(self._rate_difference(level))), INVERTED
        return self._p_of_means(difference) if self.by_unit is not None else (None, None)

    def _p_of_means(self, difference: Estimate) -> tuple[float, str]:
        assert self.by_unit is not None  # noqa: S101 - the interval came from it
        if not self._differs:
            return p_by_inversion(lambda level: _known(self._mean_difference(level))), INVERTED
        if self.pairs and self.metric.kind is Kind.MEAN:
            return paired_t_p(*self.values()), "paired t"
        return p_of_t(0.0, difference, df=max(1.0, self.by_unit.effective - 1)), "t, clustered by unit"

    def ratio(self) -> Estimate | None:
        """Candidate by baseline; None without a positive baseline."""
        if self.metric.kind in {Kind.COUNT, Kind.SUM, Kind.DISTINCT}:
            sides = self.sides(LEVEL)
            return None if sides is None or sides[1].value <= 0 else replace(_unbounded(*sides), value=sides[0].value / sides[1].value)
        each = self.sides(level_of_each(LEVEL))
        return None if each is None or each[1].value <= 0 else conservative_ratio(*each)


def _known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None  # noqa: S101 - a difference exists, so both sides do
    return estimate


def _wider(first: Estimate, second: Estimate) -> Estimate:
    """The first with the outer end of the two on each side; an end that either lacks is missing."""
    low = None if first.low is None or second.low is None else min(first.low, second.low)
    high = None if first.high is None or second.high is None else max(first.high, second.high)
    bounds = None if low is None else max(-1.0, low), None if high is None else min(1.0, high)
    return replace(first, low=bounds[0], high=bounds[1], method=f"{first.method}, or wider by shared units")


def _unbounded(first: Estimate, second: Estimate) -> Estimate:
    """The plain difference, where no interval can be had."""
    difference, n = first.value - second.value, first.n + second.n
    return Estimate(value=difference, low=None, high=None, level=LEVEL, method=first.method, n=n)


def _entry(estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {"estimate": None, "low": None, "high": None, "level": LEVEL, "method": None}
    e = estimate
    return {"estimate": e.value, "low": e.low, "high": e.high, "level": e.level, "method": e.method}
