"""The rows under the API keys: whose they are and what they hash to, never the keys themselves. `ownership` gives them meaning."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import api_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A row of `api_keys`."""

    key_id: str
    digest: str
    app: str
    person: str
    label: str
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    revoked_by: str | None
    version: int


def stored_keys(connection: Connection, *, app: str | None = None) -> tuple[StoredKey, ...]:
    """All keys, or those of one app, oldest first; revoked ones too."""
    query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
    rows = connection.execute(query if app is None else query.where(api_keys.c.app == app)).mappings()
    return tuple(StoredKey(**row) for row in rows)


def stored_key(connection: Connection, key_id: str) -> StoredKey | None:
    """One key, None when there is none of that id."""
    row = connection.execute(select(api_keys).where(api_keys.c.key_id == key_id)).mappings().one_or_none()
    return StoredKey(**row) if row else None


def add_key(act: WriteTransaction, key: StoredKey) -> None:
    """Stores a new key.

    Raises:
        ConflictError: there is one of that id already.
    """
    act.connection.execute(api_keys.insert().values(**asdict(key)))


def revoke_key(act: WriteTransaction, seen: StoredKey, *, at: datetime, by: str) -> None:
    """Revokes a key, if it is still as it was seen.

    Raises:
        ConflictError: somebody else changed it first.
    """
    act.transition(api_keys, key={"key_id": seen.key_id}, expected_version=seen.version, values={"revoked_at": at, "revoked_by": by})
