from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from workbench.errors import NotPermitted, UnknownSubject, UsageError
from workbench.ledger.authority import Authority
from workbench.ownership.model import Actor, Assurance, Identity
from workbench.ownership.people import LookedUpAuthor
from workbench.ownership.permissions import ACTS, READING_ACTS
from workbench.ownership.service import Ownership
from workbench.spec.app import AppSpec
from workbench.spec.base import Spec
from workbench.spec.people import PeopleSpec, Role
from workbench.spec.rota import RotaSpec

NOW = datetime(2026, 10, 7, 3, 0, tzinfo=UTC)


class Declared:
    """What a registry would answer."""

    def __init__(self) -> None:
        self.specs: dict[tuple[str, str], Spec] = {}

    def __call__(self, app: str, kind: str) -> Spec | None:
        return self.specs.get((app, kind))

    def apps(self) -> tuple[str, ...]:
        return tuple({app for app, _ in self.specs})

    def app(self, app: str, risk_tier: str = "medium") -> None:
        self.specs[app, "app"] = AppSpec(app=app, title=app, risk_tier=risk_tier)

    def people(self, app: str, **persons: dict[str, object]) -> None:
        self.specs[app, "people"] = PeopleSpec.model_validate({"people": persons})

    def rota(self, app: str, *people: str) -> None:
        layer = {"name": "line", "people": people, "first_handoff": "2026-10-05T09:00"}
        self.specs[app, "rota"] = RotaSpec.model_validate({"zone": "Europe/Berlin", "layers": [layer]})


@pytest.fixture
def declared() -> Declared:
    return Declared()


@pytest.fixture
def ownership(declared: Declared) -> Ownership:
    return Ownership(declared, apps=declared.apps, clock=lambda: NOW)


def local(person: str) -> Actor:
    return Actor(person=person, via="cli", assurance=Assurance.LOCAL)


def test_it_is_an_authority(ownership: Ownership) -> None:
    authority: Authority = ownership
    authority.require(local("me"), "log.import", None)


def test_the_first_person_may_declare_and_then_people_yaml_decides(ownership: Ownership, declared: Declared) -> None:
    ownership.require(local("me"), "declare.people", "shop")
    declared.app("shop")
    declared.people("shop", owner={"os": ["me"], "roles": {"shop": ["admin"]}})
    with pytest.raises(NotPermitted, match=r"declare\.people for shop: stranger is not in people\.yaml for shop; ask an administrator"):
        ownership.require(local("stranger"), "declare.people", "shop")
    me = ownership.actor_of_os_login("me", via="cli")
    assert me == Actor(person="owner", via="cli", assurance=Assurance.LOCAL, identity=Identity(edge="os", value="me"))
    ownership.require(me, "declare.people", "shop")


def test_an_app_without_people_belongs_to_every_app_that_has_some(ownership: Ownership, declared: Declared) -> None:
    declared.people("shop", owner={"os": ["me"], "roles": {"shop": ["admin"]}}, clerk={"os": ["clerk"], "roles": {"shop": ["viewer"]}})
    me = ownership.actor_of_os_login("me", via="cli")
    for app in ("other", None):
        with pytest.raises(NotPermitted, match=r"stranger is not in people\.yaml for shop"):
            ownership.require(local("stranger"), "log.import", app)
        with pytest.raises(NotPermitted, match=r"needs the role admin or operator; clerk has viewer in people\.yaml of shop"):
            ownership.require(local("clerk"), "log.import", app)
        ownership.require(me, "log.import", app)
    declared.people("bank", lead={"os": ["lead"], "roles": {"*": ["admin"]}})
    for app in ("other", None):
        with pytest.raises(NotPermitted, match=r"me is not in people\.yaml for bank"):
            ownership.require(me, "log.import", app)
    declared.people("bank", chief={"os": ["me"], "roles": {"bank": ["operator"]}})
    ownership.require(me, "log.import", "other")
    ownership.require(me, "log.import", None)


def test_looking_at_the_workspace_takes_a_role_in_any_app(ownership: Ownership, declared: Declared) -> None:
    declared.people("shop", owner={"os": ["me"], "roles": {"shop": ["admin"]}})
    declared.people("bank", clerk={"os": ["clerk"], "roles": {"bank": ["viewer"]}})
    ownership.require(ownership.actor_of_os_login("clerk", via="cli"), "audit.verify", None)
    ownership.require(ownership.actor_of_os_login("me", via="cli"), "view", None)
    with pytest.raises(NotPermitted):
        ownership.require(ownership.actor_of_os_login("me", via="cli"), "view", "bank")
    with pytest.raises(NotPermitted):
        ownership.require(local("stranger"), "view", None)


