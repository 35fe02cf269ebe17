"""The locks of a lake whose catalogue is on PostgreSQL: they hold over hosts, where a lock file cannot."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING

from workbench.errors import StoreBusy, StoreError
from workbench.ledger.forking import abandon
from workbench.observability.engine import without_password

if TYPE_CHECKING:
    import psycopg

WRITER = 0x6C616B65_77726974
KEEPER = 0x6C616B65_6B656570
"""The advisory locks of a catalogue's database: of whoever writes the lake, and of whoever does its upkeep."""
_KEEPALIVE = "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000"
"""So that the server drops the lock of a host that vanished after half a minute; by itself it waits a quarter of an hour to two hours."""


class ServerLock:
    """A session advisory lock. The session is kept between writes; the server drops the lock when it ends."""

    def __init__(self, target: str, *, key: int = WRITER) -> None:
        self._target = target
        self._key = key
        self._what = "writer" if key == WRITER else "upkeep"
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._pid = os.getpid()

    def acquire(self, *, what: str, wait_s: float) -> None:
        """Take the lock, waiting for it.

        Raises:
            StoreBusy: another session held it for `wait_s` seconds.
            StoreError: the server does not answer, or its driver is not installed.
        """
        psycopg = driver()
        try:
            connection = self._session()
            connection.execute(f"SET lock_timeout = {max(1, int(wait_s * 1000))}")
            connection.execute(f"SELECT pg_advisory_lock({self._key})")
        except psycopg.errors.LockNotAvailable as fault:
            raise StoreBusy(
                f"lake {self._what} lock on PostgreSQL",
                seen=f"held by {self._holder()} for more than {wait_s:g} s",
                needed=f"the lock, to {what}",
                next_step="run it again when that session is done",
            ) from fault
        except psycopg.Error as fault:
            self.close()
            raise _unreachable(fault, what) from fault
        except BaseException:
            self.close()  # interrupted, perhaps with the lock in hand
            raise

    def check(self, what: str) -> None:
        """Make sure that the session which holds the lock still lives: called just before a COMMIT.

        Raises:
            StoreError: it does not, so somebody else may hold the lock.
        """
        psycopg = driver()
        try:
            if self._connection is None:
                raise psycopg.OperationalError("the session of the lock has ended")
            self._connection.execute("SELECT 1")
        except psycopg.Error as fault:
            self.close()
            raise _unreachable(fault, what) from fault

    def release(self) -> None:
        psycopg = driver()
        if self._connection is None:
            return
        try:
            self._connection.execute(f"SELECT pg_advisory_unlock({self._key})")
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        """End the session, and with it the lock."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()

    def forget(self) -> None:
        """Let go of the parent's session in a forked child, without a word to the server."""
        if self._connection is not None:
            abandon(self._connection)
            self._connection = None

    def _session(self) -> psycopg.Connection[tuple[object, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = driver().connect(
                self._target, autocommit=True, application_name=f"workbench {self._what} {os.getpid()}", connect_timeout=10
            )
            self._pid = os.getpid()
            self._connection.execute(_KEEPALIVE)
        return self._connection

    def _holder(self) -> str:
        query = (
            "SELECT a.application_name, coalesce(host(a.client_addr), 'this host') FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            f"WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {self._key >> 32} AND l.objid = {self._key & 0xFFFFFFFF}"
        )
        try:
            row = self._session().execute(query).fetchone()
        except driver().Error:
            row = None
        return f"{row[0]} on {row[1]}" if row else "another session"


def driver() -> ModuleType:
    """The psycopg module, imported when PostgreSQL is used."""
    try:
        import psycopg  # noqa: PLC0415
    except ImportError as fault:
        raise StoreError(
            "PostgreSQL driver", seen="psycopg is not installed", next_step="pip install 'readiness-workbench[shared]'"
        ) from fault
    return psycopg


def _unreachable(fault: Exception, what: str) -> StoreError:
    return StoreError(
        "lake writer lock on PostgreSQL",
        seen=f"could not {what}: {without_password(str(fault)).strip()}",
        needed="a PostgreSQL server that answers",
        next_step="start it, or correct WORKBENCH_CATALOG",
    )
