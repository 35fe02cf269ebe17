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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from workbench.errors import StoreBusy, StoreError
from workbench.ledger.forking import abandon, at_work, in_each_child
from workbench.observability.locks import FileLock, is_at
from workbench.observability.patience import Patience

Mode = Literal["write", "durable"]
FORMAT = 1
QUOTA_BYTES = 2 << 30
"""Of a spool on the disk, where nobody says otherwise."""
WAIT_S = 30.0
"""How long a thread waits for a place in the queue, or for its commit."""
_SYNCHRONOUS: dict[Mode, str] = {"write": "NORMAL", "durable": "FULL"}
_MOST_QUEUED_BYTES = 64 << 20
_MOST_GROUP_ROWS = 20_000
_MOST_ROWS_AT_ONCE = 64
_INSERT = "INSERT INTO rows (recorded_at, log_table, payload) VALUES "
_DELETED_AT_ONCE = 1_000
_MEASURED_EACH_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class _Append:
    """Rows that wait for their commit."""

    rows: Sequence[tuple[str, bytes]]
    recorded_at: float
    size: int
    """Bytes of payload."""
    committed: Future[None]


def wait_until_committed(committed: Future[None], timeout_s: float = WAIT_S) -> None:
    """Return once the rows of an append are committed.

    Raises:
        StoreError: they could not be written, and count as not stored.
        StoreBusy: no answer yet after `timeout_s` seconds; they may still be written.
    """
    patience = Patience(timeout_s)
    while True:
        try:
            return committed.result(patience.look_s)
        except TimeoutError as fault:
            if patience.is_over():
                raise StoreBusy("spool", seen=f"no commit within {timeout_s:g} s", next_step="check whether the disk answers") from fault


class Marks(NamedTuple):
    """How far the lake holds a source of rows, and the newest batch of the lake then.

    Marks are only ever added, each with its batch, so who knows how it stood reads those behind: a gateway leaves one every second, and
    the lake of a year has tens of millions.
    """

    to_seq: int = 0
    """The last number stored from the source; 0 when there is none."""
    newest: int = 0
    """0 before the first batch."""


UNREAD = Marks()
"""Before anything is known."""


