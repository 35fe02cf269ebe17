"""What a change did: the difference of two sides' means per unit, absolute or relative, and which of the two is always said.

The same data can be clear in one and not in the other, because a relative effect also carries how unsure the baseline is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from workbench.stats.cluster import ClusterSums, standard_error
from workbench.stats.distributions import t_quantile, t_tail
from workbench.stats.estimate import Estimate, at_least, check_level


class Scale(StrEnum):
    """What an effect is measured in."""

    ABSOLUTE = "absolute"
    """Candidate less baseline, in the unit of the mean."""
    RELATIVE = "relative"
    """That difference as a share of the baseline: 0.05 is 5 % more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """One side's mean, and how sure it is."""

    value: float
    error: float
    """Standard error."""
    df: float
    """Degrees of freedom of the error."""
    n: int
    """Units."""

    @classmethod
    def of_sums(cls, *, total: float, squares: float, n: int) -> Self:
        """The mean of `n` values with this sum and this sum of squares.

        Raises:
            InsufficientData: below two.
        """
        at_least("units", n, 2)
        variance = max(0.0, (squares - total * total / n) / (n - 1))
        return cls(value=total / n, error=math.sqrt(variance / n), df=n - 1, n=n)

    @classmethod
    def of_share(cls, count: int, n: int) -> Self:
        """The share `count / n` of independent units.

        Raises:
            InsufficientData: below two.
        """
        at_least("units", n, 2)
        share = count / n
        return cls(value=share, error=math.sqrt(share * (1 - share) / n), df=n - 1, n=n)

    @classmethod
    def of_values(cls, values: ArrayLike) -> Self:
        """The mean of one value per unit.

        Raises:
            InsufficientData: below two.
        """
        found = np.asarray(values, dtype=float)
        at_least("units", found.size, 2)
        spread = float(np.std(found, ddof=1))
        return cls(value=float(np.mean(found)), error=spread / math.sqrt(found.size), df=found.size - 1, n=found.size)

    @classmethod
    def of_ratio(cls, y: ArrayLike, x: ArrayLike) -> Self:
        """The ratio of the sums `Σy / Σx` over units, whose rows are not independent of each other.

        Raises:
            InsufficientData: below two units, or Σx is 0.

        Source: linearisation with CR1; see `stats.cluster.standard_error`.
        """
        ys, xs = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
        at_least("units", xs.size, 2)
        total = float(xs.sum())
        at_least("observations", 1 if total else 0, 1)
        ratio = float(ys.sum()) / total
        sums = ClusterSums(
            n=xs.size,
            groups=xs.size,
            y=float(ys.sum()),
            x=total,
            squares=float(((ys - ratio * xs) ** 2).sum()),
            spread=float((xs * xs).sum()),
        )
        return cls(value=ratio, error=standard_error(sums), df=xs.size - 1, n=xs.size)


