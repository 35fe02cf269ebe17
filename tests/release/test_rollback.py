"""Taking back: always possible, the whole bundle, once, and with nothing but the ledger."""

from __future__ import annotations

import pytest

from tests.release.house import APP, PLAN, SPECS, House, person, refused
from workbench.errors import ConflictError, NotPermitted, StoreError, UsageError
from workbench.release.model import Kind, State


def roll_back(house: House, who: str = "night", **more):
    return house.releases.rollback(APP, reason="bad answers", actor=person(who), **more)


def test_in_a_canary_the_candidate_serves_nobody_at_once(house: House):
    house.promoted("v1")
    house.canary("v2")
    release = roll_back(house)
    assert (release.release_id, release.state, release.note) == ("shop.2", State.ROLLED_BACK, "rolled back by night: bad answers")
    assert (house.route.stable, house.route.candidate, house.route.share, house.route.release_id) == (house.bundles["v1"], None, 0, None)


def test_a_held_canary_is_taken_back_too(house: House):
    house.canary("v2")
    house.releases.hold(APP, reason="odd", actor=person("night"))
    assert roll_back(house).state is State.ROLLED_BACK
    assert (house.route.stable, house.route.candidate, house.route.without_stable) == (None, None, "fallback")


def test_after_promotion_it_is_a_release_of_its_own_to_the_last_good_bundle(house: House):
    house.promoted("v1")
    house.promoted("v2")
    before = house.route
    release = roll_back(house)
    assert (release.release_id, release.kind, release.state) == ("shop.3", Kind.ROLLBACK, State.PROMOTED)
    assert (release.bundle_id, release.previous_stable, release.is_open) == (house.bundles["v1"], house.bundles["v2"], False)
    assert (house.route.stable, house.route.candidate, house.route.version) == (house.bundles["v1"], None, before.version + 1)
    assert house.acts()[-1] == "rollback"
    assert house.releases.get("shop.2").state is State.PROMOTED, "what was is not rewritten"


def test_a_rollback_asked_for_twice_goes_back_once(house: House):
    for name in ("v1", "v2", "v3"):
        house.promoted(name)
    roll_back(house)
    error = refused("rolled_back_already", roll_back, house)
    assert house.bundles["v1"] in error.needed
    assert house.route.stable == house.bundles["v2"]
    assert roll_back(house, to="last-good").bundle_id == house.bundles["v1"]


def test_a_second_rollback_in_the_same_canary_does_not_touch_what_is_stable(house: House):
    house.promoted("v1")
    house.promoted("v2")
    house.canary("v3")
    roll_back(house)
    refused("rolled_back_already", roll_back, house)
    assert house.route.stable == house.bundles["v2"]


def test_a_rollback_that_was_decided_on_another_route_is_refused(house: House):
    house.promoted("v1")
    house.promoted("v2")
    version = house.route.version
    for wrong in (version - 1, version + 1):
        with pytest.raises(ConflictError, match=f"it is at version {version}; needed: version {wrong}"):
            roll_back(house, expected_route_version=wrong)
    roll_back(house, expected_route_version=version)
    with pytest.raises(ConflictError):
        roll_back(house, expected_route_version=version)


def test_the_last_good_bundle_was_never_rolled_back(house: House):
    for name in ("v1", "v2"):
        house.promoted(name)
    roll_back(house)
    house.promoted("v3")
    assert house.releases.status(APP).last_good == house.bundles["v1"]
    assert roll_back(house).bundle_id == house.bundles["v1"]
    refused("no_last_good", roll_back, house, to="last-good")


def test_a_bundle_whose_parts_are_gone_is_not_restored(house: House):
    for name in ("v1", "v2", "v3"):
        house.promoted(name)
    digest = next(iter(house.versions.files(house.bundles["v2"]).values()))
    with house.ledger.write() as act:
        act.connection.exec_driver_sql("DELETE FROM blobs WHERE content = ?", (digest,))
    refused("not_whole", roll_back, house, "chief", to="v2")
    assert roll_back(house).bundle_id == house.bundles["v1"]


