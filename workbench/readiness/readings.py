"""What a gate reads from an evidence record: one number, its interval, and the bar on the same scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from workbench.observability.model import Direction, Evidence
from workbench.observability.recency import ranks
from workbench.readiness.wording import CHANGE_OF, apart, counted, metric_words, number
from workbench.readiness.wording import interval as interval_words
from workbench.spec.gates import AgainstBaseline, GateSpec

Side = Literal["at_least", "at_most", "more_than", "less_than"]
"""On which side of the bar the number must be; the margin itself is not enough, so its sides are strict."""

SIDES = ("candidate", "baseline")
_NOISE = 1e-6
"""What rounding may take from a whole number."""


class BrokenEvidence(ValueError):  # it is a verdict in the making, not an error that a person meets
    """The record cannot be read as evidence for this gate; `reason` is the code of the ERROR that it becomes."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A measured number beside its bar, both in `unit`."""

    estimate: float
    low: float | None
    """Ends of the 95 % interval; None is unbounded at this n."""
    high: float | None
    bar: float
    side: Side
    unit: str
    n: int
    n_effective: int
    """How many independent observations they are worth; n where repeats are not known."""
    n_clusters: int | None
    """Units that they come from, on the side that has fewer; None where that is not known."""
    method: str
    what: str
    """The number in words, for example `p95 latency`."""
    seen: str
    """The measurement in words, with interval and n."""
    required: str
    """The bar in words."""

    @property
    def pessimistic(self) -> float | None:
        """The end of the interval that lies towards the bar."""
        return self.low if self.side in ("at_least", "more_than") else self.high

    def fails(self, value: float) -> bool:
        """Whether `value` is beyond the bar; on the bar itself is not beyond it."""
        return value < self.bar if self.side in ("at_least", "more_than") else value > self.bar

    @property
    def lets_all_through(self) -> bool:
        """Whether no number at all could fail the bar: a share is between 0 and 1."""
        if self.unit == CHANGE_OF + "share":
            return abs(self.bar) >= 1
        past_the_end = self.bar <= 0 if self.side == "at_least" else self.bar >= 1
        return self.unit == "share" and past_the_end

    def clears(self, value: float) -> bool:
        """Whether `value` is on the right side of the bar."""
        match self.side:
            case "at_least":
                return value >= self.bar
            case "at_most":
                return value <= self.bar
            case "more_than":
                return value > self.bar
            case "less_than":
                return value < self.bar


def observations(gate: GateSpec, evidence: Evidence) -> int:
    """How many observations the gate may decide on: those of the smaller side, and only whole pairs where pairs are compared.

    Raises:
        BrokenEvidence: the record does not say.
    """
    return min([_count(side, "n") for side in sides_of(gate, evidence)] + _pairs(gate, evidence))


