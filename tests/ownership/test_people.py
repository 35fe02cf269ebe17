from __future__ import annotations

import pytest

from workbench.errors import NotPermitted
from workbench.ownership.model import Actor, Assurance
from workbench.ownership.people import LoginAuthor, merged, name_of_login, person_of_slack_id
from workbench.spec.people import PeopleSpec, Role


def people(**persons: dict[str, object]) -> PeopleSpec:
    return PeopleSpec.model_validate({"people": persons})


def test_a_login_is_the_person_who_declares_it() -> None:
    declared = {"shop": people(primary={"os": ["anna", "a.smith"]}, secondary={"os": ["bo"]})}
    assert name_of_login(declared, "a.smith") == "primary"


def test_a_login_nobody_declares_acts_under_its_own_name() -> None:
    assert name_of_login({}, "me") == "me"
    assert name_of_login({"shop": people(primary={"os": ["anna"]})}, "me") == "me"


def test_a_login_called_like_a_person_does_not_become_that_person() -> None:
    declared = {"shop": people(approver={"os": ["anna"], "roles": {"shop": ["approver"]}})}
    assert name_of_login(declared, "approver") == "os:approver"


def test_a_login_declared_alike_in_several_apps_is_one_person() -> None:
    declared = {"shop": people(primary={"os": ["anna"]}), "bank": people(primary={"os": ["anna"]}), "post": people(other={})}
    assert name_of_login(declared, "anna") == "primary"


def test_one_app_cannot_make_a_login_somebody_else_in_another_app() -> None:
    declared = {"shop": people(approver={"os": ["mallory"]}), "bank": people(approver={"os": ["anna"]})}
    with pytest.raises(NotPermitted, match="it is approver in shop, but bank declares approver without it"):
        name_of_login(declared, "mallory")


def test_a_login_of_two_persons_is_nobody() -> None:
    declared = {"shop": people(primary={"os": ["anna"]}), "bank": people(lead={"os": ["anna"]})}
    with pytest.raises(NotPermitted, match="it is lead in bank but primary in shop"):
        name_of_login(declared, "anna")


def test_a_slack_id_is_a_person_or_nobody_and_never_a_login() -> None:
    declared = {"shop": people(primary={"slack": ["U1"], "os": ["U2"]})}
    assert person_of_slack_id(declared, "U1") == "primary"
    assert person_of_slack_id(declared, "U2") is None


def test_an_app_with_its_own_people_hears_nobody_else() -> None:
    declared = {"shop": people(a={"roles": {"*": ["admin"]}}), "bank": people(b={})}
    assert set(merged(declared, "bank").people) == {"b"}


def test_an_app_without_people_hears_all_and_nobody_declared_is_none() -> None:
    declared = {"shop": people(a={"roles": {"*": ["viewer"]}}), "bank": people(a={"roles": {"*": ["admin"], "bank": ["viewer"]}}, b={})}
    together = merged(declared, "new")
    assert set(together.people) == {"a", "b"}
    assert set(together.people["a"].roles["*"]) == {Role.VIEWER, Role.ADMIN}
    assert merged({}, "new") is None
    assert merged({}, None) is None


def test_a_login_author_follows_a_changed_people_file() -> None:
    declared: dict[str, PeopleSpec] = {}

    def resolve(login: str, via: str) -> Actor:
        return Actor(person=name_of_login(declared, login), via=via, assurance=Assurance.LOCAL)

    author = LoginAuthor(login="anna", via="cli", resolve=resolve)
    assert (author.person, author.via, author.assurance) == ("anna", "cli", "local")
    declared["shop"] = people(primary={"os": ["anna"]})
    assert author.person == "primary"
