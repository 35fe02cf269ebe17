"""Why a question has no answer: a value that the log does not know, values that never go together, or a window behind the newest request.

Sums of hours and days say it, however long the log is.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl

from workbench.errors import UsageError
from workbench.observability.dimensions import TIME, Filters
from workbench.observability.model import Window

_DAY = timedelta(days=1)
_MOST_VALUES = 12
_GRAIN = "1h"

Count = Callable[[Filters, str | None, str | None], pl.DataFrame]
"""(filters, dimension, grain): requests of the whole log by one of the two, as `Metrics.query` gives them. From sums, which raise
UsageError where nothing was ever logged."""


def why_empty(count: Count, filters: Filters, window: Window, *, now: datetime) -> str:
    """One sentence that says what to ask instead.

    Args:
        count: counts requests.
        filters: of the question; an app is one of them.
        window: of the question.
        now: the time that windows end at.
    """
    apps = tuple(pair for pair in filters if pair[0] == "app")
    whose = f" of {', '.join(apps[0][1])}" if apps else ""
    if _newest(count, apps) is None:
        return f"No request{whose} is in the log; import one first."
    for name, wanted in filters:
        known = count(apps, name, None)[name].drop_nulls().to_list()
        if not set(wanted) & set(known):
            return f"No request{whose} has {_words(name, wanted)}; {_known(wanted, known)}."
    newest = _newest(count, filters)
    if newest is None:
        asked = ", ".join(_words(*pair) for pair in filters if pair[0] != "app")
        return f"No request{whose} has all of {asked}; each of them is known."
    if window.start is not None and newest + timedelta(hours=1) <= window.start:
        days = -((newest - now) // _DAY)
        what = "that matches" if filters != apps else whose.removeprefix(" ") or "of all"
        return f"The newest request {what} came in the hour from {newest:%Y-%m-%d %H:%M} UTC: a window of {days}d reaches it."
    return "Widen the window or the filter."


def _newest(count: Count, filters: Filters) -> datetime | None:
    """Start of the newest hour with such a request."""
    try:
        hours = count(filters, None, _GRAIN)[TIME]
    except UsageError:  # nothing was ever logged
        return None
    newest = hours.max()
    return newest.astimezone(UTC) if isinstance(newest, datetime) else None


def _words(name: str, wanted: tuple[str, ...]) -> str:
    return f"{name}={','.join(wanted)}"


def _known(wanted: tuple[str, ...], known: list[str]) -> str:
    if not known:
        return "none has a value there"
    named = sorted(known)[:_MOST_VALUES]
    more = f" and {len(known) - len(named)} more" if len(known) > len(named) else ""
    near = difflib.get_close_matches(wanted[0], known, n=1)
    return f"known are {', '.join(named)}{more}" + (f" (did you mean {near[0]!r}?)" if near else "")
