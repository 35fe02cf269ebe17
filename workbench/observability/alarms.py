"""Is the traffic, or what it costs, unusual now? And is there none where some is expected? Counts in, states out.

How many alarms a week may be chance is declared; `stats/anomaly.py` keeps to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from workbench.stats.anomaly import LEAST_POOL, LEAST_SEASONS, WEEK_DAYS, Step, clear_after, onsets, steps

HOUR = timedelta(hours=1)
PER_DAY = 24
CLEAR_AFTER = clear_after(PER_DAY)
"""Hours without anything unusual that end an alarm."""
HISTORY = timedelta(weeks=12)
"""How far back the hours are read: eight weeks to expect from, four to learn the scatter."""
_CERTAIN = 2.0
"""How much further than chance goes, in the exponent, an empty stretch has to go before traffic is missed."""

_HALF = 0.5
"""Below it a number of requests is written as none."""


class AlarmState(StrEnum):
    """Worst first."""

    RAISED = "RAISED"
    INSUFFICIENT = "INSUFFICIENT"
    """Too little is known of earlier hours."""
    QUIET = "QUIET"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What one alarm says of the newest whole hour."""

    name: str
    """`volume`, `cost` or `traffic_absent`."""
    state: AlarmState
    reason: str
    """Short and stable: `above`, `below`, `absent`, `usual`, `no_history`, `no_value`."""
    sentence: str
    hour: datetime | None
    """Start of the hour that is judged."""
    value: float | None
    expected: float | None
    low: float | None
    high: float | None
    false_alarms_per_week: float
    onset: datetime | None
    """Start of the hour in which a raised alarm began."""


def unusual(name: str, unit: str, hours: Sequence[datetime], values: Sequence[float | None], *, false_alarms_per_week: float) -> Alarm:
    """Whether the newest hours are unusual.

    Args:
        name: of the alarm.
        unit: of the values.
        hours: starts of all hours from the first known one to the newest whole one, without a gap.
        values: what each hour brought; None where nothing was observed.
        false_alarms_per_week: how many alarms a week may be chance.
    """
    judged = list(steps(values, per_day=PER_DAY, false_alarms_per_week=false_alarms_per_week))
    begun = onsets([step.is_unusual for step in judged], patience=CLEAR_AFTER)
    recent = [place for place in range(max(0, len(judged) - CLEAR_AFTER), len(judged)) if judged[place].is_unusual]
    seen = _Seen(name=name, hours=hours, judged=judged, place=recent[-1] if recent else len(judged) - 1, rate=false_alarms_per_week)
    if not recent and not seen.step.is_judged:
        return seen.unknown()
    usual = f"{_amount(seen.step.low, unit)} to {_amount(seen.step.high, unit)}"
    said = f"{_amount(seen.step.value, unit)} in the hour from {seen.when} UTC"
    if not recent:
        return seen.alarm(AlarmState.QUIET, "usual", f"{said}, usual is {usual}.")
    reason = "above" if (seen.step.value or 0.0) > (seen.step.high or 0.0) else "below"
    return seen.alarm(AlarmState.RAISED, reason, f"{said} is {reason} what is usual then, {usual}.", onset=hours[begun[-1]])


def absent(hours: Sequence[datetime], counts: Sequence[float], *, false_alarms_per_week: float) -> Alarm:
    """Whether requests are missing: none in the newest hours, where the same hours of other weeks had some.

    An empty stretch is missed when more requests would be expected in it than chance leaves out, and twice as many as in any empty stretch
    that the log has seen.
    """
    judged = list(steps(counts, per_day=PER_DAY, false_alarms_per_week=false_alarms_per_week))
    seen = _Seen(name="traffic_absent", hours=hours, judged=judged, place=len(judged) - 1, rate=false_alarms_per_week)
    if seen.step.value:
        return seen.alarm(AlarmState.QUIET, "usual", f"{_amount(seen.step.value, 'requests')} in the hour from {seen.when} UTC.")
    if seen.step.expected is None:
        return seen.unknown()
    *earlier, (length, missed) = _empty_runs(judged)
    bar = max([_CERTAIN * math.log(WEEK_DAYS * PER_DAY / false_alarms_per_week), *(2 * before for _, before in earlier)])
    since = hours[len(hours) - length]
    usual = f"about {missed:,.0f}" if missed >= _HALF else "next to none"
    said = f"No request since {since:%a %Y-%m-%d %H:%M} UTC; {usual} usually come in that time"
    if missed <= bar:
        return seen.alarm(AlarmState.QUIET, "usual", f"{said}, and up to {bar:,.0f} missing ones may be chance.")
    return seen.alarm(AlarmState.RAISED, "absent", f"{said}.", onset=since)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The hours of a series as they were judged, and the one that the alarm is about."""

    name: str
    hours: Sequence[datetime]
    judged: Sequence[Step]
    place: int
    rate: float

    @property
    def step(self) -> Step:
        return self.judged[self.place] if self.judged else Step(value=None, expected=None, low=None, high=None)

    @property
    def when(self) -> str:
        return f"{self.hours[self.place]:%a %Y-%m-%d %H:%M}"

    def alarm(self, state: AlarmState, reason: str, sentence: str, *, onset: datetime | None = None) -> Alarm:
        return Alarm(
            name=self.name,
            state=state,
            reason=reason,
            sentence=sentence,
            hour=self.hours[self.place] if self.hours else None,
            value=self.step.value,
            expected=self.step.expected,
            low=self.step.low,
            high=self.step.high,
            false_alarms_per_week=self.rate,
            onset=onset,
        )

    def unknown(self) -> Alarm:
        """Too little is known to say anything."""
        if self.judged and self.step.value is None:
            return self.alarm(AlarmState.INSUFFICIENT, "no_value", f"Nothing was observed in the hour from {self.when} UTC.")
        needed = f"{LEAST_SEASONS} earlier days, better {LEAST_SEASONS} weeks, and {LEAST_POOL} hours after them are needed"
        said = f"{len(self.judged):,} hours of traffic are known; {needed} to know what is usual."
        return self.alarm(AlarmState.INSUFFICIENT, "no_history", said)


def _empty_runs(judged: Sequence[Step]) -> list[tuple[int, float]]:
    """Each stretch of hours without a request: its length and how many were expected in it, oldest first."""
    runs: list[tuple[int, float]] = []
    length, missed = 0, 0.0
    for step in judged:
        if step.value:
            if length:
                runs.append((length, missed))
            length, missed = 0, 0.0
        else:
            length, missed = length + 1, missed + (step.expected or 0.0)
    return [*runs, (length, missed)] if length else runs


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "nothing known"
    return f"${value:,.4f}" if unit == "USD" else f"{value:,.0f} {unit}"
