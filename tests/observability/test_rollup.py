"""Questions answered from sums, against the same questions answered from the requests, on logs that are written in every way."""

from __future__ import annotations

import itertools
import math
import random
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.observability.erasing import Stores
from tests.observability.metric_logs import spec
from workbench.errors import UsageError
from workbench.observability import schema
from workbench.observability.catalogue import CATALOGUE
from workbench.observability.metric import Kind
from workbench.observability.metrics import Metrics
from workbench.observability.model import Window
from workbench.observability.rollup import ERROR_BOUND, bucket_ms, bucket_sql
from workbench.observability.tables import ROLLUP_KEY, TABLES, arrow_table

pytestmark = pytest.mark.usefixtures("two_threads")  # the numbers depend on no order of work

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
SUMMED = [metric.name for metric in CATALOGUE.values() if metric.rolled is not None]
QUANTILES = [name for name in SUMMED if CATALOGUE[name].kind is Kind.QUANTILE]
_numbers = itertools.count()


class Traffic(Stores):
    """One lake for all examples, written by two processes' logs; each example has an app of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.writers = (self.logs, self.more_logs())
        rules = {"buy": {"rule": "status"}, "ask": {"rule": "status"}}
        self.metrics = Metrics(self.lake, app_spec=lambda app: spec(app, **rules), clock=lambda: MONDAY + timedelta(days=9, minutes=7))

    def write(self, rng: random.Random, requests: list[dict]) -> None:
        writer = rng.choice(self.writers)
        writer.record({"requests": requests})
        writer.flush()

    def close(self) -> None:
        self.writers[1].close()
        super().close()


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    place = Traffic(tmp_path_factory.mktemp("traffic"))
    yield place
    place.close()


def made_request(rng: random.Random, app: str, number: int, at: datetime | None = None) -> dict:
    """A request as some application logs it, with every column that the sums read missing now and then."""
    calls = rng.choice((None, 0, 1, 4))
    return {
        "request_id": f"{app}-{number}",
        "revision": 0,
        "is_final": rng.random() < 0.8,
        "app": app,
        "ts_start": at or MONDAY + timedelta(seconds=rng.randrange(3 * 86400)),
        "workflow": rng.choice((None, "buy", "ask")),
        "bundle": rng.choice(("one", "two", None)),
        "arm": rng.choice(("stable", "candidate", None)),
        "release_id": rng.choice((None, "r1")),
        "model_served": rng.choice(("m1", "m2", None)),
        "provider": rng.choice(("p", None)),
        "status": rng.choice(("ok", "ok", "ok", "error", "timeout", "blocked", "handed_off", "unknown", None)),
        "error_type": rng.choice((None, None, "deadline")),
        "is_fallback": rng.choice((False, False, True, None)),
        "unit_hash": rng.choice((None, *(f"hash of {app}-u{n}" for n in range(4)))),
        "latency_ms": rng.choice((None, 0.0, 2.0, *(math.exp(rng.gauss(6, 1)) for _ in range(9)))),
        "ttft_ms": rng.choice((None, math.exp(rng.gauss(4, 1)))),
        "n_tool_calls": calls,
        "n_tool_errors": None if calls is None or rng.random() < 0.3 else rng.randint(0, calls),
        "input_tokens": rng.choice((None, 0, 7, 10**12)),
        "output_tokens": rng.choice((None, rng.randrange(10**6))),
        "cost_usd": rng.choice((None, 0.1, 0.000000001, round(rng.uniform(0, 9), 9))),
        "violation_rules": rng.choice((None, [], ["pii"])),
        "blocked_rules": rng.choice((None, [], ["money"])),
        "handoff_id": rng.choice((None, None, "h")),
    }


def live(traffic: Traffic, rng: random.Random, app: str) -> None:
    """Let things happen to the log: calls that start and end, late rows, repeats, corrections, erasures, and upkeep in between."""
    requests: dict[int, dict] = {}
    for _ in range(rng.randrange(3, 9)):
        match rng.choice(("log", "log", "log", "correct", "repeat", "sum", "upkeep", "again", "erase")):
            case "log":
                first = len(requests)
                requests |= {number: made_request(rng, app, number) for number in range(first, first + rng.randrange(1, 30))}
                traffic.write(rng, [requests[number] for number in range(first, len(requests))])
            case "correct" if requests:
                chosen = rng.sample(sorted(requests), min(len(requests), 5))
                for number in chosen:
                    old = requests[number]
                    anew = made_request(rng, app, number, old["ts_start"])
                    requests[number] = anew | {"revision": old["revision"] + 1, "unit_hash": old["unit_hash"]}
                traffic.write(rng, [requests[number] for number in chosen])
            case "repeat" if requests:
                traffic.write(rng, [requests[number] for number in rng.sample(sorted(requests), min(len(requests), 5))])
            case "sum":
                traffic.upkeep.sum_hours()
            case "upkeep":
                traffic.upkeep.run()
            case "again":
                traffic.upkeep.sum_hours(again=Window(start=MONDAY + timedelta(hours=rng.randrange(60))))
            case "erase" if rng.random() < 0.5:
                traffic.erasure.erase(f"{app}-u{rng.randrange(4)}", reason="asked")
    traffic.write(rng, [made_request(rng, app, len(requests))])


def asked(rng: random.Random, app: str) -> dict:
    """A question that sums can answer."""
    edges = sorted(MONDAY + timedelta(minutes=rng.randrange(-600, 3 * 1440 + 600)) for _ in range(2))
    whole = [edge.replace(minute=0) for edge in edges]
    windows = (None, Window(start=edges[0]), Window(until=edges[1]), Window(start=edges[0], until=edges[1]), "8d", Window(start=whole[0]))
    where = {"status": rng.choice(("ok", "error,ok")), "bundle": "one", "workflow": "buy,ask"}
    chosen = rng.sample(sorted(where), rng.choice((0, 0, 1, 2)))
    return {
        "by": rng.sample(ROLLUP_KEY[:-1], rng.choice((0, 1, 2))),
        "grain": rng.choice((None, None, "1h", "1d", "1w")),
        "window": rng.choice([window for window in windows if not isinstance(window, Window) or window.start != window.until]),
        "where": {name: where[name] for name in chosen},
        "app": app,
    }


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_sums_answer_as_the_requests_do(traffic, seed):
    rng, app = random.Random(seed), f"app{next(_numbers)}"
    live(traffic, rng, app)
    for _ in range(3):
        how = asked(rng, app)
        metrics = rng.sample(SUMMED, rng.randrange(1, 6))
        rolled = traffic.metrics.query(metrics, **how, exact=False, detail=None)
        exact = traffic.metrics.query(metrics, **how, exact=True)
        assert (rolled.answered.path, exact.answered.path) == ("roll-up", "requests")
        plain = [name for name in exact.columns if name not in QUANTILES]
        assert rolled.select(plain).rows() == exact.select(plain).rows(), how
        ends = [name for name in rolled.columns if name.endswith(("_low", "_high"))]
        assert rolled.select(ends).null_count().row(0) == (rolled.height,) * len(ends), "sums know no units"


def nearest_rank(values: list[float], q: float) -> float:
    return sorted(values)[max(0, math.ceil(round(q * len(values), 9)) - 1)]


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_a_percentile_from_sums_is_within_its_bound_of_the_order_statistic(traffic, seed):
    rng, app = random.Random(seed), f"app{next(_numbers)}"
    values = [math.exp(rng.gauss(6, 2)) for _ in range(rng.randrange(1, 200))]
    for at in range(0, len(values), 50):
        traffic.write(
            rng, [{**made_request(rng, app, n), "latency_ms": values[n], "bundle": "one"} for n in range(at, min(at + 50, len(values)))]
        )
        if rng.random() < 0.5:
            traffic.upkeep.sum_hours()
    frame = traffic.metrics.query(["latency_p50", "latency_p95", "latency_p99"], by="bundle", app=app, exact=False)
    for name, q in (("latency_p50", 0.5), ("latency_p95", 0.95), ("latency_p99", 0.99)):
        assert frame[name].to_list() == [pytest.approx(nearest_rank(values, q), rel=ERROR_BOUND + 1e-12)]
        assert frame[f"{name}_n"].to_list() == [len(values)]
    assert 0.0108 < frame.answered.error_bound == ERROR_BOUND < 0.011


@given(st.floats(1e-6, 1e99))
def test_a_bucket_is_within_its_stated_error(ms):
    bucket = duckdb.execute(f"SELECT {bucket_sql('x')} FROM (SELECT CAST({ms!r} AS DOUBLE) AS x)").fetchone()[0]
    assert abs(bucket_ms(bucket) / max(ms, 2.0**-10) - 1) <= ERROR_BOUND + 1e-9


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A lake with one app whose only hour is summed."""
    place = Stores(tmp_path_factory.mktemp("quiet"))
    rng = random.Random(1)
    place.logs.record({"requests": [made_request(rng, "shop", n, MONDAY) | {"n_tool_errors": None} for n in range(20)]})
    place.logs.flush()
    place.upkeep.sum_hours()
    yield place
    place.close()


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"metrics": "quality_mean"}, "quality_mean is not among the sums"),
        ({"metrics": "volume", "grain": "15m"}, "a step of 15m is shorter than an hour"),
        ({"metrics": "volume", "snapshot": 1}, "it is asked of the sums"),
    ],
)
def test_what_sums_cannot_answer_is_refused_where_they_are_demanded_and_else_read_from_requests(quiet, how, why):
    with pytest.raises(UsageError, match=why):
        quiet.metrics.query(**how, exact=False)
    if "snapshot" not in how:
        assert quiet.metrics.query(**how).answered.path == "requests"
        assert quiet.metrics.query(**how).answered.reason == why


