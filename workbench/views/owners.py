"""Owners, duty and gaps as text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from workbench.ownership.model import Gap, Shift, StandIn
from workbench.spec.app import AppSpec
from workbench.spec.base import format_duration
from workbench.spec.people import PeopleSpec
from workbench.views.tables import WIDTH, rows_text, shown


def owners_text(
    app: AppSpec,
    people: PeopleSpec | None,
    duty: Sequence[Shift],
    *,
    stand_ins: Sequence[StandIn] = (),
    zone: ZoneInfo | None = None,
    width: int = WIDTH,
) -> str:
    """The owner, who is on call, the escalation path, and everybody's roles.

    Args:
        app: the app.
        people: everybody who is declared.
        duty: who is on call now.
        stand_ins: who stands in, now or later.
        zone: of the rota; times are shown in it beside UTC.
        width: columns of the terminal.
    """
    steps = [f"  {number}. {step.to} within {format_duration(step.within)}" for number, step in enumerate(app.escalation, 1)]
    rows = [
        {
            "person": name,
            "title": person.title,
            "roles": ", ".join(sorted({role for app_roles in person.roles.values() for role in app_roles})),
        }
        for name, person in (people.people.items() if people else ())
    ]
    lines = [
        f"{app.app}: owned by {app.owner or 'nobody'}",
        shifts_text(app.app, duty, zone=zone),
        *(stand_in_text(stand_in, zone=zone) for stand_in in stand_ins),
        "escalation:" if steps else "escalation: none declared",
        *steps,
        "",
        rows_text(rows, empty="people.yaml is not declared", width=width),
    ]
    return shown("\n".join(lines))


def shifts_text(app: str, duty: Sequence[Shift], *, zone: ZoneInfo | None = None) -> str:
    """Who is on duty, by tier, until when in UTC and in the rota's zone; says so when nobody is."""
    if not duty:
        return f"{app}: nobody is on call now"
    lines = (f"{app}: tier {shift.tier} is {shift.person} until {_moment(shift.until, zone)}" for shift in duty)
    return shown("\n".join(lines))


def stand_in_text(stand_in: StandIn, *, zone: ZoneInfo | None = None) -> str:
    """Who stands in, when and why."""
    stretch = f"from {_moment(stand_in.start, zone)} until {_moment(stand_in.until, zone)}"
    return shown(
        f"{stand_in.app}: {stand_in.person} stands in at tier {stand_in.tier} {stretch}; {stand_in.declared_by}: {stand_in.reason}"
    )


def gaps_text(app: str, gaps: Sequence[Gap], *, days: int, zone: ZoneInfo | None = None, width: int = WIDTH) -> str:
    """The uncovered stretches of the next days, in UTC and in the rota's zone, and their sum."""
    if not gaps:
        return f"{app}: no gap in the next {days} days"
    rows = [
        {
            "from (UTC)": f"{gap.start:%a %Y-%m-%d %H:%M}",
            "until (UTC)": f"{gap.until:%a %Y-%m-%d %H:%M}",
            **_local(gap, zone),
            "hours": f"{gap.hours:.1f}",
            "tier": gap.tier,
            "reason": gap.reason,
        }
        for gap in gaps
    ]
    return f"{rows_text(rows, width=width)}\n\n{app}: {sum(gap.hours for gap in gaps):.1f} uncovered hours in the next {days} days"


def _moment(moment: datetime, zone: ZoneInfo | None) -> str:
    words = f"{moment:%Y-%m-%d %H:%M} UTC"
    return f"{words} ({moment.astimezone(zone):%a %H:%M %Z})" if _is_elsewhere(zone) else words


def _local(gap: Gap, zone: ZoneInfo | None) -> dict[str, str]:
    """Both ends on the rota's clock; nothing where that is UTC. Each has its own abbreviation, as the clock may change between them."""
    if zone is None or not _is_elsewhere(zone):
        return {}
    return {f"in {zone.key}": " – ".join(f"{end.astimezone(zone):%a %H:%M %Z}" for end in (gap.start, gap.until))}


def _is_elsewhere(zone: ZoneInfo | None) -> bool:
    return zone is not None and zone.key != "UTC"
