"""Which units were to be erased, and of which that is done: two acts in the audit. A unit stands there as its hash only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from workbench.ledger.audit import entries_of
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.handoffs import erase_unit
from workbench.ledger.store import Ledger, WriteTransaction
from workbench.ledger.tables import audit, handoffs, vault

ERASE, ERASED = "erase", "erase.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredErasure:
    """An act of erasing, until its end."""

    erasure_id: int
    """Number of its audit entry."""
    unit_hash: str
    reason: str
    requested_by: str
    requested_at: datetime


def open_erasures(connection: Connection) -> tuple[StoredErasure, ...]:
    """Those that are not done, oldest first."""
    done = {entry.detail["erasure_id"] for entry in entries_of(connection, ERASED, app=None)}
    return tuple(
        StoredErasure(
            erasure_id=entry.seq,
            unit_hash=entry.subject,
            reason=str(entry.detail["reason"]),
            requested_by=entry.actor,
            requested_at=entry.time,
        )
        for entry in entries_of(connection, ERASE, app=None)
        if entry.seq not in done
    )


def newest_erasure(connection: Connection) -> int:
    """The number of the newest audit entry that begins an erasure or says that one is done; 0 before the first."""
    wanted = select(func.max(audit.c.seq)).where(audit.c.app.is_(None), audit.c.act.in_((ERASE, ERASED)))
    return connection.execute(wanted).scalar() or 0


def add_erasure(act: WriteTransaction, author: Author, *, unit_hash: str, reason: str) -> int:
    """The number of a new erasure."""
    return act.audit(author, ERASE, app=None, subject=unit_hash, detail={"reason": reason}).seq


def end_erasure(act: WriteTransaction, author: Author, erasure: StoredErasure, *, removed: Mapping[str, JSON]) -> None:
    """Says that an erasure is done, unless somebody said so already."""
    known = {entry.detail["erasure_id"] for entry in entries_of(act.connection, ERASED, app=None)}
    if erasure.erasure_id not in known:
        detail: dict[str, JSON] = {"erasure_id": erasure.erasure_id, "removed": dict(removed)}
        act.audit(author, ERASED, app=None, subject=erasure.unit_hash, detail=detail)


def erase_held(ledger: Ledger, unit_hash: str) -> tuple[int, bool]:
    """How many items of the handoff queue and texts of the vault were deleted, and whether nothing of them is left in free pages."""
    with ledger.write() as act:
        n = erase_unit(act.connection, unit_hash)
    return n, ledger.scrub((handoffs.name, vault.name))
