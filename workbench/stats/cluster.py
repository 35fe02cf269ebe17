"""Means and ratios of observations that come in clusters: several requests of one customer are not several customers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.stats.distributions import t_quantile, t_tail
from workbench.stats.estimate import Estimate, at_least, check_level


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSums:
    """What a ratio `y / x` needs to know of its clusters. A mean has x = 1 (or its weight) for each observation."""

    n: int
    """Observations."""
    groups: int
    """Clusters, G; equal to `n` when no cluster repeats."""
    y: float
    """Sum of the numerators."""
    x: float
    """Sum of the denominators."""
    squares: float
    """Sum over clusters of `(y_g - r x_g)²`, where r = y / x."""
    spread: float
    """Sum over clusters of `x_g²`."""

    @classmethod
    def of(cls, y: Sequence[float], x: Sequence[float], *, n: int | None = None) -> ClusterSums:
        """The sums of these clusters, one numerator and denominator each. `n` defaults to the number of clusters."""
        total_y, total_x = math.fsum(y), math.fsum(x)
        ratio = total_y / total_x if total_x else 0.0
        squares = math.fsum((a - ratio * b) ** 2 for a, b in zip(y, x, strict=True))
        spread = math.fsum(b * b for b in x)
        return cls(n=len(y) if n is None else n, groups=len(y), y=total_y, x=total_x, squares=squares, spread=spread)

    @property
    def effective(self) -> float:
        """How many clusters of equal weight say as much: at most G, 1 when one cluster holds all the weight, 0 without any."""
        return effective_size(self.x, self.spread, most=self.groups)


def effective_size(total: float, squares: float, *, most: float) -> float:
    """Kish's effective number of parts with this sum of weights and of squared weights.

    Source: Kish, Survey Sampling (1965), section 8.2.

    >>> effective_size(10.0, 10.0, most=10), effective_size(10.0, 82.0, most=3)
    (10.0, 1.21...)
    """
    return min(float(most), total * total / squares) if squares > 0 else 0.0


FEW = 30
"""Below so many clusters an observed variance of nothing proves nothing: no interval without a known range."""


def standard_error(sums: ClusterSums) -> float:
    """The cluster-robust standard error (CR1) of `y / x`.

    Raises:
        InsufficientData: below two clusters.

    Source: Cameron & Miller (2015), J. Human Resources 50(2):317-372, section II; linearisation of a ratio:
    Cochran, Sampling Techniques (1977), section 6.3. Without repeats and with x = 1 it is `s / √n`.
    """
    at_least("clusters", sums.groups, 2)
    correction = sums.groups / (sums.groups - 1)
    return math.sqrt(correction * sums.squares) / abs(sums.x)


def half_width(error: float, effective: float, *, level: float, reach: float | None = None) -> float | None:
    """Half a t interval on `effective - 1` degrees of freedom; None where nothing bounds the number.

    Args:
        error: the standard error.
        effective: effective number of clusters; their weight decides, so it also sets the degrees of freedom.
        level: coverage.
        reach: how far beyond the number a further cluster could lie. One such cluster counts with the weight t², so that
            without any variance the end lies where the score interval of a share would put it. None when it has no limit;
            then no variance among few clusters has no interval.
    """
    if effective < 2 - 1e-9:  # a variance takes two
        return None
    quantile = t_quantile((1 + check_level(level)) / 2, max(1.0, effective - 1))
    if reach is None:
        return quantile * error if error > 0 or effective >= FEW else None
    return quantile * math.hypot(error, quantile * reach / effective)


def t_interval(
    value: float, error: float, effective: float, *, level: float, within: tuple[float, float] | None = None
) -> tuple[float | None, float | None]:
    """Both ends of a t interval; `within` is the range in which single observations, and so the number, can lie."""
    if within is None or not within[0] <= value <= within[1]:
        half = half_width(error, effective, level=level)
        return (None, None) if half is None else (value - half, value + half)
    least, most = within
    below = half_width(error, effective, level=level, reach=value - least)
    above = half_width(error, effective, level=level, reach=most - value)
    if below is None or above is None:
        return None, None
    ends = value - below, value + above
    return ends if error > 0 else (max(least, ends[0]), min(most, ends[1]))


def _is_nothing(error: float, value: float) -> bool:
    """Whether an error is only what rounding leaves."""
    return error <= 1e-12 * abs(value)


def clustered_ratio(sums: ClusterSums, *, level: float = 0.95, within: tuple[float, float] | None = None) -> Estimate:
    """The mean or ratio `y / x` with a t interval; one cluster bounds nothing.

    Args:
        sums: the clusters.
        level: coverage.
        within: the range of single observations, where it is known.

    Raises:
        InsufficientData: when the denominator is 0.
    """
    at_least("ratio", 1 if sums.x else 0, 1)
    value = sums.y / sums.x
    method = "t" if sums.groups == sums.n else "t, clustered by unit"
    if sums.groups < 2:  # noqa: PLR2004 - a variance takes two
        return Estimate(value=value, low=None, high=None, level=level, method=method, n=sums.n)
    error = standard_error(sums)
    low, high = t_interval(value, 0.0 if _is_nothing(error, value) else error, sums.effective, level=level, within=within)
    return Estimate(value=value, low=low, high=high, level=level, method=method, n=sums.n)


def mean(values: Sequence[float], *, level: float = 0.95, within: tuple[float, float] | None = None) -> Estimate:
    """The mean of independent observations with its t interval.

    Raises:
        InsufficientData: without observations.
    """
    at_least("mean", len(values), 1)
    return clustered_ratio(ClusterSums.of(values, [1.0] * len(values)), level=level, within=within)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteredDifference:
    """The difference of two ratios over the same clusters, ready for an interval of any coverage."""

    value: float
    error: float
    """Cluster-robust standard error; 0 when every cluster agrees."""
    groups: int
    effective: float

    def at(self, level: float, *, within: tuple[float, float] | None = None) -> Estimate:
        """The difference with its t interval; `within` is the range of a single difference, where it is known."""
        low, high = t_interval(self.value, self.error, self.effective, level=level, within=within)
        return Estimate(value=self.value, low=low, high=high, level=level, method="t, clustered by unit", n=self.groups)


Sides = tuple[Sequence[float], Sequence[float]]


def difference_of_ratios(candidate: Sides, baseline: Sides) -> ClusteredDifference:
    """`y/x` of the candidate less that of the baseline, the two given over the same clusters in the same order.

    A cluster that a side did not see has y = x = 0 there. What a cluster has in common on both sides cancels, so
    the same formula serves paired, disjoint and partly overlapping units.

    Raises:
        InsufficientData: when a side's denominator is 0, or below two clusters.

    Source: linearised difference of two ratios, CR1 (sources as in `standard_error`); effective clusters by Kish's
    formula on each cluster's larger share of a side, with G-1 degrees of freedom when clusters weigh the same.
    """
    (cy, cx), (by, bx) = candidate, baseline
    first, second = ClusterSums.of(cy, cx), ClusterSums.of(by, bx)
    at_least("candidate", 1 if first.x else 0, 1)
    at_least("baseline", 1 if second.x else 0, 1)
    at_least("clusters", len(cy), 2)
    r, s = first.y / first.x, second.y / second.x
    influence = [(a - r * b) / first.x - (c - s * d) / second.x for a, b, c, d in zip(cy, cx, by, bx, strict=True)]
    groups = len(influence)
    error = math.sqrt(groups / (groups - 1) * math.fsum(value * value for value in influence))
    weights = [max(b / first.x, d / second.x) for b, d in zip(cx, bx, strict=True)]
    effective = effective_size(math.fsum(weights), math.fsum(w * w for w in weights), most=groups)
    smallest = min(first.effective, second.effective)
    return ClusteredDifference(
        value=r - s,
        error=0.0 if _is_nothing(error, max(abs(r), abs(s))) else error,
        groups=groups,
        effective=effective if smallest >= 2 - 1e-9 else smallest,  # a side of one cluster bounds nothing
    )


def p_of_t(value: float, estimate: Estimate, *, df: float) -> float:
    """Two-sided p that the truth is `value`, dual to a symmetric t interval.

    Raises:
        InsufficientData: when the estimate carries no interval.
    """
    if estimate.high is None:
        at_least("clusters", df + 1, 2)
        raise ValueError("the estimate has no interval")
    half = estimate.high - estimate.value
    distance = abs(estimate.value - value)
    if half == 0:
        return 1.0 if distance == 0 else 0.0
    error = half / t_quantile((1 + estimate.level) / 2, df)
    return 2 * t_tail(distance / error, df)
