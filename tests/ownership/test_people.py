from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from workbench.ownership.model import Actor, Assurance, Identity
from workbench.ownership.people import LookedUpAuthor, name_across, name_in, names_of, person_in
from workbench.spec.people import PeopleSpec


def people(**persons: dict[str, object]) -> PeopleSpec:
    return PeopleSpec.model_validate({"people": persons})


def login(value: str) -> Identity:
    return Identity(edge="os", value=value)


def slack(value: str) -> Identity:
    return Identity(edge="slack", value=value)


def test_a_login_is_the_person_who_declares_it() -> None:
    declared = people(primary={"os": ["anna", "a.smith"]}, secondary={"os": ["bo"]})
    assert name_in(declared, login("a.smith")) == "primary"
    assert name_across({"shop": declared}, login("a.smith")) == "primary"


def test_a_login_nobody_declares_acts_under_its_own_name() -> None:
    assert name_across({}, login("me")) == "me"
    assert name_across({"shop": people(primary={"os": ["anna"]})}, login("me")) == "me"


def test_a_login_called_like_a_person_does_not_become_that_person() -> None:
    declared = people(approver={"os": ["anna"], "roles": {"shop": ["approver"]}})
    assert name_in(declared, login("approver")) == "os:approver"
    assert name_across({"bank": people(other={}), "shop": declared}, login("approver")) == "os:approver"


def test_a_login_declared_alike_in_several_apps_is_one_person() -> None:
    declared = {"shop": people(primary={"os": ["anna"]}), "bank": people(primary={"os": ["anna"]}), "post": people(other={})}
    assert name_across(declared, login("anna")) == "primary"


def test_nobody_is_recorded_under_a_name_that_another_app_gave_somebody_else() -> None:
    declared = {"shop": people(approver={"os": ["mallory"]}), "bank": people(approver={"os": ["anna"]})}
    assert name_across(declared, login("mallory")) == "os:mallory"
    assert name_across(declared, login("anna")) == "os:anna"


def test_a_login_of_two_persons_is_recorded_as_the_login_and_is_each_of_them_at_home() -> None:
    declared = {"shop": people(primary={"os": ["anna"]}), "bank": people(lead={"os": ["anna"]})}
    assert name_across(declared, login("anna")) == "os:anna"
    assert [name_in(declared[app], login("anna")) for app in ("shop", "bank")] == ["primary", "lead"]


def test_a_slack_id_is_a_person_or_nobody_and_never_a_login() -> None:
    declared = people(primary={"slack": ["U1"], "os": ["U2"]})
    assert person_in(declared, slack("U1")) == "primary"
    assert person_in(declared, slack("U2")) is None
    assert name_in(declared, slack("U2")) == "slack:U2"


NAMES = st.sampled_from(["primary", "secondary", "anna", "bo"])
LOGINS = st.sampled_from(["anna", "bo", "primary"])


@given(declared=st.dictionaries(st.sampled_from(["shop", "bank", "post"]), st.dictionaries(LOGINS, NAMES, min_size=1), max_size=3))
def test_two_logins_are_never_recorded_under_one_name_unless_every_app_says_so(declared: dict[str, dict[str, str]]) -> None:
    specs = {}
    for app, by_login in declared.items():
        persons: dict[str, dict[str, list[str]]] = {}
        for one, name in by_login.items():
            persons.setdefault(name, {"os": []})["os"].append(one)
        specs[app] = people(**persons)
    recorded = {one: name_across(specs, login(one)) for one in ("anna", "bo", "primary")}
    for (first, name), (second, other) in itertools.combinations(recorded.items(), 2):
        if name == other:
            assert all({first, second} <= set(spec.people[name].os) for spec in specs.values() if name in spec.people)


def test_a_looked_up_author_follows_a_changed_people_file() -> None:
    declared: dict[str, PeopleSpec] = {}

    def find() -> Actor:
        return Actor(person=name_across(declared, login("anna")), via="cli", assurance=Assurance.LOCAL, identity=login("anna"))

    author = LookedUpAuthor(via="cli", find=find)
    assert (author.person, author.via, author.assurance) == ("anna", "cli", "local")
    declared["shop"] = people(primary={"os": ["anna"]})
    assert author.person == "primary"


def test_every_name_under_which_the_record_may_hold_a_person():
    people = PeopleSpec.model_validate({"people": {"primary": {"os": ["me"], "slack": ["U1"]}, "other": {"os": ["you"]}}})
    assert names_of("primary", people) == {"primary", "me", "os:me", "slack:U1"}
    assert names_of("stranger", people) == names_of("stranger", None) == {"stranger"}
