"""What the judge advises on streams whose truth is known, and on rows that are wrong."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.release.judging import (
    AT,
    FAILURES,
    PLAN,
    QUALITY,
    THRESHOLDS_MS,
    advice,
    failing,
    judged,
    part,
    rows,
    seen,
    whole,
    with_values,
)
from workbench.errors import StoreError, UsageError
from workbench.release.judge import begin, decide, observe
from workbench.release.judge_kinds import Decision, Kind, Role
from workbench.release.judge_model import Column, JudgePlan, MetricPlan, Place
from workbench.release.judge_state import first_seen, from_json


@pytest.mark.parametrize(("ratio", "decision"), [(1.0, Decision.PROMOTE), (2.0, Decision.ROLLBACK)])
def test_twins_with_sparse_errors(ratio, decision):
    """One in 250 fails, or two."""
    assert judged(failing(120_000, 3, base=0.004, ratio=ratio), FAILURES).decision is decision


@pytest.mark.parametrize(("share_of_ones", "decision"), [(0.8, Decision.PROMOTE), (0.68, Decision.ROLLBACK)])
def test_twins_with_many_ties(share_of_ones, decision):
    """Scores are 0 or 1; the faulty twin's candidate has fewer ones."""
    batch, rng = rows(20_000, 5), np.random.default_rng(6)
    scores = rng.random(20_000) < np.where(batch.arm == 1, share_of_ones, 0.8)
    assert judged(with_values(batch, quality=scores), QUALITY).decision is decision


@pytest.mark.parametrize(("ratio", "decision"), [(1.0, Decision.PROMOTE), (3.0, Decision.ROLLBACK)])
def test_twins_with_one_faulty_unit_of_a_thousand_requests(ratio, decision):
    """One of the candidate's units fails a thousand times, which is one failing unit; in the faulty twin many others fail too."""
    batch = failing(30_000, 8, base=0.03, ratio=ratio)
    arm, unit, failed = batch.arm.copy(), batch.unit.copy(), batch.values["failure_rate"].values.copy()
    arm[3000:4000], unit[3000:4000], failed[3000:4000] = 1, 77, 1.0
    assert judged(with_values(replace(batch, arm=arm, unit=unit), failure_rate=failed), FAILURES).decision is decision


@pytest.mark.parametrize(("drop", "decision"), [(0.0, Decision.PROMOTE), (0.1, Decision.ROLLBACK)])
def test_twins_with_one_unit_of_a_thousand_bad_scores(drop, decision):
    batch, rng = rows(30_000, 9), np.random.default_rng(10)
    scores = np.clip(0.8 - drop * (batch.arm == 1) + 0.1 * rng.standard_normal(30_000), 0, 1)
    arm, unit = batch.arm.copy(), batch.unit.copy()
    arm[3000:4000], unit[3000:4000], scores[3000:4000] = 1, 77, 0.0
    assert judged(with_values(replace(batch, arm=arm, unit=unit), quality=scores), QUALITY).decision is decision


@pytest.mark.parametrize(("ratio", "decision"), [(1.0, Decision.PROMOTE), (2.5, Decision.ROLLBACK)])
def test_twins_with_late_labels(ratio, decision):
    """Failures are known a thousand requests later on average; they count at the share that decided their request."""
    batch = failing(30_000, 11, base=0.03, ratio=ratio)
    order = np.argsort(np.arange(30_000) + np.random.default_rng(12).exponential(1000, 30_000))
    late = part(batch, order)
    assert judged(replace(late, batch_id=batch.batch_id, seq=batch.seq), FAILURES).decision is decision


def test_a_bad_candidate_is_blamed_on_what_is_bad_with_the_place_where_it_was_known():
    judgement = judged(whole(24_000, 21, ratio=4.0), PLAN)
    assert (judgement.decision, judgement.reason, judgement.blame) == (Decision.ROLLBACK, "harm", "failure_rate")
    state = seen(whole(24_000, 21, ratio=4.0), PLAN)
    assert state.harmed.e >= 20
    assert state.harmed.n_candidate < 500
    assert state.harmed.place < Place(80, 0)


