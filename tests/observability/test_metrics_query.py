"""The query function: shapes, filters, time, missing data and wrong words."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, outcome, request, score, spec
from workbench.errors import StoreError, UnknownSubject, UsageError
from workbench.observability.asking import Definitions, Question
from workbench.observability.catalogue import CATALOGUE
from workbench.observability.dimensions import DIMENSIONS, GRAINS
from workbench.observability.model import Window
from workbench.observability.query import order_statistics, to_sql, totals
from workbench.observability.upkeep import Upkeep

KPIS = [
    {"name": "conversion", "outcome": "order"},
    {"name": "basket", "outcome": "order", "aggregate": "mean", "unit": "EUR"},
    {"name": "revenue", "outcome": "order", "aggregate": "sum", "unit": "EUR"},
]


@pytest.fixture
def shop(tmp_path):
    made = Fixture(tmp_path, {"shop": spec(kpis=KPIS)})
    yield made
    made.close()


def test_before_the_first_write_there_is_an_empty_frame_with_the_right_columns(shop):
    frame = shop.metrics.query(["volume", "latency_p95"], by=["bundle"], grain="1h", detail=True)
    assert frame.height == 0
    assert frame.schema == {
        "bundle": pl.String,
        "ts": pl.Datetime("us", "UTC"),
        "volume": pl.Int64,
        **dict.fromkeys(("volume_n", "volume_count"), pl.Int64),
        **dict.fromkeys(("volume_low", "volume_high", "latency_p95"), pl.Float64),
        **dict.fromkeys(("latency_p95_n", "latency_p95_count"), pl.Int64),
        **dict.fromkeys(("latency_p95_low", "latency_p95_high"), pl.Float64),
    }
    assert shop.metrics.snapshot() is None
    assert shop.metrics.bundles_with_rows("shop") == ()


def test_the_columns_are_the_same_with_rows(shop):
    how = {"by": ["bundle"], "grain": "1h", "detail": True}
    empty = shop.metrics.query(list(CATALOGUE), **how)
    shop.add([request()])
    assert shop.metrics.query(list(CATALOGUE), **how).schema == empty.schema


def test_one_bare_request_has_a_volume_and_no_other_number(shop):
    shop.add([request()])
    row = shop.metrics.query(list(CATALOGUE)).row(0, named=True)
    known = {name for name in CATALOGUE if row[name] is not None}
    assert known == {"volume", "undecided_rate", "error_rate", "handoff_rate"}
    assert row["undecided_rate"] == 1.0
    assert all(row[f"{name}_n"] == 0 for name in CATALOGUE if name not in known)


def test_one_name_may_stand_without_a_list(shop):
    shop.add([request(latency_ms=9.0), request(bundle="two", latency_ms=8.0)])
    assert shop.metrics.query("latency_p50").equals(shop.metrics.query(["latency_p50"]))
    assert shop.metrics.query("latency_p50", by="bundle").equals(shop.metrics.query(["latency_p50"], by=["bundle"]))
    with pytest.raises(UnknownSubject, match="metric 'latency_p5': there is no such percentile; needed: latency_p<N> with N from 10"):
        shop.metrics.query("latency_p5")


def test_unpriced_is_not_free(shop):
    shop.add([request(cost_usd=None), request(cost_usd=0.25), request(cost_usd=0.0)])
    assert shop.one("cost_usd") == (0.25, 2)
    shop.add([request(bundle="two")])
    frame = shop.metrics.query(["cost_usd"], by=["bundle"])
    assert frame.rows() == [("one", 0.25, 2), ("two", None, 0)]


def test_unchecked_is_not_clean(shop):
    shop.add([request(violation_rules=None), request(violation_rules=[]), request(violation_rules=["pii"])])
    assert shop.one("violation_rate") == (0.5, 2)


def test_what_was_blocked_reached_nobody(shop):
    shop.add([request(status="blocked", violation_rules=[], blocked_rules=["x"]), request(violation_rules=["pii"], blocked_rules=[])])
    assert shop.one("violation_rate") == (1.0, 1)
    assert shop.one("block_rate") == (0.5, 2)


def test_missing_dimensions_stay_null_and_come_last(shop):
    shop.add([request(workflow="b"), request(workflow=None), request(workflow="a"), request(workflow="a", bundle="two")])
    frame = shop.metrics.query(["volume"], by=["workflow", "bundle"])
    assert frame.rows() == [("a", "one", 1, 1), ("a", "two", 1, 1), ("b", "one", 1, 1), (None, "one", 1, 1)]


@pytest.mark.parametrize(
    ("grain", "start"),
    [
        ("1m", datetime(2026, 3, 4, 13, 47, tzinfo=UTC)),
        ("5m", datetime(2026, 3, 4, 13, 45, tzinfo=UTC)),
        ("15m", datetime(2026, 3, 4, 13, 45, tzinfo=UTC)),
        ("1h", datetime(2026, 3, 4, 13, 0, tzinfo=UTC)),
        ("1d", datetime(2026, 3, 4, 0, 0, tzinfo=UTC)),
        ("1w", datetime(2026, 3, 2, 0, 0, tzinfo=UTC)),
    ],
)
def test_buckets_start_where_the_clock_says_and_weeks_on_monday(shop, grain, start):
    shop.add([request(ts_start=datetime(2026, 3, 4, 13, 47, 59, 999999, tzinfo=UTC)), request(ts_start=start)])
    assert shop.metrics.query(["volume"], grain=grain).rows() == [(start, 2, 2)]


def test_a_window_is_half_open_and_7d_ends_now(shop):
    shop.add([request(ts_start=NOON + timedelta(days=days)) for days in (-6, 0, 0.5, 1)])  # the clock stands at noon of the next day
    assert shop.one("volume", window=Window(start=NOON, until=NOON + timedelta(days=1))) == (2, 2)
    assert shop.one("volume", window="7d") == (3, 3)
    assert shop.one("volume", window="1d") == (2, 2)
    assert shop.metrics.query(["volume"], window=Window(start=NOON + timedelta(days=9))).height == 0


def test_a_later_revision_decides_whether_a_request_began_in_the_window(shop):
    """It may say another time within the hour, on either side of an end."""
    moved = [request(request_id=name, ts_start=NOON + timedelta(minutes=minute)) for name, minute in (("out", 40), ("in", 20))]
    shop.add([*moved, request(ts_start=NOON + timedelta(minutes=50))])
    shop.add([{**row, "revision": 1, "ts_start": NOON + timedelta(minutes=minute)} for row, minute in zip(moved, (10, 59), strict=True)])
    late = Window(start=NOON + timedelta(minutes=30), until=NOON + timedelta(minutes=60))
    assert [shop.one("volume", window=late, exact=exact)[0] for exact in (True, False)] == [2, 2]
    early = Window(start=NOON, until=NOON + timedelta(minutes=30))
    assert [shop.one("volume", window=early, exact=exact)[0] for exact in (True, False)] == [1, 1]


def test_a_window_reads_the_files_of_its_days_and_of_one_to_either_side(tmp_path):
    shop = Fixture(tmp_path)
    for day in range(7):
        shop.add([request(ts_start=NOON + timedelta(days=day), latency_ms=float(day)) for _ in range(300)])
    Upkeep(shop.lake, cited=frozenset).run()
    for file in (tmp_path / "lake").rglob("requests/**/*.parquet"):
        if not any(f"day=2026-03-0{day}" in str(file) for day in (3, 4, 5)):
            file.unlink()
    day = Window(start=NOON + timedelta(days=3, hours=-1), until=NOON + timedelta(days=3, hours=1))
    assert shop.one("latency_p50", window=day, exact=True, detail=True) == (3.0, 300)
    with pytest.raises(StoreError):
        shop.one("latency_p50", exact=True)
    shop.close()


def test_what_two_gateways_took_for_the_beginning_of_a_request_counts_where_it_was_settled(shop):
    """The hour of the first that was stored is kept; the other's row lies in the hour, and on the day, behind it."""
    midnight = NOON.replace(hour=0) + timedelta(days=1)
    piece = request(request_id="told-in-pieces", ts_start=midnight - timedelta(minutes=1), is_final=False)
    shop.add([piece, {**piece, "ts_start": midnight + timedelta(minutes=2)}])
    shop.add([{**piece, "revision": 1, "is_final": True}])
    days = [Window(start=midnight + timedelta(days=n - 1), until=midnight + timedelta(days=n)) for n in (0, 1)]
    assert [shop.metrics.query("volume", exact=True, window=day)["volume"].to_list() for day in days] == [[1], []]


