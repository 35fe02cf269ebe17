"""`plan.yaml`: what a plan says where little is written, and which plans are refused, in which words."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from workbench.spec.plan import RAMPS, PlanSpec, Step

GOOD = {
    "steps": [{"share": 0.05, "at_least": "30m"}, {"share": 0.5, "at_least": "1h", "margin": 1.4}],
    "rollback": {"criteria": [{"metric": "failure_rate", "ratio": 1.2}]},
    "deadline": "2d",
}


def test_margins_are_coarse_where_few_are_at_risk_and_close_where_many_are():
    assert [Step(share=share, at_least="1h").ruled_out for share in (0.01, 0.1, 0.2, 0.3, 0.5, 1.0)] == [3, 3, 2, 2, 1.5, 1.5]
    assert PlanSpec.model_validate(GOOD).steps[1].ruled_out == 1.4


def test_a_plan_without_steps_goes_as_its_risk_tier_asks():
    plan = PlanSpec.model_validate({key: value for key, value in GOOD.items() if key != "steps"})
    assert plan.stepped("low").steps == RAMPS["low"]
    assert plan.stepped(None).steps == plan.stepped("high").steps
    assert PlanSpec.model_validate(GOOD).stepped("high").steps == PlanSpec.model_validate(GOOD).steps
    firsts = [RAMPS[tier][0].share for tier in ("low", "medium", "high")]
    lengths = [sum((step.at_least for step in RAMPS[tier]), timedelta()) for tier in ("low", "medium", "high")]
    assert firsts == sorted(firsts, reverse=True)
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": []}, "at least 1 item"),
        ({"steps": [{"share": 0.5, "at_least": "1h"}, {"share": 0.2, "at_least": "1h"}]}, "must grow from step to step"),
        ({"steps": [{"share": 1.5, "at_least": "1h"}]}, "less than or equal to 1"),
        ({"steps": [{"share": 0.5, "at_least": "1h", "min_units": -1}]}, "greater than or equal to 0"),
        ({"steps": [{"share": 0.5, "at_least": "1h", "margin": 0.9}]}, "greater than or equal to 1"),
        ({"deadline": "1h"}, "1h is shorter than the steps, which last 90m at least"),
        ({"rollback": {"criteria": [{"metric": "failure_rate"}, {"metric": "failure_rate"}]}}, "stands there more than once"),
        ({"rollback": {"criteria": [{"metric": "failure_rate", "weight": 0}]}}, "greater than 0"),
        ({"rollback": {"criteria": [{"metric": "failure_rate", "role": "signal"}]}}, "'critical' or 'guardrail'"),
        ({"watch": [{"metric": "failure_rate"}]}, "failure_rate is watched already"),
        ({"freeze": [{"reason": "holidays"}]}, "says no day"),
        ({"freeze": [{"first": "2026-12-24", "last": "2026-12-20", "reason": "holidays"}]}, "is before first"),
        ({"carried_by": "nobody"}, "'controller' or 'people'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_plan_is_refused(change: dict, words: str):
    with pytest.raises(ValidationError, match=words):
        PlanSpec.model_validate({**GOOD, **change})
