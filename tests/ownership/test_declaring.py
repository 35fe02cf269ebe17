"""Changing who may act: what it takes, and nobody locks themselves out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.ownership.declaring import act_of, is_locked_out
from workbench.ownership.model import Assurance
from workbench.spec.app import AppSpec
from workbench.spec.people import PeopleSpec

TIERS = ("low", "medium", "high")


def app_spec(tier: str) -> AppSpec:
    return AppSpec(app="shop", title="Shop", risk_tier=tier)


def people(*, login: str = "me", role: str = "admin", scope: str = "shop", name: str = "owner") -> PeopleSpec:
    return PeopleSpec.model_validate({"people": {name: {"os": [login], "roles": {scope: [role]}}}})


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
    assert is_locked_out("me", Assurance.LOCAL, "shop", old=None, new=new) is locked


def test_a_declared_person_is_followed_through_their_login_even_under_a_new_name():
    assert not is_locked_out("owner", Assurance.LOCAL, "shop", old=people(), new=people(name="chief"))
    assert is_locked_out("owner", Assurance.LOCAL, "shop", old=people(), new=people(login="other"))


def test_a_verified_person_is_followed_by_name():
    assert not is_locked_out("owner", Assurance.VERIFIED, "shop", old=people(), new=people(login="other"))
    assert is_locked_out("owner", Assurance.VERIFIED, "shop", old=people(), new=people(name="chief"))