def test_a_fault_that_comes_late_is_found_and_hardly_later_than_without_the_good_time_before():
    rng, batch = np.random.default_rng(31), rows(24_000, 30)
    ratio = np.where((batch.arm == 1) & (np.arange(24_000) >= 16_000), 3.0, 1.0)
    state = seen(with_values(batch, failure_rate=rng.random(24_000) < 0.03 * ratio), FAILURES)
    assert state.harmed.place.batch_id < 161 + 20


def test_the_words_about_a_late_fault_say_since_when_and_what_it_is_since_then():
    rng, batch = np.random.default_rng(31), rows(24_000, 30)
    ratio = np.where(batch.arm == 1, np.where(np.arange(24_000) >= 16_000, 3.0, 0.5), 1.0)
    late = judged(with_values(batch, failure_rate=rng.random(24_000) < 0.03 * ratio), FAILURES)
    assert late.decision is Decision.ROLLBACK
    since = re.search(r"; since step 3: (\S+) \((\S+) to (\S+)\), ", late.sentence)
    assert since, late.sentence
    estimate, low, high = map(float, since.groups())
    assert low < 3 < high
    assert 2.4 < estimate < 3.6
    assert " since step " not in judged(failing(24_000, 8, base=0.03, ratio=3.0), FAILURES).sentence


@pytest.mark.parametrize(("factor", "decision"), [(1.0, Decision.PROMOTE), (1.5, Decision.ROLLBACK)])
def test_latency_is_judged_at_its_quantiles(factor, decision):
    plan = JudgePlan(metrics=(MetricPlan(name="latency", kind=Kind.LATENCY, thresholds_ms=THRESHOLDS_MS),))
    batch = rows(24_000, 41)
    values = np.random.default_rng(42).lognormal(6, 0.5, 24_000) * np.where(batch.arm == 1, factor, 1.0)
    assert judged(with_values(batch, latency=values), plan).decision is decision


def test_a_policy_that_allows_nothing_takes_back_at_the_first_violation():
    plan = JudgePlan(
        metrics=(
            MetricPlan(name="leak", kind=Kind.BUDGET, role=Role.CRITICAL, harm=0.0, safe=(0.0,)),
            *FAILURES.metrics,
        )
    )
    batch = failing(9000, 51, base=0.02, ratio=1.0)
    clean = with_values(batch, leak=np.zeros(9000))
    assert judged(clean, plan, step=0).decision is Decision.PROMOTE
    leaked = np.zeros(9000)
    leaked[np.flatnonzero(batch.arm == 1)[3]] = 1.0
    judgement = judged(with_values(batch, leak=leaked), plan, step=0)
    assert (judgement.decision, judgement.blame) == (Decision.ROLLBACK, "leak")
    by_stable = np.zeros(9000)
    by_stable[np.flatnonzero(batch.arm == 0)[3]] = 1.0
    assert judged(with_values(batch, leak=by_stable), plan, step=0).decision is Decision.PROMOTE


def test_a_first_release_is_judged_without_a_stable_arm_by_absolute_rates():
    plan = JudgePlan(metrics=(MetricPlan(name="failure_rate", kind=Kind.BUDGET, role=Role.CRITICAL, harm=0.05, safe=(0.05,)),))
    n, rng = 2000, np.random.default_rng(61)
    alone = replace(rows(n, 60), arm=np.ones(n, dtype=np.int8), share=np.full(n, 1.0))
    assert judged(with_values(alone, failure_rate=rng.random(n) < 0.01), plan).decision is Decision.PROMOTE
    assert judged(with_values(alone, failure_rate=rng.random(n) < 0.12), plan).decision is Decision.ROLLBACK