def test_the_whole_bundle_is_restored(house: House):
    house.promoted("v1")
    files = house.versions.files(house.bundles["v1"])
    house.promoted("v2")
    restored = roll_back(house).bundle_id
    assert house.versions.files(restored) == files
    assert house.route.stable == restored


def test_the_only_bundle_is_not_taken_out_of_service_by_accident(house: House):
    house.promoted("v1")
    error = refused("no_last_good", roll_back, house)
    assert error.next_step == f"to take {house.bundles['v1']} out of service all the same, roll back to fallback or off"
    assert roll_back(house, to="fallback").bundle_id is None, "and whoever is on call may"
    assert (house.route.stable, house.route.without_stable) == (None, "fallback")


@pytest.mark.parametrize("target", ["fallback", "off"])
def test_a_plan_may_declare_that_nothing_serves_after_a_rollback(house: House, target: str):
    house.declare(plan={**PLAN, "rollback": {**PLAN["rollback"], "target": target}})
    house.promoted("v1")
    release = roll_back(house)
    assert (release.bundle_id, house.route.stable, house.route.without_stable) == (None, None, target)
    refused("nothing_serves", roll_back, house)
    assert house.promoted("v2").state is State.PROMOTED, "and the app can be released again"


def test_without_a_declared_fallback_users_of_a_first_canary_get_nothing(house: House):
    house.declare(app={name: value for name, value in SPECS["app"].items() if name != "fallback"})
    house.canary("v1")
    assert house.route.without_stable == "off"
    roll_back(house)
    assert (house.route.candidate, house.route.without_stable) == (None, "off")


def test_the_plan_may_prefer_the_fallback_to_an_older_bundle(house: House):
    house.declare(plan={**PLAN, "rollback": {**PLAN["rollback"], "target": "fallback"}})
    house.promoted("v1")
    house.promoted("v2")
    assert roll_back(house).bundle_id is None
    assert (house.route.stable, house.route.without_stable) == (None, "fallback")
    assert roll_back(house, to="last-good").bundle_id == house.bundles["v1"]
    assert house.route.stable == house.bundles["v1"]


def test_a_named_target_was_in_service_before_and_takes_a_role(house: House):
    for name in ("v1", "v2"):
        house.promoted(name)
    refused("never_promoted", roll_back, house, "chief", to="v3")
    refused("serves_already", roll_back, house, "chief", to="v2")
    house.promoted("v3")
    with pytest.raises(NotPermitted, match=r"rollback\.to"):
        roll_back(house, to="v1")
    assert house.route.stable == house.bundles["v3"]
    assert roll_back(house, to="v2").bundle_id == house.bundles["v2"], "the last good one by its name is what on call may restore"
    assert roll_back(house, "chief", to="v3").bundle_id == house.bundles["v3"], "somebody with a role may go back to what was taken back"


def test_an_app_is_switched_off_by_hand(house: House):
    house.promoted("v1")
    house.canary("v2")
    with pytest.raises(NotPermitted):
        roll_back(house, to="off")
    release = roll_back(house, "chief", to="off")
    assert (release.kind, release.bundle_id) == (Kind.ROLLBACK, None)
    assert (house.route.stable, house.route.candidate, house.route.without_stable) == (None, None, "off")
    assert house.releases.get("shop.2").state is State.ROLLED_BACK
    assert house.acts()[-2:] == ["rollback", "rollback"]


def test_a_first_canary_is_switched_off_for_everybody(house: House):
    house.canary("v1")
    roll_back(house, "chief", to="off")
    assert (house.route.stable, house.route.candidate, house.route.without_stable) == (None, None, "off")


def test_no_lock_freeze_or_weekend_stops_it(house: House):
    house.promoted("v1")
    house.promoted("v2")
    house.releases.lock(APP, "mine", actor=person("requester"))
    house.releases.freeze(APP, "holidays", actor=person("chief"))
    house.clock.forward(days=5)
    assert roll_back(house).bundle_id == house.bundles["v1"]


