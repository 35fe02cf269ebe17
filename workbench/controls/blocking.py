"""An event loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from workbench.controls.pipeline import STOPPING

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for other threads, each to its end.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str = "controls loop") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; it is cancelled when the caller is interrupted."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("this would wait for itself: inside a call of `handle_blocking`, await `handle`")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Run the coroutine, which says itself what came of it; nobody waits."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel what is still running, let it end, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._wind_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _wind_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel(STOPPING)
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
