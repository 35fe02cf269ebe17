"""Quantiles and tails of the distributions that intervals and tests are made from.

They are those of `scipy.stats`, taken from `scipy.special`: a command that computes one interval need
not load all of SciPy's distributions.
"""

from __future__ import annotations

import math

from scipy import special


def normal_quantile(p: float) -> float:
    """The value below which a standard normal variable is with probability p."""
    return float(special.ndtri(p))


def t_quantile(p: float, df: float) -> float:
    """The value below which a Student variable with `df` degrees of freedom is with probability p."""
    return float(special.stdtrit(df, p))


def t_tail(value: float, df: float) -> float:
    """The probability that a Student variable with `df` degrees of freedom is above the value."""
    return float(special.stdtr(df, -value))


def chi_squared_tail(value: float, df: float) -> float:
    """The probability that a chi-squared variable with `df` degrees of freedom is above the value."""
    return float(special.chdtrc(df, value))


def binomial_cdf(k: int, n: int, p: float) -> float:
    """The probability of at most k successes in n trials."""
    return float(special.bdtr(k, n, p))


def binomial_quantile(level: float, n: int, p: float) -> int:
    """The smallest count that is not exceeded with a probability of at least `level`, in n trials."""
    near = max(0, math.ceil(float(special.bdtrik(level, n, p))) - 1)
    return near if binomial_cdf(near, n, p) >= level else near + 1
