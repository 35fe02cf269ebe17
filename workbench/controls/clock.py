"""Time as a value that is passed in: the machine's clock for serving, another one for replays."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Protocol, TypeVar

from workbench.controls.ready import taken

T = TypeVar("T")


class Clock(Protocol):
    """What a turn knows of time. One turn has one clock."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Returns after that long."""

    async def compute(self, seconds: float) -> None:
        """Lets that much computing pass on a clock that does not see it by itself."""

    def limit(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Cancels the block when it takes longer, and ends it with TimeoutError."""

    def within(self, until_s: float, awaited: Awaitable[T]) -> Awaitable[T]:
        """What the awaitable gives; TimeoutError where it is not there by then. Made for what mostly is: the limit costs nothing then."""


TurnClock = Callable[[], Clock]
"""Makes the clock of one turn."""


class RealClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Returns after that long, and never before: timers of some event loops keep whole milliseconds and fire up to one early."""
        until_s, left_s = self.now() + seconds, seconds
        while True:
            await asyncio.sleep(left_s)
            left_s = until_s - self.now()
            if left_s <= 0.0:
                return

    async def compute(self, seconds: float) -> None:
        """Nothing: computing takes its time here without being told."""

    def limit(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return nullcontext() if seconds == math.inf else _Limit(seconds)

    def within(self, until_s: float, awaited: Awaitable[T]) -> Awaitable[T]:
        return taken(awaited, lambda: self.limit(max(0.0, until_s - self.now())))


class _Limit:
    """`asyncio.timeout` without what is not used here, at a third of its cost: each call passes through several.

    Args:
        seconds: how long the block may take.
    """

    __slots__ = ("_cancelling", "_handle", "_is_over", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_over = False

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("only a task can be limited")
        self._task, self._cancelling = task, task.cancelling()
        self._handle = loop.call_later(max(0.0, self._seconds), self._end)

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, _trace: TracebackType | None) -> None:
        self._handle.cancel()
        if self._is_over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from fault

    def _end(self) -> None:
        self._is_over = True
        self._task.cancel()
