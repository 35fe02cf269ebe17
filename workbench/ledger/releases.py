"""The rows under releases, their approvals and locks, as plain values; `release` gives them their meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from workbench.errors import UnknownSubject
from workbench.ledger.audit import REVIEW_ACT, AuditEntry, newest_of
from workbench.ledger.registry import StoredBundle, StoredDeclaration, bundle_rows, newest_declarations
from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import approvals, declarations, locks, releases

READY_ACT = "release.ready"
"""The act that finds a release ready for its approval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRelease:
    """A row of `releases`."""

    release_id: str
    """`<app>.<number>`, counted from 1 in each app."""
    app: str
    kind: str
    state: str
    step: int | None
    bundle_id: str | None
    previous_stable: str | None
    plan: Mapping[str, Any]
    """The plan as declared at the start; empty where none was."""
    plan_digest: str
    review_id: str | None
    salt: str
    reason: str
    requested_by: str
    requested_at: datetime
    step_since: datetime | None
    note: str
    ended_at: datetime | None
    version: int

    @property
    def number(self) -> int:
        """Its place among the app's releases, from 1."""
        return int(self.release_id.rpartition(".")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredApproval:
    """A row of `approvals`."""

    seq: int
    release_id: str
    person: str
    decision: str
    binds: Mapping[str, Any]
    decided_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLock:
    """A row of `locks`."""

    app: str
    kind: str
    holder: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What a release stands on, as it is stored at one moment."""

    bundle: StoredBundle | None
    """Its candidate."""
    approvals: tuple[StoredApproval, ...]
    """What was decided about it, oldest first."""
    people_then: StoredDeclaration | None
    """The app's people as they were declared when the candidate was registered."""
    ready: AuditEntry | None
    """The entry that found it ready; None before that."""
    review: AuditEntry | None
    """The newest review of its candidate, whoever asked for it."""
    declarations: tuple[StoredDeclaration, ...]
    """The newest of each kind of its app."""


def foundation(connection: Connection, release: StoredRelease) -> Foundation:
    """What the release stands on now."""
    bundle_id = release.bundle_id or ""
    bundle = next(iter(bundle_rows(connection, bundle_id=bundle_id)), None)
    return Foundation(
        bundle=bundle,
        approvals=approvals_of(connection, release.release_id),
        people_then=_people_before(connection, release.app, bundle.seq) if bundle else None,
        ready=newest_of(connection, READY_ACT, app=release.app, subject=release.release_id),
        review=newest_of(connection, REVIEW_ACT, app=release.app, subject=bundle_id),
        declarations=newest_declarations(connection, app=release.app),
    )


def _people_before(connection: Connection, app: str, seq: int) -> StoredDeclaration | None:
    """The newest people.yaml of the app that an earlier entry than this one stored."""
    known = select(declarations).where(declarations.c.app == app, declarations.c.kind == "people", declarations.c.seq < seq)
    row = connection.execute(known.order_by(declarations.c.seq.desc()).limit(1)).mappings().one_or_none()
    return StoredDeclaration(**row) if row else None


def stored_release(connection: Connection, release_id: str) -> StoredRelease | None:
    """The release of this id, or None."""
    row = connection.execute(select(releases).where(releases.c.release_id == release_id)).mappings().one_or_none()
    return StoredRelease(**row) if row else None


def known_release(connection: Connection, release_id: str) -> StoredRelease:
    """The release of this id, or the open one of the app of this name.

    Raises:
        UnknownSubject: there is none.
    """
    row = stored_release(connection, release_id) or open_release(connection, release_id)
    if row is None:
        raise UnknownSubject(
            f"release {release_id}",
            seen="no release has this id, and no app of this name has an open one",
            next_step="list them: `workbench release history APP`",
        )
    return row


def releases_of(connection: Connection, app: str) -> tuple[StoredRelease, ...]:
    """Every release of the app, in the order in which they were asked for."""
    rows = connection.execute(select(releases).where(releases.c.app == app)).mappings()
    return tuple(sorted((StoredRelease(**row) for row in rows), key=lambda release: release.number))


def open_release(connection: Connection, app: str) -> StoredRelease | None:
    """The release of the app that has not ended; there is at most one."""
    row = connection.execute(select(releases).where(releases.c.app == app, releases.c.ended_at.is_(None))).mappings().one_or_none()
    return StoredRelease(**row) if row else None


def open_releases(connection: Connection) -> tuple[StoredRelease, ...]:
    """The releases of all apps that have not ended, by app."""
    rows = connection.execute(select(releases).where(releases.c.ended_at.is_(None)).order_by(releases.c.app)).mappings()
    return tuple(StoredRelease(**row) for row in rows)


def add_release(act: WriteTransaction, release: StoredRelease) -> None:
    """Adds a release, whose number must be free.

    Raises:
        ConflictError: another one of the app is open.
    """
    act.connection.execute(releases.insert().values(**asdict(release)))


def change_release(act: WriteTransaction, seen: StoredRelease, values: Mapping[str, Any]) -> None:
    """Changes a release, if it is still at the version that was seen; its version grows by one.

    Raises:
        ConflictError: somebody else changed it first.
    """
    act.transition(releases, key={"release_id": seen.release_id}, expected_version=seen.version, values=values)


def approvals_of(connection: Connection, release_id: str) -> tuple[StoredApproval, ...]:
    """What was decided about a release, oldest first."""
    rows = connection.execute(select(approvals).where(approvals.c.release_id == release_id).order_by(approvals.c.seq)).mappings()
    return tuple(StoredApproval(**row) for row in rows)


def add_approval(act: WriteTransaction, approval: StoredApproval) -> None:
    """Adds a decision, which from then on is the newest."""
    act.connection.execute(approvals.insert().values(**asdict(approval)))


def locks_of(connection: Connection, app: str) -> tuple[StoredLock, ...]:
    """The locks on the app's releases: none, one or one of each kind."""
    rows = connection.execute(select(locks).where(locks.c.app == app).order_by(locks.c.kind)).mappings()
    return tuple(StoredLock(**row) for row in rows)


def put_lock(act: WriteTransaction, lock: StoredLock) -> None:
    """Puts a lock where there is none of its kind, or in the place of the one that is there."""
    remove_lock(act, lock.app, lock.kind)
    act.connection.execute(locks.insert().values(**asdict(lock)))


def remove_lock(act: WriteTransaction, app: str, kind: str) -> None:
    """Takes a lock away; nothing happens where there is none."""
    act.connection.execute(locks.delete().where(locks.c.app == app, locks.c.kind == kind))
