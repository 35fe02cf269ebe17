"""`people.yaml`: who the people are, how each edge recognises them, and what they may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from workbench.spec.base import Name, Spec


class Role(StrEnum):
    """What a person may do for an app; `ownership.permissions` holds the table of acts."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    RISK_OWNER = "risk_owner"
    ADMIN = "admin"


class Person(Spec):
    """One human being, however they reach the workbench."""

    title: str = ""
    slack: tuple[str, ...] = ()
    """Slack user ids, for example `U012AB3CD`."""
    os: tuple[str, ...] = ()
    """Operating-system logins."""
    contact: str | None = None
    """How to reach the person at night: a phone number or a paging address."""
    roles: dict[str, tuple[Role, ...]] = Field(default_factory=dict)
    """App name, or `*` for every app, to roles."""


class PeopleSpec(Spec):
    """Everybody who acts on the applications of this workspace."""

    people: dict[Name, Person]

    @model_validator(mode="after")
    def _identities_are_unique(self) -> Self:
        for edge in ("slack", "os"):
            holders: dict[str, str] = {}
            for name, person in self.people.items():
                for identity in getattr(person, edge):
                    if identity in holders:
                        raise ValueError(f"{edge} identity {identity!r} belongs to both {holders[identity]!r} and {name!r}; one identity is one person")
                    holders[identity] = name
        return self
