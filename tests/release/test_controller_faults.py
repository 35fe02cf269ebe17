"""What breaks under the controller: it promotes nothing on it, says so, carries the others on, and does each thing once afterwards."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from tests.ledger.writers import raw
from tests.release.carrying import Carrier, ToldJudge
from tests.release.house import APP, PLAN, Clock, House, person
from tests.release.test_processes import check_whole, go, racer
from workbench.errors import StoreBusy
from workbench.ledger import engines
from workbench.ledger.leases import Lease, stored_lease
from workbench.ledger.routes import change_route, stored_route
from workbench.ledger.store import Ledger
from workbench.ledger.watches import StoredWatch, decisions_of, stored_watch
from workbench.release import leadership
from workbench.release.controller import LEASE
from workbench.release.judge_kinds import Decision
from workbench.release.model import State

AT_ONCE = {**PLAN, "on_inconclusive": "promote", "deadline": "3h", "freeze": []}
"""With it a judge that says INCONCLUSIVE promotes at its first look."""


@pytest.fixture
def carrier(house: House) -> Carrier:
    house.promoted("v1")
    house.canary("v2")
    house.units.n = 10_000
    return Carrier(house)


def watch_of(house: House) -> StoredWatch:
    with house.ledger.read() as connection:
        found = stored_watch(connection, f"{APP}.2")
    assert found is not None
    return found


def decided(house: House) -> list[tuple[str, str, int]]:
    with house.ledger.read() as connection:
        return [(each.decision, each.reason, each.token) for each in decisions_of(connection, f"{APP}.2")]


# The judge


def test_whatever_the_judge_raises_the_canary_is_held_and_says_so(carrier: Carrier, monkeypatch):
    def raising(*_args, **_named):
        raise KeyError("metric")

    carrier.pass_time(minutes=29)
    monkeypatch.setattr(carrier.judge, "judge", raising)
    carrier.pass_time(minutes=5)
    assert carrier.house.releases.get(APP).step == 0
    standing = watch_of(carrier.house).standing
    assert (standing["decision"], standing["reason"]) == ("HOLD", "not_judged")
    assert "KeyError" in standing["fault"]
    carrier.house.releases.rollback(APP, reason="better so", actor=person("night"))
    assert carrier.house.route.candidate is None


def test_a_release_that_cannot_be_read_keeps_no_other_one_waiting(carrier: Carrier, monkeypatch):
    (row,) = carrier.controller._canaries()
    unreadable = replace(row, release_id="shop.0", plan={"steps": "from a version to come"})
    monkeypatch.setattr(carrier.controller, "_canaries", lambda: (unreadable, row))
    carrier.judge.decision = Decision.ROLLBACK
    first, second = carrier.turn()
    assert (first.move.reason, first.decision_id) == ("unreadable", None)
    assert "shop" in first.fault
    assert (second.fault, carrier.house.releases.history(APP)[-1].state) == ("", State.ROLLED_BACK)


def test_a_release_under_which_anything_breaks_keeps_no_other_one_waiting(carrier: Carrier, monkeypatch):
    (row,) = carrier.controller._canaries()
    broken, look = replace(row, release_id="shop.0"), carrier.controller._look

    def looked(seen, release):
        if seen is broken:
            raise KeyError("review_id")
        return look(seen, release)

    monkeypatch.setattr(carrier.controller, "_canaries", lambda: (broken, row))
    monkeypatch.setattr(carrier.controller, "_look", looked)
    carrier.judge.decision = Decision.ROLLBACK
    first, second = carrier.turn()
    assert (first.move.reason, first.fault) == ("not_carried", "KeyError: 'review_id'")
    assert (second.fault, carrier.house.releases.history(APP)[-1].state) == ("", State.ROLLED_BACK)


def test_a_hold_that_was_noted_and_not_done_is_tried_again(carrier: Carrier, monkeypatch):
    carrier.judge.decision = Decision.INVALID
    with monkeypatch.context() as busy:
        busy.setattr(carrier.releases, "hold", lambda *_args, **_named: (_ for _ in ()).throw(StoreBusy("ledger", seen="somebody writes")))
        carrier.turn()
    assert carrier.house.releases.get(APP).state is State.CANARY
    carrier.turn()
    assert carrier.house.releases.get(APP).state is State.HELD


def test_after_the_deadline_a_plan_that_promotes_does_so_step_by_step(carrier: Carrier):
    house = carrier.house
    house.releases.abort(APP, reason="another plan", actor=person("requester"))
    house.declare(plan={**PLAN, "on_inconclusive": "promote", "deadline": "5h", "freeze": []})
    house.canary("v3")
    carrier.judge.decision = Decision.HOLD
    carrier.pass_time(hours=5, minutes=5)
    carrier.judge.decision = Decision.INCONCLUSIVE
    steps = []
    for _ in range(3):
        carrier.turn()
        steps.append(house.releases.get(APP).step)
        carrier.pass_time(minutes=25)
    assert steps == [1, 1, 1], "the step of the deadline is left, and the next one lasts as long as it asks"
    assert house.releases.get(APP).step == 2


@pytest.mark.parametrize("longest_s", [1e9, 0.0])
def test_a_look_that_takes_longer_than_the_lease_does_not_cost_the_lead_unless_it_never_ends(
    carrier: Carrier, longest_s: float, monkeypatch
):
    house, other = carrier.house, Carrier(carrier.house, "two")
    judge, kept = carrier.judge.judge, carrier.leadership.kept
    monkeypatch.setattr(leadership, "BEAT_S", 0.01)
    monkeypatch.setattr(carrier.leadership, "kept", lambda: kept(longest_s))

    def lease() -> Lease:
        with house.ledger.read() as connection:
            return stored_lease(connection, LEASE)

    def slow(*args, **named):
        for _ in range(10):
            seen = lease()
            carrier.seconds.now += 2
            for _ in range(500):
                if lease() != seen or not longest_s:
                    break
                time.sleep(0.01)
            other.seconds.now += 2
            other.turn()
        return judge(*args, **named)

    monkeypatch.setattr(carrier.judge, "judge", slow)
    other.judge.decision = Decision.HOLD
    assert len(carrier.turn()) == (1 if longest_s else 0)
    assert lease().token == (1 if longest_s else 2)


# The route


@pytest.mark.parametrize(("advice", "is_new_version"), [(Decision.PROMOTE, True), (Decision.HOLD, False)])
def test_a_share_that_was_changed_by_hand_holds_the_canary_and_is_named(carrier: Carrier, advice: Decision, is_new_version: bool):
    house = carrier.house
    carrier.pass_time(minutes=29)
    carrier.judge.decision = advice
    if is_new_version:
        with house.ledger.write() as act:
            change_route(act, stored_route(act.connection, APP), at=house.clock(), values={"share": 0.9})
    else:
        raw(f"sqlite:///{house.ledger.place}", "UPDATE routes SET share = 0.9")
    carrier.pass_time(minutes=5)
    (turned,) = carrier.turn()
    assert (turned.move.decision, turned.move.reason, house.releases.get(APP).step) == ("HOLD", "route_changed", 0)
    assert "share 0.9" in watch_of(house).standing["sentence"]
    carrier.judge.decision = Decision.ROLLBACK
    carrier.turn()
    assert (house.route.candidate, house.route.share) == (None, 0), "harm takes it back, whoever wrote to the route"


def test_what_is_decided_and_cannot_be_done_is_said(carrier: Carrier):
    house = carrier.house
    with house.ledger.write() as act:
        act.connection.exec_driver_sql("DELETE FROM blobs")
    carrier.pass_time(minutes=35)
    (turned,) = carrier.turn()
    assert turned.fault
    assert house.releases.get(APP).step == 0
    standing = watch_of(house).standing
    assert standing["fault"] == turned.fault
    assert "release.promote could not be done" in standing["sentence"]
    assert decided(house).count(("PROMOTE", "proven", 1)) == 1, "noted once, however often it is tried"


# Clocks


@pytest.mark.parametrize("days", [1, -1])
def test_a_wall_clock_set_by_a_day_promotes_nothing_early_loses_no_wait_and_costs_no_lead(carrier: Carrier, days: int):
    house = carrier.house
    carrier.pass_time(minutes=20)
    waited_s = watch_of(house).run_s
    house.clock.forward(days=days)
    carrier.turn()
    assert (house.releases.get(APP).step, watch_of(house).run_s) == (0, waited_s)
    carrier.pass_time(minutes=5)
    assert house.releases.get(APP).step == 0
    assert watch_of(house).run_s == pytest.approx(waited_s + 300, abs=60)
    carrier.pass_time(minutes=6)
    if days < 0:
        standing = watch_of(house).standing
        assert (standing["decision"], standing["reason"], house.releases.get(APP).step) == ("CONTINUE", "not_yet", 0)
        assert "until 2026-10-05 09:30 UTC" in standing["sentence"], "the calendar of the release is not there yet"
        house.clock.forward(days=1)
        carrier.pass_time(minutes=1)
    assert house.releases.get(APP).step == 1
    assert {token for *_, token in decided(house)} == {1}


# The database


@pytest.fixture
def impatient(url: str, tmp_path, clock: Clock, monkeypatch) -> Iterator[House]:
    """The company in its canary, whose transactions wait for others' locks for half a second only."""
    monkeypatch.setattr(engines, "BUSY_S", 0.5)
    ledger = Ledger.open(url, clock=clock)
    house = House(ledger, tmp_path / "shop", clock)
    house.declare(plan=AT_ONCE)
    house.promoted("v1")
    house.canary("v2")
    yield house
    ledger.close()


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Somebody else holds what every act needs, for the block."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
    else:
        connection = psycopg.connect(url)
        connection.execute("LOCK TABLE audit_head IN EXCLUSIVE MODE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@pytest.mark.slow
def test_a_database_that_is_locked_amid_a_promotion_promotes_once_when_it_is_free(impatient: House, url: str, monkeypatch):
    carrier = Carrier(impatient, judge=ToldJudge(decision=Decision.INCONCLUSIVE))
    act, before = carrier.controller._act, impatient.route

    def met_by_a_lock(*told):
        with locked(url):
            act(*told)

    with monkeypatch.context() as amid:
        amid.setattr(carrier.controller, "_act", met_by_a_lock)
        (turned,) = carrier.turn()
    assert "another process held its lock for too long" in turned.fault
    assert (impatient.releases.get(APP).step, impatient.route) == (0, before)
    (turned,) = carrier.turn()
    assert (turned.fault, impatient.releases.get(APP).step) == ("", 1)
    assert decided(impatient) == [("PROMOTE", "deadline", 1)], "decided once, and done once"
    check_whole(impatient)


@pytest.mark.slow
def test_a_controller_that_cannot_write_has_decided_nothing(impatient: House, url: str):
    carrier = Carrier(impatient, judge=ToldJudge(decision=Decision.INCONCLUSIVE))
    assert carrier.leadership.leads()
    with locked(url), pytest.raises(StoreBusy):
        carrier.turn()
    assert decided(impatient) == []
    carrier.turn()
    assert impatient.releases.get(APP).step == 1
    check_whole(impatient)


@pytest.mark.slow
def test_a_process_that_stood_still_for_longer_than_its_lease_does_nothing_when_it_goes_on(shared_house: House, url: str):
    house = shared_house
    house.declare(plan=AT_ONCE)
    house.promoted("v1")
    house.canary("v2")
    with racer(house, url, "carry") as process:
        assert process.stdout.readline() == "ready\n"
        go(process)
        assert process.stdout.readline() == "deciding\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        other = Carrier(house, "two", judge=ToldJudge(decision=Decision.INCONCLUSIVE))
        assert other.turn() == ()
        other.seconds.now += 6
        other.turn()
        there = (house.releases.get(APP), house.route, len(house.audit()))
        assert there[0].step == 1
        process.send_signal(signal.SIGCONT)
        assert process.communicate("go\n", timeout=60)[0] == "() ()\n", "it finds itself fenced off, and leads no more"
    assert (house.releases.get(APP), house.route, len(house.audit())) == there
    assert [token for *_, token in decided(house)] == [1], "the other one did what the first one had decided"
    check_whole(house)
