"""One absolute deadline per call: every wait gets what is left of it."""

from __future__ import annotations

from dataclasses import dataclass

RESERVE_S = 0.05
"""Kept back for the record and the way to the caller; with less left no attempt is started."""
DEFAULT_S = 60.0
"""Where the caller names none."""
LONGEST_S = 600.0
"""What a caller may ask for."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the clock of one turn, in that clock's seconds."""

    at_s: float

    @classmethod
    def after(cls, seconds: float, *, now_s: float) -> Deadline:
        """The moment `seconds` after `now_s`; a negative span gives one that is past."""
        return cls(now_s + min(seconds, LONGEST_S))

    def left_s(self, now_s: float) -> float:
        """Seconds that work may still take, the reserve taken off; 0 when there is no time to start any."""
        return max(0.0, self.at_s - now_s - RESERVE_S)
