"""From the log to a decision: rows of a canary in a real lake, judged by the real judge, carried by the real controller."""

from __future__ import annotations

import numpy as np
import pytest

from tests.release.canary import PLAN, Live, shown
from tests.release.house import APP, person
from tests.release.judging import judged, rows, with_values
from workbench.errors import UnknownSubject, UsageError
from workbench.observability.release_rows import ReleaseReader
from workbench.release.judge_kinds import Decision as Advice
from workbench.release.judge_kinds import Kind
from workbench.release.judge_model import CANDIDATE
from workbench.release.judge_terms import Baseline, as_json, bars_of, from_json, judge_plan, limits_of
from workbench.release.judging import columns_of, observation
from workbench.release.model import State
from workbench.spec.gates import GatesSpec
from workbench.spec.plan import PlanSpec

BASELINE = Baseline(
    values={"latency_p50": 100.0, "latency_p90": 300.0, "latency_p95": 400.0, "quality_mean": 0.8, "cost_usd": 0.01},
    limits={"violation_rate": 0.02, "failure_rate": 0.1},
)


def test_a_good_candidate_goes_to_everybody_on_what_the_log_holds(live: Live):
    shares = set()
    for _ in range(40):
        if not live.releases.history(APP)[-1].is_open:
            break
        shares.add(live.route.share)
        live.traffic(100, failing={"stable": 0.3, "candidate": 0.1})
        live.controller.turn()
    release = live.releases.history(APP)[-1]
    assert (release.state, shares) == (State.PROMOTED, {0.2, 0.5})
    decisions = live.releases.decisions(release.release_id)
    assert [each.decision for each in decisions if each.decision == "PROMOTE"] == ["PROMOTE"] * 2
    assert all(each.is_whole for each in decisions)


def test_a_bad_candidate_is_taken_back_and_every_word_of_it_can_be_read_later(live: Live):
    for _ in range(30):
        live.traffic(50, failing={"stable": 0.05, "candidate": 0.4})
        live.controller.turn()
        if not live.releases.history(APP)[-1].is_open:
            break
    release = live.releases.history(APP)[-1]
    assert (release.state, live.route.candidate) == (State.ROLLED_BACK, None)
    judged = live.releases.decision(release.release_id).inputs["judgement"]
    assert judged["blame"] == "failure_rate"
    assert judged["e_harm"] >= judged["e_harm_limit"] == pytest.approx(20)
    text = shown(live, "explain", release.release_id)
    assert "↩ ROLLBACK" in text
    assert f"Users exposed to the candidate: {judged['units_candidate']}" in " ".join(text.split())
    assert "its inputs are as they were stored" in text
    assert release.release_id in shown(live, "history", APP, "--markdown")
    assert "failure_rate" in shown(live, "decisions", release.release_id)


def test_whoever_takes_over_reads_the_same_rows_to_the_same_memory(live: Live):
    for _ in range(4):
        live.traffic(60, failing={"stable": 0.2, "candidate": 0.15})
        live.controller.turn()
    release = live.releases.get(APP)
    plan = live.releases.decisions(release.release_id)[-1].inputs["plan"]
    first = live.controller._judging
    live.controller.resign()
    del live.ws.__dict__["controller"]
    live.ws.logs.record({"requests": live.rows("one-more", "stable")})
    live.ws.logs.flush()
    live.controller.turn()
    first.judge(release, plan, canary_s=20, at=live.clock())
    assert live.controller._judging is not first
    assert live.controller._judging.digest(release.release_id) == first.digest(release.release_id) is not None
    assert live.releases.status(APP).watch.judgement["rows"] == 2 * (4 * 60 + 1)


def test_old_data_hold_and_the_status_says_how_old_they_are(live: Live):
    live.traffic(200, failing={"stable": 0.3, "candidate": 0.05})
    live.pass_time(40)
    live.controller.turn()
    status = live.releases.status(APP)
    assert (status.watch.decision, status.watch.reason) == ("HOLD", "stale")
    assert live.releases.get(APP).step == 0
    words = " ".join(shown(live, "status", APP).split())
    assert "s old: it is held while they are older than 10 s" in words
    assert "failure_rate" in words


def test_before_the_first_request_there_is_nothing_to_judge(live: Live):
    live.controller.turn()
    status = live.releases.status(APP)
    assert (status.watch.decision, status.watch.reason, status.watch.data_at) == ("HOLD", "no_rows", None)
    live.releases.rollback(APP, reason="not today", actor=person("night"))
    assert shown(live, "status", APP, "--watch").count("ROLLED BACK") >= 1, "watching ends with the release"


