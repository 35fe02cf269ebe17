"""The log lake: one DuckDB instance per process, short read transactions, and one writer at a time."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import duckdb

from workbench.errors import StoreBusy, StoreError
from workbench.ledger.forking import abandon, at_work, in_each_child
from workbench.observability import engine, schema, stored_files
from workbench.observability.locks import FileLock
from workbench.observability.patience import Patience
from workbench.observability.reshaping import is_reshaped_since, newest_snapshot
from workbench.observability.server_lock import KEEPER, ServerLock
from workbench.observability.stored_files import Damage, FilesReport
from workbench.observability.syncing import sync_file_system
from workbench.observability.tables import SCHEMA_VERSION

T = TypeVar("T")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
_FREE_READS = 2
"""How often a read is tried beside upkeep, before it has upkeep wait for it."""
_UPKEEP_S = 300.0
"""How long such a read waits for the step that upkeep is in."""


class _Disturbed(Exception):
    """Upkeep changed what the catalogue says of the snapshot that was read."""


class Lake:
    """Handle of the lake in this process. Threads share it; a forked child starts with a new instance.

    Read and write hand out a cursor of their own each time, with the lake attached as `lake` and the time zone UTC.
    """

    def __init__(self, address: engine.LakeAddress, lock: Path, *, lock_wait_s: float) -> None:
        self._address = address
        self._lock_path = lock
        self._lock_wait_s = lock_wait_s
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._empty: duckdb.DuckDBPyConnection | None = None
        self._is_writable = False
        self._is_closed = False
        self._reshape_path = lock.with_name("reshape.lock")
        self._is_seen_at_once = address.kind == "sqlite"
        self._start_locks()
        in_each_child(self, Lake._start_anew_in_child)

    @classmethod
    def open(
        cls,
        *,
        catalog: str,
        data: str,
        lock: Path,
        lock_wait_s: float = 30.0,
        environment: Mapping[str, str] = os.environ,
        memory: int = engine.MEMORY,
    ) -> Lake:
        """The lake at that address; nothing is opened or made before the first read or write.

        Args:
            catalog: `sqlite:/path/catalog.sqlite` or `postgres:<connection string>`.
            data: folder (or `s3://` prefix) of the Parquet files.
            lock: the writers' lock file, the same for all processes of this machine.
            lock_wait_s: how long a write waits for other writers before it gives up.
            environment: says how an object store is reached (`AWS_…`, see `object_store`).
            memory: bytes that DuckDB may take in this process.

        Raises:
            UsageError: one of them makes no sense.
        """
        address = engine.LakeAddress.parse(
            catalog=catalog, data=data, scratch=lock.parent / "scratch", environment=environment, memory=memory
        )
        return cls(address, lock, lock_wait_s=lock_wait_s)

    @property
    def address(self) -> engine.LakeAddress:
        """Where it is."""
        return self._address

    def snapshot(self) -> int | None:
        """The newest snapshot's number; None when nothing was ever written."""
        return self.look(lambda _connection, snapshot: snapshot)

    def read(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """What `work` returns, from one read transaction: all its queries see the same snapshot.

        `work` runs again when a file of its snapshot was cleaned away meanwhile, or upkeep changed what is recorded of that
        snapshot; so it changes nothing but its own values. Before the first write the tables are there and empty.

        Raises:
            NewerWorkspace: a newer workbench wrote the lake.
            StoreBusy: upkeep is in one step for minutes.
            StoreError: the lake cannot be read.
        """
        return self.look(lambda connection, _snapshot: work(connection))

    def look(self, work: Callable[[duckdb.DuckDBPyConnection, int | None], T]) -> T:
        """As `read`; `work` is told which snapshot its queries see, None before the first write."""
        for _ in range(_FREE_READS):
            with contextlib.suppress(_Disturbed):
                return self._read_beside_upkeep(work)
        with self._upkeep_waiting():
            return self._read_beside_upkeep(work)

    @property
    def memory(self) -> int:
        """Bytes that DuckDB may take in this process."""
        return engine.memory_limit(self._address.memory)

    def files(self) -> FilesReport | None:
        """Whether the files of the newest snapshot are there, and end as they were written; None before the first write.

        Raises:
            StoreError: the lake cannot be read, or this user may not look at its files.
        """

        def work(connection: duckdb.DuckDBPyConnection, snapshot: int | None) -> FilesReport | None:
            if snapshot is None:
                return None
            return stored_files.look(connection, snapshot, self._address.data, is_folder=self._address.objects is None)

        return self.look(work)

    def write(self, work: Callable[[duckdb.DuckDBPyConnection], T], *, what: str) -> T:
        """What `work` returns, once its transaction is committed under the writers' lock.

        `work` is repeated from the start after a conflict, and the try before may have been committed although it
        failed: it has to re-read what is stored (the mark) before it inserts. It stages nothing and waits for nothing.

        Raises:
            StoreBusy: the lock could not be had, or every try met a conflict.
            NewerWorkspace: a newer workbench wrote the lake.
            StoreError: the lake cannot be written. Nothing was stored, unless the connection to a server broke while it committed.
        """
        (result,) = self.write_in_turn((work,), what=what)
        return result

    def write_in_turn(self, works: Sequence[Callable[[duckdb.DuckDBPyConnection], T]], *, what: str) -> list[T]:
        """What each of `works` returns, each committed in a transaction of its own before the next begins, with nobody writing in between.

        Otherwise as `write`: after a conflict the first is tried again too.
        """
        for k in itertools.count(1):
            try:
                with self._exclusive(what):
                    return [self._write_once(work, what) for work in works]
            except duckdb.Error as fault:
                if engine.is_broken(fault) or engine.is_outdated(fault):
                    self._drop_instance()
                if k >= engine.tries(fault):
                    self._raise_explained(fault, what)
            time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (k - 1)) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        raise AssertionError("unreachable")

    def reshape(self, works: Sequence[Callable[[duckdb.DuckDBPyConnection], T]], *, what: str) -> list[T]:
        """As `write_in_turn`, for upkeep, which changes what is recorded of snapshots that are there already.

        Reads that go on at the same time are done again; one to which that happened twice is waited for.
        """
        if self._is_seen_at_once:
            self._make_folders()
            lock = FileLock(self._reshape_path)
            lock.acquire(what=what, wait_s=self._lock_wait_s)  # before the writers' lock, which whoever reads may be waiting for
            try:
                return self.write_in_turn(works, what=what)
            finally:
                lock.release()
        return self.write_in_turn(works, what=what)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """A block in which nobody else, on any host, keeps this lake; writers go on.

        Raises:
            StoreBusy: somebody else does; names who.
        """
        self._make_folders()
        lock = FileLock(self._lock_path.with_name("upkeep.lock"))
        if not lock.try_acquire("upkeep"):
            raise StoreBusy(
                f"log lake {self._address}",
                seen=f"{lock.holder() or 'another process'} keeps it",
                next_step="let it finish, then run this again",
            )
        with contextlib.ExitStack() as held:
            held.callback(lock.release)
            if self._server_lock is not None:
                server = ServerLock(self._address.target, key=KEEPER)
                held.callback(server.close)
                server.acquire(what="keep the lake", wait_s=0)
            yield

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """A block in which no process writes the lake, nor does this one: for work on the catalogue's file from outside.

        Raises:
            StoreBusy: the lock could not be had.
        """
        with self._exclusive(what):
            yield

    def close(self) -> None:
        """Give back the instance. Using the lake again is an error."""
        self._is_closed = True
        self._drop_instance()
        if self._server_lock is not None:
            self._server_lock.close()

    def _read_beside_upkeep(self, work: Callable[[duckdb.DuckDBPyConnection, int | None], T]) -> T:
        """What `work` returns, where no file of its snapshot vanishes twice.

        Raises:
            _Disturbed: upkeep changed meanwhile what is recorded of the snapshot.
        """
        for is_last in (False, True):
            try:
                return self._read_once(work)
            except duckdb.Error as fault:
                if engine.is_broken(fault) or engine.is_outdated(fault):
                    self._drop_instance()
                elif not engine.is_vanished_file(fault):
                    self._raise_explained(fault, "read")
                if is_last:
                    self._raise_explained(fault, "read")
        raise AssertionError("unreachable")

    def _read_once(self, work: Callable[[duckdb.DuckDBPyConnection, int | None], T]) -> T:
        instance = self._reading_instance()
        with at_work(), contextlib.closing(instance.cursor()) as cursor:
            read: list[int | None] = []

            def noted(connection: duckdb.DuckDBPyConnection) -> T:
                read.append(newest_snapshot(connection))
                return work(connection, read[-1])

            if not self._is_seen_at_once:
                return _in_transaction(cursor, noted)
            try:
                result = _in_transaction(cursor, noted)
            except Exception as fault:
                with contextlib.suppress(duckdb.Error):  # of a broken instance; what broke it is raised
                    if self._is_disturbed(cursor, read):
                        raise _Disturbed from fault
                raise
            if self._is_disturbed(cursor, read):
                raise _Disturbed
            return result

    @staticmethod
    def _is_disturbed(cursor: duckdb.DuckDBPyConnection, read: Sequence[int | None]) -> bool:
        return any(snapshot is not None and is_reshaped_since(cursor, snapshot) for snapshot in read)

    @contextlib.contextmanager
    def _upkeep_waiting(self) -> Iterator[None]:
        """A block in which nobody reshapes the lake."""
        lock = FileLock(self._reshape_path, is_shared=True)
        lock.acquire(what="read beside upkeep", wait_s=_UPKEEP_S)
        try:
            yield
        finally:
            lock.release()

    def _write_once(self, work: Callable[[duckdb.DuckDBPyConnection], T], what: str) -> T:
        def checked(cursor: duckdb.DuckDBPyConnection) -> T:
            result = work(cursor)
            self._sync_files(what)
            if self._server_lock is not None:
                self._server_lock.check(what)
            return result

        with at_work(), contextlib.closing(self._writing_instance().cursor()) as cursor:
            return _in_transaction(cursor, checked)

    @contextlib.contextmanager
    def _exclusive(self, what: str) -> Iterator[None]:
        """The three locks of a writer: of the process, of the machine and, on PostgreSQL, of the catalogue."""
        patience = Patience(self._lock_wait_s)
        while not self._mutex.acquire(timeout=patience.look_s):
            if patience.is_over():
                raise StoreBusy(
                    f"log lake {self._address}",
                    seen=f"another thread of this process wrote for more than {self._lock_wait_s:g} s",
                    needed=f"its end, to {what}",
                    next_step="run it again",
                )
        try:
            self._make_folders()
            self._file_lock.acquire(what=what, wait_s=self._lock_wait_s)
            try:
                if self._server_lock is None:
                    yield
                else:
                    self._server_lock.acquire(what=what, wait_s=self._lock_wait_s)
                    try:
                        yield
                    finally:
                        self._server_lock.release()
            finally:
                self._file_lock.release()
        finally:
            self._mutex.release()

    def _reading_instance(self) -> duckdb.DuckDBPyConnection:
        """The instance to read from: the process' own, or an empty one while there is no lake."""
        with at_work(), self._instance_mutex:
            self._refuse_closed()
            if self._connection is not None:
                return self._connection
            connection = self._attached_to_read()
            if connection is None:
                return self._stand_in()
            version = schema.version_of(connection)
            if version is not None and version >= SCHEMA_VERSION:
                schema.refuse_newer(version, f"log lake {self._address}")
                self._connection, self._is_writable, self._empty = connection, False, None
                return connection
            connection.close()
            if version is None:
                return self._stand_in()
        self.write(lambda _: None, what="bring the lake up to date")
        return self._reading_instance()

    def _stand_in(self) -> duckdb.DuckDBPyConnection:
        if self._empty is None:
            self._empty = engine.connect_empty(self._address)
        return self._empty

    def _attached_to_read(self) -> duckdb.DuckDBPyConnection | None:
        """A read-only instance; None when there is no catalogue yet."""
        file = self._address.file
        if file is not None and not file.exists():
            return None
        try:
            return engine.connect(self._address, read_only=True)
        except duckdb.Error as fault:
            if engine.is_missing_lake(fault):
                return None
            raise

    def _writing_instance(self) -> duckdb.DuckDBPyConnection:
        """The process' instance, attached for writing and with its tables made. Called under the lock."""
        with self._instance_mutex:
            self._refuse_closed()
            if self._connection is None or not self._is_writable:
                # a reading instance is not closed here: its cursors may be at work, and it goes when they are done
                self._connection, self._is_writable, self._empty = self._prepared(), True, None
            return self._connection

    def _prepared(self) -> duckdb.DuckDBPyConnection:
        connection = engine.connect(self._address, read_only=False)
        try:
            _in_transaction(connection, lambda cursor: schema.prepare(cursor, f"log lake {self._address}"))
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_folders(self) -> None:
        for folder in (self._lock_path.parent, self._address.file.parent if self._address.file else None, self._address.data_folder):
            try:
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
            except OSError as fault:
                step = "free space on the disk, or choose a folder that this user can write with WORKBENCH_HOME"
                raise StoreError(
                    f"folder {folder}", seen=fault.strerror or str(fault), needed="a writable folder", next_step=step
                ) from fault

    def _sync_files(self, what: str) -> None:
        """Bring the transaction's Parquet files to the disk.

        DuckDB does not, but the catalogue syncs its commit: after a power cut it would name files that are gone.
        """
        folder = self._address.data_folder
        try:
            if folder is not None:
                sync_file_system(folder)
        except OSError as fault:
            raise StoreError(
                f"folder {folder}", seen=f"could not {what}: {fault.strerror}", needed="a disk that takes data", next_step="check the disk"
            ) from fault

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise StoreError(f"log lake {self._address}", seen="it was closed", next_step="open the workspace again")

    def _drop_instance(self) -> None:
        with self._instance_mutex:
            connections = (self._connection, self._empty)
            self._connection = self._empty = None
        for connection in connections:
            if connection is not None:
                with contextlib.suppress(duckdb.Error):
                    connection.close()

    def _raise_explained(self, fault: duckdb.Error, what: str) -> None:
        if what == "read" and engine.may_be_damage(fault, self._address) and (damage := self._first_damaged()) is not None:
            raise engine.of_damage(self._address, what, str(damage)) from fault
        error = engine.explained(fault, self._address, what)
        if error is None:
            raise fault
        raise error from fault

    def _first_damaged(self) -> Damage | None:
        """Which file it is that DuckDB could not decode; None where that cannot be told."""
        folder = self._address.data_folder
        if folder is not None:
            with contextlib.suppress(duckdb.Error, StoreError, _Disturbed):
                return self._read_once(lambda connection, _: stored_files.first_damaged(connection, self._address.data))
        return None

    def _start_locks(self) -> None:
        self._mutex = threading.Lock()
        self._instance_mutex = threading.Lock()
        self._file_lock = FileLock(self._lock_path)
        self._server_lock = ServerLock(self._address.target) if self._address.kind == "postgres" else None

    def _start_anew_in_child(self) -> None:
        """Leave the parent's instance alone: its threads do not exist here, so even closing it could hang."""
        for connection in (self._connection, self._empty):
            if connection is not None:
                abandon(connection)
        self._connection = self._empty = None
        if self._server_lock is not None:
            self._server_lock.forget()
        self._start_locks()


def _in_transaction(cursor: duckdb.DuckDBPyConnection, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    cursor.execute("SET enable_progress_bar = false")  # a notebook would draw DuckDB's own bar
    cursor.execute("BEGIN TRANSACTION")
    try:
        result = work(cursor)
        cursor.execute("COMMIT")
    except BaseException:
        cursor.interrupt()  # a query that Ctrl-C left computing would be waited for
        with contextlib.suppress(duckdb.Error):
            cursor.execute("ROLLBACK")
        raise
    return result
