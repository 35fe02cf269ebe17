"""The rows of the handoff queue: everything about an item but its text, which lies in the vault. `controls` gives them their meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from workbench.ledger import vault
from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import handoffs

WAITING, DECIDED = ("open", "claimed"), ("approved", "answered", "rejected")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHandoff:
    """A row of `handoffs`."""

    handoff_id: str
    app: str
    request_id: str
    bundle_id: str | None
    unit_hash: str | None
    session_id: str | None
    workflow: str
    kind: str
    mode: str
    signals: Sequence[str]
    state: str
    claimed_by: str | None
    lease_until: datetime | None
    created_at: datetime
    due_at: datetime
    expires_at: datetime
    shown_digest: str | None
    decision: str | None
    answer_digest: str | None
    decided_by: str | None
    decided_at: datetime | None
    callback: str | None
    attempts: int
    next_attempt_at: datetime | None
    fault: str | None
    delivered_at: datetime | None
    version: int


def add_handoff(act: WriteTransaction, handoff: StoredHandoff) -> None:
    """Adds an item.

    Raises:
        ConflictError: there is one of that id already.
    """
    act.connection.execute(handoffs.insert().values({**asdict(handoff), "signals": list(handoff.signals)}))


def change_handoff(act: WriteTransaction, seen: StoredHandoff, values: Mapping[str, Any]) -> None:
    """Changes an item, if it is still at the version that was seen; its version grows by one.

    Raises:
        ConflictError: somebody else changed it first.
    """
    act.transition(handoffs, key={"handoff_id": seen.handoff_id}, expected_version=seen.version, values=values)


def stored_handoff(connection: Connection, handoff_id: str) -> StoredHandoff | None:
    """One item; None when there is none of that id."""
    row = connection.execute(select(handoffs).where(handoffs.c.handoff_id == handoff_id)).mappings().one_or_none()
    return StoredHandoff(**row) if row else None


def stored_handoffs(connection: Connection, *, app: str | None, only_waiting: bool) -> tuple[StoredHandoff, ...]:
    """The items of one app or of all, those first that are due first."""
    query = select(handoffs).order_by(handoffs.c.due_at, handoffs.c.handoff_id)
    if app is not None:
        query = query.where(handoffs.c.app == app)
    if only_waiting:
        query = query.where(handoffs.c.state.in_(WAITING))
    return tuple(StoredHandoff(**row) for row in connection.execute(query).mappings())


def overdue_handoffs(connection: Connection, *, now: datetime, most: int) -> tuple[StoredHandoff, ...]:
    """Items that nobody decided in time, and held ones that nobody fetched in time; at most so many, the oldest first."""
    is_undecided = and_(handoffs.c.state.in_(WAITING), handoffs.c.due_at <= now)
    is_unfetched = and_(handoffs.c.state.in_(DECIDED), handoffs.c.mode == "hold", handoffs.c.expires_at <= now)
    query = select(handoffs).where(or_(is_undecided, is_unfetched)).order_by(handoffs.c.due_at, handoffs.c.handoff_id).limit(most)
    return tuple(StoredHandoff(**row) for row in connection.execute(query).mappings())


def undelivered_handoffs(connection: Connection, *, now: datetime, most: int) -> tuple[StoredHandoff, ...]:
    """Decided items that are to be told to a callback now; at most so many, the longest waiting first."""
    is_due = (handoffs.c.state.in_(DECIDED), handoffs.c.next_attempt_at <= now, handoffs.c.expires_at > now)
    query = select(handoffs).where(*is_due).order_by(handoffs.c.next_attempt_at, handoffs.c.handoff_id).limit(most)
    return tuple(StoredHandoff(**row) for row in connection.execute(query).mappings())


def erase_unit(connection: Connection, unit_hash: str) -> int:
    """Deletes the items and the texts of one unit; how many rows that were. The audit of who decided them stays, and names nobody."""
    n_items = connection.execute(handoffs.delete().where(handoffs.c.unit_hash == unit_hash)).rowcount
    return n_items + vault.erase_unit(connection, unit_hash)