def test_a_score_that_decides_success_sends_the_question_to_the_requests(tmp_path):
    stores = Stores(tmp_path)
    stores.logs.record({"requests": [made_request(random.Random(2), "shop", 0, MONDAY) | {"workflow": "buy", "status": "ok"}]})
    stores.logs.flush()
    assert stores.metrics.query("success_rate", exact=False)["success_rate_n"].to_list() == [0]
    score = {"score_id": "s", "app": "shop", "request_id": "shop-0", "name": "success", "value": 1.0, "ts": MONDAY, "source": "human"}
    stores.logs.record({"scores": [score]})
    stores.logs.flush()
    with pytest.raises(UsageError, match="scores decide the success"):
        stores.metrics.query("success_rate", exact=False)
    ruled = Metrics(stores.lake, app_spec=lambda app: spec(app, buy={"rule": "status"}), clock=stores.now)
    assert ruled.query("success_rate", exact=False).rows() == [(1.0, 1)], "the workflow has a rule that asks no score"
    stores.close()


def test_the_sums_answer_where_they_spare_many_requests_and_no_interval_is_asked_for(quiet, monkeypatch):
    assert quiet.metrics.query("volume").answered.reason == "fewer than 1,000,000 requests are summed"
    monkeypatch.setattr("workbench.observability.answering.WORTH_ROWS", 20)
    assert quiet.metrics.query("volume").answered.path == "roll-up"
    assert quiet.metrics.query("volume", detail=None).answered.path == "roll-up"
    assert quiet.metrics.query("volume", detail=True).answered.reason == "intervals are asked for"
    assert quiet.metrics.query("volume", window=Window(until=MONDAY - timedelta(days=1))).answered.path == "requests"