def test_revenue_may_hold_and_never_take_back():
    plan = JudgePlan(
        metrics=(
            *FAILURES.metrics,
            MetricPlan(name="revenue", kind=Kind.AMOUNT, role=Role.KPI, is_lower_better=False, low=0.0, high=500.0, harm=0.5, safe=(1.0,)),
        )
    )
    batch, rng = failing(24_000, 71, base=0.03, ratio=1.0), np.random.default_rng(72)
    alike = rng.lognormal(2, 1, 24_000)
    assert judged(with_values(batch, revenue=alike), plan).decision is Decision.PROMOTE
    worse = with_values(batch, revenue=alike * np.where(batch.arm == 1, 0.5, 1.0))
    judgement = judged(worse, plan)
    assert (judgement.decision, judgement.reason) == (Decision.HOLD, "kpi")
    overdue = advice(seen(worse, plan), plan, deadline=AT - timedelta(seconds=1))
    assert (overdue.decision, overdue.reason) == (Decision.HOLD, "kpi"), "what looks worse is not inconclusive"


def test_units_that_are_not_split_as_declared_make_everything_void():
    batch = failing(24_000, 81, base=0.03, ratio=1.0)
    lost = np.where(np.random.default_rng(82).random(24_000) < 0.4, 0, batch.arm).astype(np.int8)
    judgement = judged(replace(batch, arm=lost), FAILURES)
    assert (judgement.decision, judgement.reason) == (Decision.INVALID, "split")
    assert judgement.e_split >= 1000


def test_a_share_that_changes_is_not_a_broken_split():
    shares = (0.05, 0.3, 0.01, 0.5, 0.25, 0.9)
    batch = rows(24_000, 91, shares=shares)
    judgement = judged(with_values(batch, failure_rate=np.zeros(24_000)), FAILURES)
    assert judgement.decision is Decision.HOLD
    assert judgement.e_split < 20


def test_scores_that_come_from_one_arm_less_often_make_everything_void():
    batch = with_values(rows(24_000, 101), quality=np.full(24_000, 0.8))
    missing = (batch.arm == 1) & (np.random.default_rng(102).random(24_000) < 0.5)
    column = replace(batch.values["quality"], is_present=~missing)
    judgement = judged(replace(batch, values={"quality": column}), QUALITY)
    assert (judgement.decision, judgement.reason) == (Decision.INVALID, "missing")
    shown_only = tuple(replace(metric, role=Role.SIGNAL) if metric.name == "quality" else metric for metric in PLAN.metrics)
    lenient = judged(replace(batch, values={"quality": column}), replace(PLAN, metrics=shown_only))
    assert lenient.decision is not Decision.INVALID, "what decides nothing voids nothing"
    assert lenient.e_missing == 1


def test_harm_that_was_proven_before_the_split_broke_stays_proven():
    batch = failing(24_000, 111, base=0.1, ratio=5.0)
    arm = batch.arm.copy()
    arm[12_000:] = 0
    judgement = judged(replace(batch, arm=arm), FAILURES)
    assert judgement.decision is Decision.ROLLBACK
    assert judgement.e_split >= 1000


# Nothing to judge by


def test_no_rows_are_no_data_and_never_a_pass():
    judgement = advice(begin(PLAN), PLAN)
    assert (judgement.decision, judgement.reason) == (Decision.NO_DATA, "no_rows")
    assert judgement.blame is None
    assert all(metric.estimate is None for metric in judgement.metrics)


@pytest.mark.parametrize("arm", [0, 1])
def test_an_empty_arm_is_no_data(arm):
    n = 400  # at a share of a half: an arm that is empty for longer is a broken split
    one = replace(rows(n, 1), arm=np.full(n, arm, dtype=np.int8), share=np.full(n, 0.05 if arm == 0 else 0.97))
    judgement = judged(with_values(part(one, slice(0, 40)), failure_rate=np.zeros(40)), FAILURES)
    assert (judgement.decision, judgement.reason) == (Decision.NO_DATA, "one_arm")


