"""The demo's time: it runs as the machine's clock does, and jumps over the waits that a release asks for.

The story ends about now and begins half a day earlier, so that its steps last as long as the plan wants, in seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta

LENGTH = timedelta(hours=14)
"""From the first act of the story to its last, with room."""
_SATURDAY = 5


class StoryClock:
    """The present of the story. Called like `utc_now`; threads share it.

    Args:
        start: the moment at which the story begins, aware UTC.
        now: the machine's clock.
    """

    def __init__(self, start: datetime, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._behind = now() - start

    def __call__(self) -> datetime:
        with self._lock:
            return self._now() - self._behind

    def advance(self, by: timedelta) -> None:
        """Jump forward, at most to the machine's present."""
        with self._lock:
            self._behind = max(timedelta(0), self._behind - by)


def story_start(now: datetime) -> datetime:
    """The latest moment from which the story fits before `now` without touching a Saturday or Sunday (UTC), when nobody releases.

    Args:
        now: the machine's present, aware UTC.
    """
    end = now.astimezone(UTC)
    while True:
        start = end - LENGTH
        touched = {start.weekday(), end.weekday()}
        if max(touched) < _SATURDAY:
            return start
        first_weekend_day = next(moment for moment in (start, end) if moment.weekday() >= _SATURDAY)
        saturday = first_weekend_day.date() - timedelta(days=first_weekend_day.weekday() - _SATURDAY)
        end = datetime.combine(saturday, time(), tzinfo=UTC) - timedelta(minutes=1)
