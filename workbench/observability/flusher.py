"""From spool to lake, exactly once: rows and the mark that covers them are one lake transaction.

Whoever flushes re-reads the mark under the writers' lock and leaves out what it covers. So it does not matter how often a
flush is tried, who died after its COMMIT, or how many processes drain the same spool. Rows of a unit that was erased meanwhile
are left out by the same reading (see `erased.py`).
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from workbench.errors import ConflictError, NewerWorkspace, StoreError
from workbench.ledger.forking import at_work
from workbench.observability.erased import without_erased
from workbench.observability.lake import Lake
from workbench.observability.locks import FileLock
from workbench.observability.rollup import note_sql, utc_sql
from workbench.observability.rows import arrow_of
from workbench.observability.spool import FORMAT, UNREAD, Marks, remove_files
from workbench.observability.tables import WRITABLE, LogTable

_ROWS_AT_ONCE = 50_000
_BYTES_AT_ONCE = 64 << 20
_SORTED_SHARE = 5
"""One statement inserts at most a fifth of the engine's memory: what it inserts is sorted whole, in several times its size as Arrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What one transaction stored."""

    is_new: bool
    """False when the mark covered everything."""
    rows: int
    marks: Marks
    """After it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Consecutive rows of one source, ready to insert."""

    source_id: str
    from_seq: int
    to_seq: int
    tables: Mapping[str, pa.Table]
    """Each with a column `seq`; all tables of the stretch go in together."""
    numbers_rows: bool
    """Whether `seq` is the row's number in the source, so that a mark inside the stretch says which rows it covers."""
    as_of: int | None = None
    """The newest batch in which its requests were looked for and not found; None when they may be there."""


def literal(text: str) -> str:
    """The text as an SQL string. Parameters would cost a short process DuckDB's import of numpy and pandas."""
    return "'" + text.replace("'", "''") + "'"


def read_marks(connection: duckdb.DuckDBPyConnection, source_id: str, *, known: Marks = UNREAD) -> Marks:
    """How far this source is stored now.

    Args:
        known: how it stood before; only what came since is read.
    """
    since = f" WHERE batch_id > {known.newest}" if known.newest else ""
    row = connection.execute(
        f"SELECT coalesce(max(to_seq) FILTER (spool_id = {literal(source_id)}), 0), coalesce(max(batch_id), 0) FROM lake.flushed{since}"
    ).fetchone()
    to_seq, newest = (0, 0) if row is None else row
    return Marks(max(known.to_seq, int(to_seq)), max(known.newest, int(newest)))


def newest_batch(connection: duckdb.DuckDBPyConnection) -> int:
    """The number of the newest batch in the lake; 0 before the first."""
    row = connection.execute("SELECT coalesce(max(batch_id), 0) FROM lake.flushed").fetchone()
    return 0 if row is None else int(row[0])


