"""The log of the workspace: rows go in through spools or in bulk, and are in the lake after a flush."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from workbench.errors import StoreBusy, StoreError, UsageError, WorkbenchError
from workbench.ledger.forking import in_each_child
from workbench.observability.flusher import SpoolReader, Stretch, adopt, drain, literal, newest_batch, read_marks, store
from workbench.observability.gaps import Gap, Unfinished, stored_gaps, unfinished_requests
from workbench.observability.lake import Lake
from workbench.observability.locks import FileLock
from workbench.observability.rows import conformed, rows_of
from workbench.observability.scrubbing import scrub
from workbench.observability.spool import QUOTA_BYTES, WAIT_S, Marks, Mode, Spool, wait_until_committed
from workbench.observability.tables import REQUESTS

_IDS: Mapping[str, tuple[str, ...]] = MappingProxyType({"spans": ("trace_id", "span_id"), "scores": ("score_id",)})
"""By which columns, beside the app, a row is the same one."""
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


class Known(NamedTuple):
    """Requests that the lake holds, each by app and id."""

    requests: frozenset[tuple[str, str]]
    as_of: int
    """The newest batch of the lake when they were looked for."""


class Logs:
    """The log's writing side. Threads share it; a forked child gets a spool of its own on its first record."""

    def __init__(
        self,
        lake: Lake,
        *,
        spool_folder: Path,
        clock: Callable[[], datetime],
        mode: Mode = "write",
        quota_bytes: int = QUOTA_BYTES,
        grace_s: float = _GRACE_S,
    ) -> None:
        self._lake = lake
        self._folder = spool_folder
        self._clock = clock
        self._mode = mode
        self._quota_bytes = quota_bytes
        self._grace_s = grace_s
        self._spool: Spool | None = None
        self._start_locks()
        in_each_child(self, Logs._start_locks)

    def record(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Commit rows to this process' spool: table name to rows. They are in the lake after the next flush.

        Raises:
            UsageError: a row does not fit its table; none is recorded.
            StoreBusy: the disk did not answer for half a minute; the rows may still be written.
            StoreError: the spool cannot be written; none is recorded.
        """
        payloads = rows_of(rows)
        if payloads:
            wait_until_committed(self._own_spool().append(payloads, wait_s=WAIT_S))

    def submit(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Future[None]:
        """Queue rows as `record` does, without waiting: the future is done when they are committed, and what kept them out is its error.

        An event loop awaits `asyncio.wrap_future(logs.submit(rows))`; all that is submitted while one commit runs shares the next.
        A future that nobody looks at is a failure that nobody hears of. It cannot be cancelled: what is queued is written.

        Raises:
            UsageError: a row does not fit its table; none is recorded.
            StoreBusy: the queue is full, because the disk does not keep up; none is recorded.
            StoreError: the spool cannot be made or has ended; none is recorded.
        """
        payloads = rows_of(rows)
        if payloads:
            return self._own_spool().append(payloads)
        committed: Future[None] = Future()
        committed.set_result(None)
        return committed

    @property
    def pressure(self) -> float:
        """How full this process' spool is, 0 to 1. Whoever has work that can wait refuses it before the end."""
        spool = self._spool
        return spool.pressure if spool is not None and spool.is_of_this_process else 0.0

    def flush(self, *, everything: bool = False) -> FlushReport:
        """Bring into the lake what this process recorded, and every other spool that nobody flushes; or, with `everything`, every spool.

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
                    with _unless_adopted(path):
                        if not (brought := self._flush_other(path, drained, adopted, everything=everything)):
                            continue
                        n += brought
                except StoreBusy:
                    raise
                except (WorkbenchError, duckdb.Error, OSError) as fault:
                    faults.append(str(fault))
                n += self._flush_own(drained)  # the other took its time: dozens of dead ones take a minute, and this one's rows would wait
            return FlushReport(rows=n, drained=tuple(drained), adopted=tuple(adopted), faults=tuple(faults))

    def waiting(self) -> dict[str, int]:
        """Rows that are in a spool of this workspace and not yet in the lake, by spool; empty spools are left out."""
        counts: dict[str, int] = {}
        for path in sorted(self._folder.glob("*.sqlite")):
            with _unless_adopted(path):
                counts[path.stem] = SpoolReader(path).count(self.mark(path.stem))
        return {spool_id: n for spool_id, n in counts.items() if n}

    def gaps(self) -> tuple[Gap, ...]:
        """Records that could not be stored, as far as it was written down afterwards; oldest first."""
        return self._lake.read(stored_gaps)

    def unfinished(self) -> tuple[Unfinished, ...]:
        """Requests that began and never ended, because their process died; oldest first. Those in a spool do not count yet."""
        living = {path.stem for path in self._folder.glob("*.sqlite")}
        return self._lake.read(lambda connection: unfinished_requests(connection, living))

    def scrub(self) -> tuple[str, ...]:
        """Leave nothing in any spool's file of what the lake holds; returns a sentence for each spool where that failed.

        A deleted row stays readable in a free page or in the write-ahead log until something else is written over it.
        """
        faults = []
        for path in sorted(self._folder.glob("*.sqlite")):
            try:
                with _unless_adopted(path):
                    scrub(path, self.mark(path.stem))
            except StoreError as fault:
                faults.append(str(fault))
        return tuple(faults)

    def append(self, batch: Mapping[str, pa.Table], *, source_id: str, from_seq: int, to_seq: int, as_of: int | None = None) -> bool:
        """Store rows in bulk, with the mark of their source, in one transaction; False when the mark covers them already.

        Args:
            batch: log table to rows. A column `seq` may give each row's number in the source (in `from_seq..to_seq`);
                without it the rows are numbered from `from_seq` on.
            source_id: for example `import:<digest of the file>`; it must not be a spool's id.
            from_seq: first record of the source in this batch, from 1.
            to_seq: last record of the source in this batch.
            as_of: what `known_requests` said: the batch is stored only if none of its requests came in since.

        Raises:
            UsageError: a table does not fit; nothing is stored.
            ConflictError: a request came in since `as_of`, or the mark lies inside the batch and the rows carry no `seq`.
            StoreError: the lake cannot be written; nothing is stored.
        """
        if not 1 <= from_seq <= to_seq:
            raise UsageError(f"source {source_id}", seen=f"records {from_seq} to {to_seq}", needed="1 <= from_seq <= to_seq")
        tables = {name: conformed(name, arrow) for name, arrow in batch.items()}
        for name, arrow in tables.items():
            _check_numbers(name, arrow, from_seq, to_seq)
        numbers_rows = all("seq" in arrow.column_names for arrow in tables.values())
        numbered = {name: _numbered(arrow, from_seq) for name, arrow in tables.items()}
        stretch = Stretch(source_id=source_id, from_seq=from_seq, to_seq=to_seq, tables=numbered, numbers_rows=numbers_rows, as_of=as_of)
        marks = self._marks(source_id)
        return marks.to_seq < to_seq and store(self._lake, stretch, now=self._clock(), known=marks).is_new

    def mark(self, source_id: str) -> int:
        """The last number stored from this source; 0 when there is none."""
        return self._marks(source_id).to_seq

    def known_requests(self, keys: Sequence[tuple[str, str]]) -> Known:
        """Those of the requests, each named by app and id, that the lake holds; rows still in a spool do not count."""
        if not keys:
            return Known(frozenset(), self._lake.read(newest_batch))
        apps, ids = (list(part) for part in zip(*keys, strict=True))
        wanted = pa.table({"app": pa.array(apps, pa.string()), "request_id": pa.array(ids, pa.string())})

        def search(connection: duckdb.DuckDBPyConnection) -> Known:
            connection.register("wanted_requests", wanted)
            found = connection.execute(
                "SELECT DISTINCT app, request_id FROM lake.requests SEMI JOIN wanted_requests USING (app, request_id) "
                f"WHERE request_id BETWEEN {literal(min(ids))} AND {literal(max(ids))}"
            ).fetchall()
            return Known(frozenset(found), newest_batch(connection))

        return self._lake.read(search)

    def new_rows(self, table: str, rows: pa.Table) -> pa.Table:
        """Those of the rows that the lake's `spans` or `scores` do not hold, by app and ids; rows still in a spool do not count."""
        if not rows.num_rows:
            return rows
        keys = ["app", *_IDS[table]]
        wanted = rows.select(keys).append_column("place", pa.array(range(rows.num_rows), pa.int64()))

        def search(connection: duckdb.DuckDBPyConnection) -> list[int]:
            connection.register("wanted_rows", wanted)
            new = f"SELECT place FROM wanted_rows ANTI JOIN lake.{table} USING ({', '.join(keys)}) ORDER BY place"
            return [place for (place,) in connection.execute(new).fetchall()]

        return rows.take(pa.array(self._lake.read(search), pa.int64()))

    def given_bundles(self, requests: pa.Table) -> pa.Table:
        """The stored ones among the requests that have no bundle, each as the revision that gives it the bundle it has here.

        Only what is the same request counts: same app, id, start and bodies. A revision has the `seq` of the request given.

        Args:
            requests: rows with `seq` and `bundle`, and an app and an id that no other of them has.
        """
        given = [column.name for column in REQUESTS.given]
        if not requests.num_rows:
            return requests
        ids = requests["request_id"].to_pylist()
        wanted = requests.select(["app", "request_id", "input_hmac", "output_hmac", "bundle", "seq"])
        wanted = wanted.append_column("start_us", requests["ts_start"].cast(pa.int64()))  # a filter on a time would have DuckDB import pytz
        changed = {"bundle": "wanted.bundle", "revision": "stored.revision + 1"}
        columns = ", ".join(f"{changed.get(name, f'stored.{name}')} AS {name}" for name in given)

        def search(connection: duckdb.DuckDBPyConnection) -> pa.Table:
            connection.register("wanted", wanted)
            return connection.execute(
                "WITH stored AS (SELECT * FROM lake.requests SEMI JOIN wanted USING (app, request_id) "
                f"WHERE request_id BETWEEN {literal(min(ids))} AND {literal(max(ids))} "
                "QUALIFY row_number() OVER (PARTITION BY app, request_id ORDER BY revision DESC, batch_id DESC, seq DESC) = 1) "
                f"SELECT {columns}, wanted.seq FROM stored JOIN wanted USING (app, request_id) "
                "WHERE stored.bundle IS NULL AND epoch_us(stored.ts_start) = wanted.start_us "
                "AND stored.input_hmac IS NOT DISTINCT FROM wanted.input_hmac "
                "AND stored.output_hmac IS NOT DISTINCT FROM wanted.output_hmac"
            ).to_arrow_table()

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
                spool.end()  # before the last drain: what a late thread still brings is refused, not removed
                drain(self._lake, spool.path, after=spool.flushed, clock=self._clock)
            is_flushed = True
        finally:
            spool.close(remove=is_flushed)

    def _marks(self, source_id: str) -> Marks:
        return self._lake.read(lambda connection: read_marks(connection, source_id))

    def _own_spool(self) -> Spool:
        spool = self._spool
        if spool is not None and spool.is_of_this_process:
            return spool
        with self._opening:
            if self._spool is None or not self._spool.is_of_this_process:
                self._spool = Spool.create(self._folder, clock=self._clock, mode=self._mode, quota_bytes=self._quota_bytes)
            return self._spool

    def _flush_own(self, drained: list[str]) -> int:
        spool = self._spool
        if spool is None or not spool.is_of_this_process:
            return 0
        spool.sync()
        stored = drain(self._lake, spool.path, after=spool.flushed, clock=self._clock)
        if stored.marks > spool.flushed:
            spool.delete_to(stored.marks)
        if stored.rows and spool.spool_id not in drained:
            drained.append(spool.spool_id)
        return stored.rows

    def _other_spools(self) -> list[Path]:
        """Those behind its own by name, then those before it: most processes that find the same dead ones begin at different ones."""
        own = self._spool.path if self._spool is not None and self._spool.is_of_this_process else None
        found = {path.with_suffix(".sqlite") for pattern in ("*.sqlite", "*.lock") for path in self._folder.glob(pattern)}
        return sorted(found - {own}, key=lambda path: (own is not None and path < own, path))

    def _flush_other(self, path: Path, drained: list[str], adopted: list[str], *, everything: bool) -> int:
        lock = FileLock(path.with_suffix(".lock"))
        if lock.try_acquire("adopting a spool"):
            stored = adopt(self._lake, path, lock, clock=self._clock)
            adopted.append(path.stem)
        else:
            if not path.exists() or not (everything or self._is_left_alone(path)):
                return 0
            stored = drain(self._lake, path, after=self._marks(path.stem), clock=self._clock)
        if stored.rows:
            drained.append(path.stem)
        return stored.rows

    def _is_left_alone(self, path: Path) -> bool:
        """Whether a living owner has not flushed for longer than the grace."""
        reader = SpoolReader(path)
        return self._is_old(reader.oldest(0)) and self._is_old(reader.oldest(self.mark(path.stem)))

    def _is_old(self, recorded_at: float | None) -> bool:
        return recorded_at is not None and self._clock().timestamp() - recorded_at > self._grace_s

    def _start_locks(self) -> None:
        """Also in a forked child: a thread that held one of its parent's does not exist there."""
        self._opening = threading.Lock()
        self._flushing = threading.Lock()


@contextmanager
def _unless_adopted(path: Path) -> Iterator[None]:
    """Pass over a spool that another process brought into the lake and removed while this one looked at it."""
    try:
        yield
    except StoreError:
        if path.exists():
            raise


def _check_numbers(name: str, arrow: pa.Table, from_seq: int, to_seq: int) -> None:
    """Refuse numbers outside the batch: a mark that covers one hides its row, one without a number is never stored."""
    if "seq" not in arrow.column_names or not arrow.num_rows:
        return
    seq = arrow.column("seq")
    ends = pc.min_max(seq).as_py()
    if seq.null_count or ends["min"] < from_seq or ends["max"] > to_seq:
        seen = f"{seq.null_count} rows without a number" if seq.null_count else f"numbers {ends['min']} to {ends['max']}"
        raise UsageError(f"Arrow table for {name}: seq", seen=seen, needed=f"{from_seq} to {to_seq}, as the batch says")


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
        return replace(self._status, is_running=self._thread.is_alive())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            status = self._status
            try:
                report = self._logs.flush()
            except Exception as fault:  # noqa: BLE001 - a job loop: nothing may end it unseen
                seen = str(fault) or type(fault).__name__
                self._status = replace(status, failures_in_a_row=status.failures_in_a_row + 1, last_fault=seen)
            else:
                rows = status.rows + report.rows
                self._status = replace(status, rows=rows, last_success=self._clock(), failures_in_a_row=0, spool_faults=report.faults)
