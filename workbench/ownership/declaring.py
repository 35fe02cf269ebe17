"""How grave is a change of what an app declares, and would it lock its author out? Pure."""

from __future__ import annotations

from workbench.ownership.model import Assurance
from workbench.ownership.permissions import ACTS
from workbench.spec.app import AppSpec
from workbench.spec.base import Spec
from workbench.spec.people import PeopleSpec

_TIERS = ("low", "medium", "high")


def act_of(kind: str, old: Spec | None, new: Spec | None) -> str:
    """The act that the change is: `declare.people` where it decides who may act, else `declare`.

    Who the people are decides that, and so does the risk tier: a lower one accepts weaker identities.
    """
    if kind == "people" or (kind == "app" and _is_tier_lowered(old, new)):
        return "declare.people"
    return "declare"


def is_locked_out(person: str, assurance: Assurance, app: str, *, old: PeopleSpec | None, new: PeopleSpec | None) -> bool:
    """Whether the author of a new people.yaml could not change it back.

    Args:
        person: the author's name, or their login while nobody declares it.
        assurance: how the author was recognised; a local login has to be listed again.
        app: whose people they are.
        old: what is declared now.
        new: what would be declared; None takes the file away, which locks nobody out.
    """
    if new is None:
        return False
    logins = {person, *(old.people[person].os if old and person in old.people else ())}
    is_login = assurance is Assurance.LOCAL
    return not any(
        (bool(logins & set(declared.os)) if is_login else name == person)
        and ACTS["declare.people"] & {role for scope, roles in declared.roles.items() if scope in {app, "*"} for role in roles}
        for name, declared in new.people.items()
    )


def _is_tier_lowered(old: Spec | None, new: Spec | None) -> bool:
    if not isinstance(old, AppSpec):
        return False
    return not isinstance(new, AppSpec) or _TIERS.index(new.risk_tier) < _TIERS.index(old.risk_tier)
