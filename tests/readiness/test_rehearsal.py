"""What gates say of rollback drills: a good one, and one change of it at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from workbench.errors import IntegrityError
from workbench.observability.bars import faults
from workbench.observability.evidence import as_row, evidence_id, from_row
from workbench.readiness.antipatterns import findings
from workbench.readiness.declared import Declarations
from workbench.readiness.model import Verdict
from workbench.readiness.questions import Questions, answers_of
from workbench.readiness.rehearsal import DEFAULT_GATE, DEFAULT_ID, Rehearsal, assess_rehearsal, evidence_of, rehearsal_of
from workbench.readiness.verdicts import LADDER
from workbench.spec.app import AppSpec
from workbench.spec.gates import Family, GateSpec, GatesSpec

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
PLAN = "sha256:" + "ab" * 32
GOOD = Rehearsal(
    app="support",
    at=NOW - timedelta(days=3),
    stable="support@222222222222",
    route_version=12,
    plan_digest=PLAN,
    restores="support@111111111111",
    target="support@111111111111",
    fault="",
    seconds={"a": 0.12, "b": 0.31, "c": 0.2, "d": 0.3},
    missing=(),
    silent=(),
    evidence_id="sha256:" + "cd" * 32,
)
GATE = GateSpec(id="drill", metric="rollback_drill_s", at_most=1)


def assess(found: Rehearsal | None, gate: GateSpec = GATE, *, plan: str = PLAN, now: datetime = NOW):
    return assess_rehearsal(gate, found, plan_digest=plan, now=now, owner="primary")


def test_a_good_drill_passes_with_its_numbers():
    result = assess(GOOD)
    assert (result.verdict, result.reason, result.n, result.evidence_ids) == (Verdict.PASS, "in_time", 4, (GOOD.evidence_id,))
    assert result.sentence == (
        "The rollback was rehearsed 3 days ago: 4 of 4 gateways followed within 0.31 s; it restores support@111111111111."
    )
    assert (result.family, result.is_blocking, result.owner, result.next_step) == (Family.ROLLBACK, True, "primary", "")


def test_never_rehearsed_is_a_missing_measurement_and_no_failed_one():
    result = assess(None)
    assert (result.verdict, result.reason, result.n, result.evidence_ids) == (Verdict.MISSING, "never_rehearsed", None, ())
    assert "workbench release drill" in result.next_step


@pytest.mark.parametrize(
    ("change", "verdict", "reason", "says"),
    [
        ({"at": NOW - timedelta(days=90, seconds=1)}, Verdict.STALE, "too_old", "it counts for 90d"),
        ({"at": NOW - timedelta(days=90)}, Verdict.PASS, "in_time", "rehearsed 90 days ago"),
        ({"at": NOW + timedelta(days=2)}, Verdict.ERROR, "from_the_future", "after the present"),
        ({"plan_digest": "sha256:" + "00" * 32}, Verdict.STALE, "plan_changed", "plan.yaml has changed since"),
        ({"missing": ("e",)}, Verdict.FAIL, "not_followed", "4 of 5 gateways followed within 0.31 s, not e"),
        ({"seconds": {}, "missing": ("e",)}, Verdict.FAIL, "not_followed", "0 of 1 gateway followed, not e"),
        ({"seconds": {"a": 1.0001}}, Verdict.FAIL, "too_slow", "the limit is 1 s"),
        ({"seconds": {"a": 1.0}}, Verdict.PASS, "in_time", "within 1.00 s"),
        ({"fault": "the stored parts are gone"}, Verdict.FAIL, "nothing_to_restore", "cannot be restored: the stored parts are gone"),
        ({"silent": ("e", "f")}, Verdict.PASS, "in_time", "2 more were not heard of"),
    ],
)
def test_each_way_in_which_a_drill_is_no_yes(change: dict, verdict: Verdict, reason: str, says: str):
    result = assess(replace(GOOD, **change))
    assert (result.verdict, result.reason) == (verdict, reason)
    assert says in result.sentence


def test_one_that_did_not_work_stays_a_no_when_it_grows_old_and_when_the_plan_changes():
    bad = replace(GOOD, missing=("e",))
    for days in (3, 91, 1000):
        assert assess(replace(bad, at=NOW - timedelta(days=days)), plan="sha256:other").verdict is Verdict.FAIL


def test_fewer_gateways_never_make_a_better_verdict():
    gate = GATE.model_copy(update={"min_n": 3})
    names = list(GOOD.seconds)
    ranks = [LADDER.index(assess(replace(GOOD, seconds=dict.fromkeys(names[:n], 0.2)), gate).verdict) for n in range(5)]
    assert ranks == sorted(ranks)
    assert assess(replace(GOOD, seconds={"a": 0.2, "b": 0.2}), gate).reason == "too_few"


def test_its_record_is_sealed_and_read_back():
    record = evidence_of(GOOD, waited_s=10.0)
    assert record.evidence_id == evidence_id(record)
    assert (record.kind, record.subject, record.snapshot, record.row_set.n) == ("rollback_drill", GOOD.stable, None, 0)
    assert rehearsal_of(from_row(as_row(record))) == replace(GOOD, evidence_id=record.evidence_id)
    with pytest.raises(IntegrityError, match="its content has the digest"):
        from_row({**as_row(record), "statistics": {**record.statistics, "missing": ["x"]}})
    with pytest.raises(IntegrityError, match="no record of a drill"):
        rehearsal_of(replace(record, statistics={}))


def test_a_gate_on_drills_needs_only_its_seconds():
    assert (GATE.family, GATE.min_n, GATE.max_age, GATE.is_blocking) == (Family.ROLLBACK, 1, timedelta(days=90), True)
    app = AppSpec(app="support", title="Support", risk_tier="low", owner="primary")
    assert faults(app, GatesSpec(gates=(GATE,)), None) == ()


@pytest.mark.parametrize("change", [{"at_most": None, "at_least": 1}, {"at_most": 0}, {"where": {"workflow": "x"}}, {"family": "quality"}])
def test_a_gate_on_drills_has_no_other_form(change: dict):
    with pytest.raises(ValidationError, match="a gate on rollback_drill_s has at_most"):
        GateSpec(**{"id": "drill", "metric": "rollback_drill_s", "at_most": 1, **change})


def answers(gates: GatesSpec | None, drill):
    declared = Declarations(app="support", gates=gates, plan_digest=PLAN)
    asked = Questions(None, has_baseline=False, drill=drill)
    return {result.gate_id: result for result in answers_of(declared, asked, now=NOW, is_first=True).results}


def test_without_a_declared_gate_the_drill_is_shown_and_stops_nobody():
    shown = answers(GatesSpec(gates=()), None)[DEFAULT_ID]
    assert (shown.verdict, shown.is_blocking) == (Verdict.MISSING, False)
    assert answers(None, GOOD)[DEFAULT_ID].verdict is Verdict.PASS
    assert not DEFAULT_GATE.is_blocking


def test_a_declared_gate_takes_the_place_of_the_one_that_is_shown():
    results = answers(GatesSpec(gates=(GATE,)), GOOD)
    assert (results["drill"].verdict, results["drill"].is_blocking, DEFAULT_ID in results) == (Verdict.PASS, True, False)
    broken = answers(GatesSpec(gates=(GATE,)), IntegrityError("rollback drill of support", seen="its record is gone"))["drill"]
    assert (broken.verdict, "its record is gone" in broken.sentence) == (Verdict.ERROR, True)


@pytest.mark.parametrize("gates", [None, GatesSpec(gates=(GATE,))])
def test_a_drill_that_did_not_work_names_the_anti_pattern(gates):
    for drill, is_named in ((GOOD, False), (replace(GOOD, missing=("e",)), True)):
        results = [result for result in answers(gates, drill).values() if result.reason != "not_declared"]
        found = findings(Declarations(app="support", gates=gates), results, score_sources={})
        assert ("no-rollback-plan" in {each.lint_id for each in found}) is is_named
