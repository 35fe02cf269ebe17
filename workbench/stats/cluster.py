"""Means and ratios of observations that come in clusters: several requests of one customer are not several customers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t

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

    @classmethod
    def of(cls, y: Sequence[float], x: Sequence[float], *, n: int | None = None) -> ClusterSums:
        """The sums of these clusters, one numerator and denominator each. `n` defaults to the number of clusters."""
        total_y, total_x = math.fsum(y), math.fsum(x)
        ratio = total_y / total_x if total_x else 0.0
        squares = math.fsum((a - ratio * b) ** 2 for a, b in zip(y, x, strict=True))
        return cls(n=len(y) if n is None else n, groups=len(y), y=total_y, x=total_x, squares=squares)


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


def clustered_ratio(sums: ClusterSums, *, level: float = 0.95) -> Estimate:
    """The mean or ratio `y / x` with a t interval on G-1 degrees of freedom; one cluster bounds nothing.

    Raises:
        InsufficientData: when the denominator is 0.
    """
    at_least("ratio", 1 if sums.x else 0, 1)
    value = sums.y / sums.x
    method = "t" if sums.groups == sums.n else "t, clustered by unit"
    if sums.groups < 2:  # noqa: PLR2004 - a variance takes two
        return Estimate(value=value, low=None, high=None, level=level, method=method, n=sums.n)
    half = float(t.ppf((1 + check_level(level)) / 2, sums.groups - 1)) * standard_error(sums)
    return Estimate(value=value, low=value - half, high=value + half, level=level, method=method, n=sums.n)


def mean(values: Sequence[float], *, level: float = 0.95) -> Estimate:
    """The mean of independent observations with its t interval.

    Raises:
        InsufficientData: without observations.
    """
    at_least("mean", len(values), 1)
    return clustered_ratio(ClusterSums.of(values, [1.0] * len(values)), level=level)


def clustered_mean(values: Sequence[float], clusters: Sequence[object], *, level: float = 0.95) -> Estimate:
    """The mean of observations of which some share a cluster.

    Raises:
        InsufficientData: without observations.
    """
    at_least("mean", len(values), 1)
    members: dict[object, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        members.setdefault(cluster, []).append(value)
    y, x = [math.fsum(group) for group in members.values()], [float(len(group)) for group in members.values()]
    return clustered_ratio(ClusterSums.of(y, x, n=len(values)), level=level)


def difference_of_ratios(
    candidate: tuple[Sequence[float], Sequence[float]], baseline: tuple[Sequence[float], Sequence[float]], *, level: float = 0.95
) -> Estimate:
    """`y/x` of the candidate less that of the baseline, the two given over the same clusters in the same order.

    A cluster that a side did not see has y = x = 0 there. What a cluster has in common on both sides cancels, so
    the same formula serves paired, disjoint and partly overlapping units.

    Raises:
        InsufficientData: when a side's denominator is 0, or below two clusters.

    Source: linearised difference of two ratios, CR1, t with G-1 df (sources as in `standard_error`).
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
    half = float(t.ppf((1 + check_level(level)) / 2, groups - 1)) * error
    return Estimate(value=r - s, low=r - s - half, high=r - s + half, level=level, method="t, clustered by unit", n=groups)


def p_of_t(value: float, estimate: Estimate, *, df: int) -> float:
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
    error = half / float(t.ppf((1 + estimate.level) / 2, df))
    return float(2 * t.sf(distance / error, df))
