"""How often the turns of a session failed in a row, as this process saw it: a sign, not a count. The oldest are forgotten."""

from __future__ import annotations

import threading
from collections import OrderedDict

from workbench.observability.model import FAILED

MOST = 10_000
"""Sessions that are remembered."""


class Sessions:
    """Failures in a row, by app and session. Threads share it.

    Args:
        most: sessions that are remembered.
    """

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._failures: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._changing = threading.Lock()

    def failures(self, app: str, session_id: str | None) -> int:
        """Turns of the session that failed, the newest ones in a row."""
        return self._failures.get((app, session_id), 0) if session_id else 0

    def note(self, app: str, session_id: str | None, status: str) -> None:
        """Remember how a turn of the session ended."""
        if session_id is None or (status not in FAILED and not self._failures):
            return
        key = (app, session_id)
        with self._changing:
            if status not in FAILED:
                self._failures.pop(key, None)
                return
            self._failures[key] = self._failures.get(key, 0) + 1
            self._failures.move_to_end(key)
            while len(self._failures) > self._most:
                self._failures.popitem(last=False)
