"""What the log knows of one request: who answered, how it ended, what the guards found. No text of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb

from workbench.observability.evidence import instant, iso
from workbench.observability.flusher import literal
from workbench.observability.gaps import OTLP
from workbench.observability.tables import at_snapshot, latest_requests_sql

_PLAIN = (
    *("request_id", "app", "workflow", "bundle", "arm", "release_id", "route_version", "assigned_by", "status", "is_final"),
    *("is_fallback", "error_type", "finish_reason", "model_requested", "model_served", "attempts", "n_tool_calls", "n_tool_errors"),
    *("n_retrievals", "latency_ms", "ttft_ms", "input_tokens", "output_tokens", "violation_rules", "blocked_rules", "handoff_id"),
)
_GUARD = ("rule_id", "action", "name", "status")


def find_request(connection: duckdb.DuckDBPyConnection, app: str, request_id: str) -> Mapping[str, Any] | None:
    """The request's newest record in the lake, with its guards' findings; None where it holds none (yet).

    Args:
        connection: in a read transaction.
        app: whose request it is.
        request_id: its id.
    """
    is_it = f"app = {literal(app)} AND request_id = {literal(request_id)}"
    told = f"source IS NOT DISTINCT FROM {literal(OTLP)} AS is_told"
    times = "epoch_us(ts_start) AS ts_start, epoch_us(ts_end) AS ts_end, CAST(cost_usd AS DOUBLE) AS cost_usd"
    found = _rows(connection, f"SELECT {', '.join(_PLAIN)}, {times}, {told} FROM ({latest_requests_sql()}) AS latest WHERE {is_it}")
    if not found:
        return None
    (request,) = found
    whose = "" if request.pop("is_told") else "AND alias_version IS NULL"  # what a client tells adds nothing to the gateway's own record
    guards = _rows(
        connection,
        f"SELECT {', '.join(_GUARD)} FROM {at_snapshot('spans', None)} WHERE kind = 'guard' AND {is_it} {whose} "
        "QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY batch_id DESC, seq DESC) = 1 ORDER BY ts_start, span_id",
    )
    return {**request, **{name: iso(instant(request[name])) for name in ("ts_start", "ts_end")}, "guards": guards}


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