class Spool:
    """The owner's side. Made by `Spool.create`; a forked child must make its own."""

    def __init__(
        self, path: Path, lock: FileLock, connection: sqlite3.Connection, clock: Callable[[], datetime], *, quota_bytes: int
    ) -> None:
        self.path = path
        self.spool_id = path.stem
        self.flushed = UNREAD
        """How far the lake holds it, as far as this process was told."""
        self._lock = lock
        self._file = path.stat()
        self._connection = connection
        self._clock = clock
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._queue: deque[_Append] = deque()
        self._queued_bytes = 0
        self._in_hand: list[_Append] = []
        self._delete_to = 0
        self._quota_bytes = quota_bytes
        self._used_bytes = 0
        self._unmeasured_bytes = 0
        self._is_full = False
        self._is_closing = False
        self._is_dead = False
        self._thread = threading.Thread(target=self._run, name=f"spool {self.spool_id}", daemon=True)
        self._thread.start()
        in_each_child(self, Spool._abandon_in_child)

    @classmethod
    def create(cls, folder: Path, *, clock: Callable[[], datetime], mode: Mode = "write", quota_bytes: int = QUOTA_BYTES) -> Spool:
        """A new spool of this process. Its id is random and never used again, so its sequence numbers stay unique.

        Args:
            folder: where it lies.
            clock: when a row is recorded.
            mode: what a commit survives.
            quota_bytes: what the rows may take on the disk; beyond it nothing is taken until the lake has some of them. SQLite itself
                refuses to grow the file; its write-ahead file comes on top, usually 4 MB and shortened to 16 MB.

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
            with at_work():
                connection = _made(path, mode, quota_bytes)
        except sqlite3.Error as fault:
            lock.remove()
            raise _unwritable(path, fault) from fault
        return cls(path, lock, connection, clock, quota_bytes=quota_bytes)

    @property
    def pressure(self) -> float:
        """How full it is, 0 to 1: of its quota on the disk, or of its queue, whichever is nearer to its end; 1 on a full disk."""
        if self._is_full:
            return 1.0
        return min(1.0, max(self._used_bytes / self._quota_bytes, self._queued_bytes / _MOST_QUEUED_BYTES))

    def append(self, rows: Sequence[tuple[str, bytes]], *, wait_s: float = 0.0) -> Future[None]:
        """Queue rows (table name, payload) as one unit: all of them are committed or none.

        The future is done when they are committed, or holds the StoreError that kept them out. It cannot be cancelled: what is
        queued is written. Its callbacks run in the writer thread.

        Args:
            wait_s: how long to wait for a place while the queue is full; 0 for a caller that must not block.

        Raises:
            StoreBusy: the queue is full; nothing was queued.
            StoreError: the spool is closed, its thread died, or it is the parent's; nothing was queued.
        """
        self._refuse_child()
        size = sum(len(payload) for _, payload in rows)
        waiting = _Append(rows=rows, recorded_at=self._clock().timestamp(), size=size, committed=Future())
        waiting.committed.set_running_or_notify_cancel()  # from here on nobody can cancel it
        with self._changed:
            self._wait_for_a_place(Patience(wait_s))
            if self._is_dead:
                raise self._died()
            if self._is_closing:
                raise StoreError(f"spool {self.path}", seen="it was closed", next_step="open the workspace again")
            self._queue.append(waiting)
            self._queued_bytes += waiting.size
            self._changed.notify_all()
        return waiting.committed

    def _wait_for_a_place(self, patience: Patience) -> None:
        """Return once the queue has room, or takes nothing any more. The caller holds the mutex."""
        while not self._changed.wait_for(
            lambda: self._queued_bytes < _MOST_QUEUED_BYTES or self._is_dead or self._is_closing, patience.look_s
        ):
            if patience.is_over():
                raise StoreBusy(
                    f"spool {self.path}",
                    seen=f"{self._queued_bytes >> 20} MB wait to be written",
                    needed=f"less than {_MOST_QUEUED_BYTES >> 20} MB",
                    next_step="send less at once, or check whether the disk answers",
                )

    def sync(self) -> None:
        """Return once everything appended before is committed or refused."""
        wait_until_committed(self.append((), wait_s=WAIT_S))

    def delete_to(self, marks: Marks) -> None:
        """Let the thread delete the rows that the lake holds, in small steps. Numbers are never used again."""
        self._refuse_child()
        with self._changed:
            self.flushed = max(self.flushed, marks)
            self._delete_to = self.flushed.to_seq
            self._changed.notify_all()

    def end(self) -> None:
        """Commit what is queued and take nothing more. The rows can still be read, and the spool stays this process' own."""
        self._refuse_child()
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def close(self, *, remove: bool = False) -> None:
        """End the spool and give it back; `remove` also deletes its files."""
        self.end()
        with contextlib.suppress(sqlite3.Error):  # its rows are committed; a checkpoint that fails loses nothing
            self._connection.close()
        try:
            if remove:
                remove_files(self.path)
                self._lock.remove()
        finally:
            self._lock.release()

    def _run(self) -> None:
        """The writer thread. Whatever ends it early becomes the error of everybody who waits."""
        try:
            while self._step():
                pass
        except BaseException:
            with self._changed:
                self._is_dead = True
                abandoned = [*self._in_hand, *self._queue]
                self._queue.clear()
                self._changed.notify_all()
            for waiting in abandoned:
                if not waiting.committed.done():
                    waiting.committed.set_exception(self._died())
            raise

    def _step(self) -> bool:
        """Commit one group and delete one chunk; False when the spool is closing and nothing is queued."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._delete_to or self._is_closing)
            if not self._queue and self._is_closing:
                return False
            self._take()
            delete_to = self._delete_to
        if self._in_hand:
            fault = self._commit(self._in_hand)
            self._measure(fault)
            self._settle(fault)
        if delete_to and self._delete_chunk(delete_to) < _DELETED_AT_ONCE:
            with self._changed:
                if self._delete_to == delete_to:
                    self._delete_to = 0
        return True

    def _take(self) -> None:
        n = 0
        while self._queue and n < _MOST_GROUP_ROWS:
            self._in_hand.append(self._queue.popleft())
            n += len(self._in_hand[-1].rows)

    def _commit(self, group: Sequence[_Append]) -> StoreError | None:
        try:
            with at_work():
                self._connection.execute("BEGIN IMMEDIATE")
                for statement, values in _inserts([(waiting.recorded_at, *row) for waiting in group for row in waiting.rows]):
                    self._connection.execute(statement, values)
                self._connection.execute("COMMIT")
        except sqlite3.Error as fault:
            self._roll_back()
            self._is_full = getattr(fault, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            return _unwritable(self.path, fault, quota_bytes=self._quota_bytes)
        self._is_full = False
        return None if self._is_in_place() else self._taken_away()

    def _settle(self, fault: StoreError | None) -> None:
        """Tell everybody in the group. Outside the mutex, because callbacks may append again."""
        with self._changed:
            self._queued_bytes -= sum(waiting.size for waiting in self._in_hand)
            self._changed.notify_all()
        for waiting in self._in_hand:
            if fault is None:
                waiting.committed.set_result(None)
            else:
                waiting.committed.set_exception(fault)
        self._in_hand = []

    def _is_in_place(self) -> bool:
        """Whether others still find the spool and its lock.

        Without the lock file an adopter takes a living owner for dead and removes the spool; SQLite would go on writing into it.
        """
        return self._lock.is_in_place and is_at(self._file, self.path)

    def _taken_away(self) -> StoreError:
        return StoreError(
            f"spool {self.path}",
            seen="it or its lock file was removed or replaced while it was in use",
            needed="files that nobody touches while their process lives",
            next_step="restart this process",
        )

    def _delete_chunk(self, to: int) -> int:
        """How many rows were deleted. Failure is no loss: the mark keeps them from being stored twice."""
        try:
            statement = "DELETE FROM rows WHERE seq IN (SELECT seq FROM rows WHERE seq <= ? ORDER BY seq LIMIT ?)"
            with at_work():
                n = self._connection.execute(statement, (to, _DELETED_AT_ONCE)).rowcount
                self._used_bytes, self._is_full = _used_bytes(self._connection), False
                return n
        except sqlite3.Error:
            self._roll_back()
            return 0

    def _measure(self, fault: StoreError | None) -> None:
        """Look at the file's size again after a failure, or when it has grown by so much that it shows."""
        self._unmeasured_bytes += sum(waiting.size for waiting in self._in_hand)
        if fault is not None or self._unmeasured_bytes >= min(_MEASURED_EACH_BYTES, self._quota_bytes // 16):
            self._unmeasured_bytes = 0
            with contextlib.suppress(sqlite3.Error), at_work():
                self._used_bytes = _used_bytes(self._connection)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _died(self) -> StoreError:
        return StoreError(f"spool {self.path}", seen="its writer thread died", next_step="restart this process")

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


def _inserts(rows: Sequence[tuple[float, str, bytes]]) -> Iterator[tuple[str, list[object]]]:
    """Statements that insert the rows, with their values: few and large ones, each of a length that SQLite has compiled already.

    A statement for each row would give Python's lock away, and fight for it again, as many times.
    """
    at = 0
    while at < len(rows):
        n = min(_MOST_ROWS_AT_ONCE, 1 << (len(rows) - at).bit_length() - 1)
        yield _INSERT + ", ".join(["(?, ?, ?)"] * n), [value for row in rows[at : at + n] for value in row]
        at += n


def remove_files(path: Path) -> None:
    """Remove a spool's database; the lock beside it is its holder's to remove."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _used_bytes(connection: sqlite3.Connection) -> int:
    """What the rows take of the file. Pages of deleted rows stay in it and are used again."""
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)


def _made(path: Path, mode: Mode, quota_bytes: int) -> sqlite3.Connection:
    """A writing connection to a new spool."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[mode]}")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        connection.execute(f"PRAGMA max_page_count = {quota_bytes // connection.execute('PRAGMA page_size').fetchone()[0]}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE rows (seq INTEGER PRIMARY KEY AUTOINCREMENT, recorded_at REAL NOT NULL, "
            "log_table TEXT NOT NULL, payload BLOB NOT NULL)"
        )
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _unwritable(path: Path, fault: sqlite3.Error | OSError, *, quota_bytes: int = 0) -> StoreError:
    if quota_bytes and getattr(fault, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StoreError(
            f"spool {path}",
            seen=f"full: its quota of {quota_bytes >> 20} MB is used, or the disk has no space left",
            needed="a lake that takes its rows, or more space",
            next_step="see with `workbench doctor` why the rows wait; free space on the disk, or set a larger WORKBENCH_SPOOL_QUOTA",
        )
    return StoreError(
        f"spool {path}",
        seen=f"could not be written: {fault}",
        needed="a writable folder with free space",
        next_step="free space on the disk, or choose another folder with WORKBENCH_HOME",
    )
