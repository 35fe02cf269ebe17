"""A talk ends on the bundle that it began on, for as long as that may serve: the pure rule, and what a process remembers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.controls.test_assignment import ROUTE, UNITS
from workbench.controls.assignment import assign, bucket
from workbench.controls.beginnings import Beginnings
from workbench.controls.model import Assignment, Reason, Route
from workbench.observability.tables import ASSIGNED_BY

A, B, C = "support@aaaaaaaaaaaa", "support@bbbbbbbbbbbb", "support@cccccccccccc"
DRAINING = replace(ROUTE, drains=True)
MOVED = next(unit for unit in UNITS if 500 <= bucket(ROUTE.salt, unit) < 2500)
"""On stable at 5 %, on the candidate at 25 %."""
EARLY = next(unit for unit in UNITS if bucket(ROUTE.salt, unit) < 500)
"""On the candidate at 5 % already."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def step(route: Route, share: float) -> Route:
    return replace(route, share=share, route_version=route.route_version + 1)


AT_25 = step(DRAINING, 0.25)
TAKEN_BACK = replace(DRAINING, candidate=None, share=0.0, release_id=None, route_version=9)
PROMOTED = replace(DRAINING, stable=B, candidate=None, share=0.0, release_id=None, retiring=A, route_version=9)


def decided(found: Assignment) -> tuple[str | None, str, float, int, str | None]:
    return found.bundle_id, found.arm, found.share, found.route_version, found.release_id


# The rule


def test_a_talk_stays_over_a_step_with_the_share_and_version_of_its_beginning_in_both_arms():
    for unit, arm in ((MOVED, "stable"), (EARLY, "candidate")):
        began = assign(DRAINING, unit)
        later = assign(AT_25, unit, began=began)
        assert decided(later) == decided(began)
        assert (later.arm, later.share, later.reason) == (arm, 0.05, Reason.SESSION)
        assert assign(step(AT_25, 0.5), unit, began=later) == later
        assert assign(DRAINING, unit, began=began) == began, "nothing changed, so the bucket decided"
    assert assign(AT_25, MOVED).arm == "candidate", "its next talk goes over"


def test_a_candidate_that_was_taken_back_keeps_no_talk():
    began = assign(DRAINING, EARLY)
    assert decided(assign(TAKEN_BACK, EARLY, began=began)) == (A, "stable", 0.0, 9, None)
    off = replace(TAKEN_BACK, stable=None)
    assert assign(off, EARLY, began=began).bundle_id is None
    assert assign(off, MOVED, began=assign(DRAINING, MOVED)).bundle_id is None, "switched off is off for all"


def test_the_same_bundle_in_another_release_is_another_candidate():
    again = replace(DRAINING, release_id="support.8", salt="release-8", route_version=11)
    outside = next(unit for unit in UNITS if assign(DRAINING, unit).arm == "candidate" and assign(again, unit).arm == "stable")
    assert assign(again, outside, began=assign(DRAINING, outside)).bundle_id == A


def test_a_talk_from_before_the_release_stays_on_stable_and_says_nothing_in_its_comparison():
    began = assign(TAKEN_BACK, EARLY)
    found = assign(replace(DRAINING, route_version=10), EARLY, began=began)
    assert decided(found) == (A, "stable", 0.0, 10, "support.7")
    assert found.reason is Reason.SESSION


def test_after_the_last_promotion_talks_end_on_what_served_before_and_others_do_not_begin_there():
    began = assign(DRAINING, MOVED)
    assert decided(assign(PROMOTED, MOVED, began=began)) == decided(began)
    assert assign(PROMOTED, MOVED).bundle_id == B
    assert assign(PROMOTED, EARLY, began=assign(DRAINING, EARLY)).bundle_id == B
    assert assign(PROMOTED, MOVED, began=began, withheld=Reason.NOT_LOADED).bundle_id == B, "let go of, so the talk goes over"
    assert assign(replace(PROMOTED, retiring=None), MOVED, began=began).bundle_id == B


def test_while_the_candidate_is_withheld_its_talks_are_on_stable():
    began = assign(DRAINING, EARLY)
    found = assign(AT_25, EARLY, began=began, withheld=Reason.STALE_ROUTE)
    assert (found.bundle_id, found.share, found.reason) == (A, 0.0, Reason.STALE_ROUTE)


def test_of_the_talks_that_began_at_a_share_the_candidate_has_that_share_and_by_the_present_one_it_has_not():
    """What the judge rests on, counted over 10,000 units."""
    old = [assign(AT_25, unit, began=assign(DRAINING, unit)) for unit in UNITS]
    new = [assign(AT_25, unit) for unit in UNITS]
    for found, share in ((old, 0.05), (new, 0.25)):
        assert {one.share for one in found} == {share}
        assert abs(Counter(one.arm for one in found)["candidate"] / len(UNITS) - share) < 5 * (share * (1 - share) / len(UNITS)) ** 0.5


bundles = st.sampled_from([None, A, B, C])
routes = st.builds(
    lambda **parts: replace(DRAINING, **parts),
    stable=bundles,
    candidate=bundles,
    share=st.floats(0, 1),
    release_id=st.sampled_from([None, "support.7", "support.8"]),
    route_version=st.integers(1, 5),
    retiring=bundles,
    salt=st.sampled_from(["release-7", "release-8"]),
)
withholding = st.sampled_from([None, None, Reason.STALE_ROUTE, Reason.NOT_LOADED])


