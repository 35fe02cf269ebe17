"""The nouns of ownership: who acts, and who is on call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal


class Assurance(StrEnum):
    """How sure the edge is that the actor is who they say."""

    CONSOLE = "console"
    """Chosen with `--as`; the demo workspace and the console only."""
    LOCAL = "local"
    """A login of this machine; refused where the risk tier is high."""
    VERIFIED = "verified"
    """A signed Slack request, an API key, a single sign-on."""


Edge = Literal["os", "slack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What an edge recognised somebody by, before a people.yaml gives it a name."""

    edge: Edge
    value: str
    """An OS login, or a Slack user id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person at an edge, for the length of one act."""

    person: str
    """The name under which the act is recorded."""
    via: str
    """The edge: `cli`, `slack`, `http`, `notebook`, `console`, `demo`."""
    assurance: Assurance
    identity: Identity | None = None
    """Where it is given, each app's people.yaml says anew who this is, and `person` decides nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch in which somebody must be on call and nobody is. Half-open, UTC."""

    start: datetime
    until: datetime
    tier: int
    reason: str
    """`nobody scheduled`, or why the scheduled person does not count."""

    @property
    def hours(self) -> float:
        return (self.until - self.start).total_seconds() / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One person on duty at one tier. Half-open, UTC."""

    person: str
    tier: int
    start: datetime
    until: datetime
    layer: str

    @property
    def hours(self) -> float:
        return (self.until - self.start).total_seconds() / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """Somebody who takes a tier for one stretch of time, beyond what rota.yaml says. Half-open, UTC."""

    app: str
    person: str
    tier: int
    start: datetime
    until: datetime
    reason: str
    declared_by: str
    declared_at: datetime
