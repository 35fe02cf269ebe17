"""Which values of a series are unusual, at a false-alarm rate that is declared beforehand. Each is judged by those before it alone.

What to expect at a step is the median of the same step of the weeks before (of the days before, where there are no three weeks yet), plus
the median distance to that during the last day, so that a new level or a trend is learnt. How far a value may be away is a rank among the
distances that the last weeks had: a rank needs no distribution, and holds for heavy tails as for light ones. Distances are taken between
square roots, whose scatter hardly depends on the size of a count. No single outlier moves a median, and what exceeded its limit counts
among the distances as twice the limit at most, once for each alarm, so an incident neither hides the next one nor is learnt in a day.

Source: the rank is that of split conformal prediction, Vovk, Gammerman & Shafer (2005), Algorithmic Learning in a Random World, ch. 4.
Where there are too few distances for it, the tail above the ninth decile is taken as a generalised Pareto one, somewhat heavier than an
exponential one, and the limit is never below the largest distance (peaks over threshold: Siffer et al. (2017), KDD, Anomaly detection in
streams with extreme value theory). Bounding what outliers add: Gelper, Fried & Croux (2010), J. Forecast. 29:285-300.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

WEEK_DAYS = 7
MOST_WEEKS, MOST_DAYS = 8, 14
"""How far back the same step is looked for."""
LEAST_SEASONS = 3
"""Earlier weeks, or days, that it takes to expect anything."""
POOL_WEEKS = 4
"""From how far back distances are compared."""
LEAST_POOL = 48
"""Distances without which nothing is judged."""
_TAIL = 0.1
_SHAPE = 0.25
"""Of the tail, where it has to be continued; 0 is exponential. The same for all series: too light a tail raises alarms by chance."""
_MORE = 2.0
"""Of its limit, the most that a value beyond it adds to the distances; while an alarm goes on, no more than the limit itself."""
CLEAR_DAYS = 1 / 8
"""Part of a day without anything unusual that ends an alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One value of the series, and what was expected there. None where it could not be."""

    value: float | None
    expected: float | None
    """Without the drift of the last day: what the same step was in other weeks."""
    low: float | None
    high: float | None
    """Values beyond these are unusual."""

    @property
    def is_unusual(self) -> bool:
        return self.value is not None and self.low is not None and self.high is not None and not self.low <= self.value <= self.high

    @property
    def is_judged(self) -> bool:
        return self.value is not None and self.high is not None


def steps(values: Sequence[float | None], *, per_day: int, false_alarms_per_week: float) -> Iterator[Step]:
    """Each value with the limits that the values before it set.

    Args:
        values: not negative, at equal steps of time; None where nothing was observed, which is not 0.
        per_day: steps in a day.
        false_alarms_per_week: unusual values that chance alone may bring, in a week of a series that is only chance.

    Raises:
        ValueError: a value is negative or no number, or no false alarm at all is tolerated.
    """
    if not 0 < false_alarms_per_week < per_day:
        raise ValueError(f"false alarms per week: got {false_alarms_per_week}; needed more than 0, and less than a step of each hour")
    if any(value is not None and not 0 <= value < math.inf for value in values):
        raise ValueError("values are not negative, and finite")
    week = per_day * WEEK_DAYS
    pool, rate = _Pool(POOL_WEEKS * week), false_alarms_per_week / week
    roots = [None if value is None else math.sqrt(value) for value in values]
    residuals: deque[float] = deque(maxlen=per_day)
    patience, last = clear_after(per_day), -math.inf
    for place, value in enumerate(values):
        base = _same_step(roots, place, week, MOST_WEEKS) or _same_step(roots, place, per_day, MOST_DAYS)
        root = roots[place]
        if base is None:
            yield Step(value=value, expected=None, low=None, high=None)
            continue
        centre = base[0] + (median(residuals) if residuals else 0.0)
        limit = pool.limit(rate)
        low, high = (None, None) if limit is None else (max(0.0, centre - limit) ** 2, max(0.0, centre + limit) ** 2)
        step = Step(value=value, expected=base[0] ** 2, low=low, high=high)
        yield step
        if root is not None:
            distance = abs(root - max(0.0, centre))
            most = (1.0 if place - last <= patience else _MORE) * limit if limit else math.inf
            pool.add(min(distance, most))
            last = place if step.is_unusual else last
            residuals.append(root - base[0])


def clear_after(per_day: int) -> int:
    """Steps without anything unusual that end an alarm: three hours."""
    return max(1, round(per_day * CLEAR_DAYS))


def _same_step(roots: Sequence[float | None], place: int, season: int, most: int) -> tuple[float] | None:
    """The median of the same step of earlier seasons; None where there are too few."""
    earlier = [roots[place - back * season] for back in range(1, most + 1) if back * season <= place]
    known = [root for root in earlier if root is not None]
    return (median(known),) if len(known) >= LEAST_SEASONS else None


class _Pool:
    """The newest distances, sorted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._newest: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, distance: float) -> None:
        if len(self._newest) == self._most:
            del self._sorted[bisect_left(self._sorted, self._newest.popleft())]
        self._newest.append(distance)
        insort(self._sorted, distance)

    def limit(self, rate: float) -> float | None:
        """The distance that one more exceeds with at most this probability; None where there are too few to say."""
        n = len(self._sorted)
        if n < LEAST_POOL:
            return None
        rank = int(rate * (n + 1))
        if rank >= 1:
            return self._sorted[n - rank]
        bar = int(n * (1 - _TAIL))
        above = self._sorted[bar:]
        excess = sum(above) / len(above) - above[0]
        return max(above[-1], above[0] + excess * (1 - _SHAPE) * (math.pow(_TAIL / rate, _SHAPE) - 1) / _SHAPE)


def onsets(flags: Sequence[bool], *, patience: int) -> tuple[int, ...]:
    """Places at which an alarm begins: unusual values at most `patience` steps apart are one alarm.

    >>> onsets([True, False, True, False, False, False, True], patience=3)
    (0, 6)
    """
    found, last = [], None
    for place, is_flagged in enumerate(flags):
        if is_flagged:
            if last is None or place - last > patience:
                found.append(place)
            last = place
    return tuple(found)