def stratified(parts: Sequence[tuple[float, Mean]]) -> Mean:
    """The mean of strata, each with its weight: what the side would show if every stratum had these shares.

    Where the candidate's share grows over time its units come later than the baseline's. Comparing within each stretch of equal
    share, with the same weights on both sides, keeps what changes over time out of the effect.

    Args:
        parts: weight (any positive numbers) and mean of each stratum.

    Raises:
        InsufficientData: without strata.

    Source: Cochran, Sampling Techniques (1977), section 5.3; degrees of freedom by Satterthwaite (1946), Biometrics Bulletin 2:110-114.
    """
    at_least("strata", len(parts), 1)
    total = math.fsum(weight for weight, _ in parts)
    shares = [(weight / total, mean) for weight, mean in parts]
    variances = [(share * mean.error) ** 2 for share, mean in shares]
    return Mean(
        value=math.fsum(share * mean.value for share, mean in shares),
        error=math.sqrt(math.fsum(variances)),
        df=_satterthwaite(variances, [mean.df for _, mean in shares]),
        n=sum(mean.n for _, mean in parts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A difference between two sides, on the scale that it names."""

    scale: Scale
    value: float
    error: float
    df: float
    n: int
    """Units of both sides."""

    def at(self, level: float = 0.95) -> Estimate:
        """The effect with its interval; without an error it has none."""
        half = t_quantile((1 + check_level(level)) / 2, self.df) * self.error
        low, high = (self.value - half, self.value + half) if self.error > 0 else (None, None)
        return Estimate(value=self.value, low=low, high=high, level=level, method=f"welch t, {self.scale}", n=self.n)

    @property
    def p(self) -> float:
        """Two-sided p of no effect, below `1 - level` exactly where the interval of that level excludes 0.

        Raises:
            InsufficientData: no unit differs from another, so nothing is known of chance.
        """
        at_least("units that differ", 1 if self.error > 0 else 0, 1)
        return 2 * t_tail(abs(self.value) / self.error, self.df)


def absolute_effect(candidate: Mean, baseline: Mean) -> Effect:
    """`candidate - baseline`.

    Source: Welch (1947), Biometrika 34:28-35.

    >>> a = Mean.of_sums(total=1396.87, squares=52377.9767, n=3407)
    >>> b = Mean.of_sums(total=2422.7, squares=134698.29, n=3461)
    >>> round(absolute_effect(b, a).value, 5), round(absolute_effect(b, a).p, 5)
    (0.29, 0.02016)
    """
    return Effect(
        scale=Scale.ABSOLUTE,
        value=candidate.value - baseline.value,
        error=math.hypot(candidate.error, baseline.error),
        df=_welch(candidate, baseline),
        n=candidate.n + baseline.n,
    )


def relative_effect(candidate: Mean, baseline: Mean, *, level: float = 0.95) -> Effect:
    """`(candidate - baseline) / baseline`, by the delta method.

    Args:
        candidate: one side.
        baseline: the other; it must be positive for sure.
        level: coverage at which the baseline's own interval must lie above 0, else the quotient has no usable distribution.

    Raises:
        InsufficientData: the baseline may be 0 or less.

    Source: Deng, Knoblich & Lu (2018), KDD, "Applying the delta method in metric analytics", section 3.1; the limit on the
    baseline: Franz (2007), arXiv:0710.2024, section 2.

    >>> a, b = Mean.of_share(14, 28), Mean.of_share(16, 30)
    >>> round(relative_effect(b, a).value, 5), round(relative_effect(b, a).p, 5)
    (0.06667, 0.80707)
    """
    sure = baseline.value > t_quantile((1 + check_level(level)) / 2, baseline.df) * baseline.error
    if not sure:
        needed = 2 * baseline.n if baseline.value <= 0 else _n_to_leave_zero(baseline, level)
        at_least("relative effect: baseline units", baseline.n, max(needed, baseline.n + 1))
    ratio = candidate.value / baseline.value
    return Effect(
        scale=Scale.RELATIVE,
        value=ratio - 1,
        error=math.hypot(candidate.error, ratio * baseline.error) / baseline.value,
        df=_welch(candidate, baseline),
        n=candidate.n + baseline.n,
    )


def _n_to_leave_zero(mean: Mean, level: float) -> int:
    return math.ceil(mean.n * (t_quantile((1 + level) / 2, mean.df) * mean.error / mean.value) ** 2)


def _welch(first: Mean, second: Mean) -> float:
    return _satterthwaite([first.error**2, second.error**2], [first.df, second.df])


def _satterthwaite(variances: Sequence[float], dfs: Sequence[float]) -> float:
    """Degrees of freedom of a sum of variances; those of all parts together where none varies."""
    below = math.fsum(variance * variance / df for variance, df in zip(variances, dfs, strict=True))
    return math.fsum(variances) ** 2 / below if below > 0 else math.fsum(dfs)
