"""The spool: a process' own SQLite file, into which its rows are committed before anybody else sees them.

One thread writes it, in groups: what came while the last commit ran goes into the next. The owner holds a lock on
`<spool_id>.lock` for life; a spool whose lock can be had belongs to a dead process (see `flusher.py`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from workbench.errors import NewerWorkspace, StoreBusy, StoreError
from workbench.observability.forking import abandon
from workbench.observability.locks import FileLock

Mode = Literal["write", "durable"]
FORMAT = 1
_SYNCHRONOUS: dict[Mode, str] = {"write": "NORMAL", "durable": "FULL"}
_MOST_QUEUED_BYTES = 64 << 20
_MOST_GROUP_ROWS = 20_000
_DELETED_AT_ONCE = 5_000
_WAIT_S = 30.0


class Ticket:
    """The receipt of one append. The rows are committed when `wait` returns."""

    __slots__ = ("_done", "_fault", "is_awaited", "payload_bytes", "recorded_at", "rows")

    def __init__(self, rows: Sequence[tuple[str, bytes]], *, recorded_at: float, is_awaited: bool) -> None:
        self.rows = rows
        self.recorded_at = recorded_at
        self.is_awaited = is_awaited
        self.payload_bytes = sum(len(payload) for _, payload in rows)
        self._done = threading.Event()
        self._fault: StoreError | None = None

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout_s: float = _WAIT_S) -> None:
        """Return once the rows are committed.

        Raises:
            StoreError: they could not be written; none of them is stored.
            StoreBusy: no answer yet after `timeout_s` seconds; they may still be written.
        """
        self.is_awaited = True
        if not self._done.wait(timeout_s):
            raise StoreBusy("spool", seen=f"no commit within {timeout_s:g} s", next_step="check whether the disk answers")
        if self._fault is not None:
            raise self._fault

    def settle(self, fault: StoreError | None) -> None:
        self._fault = fault
        self.rows = ()
        self._done.set()


class Spool:
    """The owner's side. Made by `Spool.create`; a forked child must make its own."""

    def __init__(self, path: Path, lock: FileLock, connection: sqlite3.Connection, clock: Callable[[], datetime]) -> None:
        self.path = path
        self.spool_id = path.stem
        self._lock = lock
        self._connection = connection
        self._clock = clock
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._queue: deque[Ticket] = deque()
        self._queued_bytes = 0
        self._in_hand: list[Ticket] = []
        self._delete_to = 0
        self._is_closing = False
        self._dead: StoreError | None = None
        self._unseen: StoreError | None = None
        self._thread = threading.Thread(target=self._run, name=f"spool {self.spool_id}", daemon=True)
        self._thread.start()
        _SPOOLS.add(self)

    @classmethod
    def create(cls, folder: Path, *, clock: Callable[[], datetime], mode: Mode = "write") -> Spool:
        """A new spool of this process. Its id is random and never used again, so its sequence numbers stay unique.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise _unwritable(folder, fault) from fault
        while True:
            path = folder / f"{secrets.token_hex(8)}.sqlite"
            lock = FileLock(path.with_suffix(".lock"))
            if lock.try_acquire("spool owner"):
                break
        try:
            connection = _made(path, mode)
        except sqlite3.Error as fault:
            lock.remove()
            raise _unwritable(path, fault) from fault
        return cls(path, lock, connection, clock)

    @classmethod
    def reopen(cls, path: Path, *, clock: Callable[[], datetime], mode: Mode = "write") -> Spool:
        """An existing spool, taken over with its rows.

        Raises:
            StoreBusy: it has a living owner; names the process.
            StoreError: the file is missing or cannot be written.
            NewerWorkspace: a newer workbench wrote it.
        """
        lock = FileLock(path.with_suffix(".lock"))
        if not path.exists():
            raise StoreError(f"spool {path}", seen="no such file", next_step="let the workbench make a new one")
        if not lock.try_acquire("spool owner"):
            raise lock.busy("own this spool", 0)
        try:
            return cls(path, lock, _made(path, mode), clock)
        except sqlite3.Error as fault:
            lock.release()
            raise _unwritable(path, fault) from fault
        except NewerWorkspace:
            lock.release()
            raise

    def append(self, rows: Sequence[tuple[str, bytes]], *, is_awaited: bool = False) -> Ticket:
        """Queue rows (table name, payload) as one unit: all of them are committed or none.

        Waits while the queue is full. `is_awaited` says that the caller will `wait`; the failure of an append for which nobody
        waits is raised by the next append, or by `close`.

        Raises:
            StoreError: the spool is closed, its thread died, an earlier append failed unseen, or it is the parent's.
            StoreBusy: the queue stayed full.
        """
        ticket = Ticket(rows, recorded_at=self._clock().timestamp(), is_awaited=is_awaited)
        self._refuse_child()
        with self._changed:
            self._raise_unseen()
            if not self._changed.wait_for(lambda: self._queued_bytes < _MOST_QUEUED_BYTES or self._dead or self._is_closing, _WAIT_S):
                raise StoreBusy(
                    f"spool {self.path}", seen=f"its queue was full for {_WAIT_S:g} s", next_step="check whether the disk answers"
                )
            if self._dead is not None:
                raise self._dead
            if self._is_closing:
                raise StoreError(f"spool {self.path}", seen="it was closed", next_step="open the workspace again")
            self._queue.append(ticket)
            self._queued_bytes += ticket.payload_bytes
            self._changed.notify_all()
        return ticket

    def sync(self, timeout_s: float = _WAIT_S) -> None:
        """Return once everything appended before is committed or refused.

        Raises:
            StoreError: an append for which nobody waited failed.
        """
        self.append((), is_awaited=True).wait(timeout_s)
        with self._changed:
            self._raise_unseen()

    def delete_to(self, seq: int) -> None:
        """Let the thread delete the rows up to `seq`, in small transactions between commits. Numbers are never used again."""
        self._refuse_child()
        with self._changed:
            self._delete_to = max(self._delete_to, seq)
            self._changed.notify_all()

    def close(self, *, remove: bool = False) -> None:
        """Commit what is queued, end the thread and give the spool back; `remove` also deletes its files.

        Raises:
            StoreError: an append for which nobody waited failed.
        """
        self._refuse_child()
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()
        with contextlib.suppress(sqlite3.Error):  # its rows are committed; a checkpoint that fails loses nothing
            self._connection.close()
        if remove:
            remove_files(self.path)
            self._lock.remove()
        self._lock.release()
        with self._changed:
            self._raise_unseen()

    def _run(self) -> None:
        """The writer thread. Whatever ends it early becomes the error of everybody who waits."""
        is_finished = False
        try:
            while self._step():
                pass
            is_finished = True
        finally:
            with self._changed:
                if not is_finished:
                    self._dead = StoreError(f"spool {self.path}", seen="its writer thread died", next_step="restart this process")
                    self._unseen = self._dead
                for ticket in (*self._in_hand, *self._queue):
                    ticket.settle(self._dead)
                self._in_hand = []
                self._queue.clear()
                self._changed.notify_all()

    def _step(self) -> bool:
        """Commit one group and delete one chunk; False when the spool is closing and nothing is queued."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._delete_to or self._is_closing)
            if not self._queue and self._is_closing:
                return False
            group = self._take()
            delete_to = self._delete_to
        if group:
            self._settle(group, self._commit(group))
        elif delete_to and self._delete_chunk(delete_to) < _DELETED_AT_ONCE:
            with self._changed:
                if self._delete_to == delete_to:
                    self._delete_to = 0
        return True

    def _take(self) -> list[Ticket]:
        group: list[Ticket] = []
        n = 0
        while self._queue and n < _MOST_GROUP_ROWS:
            group.append(self._queue.popleft())
            n += len(group[-1].rows)
        self._in_hand = group
        return group

    def _commit(self, group: Sequence[Ticket]) -> StoreError | None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT INTO rows (recorded_at, log_table, payload) VALUES (?, ?, ?)",
                ((ticket.recorded_at, table, payload) for ticket in group for table, payload in ticket.rows),
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error as fault:
            self._roll_back()
            return _unwritable(self.path, fault)
        return None

    def _settle(self, group: Sequence[Ticket], fault: StoreError | None) -> None:
        with self._changed:
            self._in_hand = []
            self._queued_bytes -= sum(ticket.payload_bytes for ticket in group)
            if fault is not None and not all(ticket.is_awaited for ticket in group):
                self._unseen = fault
            for ticket in group:
                ticket.settle(fault)
            self._changed.notify_all()

    def _delete_chunk(self, to: int) -> int:
        """How many rows were deleted. Failure is no loss: the mark keeps them from being stored twice."""
        try:
            statement = "DELETE FROM rows WHERE seq IN (SELECT seq FROM rows WHERE seq <= ? ORDER BY seq LIMIT ?)"
            return self._connection.execute(statement, (to, _DELETED_AT_ONCE)).rowcount
        except sqlite3.Error:
            self._roll_back()
            return 0

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _raise_unseen(self) -> None:
        fault, self._unseen = self._unseen, None
        if fault is not None:
            raise fault

    @property
    def is_of_this_process(self) -> bool:
        return self._pid == os.getpid()

    def _refuse_child(self) -> None:
        if not self.is_of_this_process:
            raise StoreError(
                f"spool {self.path}", seen=f"it belongs to the parent process {self._pid}", needed="a spool of its own after a fork"
            )

    def _abandon_in_child(self) -> None:
        abandon(self._connection)
        abandon(self)