def test_quantiles_of_one_column_are_what_each_is_alone(shop):
    shop.add([request(latency_ms=float(n * n % 101), ttft_ms=None if n % 3 else float(n)) for n in range(90)])
    names = ["latency_p99", "ttft_p50", "latency_p50", "cost_usd", "latency_p95", "ttft_p90"]
    together = shop.metrics.query(names, detail=True, exact=True)
    for name in names:
        assert shop.metrics.query([name], detail=True, exact=True).row(0) == together.select(pl.col(f"^{name}(_.*)?$")).row(0)
    assert together["latency_p50"][0] == statistics.median(float(n * n % 101) for n in range(90))


def test_values_of_a_column_are_collected_once_for_all_its_quantiles():
    metrics = [CATALOGUE[name] for name in ("latency_p99", "ttft_p50", "latency_p50", "latency_p95")]
    asked = Question(metrics=tuple(metrics), filters=(), window=Window(), definitions=Definitions())
    rows = asked.rows(metrics)
    assert to_sql(totals(rows, metrics, ["row_app"])).count("QUANTILE_CONT") == 2
    ends = order_statistics(rows, metrics, ["row_app"])
    assert ends is not None
    assert to_sql(ends).count("ARRAY_AGG") == 2


def test_filters_join_by_and_and_values_by_or(shop):
    shop.add([request(bundle=b, arm=a) for b in ("one", "two", "three") for a in ("stable", "candidate")])
    assert shop.one("volume", where={"bundle": "one, two", "arm": "stable"}) == (2, 2)
    assert shop.one("volume", where={"bundle": ["one", "it's"]}) == (2, 2)


