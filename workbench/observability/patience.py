"""How long somebody waits for what another thread or process holds."""

from __future__ import annotations

from time import monotonic

LOOK_S = 0.25
"""How long whoever waits may sleep between two looks."""
_LONGEST_LOOK_S = 1.0


class Patience:
    """A wait of `wait_s` seconds, in which somebody looks at least each `LOOK_S`.

    More than a second between two looks counts as one: the process was stopped (SIGSTOP, a frozen container), and saw nothing of what was
    free meanwhile. Who is continued after an hour waits on.
    """

    def __init__(self, wait_s: float) -> None:
        self._left_s = wait_s
        self._looked_at = monotonic()

    @property
    def look_s(self) -> float:
        """How long the next look may last, in seconds."""
        return max(0.0, min(LOOK_S, self._left_s))

    def is_over(self) -> bool:
        """Whether the wait has ended; asked after each look in vain."""
        now = monotonic()
        self._left_s -= min(now - self._looked_at, _LONGEST_LOOK_S)
        self._looked_at = now
        return self._left_s <= 0
