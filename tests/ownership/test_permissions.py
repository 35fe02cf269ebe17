from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.ownership.model import Actor, Assurance
from workbench.ownership.permissions import ACTS, BOOTSTRAP_ACTS, DECIDING_ACTS, ON_CALL_ACTS, may
from workbench.spec.people import PeopleSpec, Role

ACT = st.sampled_from(sorted(ACTS))
APP = st.sampled_from(["shop", "other", None])
TIER = st.sampled_from(["low", "medium", "high", None])
ASSURANCE = st.sampled_from(list(Assurance))
ROLES = st.dictionaries(st.sampled_from(["shop", "other", "*"]), st.lists(st.sampled_from(list(Role)), unique=True), max_size=3)


def actor(person: str = "primary", assurance: Assurance = Assurance.LOCAL) -> Actor:
    return Actor(person=person, via="cli", assurance=assurance)


def people(**roles: dict[str, list[str]]) -> PeopleSpec:
    return PeopleSpec.model_validate({"people": {name: {"roles": held} for name, held in roles.items()}})


@pytest.mark.parametrize(
    ("act", "roles"),
    [
        ("view", "viewer operator approver risk_owner admin"),
        ("log.import", "operator admin"),
        ("bundle.register", "operator admin"),
        ("declare", "operator admin"),
        ("declare.people", "admin"),
        ("review", "operator approver risk_owner admin"),
        ("release.start", "operator admin"),
        ("release.adopt", "approver admin"),
        ("release.approve", "approver"),
        ("release.reject", "approver"),
        ("release.promote", "operator approver"),
        ("release.hold", "operator approver risk_owner admin"),
        ("release.resume", "operator approver"),
        ("release.abort", "operator approver admin"),
        ("release.lock", "operator admin"),
        ("release.unlock", "operator admin"),
        ("release.freeze", "operator approver risk_owner admin"),
        ("release.unfreeze", "operator admin"),
        ("rollback.to", "operator approver risk_owner admin"),
        ("owner.override", "operator admin"),
        ("rollback", "operator approver risk_owner admin"),
        ("waiver.approve", "risk_owner admin"),
        ("erase", "admin"),
        ("handoff.view", "operator approver risk_owner"),
        ("handoff.decide", "operator approver"),
    ],
)
def test_exactly_these_roles_may_do_the_act(act: str, roles: str) -> None:
    allowed = {role for role in Role if may(actor(), act, "shop", people=people(primary={"shop": [role]}), risk_tier="low").allowed}
    assert allowed == {Role(role) for role in roles.split()}


def test_the_refusal_says_what_is_needed_and_what_is_there() -> None:
    answer = may(actor(), "release.approve", "shop", people=people(primary={"shop": ["operator"]}), risk_tier="low")
    assert (answer.allowed, answer.reason) == (False, "no_role")
    assert answer.sentence == "release.approve for shop needs the role approver; primary has operator"


def test_the_consent_says_why() -> None:
    answer = may(actor(), "rollback", "shop", people=people(primary={"*": ["operator"]}), risk_tier="low")
    assert (answer.allowed, answer.reason, answer.sentence) == (True, "role", "rollback for shop: primary is operator")


def test_a_role_for_one_app_is_none_for_another() -> None:
    known = people(primary={"shop": ["admin"]})
    assert may(actor(), "declare", "shop", people=known, risk_tier="low").allowed
    assert may(actor(), "declare", "other", people=known, risk_tier="low").reason == "no_role"


def test_the_whole_workspace_takes_a_role_of_the_declaring_app_but_any_role_to_look() -> None:
    one, every, other = people(primary={"shop": ["operator"]}), people(primary={"*": ["operator"]}), people(primary={"bank": ["operator"]})
    for known in (one, every):
        assert may(actor(), "log.import", None, people=known, risk_tier=None, declared_by="shop").allowed
    assert may(actor(), "log.import", None, people=other, risk_tier=None, declared_by="shop").reason == "no_role"
    assert may(actor(), "audit.verify", None, people=other, risk_tier=None, declared_by="shop").allowed


@pytest.mark.parametrize("act", sorted(ACTS))
def test_at_high_risk_a_login_of_this_machine_may_do_all_but_decide(act: str) -> None:
    known = people(primary={"shop": list(Role)})
    assert may(actor(), act, "shop", people=known, risk_tier="high").allowed == (act not in DECIDING_ACTS)
    assert may(actor(assurance=Assurance.VERIFIED), act, "shop", people=known, risk_tier="high").allowed
    assert may(actor(), act, "shop", people=known, risk_tier="medium").allowed


def test_at_high_risk_an_app_can_be_frozen_and_its_people_put_right_from_the_machine() -> None:
    known = people(primary={"shop": ["admin"]}, operator={"shop": ["operator"]})
    assert not {"release.freeze", "declare.people"} & DECIDING_ACTS
    assert may(actor(), "declare.people", "shop", people=known, risk_tier="high").allowed
    assert may(actor("operator"), "release.freeze", "shop", people=known, risk_tier="high").allowed
    assert may(actor("operator"), "declare.people", "shop", people=known, risk_tier="high").reason == "no_role"