def test_old_data_holds_and_says_how_old_it_is():
    state = seen(failing(60_000, 121, base=0.03, ratio=1.0), FAILURES)
    assert advice(state, FAILURES, age_s=10).decision is Decision.PROMOTE
    held = advice(state, FAILURES, age_s=61)
    assert (held.decision, held.reason) == (Decision.HOLD, "stale")
    assert "61 s old" in held.sentence
    assert decide(state, FAILURES, AT, step=2, data_at=None).reason == "stale"


def test_data_from_a_time_that_has_not_come_yet_holds_as_old_data_does():
    state = seen(failing(60_000, 121, base=0.03, ratio=1.0), FAILURES)
    held = advice(state, FAILURES, age_s=-86_400)
    assert (held.decision, held.reason) == (Decision.HOLD, "stale")
    assert "86400 s in the future: two clocks differ" in held.sentence
    assert advice(state, FAILURES, age_s=-10).decision is Decision.PROMOTE


def test_harm_is_acted_on_however_old_the_data_is():
    assert advice(seen(failing(24_000, 131, base=0.03, ratio=4.0), FAILURES), FAILURES, age_s=3600).decision is Decision.ROLLBACK


def test_a_passed_deadline_is_inconclusive_and_a_proof_is_not():
    few = seen(failing(1000, 141, base=0.03, ratio=1.0), FAILURES)
    assert advice(few, FAILURES, deadline=AT).decision is Decision.INCONCLUSIVE
    assert advice(few, FAILURES, deadline=AT + timedelta(seconds=1)).decision is Decision.HOLD
    proven = seen(failing(60_000, 121, base=0.03, ratio=1.0), FAILURES)
    assert advice(proven, FAILURES, deadline=AT).decision is Decision.PROMOTE


def test_fewest_units_keep_a_proven_step():
    state = seen(failing(60_000, 121, base=0.03, ratio=1.0), FAILURES)
    held = advice(state, replace(FAILURES, min_units=(0, 0, 10**6)))
    assert (held.decision, held.reason) == (Decision.HOLD, "units")


def test_what_is_missing_is_forecast_in_units_and_comes_true():
    """Arms alternate, and of 40 requests the first of each fails: as good as stable from the first to the last."""
    n = 40_000
    batch = replace(rows(n, 151, shares=(0.5,)), arm=(np.arange(n) % 2).astype(np.int8))
    batch = with_values(batch, failure_rate=np.arange(n) % 40 < 2)
    states = {rows_seen: seen(part(batch, slice(0, rows_seen)), FAILURES) for rows_seen in (1000, 4000, n)}
    to_go = {rows_seen: advice(state, FAILURES).units_to_go for rows_seen, state in states.items()}
    assert to_go[1000] > to_go[4000] > to_go[n] == 0
    proven = next(end for end in range(1000, n, 200) if advice(seen(part(batch, slice(0, end)), FAILURES), FAILURES).metrics[0].is_safe)
    assert to_go[1000] == pytest.approx((proven - 1000) / 2, rel=0.25)


def test_constant_scores_are_safe_and_no_error():
    batch = rows(24_000, 161)
    assert judged(with_values(batch, quality=np.full(24_000, 0.7)), QUALITY).decision is Decision.PROMOTE


# Rows that are wrong


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_scores_that_cannot_be_are_refused_and_counted(bad):
    batch = with_values(rows(3000, 171), quality=np.full(3000, 0.8))
    values = batch.values["quality"].values.copy()
    values[::3] = bad
    state = seen(with_values(batch, quality=values), QUALITY)
    keep = np.ones(3000, dtype=bool)
    keep[::3] = False
    without = seen(replace(batch, values={"quality": Column(values=batch.values["quality"].values, is_present=keep)}), QUALITY)
    assert state.metrics["quality"].n_refused == 1000
    assert replace(state.metrics["quality"], n_refused=0).harm_logs == without.metrics["quality"].harm_logs
    assert advice(state, QUALITY).metrics[0].n_refused == 1000


