"""How many requests are at one target at once, and how many may wait for that. Threads and event loops share it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import NamedTuple

from workbench.controls.clock import Clock


class _Waiting(NamedTuple):
    loop: asyncio.AbstractEventLoop
    turn: asyncio.Future[None]


class Slots:
    """The places at one target.

    Args:
        most: requests that are at it at once.
        most_waiting: requests that wait for a place; more are turned away.
    """

    def __init__(self, *, most: int, most_waiting: int) -> None:
        self._most = most
        self._most_waiting = most_waiting
        self._changing = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self.taken = 0

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    async def enter(self, clock: Clock, *, within_s: float) -> bool:
        """Take a place; False when too many wait already, or none became free in that time."""
        with self._changing:
            if self.taken < self._most:
                self.taken += 1
                return True
            if len(self._waiting) >= self._most_waiting:
                return False
            loop = asyncio.get_running_loop()
            waiting = _Waiting(loop, loop.create_future())
            self._waiting.append(waiting)
        try:
            async with clock.limit(within_s):
                await waiting.turn
        except BaseException as ended:
            self._leave_queue(waiting)
            if isinstance(ended, TimeoutError):
                return False
            raise
        return True

    def leave(self) -> None:
        """Give the place back: to who waits longest, where somebody does."""
        with self._changing:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_tell, turn)
                except RuntimeError:  # its loop has ended
                    continue
                return
            self.taken -= 1

    def _leave_queue(self, waiting: _Waiting) -> None:
        """Stop waiting; a place that was given meanwhile goes on."""
        with self._changing:
            is_given = waiting not in self._waiting
            if not is_given:
                self._waiting.remove(waiting)
        if is_given:
            self.leave()


def _tell(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
