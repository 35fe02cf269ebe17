"""Whether a series rises or falls: the median slope, with its interval, whatever its values are distributed like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.stats.estimate import Estimate, at_least, check_level

FEWEST = 8
"""Periods below which no trend is judged."""


def trend(values: Sequence[float], *, at: Sequence[int] | None = None, level: float = 0.95) -> Estimate:
    """The median slope per period, in the unit of the values.

    One odd period moves it little. Neighbouring periods are taken as independent: where they are not, the interval is too narrow.

    Args:
        values: one per period, oldest first.
        at: number of each period, where some are missing.
        level: coverage.

    Raises:
        InsufficientData: below `FEWEST` periods.

    Source: Sen (1968), JASA 63:1379-1389; the interval from Kendall's distribution with ties, equation 2.6 there.

    >>> trend([1.0, 2.1, 2.9, 4.2, 5.0, 5.8, 7.1, 8.0]).value
    1.0
    """
    at_least("whole periods", len(values), FEWEST)
    from scipy.stats import theilslopes  # noqa: PLC0415 - slow to import, rarely needed

    slope, _, low, high = theilslopes(
        np.asarray(values, dtype=float), np.asarray(range(len(values)) if at is None else at), alpha=check_level(level)
    )
    return Estimate(value=float(slope), low=float(low), high=float(high), level=level, method="theil-sen", n=len(values))


def relative_to_usual(values: Sequence[float]) -> list[float]:
    """The series as multiples of its median, so that a slope of 0.05 is 5 % of the usual size.

    Raises:
        InsufficientData: a median that is not positive, or no values: there is nothing to grow from.

    >>> relative_to_usual([2.0, 4.0, 8.0])
    [0.5, 1.0, 2.0]
    """
    usual = float(np.median(np.asarray(values, dtype=float))) if len(values) else 0.0
    at_least("periods with something to grow from", len(values) if usual > 0 else 0, 1)
    return [value / usual for value in values]
