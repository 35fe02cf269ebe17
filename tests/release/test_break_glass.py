"""A release that one person lets go alone: what it replaces (a second person), what not, who hears of it, and the review that it owes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.release.house import APP, PEOPLE, SPECS, House, login, person, refused, slack
from workbench.errors import ConflictError, NotPermitted, UsageError
from workbench.ledger.audit import verify
from workbench.readiness.antipatterns import alone
from workbench.readiness.model import ReviewVerdict
from workbench.release.collecting import Collected
from workbench.release.model import State
from workbench.views.release import history_text, status_text, transition_line


def break_glass(house: House, who="requester", reason: str = "refunds are wrong", **more):
    actor = person(who) if isinstance(who, str) else who
    return house.releases.break_glass(APP, reason=reason, actor=actor, **more)


def reviewed(house: House, who="approver", verdict: str = "justified", release: str = "shop.1"):
    actor = person(who) if isinstance(who, str) else who
    return house.releases.reviewed(release, verdict=verdict, reason="they were wrong indeed", actor=actor)


@pytest.mark.parametrize("who", ["requester", "night"])
def test_an_operator_or_whoever_is_on_call_lets_a_release_go_alone(house: House, who: str):
    house.ready()
    assert break_glass(house, who).state is State.APPROVED
    assert house.releases.promote(APP, actor=person("requester")).state is State.CANARY


@pytest.mark.parametrize("who", ["viewer", "chief", "approver", "stranger"])
def test_nobody_else_does(house: House, who: str):
    house.ready()
    with pytest.raises(NotPermitted, match=r"release\.break_glass"):
        break_glass(house, who)
    assert house.releases.get(APP).state is State.READY
    assert house.releases.broken_glass(APP) == ()


def test_it_is_for_what_was_reviewed_and_for_one_hour(house: House):
    release = house.ready()
    break_glass(house)
    (approval,) = house.releases.status(APP).approvals
    assert (approval.person, approval.is_approved, approval.is_alone) == ("requester", True, True)
    assert (approval.binds.review, approval.expires_at - approval.decided_at) == (release.review_id, timedelta(hours=1))
    house.clock.forward(hours=1)
    refused("approval_expired", house.releases.promote, APP, actor=person("requester"))
    assert house.releases.approve(APP, actor=person("approver")).state is State.APPROVED, "a second person may still come"


def test_it_is_void_when_what_it_was_for_changes(house: House):
    house.ready()
    break_glass(house)
    house.declare(rota={**SPECS["rota"], "zone": "Europe/Paris"})
    refused("declarations_changed", house.releases.promote, APP, actor=person("requester"))


def test_a_review_that_says_no_is_not_overridden(house: House):
    house.ready()
    house.reviewer.verdict = ReviewVerdict.NO_GO
    house.reviewer.review(APP, "v2", actor=person("approver"))
    refused("superseded", break_glass, house)
    house.reviewer.verdict = ReviewVerdict.NOT_ENOUGH_EVIDENCE
    house.releases.abort(APP, reason="again", actor=person("requester"))
    stopped = house.releases.start(APP, "v3", reason="x", actor=person("requester"))
    assert stopped.state is State.ABORTED
    refused("wrong_state", house.releases.break_glass, stopped.release_id, reason="now", actor=person("requester"))


def test_a_review_that_is_old_is_not_either(house: House):
    house.ready()
    house.clock.forward(hours=25)
    refused("review_old", break_glass, house)


def test_freezes_locks_and_the_steps_of_the_plan_stay(house: House):
    house.ready()
    house.releases.freeze(APP, "holidays", actor=person("approver"))
    break_glass(house)
    refused("frozen", house.releases.promote, APP, actor=person("requester"))
    house.releases.unfreeze(APP, "they are over", actor=person("requester"))
    house.releases.lock(APP, "mine", actor=person("both"))
    refused("locked", house.releases.promote, APP, actor=person("requester"))
    house.releases.unlock(APP, actor=person("both"))
    assert house.releases.promote(APP, actor=person("requester")).present_step.share == 0.05
    refused("not_yet", house.releases.promote, APP, actor=person("requester"))


def test_who_may_approve_it_as_a_second_person_breaks_nothing(house: House):
    house.ready()
    error = refused("no_need", break_glass, house, "both")
    assert "approve it without breaking the glass" in error.next_step
    house.releases.abort(APP, reason="again", actor=person("requester"))
    house.releases.start(APP, "v2", reason="mine", actor=person("both"))
    assert break_glass(house, "both").state is State.APPROVED, "who asked for it is no second person"


def test_it_takes_a_reason_and_the_version_that_was_looked_at(house: House):
    release = house.ready()
    with pytest.raises(UsageError, match="reason: it is empty"):
        break_glass(house, reason=" ")
    with pytest.raises(ConflictError):
        break_glass(house, expected_version=release.version - 1)
    refused("superseded", break_glass, house, review_id="sha256:00")
    assert house.releases.broken_glass(APP) == ()


def test_a_login_of_the_machine_is_too_weak_where_the_risk_is_high(house: House):
    house.declare(app={**SPECS["app"], "risk_tier": "high"})
    house.ready()
    with pytest.raises(NotPermitted, match="it takes a verified identity"):
        break_glass(house, login("rita"))
    break_glass(house, slack("U1"))
    with pytest.raises(NotPermitted, match="it takes a verified identity"):
        reviewed(house, login("anna"))
    reviewed(house, slack("U2"))


def test_the_audit_says_who_was_to_be_told_and_everybody_reads_it(house: House):
    house.ready()
    break_glass(house)
    entry = house.audit()[-1]
    assert (entry.act, entry.actor, entry.detail["on_call"]) == ("release.break_glass", "requester", ["night"])
    assert entry.detail["called"] == ["night", "approver", "both"]
    line = transition_line(entry)
    for words in (
        "BROKE THE GLASS",
        "refunds are wrong",
        "until 2026-10-05 10:00 UTC",
        "night, approver, both",
        "until 2026-10-08 09:00 UTC",
    ):
        assert words in line
    with house.ledger.read() as connection:
        assert verify(connection).is_whole


def test_a_listener_hears_of_it_at_once(house: House):
    heard = []

    class Listener:
        def on_transition(self, release, entry) -> None:
            heard.append((entry.act, release.release_id))

    house.ready()
    house.releases.listen(Listener())
    break_glass(house)
    reviewed(house)
    assert heard == [("release.break_glass", "shop.1"), ("release.reviewed", "shop.1")]


def test_it_waits_for_its_review_wherever_people_look(house: House):
    house.ready()
    break_glass(house)
    status = status_text(house.releases.status(APP))
    assert "requester broke the glass and alone approved it at 2026-10-05 09:00 UTC, for use until 10:00 UTC" in " ".join(status.split())
    assert "a second person's review is due at 2026-10-08 09:00 UTC" in " ".join(status.split())
    assert "not reviewed yet" in " ".join(history_text(APP, house.releases.history(APP), house.releases.broken_glass(APP)).split())
    (finding,) = alone(Collected(house.ledger).unreviewed(APP), now=house.clock())
    assert (finding.lint_id, "requester let shop.1 go alone" in finding.sentence) == ("released-alone", True)
    assert "is due" in finding.sentence
    house.releases.abort(APP, reason="not this one", actor=person("requester"))
    house.ready("v3")
    assert "shop.1: requester let it go alone" in " ".join(status_text(house.releases.status(APP)).split()), "also beside a later release"
    house.clock.forward(days=3)
    assert "overdue since" in " ".join(status_text(house.releases.status(APP)).split())
    assert "was due" in alone(Collected(house.ledger).unreviewed(APP), now=house.clock())[0].sentence


@pytest.mark.parametrize("verdict", ["justified", "not_justified"])
def test_a_second_person_closes_it_and_the_release_stays_what_it_is(shared_house: House, verdict: str):
    house = shared_house
    house.ready()
    break_glass(house)
    before = house.releases.promote(APP, actor=person("requester"))
    after = reviewed(house, verdict=verdict)
    assert (after.state, after.version) == (before.state, before.version)
    (glass,) = house.releases.broken_glass(APP)
    assert (glass.verdict, glass.reviewed_by, glass.review_reason, glass.is_open) == (verdict, "approver", "they were wrong indeed", False)
    assert house.audit()[-1].detail["verdict"] == verdict
    assert Collected(house.ledger).unreviewed(APP) == ()
    assert f"{verdict.replace('_', ' ')}, says approver" in " ".join(history_text(APP, house.releases.history(APP), (glass,)).split())
    refused("nothing_to_review", reviewed, house)


@pytest.mark.parametrize("who", ["requester", "viewer", "night", "chief"])
def test_without_the_role_nobody_reviews_it(house: House, who: str):
    house.ready()
    break_glass(house, "night")
    with pytest.raises(NotPermitted, match=r"release\.reviewed"):
        reviewed(house, who)


def test_who_broke_it_who_asked_for_it_and_who_registered_it_do_not_review_it(house: House):
    house.bundle("v4", by=person("both"))
    house.ready("v4")
    break_glass(house, "night")
    with pytest.raises(NotPermitted, match="both registered its bundle"):
        reviewed(house, "both")
    house.releases.abort(APP, reason="x", actor=person("requester"))
    house.releases.start(APP, "v2", reason="mine", actor=person("both"))
    break_glass(house, "night")
    with pytest.raises(NotPermitted, match="both asked for this release"):
        reviewed(house, "both", release="shop.2")
    house.clock.forward(hours=1)
    break_glass(house, "both")
    with pytest.raises(NotPermitted, match="both let it go alone; needed: the review of a second person"):
        reviewed(house, "both", release="shop.2")
    house.declare(people={"people": {**PEOPLE, "auditor": {"os": ["otto"], "roles": {APP: ["risk_owner"]}}}})
    for release in ("shop.1", "shop.2"):
        reviewed(house, "auditor", release=release)
    assert not any(glass.is_open for glass in house.releases.broken_glass(APP)), "of shop.2 both"


def test_who_broke_it_is_the_same_human_under_a_new_name(house: House):
    house.declare(people={"people": {**PEOPLE, "both": {**PEOPLE["both"], "roles": {APP: ["operator"]}}}})
    house.ready()
    break_glass(house, slack("U3"))
    others = {name: somebody for name, somebody in PEOPLE.items() if name != "both"}
    house.declare(people={"people": {**others, "new": {"slack": ["U3"], "roles": {APP: ["approver"]}}}})
    with pytest.raises(NotPermitted, match="new let it go alone"):
        reviewed(house, slack("U3"))


def test_while_a_review_is_overdue_nobody_breaks_it_again(house: House):
    house.ready()
    break_glass(house)
    house.releases.abort(APP, reason="x", actor=person("requester"))
    house.ready("v3")
    break_glass(house, "night")
    house.releases.abort(APP, reason="x", actor=person("requester"))
    house.clock.forward(days=3)
    house.ready("v3")
    error = refused("review_overdue", break_glass, house, "night")
    assert "requester let shop.1 go alone, and its review was due at 2026-10-08 09:00 UTC" in error.seen
    reviewed(house)
    refused("review_overdue", break_glass, house, "night")
    reviewed(house, release="shop.2")
    assert break_glass(house, "night").state is State.APPROVED


def test_a_rollback_asks_for_nothing_of_it(house: House):
    house.promoted("v1")
    house.ready("v2")
    break_glass(house)
    house.releases.promote(APP, actor=person("requester"))
    house.clock.forward(days=10)
    assert house.releases.rollback(APP, reason="worse", actor=person("night")).state is State.ROLLED_BACK


def test_there_are_two_verdicts(house: House):
    house.ready()
    break_glass(house)
    with pytest.raises(UsageError, match="justified or not_justified"):
        reviewed(house, verdict="fine")
