"""Rows of erased units that arrive late: a spool or a file still had them when the unit was taken out of the lake."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import duckdb
import pyarrow as pa

from workbench.observability.tables import WRITABLE

T = TypeVar("T")
_NAMES_A_UNIT = ("requests", "outcomes")


def without_erased(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
    """The rows that may be stored: none that a unit left before it was erased. Read in the transaction that stores them.

    Args:
        connection: in a write transaction on the lake.
        tables: log table to rows; what belongs to one request is brought together.
    """
    if connection.execute("SELECT 1 FROM lake.erasures LIMIT 1").fetchone() is None:
        return tables
    named = {unit for name in _NAMES_A_UNIT for unit in _column(tables.get(name), "unit_hash") if unit is not None}
    connection.register("brought_units", pa.table({"unit_hash": pa.array(sorted(named), pa.string())}))
    try:
        found = connection.execute(
            "SELECT unit_hash, max(epoch_us(erased_at)) FROM lake.erasures SEMI JOIN brought_units USING (unit_hash) GROUP BY unit_hash"
        ).fetchall()
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.unregister("brought_units")
    return left_after(tables, dict(found)) if found else tables


def left_after(tables: Mapping[str, pa.Table], erased_us: Mapping[str, int]) -> dict[str, pa.Table]:
    """The rows without those of erased units: requests and outcomes by the unit they name, and what names only such a request or trace.

    Args:
        tables: log table to rows.
        erased_us: unit hash to when it was erased, microseconds since 1970 UTC; what happened later is kept.
    """
    requests = tables.get("requests")
    are_gone = _is_of_erased("requests", requests, erased_us)
    gone, traces = (_only_of_gone(names, are_gone) for names in (_keys(requests), _column(requests, "trace_id")))
    left = {}
    for name, arrow in tables.items():
        by_unit = _is_of_erased(name, arrow, erased_us) if name in _NAMES_A_UNIT else [False] * arrow.num_rows
        named = zip(by_unit, _keys(arrow), _column(arrow, "trace_id"), strict=True)
        keep = [not (is_gone or key in gone or (key[1] is None and trace in traces)) for is_gone, key, trace in named]
        left[name] = arrow if all(keep) else arrow.filter(pa.array(keep, pa.bool_()))
    return left


def _only_of_gone(names: Iterable[T], are_gone: Sequence[bool]) -> set[T]:
    """The names, one of each request, that only requests bear which are gone; a name that is missing is none."""
    pairs = list(zip(names, are_gone, strict=True))
    return {name for name, is_gone in pairs if is_gone and name is not None} - {name for name, is_gone in pairs if not is_gone}


def _is_of_erased(name: str, arrow: pa.Table | None, erased_us: Mapping[str, int]) -> list[bool]:
    time = WRITABLE[name].time
    if arrow is None or time is None:
        return []
    times = arrow[time].cast(pa.int64()).to_pylist()
    units = _column(arrow, "unit_hash")
    return [unit is not None and unit in erased_us and at <= erased_us[unit] for unit, at in zip(units, times, strict=True)]


def _keys(arrow: pa.Table | None) -> Iterator[tuple[str | None, str | None]]:
    return zip(_column(arrow, "app"), _column(arrow, "request_id"), strict=True)


def _column(arrow: pa.Table | None, name: str) -> list[str | None]:
    """The column's values; nulls where the rows have no such column."""
    if arrow is None:
        return []
    return arrow[name].to_pylist() if name in arrow.column_names else [None] * arrow.num_rows
