"""Time as a value that is passed in: the machine's clock for serving, another one for replays."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


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


TurnClock = Callable[[], Clock]
"""Makes the clock of one turn."""


class RealClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def compute(self, seconds: float) -> None:
        """Nothing: computing takes its time here without being told."""

    def limit(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(None if seconds == math.inf else seconds)