def test_apps_are_judged_each_by_its_own_rules(tmp_path):
    specs = {"shop": spec("shop", ask={"rule": "status"}), "desk": spec("desk", ask={"rule": "score", "score": "ok", "at_least": 1})}
    both = Fixture(tmp_path, specs)
    both.add([request(app=app, workflow="ask") for app in ("shop", "desk")])
    frame = both.metrics.query(["success_rate"], by=["app"])
    assert frame.rows() == [("desk", None, 0), ("shop", 1.0, 1)]
    both.close()


def test_a_kpi_counts_sessions_where_they_began(shop):
    began = request(session_id="s1", bundle="one")
    shop.add(
        [
            began,
            request(session_id="s1", bundle="two", ts_start=NOON + timedelta(minutes=1)),
            request(session_id="s2", bundle="two"),
            request(),
        ],
        outcomes=[outcome("order", minute=5, session_id="s1", value=30.0), outcome("order", minute=-5, session_id="s2", value=9.0)],
    )
    frame = shop.metrics.query(["conversion", "basket", "revenue"], by=["bundle"])
    assert frame.rows() == [("one", 0.5, 2, None, 0, None, 0), ("two", 0.0, 1, 30.0, 1, 30.0, 1)]


def test_a_session_counts_for_a_kpi_when_its_time_is_over_reached_or_not(tmp_path):
    log = Fixture(tmp_path, {"shop": spec(kpis=[{"name": "prompt", "outcome": "order", "within": "1h"}])})
    minutes = {"in time": 0, "too late": 0, "never": 0, "open and reached": 120, "open": 120}
    log.add(
        [request(session_id=name, ts_start=NOON + timedelta(minutes=at)) for name, at in minutes.items()]
        + [request(session_id="never", ts_start=NOON + timedelta(minutes=90))],
        outcomes=[
            outcome("order", minute=at, session_id=name) for name, at in {"in time": 30, "too late": 61, "open and reached": 121}.items()
        ],
    )
    assert log.one("prompt") == (1 / 3, 3), "of the sessions that began an hour ago or earlier, whoever came back since"
    assert log.metrics.value("prompt", app="shop").n == 3
    log.add([request(session_id="new", ts_start=NOON + timedelta(minutes=179))])
    assert log.one("prompt") == (1 / 3, 3)
    log.add(outcomes=[outcome("order", minute=181, session_id="nobody")])
    assert log.one("prompt") == (2 / 5, 5), "an event shows how far the log is known, too"
    record = log.metrics.measure("prompt", app="shop", bundle="one")
    log.add([request(session_id="newer", ts_start=NOON + timedelta(minutes=900))])
    assert log.metrics.verify(record) == "SAME"
    assert log.metrics.measure("prompt", app="shop", bundle="one").statistics["n"] == 6
    log.close()


