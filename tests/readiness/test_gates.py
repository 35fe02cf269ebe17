"""One gate on one record: a good record, one change, the exact reason."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.readiness.goodapp import NOW, comparison, gate, record, retail, seen, share_record, side, telecom, wilson
from workbench.errors import UnknownSubject
from workbench.readiness.gates import DEFAULT_GATES, assess, assess_default, coverage, unmeasurable
from workbench.readiness.model import Verdict
from workbench.readiness.readings import SIDES
from workbench.spec.gates import AgainstBaseline

GOOD = share_record(0.9, 1000)
DEFAULTS = {given.id: given for given in DEFAULT_GATES.gates}


def judged(spec, evidence, **more):
    result = assess(spec, evidence, now=NOW, **more)
    return result.verdict, result.reason


def test_a_good_record_passes_and_says_the_numbers():
    result = assess(gate(), GOOD, now=NOW, owner="primary")
    assert (result.verdict, result.reason) == (Verdict.PASS, "clears_limit")
    assert result.sentence == "success rate is 90.0 % (95 % interval 88.0 to 91.7 %, n = 1,000); the limit is at least 80.0 %."
    assert (result.observed, result.limit, result.unit, result.n, result.owner) == (0.9, 0.8, "share", 1000, "primary")
    assert result.evidence_ids == (GOOD.evidence_id,)


def test_no_record_is_missing():
    assert judged(gate(), None) == (Verdict.MISSING, "not_measured")


def test_zero_observations_are_missing_not_zero_percent():
    result = assess(gate(), share_record(None, 0, last=None), now=NOW)
    assert (result.verdict, result.reason, result.observed, result.n) == (Verdict.MISSING, "no_data", None, 0)


def test_an_old_record_is_stale_even_when_it_is_good():
    result = assess(gate(), share_record(0.9, 1000, last=NOW - timedelta(days=15)), now=NOW)
    assert (result.verdict, result.reason) == (Verdict.STALE, "too_old")
    assert result.sentence.endswith(", but none of its 1,000 observations is from the last 2w; 100 are needed.")


def test_a_record_of_exactly_the_greatest_age_still_counts():
    assert judged(gate(), share_record(0.9, 1000, last=NOW - timedelta(days=14)))[0] is Verdict.PASS


def test_too_few_observations_are_insufficient():
    result = assess(gate(), share_record(1.0, 99), now=NOW)
    assert (result.verdict, result.reason, result.n, result.n_needed) == (Verdict.INSUFFICIENT, "too_few", 99, 100)
    assert "99 observations, 100 are needed" in result.sentence


def test_too_few_observations_are_insufficient_also_when_they_are_bad():
    assert judged(gate(), share_record(0.1, 99)) == (Verdict.INSUFFICIENT, "too_few")


def test_a_number_on_the_wrong_side_fails():
    result = assess(gate(), share_record(0.7, 1000), now=NOW)
    assert (result.verdict, result.reason) == (Verdict.FAIL, "below_limit")
    assert result.sentence == "success rate is 70.0 % (95 % interval 67.1 to 72.8 %, n = 1,000); the limit is at least 80.0 %."


def test_a_number_just_under_its_limit_is_told_apart_from_it():
    assert "79.96 %" in assess(gate(), share_record(0.7996, 100_000), now=NOW).sentence


def test_the_right_side_without_proof_is_insufficient_and_says_how_many_would_do():
    result = assess(gate(), share_record(0.85, 200), now=NOW)
    assert (result.verdict, result.reason, result.n_needed) == (Verdict.INSUFFICIENT, "uncertain", 246)
    assert wilson(0.85, 246)[0] >= 0.8 > wilson(0.85, 245)[0]


def test_a_number_on_the_limit_itself_never_says_how_many_would_do():
    result = assess(gate(), share_record(0.8, 1000), now=NOW)
    assert (result.verdict, result.n_needed) == (Verdict.INSUFFICIENT, None)


def test_a_limit_of_no_violation_at_all_cannot_be_proven():
    spec = gate(metric="violation_rate", at_least=None, at_most=0.0)
    assert judged(spec, share_record(0.0, 10_000)) == (Verdict.INSUFFICIENT, "uncertain")


def test_a_percentile_without_an_upper_end_is_insufficient_and_says_when_it_has_one():
    spec = gate(metric="latency_p95", at_least=None, at_most=20_000, min_n=30)
    evidence = record(side(9_000.0, 40, unit="ms", direction="lower_is_better", low=8_000.0))
    result = assess(spec, evidence, now=NOW)
    assert (result.verdict, result.reason, result.n_needed) == (Verdict.INSUFFICIENT, "unbounded", 72)
    assert "p95 latency is 9,000 ms (95 % interval from 8,000 ms, no upper end, n = 40); the limit is at most 20.0 s" in result.sentence


def test_a_bad_percentile_fails_without_an_upper_end():
    spec = gate(metric="latency_p95", at_least=None, at_most=20_000, min_n=30)
    evidence = record(side(62_660.0, 40, unit="ms", direction="lower_is_better", low=45_000.0))
    assert judged(spec, evidence) == (Verdict.FAIL, "above_limit")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"estimate": float("nan")}, "broken_evidence"),
        ({"estimate": "0.9"}, "broken_evidence"),
        ({"estimate": True}, "broken_evidence"),
        ({"low": float("inf")}, "broken_evidence"),
        ({"low": 0.95, "high": 0.9}, "broken_evidence"),
        ({"n": None}, "broken_evidence"),
        ({"n": -1}, "broken_evidence"),
        ({"n": 1000.0}, "broken_evidence"),
    ],
)
def test_a_broken_number_is_an_error(change, reason):
    assert judged(gate(), record({**side(0.9, 1000), **change})) == (Verdict.ERROR, reason)


@pytest.mark.parametrize("name", ["estimate", "low", "high", "n"])
def test_a_number_that_is_not_there_is_an_error(name):
    statistics = {key: value for key, value in side(0.9, 1000).items() if key != name}
    assert judged(gate(), record(statistics)) == (Verdict.ERROR, "broken_evidence")


def test_a_number_that_is_not_defined_is_missing():
    assert judged(gate(metric="cost_per_success", at_least=None, at_most=1), record({**side(0.9, 1000), "estimate": None})) == (
        Verdict.MISSING,
        "undefined",
    )


def test_a_record_without_a_newest_row_is_an_error():
    assert judged(gate(), share_record(0.9, 1000, last=None)) == (Verdict.ERROR, "broken_evidence")


def test_rows_from_the_future_are_an_error():
    assert judged(gate(), share_record(0.9, 1000, last=NOW + timedelta(days=2))) == (Verdict.ERROR, "from_the_future")


def test_a_total_reaches_a_floor_but_never_proves_a_ceiling():
    total = record({**side(5000.0, 5000, unit="requests", direction="neither"), "method": "total, no interval"})
    assert judged(gate(metric="volume", at_least=1000), total)[0] is Verdict.PASS
    assert judged(gate(metric="volume", at_least=None, at_most=9000), total) == (Verdict.INSUFFICIENT, "unbounded")


def test_a_metric_that_does_not_exist_is_an_error_with_the_words_of_the_catalogue():
    result = unmeasurable(gate(), UnknownSubject("metric 'sucess'", seen="there is no such metric", next_step="choose another"))
    assert (result.verdict, result.reason, result.next_step) == (Verdict.ERROR, "not_measurable", "choose another")


def test_the_first_bundle_is_not_compared():
    spec = gate(at_least=None, against_baseline=AgainstBaseline(margin=0.05))
    assert judged(spec, None, has_baseline=False, is_first=True) == (Verdict.NOT_APPLICABLE, "no_baseline")


def test_a_later_bundle_without_a_baseline_is_missing_one():
    spec = gate(at_least=None, against_baseline=AgainstBaseline(margin=0.05))
    result = assess(spec, None, now=NOW, has_baseline=False)
    assert (result.verdict, result.reason, result.next_step) == (Verdict.MISSING, "no_baseline", "name one with --baseline")


MARGIN = gate(at_least=None, against_baseline=AgainstBaseline(margin=0.05))
RATIO = gate(metric="latency_p95", at_least=None, against_baseline=AgainstBaseline(ratio=1.25))


def shares(low, estimate, high, **more):
    return comparison(side(0.8, 500), side(0.8, 500), {"estimate": estimate, "low": low, "high": high, **more})


def times(low, estimate, high):
    slow = side(2_000.0, 500, unit="ms", direction="lower_is_better", low=1_900.0, high=2_100.0)
    return comparison(slow, slow, ratio={"estimate": estimate, "low": low, "high": high})


@pytest.mark.parametrize(
    ("evidence", "verdict", "reason"),
    [
        (shares(-0.04, 0.0, 0.04), Verdict.PASS, "clears_limit"),
        (shares(-0.05, 0.0, 0.05), Verdict.INSUFFICIENT, "uncertain"),
        (shares(-0.2, -0.06, 0.1), Verdict.FAIL, "below_limit"),
        (shares(None, 0.1, None), Verdict.INSUFFICIENT, "unbounded"),
        (shares(0.1, 0.2, 0.3, n_pairs=99), Verdict.INSUFFICIENT, "too_few"),
    ],
)
def test_a_margin_is_held_by_the_lower_end_of_the_difference(evidence, verdict, reason):
    assert judged(MARGIN, evidence) == (verdict, reason)


@pytest.mark.parametrize(
    ("evidence", "verdict", "reason"),
    [
        (times(0.9, 1.0, 1.2), Verdict.PASS, "clears_limit"),
        (times(0.9, 1.0, 1.3), Verdict.INSUFFICIENT, "uncertain"),
        (times(1.1, 1.3, 1.5), Verdict.FAIL, "above_limit"),
        (times(None, None, None), Verdict.INSUFFICIENT, "no_ratio"),
    ],
)
def test_a_ratio_is_held_by_its_upper_end_where_lower_is_better(evidence, verdict, reason):
    assert judged(RATIO, evidence) == (verdict, reason)


def test_a_ratio_is_held_from_below_where_higher_is_better():
    spec = gate(at_least=None, against_baseline=AgainstBaseline(ratio=1.25))
    good = comparison(side(0.8, 500), side(0.8, 500), ratio={"estimate": 1.0, "low": 0.81, "high": 1.2})
    bad = comparison(side(0.6, 500), side(0.8, 500), ratio={"estimate": 0.75, "low": 0.7, "high": 0.79})
    assert (judged(spec, good)[0], judged(spec, bad)) == (Verdict.PASS, (Verdict.FAIL, "below_limit"))


def test_a_metric_without_a_better_side_cannot_be_compared():
    neither = side(0.8, 500, direction="neither")
    evidence = comparison(neither, neither, {"estimate": 0.0, "low": -0.01, "high": 0.01})
    assert judged(MARGIN, evidence) == (Verdict.ERROR, "no_direction")


def test_a_baseline_without_observations_is_missing():
    evidence = comparison(side(0.8, 500), side(None, 0), {})
    assert judged(MARGIN, evidence) == (Verdict.MISSING, "no_data")


def test_the_default_gates_stop_a_slower_candidate_by_latency_and_say_that_they_are_defaults():
    success, latency = retail()
    result = assess_default(DEFAULTS["latency"], latency, now=NOW, has_baseline=True, is_first=False)
    assert (result.verdict, result.reason) == (Verdict.FAIL, "above_limit")
    assert result.sentence == (
        "p95 latency is 62.7 s against the baseline's 35.0 s: 1.79 times (95 % interval 1.20 to 2.60 times, n = 40); "
        "the limit is at most 1.25 times the baseline (a default bar; gates.yaml sets your own)."
    )
    assert judged(DEFAULTS["success"], success) == (Verdict.INSUFFICIENT, "uncertain")


def test_the_default_gates_pass_a_better_candidate_on_success():
    assert judged(DEFAULTS["success"], telecom()[0]) == (Verdict.PASS, "clears_limit")


def test_a_recorded_log_of_last_year_can_still_be_judged_by_the_defaults():
    old = replace(retail()[1], row_set=replace(GOOD.row_set, last=NOW - timedelta(days=400)))
    assert judged(DEFAULTS["latency"], old)[0] is Verdict.FAIL


def test_a_review_needs_one_measured_quality_gate_that_applies():
    not_applicable = assess(MARGIN, None, now=NOW, has_baseline=False, is_first=True)
    passed = replace(assess(gate(), GOOD, now=NOW), gate_id="absolute")
    assert (covered([not_applicable]).verdict, covered([]).reason) == (Verdict.MISSING, "nothing_absolute")
    assert covered([not_applicable, passed]).verdict is Verdict.PASS
    assert covered([not_applicable, passed], quality={"success"}).verdict is Verdict.MISSING


def covered(results, *, quality=frozenset({"success", "absolute"})):
    return coverage(results, quality=quality)


# What repeats, what is missing, what cannot be missed.


def repeated(estimate: float, n: int, **more):
    return record({**side(estimate, n), **more})


def test_repeats_of_few_units_count_as_what_they_are_worth():
    result = assess(gate(), repeated(0.9, 1000, n_clusters=40, n_effective=62.7), now=NOW)
    assert (result.verdict, result.reason, result.n, result.n_needed) == (Verdict.INSUFFICIENT, "too_few", 1000, 1613)
    assert result.sentence == (
        "success rate: 1,000 observations of 40 units are worth 62 independent ones, 100 are needed before this gate decides "
        "(seen so far: 90.0 %)."
    )


def test_a_whole_effective_size_is_not_rounded_below_itself():
    assert judged(gate(), repeated(0.9, 1000, n_clusters=100, n_effective=99.9999999999))[0] is Verdict.PASS


def test_the_words_say_how_many_units_the_observations_come_from():
    sentence = assess(gate(), repeated(0.9, 1000, n_clusters=400, n_effective=500.0), now=NOW).sentence
    assert "(95 % interval 88.0 to 91.7 %, n = 1,000 of 400 units)" in sentence


def test_units_seen_once_each_change_nothing():
    plain, once = (assess(gate(), one, now=NOW) for one in (GOOD, repeated(0.9, 1000, n_clusters=1000, n_effective=1000.0)))
    assert plain == once


@pytest.mark.parametrize("n_clusters", [0, 1])
def test_one_unit_alone_never_passes(n_clusters):
    result = assess(gate(min_n=1), repeated(0.9, 1000, n_clusters=n_clusters, n_effective=1000.0), now=NOW)
    assert (result.verdict, result.reason) == (Verdict.INSUFFICIENT, "one_unit")
    assert judged(gate(min_n=1), repeated(0.5, 1000, n_clusters=1, n_effective=1000.0)) == (Verdict.FAIL, "below_limit")


def test_how_many_would_be_enough_is_always_more_than_there_are():
    clustered = repeated(0.9, 1000, low=0.7, high=0.97, n_clusters=40, n_effective=35.0, method="wilson on effective n, clustered by unit")
    result = assess(gate(min_n=30), clustered, now=NOW)
    assert (result.verdict, result.reason) == (Verdict.INSUFFICIENT, "uncertain")
    assert result.n_needed == 1772
    assert result.n_needed > result.n


@pytest.mark.parametrize(
    ("share", "verdict"), [(None, "PASS"), (1.0, "PASS"), (0.51, "PASS"), (0.5, "INSUFFICIENT"), (0.0, "INSUFFICIENT")]
)
def test_a_number_on_half_of_the_requests_or_fewer_proves_nothing(share, verdict):
    assert assess(gate(), repeated(0.9, 1000, n_eligible=2000, measured_share=share), now=NOW).verdict == verdict


def test_what_was_not_measured_is_said_with_its_numbers():
    result = assess(gate(), repeated(0.9, 1000, n_eligible=4000, measured_share=0.25), now=NOW)
    assert result.reason == "mostly_unmeasured"
    assert "only 25.0 % of 4,000 requests could be measured, and more than 50.0 % must be" in result.sentence


def test_missing_measurements_never_soften_a_fail():
    assert judged(gate(), repeated(0.7, 1000, n_eligible=4000, measured_share=0.25)) == (Verdict.FAIL, "below_limit")


def test_a_side_that_was_mostly_not_measured_stops_a_comparison():
    half = {**side(0.8, 500), "measured_share": 0.4, "n_eligible": 1250}
    evidence = comparison(side(0.8, 500), half, {"estimate": 0.0, "low": -0.04, "high": 0.04})
    assert judged(MARGIN, evidence) == (Verdict.INSUFFICIENT, "mostly_unmeasured")


@pytest.mark.parametrize("older", ["candidate", "baseline"])
def test_fresh_rows_on_one_side_do_not_renew_the_other(older):
    evidence = shares(-0.04, 0.0, 0.04)
    sides = {name: seen(evidence.statistics[name], NOW - timedelta(days=400 if name == older else 0)) for name in SIDES}
    result = assess(MARGIN, replace(evidence, statistics={**evidence.statistics, **sides}), now=NOW)
    assert (result.verdict, result.reason) == (Verdict.STALE, "too_old")
    assert f"none of the {older}'s 500 observations is from the last 2w; 100 are needed" in result.sentence


@pytest.mark.parametrize("at", [None, "yesterday", "2026-03-01T00:00:00", 5])
def test_a_side_that_does_not_say_how_old_it_is_is_an_error(at):
    evidence = shares(-0.04, 0.0, 0.04)
    baseline = copy.deepcopy(evidence.statistics["baseline"])
    baseline["newest"]["times"]["100"] = at
    assert judged(MARGIN, replace(evidence, statistics={**evidence.statistics, "baseline": baseline})) == (
        Verdict.ERROR,
        "broken_evidence",
    )


@pytest.mark.parametrize("change", [{"estimate": 3.0}, {"estimate": -0.1}, {"count": 1001}, {"n_effective": -1.0}, {"n_clusters": -1}])
def test_a_share_of_more_than_everything_is_an_error(change):
    assert judged(gate(), record({**side(0.9, 1000), **change})) == (Verdict.ERROR, "broken_evidence")


def test_a_broken_side_of_a_comparison_is_an_error():
    broken = {**side(0.8, 500), "estimate": 3.0}
    evidence = comparison(side(0.8, 500), broken, {"estimate": 0.1, "low": 0.0, "high": 0.2})
    assert judged(MARGIN, evidence) == (Verdict.ERROR, "broken_evidence")


def test_equal_is_not_worse_and_not_proven_either():
    nothing_lost = gate(at_least=None, against_baseline=AgainstBaseline(margin=0.0))
    result = assess(nothing_lost, shares(-0.01, 0.0, 0.01), now=NOW)
    assert (result.verdict, result.reason) == (Verdict.INSUFFICIENT, "uncertain")
    assert "the limit is better than the baseline" in result.sentence
    same = gate(at_least=None, against_baseline=AgainstBaseline(ratio=1.0))
    both = comparison(side(1.0, 500), side(1.0, 500), ratio={"estimate": 1.0, "low": 0.99, "high": 1.01})
    assert judged(same, both) == (Verdict.INSUFFICIENT, "uncertain")


def test_exactly_the_margin_is_not_beyond_it():
    assert judged(MARGIN, shares(-0.1, -0.05, 0.0)) == (Verdict.INSUFFICIENT, "uncertain")


def test_a_bar_that_no_share_can_miss_proves_nothing():
    result = assess(gate(metric="solved", at_least=0.0), GOOD, now=NOW)
    assert (result.verdict, result.reason) == (Verdict.MISSING, "lets_all_through")
    assert judged(gate(metric="solved", at_least=None, at_most=1.0), GOOD) == (Verdict.MISSING, "lets_all_through")
    wide = gate(metric="solved", at_least=None, against_baseline=AgainstBaseline(margin=1.0))
    assert judged(wide, shares(-0.04, 0.0, 0.04)) == (Verdict.MISSING, "lets_all_through")


# Less evidence never makes a pass.

SHARE = st.floats(0, 1).map(lambda x: round(x, 6))
BAR = SHARE.filter(lambda x: 0 < x < 1)
COUNT = st.integers(1, 100_000)


@given(SHARE, BAR, COUNT, COUNT, st.booleans())
def test_fewer_observations_at_the_same_estimate_never_make_a_pass(estimate, bar, n, fewer, is_floor):
    assume(fewer <= n)
    spec = gate(at_least=bar) if is_floor else gate(at_least=None, at_most=bar)
    before, after = (assess(spec, share_record(estimate, size), now=NOW).verdict for size in (n, fewer))
    assert after is not Verdict.PASS or before is Verdict.PASS


@given(st.integers(50, 900), st.integers(10, 99), st.integers(1, 20))
def test_what_would_be_enough_is_enough_and_less_is_not(bar, above, n):
    estimate, bar = (bar + above) / 1000, bar / 1000
    spec = gate(at_least=bar, min_n=1)
    needed = assess(spec, share_record(estimate, n), now=NOW).n_needed
    assume(needed is not None)
    assert assess(spec, share_record(estimate, needed + 1), now=NOW).verdict is Verdict.PASS
    if needed > 2:
        assert assess(spec, share_record(estimate, needed - 2), now=NOW).verdict is not Verdict.PASS


@given(SHARE, BAR, COUNT, st.integers(0, 10**4), st.integers(0, 10**4))
def test_ageing_never_makes_a_pass(estimate, bar, n, age_h, older_h):
    first, second = (NOW - timedelta(hours=h) for h in (age_h, age_h + older_h))
    before, after = (assess(gate(at_least=bar), share_record(estimate, n, last=last), now=NOW).verdict for last in (first, second))
    assert after is not Verdict.PASS or before is Verdict.PASS


@given(
    SHARE, BAR, COUNT, st.sampled_from(["estimate", "low", "high", "n"]), st.sampled_from(["gone", None, float("nan"), "1", True, -1, []])
)
def test_breaking_a_record_never_makes_a_pass(estimate, bar, n, name, broken):
    whole = share_record(estimate, n)
    statistics = copy.deepcopy(dict(whole.statistics))
    if broken == "gone":
        del statistics[name]
    else:
        statistics[name] = broken
    before, after = (assess(gate(at_least=bar), one, now=NOW).verdict for one in (whole, replace(whole, statistics=statistics)))
    assert after is not Verdict.PASS or before is Verdict.PASS


@given(
    st.sampled_from([retail()[0], telecom()[0], shares(-0.01, 0.0, 0.01), shares(-0.04, 0.01, 0.06)]),
    st.sampled_from([("candidate",), ("baseline",), ("difference",), ("difference", "low"), ("difference", "estimate"), ("baseline", "n")]),
)
def test_taking_a_piece_out_of_a_comparison_never_makes_a_pass(evidence, path):
    statistics = copy.deepcopy(dict(evidence.statistics))
    *above, last = path
    piece = statistics
    for name in above:
        piece = piece[name]
    del piece[last]
    before, after = (assess(MARGIN, one, now=NOW).verdict for one in (evidence, replace(evidence, statistics=statistics)))
    assert after is not Verdict.PASS or before is Verdict.PASS
    assert after is not Verdict.PASS


@given(st.booleans())
def test_removing_a_record_never_makes_a_pass(has_baseline):
    for spec in (gate(), MARGIN, RATIO):
        verdict = assess(spec, None, now=NOW, has_baseline=has_baseline).verdict
        assert verdict is Verdict.MISSING
