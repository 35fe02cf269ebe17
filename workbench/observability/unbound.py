"""Tables of the log as Ibis sees them, not bound to any engine, and what every engine has to compute alike."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from workbench.observability.tables import TABLES

IBIS_TYPES = {
    "VARCHAR": "string",
    "BIGINT": "int64",
    "INTEGER": "int32",
    "DOUBLE": "float64",
    "DECIMAL(18,9)": "decimal(18, 9)",
    "BOOLEAN": "boolean",
    "TIMESTAMP WITH TIME ZONE": "timestamp('UTC')",
    "VARCHAR[]": "array<string>",
    "DECIMAL(38,9)": "decimal(38, 9)",
    "MAP(INTEGER, BIGINT)": "map<int32, int64>",
    "STRUCT(doc_id VARCHAR, score DOUBLE, rank INTEGER)[]": "array<struct<doc_id: string, score: float64, rank: int32>>",
}


def unbound(table: str, columns: Sequence[str]) -> ir.Table:
    """These columns of a log table; the expression names it, and who runs it says what the name stands for."""
    known = TABLES[table].by_name
    return ibis.table({name: IBIS_TYPES[known[name].duckdb_type] for name in columns}, name=table)


def sorted_sum(column: ir.Value, *, where: ir.Value | None = None) -> ir.Value:
    """The sum of floats, added from the smallest on: the same digits in any order of rows and on any number of threads."""
    return column.collect(where=where).sort().sums()
