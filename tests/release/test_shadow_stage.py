"""The stage before the first step: nobody is served by the candidate, and it goes on or is taken back by what its copies came to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.release.house import APP, SPECS, START, Clock, House, person, refused
from tests.release.test_judging import PLAN, Live, shown
from workbench.demo.place import fresh_workspace
from workbench.errors import SpecError
from workbench.ledger.watches import stored_watch
from workbench.observability.shadow_rows import ShadowCounts, count_shadow
from workbench.release.judge_kinds import Decision
from workbench.release.model import State
from workbench.release.shadowing import judge_shadow
from workbench.spec.plan import Shadow
from workbench.workspace import Workspace

STAGE = {"share": 0.5, "at_least": "30s", "min_units": 50}
SHADOWED = {**PLAN, "shadow": STAGE}


class Mirrored(Live):
    """The company, whose candidate answers copies."""

    def mirrored(self, n: int, *, failing: dict[str, float], withheld: bool = False) -> None:
        """N users come; stable answers all, the shadow a copy of each."""
        draws = np.random.default_rng(5 + self.n)
        rows: list[dict[str, Any]] = []
        spans: list[dict[str, Any]] = []
        for _ in range(n):
            self.n += 1
            for arm in ("stable", "shadow"):
                unit = f"unit-{self.n}"
                is_failed = bool(draws.random() < failing[arm])
                known = {
                    "request_id": f"{arm}-{unit}",
                    "app": APP,
                    "ts_start": self.clock.now,
                    "bundle": self.bundles["v1" if arm == "stable" else "v2"],
                    "arm": arm,
                    "traffic_share": 0.0,
                    "route_version": self.route.version,
                    "release_id": self.route.release_id,
                    "unit_hash": hashlib.sha256(unit.encode()).hexdigest()[:32],
                    "trace_id": f"trace-{unit}",
                    "revision": 1,
                    "is_final": True,
                    "status": "error" if is_failed else "ok",
                }
                rows.append(known)
                if withheld and arm == "shadow":
                    about = {name: known[name] for name in ("request_id", "app", "ts_start", "trace_id")}
                    spans.append({**about, "span_id": f"s{self.n}", "kind": "tool", "tool_name": "refund", "error_type": "withheld"})
        self.ws.logs.record({"requests": rows, "spans": spans} if spans else {"requests": rows})
        self.ws.logs.flush()
        self.pass_time(5)


@pytest.fixture
def mirrored(tmp_path: Path, clock: Clock) -> Iterator[Mirrored]:
    with fresh_workspace(tmp_path / "ws"):
        pass
    seconds = [1000.0]
    with Workspace.open(tmp_path / "ws", clock=clock, monotonic=lambda: seconds[0]) as ws:
        house = Mirrored(ws, tmp_path / "shop", clock, seconds)
        house.declare(plan=SHADOWED)
        house.promoted("v1")
        house.canary("v2")
        yield house


def test_the_stage_serves_nobody_and_a_promotion_leads_to_the_first_step(house: House) -> None:
    house.declare(plan={**SPECS["plan"], "shadow": {**STAGE, "at_least": "10m", "min_units": 100}})
    house.promoted("v1")
    release = house.canary("v2")
    assert (release.state, release.step, release.is_shadowed, release.step_since) == (State.CANARY, None, True, START)
    route = house.route
    assert (route.stable, route.candidate, route.share) == (house.bundles["v1"], None, 0.0)
    assert (route.shadow, route.shadow_share, route.release_id) == (house.bundles["v2"], 0.5, release.release_id)
    early = refused("not_yet", house.releases.promote, release.release_id, actor=person("requester"))
    assert "the step lasts at least 10m" in early.seen
    assert "100 different units" in early.seen
    house.clock.forward(minutes=11)
    house.units.n = 100
    release = house.releases.promote(release.release_id, actor=person("requester"))
    route = house.route
    assert (release.step, route.candidate, route.share) == (0, house.bundles["v2"], 0.05)
    assert (route.shadow, route.shadow_share) == (None, 0.0)


def test_a_first_release_goes_without(house: House) -> None:
    house.declare(plan={**SPECS["plan"], "shadow": STAGE})
    assert house.canary("v1").step == 0
    assert house.route.shadow is None


@pytest.mark.parametrize("act", ["rollback", "abort", "hold"])
def test_it_can_be_held_and_taken_back_at_any_time(house: House, act: str) -> None:
    house.declare(plan={**SPECS["plan"], "shadow": STAGE})
    house.promoted("v1")
    release = house.canary("v2")
    getattr(house.releases, act)(APP if act == "rollback" else release.release_id, reason="stop", actor=person("both"))
    assert house.route.candidate is None
    assert house.route.stable == house.bundles["v1"]
    assert (house.route.shadow is None) == (act != "hold")
    if act == "hold":
        assert house.releases.resume(release.release_id, actor=person("both")).is_shadowed


def test_a_candidate_without_harm_goes_on_to_its_first_step(mirrored: Mirrored) -> None:
    for _ in range(10):
        mirrored.mirrored(40, failing={"stable": 0.2, "shadow": 0.2})
        mirrored.controller.turn()
        if mirrored.route.candidate:
            break
    release = mirrored.releases.get(APP)
    assert (release.step, mirrored.route.share) == (0, 0.2)
    decided = mirrored.releases.decisions(release.release_id)
    assert [(each.decision, each.reason, each.step) for each in decided[-2:]] == [("CONTINUE", "not_yet", -1), ("PROMOTE", "unharmed", -1)]
    with mirrored.ledger.read() as connection:
        assert stored_watch(connection, release.release_id).canary_s == 0, "the deadline counts from the first step on"
    mirrored.traffic(100, failing={"stable": 0.3, "candidate": 0.1})
    mirrored.controller.turn()
    judged = mirrored.releases.decision(release.release_id).inputs["judgement"]
    assert {metric["name"] for metric in judged["metrics"]} == {"failure_rate"}


def test_a_candidate_that_fails_more_is_taken_back_before_it_served_anybody(mirrored: Mirrored) -> None:
    for _ in range(6):
        mirrored.mirrored(40, failing={"stable": 0.05, "shadow": 0.5})
        mirrored.controller.turn()
    release = mirrored.releases.history(APP)[-1]
    assert (release.state, mirrored.route.shadow, mirrored.route.candidate) == (State.ROLLED_BACK, None, None)
    text = " ".join(shown(mirrored, "explain", release.release_id).split())
    assert "its copies went worse than the requests that stable answered: failures in" in text
    assert "at step shadow" in text
    assert "none of whom heard it" in text
    assert "The rule: shadow's lower end above stable's upper end x margin (1.5)" in text
    rolled = mirrored.releases.decision(release.release_id).inputs["judgement"]
    assert rolled["rates"][0]["shadow_low"] > rolled["rates"][0]["limit"] > 0


def test_the_status_says_that_nobody_hears_it(mirrored: Mirrored) -> None:
    mirrored.mirrored(10, failing={"stable": 0.2, "shadow": 0.2})
    mirrored.controller.turn()
    text = " ".join(shown(mirrored, "status", APP).split())
    assert "answers copies of 50.0 % of the units' requests, which nobody hears" in text
    assert "shadow" in text


def test_copies_with_a_withheld_tool_say_nothing(mirrored: Mirrored) -> None:
    mirrored.mirrored(60, failing={"stable": 0.0, "shadow": 1.0}, withheld=True)
    mirrored.controller.turn()
    watch = mirrored.releases.status(APP).watch
    assert (watch.decision, watch.reason) == ("CONTINUE", "incomparable")
    assert watch.judgement["n_withheld"] == 60


def test_a_stage_of_which_nothing_can_be_compared_asks_a_person(mirrored: Mirrored) -> None:
    for _ in range(6):
        mirrored.mirrored(30, failing={"stable": 0.0, "shadow": 1.0}, withheld=True)
        mirrored.pass_time(40)
        mirrored.mirrored(1, failing={"stable": 0.0, "shadow": 1.0}, withheld=True)
        mirrored.controller.turn()
        if mirrored.releases.get(APP).state is State.HELD:
            break
    release = mirrored.releases.get(APP)
    assert (release.state, release.is_shadowed) == (State.HELD, True)
    assert "a person has to decide" in release.note


def test_without_copies_and_with_old_data_it_waits(mirrored: Mirrored) -> None:
    mirrored.controller.turn()
    assert mirrored.releases.status(APP).watch.reason == "no_rows"
    mirrored.mirrored(60, failing={"stable": 0.1, "shadow": 0.1})
    mirrored.pass_time(60)
    mirrored.controller.turn()
    assert mirrored.releases.status(APP).watch.reason == "stale"
    assert mirrored.releases.get(APP).is_shadowed


def test_numbers_for_people_leave_copies_out(mirrored: Mirrored) -> None:
    mirrored.mirrored(50, failing={"stable": 0.0, "shadow": 1.0})
    seen = mirrored.ws.metrics.query(["volume"], by="status", app=APP)
    assert dict(seen.select("status", "volume").iter_rows()) == {"ok": 50}
    by_arm = mirrored.ws.metrics.query(["volume"], by="arm", where={"arm": "stable,shadow"}, app=APP)
    assert dict(by_arm.select("arm", "volume").iter_rows()) == {"stable": 50, "shadow": 50}
    assert mirrored.ws.metrics.candidate_units(APP, mirrored.route.release_id) == 0
    assert mirrored.ws.metrics.candidate_units(APP, mirrored.route.release_id, arm="shadow") == 50
    assert mirrored.ws.metrics.bundles_with_rows(APP) == (mirrored.bundles["v1"],)
    counts = mirrored.ws.lake.read(lambda connection: count_shadow(connection, APP, mirrored.route.release_id))
    assert (counts.units, counts.compared, counts.failed) == (50, 50, (0, 50))


COUNTS = ShadowCounts(units=200, compared=200, failed=(10, 10), violating=(0, 0), n_withheld=0, data_at=START)


@pytest.mark.parametrize(
    ("changes", "age_s", "decision", "reason"),
    [
        ({}, 1, Decision.PROMOTE, "unharmed"),
        ({"failed": (10, 60)}, 1, Decision.ROLLBACK, "harm"),
        ({"failed": (10, 60)}, 3600, Decision.ROLLBACK, "harm"),
        ({"violating": (0, 40)}, 1, Decision.ROLLBACK, "harm"),
        ({"failed": (60, 10)}, 1, Decision.PROMOTE, "unharmed"),
        ({"failed": (10, 25)}, 1, Decision.PROMOTE, "unharmed"),
        ({"units": 1, "compared": 1, "failed": (0, 1)}, 1, Decision.PROMOTE, "unharmed"),
        ({}, 11, Decision.HOLD, "stale"),
        ({"units": 0, "compared": 0, "failed": (0, 0)}, 1, Decision.NO_DATA, "no_rows"),
        ({"units": 20, "compared": 5, "failed": (0, 0)}, 1, Decision.HOLD, "gathering"),
        ({"compared": 5, "failed": (0, 0)}, 1, Decision.HOLD, "incomparable"),
        ({"copied_at": START - timedelta(seconds=400)}, 1, Decision.HOLD, "stale"),
        ({"data_at": START + timedelta(days=1)}, 1, Decision.HOLD, "stale"),
    ],
)
def test_the_rule(changes: dict[str, Any], age_s: float, decision: Decision, reason: str) -> None:
    at: datetime = START + timedelta(seconds=age_s)
    judged = judge_shadow(replace(COUNTS, **changes), Shadow.model_validate(STAGE), at=at)
    assert (judged.decision, judged.reason) == (decision, reason), judged.sentence


def test_a_candidate_just_as_good_is_seldom_taken_back_however_often_it_is_looked_at() -> None:
    """500 stages of 1,000 users each, read after every tenth: 99.9 % intervals and a margin of 1.5 leave room for that."""
    draws = np.random.default_rng(11)
    n_taken = 0
    for _ in range(500):
        stable, shadow = (np.cumsum(draws.random(1000) < 0.1)[9::10] for _ in range(2))
        sizes = range(10, 1001, 10)
        looks = (replace(COUNTS, units=n, compared=n, failed=(int(a), int(b))) for n, a, b in zip(sizes, stable, shadow, strict=True))
        stage = Shadow.model_validate(STAGE)
        n_taken += any(judge_shadow(look, stage, at=START).decision is Decision.ROLLBACK for look in looks)
    assert n_taken == 0


def test_an_app_that_serves_itself_cannot_mirror(house: House) -> None:
    with pytest.raises(SpecError, match="so none can be mirrored"):
        house.declare(app={**SPECS["app"], "serving": "external"}, plan={**SPECS["plan"], "shadow": STAGE})
