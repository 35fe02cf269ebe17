"""The tables of a lake: made once, and brought up to this version by adding tables and columns.

What people logged is never dropped or rewritten. Sums of it may be: they are noted as missing, and made anew from the log.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from workbench.errors import NewerWorkspace
from workbench.observability.rollup import note_all_sql
from workbench.observability.tables import REQUESTS_HOURLY, SCHEMA_VERSION, TABLES, LogTable

_ONE_ROW_PER_HOUR = 3
"""The version from which `requests_hourly` has one row per hour and key; before, each flush added rows of its own."""


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make every table in `lake`, empty, without partitions: for a lake in memory."""
    for table in TABLES.values():
        connection.execute(_create(table))


def prepare(connection: duckdb.DuckDBPyConnection, subject: str) -> None:
    """Make what is missing in `lake`, inside the caller's write transaction.

    Raises:
        NewerWorkspace: the lake was written by a newer workbench.
    """
    version = version_of(connection)
    if version is not None and version >= SCHEMA_VERSION:
        refuse_newer(version, subject)
        return
    existing = _columns_by_table(connection)
    for table in TABLES.values():
        for statement in _statements(table, existing.get(table.name)):
            connection.execute(statement)
    if version is not None and version < _ONE_ROW_PER_HOUR:
        connection.execute(f"DELETE FROM lake.{REQUESTS_HOURLY.name}")
        connection.execute(note_all_sql())
    if version is None:
        connection.execute("CALL lake.set_option('parquet_compression', 'zstd')")
        connection.execute("CALL lake.set_option('parquet_compression_level', '1')")  # a tenth faster to write than 3, an eighth larger
    connection.execute(f"INSERT INTO lake.lake_meta (schema_version, changed_at) VALUES ({SCHEMA_VERSION}, now())")


def version_of(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The schema version of `lake`; None when it has no tables of ours.

    The table is asked itself: a list of all columns has DuckDB read the catalogue's own tables, too, a fifth of an opening's time.
    """
    try:
        row = connection.execute("SELECT max(schema_version) FROM lake.lake_meta").fetchone()
    except duckdb.CatalogException:
        return None
    return None if row is None else row[0]


def refuse_newer(version: int, subject: str) -> None:
    """Raise NewerWorkspace when the version is beyond this workbench's."""
    if version > SCHEMA_VERSION:
        raise NewerWorkspace(
            subject,
            seen=f"schema version {version}",
            needed=f"at most {SCHEMA_VERSION}",
            next_step="update the workbench: pip install --upgrade readiness-workbench",
        )


def _columns_by_table(connection: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    rows = connection.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'lake'").fetchall()
    columns: dict[str, set[str]] = {}
    for table, column in rows:
        columns.setdefault(table, set()).add(column)
    return columns


def _statements(table: LogTable, existing: set[str] | None) -> Iterator[str]:
    if existing is None:
        yield _create(table)
        if table.partition_by:
            yield f"ALTER TABLE lake.{table.name} SET PARTITIONED BY ({', '.join(table.partition_by)})"
        if table.sort_by:
            yield f"ALTER TABLE lake.{table.name} SET SORTED BY ({', '.join(table.sort_by)})"
        return
    for column in table.columns:
        if column.name not in existing:
            yield f"ALTER TABLE lake.{table.name} ADD COLUMN IF NOT EXISTS {column.name} {column.duckdb_type}"


def _create(table: LogTable) -> str:
    return f"CREATE TABLE IF NOT EXISTS lake.{table.name} ({', '.join(f'{column.name} {column.duckdb_type}' for column in table.columns)})"
