"""How grave is a change of what an app declares, and would it lock its author out? Pure."""

from __future__ import annotations

from workbench.ownership.model import Actor, Assurance
from workbench.ownership.people import is_of
from workbench.ownership.permissions import ACTS
from workbench.spec.app import AppSpec
from workbench.spec.base import Spec
from workbench.spec.people import PeopleSpec, Person

_TIERS = ("low", "medium", "high")


def act_of(kind: str, old: Spec | None, new: Spec | None) -> str:
    """The act that the change is: `declare.people` where it decides who may act, else `declare`.

    Who the people are decides that, and so does the risk tier: a lower one accepts weaker identities.
    """
    if kind == "people" or (kind == "app" and _is_tier_lowered(old, new)):
        return "declare.people"
    return "declare"


def is_locked_out(actor: Actor, app: str, *, old: PeopleSpec | None, new: PeopleSpec | None) -> bool:
    """Whether the author of a new people.yaml could not change it back.

    Args:
        actor: the author; the login or id that they use now has to be listed again.
        app: whose people they are.
        old: what is declared now.
        new: what would be declared; None takes the file away, which locks nobody out.
    """
    if new is None:
        return False
    return not any(
        _is_recognised(actor, name, declared, old)
        and ACTS["declare.people"] & {role for scope, roles in declared.roles.items() if scope in {app, "*"} for role in roles}
        for name, declared in new.people.items()
    )


def _is_recognised(actor: Actor, name: str, declared: Person, old: PeopleSpec | None) -> bool:
    """Whether the author would be this person; without an identity a login of this machine is known by what is declared now."""
    if actor.identity is not None:
        return is_of(actor.identity, declared)
    if actor.assurance is not Assurance.LOCAL:
        return name == actor.person
    known = old.people[actor.person].os if old and actor.person in old.people else ()
    return bool({actor.person, *known} & set(declared.os))


def _is_tier_lowered(old: Spec | None, new: Spec | None) -> bool:
    if not isinstance(old, AppSpec):
        return False
    return not isinstance(new, AppSpec) or _TIERS.index(new.risk_tier) < _TIERS.index(old.risk_tier)
