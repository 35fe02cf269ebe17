"""How many times as large: the ratio and the difference of two estimates, from the interval of each."""

from __future__ import annotations

from workbench.stats.estimate import Estimate, at_least, check_level

METHOD = "both intervals at half the error"


def level_of_each(level: float) -> float:
    """The coverage that both intervals need so that together they cover with `level` (Bonferroni).

    >>> level_of_each(0.95)
    0.975
    """
    return 1 - (1 - check_level(level)) / 2


def conservative_ratio(candidate: Estimate, baseline: Estimate) -> Estimate:
    """`candidate / baseline` of two positive quantities; covers with `level` however the two depend on each other.

    Args:
        candidate: with an interval of coverage `level_of_each(level)`.
        baseline: the same.

    Raises:
        InsufficientData: when the baseline is not positive, so that there is no ratio.
    """
    at_least("positive baseline", 1 if baseline.value > 0 else 0, 1)
    low = None if candidate.low is None or not baseline.high else max(0.0, candidate.low) / baseline.high
    high = None if candidate.high is None or baseline.low is None or baseline.low <= 0 else candidate.high / baseline.low
    return _combined(candidate, baseline, candidate.value / baseline.value, low, high)


def conservative_difference(candidate: Estimate, baseline: Estimate) -> Estimate:
    """`candidate - baseline`; covers with `level` however the two depend on each other. Arguments as in `conservative_ratio`."""
    low = None if candidate.low is None or baseline.high is None else candidate.low - baseline.high
    high = None if candidate.high is None or baseline.low is None else candidate.high - baseline.low
    return _combined(candidate, baseline, candidate.value - baseline.value, low, high)


def _combined(candidate: Estimate, baseline: Estimate, value: float, low: float | None, high: float | None) -> Estimate:
    level = 1 - 2 * (1 - candidate.level)
    return Estimate(value=value, low=low, high=high, level=round(level, 12), method=METHOD, n=candidate.n + baseline.n)