@pytest.mark.parametrize("act", sorted(ACTS))
def test_one_apps_people_give_nobody_anything_anywhere_else(ownership: Ownership, declared: Declared, act: str) -> None:
    declared.app("shop", risk_tier="low")
    declared.people("shop", owner={"os": ["me"], "roles": {"shop": ["admin"]}})
    every = {"*": list(Role), "shop": list(Role), "other": list(Role)}
    declared.people("evil", mal={"os": ["mal"], "roles": every}, owner={"os": ["mal2"], "roles": every})
    for login in ("mal", "mal2"):
        actor = ownership.actor_of_os_login(login, via="cli")
        assert not ownership.may(actor, act, "shop").allowed
        for app in ("other", None):
            assert ownership.may(actor, act, app).allowed == (act in READING_ACTS)


def test_one_apps_people_lock_nobody_out_of_another_app(ownership: Ownership, declared: Declared) -> None:
    declared.app("shop")
    declared.people("shop", primary={"os": ["me"], "slack": ["U1"], "roles": {"shop": ["admin"]}})
    declared.people("evil", x={"os": ["me"], "slack": ["U1"]}, primary={"os": ["other"], "slack": ["U9"]})
    me, by_slack = ownership.actor_of_os_login("me", via="cli"), ownership.actor_of_slack_id("U1")
    for actor in (me, by_slack):
        ownership.require(actor, "declare.people", "shop")
    assert (me.person, by_slack.person) == ("os:me", "slack:U1"), "the record names nobody whom two apps see differently"


def test_a_looked_up_author_is_somebody_else_in_each_app(ownership: Ownership, declared: Declared) -> None:
    declared.people("shop", primary={"os": ["me"], "roles": {"shop": ["operator"]}})
    declared.people("bank", lead={"os": ["me"], "roles": {"bank": ["viewer"]}})
    author = LookedUpAuthor(via="cli", find=lambda: ownership.actor_of_os_login("me", via="cli"))
    assert ownership.may(author, "declare", "shop").sentence == "declare for shop: primary is operator"
    assert "lead has viewer" in ownership.may(author, "declare", "bank").sentence


def test_the_administrator_of_one_app_declares_people_of_a_new_one_under_their_own_login(ownership: Ownership, declared: Declared) -> None:
    declared.people("shop", owner={"os": ["me"], "roles": {"shop": ["admin"]}})
    new = PeopleSpec.model_validate({"people": {"lead": {"os": ["me"], "roles": {"bank": ["admin"]}}}})
    ownership.require_declaration(ownership.actor_of_os_login("me", via="cli"), "bank", "people", None, new)


def test_a_login_called_like_a_person_has_none_of_their_roles(ownership: Ownership, declared: Declared) -> None:
    declared.app("shop")
    declared.people("shop", approver={"os": ["anna"], "roles": {"shop": ["approver"]}})
    impostor = ownership.actor_of_os_login("approver", via="cli")
    assert not ownership.may(impostor, "release.approve", "shop").allowed
    assert ownership.may(ownership.actor_of_os_login("anna", via="cli"), "release.approve", "shop").allowed


def test_at_high_risk_a_login_does_not_release(ownership: Ownership, declared: Declared) -> None:
    declared.app("shop", risk_tier="high")
    declared.people("shop", owner={"os": ["me"], "slack": ["U1"], "roles": {"shop": ["operator"]}})
    with pytest.raises(NotPermitted, match="the risk tier for shop is high; it takes a verified identity; ask for it in Slack"):
        ownership.require(ownership.actor_of_os_login("me", via="cli"), "release.start", "shop")
    ownership.require(ownership.actor_of_slack_id("U1"), "release.start", "shop")


def test_an_unknown_slack_id_is_nobody(ownership: Ownership) -> None:
    with pytest.raises(NotPermitted, match='Slack id "U9": it belongs to nobody'):
        ownership.actor_of_slack_id("U9")


