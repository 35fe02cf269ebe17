"""Whether a canary can still be decided before its deadline at the traffic it has. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workbench.readiness.wording import span_words
from workbench.spec.plan import PlanSpec

FEWEST_UNITS = 20
"""Units of both arms before their pace says anything."""
_SHORTEST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When the present step is expected to be proven, if the candidate is just as good as stable."""

    needs: timedelta
    """From now on; never less than what the plan's clock still asks for."""
    beyond_deadline: timedelta | None
    """What is missing at the deadline, later steps included; None where it is kept, or there is none."""

    @property
    def sentence(self) -> str:
        if self.beyond_deadline is None:
            return f"at this traffic the step is expected to be decided in {span_words(self.needs)}"
        return f"it cannot finish before its deadline at this traffic: it needs {span_words(self.beyond_deadline)} more"


def forecast(plan: PlanSpec, judgement: Mapping[str, Any], *, step: int, run_s: float, canary_s: float) -> Forecast | None:
    """The forecast for a release; None where its traffic says nothing yet, or the judge gives no number.

    Args:
        plan: of the release.
        judgement: the newest, as JSON.
        step: the present one, from 0.
        run_s: seconds of the step that count.
        canary_s: the same of all steps.
    """
    units = judgement["units_stable"] + judgement["units_candidate"]
    if units < FEWEST_UNITS or canary_s < _SHORTEST_S or judgement["units_to_go"] is None:
        return None
    present = plan.steps[step]
    to_go = max(judgement["units_to_go"], present.min_units - judgement["units_candidate"], 0)
    by_units_s = to_go / (units / canary_s * present.share)
    needs_s = max(by_units_s, present.at_least.total_seconds() - run_s, 0.0)
    later_s = sum(following.at_least.total_seconds() for following in plan.steps[step + 1 :])
    beyond_s = canary_s + needs_s + later_s - plan.deadline.total_seconds() if plan.deadline else 0.0
    return Forecast(needs=_span(needs_s), beyond_deadline=_span(beyond_s) if beyond_s > 0 else None)


def unreachable(plan: PlanSpec, *, units_per_day: float) -> tuple[str, ...]:
    """One sentence for each step whose units cannot come before the deadline at this traffic.

    Args:
        plan: with steps.
        units_per_day: different units that come to the app in a day.
    """
    if plan.deadline is None:
        return ()
    found = []
    for number, step in enumerate(plan.steps, start=1):
        days = step.min_units / (units_per_day * step.share) if units_per_day > 0 else float("inf")
        deadline = plan.deadline / timedelta(days=1)
        if step.min_units and days > deadline:
            needs = f"it needs {span_words(timedelta(days=days))}" if units_per_day > 0 else "nobody came in the last days"
            found.append(
                f"step {number} takes {step.min_units:,} units at a share of {step.share:g}: "
                f"at {units_per_day:,.0f} units a day {needs}, and the deadline is {span_words(plan.deadline)}"
            )
    return tuple(found)


def _span(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, 3650 * 86_400.0))
