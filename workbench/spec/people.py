"""`people.yaml`: who the people are, how each edge recognises them, and what they may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from workbench.spec.base import Name, Spec, Text

AppOrAll = Annotated[str, Field(pattern=r"^([a-z][a-z0-9_-]{0,62}|[*])$", description="an app's name, or * for the app that declares it")]


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
    slack: tuple[Text, ...] = ()
    """Slack user ids, for example `U012AB3CD`."""
    os: tuple[Text, ...] = ()
    """Operating-system logins."""
    contact: Text | None = None
    """How to reach the person at night: a phone number or a paging address."""
    roles: dict[AppOrAll, tuple[Role, ...]] = Field(default_factory=dict)
    """App name, or `*` for the app that declares it, to roles. They say nothing of an app with a people.yaml of its own."""


class PeopleSpec(Spec):
    """Everybody who acts on the applications of this workspace."""

    people: dict[Name, Person] = Field(min_length=1)
    """Name to person. Other specs use the name; Slack and the operating system use the identities below it."""

    @model_validator(mode="after")
    def _identities_are_unique(self) -> Self:
        for edge in ("slack", "os"):
            holders: dict[str, str] = {}
            for name, person in self.people.items():
                for identity in person.slack if edge == "slack" else person.os:
                    holder = holders.setdefault(identity, name)
                    if holder != name:
                        raise ValueError(
                            f'{edge} identity "{identity}" belongs to both "{holder}" and "{name}"; one identity is one person'
                        )
        return self
