"""A gate whose bar everything clears is refused where it is written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from workbench.spec.gates import GateSpec


@pytest.mark.parametrize(
    "bar",
    [
        {"metric": "success_rate", "at_least": 0},
        {"metric": "success_rate", "at_least": -0.5},
        {"metric": "handoff_rate", "at_most": 1.0},
        {"metric": "violation_rate", "at_most": 5},
        {"metric": "failure_rate", "against_baseline": {"margin": 1.0}},
    ],
)
def test_a_bar_that_lets_everything_through_is_refused(bar):
    with pytest.raises(ValidationError, match="lets everything through"):
        GateSpec.model_validate({"id": "g", **bar})


@pytest.mark.parametrize(
    "bar",
    [
        {"metric": "success_rate", "at_least": 0.01},
        {"metric": "success_rate", "at_least": 1},
        {"metric": "violation_rate", "at_most": 0},
        {"metric": "latency_p95", "at_most": 8000},
        {"metric": "volume", "at_least": 1},
        {"metric": "failure_rate", "against_baseline": {"ratio": 1.0}},
    ],
)
def test_a_bar_that_something_can_miss_is_taken(bar):
    assert GateSpec.model_validate({"id": "g", **bar}).metric == bar["metric"]
