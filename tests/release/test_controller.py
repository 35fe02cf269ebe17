"""The controller carries releases by their plans: what it does, what it leaves, and that two of them never do anything twice."""

from __future__ import annotations

import pytest

from tests.release.carrying import Carrier, Seconds
from tests.release.house import APP, House, person
from workbench.errors import ConflictError
from workbench.ledger.audit import verify
from workbench.ledger.leases import stored_lease
from workbench.ledger.watches import decisions_of, stored_watch
from workbench.ownership.model import Actor, Assurance
from workbench.ownership.permissions import CONTROLLER
from workbench.release.controller import BY_ITSELF, LEASE
from workbench.release.judge_kinds import Decision
from workbench.release.model import State


@pytest.fixture
def carrier(house: House) -> Carrier:
    house.promoted("v1")
    house.canary("v2")
    house.units.n = 10_000
    return Carrier(house)


def decided(house: House) -> list[tuple[str, str]]:
    with house.ledger.read() as connection:
        return [(each.decision, each.reason) for each in decisions_of(connection, house.releases.history(APP)[-1].release_id)]


def test_a_proven_candidate_is_carried_from_step_to_step_into_service(carrier: Carrier):
    house, shares = carrier.house, []
    for _ in range(4 * 72):  # 50 s each
        shares.append(house.route.share)
        carrier.pass_time(seconds=50)
        if not house.releases.history(APP)[-1].is_open:
            break
    assert list(dict.fromkeys(shares)) == [0.05, 0.25, 1.0]
    assert house.releases.history(APP)[-1].state is State.PROMOTED
    assert house.route.stable == house.bundles["v2"]
    promotions = [entry for entry in house.audit() if entry.act == "release.promote" and entry.actor == CONTROLLER]
    assert [entry.detail["decision"] for entry in promotions] == [f"{APP}.2/{number}" for number in (2, 4, 6)]
    assert decided(house)[:4] == [("CONTINUE", "not_yet"), ("PROMOTE", "proven")] * 2


def test_harm_takes_the_candidate_back_at_once_and_says_why(carrier: Carrier):
    carrier.judge.decision = Decision.ROLLBACK
    (turned,) = carrier.turn()
    assert (turned.fault, turned.move.reason) == ("", "harm")
    release = carrier.house.releases.history(APP)[-1]
    assert (release.state, carrier.house.route.candidate) == (State.ROLLED_BACK, None)
    assert "the judge says rollback" in release.note
    assert "shop.2/1" in release.note


@pytest.mark.parametrize("obstacle", ["lock", "freeze", "hold", "budget"])
def test_nothing_keeps_a_harmful_candidate_in_service(carrier: Carrier, obstacle: str):
    house = carrier.house
    carrier.judge.decision = Decision.ROLLBACK
    if obstacle == "budget":
        carrier.burnt = "the budget of success is spent"
    else:
        getattr(house.releases, obstacle)(APP, reason="wait", actor=person("both"))
    carrier.turn()
    assert house.releases.history(APP)[-1].state is State.ROLLED_BACK


@pytest.mark.parametrize("obstacle", ["lock", "freeze", "hold", "budget", "declared"])
def test_what_stands_in_the_way_of_people_stands_in_the_controllers(carrier: Carrier, obstacle: str):
    house = carrier.house
    if obstacle == "budget":
        carrier.burnt = "the budget of success is spent"
    elif obstacle == "declared":
        house.declare(app={"app": APP, "title": "Another", "risk_tier": "medium", "owner": "chief", "fallback": {"kind": "off"}})
    else:
        getattr(house.releases, obstacle)(APP, reason="we look at it", actor=person("both"))
    carrier.pass_time(minutes=40)
    assert house.releases.history(APP)[-1].step == 0
    with house.ledger.read() as connection:
        standing = stored_watch(connection, f"{APP}.2").standing
    reasons = {"lock": "locked", "freeze": "frozen", "hold": "held", "declared": "declarations_changed"}
    assert (standing["decision"], standing["reason"]) == ("HOLD", reasons.get(obstacle, obstacle))


def test_a_plan_that_people_carry_is_only_taken_back(house: House):
    house.declare(plan=PLAN_BY_PEOPLE)
    house.promoted("v1")
    house.canary("v2")
    carrier = Carrier(house)
    carrier.pass_time(hours=1)
    assert house.releases.history(APP)[-1].step == 0
    assert decided(house)[-1] == ("CONTINUE", "by_people")
    carrier.judge.decision = Decision.ROLLBACK
    carrier.turn()
    assert house.releases.history(APP)[-1].state is State.ROLLED_BACK


PLAN_BY_PEOPLE = {
    "steps": [{"share": 0.05, "at_least": "30m"}, {"share": 0.5, "at_least": "1h"}],
    "rollback": {"target": "last_good", "criteria": [{"metric": "failure_rate"}]},
    "carried_by": "people",
}


@pytest.mark.parametrize(("policy", "state"), [("hold", State.HELD), ("rollback", State.ROLLED_BACK), ("promote", State.CANARY)], ids=str)
def test_the_deadline_does_what_the_plan_says(house: House, policy: str, state: State):
    house.declare(plan={**PLAN_BY_PEOPLE, "carried_by": "controller", "on_inconclusive": policy, "deadline": "5h"})
    house.promoted("v1")
    house.canary("v2")
    carrier = Carrier(house)
    carrier.judge.decision = Decision.INCONCLUSIVE
    carrier.turn()
    release = house.releases.history(APP)[-1]
    assert (release.state, release.step) == (state, 1 if policy == "promote" else 0)
    if policy == "promote":
        assert "its plan promotes it then" in house.audit()[-1].detail["early"]