def test_repeated_rows_count_once():
    batch = whole(4000, 181)
    state = seen(batch, PLAN)
    again = observe(state, PLAN, batch)
    assert again.rows_repeated == 4000
    assert again.digest == state.digest
    twice = seen(part(batch, np.repeat(np.arange(4000), 2)), PLAN)
    assert twice.digest == state.digest


def test_rows_in_any_order_of_one_batch_are_put_into_that_of_the_log():
    batch = whole(4000, 191)
    assert seen(part(batch, np.random.default_rng(1).permutation(4000)), PLAN).digest == seen(batch, PLAN).digest


@pytest.mark.parametrize("share", [0.0, 1.0, np.nan])
def test_rows_whose_share_leaves_nothing_to_chance_are_outside(share):
    batch = with_values(replace(rows(500, 201), share=np.full(500, share)), failure_rate=np.ones(500))
    state = seen(batch, FAILURES)
    assert state.rows_outside == 500
    assert advice(state, FAILURES).metrics[0].e_harm == 1.0


def test_columns_that_do_not_fit_are_an_error_of_the_caller():
    batch = rows(10, 1)
    with pytest.raises(UsageError, match="failure_rate: 9 rows"):
        seen(with_values(batch, failure_rate=np.zeros(9)), FAILURES)
    with pytest.raises(UsageError, match="cost: not in the plan"):
        seen(with_values(batch, cost=np.zeros(10)), FAILURES)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weight": 0.0}, "weight 0.0"),
        ({"safe": ()}, "no safe margin"),
        ({"harm": 0.0}, "ratios"),
        ({"kind": Kind.SCORE, "safe": (2.0,)}, "margins"),
        ({"kind": Kind.SCORE, "low": 1.0}, "bounds"),
        ({"kind": Kind.LATENCY, "thresholds_ms": (5.0, 4.0)}, "thresholds"),
        ({"kind": Kind.BUDGET, "harm": 1.5}, "rates"),
        ({"role": Role.SIGNAL}, "no metric is critical"),
    ],
)
def test_a_plan_that_cannot_be_judged_by_is_refused(change, says):
    with pytest.raises(UsageError, match=says):
        JudgePlan(metrics=(replace(FAILURES.metrics[0], **change),))


# The same rows, the same judgement


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 5), cuts=st.lists(st.integers(0, 3000), max_size=6), ratio=st.sampled_from([1.0, 3.0]))
def test_the_same_rows_give_the_same_state_and_judgement_however_they_are_cut(seed, cuts, ratio):
    """Users return, results are late, and the state goes through its stored form between batches."""
    batch = whole(3000, seed, ratio=ratio)
    batch = replace(batch, unit=batch.unit % np.uint64(700) + np.uint64(1) << np.uint64(20))
    once = seen(batch, PLAN)
    state, edges = begin(PLAN), [0, *sorted(cuts), 3000]
    for start, end in itertools.pairwise(edges):
        state = from_json(observe(state, PLAN, part(batch, slice(start, end))).as_json())
    assert state.digest == once.digest
    assert orjson.dumps(advice(state, PLAN).as_json()) == orjson.dumps(advice(once, PLAN).as_json())


def test_a_state_of_another_version_or_a_damaged_one_is_refused():
    content = begin(PLAN).as_json()
    with pytest.raises(StoreError, match="version 0"):
        from_json(content.replace(b'"version":3', b'"version":0'))
    with pytest.raises(StoreError, match="make it anew"):
        from_json(content[:50])


@given(batches=st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=4))
def test_each_key_is_first_seen_once(batches):
    seen_keys, expected = np.zeros(0, dtype=np.uint64), set()
    for batch in batches:
        found = first_seen(np.array(batch, dtype=np.uint64), seen_keys)
        firsts = [at for at, key in enumerate(batch) if key not in expected and key not in batch[:at]]
        assert found.rows.tolist() == firsts
        expected |= set(batch)
        seen_keys = found.seen
        assert seen_keys.tolist() == sorted(expected)