@settings(max_examples=400)
@given(st.lists(st.tuples(routes, withholding), min_size=1, max_size=8), st.text(min_size=1))
def test_whatever_routes_follow_each_other_nobody_is_served_by_what_the_route_does_not_allow(path, unit):
    began = None
    for route, withheld in path:
        found = assign(route, unit, withheld=withheld, began=began)
        fresh = assign(route, unit, withheld=withheld)
        if found.bundle_id != fresh.bundle_id:
            assert began is not None
            assert withheld is None
            allowed = {route.stable, route.candidate} if route.candidate else {route.retiring}
            assert found.bundle_id in allowed
            assert found.bundle_id == began.bundle_id, "it is where it was before, or where a talk begins now"
            if found.bundle_id == route.candidate:
                assert found.release_id == route.release_id, "of this very release"
        if withheld is not None or (route.candidate is None and route.retiring is None):
            assert found == fresh
        began = found


# What a process remembers


def test_without_a_session_the_bucket_decides_and_nothing_is_remembered():
    talks = Beginnings()
    for session, unit in ((None, MOVED), ("", MOVED), ("s-1", None)):
        talks.assign(DRAINING, unit, session, withheld=None)
        assert talks.assign(AT_25, unit, session, withheld=None) == assign(AT_25, unit)
    assert len(talks) == 0


def test_a_route_that_does_not_drain_is_followed_at_once_and_nothing_is_remembered():
    talks = Beginnings()
    talks.assign(ROUTE, MOVED, "s-1", withheld=None)
    assert talks.assign(step(ROUTE, 0.25), MOVED, "s-1", withheld=None).arm == "candidate"
    assert len(talks) == 0


def test_a_talk_is_its_apps_its_units_and_its_sessions():
    talks = Beginnings()
    talks.assign(DRAINING, MOVED, "s-1", withheld=None)
    other = next(unit for unit in UNITS if 500 <= bucket(ROUTE.salt, unit) < 2500 and unit != MOVED)
    assert talks.assign(AT_25, MOVED, "s-1", withheld=None).arm == "stable"
    assert talks.assign(AT_25, MOVED, "s-2", withheld=None).arm == "candidate"
    assert talks.assign(AT_25, other, "s-1", withheld=None).arm == "candidate"
    assert talks.assign(replace(AT_25, app="other"), MOVED, "s-1", withheld=None).arm == "candidate"


def test_another_process_decides_by_the_bucket():
    Beginnings().assign(DRAINING, MOVED, "s-1", withheld=None)
    assert Beginnings().assign(AT_25, MOVED, "s-1", withheld=None) == assign(AT_25, MOVED)


def test_the_talk_that_was_silent_for_longest_makes_room():
    talks = Beginnings(most=3)
    for session in ("s-1", "s-2", "s-3", "s-1", "s-4"):
        talks.assign(DRAINING, MOVED, session, withheld=None)
        assert len(talks) <= 3
    arms = {session: talks.assign(AT_25, MOVED, session, withheld=None).arm for session in ("s-1", "s-3", "s-4", "s-2")}
    assert arms == {"s-1": "stable", "s-3": "stable", "s-4": "stable", "s-2": "candidate"}


def test_a_talk_that_was_silent_or_went_on_for_too_long_begins_anew():
    clock = Clock()
    talks = Beginnings(idle_s=10, longest_s=25, monotonic=clock)
    talks.assign(DRAINING, MOVED, "s-1", withheld=None)
    arms = []
    for gap_s in (9, 9, 9):
        clock.now += gap_s
        arms.append(talks.assign(AT_25, MOVED, "s-1", withheld=None).arm)
    assert arms == ["stable", "stable", "candidate"]
    talks.assign(DRAINING, MOVED, "s-2", withheld=None)
    clock.now += 11
    assert talks.assign(AT_25, MOVED, "s-2", withheld=None).arm == "candidate"


def test_talks_that_are_over_are_let_go_of_as_others_come():
    clock = Clock()
    talks = Beginnings(idle_s=10, monotonic=clock)
    for number in range(100):
        talks.assign(DRAINING, MOVED, f"s-{number}", withheld=None)
    clock.now += 11
    for number in range(60):
        talks.assign(DRAINING, MOVED, f"t-{number}", withheld=None)
    assert len(talks) == 60


def test_a_talk_goes_back_to_its_candidate_when_that_may_serve_again_and_not_after_a_rollback():
    talks = Beginnings()
    talks.assign(DRAINING, EARLY, "s-1", withheld=None)
    assert talks.assign(DRAINING, EARLY, "s-1", withheld=Reason.STALE_ROUTE).arm == "stable"
    assert talks.assign(DRAINING, EARLY, "s-1", withheld=None).arm == "candidate"
    assert talks.assign(TAKEN_BACK, EARLY, "s-1", withheld=Reason.NOT_LOADED).bundle_id == A
    again = replace(DRAINING, release_id="support.8", route_version=11)
    assert talks.assign(again, EARLY, "s-1", withheld=None).bundle_id == A, "it is stable's by now, and stays so"


def test_a_talk_that_began_while_the_candidate_was_loading_stays_on_stable():
    talks = Beginnings()
    talks.assign(DRAINING, EARLY, "s-1", withheld=Reason.NOT_LOADED)
    found = talks.assign(DRAINING, EARLY, "s-1", withheld=None)
    assert (found.arm, found.share, found.reason) == ("stable", 0.0, Reason.SESSION)


def test_the_log_takes_every_reason():
    assert {str(reason) for reason in Reason} == set(ASSIGNED_BY)
