"""The two-person rule: who approves, what for, and what makes an approval void."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.release.house import APP, PEOPLE, PLAN, House, login, person, refused, slack
from workbench.errors import ConflictError, NotPermitted
from workbench.ledger.tables import approvals, releases
from workbench.readiness.model import ReviewVerdict
from workbench.release.model import State


def approve(house: House, who: str = "approver", **more):
    return house.releases.approve(APP, actor=person(who), **more)


@pytest.mark.parametrize("who", ["requester", "chief", "viewer", "night", "stranger"])
def test_without_the_role_nobody_approves(house: House, who: str):
    house.ready()
    with pytest.raises(NotPermitted, match=r"release\.approve"):
        approve(house, who)
    assert house.releases.get(APP).state is State.READY


def test_who_asked_for_it_is_no_second_person(house: House):
    house.releases.start(APP, "v2", reason="mine", actor=person("both"))
    with pytest.raises(NotPermitted, match="both asked for this release; needed: the approval of a second person"):
        approve(house, "both")
    assert approve(house).state is State.APPROVED


@pytest.mark.parametrize("registrar", [person("both"), login("bo"), slack("U3")], ids=["by name", "by login", "by Slack"])
def test_who_registered_the_bundle_is_no_second_person_by_any_of_their_names(house: House, registrar):
    house.bundle("v4", by=registrar)
    house.ready("v4")
    with pytest.raises(NotPermitted, match="both registered its bundle"):
        approve(house, "both")
    assert house.releases.status(APP).may_approve == ("approver",)


def test_a_login_that_registered_before_anybody_was_declared_is_still_no_second_person(house: House):
    with house.ledger.write() as act:
        act.connection.exec_driver_sql("UPDATE bundles SET registered_by = 'bo'")
    house.ready()
    with pytest.raises(NotPermitted, match="both registered its bundle"):
        approve(house, "both")


def renamed(**identities) -> dict:
    """The people, with whoever was `both` declared anew under another name."""
    others = {name: somebody for name, somebody in PEOPLE.items() if name != "both"}
    return {"people": {**others, "new": {"contact": "pager", "roles": {APP: ["approver"]}, **identities}}}


@pytest.mark.parametrize("identities", [{"os": ["bo"]}, {"slack": ["U3"]}], ids=["login", "Slack"])
@pytest.mark.parametrize("registrar", [person("both"), login("bo"), slack("U3")], ids=["by name", "by login", "by Slack"])
def test_who_registered_the_bundle_stays_the_same_human_under_a_new_name(house: House, registrar, identities):
    house.bundle("v4", by=registrar)
    house.declare(people=renamed(**identities))
    house.ready("v4")
    with pytest.raises(NotPermitted, match="new registered its bundle"):
        approve(house, "new")
    assert house.releases.status(APP).may_approve == ("approver",)
    assert approve(house).state is State.APPROVED


def test_somebody_else_under_the_registrars_old_name_does_not_free_the_registrar(house: House):
    house.bundle("v4", by=person("both"))
    people = renamed(os=["bo"])["people"]
    house.declare(people={"people": {**people, "both": {"os": ["other"], "roles": {APP: ["viewer"]}}}})
    house.ready("v4")
    with pytest.raises(NotPermitted, match="new registered its bundle"):
        approve(house, "new")


def test_where_nothing_says_who_registered_the_bundle_nobody_approves(house: House):
    with house.ledger.write() as act:
        act.connection.exec_driver_sql("UPDATE bundles SET registered_by = 'gone'")
    house.ready()
    with pytest.raises(NotPermitted, match=r"registered by gone, and no people\.yaml says who that is; needed: the approval of a second"):
        approve(house)
    assert house.releases.status(APP).may_approve == ()


def test_an_undeclared_login_that_registered_is_somebody_else(house: House):
    with house.ledger.write() as act:
        act.connection.exec_driver_sql("UPDATE bundles SET registered_by = 'os:robot'")
    house.ready()
    assert approve(house).state is State.APPROVED


def test_the_role_counts_at_the_act(house: House):
    house.ready()
    house.declare(people={"people": {**PEOPLE, "approver": {**PEOPLE["approver"], "roles": {APP: ["viewer"]}}}})
    with pytest.raises(NotPermitted):
        approve(house)


def test_an_approval_is_stored_with_what_it_is_for(house: House):
    release = house.ready()
    approve(house)
    (approval,) = house.releases.status(APP).approvals
    assert (approval.person, approval.is_approved) == ("approver", True)
    assert approval.binds.review == release.review_id
    assert approval.binds.plan == house.versions.declaration_digest(APP, "plan")
    assert approval.binds.bundle == house.versions.get("v2", app=APP).digest
    assert approval.expires_at - approval.decided_at == timedelta(hours=4)
    assert house.audit()[-1].detail["binds"] == approval.binds.as_json()


def test_it_is_approved_once_and_again_when_that_expired(house: House):
    house.ready()
    approve(house)
    error = refused("approved_already", approve, house, "both")
    assert "approver approved it already, until 2026-10-05 13:00 UTC" in error.seen
    house.clock.forward(hours=4)
    refused("approval_expired", house.releases.promote, APP, actor=person("requester"))
    assert approve(house, "both").state is State.APPROVED
    assert house.releases.promote(APP, actor=person("requester")).state is State.CANARY


def test_an_approval_counts_to_its_last_moment(house: House):
    house.ready()
    approve(house)
    house.clock.forward(hours=4, microseconds=-1)
    assert house.releases.promote(APP, actor=person("requester")).state is State.CANARY


def test_nothing_is_promoted_without_an_approval(house: House):
    house.ready()
    refused("wrong_state", house.releases.promote, APP, early="no time", actor=person("requester"))


def test_a_newer_review_supersedes_the_one_that_was_approved(house: House):
    release = house.ready()
    approve(house)
    house.reviewer.evidence += 1
    newer = house.reviewer.review(APP, "v2", actor=person("approver"))
    assert newer.review_id != release.review_id
    error = refused("superseded", house.releases.promote, APP, actor=person("requester"))
    assert error.next_step == "abort the release and start it again"
    assert house.releases.status(APP).objection.reason == "superseded"


def test_a_superseded_review_is_not_approved(house: House):
    house.ready()
    house.reviewer.verdict = ReviewVerdict.NO_GO
    house.reviewer.review(APP, "v2", actor=person("approver"))
    refused("superseded", approve, house)


def test_the_same_review_made_again_keeps_what_was_approved(house: House):
    house.ready()
    approve(house)
    house.reviewer.review(APP, "v2", actor=person("approver"))
    house.reviewer.review(APP, "v3", actor=person("approver"))
    assert house.releases.promote(APP, actor=person("requester")).state is State.CANARY


def test_a_review_of_yesterday_is_made_again_before_it_is_approved(house: House):
    house.ready()
    house.clock.forward(hours=24, seconds=1)
    refused("review_old", approve, house)
    house.reviewer.review(APP, "v2", actor=person("approver"))
    assert approve(house).state is State.APPROVED


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("plan", {**PLAN, "steps": [{"share": 1.0, "at_least": "1m"}]}),
        ("people", {"people": {**PEOPLE, "sock": {"roles": {APP: ["approver"]}}}}),
        ("rota", None),
        ("gates", {"gates": [{"id": "g", "metric": "success_rate", "at_least": 0.5}]}),
    ],
)
def test_a_changed_declaration_makes_the_approval_void(house: House, kind: str, content):
    house.ready()
    approve(house)
    house.declare(**{kind: content})
    error = refused("declarations_changed", house.releases.promote, APP, actor=person("requester"))
    assert error.seen == f"{kind}.yaml changed after the review"
    refused("declarations_changed", approve, house, "both")


def test_changed_objectives_leave_review_and_approval_as_they_are(house: House):
    house.declare(slo={"objectives": [{"name": "answers", "indicator": "availability", "target": 0.99}]})
    house.ready()
    approve(house)
    house.declare(slo={"objectives": [{"name": "answers", "indicator": "availability", "target": 0.9}]})
    assert house.releases.promote(APP, actor=person("requester")).state is State.CANARY


def test_an_approver_looks_at_the_review_and_the_version_that_is_approved(house: House):
    release = house.ready()
    refused("superseded", approve, house, review_id="sha256:" + "0" * 64)
    with pytest.raises(ConflictError):
        approve(house, expected_version=release.version + 1)
    assert approve(house, review_id=release.review_id, expected_version=release.version).state is State.APPROVED


def test_a_rejected_release_has_ended(house: House):
    house.ready()
    approve(house)
    release = house.releases.reject(APP, reason="not before the holidays", actor=person("both"))
    assert (release.state, release.note) == (State.ABORTED, "rejected by both: not before the holidays")
    assert [(d.person, d.is_approved) for d in house.releases.status(APP).approvals] == [("approver", True), ("both", False)]
    refused("wrong_state", house.releases.promote, release.release_id, actor=person("requester"))
    house.ready("v3")
    with pytest.raises(NotPermitted):
        house.releases.reject(APP, reason="mine", actor=person("requester"))


@pytest.mark.parametrize("part", ["bundle", "review", "plan"])
def test_an_approval_of_something_else_is_none(house: House, part: str):
    house.ready()
    approve(house)
    with house.ledger.write() as act:
        binds = {**house.releases.status(APP).approvals[0].binds.as_json(), part: "sha256:" + "0" * 64}
        act.connection.execute(approvals.update().values(binds=binds))
    refused("approval_void", house.releases.promote, APP, actor=person("requester"))


def test_a_release_that_claims_to_be_approved_and_is_not_goes_nowhere(house: House):
    house.ready()
    with house.ledger.write() as act:
        act.connection.execute(releases.update().values(state="APPROVED"))
    refused("no_approval", house.releases.promote, APP, actor=person("requester"))
    assert house.route is None


def test_after_the_canary_began_the_approval_has_done_its_work(house: House):
    house.canary()
    house.clock.forward(hours=9)
    house.units.n = 1000
    house.reviewer.evidence += 1
    house.reviewer.review(APP, "v2", actor=person("approver"))
    assert house.releases.promote(APP, actor=person("requester")).step == 1


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize(("verdict", "reason"), [(ReviewVerdict.NO_GO, "superseded"), (None, "declarations_changed")])
def test_a_canary_goes_no_further_on_ground_that_is_gone(house: House, verdict: ReviewVerdict | None, reason: str, is_held: bool):
    house.canary()
    house.units.n = 1000
    house.clock.forward(hours=30)
    if verdict is None:
        house.declare(gates={"gates": [{"id": "g", "metric": "success_rate", "at_least": 0.5}]})
    else:
        house.reviewer.verdict = verdict
        house.reviewer.review(APP, "v2", actor=person("approver"))
    before = house.route
    if is_held:
        house.releases.hold(APP, reason="odd", actor=person("night"))
    status = house.releases.status(APP)
    assert status.objection.reason == reason
    assert status.next_steps == (f"It cannot go on: {status.objection}.",)
    if is_held:
        house.releases.resume(APP, actor=person("requester"))
    refused(reason, house.releases.promote, APP, early="no time", actor=person("requester"))
    assert house.route == before
    assert house.releases.abort(APP, reason="again", actor=person("requester")).state is State.ABORTED


def test_the_status_says_who_could_approve(house: House):
    house.ready()
    status = house.releases.status(APP)
    assert status.may_approve == ("approver", "both")
    assert status.next_steps == ("It waits for the approval of approver or both.",)
    approve(house)
    assert house.releases.status(APP).next_steps == ("Promote it: its candidate serves 5.0 % of the units.",)
    house.clock.forward(hours=5)
    first, second = house.releases.status(APP).next_steps
    assert first == "The approval by approver expired at 2026-10-05 13:00 UTC."
    assert second == "It waits for the approval of approver or both."
