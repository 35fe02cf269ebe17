"""Blocking services, called from the event loop through a bounded pool of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """So many threads, and no more; what comes on top waits its turn."""

    def __init__(self, n: int, *, name: str) -> None:
        self._threads = ThreadPoolExecutor(n, thread_name_prefix=name)

    async def call(self, verb: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """What the verb returns or raises, with the event loop free meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(verb, *args, **options))

    def close(self) -> None:
        """Returns when every call that has begun is over; none begins any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)
