"""A canary whose answers are worse, as a declared scorer has it, is taken back for quality; one whose answers are as good goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.release.canary import STEPS, Live
from tests.release.house import APP, Clock
from workbench.demo.place import fresh_workspace
from workbench.release.model import State
from workbench.workspace import Workspace

RULES = """
def answer_quality(request):
    return {"value": 0.9 if "you" in request.answer else 0.4, "explanation": "it speaks to the customer, or does not"}
"""
ONLINE = {"sample": 0.5, "code": ["rules.py"], "scorers": [{"name": "quality", "entry": "rules:answer_quality", "timeout": "20s"}]}
PLAN = {
    "steps": STEPS,
    "rollback": {"criteria": [{"metric": "failure_rate", "ratio": 1.2}, {"metric": "quality_mean", "ratio": 1.05}]},
}


class Scored(Live):
    """The company with a scorer; what its arms answer is told."""

    candidate_says = "It is for you."

    def rows(self, unit, arm, **values):
        begun, ended = super().rows(unit, arm, **values)
        body = {
            "input": json.dumps({"messages": []}),
            "output": json.dumps([{"message": {"content": self.candidate_says if arm == "candidate" else "It is for you."}}]),
        }
        return [begun, {**ended, **body}]

    def turn(self) -> None:
        self.ws.evaluation.score_new()
        self.controller.turn()


@pytest.fixture
def scored(tmp_path: Path, clock: Clock) -> Iterator[Scored]:
    with fresh_workspace(tmp_path / "ws"):
        pass
    seconds = [1000.0]
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/rules.py").write_text(RULES)
    with Workspace.open(tmp_path / "ws", clock=clock, monotonic=lambda: seconds[0]) as ws:
        house = Scored(ws, tmp_path / "shop", clock, seconds)
        house.declare(plan=PLAN, online=ONLINE)
        house.promoted("v1")
        house.traffic(100, failing={"stable": 0.1, "candidate": 0.1})
        ws.evaluation.score_new()
        house.canary("v2")
        yield house


def carried(scored: Scored, *, turns: int = 40) -> State:
    """Where it stands when its first step is over."""
    for _ in range(turns):
        if scored.releases.history(APP)[-1].step != 0 or not scored.releases.history(APP)[-1].is_open:
            break
        scored.traffic(400, failing={"stable": 0.3, "candidate": 0.05})
        scored.turn()
    return scored.releases.history(APP)[-1].state


def test_worse_answers_take_the_candidate_back(scored: Scored):
    scored.candidate_says = "Item 12."
    assert carried(scored) is State.ROLLED_BACK
    judged = scored.releases.decision(scored.releases.history(APP)[-1].release_id).inputs["judgement"]
    assert judged["blame"] == "quality_mean"
    scores = scored.ws.metrics.query(["quality_mean"], by=["arm"], where={"release_id": scored.releases.history(APP)[-1].release_id})
    found = dict(scores.select("arm", "quality_mean").iter_rows())
    assert found["stable"] == pytest.approx(0.9 * 0.7, abs=0.1), "three of ten have no answer, and are worth nothing"
    assert found["candidate"] == pytest.approx(0.4 * 0.95, abs=0.1)


def test_answers_as_good_carry_it_on(scored: Scored):
    assert carried(scored) is State.CANARY
    release = scored.releases.get(APP)
    decided = scored.releases.decisions(release.release_id)[-1]
    assert (release.step, decided.decision, decided.reason) == (1, "PROMOTE", "proven")
    assert {metric["name"]: metric["is_safe"] for metric in decided.inputs["judgement"]["metrics"]} == {
        "failure_rate": True,
        "quality_mean": True,
    }
