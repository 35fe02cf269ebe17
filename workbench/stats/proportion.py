"""Rates: the Wilson interval, plain and for clustered observations, the difference of two, and how many observations a bar takes."""

from __future__ import annotations

import math

from workbench.stats.cluster import ClusterSums
from workbench.stats.distributions import normal_quantile, t_quantile
from workbench.stats.estimate import Estimate, at_least, check_level


def wilson(count: float, n: float, *, level: float = 0.95) -> Estimate:
    """The share `count / n` with Wilson's score interval.

    Raises:
        InsufficientData: without observations.
        ValueError: when `count` is not between 0 and `n`.

    Source: Wilson (1927), JASA 22:209-212.

    >>> wilson(81, 263).low, wilson(81, 263).high  # Newcombe (1998), Stat. Med. 17:857-872, table I
    (0.255..., 0.366...)
    """
    at_least("rate", n, 1)
    if not 0 <= count <= n:
        raise ValueError(f"{count} of {n} is not a share")
    low, high = _score_bounds(count / n, n, normal_quantile((1 + check_level(level)) / 2))
    return Estimate(value=count / n, low=low, high=high, level=level, method="wilson", n=n)


def _score_bounds(share: float, n: float, z: float) -> tuple[float, float]:
    z2 = z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if share == 0 else max(0.0, min(share, centre - half))
    high = 1.0 if share == 1 else min(1.0, max(share, centre + half))
    return low, high


def clustered_rate(sums: ClusterSums, *, level: float = 0.95) -> Estimate:
    """A share whose observations come in clusters: Wilson's interval on the effective number of clusters.

    The interval is right however alike the answers of one cluster are. It does not estimate their likeness from the
    data: with few events that estimate is mostly chance, and a single further failure could make the interval narrower.
    So one more failure never raises `low`, one more event never lowers `high`, and the same data in fewer clusters
    never narrows. One cluster bounds nothing.

    Raises:
        InsufficientData: without observations.

    Source: Korn & Graubard (1998), Survey Methodology 24(2):193-201, with the largest design effect that clusters of
    these sizes can have, `n / n_effective` (Kish 1965, section 8.2); t quantile on `n_effective - 1` df.
    """
    at_least("rate", sums.x, 1)
    share, effective, method = sums.y / sums.x, sums.effective, "wilson on effective n, clustered by unit"
    if effective < 2 - 1e-9:  # a variance takes two
        return Estimate(value=share, low=None, high=None, level=level, method=method, n=sums.n)
    quantile = t_quantile((1 + check_level(level)) / 2, max(1.0, effective - 1))
    low, high = _score_bounds(share, effective, quantile)
    return Estimate(value=share, low=low, high=high, level=level, method=method, n=sums.n)


def hybrid_difference(candidate: Estimate, baseline: Estimate) -> Estimate:
    """`candidate - baseline` of two independent rates, from the interval of each.

    With Wilson intervals this is Newcombe's hybrid score method; with clustered ones its generalisation.

    Source: Newcombe (1998), Stat. Med. 17:873-890, method 10; Zou & Donner (2008), Stat. Med. 27:1693-1702.
    """
    difference = candidate.value - baseline.value
    low = high = None
    if candidate.low is not None and baseline.high is not None:
        low = max(-1.0, difference - math.hypot(candidate.value - candidate.low, baseline.high - baseline.value))
    if candidate.high is not None and baseline.low is not None:
        high = min(1.0, difference + math.hypot(candidate.high - candidate.value, baseline.value - baseline.low))
    plain = candidate.method == baseline.method == "wilson"
    method = "newcombe hybrid score" if plain else "newcombe hybrid score, clustered by unit"
    return Estimate(value=difference, low=low, high=high, level=candidate.level, method=method, n=candidate.n + baseline.n)


def newcombe(candidate: tuple[float, float], baseline: tuple[float, float], *, level: float = 0.95) -> Estimate:
    """The difference of two independent rates, each given as (count, n).

    Raises:
        InsufficientData: when one side has no observations.

    >>> newcombe((56, 70), (48, 80)).low  # Newcombe (1998), table II
    0.0524...
    """
    return hybrid_difference(wilson(*candidate, level=level), wilson(*baseline, level=level))


def n_to_prove(share: float, bar: float, *, at_least_bar: bool, level: float = 0.95) -> int | None:
    """Observations after which Wilson's interval clears `bar`, if the share stays as it is; None when it never will.

    Args:
        share: the observed rate, 0 to 1.
        bar: the limit, 0 to 1.
        at_least_bar: True for a bar that the rate must reach, False for one that it must not exceed.
        level: coverage of the interval.

    Source: the score interval excludes `bar` exactly when `(share-bar)² > z² bar(1-bar)/n`.
    """
    distance = share - bar if at_least_bar else bar - share
    if distance <= 0 or not 0 < bar < 1:
        return None
    z = normal_quantile((1 + check_level(level)) / 2)
    return max(1, math.ceil(z * z * bar * (1 - bar) / distance**2))
