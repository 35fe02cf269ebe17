"""`rota.yaml`: who is on call, in wall-clock time."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from workbench.spec.base import Name, Spec

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except Exception as error:
        raise ValueError(f"{name!r} is not a time zone; use an IANA name such as Europe/Berlin") from error
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]


class Hours(Spec):
    """A weekly recurring stretch in the rota's time zone. `until` at or before `start` ends on the next day."""

    days: tuple[Weekday, ...]
    start: time
    until: time


class Layer(Spec):
    """People who take turns at one tier."""

    name: Name
    tier: Annotated[int, Field(ge=1)] = 1
    """1 is paged first."""
    people: tuple[Name, ...] = Field(min_length=1)
    turn: Literal["daily", "weekly"] = "weekly"
    first_handoff: datetime
    """Wall-clock time, without an offset, of the first person's first turn; handoffs recur at this time of day."""
    hours: tuple[Hours, ...] = ()
    """When the layer is on duty; empty means always."""

    @model_validator(mode="after")
    def _handoff_is_wall_clock(self) -> Self:
        if self.first_handoff.tzinfo is not None:
            raise ValueError("first_handoff is wall-clock time in the rota's zone; leave the offset out")
        return self


class Override(Spec):
    """Somebody stands in, for one stretch of time."""

    person: Name
    tier: Annotated[int, Field(ge=1)] = 1
    start: AwareDatetime
    until: AwareDatetime


class Absence(Spec):
    """Somebody is away: their turns are empty unless an override covers them."""

    person: Name
    first_day: date
    last_day: date


class RotaSpec(Spec):
    """The on-call plan of an app."""

    zone: Zone
    required: Literal["24x7"] | tuple[Hours, ...] = "24x7"
    """When somebody must be on call."""
    layers: tuple[Layer, ...] = ()
    overrides: tuple[Override, ...] = ()
    absences: tuple[Absence, ...] = ()
