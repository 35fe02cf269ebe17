"""Changing who may act: what it takes, and nobody locks themselves out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.ownership.declaring import act_of, is_locked_out
from workbench.ownership.model import Actor, Assurance, Identity
from workbench.spec.app import AppSpec
from workbench.spec.people import PeopleSpec

TIERS = ("low", "medium", "high")


def app_spec(tier: str) -> AppSpec:
    return AppSpec(app="shop", title="Shop", risk_tier=tier)


def people(*, login: str = "me", role: str = "admin", scope: str = "shop", name: str = "owner") -> PeopleSpec:
    return PeopleSpec.model_validate({"people": {name: {"os": [login], "roles": {scope: [role]}}}})


def actor(person: str, *, login: str | None = None) -> Actor:
    identity = Identity(edge="os", value=login) if login else None
    return Actor(person=person, via="cli", assurance=Assurance.LOCAL, identity=identity)


@given(old=st.sampled_from(TIERS), new=st.sampled_from(TIERS))
def test_only_a_lower_risk_tier_is_as_grave_as_changing_the_people(old: str, new: str):
    is_lower = TIERS.index(new) < TIERS.index(old)
    assert act_of("app", app_spec(old), app_spec(new)) == ("declare.people" if is_lower else "declare")


def test_taking_the_app_away_is_grave_and_declaring_the_first_is_not():
    assert act_of("app", app_spec("low"), None) == "declare.people"
    assert act_of("app", None, app_spec("low")) == "declare"
    assert act_of("people", None, people()) == "declare.people"
    assert act_of("gates", None, None) == "declare"


@pytest.mark.parametrize(
    ("new", "locked"),
    [
        (people(), False),
        (people(scope="*"), False),
        (people(login="mistyped"), True),
        (people(role="operator"), True),
        (people(scope="other_app"), True),
        (None, False),
    ],
)
def test_a_first_people_file_must_keep_its_author_an_administrator(new, locked):
    assert is_locked_out(actor("me"), "shop", old=None, new=new) is locked
    assert is_locked_out(actor("owner", login="me"), "shop", old=None, new=new) is locked


def test_a_declared_person_is_followed_through_their_login_even_under_a_new_name():
    for author in (actor("owner"), actor("owner", login="me")):
        assert not is_locked_out(author, "shop", old=people(), new=people(name="chief"))
        assert is_locked_out(author, "shop", old=people(), new=people(login="other"))


def test_the_login_that_is_used_now_must_stay_and_not_only_another_of_the_same_person():
    both = PeopleSpec.model_validate({"people": {"owner": {"os": ["me", "laptop"], "roles": {"shop": ["admin"]}}}})
    assert is_locked_out(actor("owner", login="laptop"), "shop", old=both, new=people())
    assert not is_locked_out(actor("owner", login="me"), "shop", old=both, new=people())


def test_a_verified_person_is_followed_by_name_or_by_the_id_they_use():
    verified = Actor(person="owner", via="http", assurance=Assurance.VERIFIED)
    assert not is_locked_out(verified, "shop", old=people(), new=people(login="other"))
    assert is_locked_out(verified, "shop", old=people(), new=people(name="chief"))
    by_slack = Actor(person="owner", via="slack", assurance=Assurance.VERIFIED, identity=Identity(edge="slack", value="U1"))
    kept = PeopleSpec.model_validate({"people": {"chief": {"slack": ["U1"], "roles": {"shop": ["admin"]}}}})
    assert not is_locked_out(by_slack, "shop", old=people(), new=kept)
    assert is_locked_out(by_slack, "shop", old=people(), new=people())
