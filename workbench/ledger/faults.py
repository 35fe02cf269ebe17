"""What a database says when it cannot do its work, in words for the person who meets it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from workbench.errors import ConflictError, StoreBusy, StoreError, WorkbenchError

BUSY_S = 30.0
"""How long a transaction waits for another process' lock."""

_NOTHING_STORED = "nothing of this act was stored"
_SQLITE = {
    "SQLITE_READONLY": (
        "it cannot be written: the disk, the folder or the file is read-only",
        "make the folder and its files writable; reading still works",
    ),
    "SQLITE_FULL": (f"the disk is full; {_NOTHING_STORED}", "free space on that disk and repeat the act"),
    "SQLITE_IOERR": (
        f"the disk refused to read or write; {_NOTHING_STORED}",
        "look at free space, quota and the disk's health, then repeat the act",
    ),
    "SQLITE_CANTOPEN": ("it cannot be opened", "the folder must exist, and this user must be allowed to read and write in it"),
    "SQLITE_PERM": ("this user may not open it", "give this user the right to read and write the file and its folder"),
    "SQLITE_NOTADB": ("the file is not a SQLite database", "name the right file, or restore it from a backup and keep the damaged one"),
    "SQLITE_CORRUPT": ("the file is damaged", "stop all writers, keep the file, and restore a backup"),
}
_BUSY_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")
_POSTGRES = {
    "53100": ("the database server's disk is full", "free space on the server and repeat the act"),
    "25006": ("the database server is read-only", "connect to the primary server"),
    "42501": ("this database user may not do that", "grant the user all rights on the schema"),
    "3D000": ("the database does not exist", "create it, then repeat"),
    "28P01": ("the password was refused", "correct the URL or PGPASSWORD"),
}
_BUSY_POSTGRES = ("40001", "40P01", "55P03", "57014", "25P03")
_UNIQUE = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "23505")


@contextmanager
def told_by(place: str) -> Iterator[None]:
    """Turns a database's errors in the block into the workbench's.

    Args:
        place: the file's path, or the URL without its password.

    Raises:
        StoreBusy: when a lock was not had in time.
        StoreError: when the store is read-only, full, damaged, out of reach.
        ConflictError: when a row with that key exists already.
    """
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreBusy(f"ledger {place}", seen="all its connections are in use", next_step="close what holds them, or wait") from error
    except exc.DBAPIError as error:
        told = explain(error, place)
        if told is None:
            raise
        raise told from error


def explain(error: exc.DBAPIError, place: str) -> WorkbenchError | None:
    """The workbench's error for a database's, or None when it shows a mistake in our own code."""
    code = str(getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None) or "")
    subject = f"ledger {place}"
    if code.startswith(_BUSY_SQLITE) or code in _BUSY_POSTGRES:
        return StoreBusy(
            subject,
            seen=f"another process held its lock for too long; {_NOTHING_STORED}",
            next_step="repeat the act; look for a stopped process that holds it",
        )
    if code in _UNIQUE:
        return ConflictError(subject, seen=f"such a row exists already ({error.orig})", next_step="read it again; somebody was first")
    known = next((words for prefix, words in {**_SQLITE, **_POSTGRES}.items() if code.startswith(prefix)), None)
    if known:
        return StoreError(subject, seen=f"{known[0]} ({code})", next_step=known[1])
    if isinstance(error, exc.OperationalError):
        return StoreError(subject, seen=str(error.orig).strip(), next_step="check that the store can be reached and is healthy")
    return None
