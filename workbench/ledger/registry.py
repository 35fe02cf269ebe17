"""The rows under bundles, their files and declarations, as plain values; `versions` gives them their meaning."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, union
from sqlalchemy.dialects import postgresql, sqlite

from workbench.ledger.tables import blobs, bundles, declarations

_CHUNK = 500
"""Keys in one query; databases limit the parameters of a statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBundle:
    """A row of `bundles`."""

    bundle_id: str
    seq: int
    """Number of the audit entry of its registration."""
    app: str
    name: str
    digest: str
    spec: Mapping[str, Any]
    manifest: Mapping[str, Any]
    unpinned: tuple[str, ...]
    external: tuple[str, ...]
    registered_at: datetime
    registered_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeclaration:
    """A row of `declarations`; no content when the file was taken away."""

    seq: int
    """Number of the audit entry that stored it."""
    app: str
    kind: str
    digest: str
    content: Mapping[str, Any] | None
    registered_at: datetime
    registered_by: str


def bundle_rows(connection: Connection, *, app: str | None = None, bundle_id: str | None = None) -> tuple[StoredBundle, ...]:
    """Registered bundles, oldest first: all, those of one app, or one by its id."""
    query = select(bundles).order_by(bundles.c.seq)
    if app is not None:
        query = query.where(bundles.c.app == app)
    if bundle_id is not None:
        query = query.where(bundles.c.bundle_id == bundle_id)
    rows = (dict(row) for row in connection.execute(query).mappings())
    return tuple(StoredBundle(**{**row, "unpinned": tuple(row["unpinned"]), "external": tuple(row["external"])}) for row in rows)


def insert_bundle(connection: Connection, row: StoredBundle) -> None:
    """Adds a bundle, which must not be there yet."""
    connection.execute(bundles.insert().values(**asdict(row)))


def insert_blobs(connection: Connection, contents: Mapping[str, bytes]) -> None:
    """Stores content by digest; what is there already stays as it is."""
    known = {
        digest for chunk in _chunks(contents) for digest in connection.scalars(select(blobs.c.digest).where(blobs.c.digest.in_(chunk)))
    }
    insert = postgresql.insert(blobs) if connection.dialect.name == "postgresql" else sqlite.insert(blobs)
    for digest in sorted(contents.keys() - known):
        values = {"digest": digest, "content": contents[digest], "size": len(contents[digest])}
        connection.execute(insert.values(values).on_conflict_do_nothing())


def blobs_by_digest(connection: Connection, digests: Collection[str]) -> dict[str, bytes]:
    """The stored content of those digests that are known."""
    found = (connection.execute(select(blobs.c.digest, blobs.c.content).where(blobs.c.digest.in_(chunk))) for chunk in _chunks(digests))
    return {row.digest: bytes(row.content) for rows in found for row in rows}


def newest_declarations(connection: Connection, *, app: str, kind: str | None = None) -> tuple[StoredDeclaration, ...]:
    """The newest declaration of each kind of an app, or of one kind."""
    newest = select(func.max(declarations.c.seq)).where(declarations.c.app == app).group_by(declarations.c.kind)
    if kind is not None:
        newest = newest.where(declarations.c.kind == kind)
    rows = connection.execute(select(declarations).where(declarations.c.seq.in_(newest)).order_by(declarations.c.seq)).mappings()
    return tuple(StoredDeclaration(**row) for row in rows)


def content_of(connection: Connection, app: str, kind: str) -> Mapping[str, Any]:
    """What the app declares of a kind now, as stored; empty where nothing is. It is not read as a spec, so that nothing in it fails."""
    row = next(iter(newest_declarations(connection, app=app, kind=kind)), None)
    return (row.content or {}) if row else {}


def insert_declaration(connection: Connection, row: StoredDeclaration) -> None:
    """Adds a declaration, which from then on is the newest of its kind."""
    connection.execute(declarations.insert().values(**asdict(row)))


def apps(connection: Connection) -> tuple[str, ...]:
    """Every app with a bundle or a declaration, by name."""
    return tuple(sorted(connection.scalars(union(select(bundles.c.app), select(declarations.c.app)))))


def _chunks(keys: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(keys)
    return (ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK))