def store(lake: Lake, stretch: Stretch, *, now: datetime, known: Marks = UNREAD) -> Stored:
    """Insert a stretch into the lake, unless its mark covers it.

    Args:
        known: how its source stood before.

    Raises:
        ConflictError: the mark lies inside a stretch whose rows carry no numbers of the source, or one of its requests came in since
            they were looked for; nothing was stored.
        StoreError: the lake cannot be written; nothing was stored.
    """
    return lake.write(
        lambda connection: _insert(connection, stretch, now, known, lake.memory // _SORTED_SHARE), what=f"store rows of {stretch.source_id}"
    )


def _insert(connection: duckdb.DuckDBPyConnection, stretch: Stretch, now: datetime, known: Marks, most_bytes: int) -> Stored:
    found = read_marks(connection, stretch.source_id, known=known)
    mark, batch_id = found.to_seq, found.newest + 1
    if mark >= stretch.to_seq:
        return Stored(is_new=False, rows=0, marks=found)
    if mark >= stretch.from_seq and not stretch.numbers_rows:
        raise ConflictError(
            f"source {stretch.source_id}",
            seen=f"rows {stretch.from_seq}-{stretch.to_seq}, of which those to {mark} are stored",
            needed=f"rows from {mark + 1}",
            next_step="read the mark again and begin behind it",
        )
    if stretch.as_of is not None and stretch.as_of + 1 < batch_id:
        _refuse_known(connection, stretch, stretch.as_of)
    place = {"spool_id": literal(stretch.source_id), "batch_id": str(batch_id), "ingested_at": timestamp(now)}
    behind = mark if stretch.numbers_rows else -1
    tables = without_erased(connection, stretch.tables)
    n = sum(
        _insert_table(connection, WRITABLE[name], piece, behind, place)
        for name, arrow in tables.items()
        for piece in _pieces(arrow, most_bytes)
    )
    connection.execute(
        "INSERT INTO lake.flushed (spool_id, from_seq, to_seq, batch_id, flushed_at) "
        f"VALUES ({literal(stretch.source_id)}, {max(stretch.from_seq, mark + 1)}, {stretch.to_seq}, {batch_id}, {timestamp(now)})"
    )
    return Stored(is_new=True, rows=n, marks=Marks(stretch.to_seq, batch_id))


def _refuse_known(connection: duckdb.DuckDBPyConnection, stretch: Stretch, as_of: int) -> None:
    """Return when none of the requests came in behind that batch."""
    arrow = stretch.tables.get("requests")
    if arrow is None or not arrow.num_rows:
        return
    connection.register("brought_requests", arrow.select(["app", "request_id"]))
    try:
        found = connection.execute(
            f"SELECT count(*) FROM (SELECT app, request_id FROM lake.requests WHERE batch_id > {as_of}) "
            "SEMI JOIN brought_requests USING (app, request_id)"
        ).fetchone()
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.unregister("brought_requests")
    if found is not None and found[0]:
        raise ConflictError(
            f"source {stretch.source_id}",
            seen=f"{found[0]:,} rows of its requests came in since they were looked for",
            needed="requests that are not there",
            next_step="look for them again",
        )


def _pieces(arrow: pa.Table, most_bytes: int) -> Iterator[pa.Table]:
    """The rows in pieces of as many rows each, which are about that large where rows are alike."""
    n = max(1, math.ceil(arrow.num_rows / max(1, math.ceil(arrow.nbytes / most_bytes))))
    return (arrow.slice(at, n) for at in range(0, arrow.num_rows, n))


def _insert_table(connection: duckdb.DuckDBPyConnection, table: LogTable, arrow: pa.Table, behind: int, place: Mapping[str, str]) -> int:
    """Insert the rows with a greater `seq` than `behind` (and for requests note their hours); how many they were."""
    filled = {
        **place,
        "day": f"CAST({utc_sql(str(table.time))} AS DATE)",
        "revision": "coalesce(revision, 0)" if "revision" in arrow.column_names else "0",
        "is_final": "coalesce(is_final, true)" if "is_final" in arrow.column_names else "true",
    }
    values = {
        column.name: filled.get(column.name, column.name if column.name in arrow.column_names else f"CAST(NULL AS {column.duckdb_type})")
        for column in table.columns
    }
    rows = f"staged_{table.name}"
    connection.register(f"{rows}_arrow", arrow)
    try:
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {rows} AS SELECT {', '.join(f'{value} AS {name}' for name, value in values.items())} "
            f"FROM {rows}_arrow WHERE seq > {behind}"
        )
        inserted = connection.execute(f"INSERT INTO lake.{table.name} ({', '.join(values)}) SELECT * FROM {rows}").fetchone()
        if table.name == "requests":
            connection.execute(note_sql(rows, batch_id=place["batch_id"]))
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.unregister(f"{rows}_arrow")
    return 0 if inserted is None else int(inserted[0])


def timestamp(at: datetime) -> str:
    """The time as SQL."""
    return f"CAST({literal(at.isoformat())} AS TIMESTAMPTZ)"


