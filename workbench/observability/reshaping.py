"""Whether upkeep changed, under a reader, what the catalogue says of the snapshot that it reads; then its answer is of no snapshot at all.

Upkeep moves inlined rows to files, and puts merged files in the place of small ones, for snapshots that are there already. Where the
catalogue is on SQLite an open transaction sees that: DuckDB scans each of its tables by a connection of its own, so that only the number of
the snapshot is fixed. On PostgreSQL a transaction sees the catalogue as it was when it began.

Each commit says what it changed, in the transaction that changed it. So a reader asks at its end what came since, whoever did it and
whether or not they lived to see it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import duckdb

CATALOGUE = "__ducklake_metadata_lake"
ADDING = frozenset(
    {
        "created_schema",
        "created_table",
        "created_view",
        "altered_table",
        "inserted_into_table",
        "inlined_insert",
        "deleted_from_table",
        "inlined_delete",
    }
)
"""Changes that leave alone what is recorded of snapshots before them."""
_KIND = re.compile(r"(?:^|,)([a-z_]+)(?=:)")
Change = tuple[int, str | None]
"""A snapshot, and what made it, as the catalogue says it: `inserted_into_table:1,inlined_insert:6`."""


def newest_snapshot(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The snapshot that a transaction reads; None when nothing was ever written."""
    kind = connection.execute("SELECT type FROM duckdb_databases() WHERE database_name = 'lake'").fetchone()
    if kind is None or kind[0] != "ducklake":
        return None
    row = connection.execute("SELECT id FROM lake.current_snapshot()").fetchone()
    return None if row is None else int(row[0])


def is_reshaped_since(connection: duckdb.DuckDBPyConnection, snapshot: int) -> bool:
    """Whether a reader of that snapshot may have seen what belongs to no snapshot. Asked outside of its transaction.

    A snapshot that was given up meanwhile, it or a later one, cannot tell any more, so it may have.
    """
    sql = f"SELECT snapshot_id, changes_made FROM {CATALOGUE}.ducklake_snapshot_changes WHERE snapshot_id >= {snapshot} ORDER BY 1"
    return not leave_alone(connection.execute(sql).fetchall(), snapshot)


def leave_alone(changes: Sequence[Change], snapshot: int) -> bool:
    """Whether all that came after the snapshot only added to it.

    Args:
        changes: of that snapshot and those after it, oldest first.
        snapshot: the one that was read.
    """
    numbers = [number for number, _ in changes]
    is_whole = numbers[:1] == [snapshot] and all(after == before + 1 for before, after in pairwise(numbers))
    return is_whole and all(ADDING.issuperset(_KIND.findall(made or "")) for _, made in changes[1:])