_SPOOLS: weakref.WeakSet[Spool] = weakref.WeakSet()


def _abandon_in_child() -> None:
    for spool in list(_SPOOLS):
        spool._abandon_in_child()  # noqa: SLF001 - the hook belongs to the class


os.register_at_fork(after_in_child=_abandon_in_child)


def remove_files(path: Path) -> None:
    """Remove a spool's database; the lock beside it is its holder's to remove."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _made(path: Path, mode: Mode) -> sqlite3.Connection:
    """A writing connection to the spool, its table made when it is new."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[mode]}")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        refuse_newer(found, path)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS rows (seq INTEGER PRIMARY KEY AUTOINCREMENT, recorded_at REAL NOT NULL, "
            "log_table TEXT NOT NULL, payload BLOB NOT NULL)"
        )
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_newer(found: int, path: Path) -> None:
    """Raise NewerWorkspace when the spool's format is beyond this workbench's."""
    if found > FORMAT:
        raise NewerWorkspace(f"spool {path}", seen=f"format {found}", needed=f"at most {FORMAT}", next_step="update the workbench")


def _unwritable(path: Path, fault: sqlite3.Error | OSError) -> StoreError:
    return StoreError(
        f"spool {path}",
        seen=f"could not be written: {fault}",
        needed="a writable folder with free space",
        next_step="free space on the disk, or choose another folder with WORKBENCH_HOME",
    )
