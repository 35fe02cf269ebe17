"""A release's decisions come out of the log again, bit by bit, or it is said which do not, and why."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import update

from tests.release.canary import Live, shown
from tests.release.house import APP
from workbench.ledger.tables import decisions
from workbench.release import controller, judge_metrics, replaying
from workbench.release.judge_kinds import Decision, Kind
from workbench.release.judge_model import CANDIDATE, STABLE, JudgePlan, MetricPlan, Observation
from workbench.release.judge_terms import as_json
from workbench.release.model import Release
from workbench.release.replaying import Found, halved

pytestmark = pytest.mark.usefixtures("two_threads")  # the same rows, in whatever order the log's engine reads them


def carried(live: Live, *, failing: dict[str, float]) -> Release:
    """The canary, carried until it has ended."""
    for _ in range(40):
        live.traffic(100, failing=failing)
        live.controller.turn()
        if not live.releases.history(APP)[-1].is_open:
            return live.releases.history(APP)[-1]
    raise AssertionError("it never ended")


def test_every_decision_comes_out_of_the_log_again(live: Live):
    promoted = carried(live, failing={"stable": 0.3, "candidate": 0.1})
    live.canary("v3")
    taken_back = carried(live, failing={"stable": 0.1, "candidate": 0.5})
    for release in (promoted, taken_back):
        again = live.releases.replay(release.release_id)
        assert {each.found for each in again.decisions} == {Found.SAME}
        assert [each.decision for each in again.decisions] == list(live.releases.decisions(release.release_id))
    assert {each.decision.decision for each in again.decisions} >= {"CONTINUE", "ROLLBACK"}
    text = " ".join(shown(live, "replay", taken_back.release_id).split())
    assert "= SAME" in text
    assert "two halves of the stable arm" in text


def test_the_halves_of_the_stable_arm_are_all_of_it_and_differ_by_nothing(live: Live):
    promoted = carried(live, failing={"stable": 0.3, "candidate": 0.1})
    halves = live.releases.replay(promoted.release_id).halves
    stable = live.releases.decisions(promoted.release_id)[-1].inputs["judgement"]["units_stable"]
    assert halves.units_stable + halves.units_candidate == stable
    assert min(halves.units_stable, halves.units_candidate) > 0.35 * stable
    assert halves.decision not in (Decision.ROLLBACK, Decision.INVALID)


def test_a_half_is_chosen_by_the_unit_alone():
    units = np.arange(16, dtype=np.uint64)
    seen = Observation(
        batch_id=np.ones(16, np.int64),
        seq=np.arange(16),
        arm=np.where(units % 4 == 3, CANDIDATE, STABLE).astype(np.int8),
        share=np.full(16, 0.05),
        step=np.zeros(16, np.int64),
        unit=units,
        values={},
    )
    half = halved(seen)
    assert half.arm[seen.arm == CANDIDATE].tolist() == [-1] * 4
    assert half.arm[:4].tolist() == [STABLE, STABLE, CANDIDATE, -1]
    assert set(half.share) == {0.5}


def test_a_decision_whose_inputs_were_altered_is_not_the_same(live: Live):
    release = carried(live, failing={"stable": 0.1, "candidate": 0.5})
    last = live.releases.decisions(release.release_id)[-1]
    inputs = {**last.inputs, "note": "another"}
    with live.ledger.write() as act:
        act.connection.execute(
            update(decisions).where(decisions.c.release_id == release.release_id, decisions.c.number == 1).values(inputs=inputs)
        )
    again = live.releases.replay(release.release_id)
    assert (again.decisions[0].found, again.found) == (Found.DIFFERENT, Found.DIFFERENT)
    assert "DIFFERENT" in shown(live, "replay", release.release_id, code=1)


def test_a_decision_by_rules_that_are_no_more_is_unavailable_where_it_comes_out_otherwise(live: Live, monkeypatch):
    monkeypatch.setattr(controller, "RULES", 1)
    release = carried(live, failing={"stable": 0.1, "candidate": 0.5})
    assert {decision.inputs["rules"] for decision in live.releases.decisions(release.release_id)} == {1}
    assert live.releases.replay(release.release_id).found is Found.SAME, "nothing that they say has changed"
    monkeypatch.setattr(judge_metrics, "FIRST_STEP", 0.5)
    for is_changed, found in ((False, Found.DIFFERENT), (True, Found.UNAVAILABLE)):
        monkeypatch.setattr(replaying, "_are_changed", lambda *_, said=is_changed: said)
        again = live.releases.replay(release.release_id)
        assert again.found is found
    assert "it was judged by rules 1, which this version of the workbench has no more (it has 2)" in again.decisions[-1].sentence
    monkeypatch.setattr(replaying, "RULES", 0)
    assert "rules 1 of a newer workbench" in live.releases.replay(release.release_id).decisions[0].sentence


def test_a_change_of_rules_excuses_only_the_plans_that_it_concerns():
    def asked(*metrics: MetricPlan) -> dict[str, object]:
        return as_json(JudgePlan(metrics=metrics))

    failures = MetricPlan(name="failure_rate", kind=Kind.EVENT, harm=1.2, safe=(3.0,))
    quality = MetricPlan(name="quality_mean", kind=Kind.SCORE, is_lower_better=False, harm=0.05, safe=(0.1,))
    assert [replaying._are_changed(1, asked(*metrics)) for metrics in ((failures,), (failures, quality))] == [False, True]
    assert not replaying._are_changed(2, asked(failures, quality))
    assert not replaying._are_changed(1, {}), "nothing was judged"


def test_rows_that_were_erased_make_it_unavailable_and_not_different(live: Live):
    release = carried(live, failing={"stable": 0.1, "candidate": 0.5})
    live.ws.lake.write(
        lambda connection: connection.execute("DELETE FROM lake.requests WHERE request_id = 'req-unit-1'"), what="an erasure"
    )
    again = live.releases.replay(release.release_id)
    assert (again.decisions[-1].found, again.found) == (Found.UNAVAILABLE, Found.UNAVAILABLE)
    assert "2 of the" in shown(live, "replay", release.release_id, code=3)


def test_a_release_about_which_nothing_was_decided_says_so(live: Live):
    assert "The controller decided nothing about it" in shown(live, "replay", "shop.1")
