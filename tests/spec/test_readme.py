"""What the README shows of specs is what the specs take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from workbench.spec.app import HandoffRule
from workbench.spec.controls import Controls
from workbench.spec.guards import GuardsSpec
from workbench.spec.slo import SloSpec

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)]


def shown(key: str) -> dict:
    """The example that has this key."""
    (found,) = [block for block in BLOCKS if key in block]
    return found


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (Controls, shown("controls")["controls"]),
        (GuardsSpec, shown("streaming")),
        (SloSpec, shown("objectives")),
        (HandoffRule, next(block["handoff"] for block in BLOCKS if "callbacks" in block.get("handoff", {}))),
    ],
)
def test_the_examples_of_the_readme_are_taken(model, example):
    assert model.model_validate(example)
