"""How far back the newest units of a record reach: against plain loops, and as part of the record."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, request, score
from workbench.errors import UsageError
from workbench.observability.metrics import DIFFERENT, SAME
from workbench.observability.recency import ranks

_apps = itertools.count()


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = Fixture(tmp_path_factory.mktemp("recency"))
    yield made
    made.close()


@pytest.fixture
def shop(tmp_path):
    made = Fixture(tmp_path)
    yield made
    made.close()


def newest_of(rows: list[dict], min_n: int) -> dict:
    """The same by loops: each unit (a request without one is its own) at its newest time, newest first."""
    last: dict[str, datetime] = {}
    for row in rows:
        unit = row["unit_hash"] or row["request_id"]
        last[unit] = max(row["ts_start"], last.get(unit, row["ts_start"]))
    times = sorted(last.values(), reverse=True)
    return {"units": len(times), "times": {str(rank): times[min(rank, len(times)) - 1].isoformat() for rank in ranks(min_n) if times}}


@given(st.integers(1, 10**6))
def test_the_ranks_climb_to_the_one_that_is_asked_for(min_n):
    found = ranks(min_n)
    assert found[-1] == min_n
    assert list(found) == sorted(set(found))
    assert found[0] == 1
    assert all(later <= 2.5 * earlier for earlier, later in itertools.pairwise(found))


ROWS = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([None, "a", "b", "c", "d"]), st.booleans()), min_size=1, max_size=30)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, st.sampled_from([1, 2, 3, 7, 30]))
def test_the_record_says_when_the_newest_units_were_observed(lake, rows, min_n):
    app = f"app{next(_apps)}"
    requests = [
        request(app=app, ts_start=NOON + timedelta(seconds=second), unit_hash=unit, latency_ms=1.0 if has_value else None)
        for second, unit, has_value in rows
    ]
    lake.add(requests)
    found = lake.metrics.measure("latency_p50", app=app, bundle="one", min_n=min_n).statistics["newest"]
    assert found == newest_of([row for row in requests if row["latency_ms"]], min_n)


def test_each_side_of_a_comparison_has_its_own(shop):
    sides = {
        bundle: [request(bundle=bundle, is_fallback=False, unit_hash=f"u{i}", ts_start=at + timedelta(minutes=i)) for i in range(12)]
        for bundle, at in (("one", NOON), ("two", NOON + timedelta(hours=5)))
    }
    shop.add([row for rows in sides.values() for row in rows])
    found = shop.metrics.compare("fallback_rate", app="shop", bundle="one", baseline="two", min_n=10).statistics
    assert found["candidate"]["newest"] == newest_of(sides["one"], 10)
    assert found["baseline"]["newest"] == newest_of(sides["two"], 10)


def test_the_time_is_that_of_the_request_not_of_its_late_score(shop):
    row = request(ts_start=NOON, unit_hash=None)
    shop.add([row], scores=[score(row, "success", 1.0, minute=600)])
    found = shop.metrics.measure("success_rate", app="shop", bundle="one", min_n=1).statistics["newest"]
    assert found == {"units": 1, "times": {"1": NOON.isoformat()}}


def test_many_fresh_requests_of_one_unit_are_one(shop):
    old = [request(latency_ms=1.0, unit_hash=f"u{i}", ts_start=NOON - timedelta(days=60)) for i in range(20)]
    fresh = [request(latency_ms=1.0, unit_hash="tester", ts_start=NOON - timedelta(minutes=i)) for i in range(50)]
    shop.add(old + fresh)
    times = shop.metrics.measure("latency_p50", app="shop", bundle="one", min_n=20).statistics["newest"]["times"]
    assert times["1"] == NOON.isoformat()
    assert times["2"] == times["20"] == (NOON - timedelta(days=60)).isoformat()


def test_a_request_with_many_tool_calls_is_one(shop):
    old = [request(n_tool_calls=1, n_tool_errors=0, ts_start=NOON - timedelta(days=60)) for _ in range(20)]
    shop.add([*old, request(n_tool_calls=500, n_tool_errors=0)])
    found = shop.metrics.measure("tool_error_rate", app="shop", bundle="one", min_n=20).statistics
    assert (found["n"], found["newest"]["units"]) == (520, 21)
    assert found["newest"]["times"]["20"] == (NOON - timedelta(days=60)).isoformat()


def test_without_data_there_is_no_time(shop):
    shop.add([request()])
    found = shop.metrics.measure("latency_p95", app="shop", bundle="one", min_n=100).statistics
    assert (found["n"], found["newest"]) == (0, {"units": 0, "times": {}})


def test_records_differ_by_what_was_asked_and_all_verify(shop):
    shop.add([request(latency_ms=float(i), ts_start=NOON + timedelta(minutes=i)) for i in range(30)])
    records = [shop.metrics.measure("latency_p50", app="shop", bundle="one", min_n=min_n) for min_n in (None, 10, 30, 10)]
    assert records[1].evidence_id == records[3].evidence_id
    assert len({record.evidence_id for record in records}) == 3
    assert all(shop.metrics.verify(record) == SAME for record in records)
    assert "newest" not in records[0].statistics
    assert "min_n" not in records[0].query
    asked_less = {name: value for name, value in records[1].query.items() if name != "min_n"}
    assert shop.metrics.verify(replace(records[1], query=asked_less)) == DIFFERENT
    shop.add([request(app="desk")])
    assert shop.metrics.measure("latency_p50", app="shop", bundle="one", min_n=10).evidence_id == records[1].evidence_id


@pytest.mark.parametrize("min_n", [0, -1])
def test_no_observations_at_all_cannot_be_asked_for(shop, min_n):
    with pytest.raises(UsageError, match=f"min_n {min_n}: no number of observations"):
        shop.metrics.measure("volume", app="shop", bundle="one", min_n=min_n)
