"""How fast questions about months of traffic are answered, beside plain DuckDB on the same Parquet files in the same run.

The log is that of five applications over forty days, with a daily rhythm, releases with canaries, lognormal latencies and the usual share
of failures, brought in by the lake's own write path. Each step runs in a process of its own, so that its memory can be told.

    BENCH_ROWS=2_000_000   how many requests (20,000,000)
    BENCH_GROWTH=0         leave out the lakes of a quarter and of three times as many requests in the same days
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from tests.benchmarks import Figure, Report
from tests.benchmarks.ingest import open_logs
from workbench.observability.metrics import Metrics
from workbench.observability.rows import conformed
from workbench.observability.upkeep import Upkeep
from workbench.spec.app import AppSpec

ROWS = int(os.environ.get("BENCH_ROWS", "20_000_000"))
HAS_GROWTH = os.environ.get("BENCH_GROWTH", "1") != "0"
DAYS = 40
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
CORES = 2
REPEATS = 7
PERCENTILES = ["latency_p50", "latency_p95", "latency_p99"]
_QUANTILES = "quantile_disc(latency_ms, [0.5, 0.95, 0.99])"
_NOW = FIRST + timedelta(days=DAYS, minutes=-17)
"""When the windows end: within an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The same question to the workbench and to plain DuckDB."""

    name: str
    metrics: list[str]
    plain: str
    """The SELECT over `requests`; its percentiles are DuckDB's exact ones."""
    how: Mapping[str, Any]
    is_judged: bool = True


_MONTH = f"ts_start >= TIMESTAMPTZ '{_NOW - timedelta(days=30)}' AND ts_start < TIMESTAMPTZ '{_NOW}'"
_WEEK = f"ts_start >= TIMESTAMPTZ '{_NOW - timedelta(days=7)}' AND ts_start < TIMESTAMPTZ '{_NOW}'"
QUESTIONS = (
    Asked(
        name="percentiles and cost by app and model, everything",
        metrics=["volume", *PERCENTILES, "cost_usd"],
        how={"by": ["app", "model_served"]},
        plain=f"SELECT app, model_served, count(*), {_QUANTILES}, sum(cost_usd) FROM requests GROUP BY ALL",
    ),
    Asked(
        name="percentiles and failures by app, workflow and arm, everything",
        metrics=[*PERCENTILES, "failure_rate", "fallback_rate"],
        how={"by": ["app", "workflow", "arm"]},
        plain=(f"SELECT app, workflow, arm, {_QUANTILES}, avg((status <> 'ok')::INT), avg(is_fallback::INT) FROM requests GROUP BY ALL"),
    ),
    Asked(
        name="percentiles by day and app, everything",
        metrics=["volume", *PERCENTILES],
        how={"by": ["app"], "grain": "1d"},
        plain=f"SELECT app, date_trunc('day', ts_start), count(*), {_QUANTILES} FROM requests GROUP BY ALL",
    ),
    Asked(
        name="percentiles by app and bundle, 30 days until now",
        metrics=["volume", *PERCENTILES],
        how={"by": ["app", "bundle"], "window": "30d"},
        plain=f"SELECT app, bundle, count(*), {_QUANTILES} FROM requests WHERE {_MONTH} GROUP BY ALL",
        is_judged=False,
    ),
    Asked(
        name="percentiles by hour and app, 7 days until now",
        metrics=["volume", *PERCENTILES],
        how={"by": ["app"], "grain": "1h", "window": "7d"},
        plain=f"SELECT app, date_trunc('hour', ts_start), count(*), {_QUANTILES} FROM requests WHERE {_WEEK} GROUP BY ALL",
        is_judged=False,
    ),
)


