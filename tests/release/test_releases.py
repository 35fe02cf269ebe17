"""A release from its start to its end, each act with its route and its audit entry."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from tests.release.house import APP, SPECS, House, login, person, refused, slack
from workbench.errors import ConflictError, IntegrityError, NotPermitted, ReleaseRefused, StoreError, UnknownSubject, UsageError
from workbench.readiness.model import ReviewVerdict
from workbench.release.model import Kind, Release, State


def test_a_first_release_goes_by_steps_to_everybody(house: House):
    release = house.ready()
    assert (release.release_id, release.state, release.previous_stable) == ("shop.1", State.READY, None)
    assert house.route is None, "nothing serves before the canary"
    release = house.releases.approve("shop.1", actor=person("approver"))
    assert (release.state, release.version, house.route) == (State.APPROVED, 3, None)

    shares = []
    for units in (0, 100, 100, 500):
        house.units.n = units
        release = house.releases.promote("shop.1", actor=person("requester"))
        shares.append((release.state, house.route.stable, house.route.candidate, house.route.share, house.route.release_id))
        house.clock.forward(hours=1)
    v2 = house.bundles["v2"]
    assert shares == [
        (State.CANARY, None, v2, 0.05, "shop.1"),
        (State.CANARY, None, v2, 0.25, "shop.1"),
        (State.CANARY, None, v2, 1.0, "shop.1"),
        (State.PROMOTED, v2, None, 0.0, None),
    ]
    assert house.route.version == 4
    assert house.route.without_stable == "fallback"
    assert not release.is_open
    acts = ["release.start", "release.ready", "release.approve", *["release.promote"] * 4]
    assert house.acts() == acts
    assert [entry.act for entry in house.releases.entries("shop.1")] == acts


def test_each_release_has_its_own_salt_and_keeps_it_through_its_steps(house: House):
    house.canary()
    first = house.route.salt
    house.releases.promote(APP, early="go on", actor=person("requester"))
    assert (house.route.salt, len(first)) == (first, 32)
    house.releases.abort(APP, reason="enough", actor=person("requester"))
    house.canary("v3")
    assert house.route.salt != first


def test_the_review_compares_with_what_is_in_service(house: House):
    house.releases.adopt(APP, "v1", reason="serves since March", actor=person("approver"))
    house.ready()
    assert house.reviewer.baselines == [house.bundles["v1"]]


def test_whoever_releases_does_not_choose_what_it_is_measured_by(house: House):
    house.releases.start(APP, "v2", baseline=house.bundles["v3"], reason="the first one", actor=person("requester"))
    house.releases.abort(APP, reason="not yet", actor=person("requester"))
    house.releases.adopt(APP, "v1", reason="serves since March", actor=person("approver"))
    with pytest.raises(UsageError, match="needed: no other baseline than what serves"):
        house.releases.start(APP, "v2", baseline=house.bundles["v3"], reason="x", actor=person("requester"))
    house.releases.start(APP, "v2", baseline=house.bundles["v1"], reason="x", actor=person("requester"))
    assert house.reviewer.baselines == [house.bundles["v3"], house.bundles["v1"]]


def test_a_bundle_that_its_gates_stop_is_an_ended_release_with_their_sentences(house: House):
    house.reviewer.verdict = ReviewVerdict.NO_GO
    release = house.ready()
    assert (release.state, release.is_open) == (State.ABORTED, False)
    assert release.note == "stopped at its gates: NO_GO: as told. Speed: speed is bad."
    assert house.route is None
    assert house.acts() == ["release.start", "release.stop"]
    house.reviewer.verdict = ReviewVerdict.GO
    assert house.ready().release_id == "shop.2"


def test_a_review_that_cannot_be_made_leaves_no_open_release(house: House):
    house.reviewer.failure = IntegrityError("lake", seen="a file is gone")
    with pytest.raises(IntegrityError):
        house.ready()
    (release,) = house.releases.history(APP)
    assert (release.state, release.note) == (State.ABORTED, "its review could not be made: lake: a file is gone")
    house.reviewer.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        house.ready()
    assert house.releases.open() == ()
    house.reviewer.failure = None
    assert house.ready().state is State.READY


def test_declarations_that_change_during_the_review_stop_the_release(house: House):
    review = house.reviewer.review

    def changing(*args, **named):
        made = review(*args, **named)
        house.declare(plan={"steps": [{"share": 1.0, "at_least": "1m"}]})
        return made

    house.reviewer.review = changing
    release = house.ready()
    assert release.state is State.ABORTED
    assert "changed while it was reviewed" in release.note


def test_a_draft_whose_process_was_killed_is_finished_by_whoever_began_it(house: House):
    house.reviewer.failure = StoreError("ledger", seen="the process was killed here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(house.releases, "_given_up_when_broken", lambda _draft, _doer: nullcontext())
        with pytest.raises(StoreError):
            house.ready()
    house.reviewer.failure = None
    assert house.releases.get(APP).state is State.DRAFT
    assert "review is being made" in house.releases.status(APP).next_steps[0]
    with pytest.raises(ConflictError, match=r"shop\.1 of shop@\w+ is DRAFT; requester asked for it"):
        house.releases.start(APP, "v2", reason="mine", actor=person("both"))
    with pytest.raises(ConflictError):
        house.ready("v3")
    release = house.releases.start(APP, "v2", reason="once more", actor=person("requester"))
    assert (release.release_id, release.state, release.reason) == ("shop.1", State.READY, "once more")
    assert house.acts() == ["release.start", "release.start", "release.ready"]


def test_of_two_starts_of_one_draft_the_one_that_breaks_leaves_the_other_its_draft(house: House):
    reviewing, other_reviews, ended = threading.Event(), threading.Event(), []
    review = house.reviewer.review

    def first(*_: object, **__: object):
        house.reviewer.review = second
        reviewing.set()
        assert other_reviews.wait(20)
        raise KeyboardInterrupt

    def second(*about: object, **named: object):
        other_reviews.set()
        thread.join()
        return review(*about, **named)

    def start_and_break() -> None:
        with pytest.raises(KeyboardInterrupt):
            house.ready()
        ended.append(house.releases.get(APP).state)

    house.reviewer.review = first
    thread = threading.Thread(target=start_and_break)
    thread.start()
    assert reviewing.wait(20)
    release = house.ready()
    assert ended == [State.DRAFT]
    assert (release.release_id, release.state) == ("shop.1", State.READY)


def test_of_two_starts_of_one_draft_both_tell_what_the_first_review_said(house: House):
    review, said = house.reviewer.review, []

    def overtaken(*about: object, **named: object):
        house.reviewer.review = review
        said.append(house.ready())
        return review(*about, **named)

    house.reviewer.review = overtaken
    house.reviewer.verdict = ReviewVerdict.NO_GO
    release = house.ready()
    assert [each.state for each in (release, *said)] == [State.ABORTED] * 2
    assert release.note == said[0].note
    assert house.acts() == ["release.start", "release.stop"], "the same start again is no act of its own"


def test_there_is_one_open_release_of_an_app(house: House):
    house.ready()
    with pytest.raises(
        ConflictError, match=r"shop\.1 of shop@\w+ is READY; requester asked for it; needed: one release of an app at a time"
    ):
        house.ready("v3")
    assert len(house.releases.history(APP)) == 1


def test_what_serves_already_is_not_released_again(house: House):
    house.promoted("v2")
    refused("serves_already", house.ready, "v2")


def test_an_unknown_bundle_app_or_release_is_named(house: House):
    with pytest.raises(UnknownSubject, match="bundle v9: no registered bundle of app shop"):
        house.ready("v9")
    with pytest.raises(UnknownSubject, match="app bank"):
        house.releases.start("bank", reason="x", actor=person("requester"))
    with pytest.raises(UnknownSubject, match=r"release shop\.7: no release has this id"):
        house.releases.approve("shop.7", actor=person("approver"))
    with pytest.raises(UnknownSubject):
        house.releases.get("shop")


def test_an_act_without_a_reason_is_no_act(house: House):
    for reason in ("", " \n", "x" * 1001):
        with pytest.raises(UsageError, match="reason"):
            house.releases.start(APP, "v2", reason=reason, actor=person("requester"))
    assert house.acts() == []


def test_a_step_waits_for_its_time_and_its_units(house: House):
    house.canary()
    error = refused("not_yet", house.releases.promote, APP, actor=person("requester"))
    assert error.exit_code == 3
    assert "at least 30m, until 2026-10-05 09:30 UTC" in error.seen
    assert "takes 100 different units; the candidate has served 0" in error.seen
    house.clock.forward(minutes=30)
    assert "at least" not in refused("not_yet", house.releases.promote, APP, actor=person("requester")).seen
    house.units.n = 99
    refused("not_yet", house.releases.promote, APP, actor=person("requester"))
    house.units.n = 100
    assert house.releases.promote(APP, actor=person("requester")).step == 1


def test_a_log_that_cannot_be_read_is_not_enough_units(house: House):
    house.canary()
    house.clock.forward(hours=2)
    house.units.is_readable = False
    assert "is unknown" in refused("not_yet", house.releases.promote, APP, actor=person("requester")).seen


def test_a_step_is_cut_short_with_a_reason_that_stands_in_the_audit(house: House):
    house.canary()
    house.releases.promote(APP, early="the marketing mail goes out", actor=person("requester"))
    detail = house.audit()[-1].detail
    assert detail["early"] == "the marketing mail goes out"
    assert len(detail["not_waited_for"]) == 2


def test_a_held_canary_keeps_its_share_and_goes_no_further(house: House):
    house.canary()
    before = house.route
    release = house.releases.hold(APP, reason="odd answers", actor=person("night"))
    assert (release.state, release.step, release.note) == (State.HELD, 0, "held by night: odd answers")
    assert house.route == before
    house.clock.forward(hours=5)
    house.units.n = 1000
    refused("wrong_state", house.releases.promote, APP, actor=person("requester"))
    release = house.releases.resume(APP, actor=person("requester"))
    assert (release.state, release.note, house.route) == (State.CANARY, "", before)
    assert house.releases.promote(APP, actor=person("requester")).step == 1, "the time that it was held counts"


@pytest.mark.parametrize("state", [State.READY, State.APPROVED, State.CANARY, State.HELD])
def test_a_release_is_given_up_from_anywhere_and_its_candidate_serves_nobody(house: House, state: State):
    house.releases.adopt(APP, "v1", reason="serves", actor=person("approver"))
    release = house.ready()
    if state is not State.READY:
        house.releases.approve(release.release_id, actor=person("approver"))
    if state in (State.CANARY, State.HELD):
        house.releases.promote(release.release_id, actor=person("requester"))
    if state is State.HELD:
        house.releases.hold(release.release_id, reason="odd", actor=person("requester"))
    release = house.releases.abort(release.release_id, reason="not now", actor=person("both"))
    assert (release.state, release.note) == (State.ABORTED, "aborted by both: not now")
    assert (house.route.stable, house.route.candidate, house.route.share) == (house.bundles["v1"], None, 0)
    refused("wrong_state", house.releases.abort, release.release_id, reason="again", actor=person("both"))


def test_an_act_on_another_version_is_refused_and_changes_nothing(house: House):
    release = house.canary()
    acts = house.acts()
    calls = [
        lambda v: house.releases.promote(APP, early="x", expected_version=v, actor=person("requester")),
        lambda v: house.releases.hold(APP, reason="x", expected_version=v, actor=person("requester")),
        lambda v: house.releases.abort(APP, reason="x", expected_version=v, actor=person("requester")),
    ]
    for call in calls:
        for version in (release.version - 1, release.version + 1):
            with pytest.raises(
                ConflictError, match=rf"release shop\.1: it is CANARY at version {release.version}; needed: version {version}"
            ):
                call(version)
    assert (house.acts(), house.releases.get(APP)) == (acts, release)
    calls[0](release.version)
    with pytest.raises(ConflictError):
        calls[0](release.version)


def test_a_candidate_whose_parts_are_gone_gets_no_traffic(house: House):
    release = house.ready()
    house.releases.approve(release.release_id, actor=person("approver"))
    with house.ledger.write() as act:
        act.connection.exec_driver_sql("UPDATE blobs SET content = x'00'")
    with pytest.raises(IntegrityError, match="no longer matches its digest"):
        house.releases.promote(release.release_id, actor=person("requester"))
    assert house.route is None


def test_a_route_that_somebody_else_wrote_stops_a_promotion_and_not_a_rollback(house: House):
    house.canary()
    with house.ledger.write() as act:
        act.connection.exec_driver_sql("UPDATE routes SET share = 0.9")
    with pytest.raises(IntegrityError, match=r"as release shop\.1 left it"):
        house.releases.promote(APP, early="x", actor=person("requester"))
    house.releases.rollback(APP, reason="odd route", actor=person("night"))
    assert (house.route.candidate, house.route.share) == (None, 0)


def test_an_app_in_service_enters_with_the_bundle_that_serves(house: House):
    release = house.releases.adopt(APP, "v1", reason="serves since March", actor=person("approver"))
    assert (release.kind, release.state, release.bundle_id, release.is_open) == (Kind.ADOPT, State.PROMOTED, house.bundles["v1"], False)
    assert (house.route.stable, house.route.candidate, house.route.share, house.route.version) == (house.bundles["v1"], None, 0, 1)
    with pytest.raises(ConflictError, match="serves it since an earlier release"):
        house.releases.adopt(APP, "v2", reason="no, this one", actor=person("approver"))
    with pytest.raises(NotPermitted):
        house.releases.adopt(APP, "v2", reason="mine", actor=person("requester"))


def test_where_the_risk_is_high_nobody_adopts_what_they_registered(house: House):
    house.declare(app={**SPECS["app"], "risk_tier": "high"})
    house.bundle("v4", by=person("both"))
    with pytest.raises(NotPermitted, match=r"both registered its bundle; needed: somebody else to adopt it, because the risk tier is high"):
        house.releases.adopt(APP, "v4", reason="serves", actor=person("both"))
    assert house.route is None
    assert house.releases.history(APP) == ()
    assert house.acts()[-1] == "release.refused"
    house.releases.adopt(APP, "v4", reason="serves", actor=person("approver"))
    assert house.route.stable == house.releases.history(APP)[0].bundle_id


@pytest.mark.parametrize("tier", ["low", "medium"])
def test_where_the_risk_is_lower_one_person_says_what_serves(house: House, tier: str):
    house.declare(app={**SPECS["app"], "risk_tier": tier})
    house.bundle("v4", by=person("both"))
    assert house.releases.adopt(APP, "v4", reason="serves", actor=person("both")).state is State.PROMOTED


def test_nobody_adopts_while_a_release_is_open(house: House):
    house.ready()
    with pytest.raises(ConflictError):
        house.releases.adopt(APP, "v1", reason="serves", actor=person("approver"))


@pytest.mark.parametrize(
    ("act", "names"),
    [
        ("start", {"requester", "both", "chief"}),
        ("adopt", {"approver", "both", "chief"}),
        ("lock", {"requester", "both", "chief"}),
        ("freeze", {"requester", "approver", "both", "chief"}),
        ("rollback", {"requester", "approver", "both", "chief", "night"}),
    ],
)
def test_exactly_these_people_may_do_the_act(house: House, act: str, names: set[str]):
    calls = {
        "start": lambda who: house.releases.start(APP, "v2", reason="x", actor=who),
        "adopt": lambda who: house.releases.adopt(APP, "v2", reason="x", actor=who),
        "lock": lambda who: house.releases.lock(APP, "x", actor=who),
        "freeze": lambda who: house.releases.freeze(APP, "x", actor=who),
        "rollback": lambda who: house.releases.rollback(APP, reason="x", actor=who),
    }
    allowed = set()
    for name in ("requester", "approver", "both", "chief", "night", "viewer", "stranger"):
        try:
            calls[act](person(name))
        except NotPermitted:
            continue
        except (ConflictError, ReleaseRefused):
            pass
        allowed.add(name)
    assert allowed == names


def test_a_refused_act_of_a_known_person_stands_in_the_audit_and_a_strangers_does_not(house: House):
    house.canary()
    before = len(house.audit())
    with pytest.raises(NotPermitted):
        house.releases.promote(APP, actor=person("viewer"))
    refused("not_yet", house.releases.promote, APP, actor=person("requester"))
    with pytest.raises(NotPermitted):
        house.releases.promote(APP, actor=person("stranger"))
    first, second = house.audit()[before:]
    assert (first.act, first.actor, first.subject) == ("release.refused", "viewer", "shop.1")
    assert first.detail["act"] == "release.promote"
    assert (first.detail["reason"], second.detail["reason"]) == ("not_permitted", "not_yet")


def test_who_listens_hears_of_every_change_after_it_is_stored_and_cannot_undo_it(house: House, caplog):
    heard = []

    class Listener:
        def on_transition(self, release: Release, entry) -> None:
            heard.append((entry.act, release.state))
            assert house.releases.get(release.release_id).version == release.version
            raise RuntimeError("the chat is down")

    house.releases.listen(Listener())
    house.canary()
    assert heard == [
        ("release.start", State.DRAFT),
        ("release.ready", State.READY),
        ("release.approve", State.APPROVED),
        ("release.promote", State.CANARY),
    ]
    assert "a listener failed after release.promote of release shop.1" in caplog.text


def test_one_human_is_one_person_whichever_edge_they_come_by(house: House):
    release = house.releases.start(APP, "v2", reason="x", actor=login("bo"))
    assert release.requested_by == "both"
    with pytest.raises(NotPermitted, match="both asked for this release"):
        house.releases.approve(release.release_id, actor=slack("U3"))
    assert house.releases.approve(release.release_id, actor=slack("U2")).state is State.APPROVED
    assert house.audit()[-1].detail["person"] == "approver"
