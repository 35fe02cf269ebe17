"""The rows under the routes: which bundle serves which share of an app's units. `controls` gives them their meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from workbench.errors import ConflictError
from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import routes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRoute:
    """A row of `routes`."""

    app: str
    stable: str | None
    candidate: str | None
    share: float
    salt: str
    release_id: str | None
    without_stable: str
    version: int
    changed_at: datetime
    shadow: str | None = None
    shadow_share: float = 0.0
    drains: bool = False
    retiring: str | None = None


def stored_routes(connection: Connection) -> tuple[StoredRoute, ...]:
    """The routes of all apps, by name."""
    return tuple(StoredRoute(**row) for row in connection.execute(select(routes).order_by(routes.c.app)).mappings())


def stored_route(connection: Connection, app: str) -> StoredRoute | None:
    """The route of one app; None before its first release."""
    row = connection.execute(select(routes).where(routes.c.app == app)).mappings().one_or_none()
    return StoredRoute(**row) if row else None


def add_route(act: WriteTransaction, route: StoredRoute) -> None:
    """The first route of an app.

    Raises:
        ConflictError: there is one already.
    """
    if stored_route(act.connection, route.app) is not None:
        raise ConflictError(f"route of {route.app}", seen="somebody made it first", needed="none", next_step="read it, then decide again")
    act.connection.execute(routes.insert().values(**asdict(route)))


def change_route(act: WriteTransaction, seen: StoredRoute, *, at: datetime, values: Mapping[str, Any]) -> None:
    """Changes a route, if it is still the one that was seen; its version grows by one.

    Raises:
        ConflictError: somebody else changed it first.
    """
    act.transition(routes, key={"app": seen.app}, expected_version=seen.version, values={**values, "changed_at": at})
