"""Rows at the door: what is refused, and how a row lies in a spool or comes from Arrow."""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from workbench.errors import StoreError, UsageError
from workbench.observability.tables import TIMESTAMP, WRITABLE, Column, LogTable, arrow_table, writable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SHOWN_CHARACTERS = 80


def encoded(table: LogTable | str, row: Mapping[str, Any]) -> bytes:
    """The row as a spool keeps it: JSON, its times as whole microseconds since 1970 UTC.

    Raises:
        UsageError: an unknown column, a missing required one, or a value that its column cannot hold.
    """
    log_table = writable(table)
    sure = _SURE[log_table.name]
    for name, value in row.items():
        if value is not None and sure.get(name) is not type(value):
            _check(log_table, name, value)
    for name in _REQUIRED[log_table.name]:
        if row.get(name) is None:
            raise UsageError(_subject(log_table, name), seen="missing", needed="a value in every row")
    for part, whole in _PARTS.get(log_table.name, ()):
        if (row.get(part) or 0) > (row.get(whole) or 0):
            raise UsageError(_subject(log_table, part), seen=f"{row[part]} of {row.get(whole)}", needed=f"at most {whole}")
    try:
        return orjson.dumps(row, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError as fault:
        raise UsageError(f"row of {log_table.name}", seen=str(fault), needed="valid UTF-8 text and plain values") from fault


def decoded(payload: bytes, subject: str) -> dict[str, Any]:
    """The row that `encoded` wrote.

    Raises:
        StoreError: the bytes are something else.
    """
    try:
        row = orjson.loads(payload)
    except orjson.JSONDecodeError as fault:
        raise StoreError(subject, seen=f"a row that is not JSON ({fault})", needed="the bytes that were recorded") from fault
    if not isinstance(row, dict):
        raise StoreError(subject, seen="a row that is not an object", needed="the bytes that were recorded")
    return row


def arrow_of(table: str, payloads: Sequence[tuple[int, bytes]], subject: str) -> pa.Table:
    """Rows that `encoded` wrote as Arrow, with the number of each as `seq`.

    Arrow's own reader parses them without Python's lock, which calls in flight need.

    Args:
        table: a writable table.
        payloads: number and bytes of each row; at least one.
        subject: names them in an error.

    Raises:
        StoreError: a row is something else.
    """
    lines = b"\n".join([b'{"seq":%d,%b' % (seq, payload[1:]) for seq, payload in payloads])
    try:
        arrow = pa.json.read_json(
            io.BytesIO(lines),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=pa.json.ParseOptions(explicit_schema=_AS_JSON[table], unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid:
        arrow = None
    if arrow is None or arrow.num_rows != len(payloads):  # which of them is it?
        return arrow_table(table, [{**decoded(payload, f"{subject}, row {seq}"), "seq": seq} for seq, payload in payloads])
    return arrow.cast(_AS_ARROW[table])


def conformed(name: str, arrow: pa.Table) -> pa.Table:
    """The Arrow table with the log table's own column types, checked like single rows.

    Raises:
        UsageError: an unknown table or column, a missing required one, or a value that its column cannot hold.
    """
    table = writable(name)
    known = {column.name for column in table.given} | {"seq"}
    unknown = [column for column in arrow.column_names if column not in known]
    if unknown or len(set(arrow.column_names)) < len(arrow.column_names):
        raise UsageError(
            f"Arrow table for {name}",
            seen=f"unknown or repeated columns: {unknown or arrow.column_names}",
            needed="columns of the table, once",
        )
    missing = [column for column in _REQUIRED[name] if column not in arrow.column_names]
    if missing:
        raise UsageError(f"Arrow table for {name}", seen=f"no column {', '.join(missing)}", needed="every required column")
    columns = [_conformed(table, table.by_name[column], arrow.column(column)) for column in arrow.column_names]
    table_of_rows = pa.table(columns, names=arrow.column_names)
    for part, whole in _PARTS.get(name, ()):
        _refuse_larger_part(table_of_rows, table, part, whole)
    return table_of_rows


def _check(table: LogTable, name: str, value: object) -> None:
    column = table.by_name.get(name)
    holds = _HOLDS.get((table.name, name))
    if column is None or holds is None:
        raise UsageError(f"row of {table.name}", seen=f"unknown column {name!r}", needed="a column of the table that the caller fills")
    if not holds(value):
        raise UsageError(_subject(table, name), seen=_shown(value), needed=_needs(column))


def _subject(table: LogTable, column: str) -> str:
    return f"{table.name}.{column}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _needs(column: Column) -> str:
    if column.allowed:
        return f"one of {', '.join(column.allowed)}"
    if column.pattern:
        return f"text like {column.pattern}"
    if column.arrow_type == TIMESTAMP:
        return "a time with a zone"
    low = "" if column.minimum is None else f", at least {column.minimum:g}"
    return column.duckdb_type + low + ("" if column.maximum is None else f", at most {column.maximum:g}")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return (value - _EPOCH) // _MICROSECOND
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not a plain value")


def _is_number(value: object) -> bool:
    """Whether it is a finite number that a DOUBLE holds: Arrow takes no whole number that it would have to round."""
    if isinstance(value, Decimal):
        return value.is_finite() and math.isfinite(float(value))
    return math.isfinite(value) if isinstance(value, float) else _is_whole(value, 54)


def _is_whole(value: object, bits: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << bits - 1) <= value < 1 << bits - 1


def _is_label(value: object) -> bool:
    """Whether it is text that may stand inside a list: PostgreSQL's catalogue refuses a NUL there."""
    return isinstance(value, str) and "\0" not in value


def _is_retrieved(value: object) -> bool:
    if not isinstance(value, list | tuple):
        return False
    return all(
        isinstance(hit, dict)
        and hit.keys() <= {"doc_id", "score", "rank"}
        and (hit.get("doc_id") is None or _is_label(hit["doc_id"]))
        and (hit.get("score") is None or _is_number(hit["score"]))
        and (hit.get("rank") is None or _is_whole(hit["rank"], 32))
        for hit in value
    )


_BY_TYPE: Mapping[str, Callable[[Any], bool]] = {
    "VARCHAR": lambda value: isinstance(value, str),
    "BIGINT": lambda value: _is_whole(value, 64),
    "INTEGER": lambda value: _is_whole(value, 32),
    "DOUBLE": _is_number,
    "DECIMAL(18,9)": _is_number,
    "BOOLEAN": lambda value: isinstance(value, bool),
    "TIMESTAMP WITH TIME ZONE": lambda value: isinstance(value, datetime) and value.tzinfo is not None,
    "VARCHAR[]": lambda value: isinstance(value, list | tuple) and all(_is_label(text) for text in value),
    "STRUCT(doc_id VARCHAR, score DOUBLE, rank INTEGER)[]": _is_retrieved,
}


_MOST = {"BIGINT": (1 << 63) - 1, "INTEGER": (1 << 31) - 1, "DOUBLE": sys.float_info.max}


def _holder(column: Column) -> Callable[[Any], bool]:
    """The test of one value of the column. Most values are of the one type that is compared first, and each row has dozens."""
    is_of_type = _BY_TYPE[column.duckdb_type]
    if column.allowed:
        allowed = frozenset(column.allowed)
        return lambda value: isinstance(value, str) and value in allowed
    if column.pattern:
        fits = re.compile(column.pattern).fullmatch
        return lambda value: isinstance(value, str) and fits(value) is not None
    if column.minimum is None:
        return is_of_type
    low, high = column.minimum, _MOST[column.duckdb_type] if column.maximum is None else column.maximum
    usual = int if pa.types.is_integer(column.arrow_type) else float
    return lambda value: (type(value) is usual or is_of_type(value)) and low <= value <= high


_HOLDS = {(table.name, column.name): _holder(column) for table in WRITABLE.values() for column in table.given}
_SURE: Mapping[str, Mapping[str, type]] = {
    table.name: {
        column.name: {"VARCHAR": str, "BOOLEAN": bool}[column.duckdb_type]
        for column in table.given
        if column.duckdb_type in ("VARCHAR", "BOOLEAN") and not column.allowed and not column.pattern
    }
    for table in WRITABLE.values()
}
"""Columns that hold every value of one type."""
_PARTS = {"requests": (("n_tool_errors", "n_tool_calls"),)}
"""Columns that count a part of what another one counts."""
_REQUIRED = {table.name: tuple(column.name for column in table.columns if column.required) for table in WRITABLE.values()}


def _schema(table: LogTable, type_of: Callable[[Column], pa.DataType]) -> pa.Schema:
    return pa.schema([(column.name, type_of(column)) for column in (table.by_name["seq"], *table.given)])


_AS_ARROW = {table.name: _schema(table, lambda column: column.arrow_type) for table in WRITABLE.values()}
_AS_JSON = {
    table.name: _schema(table, lambda column: pa.int64() if column.arrow_type == TIMESTAMP else column.arrow_type)
    for table in WRITABLE.values()
}


def _conformed(table: LogTable, column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    subject = _subject(table, column.name)
    if column.arrow_type == TIMESTAMP and pa.types.is_timestamp(values.type) and values.type.tz is None:
        raise UsageError(subject, seen="times without a zone", needed="a zone", next_step="attach the zone they were measured in")
    try:
        values = values.cast(column.arrow_type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as fault:
        raise UsageError(subject, seen=str(fault).splitlines()[0], needed=_needs(column)) from fault
    if column.required and values.null_count:
        raise UsageError(subject, seen=f"{values.null_count} rows without a value", needed="a value in every row")
    _refuse_outside(column, values, subject)
    return values


def _refuse_larger_part(rows: pa.Table, table: LogTable, part: str, whole: str) -> None:
    if part not in rows.column_names:
        return
    wholes = rows[whole].fill_null(0) if whole in rows.column_names else pa.scalar(0, pa.int64())
    if pc.any(pc.greater(rows[part].fill_null(0), wholes), min_count=0).as_py():
        raise UsageError(_subject(table, part), seen=f"more than {whole} in the same row", needed=f"at most {whole}")


def _refuse_outside(column: Column, values: pa.ChunkedArray, subject: str) -> None:
    if column.allowed or column.pattern:
        holds = _holder(column)
        strange = [value for value in pc.unique(values).to_pylist() if value is not None and not holds(value)]
        if strange:
            raise UsageError(subject, seen=_shown(min(strange)), needed=_needs(column))
    if pa.types.is_floating(values.type) and not pc.all(pc.is_finite(values), min_count=0).as_py():
        raise UsageError(subject, seen="a number that is not finite", needed="finite numbers, null for no value")
    if pa.types.is_list(values.type):
        texts = pc.list_flatten(values)
        texts = pc.struct_field(texts, "doc_id") if pa.types.is_struct(texts.type) else texts
        if pc.any(pc.match_substring(texts, "\0"), min_count=0).as_py():
            raise UsageError(subject, seen="a NUL character in a list", needed="text without it")
    if column.minimum is not None:
        ends = pc.min_max(values).as_py()
        for seen in ends.values():
            if seen is not None and not column.minimum <= seen <= (math.inf if column.maximum is None else column.maximum):
                raise UsageError(subject, seen=_shown(seen), needed=_needs(column))


def rows_of(batch: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, bytes]]:
    """Table name and payload of every row, all of them checked before the first is stored.

    Raises:
        UsageError: there is no such table, or a row does not fit its own.
    """
    tables = {name: writable(name) for name in batch}
    return [(name, encoded(tables[name], row)) for name, rows in batch.items() for row in rows]
