"""What follows from a judgement and what stands in the way: every decision as a row; time and forecasts, each by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tests.release.carrying import judgement
from workbench.readiness.wording import span_words
from workbench.release import judge_model
from workbench.release.course import Decision, Situation, asked_at, fails_less, is_overdue, next_move
from workbench.release.freezes import freeze_now
from workbench.release.futility import forecast, unreachable
from workbench.release.judge_kinds import Decision as Advice
from workbench.release.judge_kinds import Role
from workbench.release.judge_model import MetricJudgement
from workbench.release.model import Kind, Objection, Release, State
from workbench.release.plan_clock import PlanClock, ticked
from workbench.release.states import Act
from workbench.spec.plan import PlanSpec

NOW = datetime(2026, 10, 5, 9, tzinfo=UTC)
PLAN = PlanSpec.model_validate(
    {"steps": [{"share": 0.05, "at_least": "1h", "min_units": 100}, {"share": 0.5, "at_least": "1h"}], "deadline": "10d"}
)
RELEASE = Release(
    release_id="shop.2",
    app="shop",
    kind=Kind.RELEASE,
    state=State.CANARY,
    step=0,
    bundle_id="shop@b",
    previous_stable="shop@a",
    plan=PLAN,
    plan_digest="",
    review_id=None,
    reason="",
    requested_by="requester",
    requested_at=NOW,
    step_since=NOW,
    note="",
    ended_at=None,
    version=3,
    names={},
)
BURNT = Objection(reason="budget", seen="the budget is spent")


def situation(advice: Advice | None, **changes) -> Situation:
    judged = judgement(advice, at=NOW) if advice else None
    known = {"release": RELEASE, "judgement": judged, "fault": "" if judged else "the lake is gone", "waits": (), "objections": ()}
    return Situation(**{**known, **changes})


PROMOTED_AT_LAST = replace(RELEASE, plan=PLAN.model_copy(update={"on_inconclusive": "promote"}))
HELD = replace(RELEASE, state=State.HELD, note="held by somebody")


@pytest.mark.parametrize(
    ("at", "decision", "reason", "act"),
    [
        (situation(Advice.PROMOTE), "PROMOTE", "proven", Act.PROMOTE),
        (situation(Advice.PROMOTE, waits=("an hour",)), "CONTINUE", "not_yet", None),
        (situation(Advice.PROMOTE, objections=(BURNT,)), "HOLD", "budget", None),
        (situation(Advice.PROMOTE, release=HELD), "HOLD", "held", None),
        (situation(Advice.HOLD), "CONTINUE", "gathering", None),
        (situation(Advice.NO_DATA), "HOLD", "no_rows", None),
        (situation(None), "HOLD", "not_judged", None),
        (situation(None, release=HELD), "HOLD", "not_judged", None),
        (situation(Advice.INVALID), "HOLD", "split", Act.HOLD),
        (situation(Advice.INVALID, release=HELD), "HOLD", "split", None),
        (situation(Advice.INVALID, asked={"split"}), "HOLD", "split", None),
        (situation(Advice.INCONCLUSIVE), "HOLD", "deadline", Act.HOLD),
        (situation(Advice.INCONCLUSIVE, asked={"deadline"}), "HOLD", "deadline", None),
        (situation(Advice.INCONCLUSIVE, release=PROMOTED_AT_LAST, waits=("units",)), "PROMOTE", "deadline", Act.PROMOTE),
        (situation(Advice.INCONCLUSIVE, release=PROMOTED_AT_LAST, waits=("units",), is_overdue=True), "CONTINUE", "not_yet", None),
        (situation(Advice.INCONCLUSIVE, release=PROMOTED_AT_LAST, is_overdue=True), "PROMOTE", "deadline", Act.PROMOTE),
        (situation(Advice.ROLLBACK), "ROLLBACK", "harm", Act.ROLLBACK),
        (situation(Advice.ROLLBACK, release=HELD, waits=("x",), objections=(BURNT,)), "ROLLBACK", "harm", Act.ROLLBACK),
    ],
)
def test_each_situation_has_one_decision(at: Situation, decision: str, reason: str, act: Act | None):
    move = next_move(at)
    assert (move.decision, move.reason, move.act) == (Decision(decision), reason, act)
    assert move.sentence


def test_only_a_hold_that_was_done_asked_somebody():
    noted = SimpleNamespace(step=0, reason="split", release_version=3, inputs={"act": Act.HOLD})
    assert asked_at([noted], 0, 3) == set(), "nobody was told: it is tried again"
    assert asked_at([noted], 0, 4) == {"split"}
    assert asked_at([noted], 1, 4) == set()


@pytest.mark.parametrize(("run_s", "canary_s", "expected"), [(0, 10 * 86_400, True), (60, 10 * 86_400, False), (60, 864_060, True)])
def test_a_step_that_began_after_the_deadline_is_overdue(run_s: float, canary_s: float, expected: bool):
    assert is_overdue(PLAN, run_s=run_s, canary_s=canary_s) is expected
    assert not is_overdue(None, run_s=run_s, canary_s=canary_s)


@pytest.mark.parametrize("advice", [None, *Advice])
@pytest.mark.parametrize("state", [State.CANARY, State.HELD])
def test_more_in_the_way_never_promotes_and_never_keeps_harm(advice: Advice | None, state: State):
    free = next_move(situation(advice, release=replace(RELEASE, state=state)))
    kept = next_move(situation(advice, release=replace(RELEASE, state=state), waits=("x",), objections=(BURNT,)))
    assert kept.act is not Act.PROMOTE
    assert (kept.act is Act.ROLLBACK) == (free.act is Act.ROLLBACK) == (advice is Advice.ROLLBACK)


def test_the_plan_s_clock_counts_what_was_watched_and_had_data():
    clock = PlanClock(step=0)
    clock = ticked(clock, step=0, elapsed_s=None, is_silent=False)
    clock = ticked(clock, step=0, elapsed_s=10.0, is_silent=False)
    clock = ticked(clock, step=0, elapsed_s=10.0, is_silent=True)
    clock = ticked(clock, step=0, elapsed_s=3600.0, is_silent=False)
    clock = ticked(clock, step=0, elapsed_s=-5.0, is_silent=False)
    assert clock == PlanClock(step=0, run_s=10.0, canary_s=20.0)
    assert ticked(clock, step=1, elapsed_s=10.0, is_silent=False) == PlanClock(step=1, run_s=0.0, canary_s=30.0)


def judged(units: int, to_go: int | None) -> dict:
    return {"units_stable": units * 19 // 20, "units_candidate": units // 20, "units_to_go": to_go}


def test_a_release_that_cannot_finish_says_by_how_much():
    day = 86_400.0
    kept = forecast(PLAN, judged(20_000, 50), step=0, run_s=3600, canary_s=day)
    assert kept.beyond_deadline is None
    assert kept.needs == timedelta(days=50 / 1000), "20,000 units a day at a share of 0.05 are 1,000 of the candidate's"
    late = forecast(PLAN, judged(2000, 1800), step=0, run_s=3600, canary_s=day)
    assert late.needs == timedelta(days=18)
    assert late.beyond_deadline == timedelta(days=9, hours=1), "a day is over, 18 are needed, and an hour of the next step, of 10"
    assert late.sentence == "it cannot finish before its deadline at this traffic: it needs 9 days more"
    assert forecast(PLAN, judged(2000, None), step=0, run_s=0, canary_s=day) is None
    assert forecast(PLAN, judged(10, 100), step=0, run_s=0, canary_s=day) is None


def test_a_step_that_no_traffic_can_fill_is_named():
    (sentence,) = unreachable(PLAN, units_per_day=100)
    assert sentence == "step 1 takes 100 units at a share of 0.05: at 100 units a day it needs 20 days, and the deadline is 10 days"
    assert "nobody came" in unreachable(PLAN, units_per_day=0)[0]
    assert unreachable(PLAN, units_per_day=1000) == ()


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (90, "1.5 minutes"), (3600, "1 hour"), (86_400 * 9.2, "9.2 days"), (86_400 * 29, "29 days")]
)
def test_spans_are_said_in_one_unit(seconds: float, text: str):
    assert span_words(timedelta(seconds=seconds)) == text


def test_a_stretch_of_the_calendar_is_frozen_from_its_first_day_to_its_last():
    window = {"first": "2026-12-20", "last": "2027-01-02", "reason": "holidays"}
    plan = PlanSpec.model_validate({"steps": [{"share": 1, "at_least": "1h"}], "freeze": [window]})
    frozen = [
        day for day in (datetime(2026, 12, 19, 23, 59, tzinfo=UTC) + timedelta(days=k) for k in range(20)) if freeze_now((), plan, now=day)
    ]
    assert (frozen[0].date().isoformat(), frozen[-1].date().isoformat()) == ("2026-12-20", "2027-01-02")


@pytest.mark.parametrize(
    ("name", "kind", "high", "expected"),
    [
        ("failure_rate", judge_model.Kind.EVENT, 0.9, True),
        ("failure_rate", judge_model.Kind.EVENT, 1.0, False),
        ("failure_rate", judge_model.Kind.EVENT, None, False),
        ("failure_rate", judge_model.Kind.BUDGET, 0.1, False),
        ("latency_p95", judge_model.Kind.LATENCY, 0.5, False),
    ],
)
def test_only_a_candidate_that_is_shown_to_fail_less_often_relieves_a_burnt_budget(name, kind, high, expected):
    metric = MetricJudgement(
        name=name,
        kind=kind,
        role=Role.CRITICAL,
        e_harm=0.1,
        e_safe=30.0,
        harm=1.2,
        safe=3.0,
        estimate=0.5,
        low=0.2,
        high=high,
        n_stable=50,
        n_candidate=5,
        n_refused=0,
        is_safe=True,
        is_harmful=False,
    )
    judged = situation(Advice.PROMOTE).judgement
    assert fails_less(replace(judged, metrics=(metric,))) is expected
