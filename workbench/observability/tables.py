"""The log tables: which columns a row has, what they may hold, and how a table lies on disk.

A row is written once and never changed; a correction is a new row. Each row ends in the columns that the storage
fills (`STORAGE_COLUMNS`): readers that must be deterministic order by `(batch_id, seq)`, never by time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from workbench.errors import UsageError

SCHEMA_VERSION = 4
"""Version of the lake's tables. A step up adds columns and tables; nothing is ever renamed or dropped (see `schema.py`)."""

TIMESTAMP = pa.timestamp("us", "UTC")
_RETRIEVED = pa.list_(pa.struct([("doc_id", pa.string()), ("score", pa.float64()), ("rank", pa.int32())]))
ARROW_TYPES: Mapping[str, pa.DataType] = MappingProxyType(
    {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "DOUBLE": pa.float64(),
        "DECIMAL(18,9)": pa.float64(),  # cast at the insert: sums of decimals are exact, their text needs no care
        "DECIMAL(38,9)": pa.decimal128(38, 9),
        "BOOLEAN": pa.bool_(),
        "DATE": pa.date32(),
        "TIMESTAMP WITH TIME ZONE": TIMESTAMP,
        "VARCHAR[]": pa.list_(pa.string()),
        "STRUCT(doc_id VARCHAR, score DOUBLE, rank INTEGER)[]": _RETRIEVED,
        "MAP(INTEGER, BIGINT)": pa.map_(pa.int32(), pa.int64()),
    }
)

STORAGE_COLUMNS = frozenset({"spool_id", "seq", "batch_id", "ingested_at", "day"})
"""Filled by the storage: which spool or import brought the row, its place there, its flush, and the UTC day."""

MOST_COUNTED = 10**12
"""Of tokens or calls in one row; a sum over millions of rows still fits into 64 bits."""
MOST_USD = 999_999_999
IMPLAUSIBLE = 1e100
"""No value of a log is as large; squares of larger ones leave the range of floats."""

