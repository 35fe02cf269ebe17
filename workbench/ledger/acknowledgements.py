"""The rows by which serving processes say which route version they serve by. `controls` writes them, `release` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import acknowledgements


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """A row of `acknowledgements`."""

    gateway: str
    app: str
    route_version: int
    heard_at: datetime


def acknowledgements_of(connection: Connection, app: str) -> tuple[Acknowledgement, ...]:
    """What every process last said of the app's route, by the process's name."""
    query = select(acknowledgements).where(acknowledgements.c.app == app).order_by(acknowledgements.c.gateway)
    return tuple(Acknowledgement(**row) for row in connection.execute(query).mappings())


def acknowledge(act: WriteTransaction, gateway: str, versions: Mapping[str, int], *, at: datetime, silent_since: datetime) -> None:
    """Stores what a process serves by, in place of what it said before. Processes that were last heard of before a time are forgotten.

    Args:
        act: the transaction.
        gateway: the process.
        versions: app to route version; all that it serves.
        at: the present.
        silent_since: that time.
    """
    forget_gateway(act, gateway)
    act.connection.execute(acknowledgements.delete().where(acknowledgements.c.heard_at < silent_since))
    rows = [{"gateway": gateway, "app": app, "route_version": version, "heard_at": at} for app, version in versions.items()]
    if rows:
        act.connection.execute(acknowledgements.insert(), rows)


def forget_gateway(act: WriteTransaction, gateway: str) -> None:
    """Takes away what a process said, because it serves nobody any more."""
    act.connection.execute(acknowledgements.delete().where(acknowledgements.c.gateway == gateway))
