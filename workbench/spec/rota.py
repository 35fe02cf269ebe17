"""`rota.yaml`: who is on call, in wall-clock time."""

from __future__ import annotations

import zoneinfo
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from workbench.spec.base import Day, Instant, LocalMoment, Name, Spec, TimeOfDay, twice

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _known_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone; use an IANA name such as Europe/Berlin") from error
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]


class Hours(Spec):
    """A weekly recurring stretch in the rota's time zone. `until` at or before `start` ends on the next day."""

    days: tuple[Weekday, ...] = Field(min_length=1)
    """Days on which the stretch begins."""
    start: TimeOfDay
    until: TimeOfDay
    """00:00 is midnight at the end of the day."""


class Layer(Spec):
    """People who take turns at one tier. Where two layers of a tier are on duty at once, the one written first counts."""

    name: Name
    tier: Annotated[int, Field(ge=1)] = 1
    """1 is paged first."""
    people: tuple[Name, ...] = Field(min_length=1)
    turn: Literal["daily", "weekly"] = "weekly"
    first_handoff: LocalMoment
    """Wall-clock time, without an offset, of the first person's first turn; handoffs recur at this time of day."""
    hours: tuple[Hours, ...] = ()
    """When the layer is on duty; empty means always."""

    @model_validator(mode="after")
    def _handoff_is_wall_clock(self) -> Self:
        if self.first_handoff.tzinfo is not None:
            raise ValueError("first_handoff is wall-clock time in the rota's zone; leave the offset out")
        return self


class Override(Spec):
    """Somebody stands in, for one stretch of time. Where two overrides of a tier overlap, the one written last counts."""

    person: Name
    tier: Annotated[int, Field(ge=1)] = 1
    start: Instant
    until: Instant

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.until <= self.start:
            raise ValueError(f"until {self.until.isoformat()} is not after start {self.start.isoformat()}")
        return self


class Absence(Spec):
    """Somebody is away: their turns are empty unless an override or another layer of the tier covers them."""

    person: Name
    first_day: Day
    last_day: Day
    """Included."""

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.last_day < self.first_day:
            raise ValueError(f"last_day {self.last_day} is before first_day {self.first_day}")
        return self


def _form_of_cover(value: object) -> str:
    return "hours" if isinstance(value, list | tuple) else "always"


class RotaSpec(Spec):
    """The on-call plan of an app."""

    zone: Zone
    required: Annotated[
        Annotated[Literal["24x7"], Tag("always")] | Annotated[tuple[Hours, ...], Field(min_length=1), Tag("hours")],
        Discriminator(_form_of_cover),
    ] = "24x7"
    """When somebody must be on call: `24x7`, or a list of weekly hours."""
    layers: tuple[Layer, ...] = ()
    overrides: tuple[Override, ...] = ()
    absences: tuple[Absence, ...] = ()

    @model_validator(mode="after")
    def _layer_names_are_unique(self) -> Self:
        names = twice([layer.name for layer in self.layers])
        if names:
            raise ValueError(f"layers: {', '.join(names)} is declared more than once")
        return self
