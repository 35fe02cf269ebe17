"""Connections to the ledger's database, with the settings that make its promises true."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from workbench.errors import StoreError
from workbench.ledger.faults import BUSY_S

WRITES = "workbench_writes"
"""Execution option of a connection whose transaction writes."""
_READ_ONLY_FAULTS = ("SQLITE_CANTOPEN", "SQLITE_READONLY")


class SqliteConnection(sqlite3.Connection):
    """A connection that knows whether it reads a file that nobody can change."""

    is_frozen = False


def parse_url(url: str) -> URL:
    """The database's address, checked.

    Raises:
        StoreError: when it is neither `sqlite:///…` nor `postgresql://…`, or PostgreSQL's driver is not installed.
    """
    allowed = "sqlite:////absolute/path/ledger.sqlite or postgresql://user@host/database"
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise StoreError("ledger", seen="its address cannot be read", needed=allowed, next_step="correct WORKBENCH_LEDGER") from error
    kind = address.get_backend_name()
    if kind == "sqlite" and address.database and address.database != ":memory:":
        return address.set(drivername="sqlite+pysqlite")
    if kind in ("postgresql", "postgres"):
        if importlib.util.find_spec("psycopg") is None:
            raise StoreError(
                f"ledger {shown(address)}",
                seen="PostgreSQL's driver psycopg is not installed",
                next_step="pip install 'readiness-workbench[shared]'",
            )
        return address.set(drivername="postgresql+psycopg")
    raise StoreError(f"ledger {shown(address)}", seen=f"{kind} with database {address.database!r}", needed=allowed)


def shown(address: URL) -> str:
    """The address as messages show it: a path, or a URL without its password."""
    if address.get_backend_name() == "sqlite":
        return str(address.database)
    return address.set(drivername="postgresql", query={}).render_as_string(hide_password=True)


def engine_for(address: URL) -> Engine:
    """An engine on SQLite (one writer at a time, taken at BEGIN) or PostgreSQL. Nothing is opened yet."""
    return _sqlite_engine(Path(str(address.database))) if address.get_backend_name() == "sqlite" else _postgres_engine(address)


def _sqlite_engine(path: Path) -> Engine:
    engine = create_engine("sqlite+pysqlite://", creator=lambda: connect_sqlite(path), poolclass=QueuePool, pool_size=5, max_overflow=20)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "checkin", _forget_frozen)
    return engine


def connect_sqlite(path: Path) -> SqliteConnection:
    """An open connection. A file in WAL mode on a read-only disk is read as frozen, if no unmerged writes lie beside it.

    Raises:
        StoreError: when writes lie beside a file that cannot be merged with them.
    """
    connection = _open(path, "rwc")
    try:
        _set_up(connection)
    except sqlite3.OperationalError as error:
        connection.close()
        is_file = os.path.isfile(path)  # noqa: PTH113 -- Path.is_file raises where the folder may not be entered
        if not is_file or not str(error.sqlite_errorname).startswith(_READ_ONLY_FAULTS):
            raise
        return _open_frozen(path)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _open_frozen(path: Path) -> SqliteConnection:
    beside = path.with_name(path.name + "-wal")
    if beside.exists() and beside.stat().st_size:
        raise StoreError(
            f"ledger {path}",
            seen=f"it lies on a read-only disk, and {beside.name} beside it holds writes that are not merged",
            next_step="copy the folder to a writable disk and open it there",
        )
    if not os.access(path, os.R_OK):
        raise StoreError(f"ledger {path}", seen="this user may not read it", next_step="give this user the right to read the file")
    connection = _open(path, "ro&immutable=1")
    _set_up(connection)
    connection.is_frozen = True
    return connection


def _open(path: Path, mode: str) -> SqliteConnection:
    """A connection in the driver's autocommit, so that only our own BEGIN opens a transaction."""
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        factory=SqliteConnection,
    )


def _set_up(connection: SqliteConnection) -> None:
    """Settings of every connection. They read the file, so they also tell at once whether it can be read."""
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")  # what is erased is overwritten, not only unlinked
    connection.execute("PRAGMA schema_version").fetchone()


def _begin(connection: Connection) -> None:
    """Takes the write lock at once for a transaction that writes; holds every other to reading."""
    writes = bool(connection.get_execution_options().get(WRITES))
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _forget_frozen(connection: Any, record: Any) -> None:
    """A frozen file is opened anew for each transaction, because another user may have changed it."""
    if connection is not None and connection.is_frozen:
        record.invalidate()


def _postgres_engine(address: URL) -> Engine:
    milliseconds = round(BUSY_S * 1000)
    limits = f"-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout={2 * milliseconds}"
    given = address.query.get("options", "")
    return create_engine(
        address,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=20,
        connect_args={"connect_timeout": 10, "options": f"{given} {limits}".strip(), "application_name": "readiness-workbench"},
    )
