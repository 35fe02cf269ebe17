"""The log of the workspace: rows go in through spools or in bulk, and are in the lake after a flush."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from workbench.errors import StoreBusy, UsageError, WorkbenchError
from workbench.observability.flusher import SpoolReader, Stretch, adopt, drain, literal, read_mark, store
from workbench.observability.lake import Lake
from workbench.observability.locks import FileLock
from workbench.observability.rows import conformed, rows_of
from workbench.observability.spool import Mode, Spool, Ticket

_GRACE_S = 5.0
"""Age at which a living owner's rows are drained by others: it flushes each second, so it is stopped or stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushReport:
    """What a flush did."""

    rows: int
    """Rows brought into the lake, of all tables and spools."""
    drained: tuple[str, ...]
    """Spools that gave rows."""
    adopted: tuple[str, ...]
    """Spools of dead processes, drained and removed."""
    faults: tuple[str, ...]
    """One sentence for each spool of another process that could not be drained; its files are untouched."""


class Logs:
    """The log's writing side. Threads share it; a forked child gets a spool of its own on its first record."""

    def __init__(
        self, lake: Lake, *, spool_folder: Path, clock: Callable[[], datetime], mode: Mode = "write", grace_s: float = _GRACE_S
    ) -> None:
        self._lake = lake
        self._folder = spool_folder
        self._clock = clock
        self._mode = mode
        self._grace_s = grace_s
        self._spool: Spool | None = None
        self._own_mark = 0
        self._opening = threading.Lock()
        self._flushing = threading.Lock()

    def record(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Commit rows to this process' spool: table name to rows. They are in the lake after the next flush.

        Raises:
            UsageError: a row does not fit its table; none is recorded.
            StoreError: the spool cannot be written; none is recorded.
        """
        payloads = rows_of(rows)
        if payloads:
            self._own_spool().append(payloads, is_awaited=True).wait()

    def record_nowait(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Ticket:
        """Queue rows for this process' spool; the ticket's `wait` returns when they are committed."""
        return self._own_spool().append(rows_of(rows))

    def flush(self) -> FlushReport:
        """Bring into the lake what this process recorded, and every other spool that nobody flushes.

        Raises:
            StoreError: this process' rows could not be stored; they stay in the spool.
            StoreBusy: the lake's lock could not be had.
        """
        with self._flushing:
            drained: list[str] = []
            adopted: list[str] = []
            faults: list[str] = []
            n = self._flush_own(drained)
            for path in self._other_spools():
                try:
                    n += self._flush_other(path, drained, adopted)
                except StoreBusy:
                    raise
                except WorkbenchError as fault:
                    faults.append(str(fault))
            return FlushReport(rows=n, drained=tuple(drained), adopted=tuple(adopted), faults=tuple(faults))

    def waiting(self) -> dict[str, int]:
        """Rows that are in a spool of this workspace and not yet in the lake, by spool; empty spools are left out."""
        counts = {path.stem: SpoolReader(path).count(self.mark(path.stem)) for path in sorted(self._folder.glob("*.sqlite"))}
        return {spool_id: n for spool_id, n in counts.items() if n}

    def append(self, batch: Mapping[str, pa.Table], *, source_id: str, from_seq: int, to_seq: int) -> bool:
        """Store rows in bulk, with the mark of their source, in one transaction; False when the mark covers them already.

        Args:
            batch: log table to rows. A column `seq` may give each row's number in the source (in `from_seq..to_seq`);
                without it the rows are numbered from `from_seq` on.
            source_id: for example `import:<digest of the file>`; it must not be a spool's id.
            from_seq: first record of the source in this batch, from 1.
            to_seq: last record of the source in this batch.

        Raises:
            UsageError: a table does not fit; nothing is stored.
            ConflictError: the mark lies inside the batch and the rows carry no `seq`.
            StoreError: the lake cannot be written; nothing is stored.
        """
        if not 1 <= from_seq <= to_seq:
            raise UsageError(f"source {source_id}", seen=f"records {from_seq} to {to_seq}", needed="1 <= from_seq <= to_seq")
        tables = {name: conformed(name, arrow) for name, arrow in batch.items()}
        numbers_rows = all("seq" in arrow.column_names for arrow in tables.values())
        numbered = {name: _numbered(arrow, from_seq) for name, arrow in tables.items()}
        stretch = Stretch(source_id=source_id, from_seq=from_seq, to_seq=to_seq, tables=numbered, numbers_rows=numbers_rows)
        return self.mark(source_id) < to_seq and store(self._lake, stretch, now=self._clock()).is_new

    def mark(self, source_id: str) -> int:
        """The last number stored from this source; 0 when there is none."""
        return self._lake.read(lambda connection: read_mark(connection, source_id))

    def known_requests(self, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the requests, each named by app and id, that the lake holds; rows still in a spool do not count."""
        if not keys:
            return set()
        apps, ids = (list(part) for part in zip(*keys, strict=True))
        wanted = pa.table({"app": pa.array(apps, pa.string()), "request_id": pa.array(ids, pa.string())})

        def search(connection: duckdb.DuckDBPyConnection) -> set[tuple[str, str]]:
            connection.register("wanted_requests", wanted)
            found = connection.execute(
                "SELECT DISTINCT app, request_id FROM lake.requests SEMI JOIN wanted_requests USING (app, request_id) "
                f"WHERE request_id BETWEEN {literal(min(ids))} AND {literal(max(ids))}"
            ).fetchall()
            return {(app, request_id) for app, request_id in found}

        return self._lake.read(search)

    def close(self) -> None:
        """Flush this process' rows and give its spool back; an empty spool is removed.

        Raises:
            StoreError: the rows could not be flushed. They stay in the spool, and the next process that flushes adopts it.
        """
        with self._opening:
            spool, self._spool = self._spool, None
        if spool is None or not spool.is_of_this_process:
            return
        is_flushed = False
        try:
            with self._flushing:
                spool.sync()
                mark = drain(self._lake, spool.path, after=self._own_mark, clock=self._clock).to_seq
            is_flushed = SpoolReader(spool.path).oldest(mark) is None
        finally:
            spool.close(remove=is_flushed)

    def _own_spool(self) -> Spool:
        spool = self._spool
        if spool is not None and spool.is_of_this_process:
            return spool
        with self._opening:
            if self._spool is None or not self._spool.is_of_this_process:
                self._spool, self._own_mark = Spool.create(self._folder, clock=self._clock, mode=self._mode), 0
            return self._spool

    def _flush_own(self, drained: list[str]) -> int:
        spool = self._spool
        if spool is None or not spool.is_of_this_process:
            return 0
        spool.sync()
        stored = drain(self._lake, spool.path, after=self._own_mark, clock=self._clock)
        if stored.to_seq > self._own_mark:
            self._own_mark = stored.to_seq
            spool.delete_to(stored.to_seq)
        if stored.rows:
            drained.append(spool.spool_id)
        return stored.rows

    def _other_spools(self) -> list[Path]:
        own = self._spool.path if self._spool is not None and self._spool.is_of_this_process else None
        found = {path.with_suffix(".sqlite") for pattern in ("*.sqlite", "*.lock") for path in self._folder.glob(pattern)}
        return sorted(found - {own})

    def _flush_other(self, path: Path, drained: list[str], adopted: list[str]) -> int:
        lock = FileLock(path.with_suffix(".lock"))
        if lock.try_acquire("adopting a spool"):
            stored = adopt(self._lake, path, lock, clock=self._clock)
            adopted.append(path.stem)
        else:
            if not path.exists() or not self._is_left_alone(path):
                return 0
            stored = drain(self._lake, path, after=self.mark(path.stem), clock=self._clock)
        if stored.rows:
            drained.append(path.stem)
        return stored.rows

    def _is_left_alone(self, path: Path) -> bool:
        """Whether a living owner has not flushed for longer than the grace."""
        reader = SpoolReader(path)
        oldest = reader.oldest(0)
        is_old = oldest is not None and self._clock().timestamp() - oldest > self._grace_s
        return is_old and reader.oldest(self.mark(path.stem)) is not None


def _numbered(arrow: pa.Table, from_seq: int) -> pa.Table:
    """The table with a column `seq`: its own, or numbers from `from_seq` on."""
    if "seq" in arrow.column_names:
        return arrow
    return arrow.append_column("seq", pa.array(range(from_seq, from_seq + arrow.num_rows), pa.int64()))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushStatus:
    """How a flush loop is doing."""

    is_running: bool
    rows: int
    """Rows brought into the lake since the start."""
    last_success: datetime | None
    failures_in_a_row: int
    last_fault: str | None
    """The newest failure's sentence, also after later successes."""
    spool_faults: tuple[str, ...]
    """What the newest flush reported about other processes' spools."""


class FlushLoop:
    """A thread that flushes a long-lived writer's log each `interval_s` seconds. Used as a context manager or by start and stop."""

    def __init__(self, logs: Logs, *, clock: Callable[[], datetime], interval_s: float = 1.0) -> None:
        self._logs = logs
        self._clock = clock
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flush loop", daemon=True)
        self._status = FlushStatus(is_running=False, rows=0, last_success=None, failures_in_a_row=0, last_fault=None, spool_faults=())

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the flush it is in. Rows recorded later are flushed by `Logs.flush` or `Logs.close`."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def status(self) -> FlushStatus:
        status = self._status
        return FlushStatus(
            is_running=self._thread.is_alive(),
            rows=status.rows,
            last_success=status.last_success,
            failures_in_a_row=status.failures_in_a_row,
            last_fault=status.last_fault,
            spool_faults=status.spool_faults,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                report = self._logs.flush()
            except (WorkbenchError, duckdb.Error, sqlite3.Error, OSError) as fault:
                self._note(fault)
            else:
                self._status = FlushStatus(
                    is_running=True,
                    rows=self._status.rows + report.rows,
                    last_success=self._clock(),
                    failures_in_a_row=0,
                    last_fault=self._status.last_fault,
                    spool_faults=report.faults,
                )

    def _note(self, fault: Exception) -> None:
        status = self._status
        self._status = FlushStatus(
            is_running=True,
            rows=status.rows,
            last_success=status.last_success,
            failures_in_a_row=status.failures_in_a_row + 1,
            last_fault=str(fault),
            spool_faults=status.spool_faults,
        )
