"""Copies of answered requests, for a candidate that nobody hears yet.

They run on a loop and a thread of their own, a few at once, when their request has its answer: a copy that is slow, breaks, or keeps a
processor busy delays nobody's. What is too much is dropped and counted, never queued.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from workbench.controls.blocking import LoopThread
from workbench.controls.hosting import error_type
from workbench.errors import RequestRefused

_LOG = logging.getLogger(__name__)
MOST_AT_ONCE = 16
DROPPED = "dropped"
"""What is counted for a copy that was not made."""


class Shadows:
    """Runs copies. Threads and event loops share it.

    Args:
        most: at once.
    """

    def __init__(self, *, most: int = MOST_AT_ONCE) -> None:
        self._most = most
        self._changing = threading.Lock()
        self._running = 0
        self._ended: Counter[str] = Counter()
        self._loop: LoopThread | None = None
        self._is_closed = False

    @property
    def counts(self) -> Mapping[str, int]:
        """How many copies ended how: by their status, by the code of what refused them, or `dropped`."""
        with self._changing:
            return dict(self._ended)

    def offer(self, copy: Callable[[], Coroutine[Any, Any, str]], *, is_crowded: bool) -> None:
        """Begin a copy, which gives back how it ended, or drop it. Returns at once.

        Args:
            copy: makes it.
            is_crowded: whether requests that somebody waits for need the room.
        """
        with self._changing:
            if self._is_closed or is_crowded or self._running >= self._most:
                self._ended[DROPPED] += 1
                return
            self._running += 1
            if self._loop is None:
                self._loop = LoopThread("shadows")
            self._loop.begin(self._run(copy))

    def close(self) -> None:
        """Cancel what runs, and end the thread."""
        with self._changing:
            self._is_closed = True
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    async def _run(self, copy: Callable[[], Coroutine[Any, Any, str]]) -> None:
        ended = "cancelled"
        try:
            ended = await copy()
        except RequestRefused as refusal:
            ended = refusal.code
        except Exception as fault:  # noqa: BLE001 - nobody waits for it
            ended = error_type(fault)
            _LOG.warning("a shadow's copy failed: %s", ended)
        finally:
            with self._changing:
                self._running -= 1
                self._ended[ended] += 1
