"""Quantiles: linear-interpolated estimates with exact intervals from order statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from workbench.stats.distributions import binomial_cdf, binomial_quantile
from workbench.stats.estimate import Estimate, at_least, check_level

METHOD = "order statistics"


class Ranks(NamedTuple):
    """Which of the sorted observations bound a quantile, counted from 1; None where no observation does."""

    low: int | None
    high: int | None


def quantile_ranks(n: int, q: float, *, level: float = 0.95) -> Ranks:
    """The order statistics whose interval covers the q-quantile with at least this level, half the error at each end.

    An end is None when n is too small: even the largest of 40 observations is below the true p95 with probability 0.13.

    Raises:
        ValueError: when `q` is not between 0 and 1.

    Source: Conover, Practical Nonparametric Statistics (1999), section 3.2; exact binomial.

    >>> quantile_ranks(40, 0.5)
    Ranks(low=14, high=27)
    """
    if not 0 < q < 1:
        raise ValueError(f"q is between 0 and 1, not {q}")
    alpha = (1 - check_level(level)) / 2
    below = binomial_quantile(alpha, n, q)  # smallest k with P(B <= k) >= alpha
    low = below + 1 if binomial_cdf(below, n, q) <= alpha else below
    high = binomial_quantile(1 - alpha, n, q) + 1
    return Ranks(low if low >= 1 else None, high if high <= n else None)


def clustered_ranks(n: int, effective: float, q: float, *, level: float = 0.95) -> Ranks:
    """The order statistics of n clustered observations that bound the q-quantile, from their effective number.

    The ranks of `effective` independent observations, stretched to n and rounded outwards. Below two clusters nothing bounds.

    Source: Woodruff (1952), JASA 47:635-646, with the largest design effect `n / effective` of the share below the quantile.

    >>> clustered_ranks(400, 40.0, 0.5), clustered_ranks(1000, 40.0, 0.95)
    (Ranks(low=131, high=270), Ranks(low=..., high=None))
    """
    if effective >= n:
        return quantile_ranks(n, q, level=level)
    whole = math.floor(effective + 1e-9)
    if whole < 2:  # noqa: PLR2004 - one cluster is one observation
        return Ranks(None, None)
    low, high = quantile_ranks(whole, q, level=level)
    stretch = n / whole
    return Ranks(
        None if low is None else math.floor((low - 1) * stretch) + 1,
        None if high is None else min(n, math.ceil(high * stretch)),
    )


def quantile(values: Sequence[float], q: float, *, level: float = 0.95) -> Estimate:
    """The q-quantile, linear between neighbours, with its order-statistics interval.

    Raises:
        InsufficientData: without observations.
    """
    at_least("quantile", len(values), 1)
    ordered = np.sort(np.asarray(values, dtype=float))
    ranks = quantile_ranks(len(ordered), q, level=level)
    low, high = (None if rank is None else float(ordered[rank - 1]) for rank in ranks)
    return bounded(float(np.quantile(ordered, q)), low, high, level=level, n=len(ordered))


def bounded(value: float, low: float | None, high: float | None, *, level: float, n: int) -> Estimate:
    """The estimate with these order statistics as ends, widened to hold it.

    In small samples the interpolated estimate of an extreme quantile can lie below the low end.
    """
    low, high = None if low is None else min(low, value), None if high is None else max(high, value)
    return Estimate(value=value, low=low, high=high, level=level, method=METHOD, n=n)


def n_to_bound(q: float, *, level: float = 0.95) -> int:
    """The smallest n at which both ends of the q-quantile's interval exist.

    >>> n_to_bound(0.5), n_to_bound(0.95), n_to_bound(0.99)
    (6, 72, 368)
    """
    n = 1
    while None in quantile_ranks(n, q, level=level):
        n += 1
    return n
