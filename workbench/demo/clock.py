"""Virtual time: thousands of talks in seconds, each latency the sum of what was waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class VirtualClock:
    """Time that passes only by sleeping, and then at once. It satisfies `controls.clock.Clock`."""

    def __init__(self) -> None:
        self._now = 0.0
        self._until = float("inf")

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Returns at once, `seconds` later; past a limit it is cancelled at that moment, as a real wait is."""
        if self._now + seconds > self._until:
            self._now = self._until
            raise asyncio.CancelledError
        self._now += seconds

    async def compute(self, seconds: float) -> None:
        await self.sleep(seconds)

    @asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        before, own = self._until, self._now + seconds
        self._until = min(before, own)
        try:
            yield
        except asyncio.CancelledError:
            if own <= before and self._now >= own:
                raise TimeoutError from None
            raise
        finally:
            self._until = before

    async def within(self, until_s: float, awaited: Awaitable[T]) -> T:
        async with self.limit(until_s - self._now):
            return await awaited