def test_an_app_without_a_risk_tier_is_released_by_nobody_local() -> None:
    known = people(primary={"shop": list(Role)})
    assert may(actor(), "release.start", "shop", people=known, risk_tier=None).reason == "weak_assurance"
    assert may(actor(), "declare.people", "shop", people=known, risk_tier=None).allowed


def test_whoever_is_on_call_rolls_back_holds_and_opens_incidents_without_a_role() -> None:
    known = people(primary={"shop": ["viewer"]})
    allowed = {act for act in ACTS if may(actor(), act, "shop", people=known, risk_tier="low", on_call=["primary"]).allowed}
    assert allowed == ON_CALL_ACTS | {"audit.verify"}
    assert may(actor(), "rollback", "shop", people=known, risk_tier="low", on_call=["primary"]).reason == "on_call"
    assert may(actor(), "rollback", "shop", people=known, risk_tier="low", on_call=["secondary"]).reason == "no_role"


def test_before_anybody_is_declared_a_local_login_may_look_measure_and_declare() -> None:
    allowed = {act for act in ACTS if may(actor("me"), act, "shop", people=None, risk_tier=None).allowed}
    assert allowed == BOOTSTRAP_ACTS
    assert may(actor("me"), "declare.people", "shop", people=None, risk_tier=None).reason == "bootstrap"


def test_before_anybody_is_declared_somebody_from_outside_may_nothing() -> None:
    assert not any(may(actor("me", Assurance.VERIFIED), act, "shop", people=None, risk_tier=None).allowed for act in ACTS)


def test_choosing_who_one_is_works_only_where_the_caller_says_so() -> None:
    known = people(primary={"shop": ["approver"]})
    console = actor(assurance=Assurance.CONSOLE)
    assert may(console, "release.approve", "shop", people=known, risk_tier="high").reason == "console"
    assert may(console, "release.approve", "shop", people=known, risk_tier="high", is_console_allowed=True).allowed
    assert may(console, "view", None, people=None, risk_tier=None).reason == "console"


def test_an_unknown_act_is_refused_for_everybody() -> None:
    answer = may(actor(), "release.aprove", "shop", people=people(primary={"*": list(Role)}), risk_tier="low")
    assert (answer.allowed, answer.reason) == (False, "unknown_act")


@given(act=ACT, app=APP, tier=TIER, assurance=ASSURANCE, roles=ROLES, is_console_allowed=st.booleans())
def test_nothing_is_granted_to_an_unknown_person(
    *, act: str, app: str | None, tier: str | None, assurance: Assurance, roles: dict[str, list[Role]], is_console_allowed: bool
) -> None:
    answer = may(
        actor("stranger", assurance),
        act,
        app,
        people=people(primary=roles),
        risk_tier=tier,
        on_call=["stranger"],
        is_console_allowed=is_console_allowed,
    )
    assert not answer.allowed


@given(act=ACT, app=APP, tier=TIER, assurance=ASSURANCE, roles=ROLES, more=ROLES, duty=st.booleans())
def test_more_roles_never_allow_less(
    *,
    act: str,
    app: str | None,
    tier: str | None,
    assurance: Assurance,
    roles: dict[str, list[Role]],
    more: dict[str, list[Role]],
    duty: bool,
) -> None:
    both = {name: list({*roles.get(name, ()), *more.get(name, ())}) for name in {*roles, *more}}
    on_call = ["primary"] if duty else []
    fewer = may(actor(assurance=assurance), act, app, people=people(primary=roles), risk_tier=tier, on_call=on_call)
    greater = may(actor(assurance=assurance), act, app, people=people(primary=both), risk_tier=tier, on_call=on_call)
    assert greater.allowed >= fewer.allowed


@given(act=ACT, app=APP, roles=ROLES, assurance=ASSURANCE, duty=st.booleans())
def test_a_higher_or_unknown_risk_tier_never_allows_more(
    act: str, app: str | None, roles: dict[str, list[Role]], assurance: Assurance, duty: bool
) -> None:
    known, on_call = people(primary=roles), ["primary"] if duty else []
    low, medium, high, unknown = (
        may(actor(assurance=assurance), act, app, people=known, risk_tier=tier, on_call=on_call).allowed
        for tier in ("low", "medium", "high", None)
    )
    assert low >= medium >= high
    assert medium >= unknown


@given(act=ACT, app=APP, tier=TIER, roles=ROLES, duty=st.booleans())
def test_a_verified_person_may_whatever_the_same_person_may_by_a_login(
    act: str, app: str | None, tier: str | None, roles: dict[str, list[Role]], duty: bool
) -> None:
    known, on_call = people(primary=roles), ["primary"] if duty else []
    local = may(actor(), act, app, people=known, risk_tier=tier, on_call=on_call)
    verified = may(actor(assurance=Assurance.VERIFIED), act, app, people=known, risk_tier=tier, on_call=on_call)
    assert verified.allowed >= local.allowed
