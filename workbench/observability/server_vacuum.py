"""A lake's catalogue on PostgreSQL, rewritten, so that nothing of deleted rows is left in its tables' files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from workbench.errors import StoreError
from workbench.observability.engine import without_password
from workbench.observability.server_lock import driver

if TYPE_CHECKING:
    import psycopg

_WAIT_S = 5.0
"""For the transactions of readers, which are short; longer ones do not have to queue behind this."""


def vacuum(target: str) -> bool:
    """Whether every table of the catalogue was rewritten without its deleted rows; False when readers kept one of them in use.

    Args:
        target: a connection string.

    Raises:
        StoreError: the server does not answer, or refuses.
    """
    psycopg = driver()
    try:
        with psycopg.connect(target, autocommit=True, application_name="workbench erasure", connect_timeout=10) as connection:
            connection.execute(f"SET lock_timeout = {int(_WAIT_S * 1000)}")
            if not _are_others_done(connection):
                return False
            tables = connection.execute("SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'ducklake\\_%'").fetchall()
            for schema, table in tables:
                connection.execute(psycopg.sql.SQL("VACUUM FULL {}").format(psycopg.sql.Identifier(schema, table)))
            return True
    except psycopg.errors.LockNotAvailable:
        return False
    except psycopg.Error as fault:
        raise StoreError(
            "lake catalogue on PostgreSQL",
            seen=f"could not be rewritten: {without_password(str(fault)).strip()}",
            needed="a server that answers, and a user that owns the catalogue's tables",
            next_step="run it again",
        ) from fault


def _are_others_done(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Whether every transaction that is open now ends in time: rows that one of them may still see would be copied along."""
    (now,) = connection.execute("SELECT now()").fetchone() or (None,)
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start <= %s LIMIT 1"
    deadline = time.monotonic() + _WAIT_S
    while connection.execute(others, (now,)).fetchone() is not None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
