"""Sealed records: what their id covers, that they repeat, and that a changed log or record shows."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, outcome, request, score, spec
from workbench.errors import UsageError
from workbench.observability.evidence import content_of, evidence_id, rounded, row_set, sealed, window_from_json, window_json
from workbench.observability.metrics import DIFFERENT, ERASED, EXPIRED, OTHER_RULES, SAME, Metrics
from workbench.observability.model import Evidence, RowSet, Window

pytestmark = pytest.mark.usefixtures("two_threads")  # the numbers depend on no order of work


@pytest.fixture
def shop(tmp_path):
    made = Fixture(
        tmp_path,
        {"shop": spec(buy={"rule": "outcome", "outcome": "order", "within": "1h"}, kpis=[{"name": "conversion", "outcome": "order"}])},
    )
    yield made
    made.close()


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_keeps_12_digits_and_is_stable(value):
    once = rounded(value)
    assert rounded(once) == once
    assert once == pytest.approx(value, rel=1e-11)


def test_rounding_reaches_every_float_and_nothing_else():
    content = {"a": [0.1 + 0.2, {"b": 1 / 3}], "n": 10**15 + 1, "text": "0.1", "flag": True, "none": None, "zero": -0.0}
    assert rounded(content) == {"a": [0.3, {"b": 0.333333333333}], "n": 10**15 + 1, "text": "0.1", "flag": True, "none": None, "zero": 0.0}
    assert str(rounded(-0.0)) == "0.0"


def test_the_order_of_rows_does_not_matter_but_their_number_does():
    def part(n: int, low: str, high: str, first: int = 1, last: int = 2) -> dict:
        return {"n": n, "low_half": low, "high_half": high, "first_us": first, "last_us": last}

    whole = row_set([part(2, "5", "7")])
    assert row_set([part(1, "4", "1", 2, 2), part(1, "1", "6", 1, 1)]) == whole
    assert row_set([part(1, "5", "7")]).digest != whole.digest
    assert row_set([part(2, "7", "5")]).digest != whole.digest
    assert (row_set([]).n, row_set([]).first) == (0, None)


def test_windows_survive_being_stored():
    for window in (Window(), Window(start=NOON), Window(start=NOON, until=NOON + timedelta(hours=1, microseconds=1))):
        assert window_from_json(json.loads(json.dumps(window_json(window)))) == window


def test_the_id_covers_everything_but_when_and_at_which_snapshot_it_was_collected(shop):
    shop.add([request(latency_ms=float(i)) for i in range(30)])
    record = shop.metrics.measure("latency_p50", app="shop", bundle="one")
    assert record.evidence_id == evidence_id(record)
    assert evidence_id(replace(record, collected_at=NOON, snapshot=99)) == record.evidence_id
    assert shop.metrics.verify(replace(record, snapshot=99)) == SAME
    changes = {
        "kind": "comparison",
        "app": "desk",
        "subject": "two",
        "baseline": "two",
        "query": {**record.query, "metric": "latency_p90"},
        "statistics": {**record.statistics, "estimate": 14.6},
        "row_set": replace(record.row_set, n=31),
    }
    for name, value in changes.items():
        assert evidence_id(replace(record, **{name: value})) != record.evidence_id, name
        assert shop.metrics.verify(replace(record, **{name: value})) == DIFFERENT, name
    assert {*changes} | {"evidence_id", "snapshot", "collected_at"} == set(Evidence.__slots__)


def test_the_same_rows_give_the_same_statistics_and_row_set_in_any_order(tmp_path):
    rows = [request(latency_ms=random.Random(i).lognormvariate(5, 1), cost_usd=0.1 * i, unit_hash=f"u{i % 50}") for i in range(500)]
    found = []
    for number in range(2):
        shop = Fixture(tmp_path / str(number))
        random.Random(number).shuffle(rows)
        for part in (rows[:200], rows[200:]) if number else (rows,):
            shop.add(part)
        found.append([shop.metrics.measure(name, app="shop", bundle="one") for name in ("latency_p95", "cost_usd", "cost_per_success")])
        shop.close()
    for first, second in zip(*found, strict=True):
        assert first.statistics == second.statistics
        assert first.row_set == second.row_set


def test_a_record_that_went_through_json_verifies(shop):
    rows = [request(workflow="buy", ts_start=NOON + timedelta(minutes=i)) for i in range(100)]
    shop.add(rows, outcomes=[outcome("order", minute=i + 3, request_id=rows[i]["request_id"]) for i in range(0, 100, 3)])
    for name in ("success_rate", "conversion", "volume", "quality_mean"):
        record = shop.metrics.measure(name, app="shop", bundle="one")
        content = json.loads(json.dumps(content_of(record)))
        assert content["row_set"]["digest"] == record.row_set.digest
        stored = replace(record, query=content["query"], statistics=content["statistics"])
        assert shop.metrics.verify(stored) == SAME


def test_a_record_is_judged_by_the_rules_of_its_day(shop):
    rows = [request(workflow="buy", status="ok") for _ in range(10)]
    shop.add(rows, scores=[score(r, "success", 1.0) for r in rows])
    record = shop.metrics.measure("success_rate", app="shop", bundle="one")
    changed = Metrics(shop.lake, app_spec={"shop": spec(buy={"rule": "status"})}.get, clock=lambda: NOON)
    assert changed.measure("success_rate", app="shop", bundle="one").statistics != record.statistics
    assert changed.verify(record) == SAME


def test_a_record_by_other_rules_of_sessions_is_true_where_they_make_no_difference_else_nobody_can_tell(tmp_path):
    """Records of before do not say their rules, and those of a later program name others; nothing else becomes unavailable by that."""
    kpis = [{"name": "prompt", "outcome": "order", "within": "1h"}, {"name": "conversion", "outcome": "order"}]
    log = Fixture(tmp_path, {"shop": spec(kpis=kpis)})

    def by_rules(record: Evidence, rules: int | None, **statistics: float) -> Evidence:
        query = {name: value for name, value in record.query.items() if name != "session_rules"}
        query |= {} if rules is None else {"session_rules": rules}
        return sealed(replace(record, query=query, statistics={**record.statistics, **statistics}))

    def asked() -> tuple[Evidence, Evidence]:
        prompt, conversion = (log.metrics.measure(name, app="shop", bundle="one") for name in ("prompt", "conversion"))
        assert (prompt.query["session_rules"], "session_rules" in conversion.query) == (2, False)
        return prompt, conversion

    log.add(
        [request(session_id="a"), request(session_id="b", ts_start=NOON + timedelta(hours=2))],
        outcomes=[outcome("order", minute=10, session_id="a")],
    )
    prompt, conversion = asked()
    for rules in (None, 2, 3):
        assert log.metrics.verify(by_rules(prompt, rules)) == SAME
    assert log.metrics.verify(by_rules(prompt, 2, n=7)) == DIFFERENT
    for rules in (None, 3):
        assert log.metrics.verify(by_rules(prompt, rules, n=7)) == OTHER_RULES
    assert log.metrics.verify(by_rules(conversion, None, n=7)) == DIFFERENT
    assert log.metrics.verify(replace(by_rules(prompt, None), statistics={})) == DIFFERENT, "altered after it was sealed"
    log.close()


def test_later_rows_do_not_change_a_record(shop):
    shop.add([request(is_fallback=False) for _ in range(5)])
    record = shop.metrics.measure("fallback_rate", app="shop", bundle="one")
    shop.add([request(is_fallback=True) for _ in range(5)])
    assert shop.metrics.verify(record) == SAME
    assert shop.metrics.measure("fallback_rate", app="shop", bundle="one").statistics["estimate"] == 0.5


def test_an_expired_snapshot_is_unavailable(shop):
    shop.add([request()])
    record = shop.metrics.measure("volume", app="shop", bundle="one")
    shop.add([request()])
    expire = f"SELECT count(*) FROM ducklake_expire_snapshots('lake', versions => [{record.snapshot}])"
    shop.lake.write(lambda connection: connection.execute(expire).fetchall(), what="expire a snapshot")
    assert shop.metrics.verify(record) == EXPIRED
    note = f"INSERT INTO lake.expiries (first_snapshot, last_snapshot, reason) VALUES ({record.snapshot}, {record.snapshot}, 'erasure')"
    shop.lake.write(lambda connection: connection.execute(note), what="say why")
    assert shop.metrics.verify(record) == ERASED


def test_a_record_that_the_newest_rows_bear_out_is_true_without_its_snapshot(shop):
    shop.add([request(bundle="one")])
    record = shop.metrics.measure("volume", app="shop", bundle="one")
    shop.add([request(bundle="two")])
    expire = f"SELECT count(*) FROM ducklake_expire_snapshots('lake', versions => [{record.snapshot}])"
    shop.lake.write(lambda connection: connection.execute(expire).fetchall(), what="expire a snapshot")
    assert shop.metrics.verify(record) == SAME


def test_without_a_log_a_record_says_so_and_stays_true(shop):
    record = shop.metrics.measure("latency_p95", app="shop", bundle="one")
    assert (record.statistics["estimate"], record.statistics["n"], record.snapshot) == (None, 0, 0)
    assert record.row_set == RowSet(n=0, digest=record.row_set.digest, first=None, last=None)
    assert shop.metrics.verify(record) == SAME
    shop.add([request(latency_ms=1.0)])
    assert shop.metrics.verify(record) == SAME


def test_the_row_set_is_the_rows_under_the_number(shop):
    shop.add([request(latency_ms=9.0 if i < 3 else None, ts_start=NOON + timedelta(minutes=i)) for i in range(6)])
    rows = shop.metrics.measure("latency_p50", app="shop", bundle="one").row_set
    assert (rows.n, rows.first, rows.last) == (3, NOON, NOON + timedelta(minutes=2))


def test_the_bundle_is_chosen_once(shop):
    with pytest.raises(UsageError, match="the bundle is chosen by the measurement"):
        shop.metrics.measure("volume", app="shop", bundle="one", where={"bundle": "two"})
    with pytest.raises(UsageError, match="compared with itself"):
        shop.metrics.compare("volume", app="shop", bundle="one", baseline="one")


def test_rows_of_another_app_do_not_change_the_id(shop):
    shop.add([request(latency_ms=float(i)) for i in range(30)])
    before = shop.metrics.measure("latency_p50", app="shop", bundle="one")
    shop.add([request(app="desk", latency_ms=9.0)])
    after = shop.metrics.measure("latency_p50", app="shop", bundle="one")
    assert after.snapshot != before.snapshot
    assert after.evidence_id == before.evidence_id


def test_the_statistics_say_how_many_units_and_how_much_was_measured(shop):
    rows = [request(latency_ms=float(i) if i % 4 else None, unit_hash=f"u{i % 10}") for i in range(40)]
    shop.add(rows, scores=[score(row, "success", 1.0) for row in rows[:20]])
    latency = shop.metrics.measure("latency_p50", app="shop", bundle="one").statistics
    assert (latency["n"], latency["n_eligible"], latency["measured_share"], latency["n_clusters"]) == (30, 40, 0.75, 10)
    assert latency["n_effective"] == pytest.approx(10, rel=0.15)
    success = shop.metrics.measure("success_rate", app="shop", bundle="one").statistics
    assert (success["n_clusters"], success["n_effective"], success["measured_share"]) == (10, 10.0, 0.5)


def test_without_units_every_request_stands_for_itself(shop):
    shop.add([request(is_fallback=False, unit_hash=None) for _ in range(12)])
    found = shop.metrics.measure("fallback_rate", app="shop", bundle="one").statistics
    assert (found["n_clusters"], found["n_effective"], found["measured_share"]) == (None, 12.0, 1.0)


def test_a_sampled_score_stands_for_the_requests_that_were_left_out(shop):
    rows = [request() for _ in range(100)]
    shop.add(rows, scores=[score(row, "quality", 0.8, sample_probability=0.1) for row in rows[:9]])
    found = shop.metrics.measure("quality_mean", app="shop", bundle="one").statistics
    assert (found["n"], found["n_eligible"], found["measured_share"]) == (9, 100, 0.9)


def test_200_equal_scores_of_two_units_prove_little(shop):
    rows = [request(unit_hash=f"u{i % 2}") for i in range(200)]
    shop.add(rows, scores=[score(row, "quality", 0.9) for row in rows])
    found = shop.metrics.measure("quality_mean", app="shop", bundle="one").statistics
    assert (found["n"], found["n_effective"], found["low"], found["high"]) == (200, 2.0, 0.0, 1.0)


def test_one_score_with_all_the_weight_has_no_interval(shop):
    rows = [request() for _ in range(200)]
    scores = [score(row, "quality", 0.2) for row in rows[1:]]
    shop.add(rows, scores=[*scores, score(rows[0], "quality", 0.9, sample_probability=1e-6)])
    found = shop.metrics.measure("quality_mean", app="shop", bundle="one").statistics
    assert found["n_effective"] == pytest.approx(1.0, abs=1e-3)
    assert (found["low"], found["high"]) == (None, None)


def test_a_p95_of_one_unit_has_no_interval(shop):
    shop.add([request(latency_ms=float(i), unit_hash="u") for i in range(400)])
    shop.add([request(latency_ms=float(i), unit_hash=f"u{i}", bundle="two") for i in range(400)])
    frame = shop.metrics.query(["latency_p95"], by=["bundle"], detail=True)
    one, two = frame.sort("bundle").iter_rows(named=True)
    assert (one["latency_p95_low"], one["latency_p95_high"]) == (None, None)
    assert two["latency_p95_low"] < two["latency_p95"] < two["latency_p95_high"]


def test_impossible_counts_are_an_error_with_metric_and_counts(shop):
    rows = [request(n_tool_calls=1, n_tool_errors=0) for _ in range(9)]
    shop.add(rows)
    table = "UPDATE lake.requests SET n_tool_errors = 3 WHERE request_id = '" + rows[0]["request_id"] + "'"
    shop.lake.write(lambda connection: connection.execute(table).fetchall(), what="break a row")
    for ask in (
        lambda: shop.metrics.query(["tool_error_rate"]),
        lambda: shop.metrics.measure("tool_error_rate", app="shop", bundle="one"),
        lambda: shop.metrics.compare("tool_error_rate", app="shop", bundle="one", baseline="two"),
    ):
        with pytest.raises(UsageError, match=r"metric tool_error_rate.*1 row says that a part is larger than its whole.*3 of 9"):
            ask()
