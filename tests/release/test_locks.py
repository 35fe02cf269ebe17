"""Who keeps whom from releasing, and never from making things safe."""

from __future__ import annotations

import pytest

from tests.release.house import APP, START, House, person, refused
from workbench.errors import NotPermitted, UsageError
from workbench.release.freezes import freeze_now
from workbench.release.model import LockKind, State
from workbench.spec.plan import PlanSpec


def test_a_lock_lets_only_its_holder_release(house: House):
    house.releases.lock(APP, "load test", actor=person("both"))
    error = refused("locked", house.ready)
    assert error.seen == "both holds the lock since 2026-10-05 09:00 UTC: load test"
    release = house.releases.start(APP, "v2", reason="mine", actor=person("both"))
    house.releases.approve(release.release_id, actor=person("approver"))
    refused("locked", house.releases.promote, APP, actor=person("requester"))
    house.releases.promote(APP, actor=person("both"))
    house.releases.hold(APP, reason="odd", actor=person("night"))
    refused("locked", house.releases.resume, APP, actor=person("requester"))
    assert house.releases.abort(APP, reason="no", actor=person("requester")).state is State.ABORTED


def test_a_lock_is_taken_over_openly(house: House):
    house.releases.lock(APP, "load test", actor=person("both"))
    refused("locked", house.releases.lock, APP, "mine now", actor=person("requester"))
    lock = house.releases.lock(APP, "both is ill", steal=True, actor=person("requester"))
    assert (lock.holder, house.releases.status(APP).lock) == ("requester", lock)
    assert house.audit()[-1].detail == {"holder": "requester", "reason": "both is ill", "taken_from": "both"}


def test_the_same_lock_twice_is_one_act(house: House):
    first = house.releases.lock(APP, "load test", actor=person("both"))
    house.clock.forward(hours=1)
    assert house.releases.lock(APP, "load test", actor=person("both")) == first
    assert house.acts() == ["release.lock"]


def test_somebody_elses_lock_is_taken_away_with_a_reason(house: House):
    house.releases.lock(APP, "load test", actor=person("both"))
    refused("locked", house.releases.unlock, APP, actor=person("requester"))
    with pytest.raises(UsageError, match="it is both's, and no reason is given"):
        house.releases.unlock(APP, steal=True, actor=person("requester"))
    house.releases.unlock(APP, "both is ill", steal=True, actor=person("requester"))
    assert house.releases.status(APP).lock is None
    refused("not_locked", house.releases.unlock, APP, actor=person("requester"))


def test_a_freeze_stops_everybody_and_only_from_releasing(house: House):
    release = house.canary()
    house.releases.freeze(APP, "holidays", actor=person("approver"))
    for who in ("requester", "both"):
        refused("frozen", house.releases.promote, APP, early="now", actor=person(who))
    house.releases.hold(APP, reason="odd", actor=person("night"))
    house.releases.resume(APP, actor=person("requester"))
    with pytest.raises(NotPermitted):
        house.releases.unfreeze(APP, actor=person("approver"))
    house.releases.unfreeze(APP, "holidays are over", actor=person("requester"))
    assert house.releases.promote(release.release_id, early="now", actor=person("requester")).step == 1


def test_the_plans_days_are_days_in_utc(house: House):
    house.clock.now = START.replace(day=9, hour=23, minute=59)  # Friday
    house.ready()
    house.releases.approve(APP, actor=person("approver"))
    house.clock.forward(minutes=1)
    error = refused("frozen", house.releases.promote, APP, actor=person("requester"))
    assert error.seen == "the plan has no releases on sat (UTC): nobody is at work"
    assert house.releases.status(APP).next_steps[-1].startswith("Nothing is promoted now: the plan has no releases on sat")
    house.clock.now = START.replace(day=12, hour=0)  # Monday
    refused("review_old", house.releases.promote, APP, actor=person("requester"))


def test_a_freeze_by_hand_stands_beside_a_lock(house: House):
    house.releases.lock(APP, "mine", actor=person("both"))
    house.releases.freeze(APP, "holidays", actor=person("chief"))
    status = house.releases.status(APP)
    assert (status.lock.kind, status.freeze) == (LockKind.LOCK, "chief froze releases at 2026-10-05 09:00 UTC: holidays")


def test_without_plan_and_locks_nothing_is_frozen():
    assert freeze_now((), None, now=START) is None
    assert freeze_now((), PlanSpec.model_validate({"steps": [{"share": 1, "at_least": "1h"}]}), now=START) is None
