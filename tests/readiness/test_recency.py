"""A measurement is as old as the observations that it needs: a few fresh ones renew nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.readiness.goodapp import NOW, comparison, gate, record, seen, side
from tests.readiness.test_review_service import OPERATOR, Clock, log, rows, write_app
from workbench.readiness.gates import assess
from workbench.readiness.model import ReviewVerdict, Verdict
from workbench.spec.base import format_duration
from workbench.spec.gates import AgainstBaseline
from workbench.workspace import Workspace

MAX_AGE = timedelta(days=14)
DAY = timedelta(days=1)


def aged(ages: list[timedelta], **more):
    """A good record of one observation of each of these ages."""
    times = [NOW - age for age in sorted(ages)]
    return record(seen({**side(0.99, len(ages)), **more}, times), last=times[0] if times else None)


def judged(ages, min_n, *, now=NOW):
    return assess(gate(at_least=0.1, min_n=min_n, max_age=MAX_AGE), aged(ages), now=now)


def test_one_fresh_row_does_not_renew_thousands_of_old_ones():
    result = judged([DAY] + [40 * DAY] * 399, 100)
    assert (result.verdict, result.reason) == (Verdict.STALE, "too_old")
    assert "but only 1 of its 400 observations is from the last 2w; 100 are needed" in result.sentence


@pytest.mark.parametrize(
    ("fresh", "words"),
    [
        (0, "none of its 400 observations is from"),
        (1, "only 1 of its 400 observations is from"),
        (4, "fewer than 5 of its 400 observations are from"),
        (60, "fewer than 100 of its 400 observations are from"),
        (99, "fewer than 100 of its 400 observations are from"),
    ],
)
def test_the_sentence_says_about_how_many_are_fresh(fresh, words):
    assert words in judged([DAY] * fresh + [40 * DAY] * (400 - fresh), 100).sentence


def test_enough_fresh_observations_renew_it_however_many_are_old():
    assert judged([DAY] * 100 + [400 * DAY] * 9000, 100).verdict is Verdict.PASS


def test_exactly_the_greatest_age_still_counts():
    assert judged([MAX_AGE] * 100, 100).verdict is Verdict.PASS
    assert judged([MAX_AGE + timedelta(microseconds=1)] * 100, 100).verdict is Verdict.STALE


def test_an_age_that_reaches_back_before_the_calendar_is_no_limit():
    assert assess(gate(at_least=0.1, max_age=timedelta(days=10**8)), aged([400 * DAY] * 200), now=NOW).verdict is Verdict.PASS


@pytest.mark.parametrize(("n_clusters", "noun"), [(300, "units"), (None, "requests")])
def test_what_is_counted_has_its_name(n_clusters, noun):
    times = [NOW - DAY] + [NOW - 40 * DAY] * 299
    result = assess(gate(), record(seen({**side(0.99, 400), "n_clusters": n_clusters}, times)), now=NOW)
    assert f"only 1 of its 300 {noun} is from the last {format_duration(MAX_AGE)}" in result.sentence


@pytest.mark.parametrize(
    "newest", ["gone", None, {}, {"units": 1000}, {"units": "1000", "times": {}}, {"units": 1000, "times": {"1": "x"}}]
)
def test_a_record_that_does_not_say_how_old_it_is_never_passes(newest):
    good = record(seen(side(0.9, 1000), NOW))
    statistics = {name: value for name, value in {**good.statistics, "newest": newest}.items() if value != "gone"}
    result = assess(gate(), replace(good, statistics=statistics), now=NOW)
    assert (result.verdict, result.reason) == (Verdict.ERROR, "broken_evidence")


def test_a_record_of_another_min_n_does_not_say_it_either():
    times = {"units": 1000, "times": {str(rank): NOW.isoformat() for rank in (1, 2, 5, 10, 20, 50, 60)}}
    assert assess(gate(min_n=100), record({**side(0.9, 1000), "newest": times}), now=NOW).verdict is Verdict.ERROR
    assert assess(gate(min_n=60), record({**side(0.9, 1000), "newest": times}), now=NOW).verdict is Verdict.PASS


AGES = st.lists(st.integers(0, 40 * 24).map(lambda h: timedelta(hours=h)), min_size=1, max_size=60)
MIN_N = st.sampled_from([1, 30])


def n_fresh(ages, now=NOW) -> int:
    return sum(now - (NOW - age) <= MAX_AGE for age in ages)


@given(AGES, MIN_N)
def test_it_passes_only_with_min_n_fresh_observations_and_else_says_so(ages, min_n):
    result, fresh = judged(ages, min_n), n_fresh(ages)
    assert (result.verdict is Verdict.PASS) == (fresh >= min_n)
    if result.verdict is Verdict.STALE:
        said = re.search(rf"but (none|only (\d+)|fewer than (\d+)) of its {len(ages)} observations? ", result.sentence)
        exactly, below = said[2], said[3]
        assert fresh < int(below) if below else fresh == int(exactly or 0)


@given(AGES, MIN_N, st.integers(0, 50 * 24))
def test_ageing_never_makes_a_pass(ages, min_n, hours):
    before, after = judged(ages, min_n), judged(ages, min_n, now=NOW + timedelta(hours=hours))
    assert after.verdict is not Verdict.PASS or before.verdict is Verdict.PASS


@given(AGES, MIN_N, st.data())
def test_taking_rows_away_never_makes_a_pass(ages, min_n, data):
    kept = data.draw(st.lists(st.sampled_from(range(len(ages))), unique=True, min_size=1).map(sorted))
    before, after = judged(ages, min_n), judged([ages[i] for i in kept], min_n)
    assert after.verdict is not Verdict.PASS or before.verdict is Verdict.PASS


@given(AGES, st.lists(st.integers(0, 24).map(lambda h: timedelta(hours=h)), max_size=40))
def test_too_few_fresh_rows_never_make_a_pass(ages, added):
    old = [age + MAX_AGE + DAY for age in ages]
    assert (judged(old + added, 30).verdict is Verdict.PASS) == (len(added) >= 30)


@given(AGES, AGES, st.booleans())
def test_a_comparison_is_as_old_as_its_older_side(candidate, baseline, is_paired):
    sides = [seen(side(0.8, 1000), [NOW - age for age in sorted(ages)]) for ages in (candidate, baseline)]
    evidence = comparison(
        side(0.8, 1000), side(0.8, 1000), {"estimate": 0.0, "low": -0.01, "high": 0.01, "n_pairs": 1000 if is_paired else None}
    )
    evidence = replace(evidence, statistics={**evidence.statistics, "candidate": sides[0], "baseline": sides[1]})
    spec = gate(at_least=None, against_baseline=AgainstBaseline(margin=0.05), min_n=30, max_age=MAX_AGE)
    result, n = assess(spec, evidence, now=NOW), [min(30, len(ages)) for ages in (candidate, baseline)]
    is_fresh = all(n_fresh(ages) >= needed for ages, needed in zip((candidate, baseline), n, strict=True))
    assert result.verdict is (Verdict.PASS if is_fresh else Verdict.STALE)
    if not is_fresh:
        assert re.search(r"of the (candidate|baseline)'s \d+", result.sentence)


# Over a real log.


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ws(tmp_path, clock):
    with Workspace.open(tmp_path / "home", clock=clock, actor=OPERATOR) as opened:
        yield opened


@pytest.fixture
def bundles(ws, tmp_path):
    folder = write_app(tmp_path / "app")
    found = [ws.versions.register(folder / "bundles" / name).bundle for name in ("v1", "v2")]
    for bundle in found:
        log(ws, bundle, n=400, good=380)
    return found


def add(ws, bundle, clock, name, *, n, unit=None):
    """Fresh traffic under other ids; of one unit when that is given."""
    fresh = rows(bundle.bundle_id, n=n, good=n, ago=timedelta(hours=2) - (clock.now - Clock().now))
    for row in fresh["requests"]:
        row["unit_hash"] = unit or f"{name}-{row['unit_hash']}"
    for row in (*fresh["requests"], *fresh["scores"]):
        row["request_id"] = f"{name}-{row['request_id']}"
        row["score_id"] = f"s-{row['request_id']}"
    for row in fresh["requests"]:
        del row["score_id"]
    ws.logs.record(fresh)
    ws.logs.flush()


def said(ws, gate_id):
    result = next(result for result in ws.readiness.review("support", "v2").gates if result.gate_id == gate_id)
    return result.verdict, result.sentence


def test_a_stale_log_stays_stale_until_enough_fresh_units_were_seen(ws, bundles, clock):
    assert ws.readiness.review("support", "v2").verdict is ReviewVerdict.GO
    clock.now += timedelta(days=30)
    assert said(ws, "success")[0] is Verdict.STALE
    add(ws, bundles[1], clock, "one", n=1)
    verdict, sentence = said(ws, "success")
    assert verdict is Verdict.STALE
    assert "but only 1 of its 401 observations is from the last 2w; 100 are needed" in sentence
    add(ws, bundles[1], clock, "tester", n=20, unit="tester")
    verdict, sentence = said(ws, "success")
    assert verdict is Verdict.STALE
    assert "but fewer than 5 of its 402 units are from the last 2w; 100 are needed" in sentence
    add(ws, bundles[1], clock, "many", n=98)
    assert said(ws, "success")[0] is Verdict.PASS
    assert said(ws, "latency")[0] is Verdict.STALE
    assert "none of the baseline's 400 observations is from the last 2w" in said(ws, "latency")[1]
    add(ws, bundles[0], clock, "many", n=100)
    assert said(ws, "latency")[0] is not Verdict.STALE


def test_taking_old_rows_away_does_not_make_the_rest_fresh(ws, bundles, clock):
    clock.now += timedelta(days=30)
    add(ws, bundles[1], clock, "fresh", n=60)
    assert said(ws, "success")[0] is Verdict.STALE
    for kept in (300, 40, 0):
        gone = rows(bundles[1].bundle_id, n=400, good=380)["requests"][kept:]
        ws.logs.record({"requests": [{**row, "revision": 2, "bundle": None} for row in gone]})
        ws.logs.flush()
        review = ws.readiness.review("support", "v2")
        assert said(ws, "success")[0] is not Verdict.PASS
        assert review.verdict is not ReviewVerdict.GO
    assert said(ws, "success")[0] is Verdict.INSUFFICIENT


def test_gates_share_a_record_when_they_ask_the_same(ws, bundles, tmp_path):
    (tmp_path / "app" / "gates.yaml").write_text(
        "gates:\n"
        "  - {id: a, metric: success_rate, at_least: 0.7, min_n: 100}\n"
        "  - {id: b, metric: success_rate, at_least: 0.8, min_n: 100, max_age: 30d}\n"
        "  - {id: c, metric: success_rate, at_least: 0.7, min_n: 50}\n"
        "  - {id: d, metric: success_rate, against_baseline: {margin: 0.2}, min_n: 50}\n"
    )
    ws.versions.declare(tmp_path / "app")
    review = ws.readiness.review("support", "v2")
    ids = {gate.gate_id: gate.evidence_ids[0] for gate in review.gates if gate.gate_id in set("abcd")}
    assert ids["a"] == ids["b"]
    assert len(set(ids.values())) == 3
    asked = {gate_id: ws.readiness.evidence(evidence_id)["query"]["min_n"] for gate_id, evidence_id in ids.items()}
    assert asked == {"a": 100, "b": 100, "c": 50, "d": 50}
    again = ws.readiness.review("support", "v2")
    assert again.review_id == review.review_id
    assert review.comparison
