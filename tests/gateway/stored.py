"""Everything that a workspace stores, decoded, and byte by byte."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import duckdb

from workbench.workspace import Workspace


def decoded_lake(ws: Workspace) -> Iterator[str]:
    """Every row of every table at every snapshot, and every row of every data file."""

    def read(lake: duckdb.DuckDBPyConnection) -> list[str]:
        snapshots = [number for (number,) in lake.execute("SELECT snapshot_id FROM ducklake_snapshots('lake')").fetchall()]
        tables = lake.execute("SELECT table_name, begin_snapshot FROM __ducklake_metadata_lake.ducklake_table").fetchall()
        return [
            text
            for table, since in tables
            for snapshot in snapshots
            if snapshot >= since
            for (text,) in lake.execute(f"SELECT to_json(t)::VARCHAR FROM (FROM lake.{table} AT (VERSION => {snapshot})) t").fetchall()
        ]

    yield from ws.lake.read(read)
    for path in (ws.home / "lake" / "data").rglob("*.parquet"):
        yield from (text for (text,) in duckdb.execute(f"SELECT to_json(t)::VARCHAR FROM read_parquet('{path}') t").fetchall())


def decoded_sqlite(path: Path) -> Iterator[str]:
    """Every row of every table of a SQLite file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in connection.execute(f"SELECT * FROM {table}"):
                yield " ".join(cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for cell in row)


def raw_files(folder: Path) -> Iterator[str]:
    """The bytes of every file, free pages and write-ahead logs included."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.read_bytes().decode("utf-8", "replace")
