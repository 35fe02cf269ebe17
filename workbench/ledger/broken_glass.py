"""The rows under releases that one person let go alone, and the reviews that they owe; `release` gives them their meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import broken_glass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBrokenGlass:
    """A row of `broken_glass`."""

    seq: int
    """Number of the audit entry of the act."""
    release_id: str
    app: str
    person: str
    known_as: Sequence[str]
    reason: str
    called: Sequence[str]
    broken_at: datetime
    review_due_at: datetime
    verdict: str | None
    reviewed_by: str | None
    reviewed_at: datetime | None
    review_reason: str | None
    version: int


def broken_glass_of(connection: Connection, app: str) -> tuple[StoredBrokenGlass, ...]:
    """Every time that somebody let a release of the app go alone, oldest first."""
    rows = connection.execute(select(broken_glass).where(broken_glass.c.app == app).order_by(broken_glass.c.seq)).mappings()
    return tuple(StoredBrokenGlass(**row) for row in rows)


def add_broken_glass(act: WriteTransaction, row: StoredBrokenGlass) -> None:
    """Adds one, which owes a review."""
    act.connection.execute(broken_glass.insert().values(**asdict(row)))


def change_broken_glass(act: WriteTransaction, seen: StoredBrokenGlass, values: Mapping[str, Any]) -> None:
    """Changes one, if it is still as it was seen.

    Raises:
        ConflictError: somebody else reviewed it first.
    """
    act.transition(broken_glass, key={"seq": seen.seq}, expected_version=seen.version, values=values)