@pytest.mark.parametrize("state", [State.DRAFT, State.READY, State.APPROVED])
def test_a_release_that_serves_nobody_stops_no_rollback_and_is_aborted_with_it(house: House, state: State):
    house.promoted("v1")
    house.promoted("v2")
    waiting = house.ready("v3")
    with house.ledger.write() as act:
        act.connection.exec_driver_sql("UPDATE releases SET state = ? WHERE release_id = ?", (state, waiting.release_id))
    assert roll_back(house).bundle_id == house.bundles["v1"]
    ended = house.releases.get(waiting.release_id)
    assert (ended.state, ended.note) == (State.ABORTED, "aborted, because the app was rolled back by night: bad answers")
    assert house.acts()[-2:] == ["release.abort", "rollback"]
    house.ready("v3")
    refused("rolled_back_already", roll_back, house)
    assert house.route.stable == house.bundles["v1"]


def test_without_a_last_good_bundle_a_waiting_release_is_left_alone(house: House):
    house.promoted("v1")
    waiting = house.ready("v2")
    refused("no_last_good", roll_back, house)
    assert house.releases.get(waiting.release_id) == waiting


def test_a_canary_that_was_given_up_stops_no_rollback(house: House):
    house.promoted("v1")
    house.promoted("v2")
    house.canary("v3")
    house.releases.abort(APP, reason="not now", actor=person("requester"))
    assert roll_back(house).bundle_id == house.bundles["v1"]
    refused("rolled_back_already", roll_back, house)
    house.canary("v3")
    house.releases.abort(APP, reason="not now", actor=person("requester"))
    refused("rolled_back_already", roll_back, house)


def test_an_app_that_was_switched_off_stays_off_until_a_bundle_is_in_service(house: House):
    house.promoted("v1")
    roll_back(house, "chief", to="off")
    house.canary("v2")
    assert (house.route.stable, house.route.without_stable) == (None, "off")
    house.releases.abort(APP, reason="not now", actor=person("requester"))
    assert (house.route.stable, house.route.candidate, house.route.without_stable) == (None, None, "off")
    house.promoted("v2")
    assert (house.route.stable, house.route.without_stable) == (house.bundles["v2"], "fallback")


def test_a_dry_run_says_what_would_happen_and_does_nothing(house: House):
    house.promoted("v1")
    house.promoted("v2")
    route, acts, history = house.route, house.acts(), house.releases.history(APP)
    release = roll_back(house, dry_run=True)
    assert (release.kind, release.bundle_id, release.previous_stable) == (Kind.ROLLBACK, house.bundles["v1"], house.bundles["v2"])
    assert (house.route, house.acts(), house.releases.history(APP)) == (route, acts, history)
    assert roll_back(house).release_id == release.release_id
    refused("rolled_back_already", roll_back, house, dry_run=True)
    with pytest.raises(NotPermitted):
        roll_back(house, "viewer", dry_run=True)


def test_nothing_is_taken_back_where_nothing_serves(house: House):
    refused("nothing_serves", roll_back, house)
    house.ready()
    refused("nothing_serves", roll_back, house)
    with pytest.raises(UsageError, match="reason"):
        house.releases.rollback(APP, reason="", actor=person("night"))


def test_it_asks_neither_for_a_review_nor_for_the_log(house: House):
    house.promoted("v1")
    house.promoted("v2")
    house.reviewer.failure = StoreError("lake", seen="it is gone")
    house.units.is_readable = False
    assert roll_back(house).bundle_id == house.bundles["v1"]


def test_a_plan_that_this_version_cannot_read_stops_no_rollback(house: House):
    house.promoted("v1")
    house.promoted("v2")
    with house.ledger.write() as act:
        act.connection.exec_driver_sql("UPDATE declarations SET content = '{\"steps\": 7}' WHERE kind = 'plan'")
    assert roll_back(house).bundle_id == house.bundles["v1"]