def test_a_session_that_is_over_stays_what_it_is_whoever_comes_back(tmp_path):
    """Reached or missed, by its own hour: neither a request after it changes that, nor an event that follows such a request soon."""
    log = Fixture(tmp_path, {"shop": spec(kpis=[{"name": "prompt", "outcome": "order", "within": "1h"}])})
    log.add(
        [request(session_id=name) for name in ("reached", "missed")]
        + [request(session_id="reached", ts_start=NOON + timedelta(minutes=50))],
        outcomes=[outcome("order", minute=60, session_id="reached")],
    )
    assert log.one("prompt") == (0.5, 2)
    for minute in (61, 300, 2000):
        log.add(
            [request(session_id=name, ts_start=NOON + timedelta(minutes=minute)) for name in ("reached", "missed")],
            outcomes=[outcome("order", minute=minute + 1, session_id="missed")],
        )
        assert log.one("prompt") == (0.5, 2)
    log.close()


def test_a_kpi_beside_others_is_what_it_is_alone(tmp_path):
    kpis = [{"name": name, "outcome": name, "within": "1h"} for name in ("prompt", "called")]
    log = Fixture(tmp_path, {"shop": spec(kpis=kpis, buy={"rule": "outcome", "outcome": "order", "within": "1h"})})
    log.add(
        [request(session_id="old", workflow="buy"), request(session_id="new", workflow="buy", ts_start=NOON + timedelta(minutes=30))],
        outcomes=[outcome("prompt", minute=65, session_id="old"), outcome("called", minute=100, session_id="x")],
    )
    both = log.metrics.query(["success_rate", "prompt", "called"])
    assert both.row(0)[1::2] == (0, 1, 2), "each knows the log as far as its own event, or a request, shows it"
    for name in ("success_rate", "prompt", "called"):
        assert log.one(name) == (both[name][0], both[f"{name}_n"][0])
    log.close()


def test_money_of_another_currency_is_not_added(shop):
    r = request()
    shop.add([r], outcomes=[outcome("order", request_id=r["request_id"], value=10.0, currency=c) for c in ("EUR", "USD", None)])
    assert shop.one("revenue", app="shop") == (20.0, 2)


def test_a_corrected_event_counts_once(shop):
    r, event = request(), outcome("order", value=10.0)
    event["request_id"] = r["request_id"]
    shop.add([r], outcomes=[event])
    shop.add(outcomes=[event | {"value": 12.5}])
    assert shop.one("revenue", app="shop") == (12.5, 1)


def test_scores_of_each_scorer_count_with_the_requests_they_stand_for(shop):
    rows = [request() for _ in range(3)]
    shop.add(
        rows,
        scores=[
            score(rows[0], "quality", 1.0, scorer_id="judge", sample_probability=1.0),
            score(rows[1], "quality", 0.0, scorer_id="judge", sample_probability=0.25),
            score(rows[1], "quality", 1.0, scorer_id="person"),
            score(rows[2], "quality", 1.0, scorer_id="judge", sample_probability=0.0),
        ],
    )
    assert shop.one("quality_mean") == (pytest.approx(2 / 6), 3)


def test_repeated_units_widen_the_interval(shop):
    shop.add([request(bundle="one", is_fallback=i % 2 == 0, unit_hash=f"u{i}") for i in range(40)])
    shop.add([request(bundle="two", is_fallback=i % 2 == 0, unit_hash=f"u{i % 8}") for i in range(40)])
    frame = shop.metrics.query(["fallback_rate"], by=["bundle"], detail=True)
    one, two = (row["fallback_rate_high"] - row["fallback_rate_low"] for row in frame.iter_rows(named=True))
    assert two > 1.5 * one


def test_an_older_snapshot_still_says_what_it_said(shop):
    shop.add([request(latency_ms=100.0)])
    before = shop.metrics.snapshot()
    shop.add([request(latency_ms=900.0)])
    assert shop.one("latency_p50", snapshot=before) == (100.0, 1)
    assert shop.one("latency_p50") == (500.0, 2)


