"""A clock that the console can move on, so that a step's waiting need not be waited for."""

from __future__ import annotations

from datetime import datetime, timedelta

from workbench.workspace import utc_now


class MovableClock:
    """The present time, or as much later as it was moved on."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() + self._ahead

    def advance(self, span: timedelta) -> None:
        """Moves it on, for good."""
        self._ahead += span