def test_a_score_below_the_bar_is_a_failure_of_its_request(live: Live):
    score = {"score_id": "s", "request_id": "req-one", "app": APP, "name": "resolved", "value": 0.0, "ts": live.clock.now}
    live.ws.logs.record({"requests": live.rows("one", "candidate")})
    live.ws.logs.record({"scores": [score, {**score, "score_id": "q", "name": "quality", "value": 0.25}]})
    live.ws.logs.flush()
    criteria = [{"metric": "failure_rate"}, {"metric": "quality_mean"}]
    plan = PlanSpec.model_validate({**PLAN, "rollback": {"criteria": criteria}})
    asked, _ = judge_plan(plan, BASELINE)
    bars = {"resolved": 1.0}
    names = columns_of(asked, bars)
    rows = ReleaseReader(lambda: live.ws.lake, APP, live.route.release_id, names).read()
    seen = observation(rows, asked, plan, bars)
    told = {name: np.where(column.is_present, column.values, np.nan) for name, column in seen.values.items()}
    assert set(seen.arm.tolist()) == {CANDIDATE}
    np.testing.assert_equal(np.sort(told["failure_rate"]), [0.0, 1.0, np.nan, np.nan])
    np.testing.assert_equal(np.sort(told["quality_mean"]), [0.25, np.nan, np.nan, np.nan])


def test_what_the_judge_is_asked_survives_the_ledger():
    names = ("failure_rate", "violation_rate", "latency_p95", "quality_mean", "cost_usd")
    criteria = [{"metric": name, "ratio": 1.2} for name in names]
    spec = PlanSpec.model_validate({**PLAN, "rollback": {"criteria": criteria}, "watch": [{"metric": "volume"}]})
    asked, left_out = judge_plan(spec, BASELINE)
    assert [metric.kind for metric in asked.metrics] == [Kind.EVENT, Kind.BUDGET, Kind.LATENCY, Kind.SCORE, Kind.SCORE]
    assert asked.metrics[0].safe == (2.0, 1.5)
    assert asked.metrics[1].safe == pytest.approx((0.04, 0.03))
    assert left_out == ("volume: no test of the judge follows it",)
    stored = as_json(asked, left_out, {"resolved": 1.0})
    assert (from_json(stored), bars_of(stored)) == (asked, {"resolved": 1.0})


def test_of_gates_only_those_of_the_whole_app_that_block_are_limits():
    gate = {"title": "x", "family": "risk", "metric": "violation_rate", "why": "y"}
    gates = GatesSpec.model_validate(
        {
            "gates": [
                {**gate, "id": "a", "at_most": 0.01},
                {**gate, "id": "b", "at_most": 0.005},
                {**gate, "id": "c", "at_most": 0.05, "where": {"workflow": "smalltalk"}},
                {**gate, "id": "d", "at_most": 0.001, "is_blocking": False},
                {**gate, "id": "e", "metric": "success_rate", "at_least": 0.9},
            ]
        }
    )
    assert limits_of(gates) == {"violation_rate": 0.005}
    assert limits_of(None) == {}


def test_where_nothing_is_allowed_the_first_violation_takes_it_back():
    plan = PlanSpec.model_validate({**PLAN, "rollback": {"criteria": [{"metric": "violation_rate", "ratio": 1.5}]}})
    asked, _ = judge_plan(plan, Baseline(values={}, limits={"violation_rate": 0.0}))
    assert [(metric.kind, metric.harm, set(metric.safe)) for metric in asked.metrics] == [(Kind.BUDGET, 0.0, {0.0})]
    clean = with_values(rows(2000, 3), violation_rate=np.zeros(2000))
    assert judged(clean, asked, step=1).decision is Advice.PROMOTE
    first = int(np.flatnonzero(clean.arm == CANDIDATE)[0])
    assert judged(with_values(clean, violation_rate=np.arange(2000) == first), asked, step=1).decision is Advice.ROLLBACK


def test_a_first_release_is_judged_by_what_the_gates_allow():
    alone = Baseline(values={}, limits=BASELINE.limits, is_compared=False)
    asked, left_out = judge_plan(PlanSpec.model_validate(PLAN), alone)
    assert [(metric.kind, metric.harm) for metric in asked.metrics] == [(Kind.BUDGET, 0.1)]
    with pytest.raises(UsageError, match="no gate limits it"):
        judge_plan(PlanSpec.model_validate(PLAN), Baseline(values={}, is_compared=False))
    assert left_out == ()


def test_a_decision_that_is_not_there_is_named(live: Live):
    for name in ("shop.9", "shop.2/7", "shop.2/x"):
        with pytest.raises(UnknownSubject, match="nothing of this id was decided"):
            live.releases.decision(name)
