"""The guide's four anti-patterns: absent from a good app, named when one change brings them in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.readiness.goodapp import NOW, gate, good, share_record
from tests.readiness.test_declared import GAP, app, kpi, plan
from workbench.readiness.antipatterns import findings
from workbench.readiness.declared import declared_gates
from workbench.readiness.gates import assess
from workbench.spec.gates import GatesSpec


def found(declared, *, sources=None, n=1000):
    measured = [assess(gate(), share_record(0.9, n), now=NOW)]
    return [item.lint_id for item in findings(declared, [*measured, *declared_gates(declared, now=NOW)], score_sources=sources or {})]


def test_a_good_app_shows_none():
    assert found(good(), sources={"rule": 900, "human": 100}) == []


@pytest.mark.parametrize(
    ("declared", "lint_id"),
    [
        (replace(good(), plan=None), "no-rollback-plan"),
        (plan(rollback=None), "no-rollback-plan"),
        (replace(app(fallback=None), earlier=()), "no-rollback-plan"),
        (replace(good(), rota=None), "no-after-hours-owner"),
        (replace(good(), gaps=(GAP,)), "no-after-hours-owner"),
        (kpi(kind="usage"), "usage-for-success"),
        (kpi(outcome="active_users"), "usage-for-success"),
        (replace(good(), gates=GatesSpec(gates=(gate(metric="volume"),))), "usage-for-success"),
        (replace(good(), gates=GatesSpec(gates=(gate(metric="volume"), gate(id="t", metric="input_tokens")))), "usage-for-success"),
    ],
)
def test_each_is_named_by_the_declaration_that_shows_it(declared, lint_id):
    assert found(declared) == [lint_id]


def test_scores_by_people_alone_are_spot_checks():
    assert found(good(), sources={"human": 12}) == ["spot-checks-only"]


def test_fewer_observations_than_the_gate_asks_for_are_spot_checks():
    assert found(good(), n=20) == ["spot-checks-only"]


def test_no_scores_at_all_are_not_spot_checks():
    assert found(good(), sources={}) == []


def test_all_four_stand_in_the_guide_s_order():
    broken = replace(kpi(kind="usage"), plan=None, rota=None)
    assert found(broken, n=20) == ["no-rollback-plan", "no-after-hours-owner", "spot-checks-only", "usage-for-success"]


def test_a_finding_says_what_to_do_next():
    broken = replace(kpi(kind="usage"), plan=None, rota=None)
    assert all(item.next_step for item in findings(broken, declared_gates(broken, now=NOW), score_sources={"human": 1}))