def sides_of(gate: GateSpec, evidence: Evidence) -> tuple[Mapping[str, Any], ...]:
    """The statistics that the gate rests on: of the bundle alone, or of candidate and baseline.

    Raises:
        BrokenEvidence: the record lacks one.
    """
    if gate.against_baseline is None:
        return (evidence.statistics,)
    return tuple(_section(evidence.statistics, name) for name in SIDES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recency:
    """How far back the newest observations of one side reach. Each unit counts once, as nobody alone can renew a measurement."""

    reaches_to: datetime
    """When the gate's `min_n`-th newest unit was last observed; the oldest one where there are fewer."""
    times: Mapping[int, datetime]
    """The same for some ranks from 1 to `min_n`."""
    units: int
    whose: str
    """`its`, or whose they are where two bundles are compared."""
    of: str
    """What is counted: `observation`, `unit`, or `request` where units are not known."""

    def words(self, since: datetime) -> str:
        """`only 1 of its 400 observations is`: how many are not older than `since`, or fewer than how many."""
        recent = max((rank for rank, at in self.times.items() if at >= since), default=0)
        first_old = min(self.units, *(rank for rank, at in self.times.items() if at < since))
        among = f"of {self.whose} {counted(self.units, self.of)}"
        if first_old > recent + 1:
            return f"fewer than {first_old:,} {among} are"
        return f"only {recent:,} {among} {'is' if recent == 1 else 'are'}" if recent else f"none {among} is"


def recency(gate: GateSpec, evidence: Evidence) -> Recency:
    """How recent the measurement is, of the side that is older: fresh traffic on one side does not renew the other.

    Raises:
        BrokenEvidence: the record does not say.
    """
    whose = ("its",) if gate.against_baseline is None else ("the candidate's", "the baseline's")
    sides = zip(sides_of(gate, evidence), whose, strict=True)
    return min((_recency(gate, side, name) for side, name in sides), key=lambda found: found.reaches_to)


def _recency(gate: GateSpec, side: Mapping[str, Any], whose: str) -> Recency:
    newest = _section(side, "newest")
    units, times = _count(newest, "units"), _section(newest, "times")
    by_rank = {rank: _time(times.get(str(rank))) for rank in ranks(gate.min_n)}
    of = "observation" if units == _count(side, "n") else "request" if side.get("n_clusters") is None else "unit"
    return Recency(reaches_to=by_rank[gate.min_n], times=by_rank, units=units, whose=whose, of=of)


def measured_shares(gate: GateSpec, evidence: Evidence) -> tuple[float, ...]:
    """The share of requests that could have been measured and were, of each side that says so.

    Raises:
        BrokenEvidence: one is not a share.
    """
    shares = [_end(side, "measured_share") for side in sides_of(gate, evidence) if "measured_share" in side]
    if any(share is not None and not 0 <= share <= 1 for share in shares):
        raise BrokenEvidence("broken_evidence", f"the record's measured shares are {shares}, not between 0 and 1")
    return tuple(share for share in shares if share is not None)


def read(gate: GateSpec, evidence: Evidence) -> Reading:
    """The number of `gate` in `evidence`.

    Raises:
        BrokenEvidence: a number is missing, not finite or no share, or the interval is upside down; or the metric has no better side.
    """
    sides, n = sides_of(gate, evidence), observations(gate, evidence)
    for side in sides:
        _check_share(side)
    worth, clusters = min(_effective(side) for side in sides), _clusters(sides)
    size = _Size(n=n, n_effective=min([n, worth, *_pairs(gate, evidence)]), n_clusters=clusters)
    if gate.against_baseline is not None:
        return _relative(gate, gate.against_baseline, evidence.statistics, size)
    return _absolute(gate, evidence.statistics, size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """How much a reading rests on."""

    n: int
    n_effective: int
    n_clusters: int | None

    @property
    def words(self) -> str:
        """`n = 400`, and how many units they come from where that is fewer."""
        units = f" of {counted(self.n_clusters, 'unit')}" if self.n_clusters is not None and self.n_clusters < self.n else ""
        return f"n = {self.n:,}{units}"


def _absolute(gate: GateSpec, statistics: Mapping[str, Any], size: _Size) -> Reading:
    estimate, low = _real(statistics, "estimate"), _end(statistics, "low")
    side: Side = "at_least" if gate.at_least is not None else "at_most"
    bar = gate.at_least if gate.at_least is not None else gate.at_most
    if bar is None:
        raise BrokenEvidence("no_bar", f"gate {gate.id} has no bar")
    if str(statistics.get("method")).startswith("total") and side == "at_least":
        low = estimate  # a total is exact, and fewer rows only lower it; against a ceiling it proves nothing
    unit, what = str(statistics.get("unit") or ""), metric_words(gate.metric, gate.where)
    required = f"{side.replace('_', ' ')} {apart(estimate, bar, unit)[1]}"
    section = {**statistics, "low": low}
    return _reading(section, size, bar=bar, side=side, unit=unit, what=what, lead=f"{what} is", basis=size.words, required=required)


def _relative(gate: GateSpec, tolerance: AgainstBaseline, statistics: Mapping[str, Any], size: _Size) -> Reading:
    candidate, baseline = (_section(statistics, name) for name in SIDES)
    base_unit = str(statistics.get("unit") or candidate.get("unit") or "")
    what = metric_words(gate.metric, gate.where)
    values = [number(_real(side, "estimate"), base_unit) for side in (candidate, baseline)]
    both = f"{what} is {values[0]} against the baseline's {values[1]}"
    is_higher = _is_higher_better(gate, statistics, candidate)
    if tolerance.margin is not None:
        section, unit = _section(statistics, "difference"), CHANGE_OF + base_unit
        bar = -tolerance.margin if is_higher else tolerance.margin
        side: Side = "more_than" if is_higher else "less_than"
        margin = number(tolerance.margin, unit).lstrip("+")
        required = f"worse by less than {margin}" if tolerance.margin else "better than the baseline"
    else:
        ratio = tolerance.ratio or 1.0
        section, unit = _section(statistics, "ratio"), "ratio"
        if section.get("estimate") is None:
            raise BrokenEvidence("no_ratio", f"{both}; a ratio to 0 says nothing, so this gate needs a margin instead")
        bar = 1 / ratio if is_higher else ratio
        side = "at_least" if is_higher else "at_most"
        required = f"{side.replace('_', ' ')} {number(bar, 'ratio')} the baseline"
    pairs = section.get("n_pairs")
    basis = size.words if pairs is None else counted(pairs, "pair")
    return _reading(section, size, bar=bar, side=side, unit=unit, what=what, lead=f"{both}:", basis=basis, required=required)


def _reading(section: Mapping[str, Any], size: _Size, *, bar: float, side: Side, unit: str, lead: str, basis: str, **words: str) -> Reading:
    """The number of a section beside its bar; `lead` and `basis` are what the sentence says before and after it."""
    estimate, low, high = _numbers(section)
    return Reading(
        estimate=estimate,
        low=low,
        high=high,
        bar=bar,
        side=side,
        unit=unit,
        n=size.n,
        n_effective=size.n_effective,
        n_clusters=size.n_clusters,
        method=str(section.get("method") or ""),
        seen=f"{lead} {apart(estimate, bar, unit)[0]} ({_interval(low, high, unit)}, {basis})",
        **words,
    )


def _is_higher_better(gate: GateSpec, statistics: Mapping[str, Any], candidate: Mapping[str, Any]) -> bool:
    direction = statistics.get("direction") or candidate.get("direction")
    if direction not in (Direction.HIGHER, Direction.LOWER):
        sentence = f"{gate.metric} has no better side, so it cannot be compared with a baseline; give at_least or at_most"
        raise BrokenEvidence("no_direction", sentence)
    return bool(direction == Direction.HIGHER)


def _pairs(gate: GateSpec, evidence: Evidence) -> list[int]:
    """The number of pairs, where a difference of pairs is what decides."""
    if gate.against_baseline is None:
        return []
    difference = _section(evidence.statistics, "difference")
    is_paired = gate.against_baseline.margin is not None and difference.get("n_pairs") is not None
    return [_count(difference, "n_pairs")] if is_paired else []


def _effective(side: Mapping[str, Any]) -> int:
    """How many whole independent observations a side is worth: n, less where one unit was seen often or weighs much."""
    n = _count(side, "n")
    worth = _end(side, "n_effective") if "n_effective" in side else None
    if worth is not None and worth < 0:
        raise BrokenEvidence("broken_evidence", f"the record's n_effective is {worth}, not a size")
    return n if worth is None else min(n, math.floor(worth + _NOISE))


def _clusters(sides: Iterable[Mapping[str, Any]]) -> int | None:
    known = [_count(side, "n_clusters") for side in sides if side.get("n_clusters") is not None]
    return min(known, default=None)


def _check_share(side: Mapping[str, Any]) -> None:
    """A share that is none: more of something than there is of it."""
    estimate, count, n = (side.get(name) for name in ("estimate", "count", "n"))
    if side.get("unit") != "share" or estimate is None:
        return
    if not 0 <= _real(side, "estimate") <= 1 or (count is not None and not 0 <= _real(side, "count") <= _count(side, "n")):
        raise BrokenEvidence("broken_evidence", f"the record says {estimate!r} ({count!r} of {n!r}), which is not a share")


def _time(value: object) -> datetime:
    """An instant of a record, which keeps it as text."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        instant = value
    if not isinstance(instant, datetime) or instant.tzinfo is None:
        raise BrokenEvidence("broken_evidence", "the record does not say when its observations happened")
    return instant


def _interval(low: float | None, high: float | None, unit: str) -> str:
    return "no interval at this n" if low is None and high is None else f"95 % interval {interval_words(low, high, unit)}"


def _section(statistics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = statistics.get(name)
    if not isinstance(section, Mapping):
        raise BrokenEvidence("broken_evidence", f"the record has no {name}")
    return section


def _numbers(section: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
    estimate, low, high = _real(section, "estimate"), _end(section, "low"), _end(section, "high")
    if low is not None and high is not None and low > high:
        raise BrokenEvidence("broken_evidence", f"the record's interval is upside down: {low} to {high}")
    return estimate, low, high


def _real(section: Mapping[str, Any], name: str) -> float:
    value = _end(section, name)
    if value is None:
        raise BrokenEvidence("undefined", "the observations do not define this number, for example because there is nothing to divide by")
    return value


def _end(section: Mapping[str, Any], name: str) -> float | None:
    if name not in section:
        raise BrokenEvidence("broken_evidence", f"the record has no {name}")
    value = section[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BrokenEvidence("broken_evidence", f"the record's {name} is {value!r}, not a number")
    return float(value)


def _count(section: Mapping[str, Any], name: str) -> int:
    value = section.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BrokenEvidence("broken_evidence", f"the record's {name} is {value!r}, not a count")
    return value