def made_day(connection: duckdb.DuckDBPyConnection, day: int, rows: int) -> Any:
    """The requests of one day of all apps, as Arrow, the same each time.

    Releases last ten days: in the first five everybody is served by the stable bundle, in the others a fifth by the next one.
    """
    sql = f"""
        WITH numbers AS (SELECT i, {day * rows} + i AS n, hash(n) AS h, hash(n + 1000000007) AS g, hash(n + 77777777777) AS f
            FROM range({rows}) t(i)),
        drawn AS (SELECT n, (h % 5)::INT AS a, ((h >> 8) % 4)::INT AS w, h, g, f,
            -- a day has a quiet and a busy half: the time is bent towards its middle
            (i * (86400.0 / {rows}) + 3600 * 2.5 * sin(4 * pi() * i / {rows})) * 1e6 AS us, ((g >> 4) % 10000)::INT AS fate,
            sqrt(-2 * ln((((f >> 3) % 1000003) + 1) / 1000004.0)) * cos(2 * pi() * (((f >> 25) % 1000003) / 1000003.0)) AS z,
            {day % 10 >= 5} AND (g >> 20) % 5 = 0 AS is_candidate, {day // 10} + ({day % 10 >= 5} AND (g >> 20) % 5 = 0)::INT AS version
            FROM numbers)
        SELECT 'req-' || lpad(n::VARCHAR, 12, '0') AS request_id, 0::INTEGER AS revision, true AS is_final, 'app' || a AS app,
            ['returns', 'orders', 'advice', 'unassigned'][w + 1] AS workflow,
            TIMESTAMPTZ '{FIRST}' + INTERVAL {day} DAY + to_microseconds(least(greatest(us, 0), 86399999999)::BIGINT) AS ts_start,
            exp(ln(400 + 300 * w + 100 * a + 60 * version) + 0.6 * z) AS latency_ms, exp(ln(150 + 40 * a) + 0.4 * z) AS ttft_ms,
            'app' || a || '@' || substr(md5(version::VARCHAR), 1, 12) AS bundle, if(is_candidate, 'candidate', 'stable') AS arm,
            CASE WHEN {day % 10 >= 5} THEN 'rel-' || a || '-{day // 10}' END AS release_id,
            md5((f % 200000)::VARCHAR) AS unit_hash, 'chat' AS operation, 'provider-' || (a % 2) AS provider,
            'model-' || (version % 2) AS model_requested, 'model-' || (version % 2) AS model_served,
            CASE WHEN fate < 200 THEN 'error' WHEN fate < 300 THEN 'timeout' WHEN fate < 400 THEN 'blocked'
                WHEN fate < 550 THEN 'handed_off' WHEN fate < 600 THEN 'truncated' WHEN fate < 680 THEN 'cancelled' ELSE 'ok' END AS status,
            (g >> 40) % 100 = 0 AS is_fallback,
            CASE WHEN fate < 200 THEN ['provider_error', 'rate_limited', 'bad_gateway', 'tool_failed', 'refused'][1 + fate % 5]
                WHEN fate < 300 THEN 'deadline' END AS error_type,
            1::BIGINT AS attempts, (h % 4)::BIGINT AS n_tool_calls, ((h % 4 > 0) AND g % 20 = 0)::BIGINT AS n_tool_errors,
            (200 + h % 2000)::BIGINT AS input_tokens, (g % 700)::BIGINT AS output_tokens, (g % 3000) / 1e6 AS cost_usd,
            if(f % 300 = 0, ['pii'], []::VARCHAR[]) AS violation_rules, []::VARCHAR[] AS blocked_rules,
            '{{"role": "user", "content": "' || md5(f::VARCHAR) || '"}}' AS input, 'benchmark' AS source
        FROM drawn"""
    return conformed("requests", connection.sql(sql).to_arrow_table())


def spec(app: str) -> AppSpec:
    """Success is decided by the status."""
    workflows = [{"name": name, "success": {"rule": "status"}} for name in ("returns", "orders", "advice", "unassigned")]
    return AppSpec.model_validate({"app": app, "title": app, "risk_tier": "low", "workflows": workflows})