def test_an_hour_counts_what_its_requests_say(tmp_path):
    stores = Stores(tmp_path)
    row = {"app": "shop", "ts_start": MONDAY, "status": "ok", "latency_ms": 120.0}
    stores.logs.record(
        {
            "requests": [
                {**row, "request_id": "a", "is_fallback": True, "cost_usd": 0.1, "input_tokens": 7, "latency_ms": 0},
                {**row, "request_id": "b", "violation_rules": ["pii"], "blocked_rules": [], "cost_usd": 0.2, "handoff_id": "h"},
                {**row, "request_id": "c", "is_final": False, "status": "unknown", "latency_ms": None},
                {**row, "request_id": "d", "status": "error", "latency_ms": None, "n_tool_calls": 3, "n_tool_errors": 1},
                {**row, "request_id": "d", "status": "error", "latency_ms": None, "n_tool_calls": 5, "n_tool_errors": 2, "revision": 1},
            ]
        }
    )
    stores.logs.flush()
    assert stores.upkeep.sum_hours() == 1
    for table in ("requests_hourly", "requests_daily"):
        assert stores.rows(
            "SELECT status, is_fallback, n, n_violation, n_violation_known, n_blocked, n_blocked_known, n_handoff, n_priced, "
            "input_tokens_sum, input_tokens_n, CAST(cost_usd_sum AS VARCHAR), latency_histogram, tool_calls_known, tool_errors_known "
            f"FROM lake.{table} ORDER BY status, is_fallback"
        ) == [
            ("error", None, 1, 0, 0, 0, 0, 0, 0, None, 0, None, None, 5, 2),
            ("ok", True, 1, 0, 0, 0, 0, 0, 1, 7, 1, "0.100000000", {-320: 1}, None, None),
            ("ok", None, 1, 1, 1, 0, 1, 1, 1, None, 0, "0.200000000", {222: 1}, None, None),
            ("unknown", None, 1, 0, 0, 0, 0, 0, 0, None, 0, None, None, None, None),
        ]
    assert stores.rows("SELECT count(*) FROM lake.unsummed_hours") == [(0,)]
    assert stores.upkeep.sum_hours() == 0
    stores.close()