def test_a_snapshot_that_never_was_is_a_clear_error(shop):
    shop.add([request()])
    with pytest.raises(StoreError, match="snapshot 999: the lake no longer holds it"):
        shop.metrics.query(["volume"], snapshot=999)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"metrics": ["sucess_rate"]}, "metric 'sucess_rate': there is no such metric; did you mean 'success_rate'?"),
        ({"by": ["bundel"]}, "dimension 'bundel': there is no such dimension; did you mean 'bundle'?"),
        ({"where": {"team": "x"}}, f"needed: one of {', '.join(DIMENSIONS)}"),
        ({"grain": "2h"}, f"needed: one of {', '.join(GRAINS)}"),
    ],
)
def test_an_unknown_name_names_the_nearest_and_the_list(shop, how, words):
    with pytest.raises(UnknownSubject) as error:
        shop.metrics.query(**{"metrics": ["volume"], **how})
    assert words in str(error.value)


@pytest.mark.parametrize(
    "how",
    [
        {"window": "seven days"},
        {"window": Window(start=NOON, until=NOON)},
        {"window": Window(start=datetime(2026, 1, 1))},
        {"where": {"bundle": " , "}},
        {"where": {"app": "desk"}, "app": "shop"},
    ],
)
def test_a_question_without_sense_is_refused(shop, how):
    with pytest.raises(UsageError):
        shop.metrics.query(["volume"], **how)


def test_a_value_carries_what_makes_it_evidence(shop):
    shop.add(
        [request(is_fallback=i < 5, ts_start=NOON + timedelta(minutes=i)) for i in range(20)] + [request(ts_start=NOON + timedelta(days=1))]
    )
    value = shop.metrics.value("fallback_rate", app="shop", where={"bundle": "one"})
    assert (value.value, value.n, value.count, value.unit) == (0.25, 20, 5, "share")
    assert (round(value.interval.low, 4), round(value.interval.high, 4), value.interval.method) == (0.1119, 0.4687, "wilson")
    assert value.window == Window(start=NOON, until=NOON + timedelta(minutes=19))
    assert value.snapshot == shop.metrics.snapshot()
    nothing = shop.metrics.value("fallback_rate", app="shop", where={"bundle": "none"})
    assert (nothing.value, nothing.n, nothing.interval, nothing.window) == (None, 0, None, Window())


def test_bundles_come_oldest_first_and_scores_are_counted_by_source(shop):
    rows = [request(bundle="late"), request(bundle="early", ts_start=NOON - timedelta(hours=1)), request(bundle=None)]
    shop.add(rows, scores=[score(rows[0], "quality", 1.0), score(rows[0], "quality", 1.0, source="human"), score(rows[1], "x", 1.0)])
    assert shop.metrics.bundles_with_rows("shop") == ("early", "late")
    assert shop.metrics.score_sources("shop", "late") == {"human": 1, "rule": 1}
    assert [metric.name for metric in shop.metrics.known("shop")][-3:] == ["conversion", "basket", "revenue"]


def test_removing_rows_never_turns_nothing_into_a_number(shop):
    rows = [
        request(bundle=f"b{i}", latency_ms=5.0 if i % 3 else None, cost_usd=None, n_tool_calls=i % 2, n_tool_errors=0) for i in range(12)
    ]
    shop.add(rows)
    for name in ("latency_p95", "cost_usd", "tool_error_rate", "success_rate", "quality_mean"):
        for kept in (12, 9, 4, 1):
            names = [f"b{i}" for i in range(kept)]
            more, fewer = shop.one(name), shop.one(name, where={"bundle": names})
            assert fewer[0] is None or more[0] is not None
            assert fewer[1] <= more[1]


def test_another_app_that_reuses_a_request_id_changes_nothing(shop):
    failing, alien = request(request_id="same"), request(request_id="same", app="other")
    shop.add([failing, alien], scores=[score(failing, "success", 0.0), score(alien, "success", 1.0, minute=5)])
    frame = shop.metrics.query(["success_rate"], by=["app"])
    assert frame.select("app", "success_rate").rows() == [("other", 1.0), ("shop", 0.0)]


def test_a_window_longer_than_the_calendar_is_refused(shop):
    with pytest.raises(UsageError, match="reaches back before the calendar begins"):
        shop.metrics.query(["volume"], window="99999999w")
