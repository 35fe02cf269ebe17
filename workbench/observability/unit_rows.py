"""Which rows of the lake are a unit's, and taking them out: of all log tables, and of the roll-up of the hours they were in.

A unit's are the requests with its hash and their revisions; what names one of those requests (spans, scores, outcomes); outcomes
with its hash; and what names only a session or a trace, where all of that session's or trace's requests are the unit's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from workbench.observability.flusher import literal, timestamp
from workbench.observability.rollup import hour_sql
from workbench.observability.summing import sum_hours

COUNTED = ("requests", "spans", "scores", "outcomes")
_IS_REPEATED = (
    "(alias_version IS NOT NULL AND (app, trace_id, span_id) IN "
    "(SELECT app, trace_id, span_id FROM lake.spans WHERE (app, request_id) IN (FROM unit_requests)))"
)
"""A span of a trace is stored again when it turns out whose request it is a part of; the row before names another one."""
Keys = Sequence[tuple[str, str]]
"""Requests by app and id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one transaction took out."""

    rows: tuple[int, int, int, int]
    """Of each of `COUNTED`."""
    keys: Keys
    """The requests, with those that the caller knew already."""
    shared: int
    """Outcomes that were left because they name only a session that others took part in."""


def take_out(connection: duckdb.DuckDBPyConnection, *, erasure_id: int, unit_hash: str, known: Keys, at: datetime) -> Taken:
    """Delete the unit's rows at the head of the lake and remember that it was erased, inside the caller's write transaction.

    Args:
        connection: of the transaction.
        erasure_id: whose rows they are, in `erasures`.
        unit_hash: the unit.
        known: requests of the unit that were taken out before, so that what names them is found although they are gone.
        at: rows of the unit from before this time are never stored again.
    """
    _find(connection, unit_hash, known)
    shared = _number(
        connection, f"SELECT count(*) FROM lake.outcomes WHERE {_only_of('session_id')} AND (app, session_id) IN (FROM shared_sessions)"
    )
    through = _number(connection, "SELECT id FROM lake.current_snapshot()")
    rows = tuple(_number(connection, f"DELETE FROM lake.{name} WHERE {where}") for name, where in _conditions(unit_hash).items())
    if any(rows):
        sum_hours(connection, "unit_hours")
    if any(rows) or not _number(connection, f"SELECT count(*) FROM lake.erasures WHERE erasure_id = {erasure_id}"):
        connection.execute(
            f"INSERT INTO lake.erasures (erasure_id, unit_hash, erased_at, through_snapshot, {', '.join(COUNTED)}) "
            f"VALUES ({erasure_id}, {literal(unit_hash)}, {timestamp(at)}, {through}, {', '.join(map(str, rows))})"
        )
    keys = connection.execute("SELECT app, request_id FROM unit_requests").fetchall()
    requests, spans, scores, outcomes = rows
    return Taken(rows=(requests, spans, scores, outcomes), keys=keys, shared=shared)


def _find(connection: duckdb.DuckDBPyConnection, unit_hash: str, known: Keys) -> None:
    """Make the temporary tables that say what is the unit's, all of them of keys with their app."""
    apps, ids = ([key[place] for key in known] for place in (0, 1))
    connection.register("known_requests", pa.table({"app": pa.array(apps, pa.string()), "request_id": pa.array(ids, pa.string())}))
    try:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE unit_requests AS SELECT app, request_id FROM known_requests "
            f"UNION SELECT app, request_id FROM lake.requests WHERE unit_hash = {literal(unit_hash)}"
        )
    finally:
        connection.unregister("known_requests")
    own, others = (f"FROM lake.requests {join} JOIN unit_requests USING (app, request_id)" for join in ("SEMI", "ANTI"))
    for name, column, join in (
        ("unit_sessions", "session_id", "EXCEPT"),
        ("shared_sessions", "session_id", "INTERSECT"),
        ("unit_traces", "trace_id", "EXCEPT"),
    ):
        of_unit, of_others = (f"SELECT app, {column} {rows} WHERE {column} IS NOT NULL" for rows in (own, others))
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {of_unit} {join} {of_others}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE unit_hours AS SELECT DISTINCT app, {hour_sql('ts_start')} AS hour {own}")


def _conditions(unit_hash: str) -> dict[str, str]:
    """Log table to the condition that a row of it is the unit's."""
    is_unit, is_request = f"unit_hash = {literal(unit_hash)}", "(app, request_id) IN (FROM unit_requests)"
    return {
        "requests": f"{is_unit} OR (unit_hash IS NULL AND {is_request})",
        "spans": f"{is_request} OR ({_only_of('trace_id')} AND (app, trace_id) IN (FROM unit_traces)) OR {_IS_REPEATED}",
        "scores": is_request,
        "outcomes": f"{is_unit} OR {is_request} OR ({_only_of('session_id')} AND (app, session_id) IN (FROM unit_sessions))",
    }


def _only_of(column: str) -> str:
    """The condition that the row names no request, nor a unit where it could, but only this."""
    return "request_id IS NULL" + (" AND unit_hash IS NULL" if column == "session_id" else "")


def _number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return 0 if row is None else int(row[0])
