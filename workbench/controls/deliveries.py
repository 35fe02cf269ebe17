"""What becomes of a handoff after, or without, a decision: the client fetches or is told it once, or it expires."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from workbench.controls.callbacks import Courier, Letter, letter_of
from workbench.controls.handoff import DECISIONS, Handoff, HandoffResult, HandoffState, as_of, attempted, delivered
from workbench.controls.handoff_rows import Proof, by_itself, changes, handoff_of, result_in, unknown
from workbench.errors import ConflictError, WorkbenchError
from workbench.ledger.canonical import JSON
from workbench.ledger.handoffs import StoredHandoff, change_handoff, overdue_handoffs, stored_handoff, undelivered_handoffs
from workbench.ledger.store import Ledger, WriteTransaction
from workbench.ledger.types import utc_text
from workbench.ledger.vault import Vault, is_any_expired

_LOG = logging.getLogger(__name__)
_AT_ONCE = 20
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.2, 2.0
_STOP_S = 15.0


class Deliveries:
    """Brings decisions to clients. Threads and processes share it.

    Args:
        ledger: where the queue is.
        vault: where the texts are.
        proof: the digest of a text.
        courier: sends decisions to callbacks.
        clock: the time, aware.
    """

    def __init__(self, ledger: Ledger, vault: Vault, *, proof: Proof, courier: Courier, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._vault = vault
        self._proof = proof
        self._courier = courier
        self._clock = clock
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def result(self, handoff_id: str, app: str | None, *, via: str) -> HandoffResult:
        """What the client gets now; a decision is delivered by that.

        Raises:
            UnknownSubject: the app has no such item.
        """
        now = self._clock()
        with self._ledger.read() as connection:
            row = stored_handoff(connection, handoff_id)
            if row is None or app not in (None, row.app):
                raise unknown(handoff_id)
            seen = as_of(handoff_of(row), now)
            result = None if seen.is_deliverable else result_in(self._vault.at(connection, now), seen, self._proof)
        if seen.state is HandoffState.EXPIRED or seen.expires_at <= now:
            self.expire(now)  # a text whose time is over goes when it is asked for, where no thread takes it away
        if result is not None:
            return result
        with self._ledger.write() as act:
            row, now = stored_handoff(act.connection, handoff_id), self._clock()
            if row is None:
                raise unknown(handoff_id)
            seen = as_of(handoff_of(row), now)
            if seen.is_deliverable:
                _deliver(act, row, now, via=via)
                seen = delivered(seen, now=now)
            return result_in(self._vault.at(act.connection, now), seen, self._proof)

    async def answered(self, handoff_id: str, *, within_s: float, app: str | None) -> HandoffResult:
        """The result as soon as it is final, or as it is when the time is over."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + within_s, _FIRST_LOOK_S
        while True:
            result = await asyncio.to_thread(self.result, handoff_id, app, via="library")
            left = end - loop.time()
            if result.is_final or left <= 0:
                return result
            await asyncio.sleep(min(pause, left))
            pause = min(1.5 * pause, _LONGEST_LOOK_S)

    def expire(self, now: datetime) -> int:
        """Marks what nobody decided or fetched in time, and deletes every text whose time is over; how many items were marked."""
        n = 0
        while self._is_anything_over(now):
            with self._ledger.write() as act:
                texts = self._vault.at(act.connection, now)
                found = overdue_handoffs(act.connection, now=now, most=_AT_ONCE)
                for row in found:
                    _change(act, row, as_of(handoff_of(row), now))
                    texts.forget_item(row.handoff_id)
                    detail: dict[str, JSON] = {"decision": row.decision, "due_at": utc_text(row.due_at)}
                    act.audit(by_itself("clock"), "handoff.expire", app=row.app, subject=row.handoff_id, detail=detail)
                texts.forget_expired()
            n += len(found)
        return n

    def deliver(self) -> int:
        """Tells decisions to the callbacks that are due; how many arrived.

        Several processes may do it at once: each takes an item before it sends the letter, and the others leave it alone meanwhile.
        """
        now = self._clock()
        with self._ledger.read() as connection:
            due = undelivered_handoffs(connection, now=now, most=_AT_ONCE)
        letters = [letter for row in due if (letter := self._taken(row.handoff_id, now)) is not None]
        faults = self._courier.post(letters, at=now) if letters else ()
        return sum(self._arrived(letter, fault) for letter, fault in zip(letters, faults, strict=True))

    def start(self, *, every_s: float) -> None:
        """Begin to expire and to deliver on a thread of its own; the first call does."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(every_s,), name="handoffs", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread after the round it is in."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _run(self, every_s: float) -> None:
        fault: str | None = None
        while not self._ending.wait(every_s):
            before, fault = fault, None
            try:
                self.expire(self._clock())
                self.deliver()
            except WorkbenchError as error:
                fault = str(error)
            except Exception as error:  # noqa: BLE001 - the thread lives as long as the process, whatever a driver raises
                fault = type(error).__name__
            if fault is not None and fault != before:
                _LOG.error("handoffs are neither expired nor delivered: %s", fault)

    def _taken(self, handoff_id: str, now: datetime) -> Letter | None:
        """The letter of an item, if it is this process that sends it now."""
        with self._ledger.write() as act:
            row = stored_handoff(act.connection, handoff_id)
            if row is None:
                return None
            try:
                taken = attempted(handoff_of(row), now=now)
            except ConflictError:
                return None
            try:
                letter = letter_of(taken, result_in(self._vault.at(act.connection, now), taken, self._proof))
            except WorkbenchError as fault:
                letter, taken = None, replace(taken, fault=str(fault))
            _change(act, row, taken)
        if letter is None and taken.fault != row.fault:
            _LOG.error("a decision cannot be told: %s", taken.fault)
        return letter

    def _arrived(self, letter: Letter, fault: str | None) -> bool:
        """Notes what became of a letter; whether it is this one that delivered the item."""
        with self._ledger.write() as act:
            row = stored_handoff(act.connection, letter.handoff_id)
            if row is None or row.state not in DECISIONS:
                return False  # it was erased or fetched meanwhile
            if fault is not None:
                _change(act, row, replace(handoff_of(row), fault=fault))
            elif as_of(handoff_of(row), self._clock()).is_deliverable:
                _deliver(act, row, self._clock(), via="callback")
        if fault is not None and fault != row.fault:
            _LOG.warning("handoff %s: callback %s of %s: %s", letter.handoff_id, letter.callback, letter.app, fault)
        return fault is None

    def _is_anything_over(self, now: datetime) -> bool:
        """A look without a lock, so that an idle round keeps nobody waiting."""
        with self._ledger.read() as connection:
            return is_any_expired(connection, now=now) or bool(overdue_handoffs(connection, now=now, most=1))


def _change(act: WriteTransaction, row: StoredHandoff, after: Handoff) -> None:
    change_handoff(act, row, changes(handoff_of(row), after))


def _deliver(act: WriteTransaction, row: StoredHandoff, now: datetime, *, via: str) -> None:
    _change(act, row, delivered(handoff_of(row), now=now))
    act.audit(by_itself(via), "handoff.deliver", app=row.app, subject=row.handoff_id, detail={"decision": row.decision})