BEFORE = """hour TIMESTAMPTZ, day DATE, app VARCHAR, workflow VARCHAR, bundle VARCHAR, arm VARCHAR, release_id VARCHAR,
    model_served VARCHAR, provider VARCHAR, status VARCHAR, n BIGINT, n_fallback BIGINT, n_fallback_known BIGINT, n_revised BIGINT,
    latency_histogram MAP(INTEGER, BIGINT), spool_id VARCHAR, batch_id BIGINT"""
"""Columns that `requests_hourly` had when each flush added rows of its own to it."""


@pytest.mark.usefixtures("stores_made_anew")
def test_a_lake_of_the_version_before_is_opened_summed_and_answers_alike(tmp_path, monkeypatch):
    since = {name: table for name, table in schema.TABLES.items() if name not in {"requests_daily", "unsummed_hours", "requests_hourly"}}
    stores = Stores(tmp_path)
    rng = random.Random(7)
    requests = [made_request(rng, "shop", n, MONDAY + timedelta(hours=n % 30)) for n in range(60)]
    requests += [made_request(rng, "shop", n, requests[n]["ts_start"]) | {"revision": 1} for n in range(9)]

    def as_before(connection) -> None:
        connection.execute(f"CREATE TABLE lake.requests_hourly ({BEFORE})")
        connection.execute("ALTER TABLE lake.requests_hourly SET PARTITIONED BY (app, day)")
        hours = "SELECT date_trunc('hour', ts_start), day, app, count(*), MAP {1: 2::BIGINT} FROM lake.requests GROUP BY ALL"
        names = ", ".join(column.name for column in TABLES["requests"].columns)
        connection.register("logged", arrow_table("requests", requests))
        filled = {"seq": "0", "batch_id": "1", "day": "ts_start::DATE", "spool_id": "'s'", "ingested_at": "now()"}
        values = ", ".join(filled.get(column.name, column.name) for column in TABLES["requests"].columns)
        connection.execute(f"INSERT INTO lake.requests ({names}) SELECT {values} FROM logged")
        connection.execute(f"INSERT INTO lake.requests_hourly (hour, day, app, n, latency_histogram) {hours}")

    with monkeypatch.context() as before:
        before.setattr(schema, "TABLES", since)
        before.setattr(schema, "SCHEMA_VERSION", 2)
        before.setattr("workbench.observability.lake.SCHEMA_VERSION", 2)
        stores.lake.write(as_before, what="write as the version before")
        stores.lake.close()
    stores.ledger.close()

    stores = Stores(tmp_path)
    how = {"by": ["bundle", "status"], "grain": "1d"}
    exact = stores.metrics.query(["volume", "cost_usd", "latency_p95"], **how)
    assert (exact.answered.path, exact["volume"].sum()) == ("requests", 60)
    unsummed = stores.metrics.query(["volume", "cost_usd"], **how, exact=False)
    assert stores.upkeep.sum_hours() == 30
    summed = stores.metrics.query(["volume", "cost_usd"], **how, exact=False)
    assert exact.select(unsummed.columns).rows() == unsummed.rows() == summed.rows()
    assert stores.rows("SELECT sum(n) FROM lake.requests_hourly") == [(60,)]
    stores.close()
