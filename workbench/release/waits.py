"""What a step of the plan still waits for before the next one. Pure."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from workbench.release.model import Release
from workbench.spec.base import format_duration
from workbench.spec.plan import Shadow, Step


def waits_of(release: Release, *, now: datetime, units: int | None) -> tuple[str, ...]:
    """What the release's present step still waits for; empty outside a canary. As `unmet`."""
    step, since = release.present_stage, release.step_since
    return unmet(step, since=since, now=now, units=units) if step is not None and since is not None else ()


def unmet_by_plan_clock(step: Step | Shadow, *, run_s: float, units: int | None) -> tuple[str, ...]:
    """The same for a release that is carried: its time is that of the plan's clock.

    Args:
        step: the present step, or the shadow stage.
        run_s: seconds of the step that count.
        units: as `unmet`.
    """
    found = []
    to_go = step.at_least - timedelta(seconds=run_s)
    if to_go > timedelta():
        words = format_duration(timedelta(seconds=math.ceil(to_go.total_seconds())))
        found.append(f"the step lasts at least {format_duration(step.at_least)}, of which {words} are to go")
    return (*found, *_units_unmet(step, units))


def unmet(step: Step | Shadow, *, since: datetime, now: datetime, units: int | None) -> tuple[str, ...]:
    """One sentence for each thing that is missing; empty when the step has been long enough and has seen enough.

    Args:
        step: the present step.
        since: its start.
        now: the present.
        units: different units that the candidate has served in this release; None where nobody can tell, which is not enough.
    """
    found: list[str] = []
    end = since + step.at_least
    if now < end:
        found.append(f"the step lasts at least {format_duration(step.at_least)}, until {end:%Y-%m-%d %H:%M} UTC")
    return (*found, *_units_unmet(step, units))


def _units_unmet(step: Step | Shadow, units: int | None) -> tuple[str, ...]:
    if step.min_units and (units is None or units < step.min_units):
        seen = "how many the candidate has served is unknown" if units is None else f"the candidate has served {units:,}"
        return (f"the step takes {step.min_units:,} different units; {seen}",)
    return ()
