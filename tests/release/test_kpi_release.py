"""A canary whose orders come late, from the log to the decision: worse business takes it back or holds it, and none at all is no pass."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.release.canary import STEPS, Live, shown
from tests.release.house import APP, SPECS, Clock, person
from workbench.demo.place import fresh_workspace
from workbench.errors import SpecError
from workbench.notebook.release_page import ReleaseWatch
from workbench.release.model import State
from workbench.release.replaying import Found
from workbench.views.release_figures import release_document
from workbench.workspace import Workspace

KPIS = [
    {"name": "ordered", "outcome": "order", "within": "14s"},
    {"name": "revenue", "outcome": "order", "within": "14s", "aggregate": "sum", "unit": "EUR"},
]
FAILURES = {"metric": "failure_rate", "ratio": 1.2}


class Selling(Live):
    """The company's shop. An order comes eight seconds after its talk, and is told a batch or two later, some of them twice."""

    orders: dict[str, float]
    """Probability of one, by arm."""
    _due: list[dict[str, object]]

    def come(self, n: int) -> None:
        """N users come, and what they order is on its way; the orders that are due are told."""
        self._due, due = [], self._due
        route, draws = self.route, np.random.default_rng(self.n)
        rows = []
        for _ in range(n):
            self.n += 1
            arm = "candidate" if draws.random() < route.share else "stable"
            unit = f"unit-{self.n}"
            begun, ended = self.rows(unit, arm, is_failed=draws.random() < {"stable": 0.3, "candidate": 0.05}[arm])
            rows += [{**row, "session_id": f"session-{unit}"} for row in (begun, ended)]
            if draws.random() < self.orders[arm]:
                self._due.append(self._order(unit, ended, named=self.n % 3, value=float(draws.lognormal(3, 1))))
        self.ws.logs.record({"requests": rows, "outcomes": [*due, *due[::10]]})
        self.ws.logs.flush()
        self.pass_time(8)
        self.controller.turn()

    def _order(self, unit: str, request: dict[str, object], *, named: int, value: float) -> dict[str, object]:
        names = {"request_id": request["request_id"], "session_id": f"session-{unit}", "unit_hash": request["unit_hash"]}
        return {
            "outcome_id": f"order-{unit}",
            "app": APP,
            "kpi": "order",
            "value": value,
            "currency": "EUR",
            **dict([list(names.items())[named]]),
            "ts": self.clock.now + timedelta(seconds=8),
            "source": "shop",
        }


@pytest.fixture
def selling(tmp_path: Path, clock: Clock) -> Iterator[Selling]:
    with fresh_workspace(tmp_path / "ws"):
        pass
    seconds = [1000.0]
    with Workspace.open(tmp_path / "ws", clock=clock, actor=person("requester"), monotonic=lambda: seconds[0]) as ws:
        house = Selling(ws, tmp_path / "shop", clock, seconds)
        house._due, house.orders = [], {"stable": 0.3, "candidate": 0.3}
        house.declare(app={**SPECS["app"], "kpis": KPIS})
        house.promoted("v1")
        house.come(200)
        house.pass_time(20)
        house.come(50)
        house._due = []
        yield house


HALF = [{"share": 0.5, "at_least": "30s", "min_units": 6000}, {"share": 0.9, "at_least": "30s"}]


def planned(
    selling: Selling, *criteria: dict[str, object], watch: tuple[dict[str, object], ...] = (), steps: list[dict[str, object]] = STEPS
) -> str:
    """A canary by this plan; its id."""
    selling.declare(plan={"steps": steps, "rollback": {"criteria": [FAILURES, *criteria]}, "watch": list(watch)})
    return selling.canary("v2").release_id


def standing(selling: Selling, release_id: str) -> tuple[State, int | None, str, str]:
    """State, step, and what was last seen."""
    release, watch = selling.releases.get(release_id), selling.releases.status(APP).watch
    return release.state, release.step, watch.decision, watch.reason


