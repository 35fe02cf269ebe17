"""The controls' way to the log: what has to be stored before something else may happen, and whether the log takes it."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol

from workbench.controls.refusals import audit_unavailable
from workbench.errors import RequestRefused, StoreError

_LOG = logging.getLogger(__name__)
WAIT_S = 5.0
"""How long a commit may take before the call is refused; a healthy one takes a millisecond."""
_FRESH_S = 10.0
"""For so long a failure counts as the present state; then the next call may try."""
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Log table to rows."""


class Log(Protocol):
    """Where the rows go."""

    def submit(self, rows: Rows) -> Future[None]:
        """Queue rows; done when they are committed, failed with StoreError when they could not be. Nobody can take them back."""


class Journal:
    """Commits the records of calls. While a commit is stuck nothing piles up behind it.

    Args:
        log: where the rows go.
        wait_s: how long a commit may take.
        monotonic: the machine's time, in seconds.
    """

    def __init__(self, log: Log, *, wait_s: float = WAIT_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._wait_s = wait_s
        self._monotonic = monotonic
        self._stuck: Future[None] | None = None
        self._fault: str | None = None
        self._failed_at = 0.0
        self._doorbells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Doorbell] = weakref.WeakKeyDictionary()

    @property
    def fault(self) -> str | None:
        """Why the log does not take records now; None when it does, or when the last failure is so old that trying is right."""
        is_recent = self._is_stuck or self._monotonic() - self._failed_at < _FRESH_S
        return self._fault if is_recent else None

    @property
    def _is_stuck(self) -> bool:
        return self._stuck is not None and not self._stuck.done()

    def check(self) -> None:
        """Return when the log can be expected to take a record.

        Raises:
            RequestRefused: an earlier commit is still stuck.
        """
        if self._is_stuck:
            raise audit_unavailable("an earlier one is still being written")

    async def commit(self, rows: Rows) -> None:
        """Return once the rows are committed.

        Raises:
            RequestRefused: they could not be, or not in time; in that case they may still be.
            UsageError: a row does not fit its table; nothing is stored.
        """
        self.check()
        try:
            committed = self._log.submit(rows)
            if not await self._is_done(committed):
                self._stuck = committed
                why = f"no commit within {self._wait_s:g} s"
                self._fail(why)
                raise audit_unavailable(why)
            committed.result()
        except StoreError as fault:
            self._fail(str(fault))
            raise audit_unavailable("the log refused it") from fault
        self._fault = None

    def leave(self, rows: Rows) -> None:
        """Queue rows for which nobody waits: what a refused or abandoned call leaves. A failure of the log is only noted.

        Raises:
            UsageError: a row does not fit its table; nothing is stored.
        """
        try:
            self.check()
            self._log.submit(rows).add_done_callback(self._note)
        except (StoreError, RequestRefused) as fault:
            self._fail(str(fault))

    async def _is_done(self, committed: Future[None]) -> bool:
        """Whether the future is done within the time."""
        if committed.done():
            return True
        loop = asyncio.get_running_loop()
        doorbell = self._doorbells.get(loop)
        if doorbell is None:
            doorbell = self._doorbells[loop] = _Doorbell(loop)
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(self._wait_s, _settle, waiter, False)  # noqa: FBT003 - the waiter's result
        committed.add_done_callback(lambda _committed: doorbell.ring(waiter))
        try:
            return await waiter
        finally:
            timer.cancel()

    def _note(self, future: Future[None]) -> None:
        fault = future.exception()
        if fault is not None:
            self._fail(str(fault))

    def _fail(self, fault: str) -> None:
        if self._fault is None:
            _LOG.error("the audit cannot be written: %s", fault)
        self._fault, self._failed_at = fault, self._monotonic()


class _Doorbell:
    """Wakes a loop once for all waiters that one group commit released: a wake-up is a system call, and costs more than the wait.

    Args:
        loop: where the waiters are.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._released: deque[asyncio.Future[bool]] = deque()
        self._is_ringing = False

    def ring(self, waiter: asyncio.Future[bool]) -> None:
        """Release a waiter; called by the log's thread."""
        loop = self._loop()
        if loop is None or loop.is_closed():  # and its waiters with it
            return
        self._released.append(waiter)
        if not self._is_ringing:
            self._is_ringing = True
            with suppress(RuntimeError):  # it was closed in this moment
                loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._is_ringing = False  # first, so that whoever is released from here on rings again
        while self._released:
            _settle(self._released.popleft(), True)  # noqa: FBT003 - the waiter's result


def _settle(waiter: asyncio.Future[bool], is_done: bool) -> None:
    if not waiter.done():
        waiter.set_result(is_done)
