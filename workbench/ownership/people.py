"""Who is it? From a login or a Slack id to the declared person, for one app or for the record of the workspace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workbench.ownership.model import Actor, Identity
from workbench.spec.people import PeopleSpec, Person


def person_in(people: PeopleSpec, identity: Identity) -> str | None:
    """The person to whom one people.yaml gives this identity, or None: nobody there."""
    return next((name for name, person in people.people.items() if is_of(identity, person)), None)


def is_of(identity: Identity, person: Person) -> bool:
    """Whether the identity is listed for the person."""
    return identity.value in (person.os if identity.edge == "os" else person.slack)


def name_in(people: PeopleSpec, identity: Identity) -> str:
    """How somebody is called in one app: the declared person, else a name that nobody else there has."""
    return person_in(people, identity) or _own_name(identity, is_taken=identity.value in people.people)


def names_of(person: str, people: PeopleSpec | None) -> frozenset[str]:
    """Every name under which the record may hold this person of an app: their own, and their logins and ids as an undeclared one acts."""
    known = people.people.get(person) if people else None
    if known is None:
        return frozenset({person})
    return frozenset({person, *known.os, *(f"os:{login}" for login in known.os), *(f"slack:{slack_id}" for slack_id in known.slack)})


def name_across(declared: Mapping[str, PeopleSpec], identity: Identity) -> str:
    """How somebody is called in the record of the workspace.

    It is the declared person where every app that knows the identity or the name agrees. Otherwise the identity itself: whoever
    writes one app's people.yaml cannot act under a name of another app, and cannot keep anybody from acting.

    Args:
        declared: app name to its people.
        identity: as the edge authenticated it.
    """
    found = {name for people in declared.values() if (name := person_in(people, identity)) is not None}
    names = {name for name in found if all(is_of(identity, people.people[name]) for people in declared.values() if name in people.people)}
    if len(found) == 1 and names:
        return names.pop()
    return _own_name(identity, is_taken=bool(found) or any(identity.value in people.people for people in declared.values()))


def _own_name(identity: Identity, *, is_taken: bool) -> str:
    """An undeclared login acts under its own name, written `os:NAME` where it could be mistaken for somebody else's."""
    return f"{identity.edge}:{identity.value}" if is_taken or identity.edge != "os" else identity.value


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUpAuthor:
    """An author who is looked up anew at each act, so that a changed people.yaml counts at once.

    Services are handed it before the registry that knows the people is open.
    """

    via: str
    find: Callable[[], Actor]

    @property
    def person(self) -> str:
        return self.find().person

    @property
    def assurance(self) -> str:
        return self.find().assurance