def test_whoever_is_on_call_now_may_roll_back(ownership: Ownership, declared: Declared) -> None:
    declared.app("shop")
    declared.people("shop", primary={"contact": "pager"}, secondary={"contact": "pager"})
    declared.rota("shop", "primary", "secondary")
    assert [shift.person for shift in ownership.on_call("shop")] == ["primary"]
    ownership.require(local("primary"), "rollback", "shop")
    with pytest.raises(NotPermitted, match="needs the role"):
        ownership.require(local("secondary"), "rollback", "shop")
    assert [shift.person for shift in ownership.on_call("shop", NOW + timedelta(days=7))] == ["secondary"]


def test_nobody_reachable_is_nobody_on_call_and_a_gap(ownership: Ownership, declared: Declared) -> None:
    declared.people("shop", primary={})
    declared.rota("shop", "primary")
    assert ownership.on_call("shop") == ()
    (gap,) = ownership.gaps("shop", start=NOW, until=NOW + timedelta(days=14))
    assert gap.reason == "primary has no contact and no Slack id"
    assert ownership.cover("shop", start=NOW, until=NOW + timedelta(days=14)).uncovered_hours == 336


def test_without_a_rota_all_is_gap_and_nobody_is_on_call(ownership: Ownership, declared: Declared) -> None:
    declared.app("shop")
    (gap,) = ownership.gaps("shop", start=NOW, until=NOW + timedelta(hours=5))
    assert (gap.hours, gap.reason) == (5, "no rota is declared")
    assert ownership.on_call("shop") == ()
    assert ownership.cover("shop", start=NOW, until=NOW) is None


def test_an_undeclared_app_is_unknown_with_the_near_name(ownership: Ownership, declared: Declared) -> None:
    declared.app("shop")
    assert ownership.declared("shop")[0].app == "shop"
    with pytest.raises(UnknownSubject, match='app "shpo": it is not declared; did you mean "shop"'):
        ownership.declared("shpo")


def test_choosing_who_one_is_works_in_the_demo_only(ownership: Ownership, declared: Declared) -> None:
    declared.app("shop")
    declared.people("shop", approver={"roles": {"shop": ["approver"]}})
    chosen = Actor(person="approver", via="demo", assurance=Assurance.CONSOLE)
    with pytest.raises(NotPermitted, match="only in the demo workspace"):
        ownership.require(chosen, "release.approve", "shop")
    Ownership(declared, apps=declared.apps, clock=lambda: NOW, is_demo=True).require(chosen, "release.approve", "shop")


def test_an_assurance_that_does_not_exist_is_refused(ownership: Ownership) -> None:
    @dataclass(frozen=True)
    class Stranger:
        person: str = "me"
        via: str = "cli"
        assurance: str = "absolute"

    with pytest.raises(NotPermitted, match='its assurance is "absolute"'):
        ownership.require(Stranger(), "view", None)


def test_one_human_has_one_name_in_an_app_whichever_edge_they_come_by(ownership: Ownership, declared: Declared) -> None:
    declared.people("shop", primary={"os": ["me"], "slack": ["U1"]})
    declared.people("bank", lead={"os": ["me"]})
    me = ownership.actor_of_os_login("me", via="cli")
    by_slack = ownership.actor_of_slack_id("U1")
    assert (ownership.person_in("shop", me), ownership.person_in("shop", by_slack), ownership.person_in("bank", me)) == (
        "primary",
        "primary",
        "lead",
    )
    assert ownership.person_in("none", me) == me.person
    looked_up = LookedUpAuthor(via="cli", find=lambda: me)
    assert ownership.person_in("shop", looked_up) == "primary"


def test_who_holds_a_role_for_an_act(ownership: Ownership, declared: Declared) -> None:
    declared.people(
        "shop", a={"roles": {"shop": ["approver"]}}, b={"roles": {"*": ["approver", "viewer"]}}, c={"roles": {"bank": ["approver"]}}
    )
    assert ownership.holders("release.approve", "shop") == ("a", "b")
    assert ownership.holders("release.approve", "none") == ()


def test_without_a_ledger_nobody_stands_in(ownership: Ownership, declared: Declared) -> None:
    declared.app("shop")
    declared.people("shop", primary={"contact": "pager", "roles": {"shop": ["operator"]}})
    declared.rota("shop", "primary")
    assert ownership.stand_ins("shop") == ()
    with pytest.raises(UsageError, match="no ledger is open"):
        ownership.override("shop", "primary", until=NOW + timedelta(hours=1), reason="x", actor=local("primary"))
    assert ownership.zone("shop").key == "Europe/Berlin"
    assert ownership.zone("none").key == "UTC"
