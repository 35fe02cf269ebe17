"""The bot's inbox: what people asked for, kept from before it is acknowledged until its outcome was told.

    waiting ── claim ──→ working ── finish ──→ done
                          ↑   │ lease over (its worker died), or postponed
                          └───┘ claimed again

A claim is a lease: whoever holds it may write to the row, and nobody else. One that runs out is claimed again, by whoever is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from workbench.errors import ConflictError
from workbench.ledger.store import Ledger, WriteTransaction
from workbench.ledger.tables import inbox

WAITING, WORKING, DONE = "waiting", "working", "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivery from the chat."""

    key: str
    """The same for every repetition of it, and for nothing else."""
    intent: Mapping[str, Any]
    """What was asked for and by whom, as JSON; never a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of a delivery that was put in."""

    is_new: bool
    """False for a repetition, which changes nothing."""
    outcome: Mapping[str, Any] | None = None
    """Of the first delivery, where it is known already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that one worker holds until its lease ends."""

    key: str
    intent: Mapping[str, Any]
    outcome: Mapping[str, Any] | None
    """Where an earlier worker came so far before it died: only the telling is left."""
    attempts: int
    """How often it was claimed, this time included; also the fence that keeps out a worker whose lease is over."""
    received_at: datetime


class Inbox:
    """The deliveries of one workspace. Threads and processes may share it."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._turn = threading.Lock()

    def put(self, deliveries: Sequence[Delivery]) -> tuple[Receipt, ...]:
        """Stores what is new, in one transaction; one receipt for each delivery, in their order."""
        with self._write() as act:
            return tuple(_put(act, delivery, self._clock()) for delivery in deliveries)

    def claim(self, worker: str, *, until: datetime) -> Claim | None:
        """The oldest delivery that nobody works on, now leased to this worker; None when there is none.

        Args:
            worker: name of the worker, for whoever looks into the table.
            until: end of the lease.
        """
        if not self._is_any_open():
            return None
        with self._write() as act:
            row = act.connection.execute(select(inbox).where(_is_open(self._clock())).order_by(*_ORDER).limit(1)).one_or_none()
            if row is None:
                return None
            leased = {"state": WORKING, "worker": worker, "leased_until": until, "attempts": row.attempts + 1}
            act.transition(inbox, key={"delivery": row.delivery}, expected_version=row.version, values=leased)
        return Claim(key=row.delivery, intent=row.intent, outcome=row.outcome, attempts=row.attempts + 1, received_at=row.received_at)

    def renew(self, claim: Claim, *, until: datetime) -> None:
        """Moves the end of the lease.

        Raises:
            ConflictError: somebody else holds the delivery by now; so does every method that takes a claim.
        """
        self._change(claim, {"leased_until": until})

    def pin(self, claim: Claim, intent: Mapping[str, Any]) -> None:
        """Stores what the act will be decided on, so that whoever takes over decides on the same."""
        self._change(claim, {"intent": dict(intent)})

    def record(self, claim: Claim, outcome: Mapping[str, Any]) -> None:
        """Stores the outcome; from now on only the telling is left."""
        self._change(claim, {"outcome": dict(outcome)})

    def postpone(self, claim: Claim, *, until: datetime) -> None:
        """Gives the delivery back, to be claimed again after that moment."""
        self._change(claim, {"leased_until": until, "worker": None})

    def finish(self, claim: Claim, outcome: Mapping[str, Any]) -> None:
        """Marks the delivery as done, with its outcome for whoever repeats it."""
        done = {"state": DONE, "outcome": dict(outcome), "finished_at": self._clock(), "worker": None, "leased_until": None}
        self._change(claim, done)

    def forget(self, *, before: datetime) -> int:
        """Deletes what was finished before that moment; how many deliveries that were."""
        with self._write() as act:
            return act.connection.execute(inbox.delete().where(inbox.c.state == DONE, inbox.c.finished_at < before)).rowcount

    @contextmanager
    def _write(self) -> Iterator[WriteTransaction]:
        """A transaction, one at a time in this process: a thread that waits for SQLite's own lock sleeps for longer than one takes."""
        with self._turn, self._ledger.write() as act:
            yield act

    def _is_any_open(self) -> bool:
        """A look without a lock, so that idle workers keep nobody waiting."""
        with self._ledger.read() as connection:
            return connection.execute(select(inbox.c.delivery).where(_is_open(self._clock())).limit(1)).first() is not None

    def _change(self, claim: Claim, values: Mapping[str, Any]) -> None:
        is_held = and_(inbox.c.delivery == claim.key, inbox.c.state == WORKING, inbox.c.attempts == claim.attempts)
        with self._write() as act:
            change = inbox.update().where(is_held).values({**values, "version": inbox.c.version + 1})
            if act.connection.execute(change).rowcount == 1:
                return
        raise ConflictError(
            f"delivery {claim.key}", seen="its lease ended and another worker took it", needed="a lease", next_step="leave it to them"
        )


_ORDER = (inbox.c.received_at, inbox.c.delivery)


def _is_open(now: datetime) -> ColumnElement[bool]:
    return or_(inbox.c.state == WAITING, and_(inbox.c.state == WORKING, inbox.c.leased_until <= now))


def _put(act: WriteTransaction, delivery: Delivery, now: datetime) -> Receipt:
    connection = act.connection
    row = {"delivery": delivery.key, "intent": dict(delivery.intent), "state": WAITING, "received_at": now, "attempts": 0, "version": 0}
    if connection.execute(_insert(connection).values(row).on_conflict_do_nothing().returning(inbox.c.delivery)).first():
        return Receipt(is_new=True)
    return Receipt(is_new=False, outcome=connection.execute(select(inbox.c.outcome).where(inbox.c.delivery == delivery.key)).scalar())


def _insert(connection: Connection) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(inbox) if connection.dialect.name == "postgresql" else sqlite.insert(inbox)
