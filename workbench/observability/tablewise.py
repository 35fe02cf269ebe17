"""DuckLake's upkeep of whole lakes, done to one table after another, and only to those that need it.

Asked for all tables at once, DuckLake works on them with several threads that change the transaction's lists without a lock: that breaks
the memory of the process, now and then. It also plans for every table, whether or not there is something to do.
"""

from __future__ import annotations

from contextlib import suppress

import duckdb

from workbench.observability.flusher import literal
from workbench.observability.reshaping import CATALOGUE

_TABLES = f"(SELECT table_id, table_name FROM {CATALOGUE}.ducklake_table WHERE end_snapshot IS NULL)"


def flush_inlined(connection: duckdb.DuckDBPyConnection) -> int:
    """Write the catalogue's rows, and the deletions that stand there, to files; how many tables that were."""
    return _each(connection, "ducklake_flush_inlined_data('lake', table_name => {})", _with_inlined(connection))


def rewrite(connection: duckdb.DuckDBPyConnection) -> int:
    """Write files anew whose rows were deleted in part; how many files that were."""
    tables = _names(connection, f"SELECT DISTINCT table_name FROM {CATALOGUE}.ducklake_delete_file AS d JOIN {_TABLES} USING (table_id)")
    return _each(connection, "ducklake_rewrite_data_files('lake', {}, delete_threshold => 0)", tables)


def merge(connection: duckdb.DuckDBPyConnection, *, most: int) -> int:
    """Make large files of small ones, at most `most` of each table; how many files that were."""
    files = f"{CATALOGUE}.ducklake_data_file AS f JOIN {_TABLES} USING (table_id)"
    tables = _names(connection, f"SELECT table_name FROM {files} GROUP BY table_name HAVING count(*) > 1")
    return _each(connection, f"ducklake_merge_adjacent_files('lake', {{}}, max_compacted_files => {most})", tables)


def _with_inlined(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The tables of which the catalogue itself holds rows or deletions; on a server those that may.

    There DuckDB would look through another connection, whose lock on what it read would keep the commit from dropping it, for ever.
    """
    ((path,),) = connection.execute("SELECT path FROM duckdb_databases() WHERE database_name = 'lake'").fetchall()
    if not path.startswith("sqlite:"):
        return _names(connection, f"SELECT table_name FROM {_TABLES}")
    inlined = connection.execute(
        f"SELECT t.table_name, i.table_name FROM {_TABLES} AS t JOIN {CATALOGUE}.ducklake_inlined_data_tables AS i USING (table_id)"
    ).fetchall()
    with_files = connection.execute(
        f"SELECT DISTINCT table_name, table_id FROM {CATALOGUE}.ducklake_data_file AS f JOIN {_TABLES} USING (table_id)"
    ).fetchall()
    places = [*inlined, *((name, f"ducklake_inlined_delete_{table_id}") for name, table_id in with_files)]
    return sorted({name for name, place in places if _has_rows(connection, place)})


def _has_rows(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    with suppress(duckdb.CatalogException):  # deletions have a table from the first of them on
        return bool(connection.execute(f'SELECT 1 FROM {CATALOGUE}."{table}" LIMIT 1').fetchall())
    return False


def _each(connection: duckdb.DuckDBPyConnection, function: str, tables: list[str]) -> int:
    """The sum of the rows that the function gives for each of the tables."""
    return sum(count(connection, function.format(literal(table))) for table in tables)


def count(connection: duckdb.DuckDBPyConnection, function: str) -> int:
    """How many rows the table function gives, once it has done its work."""
    ((n,),) = connection.execute(f"SELECT count(*) FROM {function}").fetchall()
    return int(n)


def _names(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    return sorted(name for (name,) in connection.execute(sql).fetchall())
