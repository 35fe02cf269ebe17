"""Time as a value that is passed in: a virtual clock for thousands of talks in seconds, the real one for serving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol


class Clock(Protocol):
    """What the assistant's host and the shop's systems know of time."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Returns after that long."""

    def limit(self, seconds: float) -> AbstractAsyncContextManager[None]:
        """Ends the block with TimeoutError when it takes longer."""


class RealClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        async with asyncio.timeout(seconds):
            yield


class VirtualClock:
    """Time that passes only by sleeping, and then at once. One talk has one clock."""

    def __init__(self) -> None:
        self._now = 0.0
        self._until = float("inf")

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if self._now + seconds > self._until:
            self._now = self._until
            raise TimeoutError
        self._now += seconds

    @asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        before, self._until = self._until, min(self._until, self._now + seconds)
        try:
            yield
        finally:
            self._until = before
