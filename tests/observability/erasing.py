"""A workspace's stores for the erasure tests, and a search of everything that they keep: decoded, and byte by byte."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from tests.observability.lakes import SHARED, ledger_of, open_lake, stored_files
from workbench.ledger.store import Ledger
from workbench.observability.erasure import Erasure, HeldInLedger
from workbench.observability.lake import Lake
from workbench.observability.logs import Logs
from workbench.observability.metrics import Metrics
from workbench.observability.upkeep import Upkeep
from workbench.ownership.model import Actor, Assurance

MARK = "Erdbeermarmelade"
"""Stands in every text of the unit to be erased, and nowhere else."""
BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ADMIN = Actor(person="primary", via="cli", assurance=Assurance.VERIFIED)


def hash_of(unit: str) -> str:
    return f"hash of {unit}"


class Anybody:
    """Lets everybody do everything."""

    def require(self, author, act, app) -> None: ...

    def require_declaration(self, author, app, kind, old, new) -> None: ...


@dataclass
class Stores:
    """The stores of one workspace, as one process has them."""

    home: Path
    catalog: str | None = None
    grace: timedelta = timedelta(0)
    orphan_age: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        self.ledger = Ledger.open(ledger_of(self.home), clock=self.now)
        self.lake: Lake = open_lake(self.home, catalog=self.catalog)
        self.logs = self.more_logs()
        self.upkeep = Upkeep(self.lake, cited=frozenset, grace=self.grace, orphan_age=self.orphan_age)
        self.erasure = self.eraser()
        self.metrics = Metrics(self.lake, app_spec=lambda _: None, clock=self.now)

    def eraser(self, **more: Any) -> Erasure:
        given = {
            "others": (HeldInLedger(self.ledger),),
            "unit_hash": hash_of,
            "authority": Anybody(),
            "author": ADMIN,
            "clock": self.now,
            "clean": str,
        } | more
        return Erasure(self.ledger, self.lake, self.logs, self.upkeep, **given)

    def more_logs(self) -> Logs:
        return Logs(self.lake, spool_folder=self.home / "spool", clock=self.now)

    @staticmethod
    def now() -> datetime:
        return datetime.now(UTC)

    def close(self) -> None:
        self.logs.close()
        self.lake.close()
        self.ledger.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.lake.read(lambda connection: connection.execute(sql).fetchall())


def record_of(unit: str, n: int, *, at: datetime = BEGAN, **more: Any) -> dict[str, list[dict[str, Any]]]:
    """One request of a unit, with a row in every table; the marked unit's mark in every text."""
    word = f"{MARK} {unit}" if unit.startswith("marked") else unit
    request_id = f"{word} {n}"
    common = {"app": "shop", "request_id": request_id}
    return {
        "requests": [
            {
                **common,
                "ts_start": at,
                "unit_hash": hash_of(unit),
                "session_id": f"session of {word}",
                "trace_id": f"trace {request_id}",
                "status": "ok",
                "bundle": "shop@1",
                "latency_ms": 100.0 + n,
                "input": f'"{word} asks"',
                "output": f'"to {word}"',
                **more,
            }
        ],
        "spans": [
            {**common, "span_id": f"span {request_id}", "ts_start": at, "kind": "tool", "tool_result": f'"{word}"'},
            {"app": "shop", "span_id": f"late span {request_id}", "ts_start": at, "trace_id": f"trace {request_id}", "name": word},
        ],
        "scores": [
            {**common, "score_id": f"score {request_id}", "name": "success", "value": 1.0, "source": "human", "explanation": word, "ts": at}
        ],
        "outcomes": [
            {"app": "shop", "outcome_id": f"by request {request_id}", "kpi": "order", "value": 1.0, "request_id": request_id, "ts": at},
            {"app": "shop", "outcome_id": f"by unit {word} {n}", "kpi": "order", "value": 1.0, "unit_hash": hash_of(unit), "ts": at},
            {
                "app": "shop",
                "outcome_id": f"by session {word} {n}",
                "kpi": "order",
                "value": 1.0,
                "session_id": f"session of {word}",
                "ts": at,
            },
        ],
    }


def decoded_lake(stores: Stores) -> Iterator[str]:
    """Every row of every table at every snapshot, every row of every file, and what the catalogue's tables say."""

    def read(lake: duckdb.DuckDBPyConnection) -> list[str]:
        snapshots = [number for (number,) in lake.execute("SELECT snapshot_id FROM ducklake_snapshots('lake')").fetchall()]
        tables = lake.execute("SELECT table_name, begin_snapshot FROM __ducklake_metadata_lake.ducklake_table").fetchall()
        own = lake.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = '__ducklake_metadata_lake'").fetchall()
        places = [f"lake.{table} AT (VERSION => {number})" for table, since in tables for number in snapshots if number >= since]
        places += [f"__ducklake_metadata_lake.{table}" for (table,) in own]
        return [text for place in places for (text,) in lake.execute(f"SELECT to_json(t)::VARCHAR FROM (FROM {place}) t").fetchall()]

    yield from stores.lake.read(read)
    for content in stored_files(stores.home).values():
        with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
            file.write(content)
            file.flush()
            yield from (text for (text,) in duckdb.execute(f"SELECT to_json(t)::VARCHAR FROM read_parquet('{file.name}') t").fetchall())


def decoded_ledger(stores: Stores) -> Iterator[str]:
    """Every row of the ledger's tables, and where it shares a database with the catalogue, of that."""
    if not SHARED:
        yield from decoded_sqlite(stores.home / "ledger.sqlite")
        return
    with psycopg.connect(ledger_of(stores.home)) as connection:
        for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            yield from (text for (text,) in connection.execute(f'SELECT t::text FROM "{table}" t').fetchall())


def decoded_sqlite(path: Path) -> Iterator[str]:
    """Every cell of a SQLite file that this process does not have attached to DuckDB."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield " ".join(cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in row)


def with_mark_in_bytes(folder: Path) -> list[str]:
    """The files under the folder in whose bytes the mark stands, free pages and write-ahead logs included.

    Another process reads them: a catalogue's file is not opened beside DuckDB.
    """
    script = (
        "import pathlib, sys\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).rglob('*')):\n"
        "    if path.is_file() and sys.argv[2].encode() in path.read_bytes():\n"
        "        print(path.relative_to(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder), MARK], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _objects_with_mark(home: Path) -> list[str]:
    return [name for name, content in stored_files(home).items() if MARK.encode() in content] if SHARED else []


def places_of_mark(stores: Stores) -> dict[str, bool | list[str]]:
    """Store to whether the mark stands there, and the files with its bytes."""
    return {
        "lake": any(MARK in text for text in decoded_lake(stores)),
        "spools": any(MARK in text for path in (stores.home / "spool").glob("*.sqlite") for text in decoded_sqlite(path)),
        "ledger": any(MARK in text for text in decoded_ledger(stores)),
        "bytes": [*with_mark_in_bytes(stores.home), *_objects_with_mark(stores.home)],
    }


NOWHERE: dict[str, bool | list[str]] = {"lake": False, "spools": False, "ledger": False, "bytes": []}