def same(selling: Selling, release_id: str) -> bool:
    """Whether every decision comes out of the log again, and whoever takes over has the same memory."""
    again = selling.releases.replay(release_id)
    return {each.found for each in again.decisions} == {Found.SAME}


def test_fewer_orders_take_the_candidate_back_where_the_plan_says_so(selling: Selling):
    selling.orders = {"stable": 0.4, "candidate": 0.1}
    release_id = planned(selling, {"metric": "ordered", "ratio": 1.1})
    selling.declare(plan={"steps": STEPS, "rollback": {"criteria": [FAILURES]}})  # the next release's: this one keeps its own
    for _ in range(12):
        selling.come(300)
        if not selling.releases.get(release_id).is_open:
            break
    assert selling.releases.get(release_id).state is State.ROLLED_BACK
    decided = selling.releases.decision(release_id)
    assert (decided.reason, decided.inputs["judgement"]["blame"]) == ("harm", "ordered")
    assert "ordered: ratio" in decided.sentence
    assert "stable/candidate of those that reached it" in decided.sentence
    assert same(selling, release_id)
    assert "stable/candidate" in shown(selling, "explain", release_id)


def test_less_revenue_holds_the_candidate_and_people_see_by_how_much(selling: Selling, monkeypatch):
    monkeypatch.setattr("workbench.release.judge_decision.FEWEST_BLOCKS", 300)
    selling.orders = {"stable": 0.6, "candidate": 0.02}
    release_id = planned(selling, watch=({"metric": "revenue", "role": "kpi", "ratio": 1.05}, {"metric": "ordered"}), steps=HALF)
    for _ in range(5):
        selling.come(700)
    assert standing(selling, release_id) == (State.CANARY, 0, "HOLD", "kpi")
    decided = selling.releases.decisions(release_id)[-1]
    assert (decided.decision, decided.reason, decided.inputs["act"]) == ("HOLD", "kpi", None)
    assert "in EUR of a talk" in decided.sentence
    assert same(selling, release_id)
    digest = selling.controller._judging.digest(release_id)
    selling.controller.resign()
    del selling.ws.__dict__["controller"]
    selling.controller.turn()
    assert selling.controller._judging.digest(release_id) == digest is not None
    for words in (shown(selling, "explain", release_id), shown(selling, "status", APP)):
        assert all(each in words for each in ("revenue", "EUR of a")), words
    assert "revenue" in shown(selling, "decisions", release_id)
    page = ReleaseWatch(selling.ws, APP, release_id)
    assert page.metrics == ("failure_rate", "revenue", "ordered")
    assert "EUR of a talk" in page.interval("revenue").figure.layout.title.text + page.interval("revenue").subtitle
    html = release_document(selling.releases.get(release_id), selling.releases.replay(release_id), selling.releases.trace(release_id))
    assert "EUR of a talk" in html


def test_while_no_orders_come_in_nothing_passes_and_then_it_goes_on(selling: Selling):
    plan = {"steps": STEPS, "rollback": {"criteria": [FAILURES]}, "watch": [{"metric": "ordered", "role": "kpi"}]}
    with pytest.raises(SpecError, match=r'KPI "orderd" is not declared in app.yaml; did you mean "ordered"'):
        selling.declare(plan={**plan, "watch": [{"metric": "orderd", "role": "kpi"}]})
    release_id = planned(selling, watch=plan["watch"])
    assert selling.releases.left_open(release_id) == (), "its window is shorter than the first step"
    selling.orders = {"stable": 0.0, "candidate": 0.0}
    for _ in range(5):
        selling.come(700)
    assert standing(selling, release_id) == (State.CANARY, 0, "CONTINUE", "no_outcome")
    watch = selling.releases.status(APP).watch
    assert watch.sentence == "ordered: no talk of stable and the candidate has an outcome, or a window that is over"
    assert {metric["name"]: metric["is_safe"] for metric in watch.judgement["metrics"]} == {"failure_rate": True, "ordered": False}
    selling.orders = {"stable": 0.3, "candidate": 0.3}
    for _ in range(4):
        selling.come(100)
    assert selling.releases.get(release_id).step == 1
    assert same(selling, release_id)
