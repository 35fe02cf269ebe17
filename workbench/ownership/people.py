"""Who is it? From a login or a Slack id to the declared person, never to two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from workbench.errors import NotPermitted
from workbench.ownership.model import Actor
from workbench.spec.people import PeopleSpec, Person

Edge = Literal["os", "slack"]
_EDGE_WORDS = {"os": "login", "slack": "Slack id"}


def identify(declared: Mapping[str, PeopleSpec], *, edge: Edge, identity: str) -> str | None:
    """The person whom this login or Slack id belongs to, or None when nobody declares it.

    Every app that declares a person of that name must list the identity: otherwise whoever writes one app's people.yaml
    could become somebody else in another app.

    Args:
        declared: app name to its people.
        edge: which kind of identity it is.
        identity: as the edge authenticated it.

    Raises:
        NotPermitted: when the apps disagree on whose identity it is.
    """
    holders: dict[str, list[str]] = {}
    for app, people in sorted(declared.items()):
        for name, person in people.people.items():
            if identity in _identities(person, edge):
                holders.setdefault(name, []).append(app)
    what = f'{_EDGE_WORDS[edge]} "{identity}"'
    if len(holders) > 1:
        seen = " but ".join(f"{name} in {', '.join(apps)}" for name, apps in sorted(holders.items()))
        raise NotPermitted(what, seen=f"it is {seen}", needed="one person per identity", next_step="use the same name in every people.yaml")
    for name, apps in holders.items():
        others = [app for app, people in declared.items() if name in people.people and app not in apps]
        if others:
            raise NotPermitted(
                what,
                seen=f"it is {name} in {', '.join(apps)}, but {', '.join(sorted(others))} declares {name} without it",
                needed="the same identities wherever a person is declared",
                next_step=f"add it to {name} in the other people.yaml, or give different people different names",
            )
        return name
    return None


def name_of_login(declared: Mapping[str, PeopleSpec], login: str) -> str:
    """The person of an OS login; an undeclared login acts under its own name, written `os:NAME` where a person is called so."""
    person = identify(declared, edge="os", identity=login)
    if person is not None:
        return person
    return f"os:{login}" if any(login in people.people for people in declared.values()) else login


def person_of_slack_id(declared: Mapping[str, PeopleSpec], slack_id: str) -> str | None:
    """The person of a Slack user id, or None: an undeclared Slack user is nobody."""
    return identify(declared, edge="slack", identity=slack_id)


def merged(declared: Mapping[str, PeopleSpec], app: str | None) -> PeopleSpec | None:
    """The people who count for an app: its own people.yaml, else everybody of the workspace; None when nobody is declared.

    Where an app has no people.yaml of its own, what the others say of it and of `*` counts together.
    """
    if app is not None and app in declared:
        return declared[app]
    together: dict[str, Person] = {}
    for people in declared.values():
        for name, person in people.people.items():
            known = together.get(name)
            together[name] = person if known is None else _both(known, person)
    return PeopleSpec.model_construct(people=together) if together else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginAuthor:
    """A login that is looked up anew at each act, so that a changed people.yaml counts at once."""

    login: str
    via: str
    resolve: Callable[[str, str], Actor]
    """Login and edge to actor."""

    @property
    def person(self) -> str:
        return self.resolve(self.login, self.via).person

    @property
    def assurance(self) -> str:
        return self.resolve(self.login, self.via).assurance


def _identities(person: Person, edge: Edge) -> tuple[str, ...]:
    return person.os if edge == "os" else person.slack


def _both(first: Person, second: Person) -> Person:
    apps = first.roles.keys() | second.roles.keys()
    roles = {app: tuple(dict.fromkeys((*first.roles.get(app, ()), *second.roles.get(app, ())))) for app in sorted(apps)}
    return first.model_copy(update={"roles": roles, "contact": first.contact or second.contact, "slack": first.slack or second.slack})