class SpoolReader:
    """The committed rows of any spool, read beside its owner.

    Opened for writing, where the file may be written: what an owner left that died within a change (a rollback journal, as while the spool
    was made) SQLite takes back before it reads, and for reading alone it refuses to. Of a dead owner's spool whoever closes it last brings
    the write-ahead file into the database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spool_id = path.stem

    def stretches(self, after: int) -> Iterator[Stretch]:
        """The rows behind `after` that are there now, in pieces that fit into memory.

        What the owner adds meanwhile waits for the next time, or a busy owner would keep its reader for ever.

        Raises:
            StoreError: the file is damaged, or a newer workbench wrote it.
        """
        with self._connected() as connection:
            until = connection.execute("SELECT coalesce(max(seq), 0) FROM rows").fetchone()[0]
        while rows := self._rows(after, until):
            yield self._stretch(rows)
            after = rows[-1][0]

    def oldest(self, after: int) -> float | None:
        """When the first row behind `after` was recorded (seconds since 1970); None when there is none."""
        with self._connected() as connection:
            row = connection.execute("SELECT recorded_at FROM rows WHERE seq > ? ORDER BY seq LIMIT 1", (after,)).fetchone()
        return None if row is None else float(row[0])

    def count(self, after: int) -> int:
        """How many rows stand behind `after`."""
        with self._connected() as connection:
            return int(connection.execute("SELECT count(*) FROM rows WHERE seq > ?", (after,)).fetchone()[0])

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with (
                at_work(),
                contextlib.closing(
                    sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=5)
                ) as connection,
            ):
                self._refuse_newer(connection.execute("PRAGMA user_version").fetchone()[0])
                if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'rows'").fetchone()[0] == 0:
                    connection.execute("CREATE TEMP TABLE rows (seq INTEGER, recorded_at REAL, log_table TEXT, payload BLOB)")
                yield connection
        except sqlite3.Error as fault:
            raise StoreError(
                f"spool {self.path}",
                seen=f"could not be read: {fault}",
                needed="an undamaged file",
                next_step="keep the file; its rows are not in the lake",
            ) from fault

    def _refuse_newer(self, found: int) -> None:
        if found > FORMAT:
            raise NewerWorkspace(f"spool {self.path}", seen=f"format {found}", needed=f"at most {FORMAT}", next_step="update the workbench")

    def _rows(self, after: int, until: int) -> list[tuple[int, str, bytes]]:
        """A piece that ends where a record does: what belongs together is stored, or left out, together."""
        rows: list[tuple[int, str, bytes]] = []
        size, newest = 0, None
        wanted = "SELECT seq, log_table, payload, recorded_at FROM rows WHERE seq > ? AND seq <= ? ORDER BY seq"
        with self._connected() as connection:
            for seq, table, payload, recorded_at in connection.execute(wanted, (after, until)):
                if (len(rows) >= _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE) and recorded_at != newest:
                    break
                rows.append((seq, table, payload))
                size, newest = size + len(payload), recorded_at
        return rows

    def _stretch(self, rows: Sequence[tuple[int, str, bytes]]) -> Stretch:
        by_table: dict[str, list[tuple[int, bytes]]] = {}
        for seq, table, payload in rows:
            by_table.setdefault(table, []).append((seq, payload))
        tables = {name: arrow_of(name, payloads, f"spool {self.path}") for name, payloads in by_table.items()}
        return Stretch(source_id=self.spool_id, from_seq=rows[0][0], to_seq=rows[-1][0], tables=tables, numbers_rows=True)


def drain(lake: Lake, path: Path, *, after: Marks, clock: Callable[[], datetime]) -> Stored:
    """Bring every committed row of a spool into the lake; `after` is how far it is there, as far as that is known."""
    total, marks = 0, after
    for stretch in SpoolReader(path).stretches(after.to_seq):
        stored = store(lake, stretch, now=clock(), known=marks)
        total += stored.rows
        marks = max(marks, stored.marks)
    return Stored(is_new=total > 0, rows=total, marks=marks)


def adopt(lake: Lake, path: Path, lock: FileLock, *, clock: Callable[[], datetime]) -> Stored:
    """Drain a dead process' spool, whose lock the caller holds, and remove its files. The lock is given back.

    Raises:
        StoreError: the spool or the lake failed; the files stay.
    """
    try:
        stored = Stored(is_new=False, rows=0, marks=UNREAD)
        if path.exists():
            stored = drain(lake, path, after=lake.read(lambda connection: read_marks(connection, path.stem)), clock=clock)
        remove_files(path)
        lock.remove()
    finally:
        lock.release()
    return stored
