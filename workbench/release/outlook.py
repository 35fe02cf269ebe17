"""What a release's plan leaves open, told before its canary shows it: what cannot be measured, and steps that no traffic can fill. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workbench.errors import UsageError
from workbench.readiness.wording import span_words
from workbench.release.futility import unreachable
from workbench.release.judge_kinds import Role
from workbench.release.judge_model import JudgePlan
from workbench.release.judge_terms import Baseline, judge_plan
from workbench.spec.plan import PlanSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a plan leaves open."""

    left_out: tuple[str, ...] = ()
    """Metrics that the judge cannot follow, each with why."""
    unreachable: tuple[str, ...] = ()
    """Steps whose units cannot come before the deadline, each with how long it would take."""
    awaited: tuple[str, ...] = ()
    """KPIs of which nothing is known when the first step could be over, each with how long it takes."""
    is_alone_at: int | None = None
    """The step, from 1, at which the candidate serves everybody; None where there is none."""
    is_traffic_known: bool = True
    fault: str = ""
    """Why it cannot be told, or why nothing of the plan can be judged."""

    @property
    def lines(self) -> tuple[str, ...]:
        """For people; empty where nothing is left open."""
        return tuple(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.fault:
            yield f"Nothing takes the candidate back by itself: {self.fault}."
        yield from (f"Not measured: {sentence}." for sentence in self.left_out)
        yield from (f"{sentence[:1].upper()}{sentence[1:]}." for sentence in self.unreachable)
        yield from (f"{sentence}." for sentence in self.awaited)
        if self.is_alone_at is not None:
            yield (
                f"At step {self.is_alone_at} the candidate serves everybody: with nobody left to compare with, only what a gate limits "
                "takes it back there."
            )
        if not self.is_traffic_known:
            yield "How many users come in a day is not known yet, and so neither is whether each step gets the units that it takes."


def beforehand(plan: PlanSpec, baseline: Baseline) -> Outlook:
    """Before the first look of the controller, by what the log holds now.

    Args:
        plan: with steps.
        baseline: what the stable bundle did until now.
    """
    left_out: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    fault = ""
    try:
        asked, left_out = judge_plan(plan, baseline)
        awaited = tuple(_awaited(plan, asked))
    except UsageError as error:
        fault = str(error)
    per_day = baseline.units_per_day
    return Outlook(
        left_out=left_out,
        unreachable=unreachable(plan, units_per_day=per_day) if per_day is not None else (),
        awaited=awaited,
        is_alone_at=next((number for number, step in enumerate(plan.steps, start=1) if step.share == 1), None),
        is_traffic_known=per_day is not None or not any(step.min_units for step in plan.steps),
        fault=fault,
    )


def _awaited(plan: PlanSpec, asked: JudgePlan) -> Iterator[str]:
    """KPIs whose windows are longer than the first step, which is not left before some talk of each arm is decided."""
    for metric in asked.metrics:
        within = timedelta(microseconds=metric.within_us or 0)
        if metric.role is Role.SIGNAL or within <= plan.steps[0].at_least:
            continue
        known = f"{metric.name} is known {span_words(within)} after a talk began"
        if plan.deadline is not None and within >= plan.deadline:
            yield f"{known}, and the deadline is {span_words(plan.deadline)}: no step is proven before it"
        else:
            yield f"{known}: the first step waits for that, beyond the {span_words(plan.steps[0].at_least)} that it lasts at least"


def under_way(fixed: Mapping[str, Any]) -> Outlook:
    """From the first look on, by what the judge is asked since then; how long it takes is told by its own forecast.

    Args:
        fixed: the judge's plan as stored; empty where it could not be made.
    """
    return Outlook(left_out=tuple(fixed.get("left_out", ())))
