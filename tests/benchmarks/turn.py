"""The controller's turn on a canary with a long log: from rows that have just reached the lake to the decision that rests on them.

A release of which the log holds a million rows: requests as they began and as they ended, and a score of every other one, a batch
later. Then a hundred rows come, again and again, and after each flush the time of one whole turn is taken. The first turn reads all
of them, as a process does that takes over.

    BENCH_ROWS=200_000   how many rows the log holds before (1,000,000)
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from tests.benchmarks import Figure, Report
from tests.release.house import APP, SPECS, House
from workbench.demo.place import fresh_workspace
from workbench.workspace import Workspace

ROWS = int(os.environ.get("BENCH_ROWS", "1_000_000"))
BATCHES, TURNS, NEW = 100, 30, 100
_OF_A_REQUEST = 2.5
"""Rows: two of the request, and half a score."""
PLAN = {
    "steps": [{"share": 0.2, "at_least": "1h", "min_units": 100}, {"share": 0.5, "at_least": "1h"}],
    "rollback": {
        "criteria": [
            {"metric": "failure_rate", "ratio": 1.2, "role": "critical"},
            {"metric": "violation_rate"},
            {"metric": "latency_p95", "ratio": 1.2},
            {"metric": "quality_mean", "ratio": 1.1},
        ]
    },
}


def made(connection: duckdb.DuckDBPyConnection, house: House, first: int, n: int, at: datetime) -> dict[str, pa.Table]:
    """N requests from a number on, both rows of each, and the scores of every other one of the n before them."""
    route = house.route
    drawn = f"""
        SELECT i, hash(i) % 5 = 0 AS is_candidate, hash(i + 7) AS h FROM range({first}, {first + n}) AS t(i)"""
    requests = connection.sql(f"""
        SELECT 'req-' || md5(i::VARCHAR) AS request_id, r::INTEGER AS revision, r = 1 AS is_final, '{APP}' AS app,
            TIMESTAMPTZ '{at.isoformat()}' AS ts_start, if(is_candidate, '{route.candidate}', '{route.stable}') AS bundle,
            if(is_candidate, 'candidate', 'stable') AS arm, {route.share}::DOUBLE AS traffic_share,
            {route.version}::BIGINT AS route_version, '{route.release_id}' AS release_id, md5((i % 400000)::VARCHAR) AS unit_hash,
            CASE WHEN r = 0 THEN 'unknown' WHEN h % 50 = 0 THEN 'error' ELSE 'ok' END AS status,
            CASE WHEN r = 1 THEN (100 + h % 900)::DOUBLE END AS latency_ms,
            if(r = 1 AND h % 400 = 0, ['pii'], []::VARCHAR[]) AS violation_rules, []::VARCHAR[] AS blocked_rules
        FROM ({drawn}) CROSS JOIN range(2) AS revisions(r) ORDER BY r, i""").to_arrow_table()
    scores = connection.sql(f"""
        SELECT 's-' || i AS score_id, '{APP}' AS app, 'req-' || md5(i::VARCHAR) AS request_id, 'quality' AS name,
            0.6 + (hash(i) % 40) / 100.0 AS value, 'rules' AS scorer_id, 'rule' AS source, TIMESTAMPTZ '{at.isoformat()}' AS ts
        FROM range({max(first - n, 0)}, {first}) AS t(i) WHERE i % 2 = 0 ORDER BY i""").to_arrow_table()
    return {"requests": requests, "scores": scores} if scores.num_rows else {"requests": requests}


def run() -> Report:
    with tempfile.TemporaryDirectory(prefix="bench-turn-") as folder:
        home = Path(folder) / "ws"
        with fresh_workspace(home):
            pass
        now = [datetime(2026, 10, 5, 9, tzinfo=UTC)]
        with Workspace.open(home, clock=lambda: now[0]) as ws:
            house = House(ws.ledger, Path(folder) / "shop", lambda: now[0], specs={**SPECS, "plan": PLAN})  # type: ignore[arg-type]
            house.promoted("v1")
            house.canary("v2")
            return _measured(ws, house, now)


def _measured(ws: Workspace, house: House, now: list[datetime]) -> Report:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    n, seq, first = int(ROWS / _OF_A_REQUEST / BATCHES), 1, 0

    def flush(n: int) -> None:
        nonlocal seq, first
        tables = made(connection, house, first, n, now[0])
        last = seq + max(table.num_rows for table in tables.values()) - 1
        ws.logs.append(tables, source_id="traffic", from_seq=seq, to_seq=last)
        seq, first = last + 1, first + n

    for _ in range(BATCHES):
        flush(n)
    begun = time.perf_counter()
    ws.controller.turn()
    cold_s = time.perf_counter() - begun
    turns = []
    for _ in range(TURNS):
        flush(int(NEW / _OF_A_REQUEST))
        now[0] += timedelta(seconds=1)
        begun = time.perf_counter()
        ws.controller.turn()
        turns.append((time.perf_counter() - begun) * 1000)
    status = house.releases.status(APP)
    assert status.watch is not None
    assert status.watch.judgement is not None, status.watch.sentence
    rows = status.watch.judgement["rows"]
    note = f"after {rows:,} rows of the release; the slowest of {TURNS} took {max(turns):.0f} ms"
    return Report(
        title="turn of the controller",
        figures=[
            Figure(
                what=f"from {NEW} new rows to the decision noted, median", value=statistics.median(turns), unit="ms", at_most=50, note=note
            ),
            Figure(what="the first turn, which reads them all", value=cold_s, unit="s"),
        ],
    )
