"""Owners, duty and gaps as text."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.ownership.model import Gap, Shift
from workbench.spec.app import AppSpec
from workbench.spec.base import format_duration
from workbench.spec.people import PeopleSpec
from workbench.views.tables import rows_text, shown


def owners_text(app: AppSpec, people: PeopleSpec | None, duty: Sequence[Shift]) -> str:
    """The owner, who is on call, the escalation path, and everybody's roles."""
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
        shifts_text(app.app, duty),
        "escalation:" if steps else "escalation: none declared",
        *steps,
        "",
        rows_text(rows, empty="people.yaml is not declared"),
    ]
    return shown("\n".join(lines))


def shifts_text(app: str, duty: Sequence[Shift]) -> str:
    """Who is on duty, by tier; says so when nobody is."""
    if not duty:
        return f"{app}: nobody is on call now"
    lines = (f"{app}: tier {shift.tier} is {shift.person} until {shift.until:%Y-%m-%d %H:%M} UTC" for shift in duty)
    return shown("\n".join(lines))


def gaps_text(app: str, gaps: Sequence[Gap], *, days: int) -> str:
    """The uncovered stretches of the next days, and their sum."""
    if not gaps:
        return f"{app}: no gap in the next {days} days"
    rows = [
        {
            "from (UTC)": f"{gap.start:%a %Y-%m-%d %H:%M}",
            "until (UTC)": f"{gap.until:%a %Y-%m-%d %H:%M}",
            "hours": f"{gap.hours:.1f}",
            "tier": gap.tier,
            "reason": gap.reason,
        }
        for gap in gaps
    ]
    return f"{rows_text(rows)}\n\n{app}: {sum(gap.hours for gap in gaps):.1f} uncovered hours in the next {days} days"
