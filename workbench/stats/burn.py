"""Error budgets: how fast one is spent, how much is left, and when it is spent fast enough to call somebody.

Source: Beyer et al. (eds.), The Site Reliability Workbook (2018), chapter 5, "Alerting on SLOs", approach 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Severity = Literal["page", "ticket"]
SLACK = 1e-9
"""Two burn rates that differ by less are the same: 1 - 0.999 is not exactly a thousandth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What happened in a stretch of time, counted. A sampled observation may stand for a part of an event or for several."""

    good: float = 0.0
    bad: float = 0.0
    undecided: float = 0.0
    """Events of which nobody knows yet whether they were good; they never are."""

    @property
    def decided(self) -> float:
        return self.good + self.bad

    @property
    def all(self) -> float:
        return self.good + self.bad + self.undecided


def total(parts: Iterable[Events]) -> Events:
    """All of them together."""
    known = list(parts)
    return Events(
        good=math.fsum(each.good for each in known),
        bad=math.fsum(each.bad for each in known),
        undecided=math.fsum(each.undecided for each in known),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One alert: the budget burns faster than this over the long window, and still does over the short one."""

    burn_rate: float
    """1 spends exactly the budget within the objective's window."""
    long: timedelta
    short: timedelta
    severity: Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """How many times faster than allowed the budget is spent. Both are None without any event."""

    low: float | None
    """Undecided events left out; None when none is decided."""
    high: float | None
    """Undecided events taken as bad: it cannot be more than this."""


_WORKBOOK: tuple[tuple[float, timedelta, timedelta, Severity], ...] = (
    (0.02, timedelta(hours=1), timedelta(minutes=5), "page"),
    (0.05, timedelta(hours=6), timedelta(minutes=30), "page"),
    (0.10, timedelta(days=1), timedelta(hours=2), "ticket"),
    (0.10, timedelta(days=3), timedelta(hours=6), "ticket"),
)
"""Share of the budget that a window of this length may spend, with the window that ends the alert, as the source recommends."""


def lines(window: timedelta) -> tuple[Line, ...]:
    """The alert lines for an objective of this window: for 30 days 14.4, 6, 3 and 1 times.

    The windows and the shares of the budget stay those of the workbook; the rates follow from the length of the objective's window. A
    rate below 1 would call about a budget that lasts, so 1 is the least; a window longer than the objective's own has no line.

    >>> [round(line.burn_rate, 3) for line in lines(timedelta(days=30))]
    [14.4, 6.0, 3.0, 1.0]
    """
    return tuple(
        Line(burn_rate=max(1.0, share * (window / long)), long=long, short=short, severity=severity)
        for share, long, short, severity in _WORKBOOK
        if long <= window
    )


def most(target: float) -> float:
    """The highest burn rate that there is: all events bad. A line above it never fires.

    >>> round(most(0.9), 6)
    10.0
    """
    return 1 / (1 - target)


def burn(events: Events, target: float) -> Burn:
    """The burn rate of these events: the share of bad ones, over the share that the target allows.

    >>> round(burn(Events(good=856, bad=144), 0.99).low, 6)
    14.4
    """
    budget = 1 - target
    low = events.bad / events.decided / budget if events.decided > 0 else None
    high = (events.bad + events.undecided) / events.all / budget if events.all > 0 else None
    return Burn(low=low, high=high)


def exceeds(rate: float | None, bar: float) -> bool:
    """Whether a rate is above a bar, by more than the noise of floating point."""
    return rate is not None and rate > bar * (1 + SLACK)


def time_to_spend(window: timedelta, rate: float, left: float) -> timedelta | None:
    """How long the budget that is left lasts at this burn rate; None where it is not being spent.

    Args:
        window: of the objective.
        rate: times faster than allowed.
        left: share of the budget, 0 to 1.

    >>> time_to_spend(timedelta(days=30), 1000, 1)  # the source: an outage spends a 99.9 % budget in 43 minutes
    datetime.timedelta(seconds=2592)
    """
    return window * (max(0.0, left) / rate) if rate > 0 else None
