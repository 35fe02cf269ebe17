"""How well the nights are covered, in five figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from workbench.ownership.model import Gap, Shift
from workbench.ownership.rota import gaps, shifts, tiers
from workbench.spec.people import PeopleSpec
from workbench.spec.rota import RotaSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """The cover of one window. Hours count once for each tier."""

    start: datetime
    until: datetime
    gaps: tuple[Gap, ...]
    uncovered_hours: float
    """Hours in which somebody must be on call and nobody is, summed over tiers."""
    longest: Gap | None
    next: Gap | None
    """The first to come in the window."""
    busiest: str | None
    """Who carries most of tier 1; None where nobody does."""
    single_person_share: float | None
    """Their share of tier 1's hours on duty, 0 to 1; None where nobody is on duty."""
    doubled_hours: float
    """Hours in which one person holds two tiers, so that a page that is missed is missed twice."""


def summary(rota: RotaSpec, people: PeopleSpec | None, start: datetime, until: datetime) -> Cover:
    """The cover between two aware moments, the second not included."""
    found = gaps(rota, people, start, until)
    known = people if people is not None else PeopleSpec.model_construct(people={})
    duty = shifts(rota, start, until, known)
    hours: dict[str, float] = defaultdict(float)
    for shift in duty:
        if shift.tier == tiers(rota)[0]:
            hours[shift.person] += shift.hours
    busiest = max(sorted(hours), key=lambda person: hours[person], default=None)
    return Cover(
        start=start,
        until=until,
        gaps=found,
        uncovered_hours=sum(gap.hours for gap in found),
        longest=max(found, key=lambda gap: gap.hours, default=None),
        next=min(found, key=lambda gap: (gap.start, gap.tier), default=None),
        busiest=busiest,
        single_person_share=hours[busiest] / sum(hours.values()) if busiest is not None else None,
        doubled_hours=_doubled_hours(duty),
    )


def _doubled_hours(duty: Sequence[Shift]) -> float:
    total = 0.0
    for index, first in enumerate(duty):
        for second in duty[index + 1 :]:
            if first.person == second.person and first.tier != second.tier:
                overlap = min(first.until, second.until) - max(first.start, second.start)
                total += max(0.0, overlap.total_seconds() / 3600)
    return total