def load(home: Path, rows: int) -> dict[str, Any]:
    """Bring the requests into a new lake, day by day."""
    lake, logs = open_logs(home)
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = 'UTC'; SET threads = {CORES}")
    making = storing = 0.0
    at = 1
    for day in range(DAYS):
        begins = time.perf_counter()
        arrow = made_day(connection, day, rows // DAYS)
        made = time.perf_counter()
        logs.append({"requests": arrow}, source_id="traffic", from_seq=at, to_seq=at + arrow.num_rows - 1)
        at += arrow.num_rows
        making, storing = making + made - begins, storing + time.perf_counter() - made
    lake.close()
    return {"making_s": making, "storing_s": storing}


def sum_up(home: Path, _: int) -> dict[str, Any]:
    """Sum all hours, then tidy up the files."""
    lake, _logs = open_logs(home)
    upkeep = Upkeep(lake, cited=frozenset)
    begins = time.perf_counter()
    hours = upkeep.sum_hours()
    seconds = time.perf_counter() - begins
    upkeep.run()
    stored = lake.read(
        lambda c: [c.execute(f"SELECT count(*) FROM lake.{name}").fetchone()[0] for name in ("requests_hourly", "requests_daily")]
    )
    lake.close()
    return {"sum_s": seconds, "hours": hours, "hourly": stored[0], "daily": stored[1]}


def ask(home: Path, _: int, *, exact: bool) -> dict[str, Any]:
    """The questions to the workbench, on one of its two paths: milliseconds."""
    lake, _logs = open_logs(home)
    metrics = Metrics(lake, app_spec=spec, clock=lambda: _NOW)
    found = {}
    for asked in QUESTIONS:

        def once(asked: Asked = asked) -> None:
            frame = metrics.query(asked.metrics, **asked.how, exact=exact)
            assert frame.answered is not None, "a query says how it was answered"
            assert (frame.answered.path == "requests") is exact, frame.answered

        found[asked.name] = warm_ms(once, 1 if exact else REPEATS)
    lake.close()
    return found


def ask_plain(home: Path, _: int) -> dict[str, Any]:
    """The questions to plain DuckDB over the lake's own Parquet files: milliseconds."""
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = 'UTC'; SET threads = {CORES}; SET preserve_insertion_order = false; SET memory_limit = '8GB'")
    connection.execute(f"CREATE VIEW requests AS SELECT * FROM read_parquet('{home}/data/main/requests/**/*.parquet')")
    return {asked.name: warm_ms(lambda asked=asked: connection.execute(asked.plain).to_arrow_table(), 3) for asked in QUESTIONS}


def warm_ms(act: Callable[[], object], repeats: int) -> float:
    """The median of some repeats after a first one that nobody counts."""
    act()
    times = []
    for _ in range(repeats):
        begins = time.perf_counter()
        act()
        times.append((time.perf_counter() - begins) * 1000)
    return statistics.median(times)


STEPS: Mapping[str, Callable[[Path, int], dict[str, Any]]] = {
    "load": load,
    "sum": sum_up,
    "rollup": lambda home, rows: ask(home, rows, exact=False),
    "exact": lambda home, rows: ask(home, rows, exact=True),
    "plain": ask_plain,
}


def step(name: str, home: Path, rows: int) -> tuple[dict[str, Any], float]:
    """What a step returns in a process of its own, and its peak memory in MiB."""
    command = [sys.executable, "-m", "tests.benchmarks.query", name, str(home), str(rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    content = json.loads(done.stdout.splitlines()[-1])
    return content["result"], content["peak_mib"]


def size_mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet")) / 2**20


def sized(home: Path, rows: int) -> list[Figure]:
    """Loading and summing, with the sizes of what lies on the disk."""
    loaded, load_peak = step("load", home, rows)
    summed, sum_peak = step("sum", home, rows)
    data = home / "data" / "main"
    return [
        Figure(what="rows", value=rows, unit="rows", note=f"{summed['hourly']:,} hourly and {summed['daily']:,} daily sums"),
        Figure(what="load by the write path", value=loaded["storing_s"], unit="s", note=f"{rows / loaded['storing_s']:,.0f} rows/s"),
        Figure(what="sum all hours", value=summed["sum_s"], unit="s", note=f"{rows / summed['sum_s']:,.0f} rows/s"),
        Figure(what="requests on disk", value=size_mib(data / "requests"), unit="MiB"),
        Figure(what="hourly sums on disk", value=size_mib(data / "requests_hourly"), unit="MiB"),
        Figure(what="daily sums on disk", value=size_mib(data / "requests_daily"), unit="MiB"),
        Figure(what="peak memory, load", value=load_peak, unit="MiB", note="with what makes the rows"),
        Figure(what="peak memory, sum", value=sum_peak, unit="MiB", at_most=2048),
    ]


def compared(home: Path, rows: int) -> tuple[list[Figure], dict[str, float]]:
    """The query table."""
    rollup, rollup_peak = step("rollup", home, rows)
    plain, _ = step("plain", home, rows)
    exact, exact_peak = step("exact", home, rows)
    figures = []
    for asked in QUESTIONS:
        ms, ratio = rollup[asked.name], plain[asked.name] / rollup[asked.name]
        figures += [
            Figure(what=asked.name, value=ms, unit="ms", at_most=100 if asked.is_judged else None, note="roll-up path"),
            Figure(what="  plain DuckDB's exact quantiles", value=plain[asked.name], unit="ms"),
            Figure(what="  plain DuckDB / roll-up", value=ratio, unit="times", at_least=8 if asked.is_judged else None),
            Figure(what="  exact path", value=exact[asked.name], unit="ms"),
        ]
    figures += [
        Figure(what="peak memory, roll-up path", value=rollup_peak, unit="MiB", at_most=2048),
        Figure(what="peak memory, exact path", value=exact_peak, unit="MiB"),
    ]
    return figures, rollup


def growth(folder: Path) -> list[Figure]:
    """The roll-up path over a quarter and over three times as many requests in the same days, asked in turn: machines have moods."""
    sizes = (ROWS // 4, ROWS * 3)
    for rows in sizes:
        step("load", folder / str(rows), rows)
        step("sum", folder / str(rows), rows)
    asked_in_turn = [[step("rollup", folder / str(rows), rows)[0] for rows in sizes] for _ in range(3)]
    small, large = ({asked.name: min(times[place][asked.name] for times in asked_in_turn) for asked in QUESTIONS} for place in (0, 1))
    return [
        Figure(
            what=f"growth from {sizes[0]:,} to {sizes[1]:,} rows: {asked.name}",
            value=large[asked.name] / small[asked.name],
            unit="times",
            at_most=1.3 if asked.is_judged else None,
            note=f"{small[asked.name]:.0f} to {large[asked.name]:.0f} ms",
        )
        for asked in QUESTIONS
    ]


def run() -> Report:
    with tempfile.TemporaryDirectory(prefix="query-", dir=os.environ.get("BENCH_DIR")) as folder:
        home = Path(folder) / "lake"
        figures = sized(home, ROWS)
        figures += compared(home, ROWS)[0]
        if HAS_GROWTH:
            subprocess.run(["rm", "-r", str(home)], check=True)
            figures += growth(Path(folder))
    return Report(title=f"Questions to a log of {ROWS:,} requests", figures=figures)


if __name__ == "__main__":
    result = STEPS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps({"result": result, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
