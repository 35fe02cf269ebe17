"""The rows under the controller's watch of releases: how far its judge has read, and what it decided. `release` gives them meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from workbench.errors import UnknownSubject
from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import decisions, watches


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWatch:
    """A row of `watches`."""

    release_id: str
    step: int
    run_s: float
    canary_s: float
    high_water: int
    plan: Mapping[str, Any]
    standing: Mapping[str, Any]
    newest_row_at: datetime | None
    looked_at: datetime
    token: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """A row of `decisions`."""

    release_id: str
    number: int
    decided_at: datetime
    release_version: int
    step: int
    decision: str
    reason: str
    sentence: str
    inputs: Mapping[str, Any]
    inputs_digest: str
    token: int

    @property
    def decision_id(self) -> str:
        """`<release>/<number>`."""
        return f"{self.release_id}/{self.number}"


def stored_watch(connection: Connection, release_id: str) -> StoredWatch | None:
    """How the watch of a release stands; None before the first look."""
    row = connection.execute(select(watches).where(watches.c.release_id == release_id)).mappings().one_or_none()
    return StoredWatch(**row) if row else None


def put_watch(act: WriteTransaction, watch: StoredWatch, seen: StoredWatch | None) -> StoredWatch:
    """Stores a look in place of the one that it followed; its version grows by one.

    Raises:
        ConflictError: another one was stored meanwhile.
    """
    if seen is None:
        act.connection.execute(watches.insert().values(**asdict(replace(watch, version=1))))
        return replace(watch, version=1)
    act.transition(watches, key={"release_id": watch.release_id}, expected_version=seen.version, values=asdict(watch))
    return replace(watch, version=seen.version + 1)


def add_decision(act: WriteTransaction, decision: StoredDecision) -> StoredDecision:
    """Adds a decision, with the next number of its release."""
    newest = select(func.coalesce(func.max(decisions.c.number), 0)).where(decisions.c.release_id == decision.release_id)
    numbered = replace(decision, number=int(act.connection.execute(newest).scalar_one()) + 1)
    act.connection.execute(decisions.insert().values(**asdict(numbered)))
    return numbered


def decisions_of(connection: Connection, release_id: str) -> tuple[StoredDecision, ...]:
    """What was decided about a release, oldest first."""
    query = select(decisions).where(decisions.c.release_id == release_id).order_by(decisions.c.number)
    return tuple(StoredDecision(**row) for row in connection.execute(query).mappings())


def decisions_at(connection: Connection, release_id: str, step: int, decision: str) -> tuple[StoredDecision, ...]:
    """Those that were decided that way at that step, oldest first."""
    is_one = (decisions.c.release_id == release_id) & (decisions.c.step == step) & (decisions.c.decision == decision)
    return tuple(
        StoredDecision(**row) for row in connection.execute(select(decisions).where(is_one).order_by(decisions.c.number)).mappings()
    )


def newest_decision(connection: Connection, release_id: str) -> StoredDecision | None:
    """What was decided last about a release; None before that."""
    query = select(decisions).where(decisions.c.release_id == release_id).order_by(decisions.c.number.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return StoredDecision(**row) if row else None


def known_decision(connection: Connection, decision_id: str) -> StoredDecision:
    """The decision of this id: `<release>/<number>`, or of a release its newest.

    Raises:
        UnknownSubject: there is none.
    """
    release_id, slash, number = decision_id.rpartition("/")
    found = newest_decision(connection, decision_id)
    if slash and number.isdigit():
        query = select(decisions).where(decisions.c.release_id == release_id, decisions.c.number == int(number))
        row = connection.execute(query).mappings().one_or_none()
        found = StoredDecision(**row) if row else None
    if found is None:
        raise UnknownSubject(
            f"decision {decision_id}",
            seen="nothing of this id was decided",
            needed="RELEASE/NUMBER, or a release",
            next_step="list them: `workbench release decisions RELEASE`",
        )
    return found
