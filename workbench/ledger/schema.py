"""The ledger's shape on disk: which revision it has, and how it is brought up to the one this version needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, Engine, inspect, text

from workbench.errors import NewerWorkspace, StoreError
from workbench.ledger.engines import WRITES
from workbench.ledger.faults import BUSY_S

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""Every revision this version knows, oldest first; a test holds it equal to the files in `migrations/versions`."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 7_305_011_802_016_338_001
"""Names the migration of a ledger among PostgreSQL's advisory locks."""


class Shape(NamedTuple):
    """What was found in a database."""

    revision: str | None
    is_empty: bool


def bring_up_to_date(engine: Engine, place: str) -> None:
    """Creates or migrates the ledger, once, however many processes come at the same time.

    Raises:
        NewerWorkspace: when its revision is not one of ours.
        StoreError: when the database holds something else.
    """
    with engine.connect() as connection, connection.begin():
        if _is_current(_shape(connection), place):
            return
    if engine.dialect.name == "sqlite":
        _use_write_ahead_log(engine, place)
    with engine.connect() as connection:
        connection.execution_options(**{WRITES: True})
        with connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            if not _is_current(_shape(connection), place):
                _migrate(connection)


def _shape(connection: Connection) -> Shape:
    names = inspect(connection).get_table_names()
    if "alembic_version" not in names:
        return Shape(revision=None, is_empty=not names)
    return Shape(revision=connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar(), is_empty=False)


def _is_current(shape: Shape, place: str) -> bool:
    """Whether nothing is left to do; raises for what this version must not touch."""
    if shape.revision is None and not shape.is_empty:
        raise StoreError(
            f"ledger {place}",
            seen="it holds tables of something else",
            needed="an empty database or a ledger",
            next_step="name another file or database",
        )
    if shape.revision is not None and shape.revision not in REVISIONS:
        raise NewerWorkspace(
            f"ledger {place}",
            seen=f"its revision is {shape.revision}",
            needed=f"{REVISIONS[-1]}, the newest this version of the workbench knows",
            next_step="upgrade with: pip install --upgrade readiness-workbench",
        )
    return shape.revision == REVISIONS[-1]


def _use_write_ahead_log(engine: Engine, place: str) -> None:
    """Switches the file to WAL for good. SQLite does not wait for the lock that this takes, so it is asked again."""
    deadline = time.monotonic() + BUSY_S
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        while True:
            try:
                cursor.execute("PRAGMA query_only=OFF")
                mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            except engine.dialect.loaded_dbapi.OperationalError as error:
                if not str(error.sqlite_errorname).startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                break
        if mode != "wal":
            seen = f"its file system allows only journal mode {mode}"
            raise StoreError(
                f"ledger {place}", seen=seen, needed="a local disk that several processes can share", next_step="move the workspace there"
            )
    finally:
        raw.close()


def scrub(engine: Engine, tables: Sequence[str]) -> bool:
    """Whether nothing of deleted rows is left in the ledger's own files; False when somebody had them in use all the time.

    Args:
        engine: the ledger's.
        tables: where rows were deleted.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            for table in tables:
                connection.execute(text(f'VACUUM FULL "{table}"'))
        return True
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute("PRAGMA query_only=OFF")
        cursor.execute("VACUUM")
        return not cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        raw.close()


def _migrate(connection: Connection) -> None:
    """Runs the missing revisions inside the connection's transaction. Alembic is only loaded when there is work."""
    from alembic import command  # noqa: PLC0415 -- slow to import, rarely needed
    from alembic.config import Config  # noqa: PLC0415 -- the same

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