STATUSES = ("ok", "error", "timeout", "blocked", "handed_off", "cancelled", "truncated", "unknown")
ARMS = ("stable", "candidate", "shadow", "none")
ASSIGNED_BY = ("bucket", "session", "no_unit", "no_candidate", "stale_route", "candidate_not_loaded", "shadow", "no_stable")
SPAN_KINDS = ("model", "tool", "retrieval", "guard", "fallback", "handoff", "agent", "other")
SIDE_EFFECTS = ("read", "write", "unknown")
SCORE_SOURCES = ("rule", "judge", "human", "user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. Values outside `allowed`, `pattern` or the range are refused at the door, so that no reader has to doubt them."""

    name: str
    duckdb_type: str
    required: bool = False
    allowed: tuple[str, ...] = ()
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None

    @property
    def arrow_type(self) -> pa.DataType:
        return ARROW_TYPES[self.duckdb_type]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTable:
    """One table of the lake."""

    name: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    time: str | None = None
    """The column that decides `day`; None for tables that only the storage writes."""
    by_name: Mapping[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", MappingProxyType({column.name: column for column in self.columns}))

    @property
    def given(self) -> tuple[Column, ...]:
        """The columns that a caller fills."""
        return tuple(column for column in self.columns if column.name not in STORAGE_COLUMNS)


def _columns(duckdb_type: str, names: str, **rules: Any) -> tuple[Column, ...]:
    return tuple(Column(name=name, duckdb_type=duckdb_type, **rules) for name in names.split())


def _text(names: str, **rules: Any) -> tuple[Column, ...]:
    return _columns("VARCHAR", names, **rules)


def _count(names: str) -> tuple[Column, ...]:
    return _columns("BIGINT", names, minimum=0, maximum=MOST_COUNTED)


def _time(names: str, **rules: Any) -> tuple[Column, ...]:
    return _columns("TIMESTAMP WITH TIME ZONE", names, **rules)


def _milliseconds(names: str) -> tuple[Column, ...]:
    return _columns("DOUBLE", names, minimum=0)


_TOKENS = _count("input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens")
_COST = _columns("DECIMAL(18,9)", "cost_usd", minimum=0, maximum=MOST_USD)
_APP = _text("app", required=True, pattern="[a-z][a-z0-9_-]{0,62}")
"""As `spec.base.Name`: it becomes the name of a folder, and a row whose folder cannot be made would block its spool."""
_PLACE = (*_text("spool_id"), *_columns("BIGINT", "seq batch_id"))
_DAY = _columns("DATE", "day")

REQUESTS = LogTable(
    name="requests",
    columns=(
        *_text("request_id", required=True),
        *_columns("INTEGER", "revision", minimum=0),
        *_columns("BOOLEAN", "is_final"),
        *_APP,
        *_text("workflow"),
        *_time("ts_start", required=True),
        *_time("ts_end"),
        *_milliseconds("latency_ms ttft_ms"),
        *_text("bundle"),
        *_text("arm", allowed=ARMS),
        *_columns("DOUBLE", "traffic_share", minimum=0, maximum=1),
        *_columns("BIGINT", "route_version"),
        *_text("assigned_by", allowed=ASSIGNED_BY),
        *_text("release_id session_id unit_hash trace_id operation provider model_requested model_served"),
        *_text("status", allowed=STATUSES),
        *_columns("BOOLEAN", "is_fallback"),
        *_text("error_type finish_reason"),
        *_count("attempts n_tool_calls n_tool_errors n_retrievals"),
        *_TOKENS,
        *_COST,
        *_columns("VARCHAR[]", "violation_rules blocked_rules"),
        *_text("handoff_id input output input_hmac output_hmac redaction_version"),
        *_columns("DOUBLE", "sample_probability", minimum=0, maximum=1),
        *_text("source"),
        *_PLACE,
        *_time("ingested_at"),
        *_DAY,
    ),
    partition_by=("app", "day"),
    sort_by=("unit_hash", "ts_start"),
    time="ts_start",
)
"""One row per answered (or refused) request and revision. A revision keeps `request_id`, `app` and `ts_start`; a request of which spans are
told in pieces may turn out to have begun earlier, but stays in its hour. `assigned_by` says why its bundle got it: with `session`, its talk
began under an earlier route, and its share and route version are those of that beginning."""

SPANS = LogTable(
    name="spans",
    columns=(
        *_text("trace_id"),
        *_text("span_id", required=True),
        *_text("parent_span_id request_id"),
        *_APP,
        *_text("bundle"),
        *_text("kind", allowed=SPAN_KINDS),
        *_text("name"),
        *_time("ts_start", required=True),
        *_milliseconds("duration_ms"),
        *_text("status error_type"),
        *_count("attempt"),
        *_text("tool_name tool_call_id tool_arguments tool_result"),
        *_text("side_effect", allowed=SIDE_EFFECTS),
        *_text("retrieval_query"),
        *_columns("STRUCT(doc_id VARCHAR, score DOUBLE, rank INTEGER)[]", "retrieved"),
        *_text("rule_id action provider model"),
        *_TOKENS,
        *_COST,
        *_text("attributes alias_version"),
        *_PLACE,
        *_DAY,
    ),
    partition_by=("app", "day"),
    sort_by=("request_id", "ts_start"),
    time="ts_start",
)
"""One row per step inside a request: a model call, a tool call, a retrieval, a guard."""

SCORES = LogTable(
    name="scores",
    columns=(
        *_text("score_id request_id", required=True),
        *_APP,
        *_text("name", required=True),
        *_columns("DOUBLE", "value"),
        *_text("label scorer_id"),
        *_text("source", allowed=SCORE_SOURCES),
        *_text("explanation"),
        *_columns("DOUBLE", "sample_probability", minimum=0, maximum=1),
        *_time("ts", required=True),
        *_PLACE,
        *_DAY,
    ),
    partition_by=("app", "day"),
    sort_by=("request_id", "ts"),
    time="ts",
)
"""One row per judgement of a request: a rule's, a judge model's, a person's. A request is named by app and id."""

OUTCOMES = LogTable(
    name="outcomes",
    columns=(
        *_text("outcome_id", required=True),
        *_APP,
        *_text("kpi", required=True),
        *_columns("DOUBLE", "value"),
        *_text("currency request_id session_id unit_hash"),
        *_time("ts", required=True),
        *_text("source"),
        *_PLACE,
        *_DAY,
    ),
    partition_by=("app", "day"),
    sort_by=("unit_hash", "ts"),
    time="ts",
)
"""One row per business event: an order, a refund, a call that was not needed."""

JUDGMENTS = LogTable(
    name="judgments",
    columns=(
        *_APP,
        *_text("topic doc_id", required=True),
        *_text("query"),
        *_columns("INTEGER", "grade", required=True, minimum=-1000, maximum=1000),
        *_text("source", allowed=SCORE_SOURCES),
        *_text("judge_id"),
        *_time("ts", required=True),
        *_PLACE,
        *_DAY,
    ),
    partition_by=("app", "day"),
    sort_by=("topic", "doc_id"),
    time="ts",
)
"""One row per judgement of a document for a question: which documents a search should find. The newest of (app, topic, doc_id) counts.

`query` is the question in words; a topic without it is its own question. A grade of 1 or more says that the document is relevant.
"""

SUMMED = tuple(
    column.name
    for column in REQUESTS.columns
    if column.name in {"attempts", "n_tool_calls", "n_tool_errors", "n_retrievals"} or column in _TOKENS
)
"""Count columns of a request that the roll-up sums; beside each stands how many requests reported it."""

WHO_ANSWERED = ("app", "workflow", "bundle", "arm", "release_id", "model_served", "provider")
HOW_IT_ENDED = ("status", "error_type", "is_fallback")
ROLLUP_KEY = (*WHO_ANSWERED, *HOW_IT_ENDED)
"""By what the roll-up tells requests apart, beside their hour or day: what people filter and group by, and what decides success."""

_ROLLED_UP = (
    *_text("app workflow bundle arm release_id model_served provider status error_type"),
    *_columns("BOOLEAN", "is_fallback"),
    *_count("n n_violation n_violation_known n_blocked n_blocked_known n_handoff n_priced"),
    *_count("n_bad_tools n_bad_latency n_bad_ttft tool_calls_known tool_errors_known"),
    *(column for name in SUMMED for column in _count(f"{name}_sum {name}_n")),
    *_columns("DECIMAL(38,9)", "cost_usd_sum"),
    *_columns("MAP(INTEGER, BIGINT)", "latency_histogram ttft_histogram"),
)

REQUESTS_HOURLY = LogTable(
    name="requests_hourly",
    columns=(*_time("hour"), *_DAY, *_ROLLED_UP),
    partition_by=("app", "day"),
    sort_by=("hour",),
)
"""One row per hour and `ROLLUP_KEY`: the sums of its requests, each in its latest revision (see `rollup.py`).

`n_x_known` counts the requests that can say whether x holds: the denominator of its rate. `n_bad_x` counts those that say what cannot be.
"""

REQUESTS_DAILY = LogTable(
    name="requests_daily",
    columns=(*_DAY, *_ROLLED_UP, *_columns("MAP(INTEGER, BIGINT)", "latency_all ttft_all")),
    partition_by=("app",),
    sort_by=("day",),
)
"""The same by UTC day, so that a question about months reads hundreds of rows for each day's hours.

Of the rows that differ only in `HOW_IT_ENDED` the first also has the histograms of all of them together, `latency_all` and `ttft_all`. Most
failures are rare, so that their histograms grow with the traffic; those of all requests are soon as wide as they get.
"""

UNSUMMED_HOURS = LogTable(
    name="unsummed_hours",
    columns=(*_text("app"), *_time("hour"), *_columns("BIGINT", "n batch_id")),
)
"""The hours that got rows after they were summed, or were never summed: noted by each flush, with how many rows, in its transaction, and
taken out by whoever sums them. What the roll-up says of such an hour, and of its day, is read from `requests` instead."""

RETAINED = LogTable(name="retained", columns=(*_text("app"), *_columns("DATE", "since"), *_time("taken_out_at")))
"""From which day on the requests of an app are kept, noted in the transaction that took out older ones; the latest day holds. Sums of
the days before stay as they are: nothing is left to make them anew from."""

FLUSHED = LogTable(
    name="flushed",
    columns=(*_text("spool_id"), *_columns("BIGINT", "from_seq to_seq batch_id"), *_time("flushed_at")),
)
"""The insert-only marks. `max(to_seq)` of a spool or import says how far it is stored; it is written with the rows."""

ERASURES = LogTable(
    name="erasures",
    columns=(
        *_columns("BIGINT", "erasure_id"),
        *_text("unit_hash"),
        *_time("erased_at"),
        *_columns("BIGINT", "through_snapshot requests spans scores outcomes"),
    ),
)
"""The units whose rows were taken out, in the transaction that did it, with how many rows of each table they were. Rows of the unit from
before `erased_at` are never stored again; snapshots up to `through_snapshot` showed them."""

EXPIRIES = LogTable(
    name="expiries",
    columns=(*_columns("BIGINT", "first_snapshot last_snapshot"), *_text("reason"), *_time("expired_at")),
)
"""Which stretch of snapshots was given up, and why: `erasure` or `retention`. Those of it that were kept then are still there."""

LAKE_META = LogTable(name="lake_meta", columns=(*_columns("INTEGER", "schema_version"), *_time("changed_at")))
"""The schema versions this lake has had; the greatest holds."""

_LOGS = (REQUESTS, SPANS, SCORES, OUTCOMES, JUDGMENTS)
SUMS = (REQUESTS_HOURLY, REQUESTS_DAILY)
_NOTES = (UNSUMMED_HOURS, RETAINED, FLUSHED, ERASURES, EXPIRIES, LAKE_META)
TABLES: Mapping[str, LogTable] = MappingProxyType({table.name: table for table in (*_LOGS, *SUMS, *_NOTES)})
WRITABLE: Mapping[str, LogTable] = MappingProxyType({table.name: table for table in TABLES.values() if table.time is not None})
"""The tables that callers write; the others are the storage's own."""


def at_snapshot(table: str, snapshot: int | None) -> str:
    """SQL name of a lake table, as of a snapshot when one is given."""
    return f"lake.{table}" if snapshot is None else f"lake.{table} AT (VERSION => {int(snapshot)})"


def latest_requests_sql(snapshot: int | None = None, *, among: str = "true") -> str:
    """A SELECT of each request's latest revision: the greatest revision, then the last one stored.

    A condition on `app` or `request_id` outside reaches the scan, because the ranking is inside both. `among` says among
    which rows: one that is true of all revisions of each request that is wanted.
    """
    requests = at_snapshot("requests", snapshot)
    return latest_sql(requests if among == "true" else f"(SELECT * FROM {requests} WHERE {among}) AS revisions")


def latest_sql(source: str) -> str:
    """The same of a relation that holds all revisions of its requests."""
    return (
        f"SELECT * FROM {source} "
        "QUALIFY row_number() OVER (PARTITION BY app, request_id ORDER BY revision DESC, batch_id DESC, seq DESC) = 1"
    )


def arrow_table(table: LogTable | str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows as Arrow, with every column that a caller fills; a missing key is null.

    Args:
        table: a writable table or its name.
        rows: column name to value; times as aware datetimes or as whole microseconds since 1970 UTC.
            `seq` may be given when the rows have an order of their own.

    Raises:
        UsageError: an unknown table or key, or a value that its column cannot hold.
    """
    log_table = writable(table)
    present = set().union(*rows)
    columns = (*log_table.given, log_table.by_name["seq"]) if "seq" in present else log_table.given
    unknown = present - {column.name for column in columns}
    if unknown:
        raise UsageError(
            f"row of {log_table.name}", seen=f"unknown columns {', '.join(sorted(unknown))}", needed="only columns of the table"
        )
    arrays = [_array(log_table, column, rows) if column.name in present else pa.nulls(len(rows), column.arrow_type) for column in columns]
    return pa.table(arrays, names=[column.name for column in columns])


def writable(table: LogTable | str) -> LogTable:
    """The log table of that name that a caller may write."""
    found = WRITABLE.get(table if isinstance(table, str) else table.name)
    if found is None:
        raise UsageError(f"log table {table if isinstance(table, str) else table.name!r}", seen="no such table", needed=", ".join(WRITABLE))
    return found


def _array(table: LogTable, column: Column, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    name = column.name
    values = [row.get(name) for row in rows]
    if column.arrow_type == TIMESTAMP and any(isinstance(value, datetime) and value.tzinfo is None for value in values):
        raise UsageError(
            f"{table.name}.{name}", seen="a time without a zone", needed="aware times", next_step="attach the zone it was measured in"
        )
    try:
        return pa.array(values, type=column.arrow_type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as fault:
        raise UsageError(f"{table.name}.{name}", seen=str(fault), needed=column.duckdb_type) from fault