def test_whoever_resumes_a_canary_is_not_asked_the_same_again(carrier: Carrier):
    house = carrier.house
    carrier.judge.decision = Decision.INVALID
    carrier.turn()
    assert house.releases.get(APP).state is State.HELD
    house.releases.resume(APP, actor=person("requester"))
    carrier.pass_time(minutes=5)
    release = house.releases.get(APP)
    assert (release.state, release.step) == (State.CANARY, 0), "it stays, and is never promoted"


def test_what_cannot_be_judged_stays_as_it_is(carrier: Carrier):
    carrier.judge.is_readable = False
    carrier.pass_time(hours=2)
    assert carrier.house.releases.get(APP).step == 0
    assert decided(carrier.house) == [("HOLD", "not_judged")]
    carrier.house.releases.rollback(APP, reason="to be safe", actor=person("night"))
    assert carrier.house.route.candidate is None


def test_time_without_data_or_without_a_controller_does_not_count(carrier: Carrier):
    house = carrier.house
    carrier.pass_time(minutes=10)
    with house.ledger.read() as connection:
        run_s = stored_watch(connection, f"{APP}.2").run_s
    carrier.judge.is_readable = False
    carrier.pass_time(minutes=20)
    with house.ledger.read() as connection:
        silent_s = stored_watch(connection, f"{APP}.2").run_s
    assert run_s < 600
    assert silent_s - run_s <= 350, "five minutes after the last row the clock stands still"
    carrier.judge.is_readable = True
    house.clock.forward(days=1)
    carrier.turn()
    with house.ledger.read() as connection:
        assert stored_watch(connection, f"{APP}.2").run_s == silent_s, "a wall clock that jumps moves nothing"
    assert house.releases.get(APP).step == 0


def test_a_wall_clock_set_back_promotes_nothing_early_and_breaks_nothing(carrier: Carrier):
    house = carrier.house
    carrier.pass_time(minutes=20)
    house.clock.forward(hours=-3)
    carrier.pass_time(minutes=15)
    assert house.releases.get(APP).step == 0
    house.clock.forward(hours=3)
    carrier.pass_time(minutes=1)
    assert house.releases.get(APP).step == 1


def test_one_of_two_controllers_leads_and_the_other_takes_over(carrier: Carrier):
    house = carrier.house
    other = Carrier(house, "two", seconds=Seconds())
    assert carrier.turn() != ()
    assert other.turn() == ()
    other.seconds.now += 4
    carrier.seconds.now += 4
    carrier.turn()
    other.seconds.now += 4
    assert other.turn() == (), "it beat meanwhile"
    other.seconds.now += 6
    assert other.turn() != (), "the first one went silent"
    assert carrier.turn() == (), "and finds another token when it comes back"
    with house.ledger.read() as connection:
        assert (stored_lease(connection, LEASE).holder, stored_lease(connection, LEASE).token) == ("two", 2)


def test_a_leader_that_slept_is_fenced_off_inside_its_act(carrier: Carrier):
    house = carrier.house
    carrier.turn()
    other = Carrier(house, "two")
    other.turn()
    other.seconds.now += 6
    other.turn()
    version = house.releases.get(APP).version
    with pytest.raises(ConflictError, match="another process holds it"):
        carrier.releases.promote(APP, early="it woke up", expected_version=version, actor=BY_ITSELF)
    assert house.releases.get(APP).version == version


def test_a_lease_that_is_given_back_is_taken_at_once(carrier: Carrier):
    carrier.turn()
    carrier.controller.resign()
    assert Carrier(carrier.house, "two").turn() != ()


def test_killed_between_noting_and_doing_it_is_done_once_by_the_next(carrier: Carrier, monkeypatch):
    house = carrier.house
    carrier.judge.decision = Decision.ROLLBACK

    def killed(*_args, **_named):
        raise SystemExit

    monkeypatch.setattr(carrier.controller, "_act", killed)
    with pytest.raises(SystemExit):
        carrier.turn()
    assert house.releases.get(APP).state is State.CANARY
    other = Carrier(house, "two", judge=carrier.judge)
    other.turn()
    other.seconds.now += 6
    (turned,) = other.turn()
    assert (turned.decision_id, house.releases.history(APP)[-1].state) == (f"{APP}.2/1", State.ROLLED_BACK)
    with house.ledger.read() as connection:
        assert verify(connection).is_whole


def test_a_rollback_that_comes_too_late_takes_nothing_else_back(carrier: Carrier, monkeypatch):
    house = carrier.house
    carrier.judge.decision = Decision.ROLLBACK
    look = carrier.controller._look

    def slow(*told):
        looked = look(*told)
        house.releases.abort(APP, reason="I was faster", actor=person("requester"))
        return looked

    monkeypatch.setattr(carrier.controller, "_look", slow)
    assert carrier.turn() == ()
    assert house.route.stable == house.bundles["v1"]


def test_nobody_else_may_act_as_the_controller(carrier: Carrier):
    for via, assurance in (("cli", Assurance.VERIFIED), ("controller", Assurance.LOCAL), ("controller", Assurance.CONSOLE)):
        actor = Actor(person=CONTROLLER, via=via, assurance=assurance)
        assert not carrier.house.ownership.may(actor, "release.promote", APP).allowed
    for act in ("release.start", "release.approve", "release.unfreeze", "release.resume", "declare"):
        assert not carrier.house.ownership.may(BY_ITSELF, act, APP).allowed


def test_the_controller_begins_no_canary(house: House):
    house.ready("v1")
    assert Carrier(house).turn() == ()
