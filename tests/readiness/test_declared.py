"""The built-in gates: an app that declares everything, one change, the exact gate and reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from tests.readiness.goodapp import NOW, gate, good
from workbench.ownership.model import Gap
from workbench.readiness.declared import Declarations, declared_gates, names_usage, quality_gates
from workbench.readiness.model import Verdict
from workbench.spec.app import AppSpec
from workbench.spec.gates import Family, GatesSpec
from workbench.spec.people import PeopleSpec
from workbench.spec.plan import PlanSpec, RollbackCriterion

KPI = good().spec.kpis[0]


def faults(declared: Declarations) -> dict[str, str]:
    """Gate id to reason of everything that fails."""
    return {result.gate_id: result.reason for result in declared_gates(declared, now=NOW) if result.verdict is Verdict.FAIL}


def app(**changes) -> Declarations:
    whole = good()
    return replace(whole, spec=whole.spec.model_copy(update=changes))


def kpi(**changes) -> Declarations:
    return app(kpis=(KPI.model_copy(update=changes),))


def people(name: str, **changes) -> Declarations:
    whole = good()
    everybody = dict(whole.people.people)
    everybody[name] = everybody[name].model_copy(update=changes)
    return replace(whole, people=PeopleSpec(people=everybody))


def plan(**changes) -> Declarations:
    whole = good()
    return replace(whole, plan=whole.plan.model_copy(update=changes))


def rollback(**changes) -> Declarations:
    return plan(rollback=good().plan.rollback.model_copy(update=changes))


GAP = Gap(start=NOW + timedelta(hours=9), until=NOW + timedelta(hours=19, minutes=30), tier=1, reason="nobody scheduled")


def test_a_good_app_passes_every_built_in_gate():
    results = declared_gates(good(), now=NOW)
    assert {result.verdict for result in results} == {Verdict.PASS}
    assert {result.family for result in results} == set(Family)
    assert all(result.is_blocking and result.observed is None and not result.next_step for result in results)


def test_an_app_that_declares_nothing_fails_every_built_in_gate():
    results = declared_gates(Declarations(app="support"), now=NOW)
    assert [result.gate_id for result in results] == [result.gate_id for result in declared_gates(good(), now=NOW)]
    assert {result.verdict for result in results} == {Verdict.FAIL}
    assert all(result.next_step for result in results)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (app(kpis=()), {"business.kpi": "not_declared", "business.target": "not_declared", "business.owner": "not_declared"}),
        (kpi(kind="usage"), {"business.kpi": "usage_only", "business.target": "not_declared", "business.owner": "not_declared"}),
        (kpi(outcome="messages"), {"business.kpi": "usage_only", "business.target": "not_declared", "business.owner": "not_declared"}),
        (kpi(baseline=None), {"business.target": "not_declared"}),
        (kpi(target=None), {"business.target": "not_declared"}),
        (kpi(target_date=None), {"business.target": "not_declared"}),
        (kpi(target_date=NOW.date()), {}),
        (kpi(target_date=date(2026, 3, 1)), {"business.target": "date_passed"}),
        (kpi(target=0.4), {"business.target": "target_not_better"}),
        (kpi(direction="lower_is_better"), {"business.target": "target_not_better"}),
        (kpi(owner=None), {"business.owner": "no_owner"}),
        (kpi(owner="nobody"), {"business.owner": "no_owner"}),
        (replace(good(), gates=None), {"quality.thresholds": "not_declared"}),
        (replace(good(), gates=GatesSpec(gates=())), {"quality.thresholds": "not_declared"}),
        (replace(good(), gates=GatesSpec(gates=(gate(is_blocking=False),))), {"quality.thresholds": "not_declared"}),
        (replace(good(), gates=GatesSpec(gates=(gate(family="risk"),))), {"quality.thresholds": "not_declared"}),
        (app(owner=None), {"risk.owner": "not_declared"}),
        (app(owner="nobody"), {"risk.owner": "unknown_person"}),
        (app(risks=()), {"risk.controls": "not_declared"}),
        (app(risks=(good().spec.risks[0].model_copy(update={"control": " "}),)), {"risk.controls": "no_control"}),
        (app(escalation=()), {"risk.escalation": "not_declared"}),
        (app(escalation=good().spec.escalation[:1]), {"risk.escalation": "one_step"}),
        (app(escalation=good().spec.escalation[:1] * 2), {"risk.escalation": "one_step"}),
        (people("secondary", slack=()), {"risk.escalation": "unreachable"}),
        (app(fallback=None), {"risk.fallback": "not_declared"}),
        (app(kill_switch=None), {"risk.kill_switch": "not_declared"}),
        (app(kill_switch="  "), {"risk.kill_switch": "not_declared"}),
        (replace(good(), rota=None), {"risk.cover": "not_declared"}),
        (replace(good(), gaps=(GAP,)), {"risk.cover": "gap"}),
        (people("approver", roles={"*": ("operator",)}), {"risk.approver": "no_approver"}),
        (people("approver", roles={"another": ("approver",)}), {"risk.approver": "no_approver"}),
        (app(owner="approver"), {"risk.approver": "no_approver"}),
        (
            replace(good(), plan=None),
            {"rollback.plan": "not_declared", "rollback.criteria": "not_declared", "rollback.target": "not_declared"},
        ),
        (plan(rollback=None), {"rollback.plan": "no_rollback", "rollback.criteria": "not_declared", "rollback.target": "not_declared"}),
        (rollback(criteria=()), {"rollback.criteria": "not_declared"}),
        (rollback(criteria=(RollbackCriterion(metric="success_rate"),)), {"rollback.criteria": "not_judged"}),
        (replace(good(), earlier=()), {}),
        (replace(app(fallback=None), earlier=()), {"risk.fallback": "not_declared", "rollback.target": "no_target"}),
        (replace(rollback(target="off"), earlier=()), {}),
    ],
)
def test_one_change_fails_exactly_its_gate(declared, expected):
    assert faults(declared) == expected


def test_a_gap_is_told_with_its_hours_and_its_beginning():
    cover = next(r for r in declared_gates(replace(good(), gaps=(GAP,)), now=NOW) if r.gate_id == "risk.cover")
    assert cover.sentence == (
        "Nobody is on call for 10.5 h in the next 14 days; the first of 1 gap begins 2026-03-02 21:00 UTC (nobody scheduled)."
    )


def test_a_person_without_people_yaml_cannot_be_owner_or_reached():
    assert set(faults(replace(good(), people=None))) == {"business.owner", "risk.owner", "risk.escalation", "risk.approver"}


@pytest.mark.parametrize("name", ["messages", "request", "daily_active_users", "DAU", "session-count", "queries", "total.clicks"])
def test_counting_activity_is_usage(name):
    assert names_usage(name)


@pytest.mark.parametrize("name", ["case_closed", "calls_avoided", "sessions_resolved", "refund_paid", "retention", ""])
def test_a_result_is_not_usage(name):
    assert not names_usage(name)


def test_a_usage_kpi_beside_an_outcome_is_allowed():
    usage = KPI.model_copy(update={"name": "volume", "outcome": "messages", "kind": "usage", "target": None})
    assert faults(app(kpis=(KPI, usage))) == {}


def test_specs_can_be_read_from_what_people_write():
    assert isinstance(good().spec, AppSpec)
    assert isinstance(good().plan, PlanSpec)


@pytest.mark.parametrize(
    ("change", "proves"),
    [
        ({}, True),
        ({"metric": "latency_p95", "at_least": None, "at_most": 8000}, True),
        ({"at_least": None, "against_baseline": {"margin": 0.05}}, True),
        ({"metric": "solved_without_a_call", "at_least": 0.5}, True),
        ({"metric": "nobody_knows_it"}, True),
        ({"metric": "volume", "at_least": 1}, False),
        ({"metric": "output_tokens", "at_least": None, "at_most": 1000}, False),
        ({"metric": "cost_per_success", "at_least": None, "at_most": 1}, False),
        ({"metric": "block_rate", "at_least": None, "at_most": 0.5}, False),
        ({"at_least": None, "at_most": 0.9}, False),
        ({"metric": "solved_without_a_call", "at_least": None, "at_most": 0.5}, False),
        ({"metric": "latency_p95", "at_least": 10}, False),
        ({"is_blocking": False}, False),
        ({"family": "risk"}, False),
    ],
)
def test_only_a_bar_against_bad_results_proves_quality(change, proves):
    assert bool(quality_gates([gate(**change)], good().spec)) is proves


def test_a_bar_on_a_usage_kpi_proves_no_quality():
    asked = [gate(metric=KPI.name, at_least=0.1)]
    assert not quality_gates(asked, kpi(kind="usage").spec)


def test_gates_on_activity_alone_declare_no_quality_threshold():
    only = replace(good(), gates=GatesSpec(gates=(gate(metric="volume", at_least=1), gate(id="tokens", metric="input_tokens", at_least=1))))
    assert faults(only) == {"quality.thresholds": "not_declared"}
