"""The rows under stand-ins on an app's rota; `ownership` gives them their meaning."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import rota_overrides


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOverride:
    """A row of `rota_overrides`."""

    seq: int
    """Number of the audit entry of its declaration."""
    app: str
    person: str
    tier: int
    start: datetime
    until: datetime
    reason: str
    declared_by: str
    declared_at: datetime


def overrides_of(connection: Connection, app: str, *, since: datetime | None = None) -> tuple[StoredOverride, ...]:
    """The stand-ins of an app in the order of their declaration; those that end after `since` when it is given."""
    wanted = select(rota_overrides).where(rota_overrides.c.app == app).order_by(rota_overrides.c.seq)
    if since is not None:
        wanted = wanted.where(rota_overrides.c.until > since)
    return tuple(StoredOverride(**row) for row in connection.execute(wanted).mappings())


def add_override(act: WriteTransaction, override: StoredOverride) -> None:
    """Adds a stand-in, which from then on counts before all that overlap it."""
    act.connection.execute(rota_overrides.insert().values(**asdict(override)))
