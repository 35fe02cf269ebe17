"""The controls' way to the log: what has to be stored before something else may happen, and whether the log takes it.

What could not be stored is never dropped in silence. The call is refused; or, where its app declares `audit: best_effort`, it goes on, and
the gap is counted, shown, and written down as soon as the log takes records again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol

from workbench.controls.refusals import audit_unavailable
from workbench.errors import RequestRefused, StoreError
from workbench.observability.gaps import Gap

_LOG = logging.getLogger(__name__)
WAIT_S = 5.0
"""How long a commit may take before the call is refused; a healthy one takes a millisecond."""
_FRESH_S = 10.0
"""For so long a failure counts as the present state; then the next call may try."""
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Log table to rows."""


class Log(Protocol):
    """Where the rows go."""

    @property
    def pressure(self) -> float:
        """How full it is, 0 to 1."""

    def submit(self, rows: Rows) -> Future[None]:
        """Queue rows; done when they are committed, failed with StoreError when they could not be. Nobody can take them back."""


class Journal:
    """Commits the records of calls. While a commit is stuck nothing piles up behind it.

    Args:
        log: where the rows go.
        may_go_on: whether the calls of an app go on without their records.
        wait_s: how long a commit may take.
        monotonic: the machine's time, in seconds.
    """

    def __init__(
        self,
        log: Log,
        *,
        may_go_on: Callable[[str], bool] = lambda _app: False,
        wait_s: float = WAIT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._may_go_on = may_go_on
        self._wait_s = wait_s
        self._monotonic = monotonic
        self._stuck: Future[None] | None = None
        self._fault: str | None = None
        self._failed_at = 0.0
        self._lost = _Lost()
        self._doorbells: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Doorbell] = weakref.WeakKeyDictionary()

    @property
    def fault(self) -> str | None:
        """Why the log does not take records now; None when it does, or when the last failure is so old that trying is right."""
        is_recent = self._is_stuck or self._monotonic() - self._failed_at < _FRESH_S
        return self._fault if is_recent else None

    @property
    def pressure(self) -> float:
        """How full the log's way to the lake is, 0 to 1; at 1 it takes nothing."""
        return self._log.pressure

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What could not be stored since this process began, by app; written down meanwhile or not."""
        return self._lost.ever

    @property
    def _is_stuck(self) -> bool:
        return self._stuck is not None and not self._stuck.done()

    def check(self, app: str) -> None:
        """Return when the log can be expected to take a record of the app, or when its calls go on without.

        Raises:
            RequestRefused: an earlier commit is still stuck.
        """
        if self._is_stuck and not self._may_go_on(app):
            raise _still_stuck()

    async def commit(self, rows: Rows) -> None:
        """Return once the rows are committed, or counted as a gap where the app's calls may go on without them.

        Raises:
            RequestRefused: they could not be, or not in time; in that case they may still be.
            UsageError: a row does not fit its table; nothing is stored.
        """
        try:
            await self._committed(rows)
        except RequestRefused:
            if not all(self._may_go_on(row["app"]) for row in rows["requests"]):
                raise
        else:
            self._fault = None
            self._write_gaps()

    def leave(self, rows: Rows) -> None:
        """Queue rows for which nobody waits: what a refused or abandoned call leaves. What is lost is counted.

        Raises:
            UsageError: a row does not fit its table; nothing is stored.
        """
        with suppress(RequestRefused):
            self._submitted(rows)

    def close(self) -> None:
        """Write down what is still only counted; where that fails, the process' own log is the last place that tells of it."""
        written = self._write_gaps()
        if written is not None:
            with suppress(StoreError, TimeoutError):
                written.result(self._wait_s)
        for gap in self._lost.unwritten:
            _LOG.error("the audit has a gap that could not be written down: %s", gap)

    async def _committed(self, rows: Rows) -> None:
        committed = self._submitted(rows)
        if not await self._is_done(committed):
            self._stuck = committed
            why = f"no commit within {self._wait_s:g} s"
            self._fail(why)
            raise audit_unavailable(why)
        try:
            committed.result()
        except StoreError as fault:
            raise audit_unavailable("the log refused it") from fault

    def _submitted(self, rows: Rows) -> Future[None]:
        """The future of rows on their way, whose failure is noted whoever waits for it.

        Raises:
            RequestRefused: the log does not even take them.
        """
        if self._is_stuck:
            self._lose(rows)
            raise _still_stuck()
        try:
            committed = self._log.submit(rows)
        except StoreError as fault:
            self._note(rows, fault)
            raise audit_unavailable("the log refused it") from fault
        committed.add_done_callback(lambda future: self._note(rows, future.exception()))
        return committed

    def _lose(self, rows: Rows) -> None:
        """Count what is not stored. A START that is refused with its call stands for nothing that happened."""
        lost = [row for row in rows["requests"] if row.get("is_final") or self._may_go_on(row["app"])]
        self._lost.add(Gap.of({"requests": lost}))

    def _write_gaps(self) -> Future[None] | None:
        """Write down what was lost before; what cannot be written stays counted."""
        gaps = self._lost.take()
        if not gaps:
            return None
        try:
            written = self._log.submit({"spans": [gap.row() for gap in gaps]})
        except StoreError:
            self._lost.give_back(gaps)
            return None
        written.add_done_callback(lambda future: self._lost.give_back(gaps) if future.exception() else None)
        for gap in gaps:
            _LOG.error("the audit has a gap: %s", gap)
        return written

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

    def _note(self, rows: Rows, fault: BaseException | None) -> None:
        if fault is not None:
            self._fail(str(fault))
            self._lose(rows)

    def _fail(self, fault: str) -> None:
        if self._fault is None:
            _LOG.error("the audit cannot be written: %s", fault)
        self._fault, self._failed_at = fault, self._monotonic()


def _still_stuck() -> RequestRefused:
    return audit_unavailable("an earlier one is still being written")


class _Lost:
    """What could not be stored, by app. Loops and the log's thread share it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._ever: dict[str, Gap] = {}
        self._unwritten: dict[str, Gap] = {}

    @property
    def ever(self) -> tuple[Gap, ...]:
        with self._mutex:
            return tuple(self._ever[app] for app in sorted(self._ever))

    @property
    def unwritten(self) -> tuple[Gap, ...]:
        with self._mutex:
            return tuple(self._unwritten.values())

    def add(self, gaps: Iterable[Gap]) -> None:
        with self._mutex:
            for gap in gaps:
                _join(self._ever, gap)
                _join(self._unwritten, gap)

    def take(self) -> tuple[Gap, ...]:
        """What is to be written down now."""
        if not self._unwritten:  # as nearly always
            return ()
        with self._mutex:
            gaps, self._unwritten = tuple(self._unwritten.values()), {}
        return gaps

    def give_back(self, gaps: Iterable[Gap]) -> None:
        """What was taken and could not be written."""
        with self._mutex:
            for gap in gaps:
                _join(self._unwritten, gap)


def _join(gaps: dict[str, Gap], gap: Gap) -> None:
    gaps[gap.app] = gaps[gap.app].with_(gap) if gap.app in gaps else gap


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
