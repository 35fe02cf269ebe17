"""`plan.yaml`: how a release grows, what is watched meanwhile, and what takes it back."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workbench.spec.app import Kpi
from workbench.spec.base import Day, Duration, Name, PositiveShare, Ratio, Spec, Text, format_duration, twice

RiskTier = Literal["low", "medium", "high"]
Weight = Annotated[float, Field(gt=0, le=100)]


class Step(Spec):
    """One stage of the canary."""

    share: PositiveShare
    """Fraction of units that the candidate serves."""
    at_least: Duration
    """Shortest stay, so that a traffic cycle is seen. Time without data does not count."""
    min_units: Annotated[int, Field(ge=0)] = 0
    """Fewest candidate units before the next step."""
    margin: Ratio | None = None
    """Candidate/stable ratio that must be ruled out before the next step; by default 3 up to a share of 0.1, 2 up to 0.3, 1.5 beyond."""

    @property
    def ruled_out(self) -> float:
        """The ratio that must be ruled out here: coarse where few users are at risk, close where many are."""
        if self.margin is not None:
            return self.margin
        return next((margin for most, margin in _MARGINS if self.share <= most), _MARGINS[-1][1])


EVENTS = frozenset({"failure_rate", "violation_rate", "fallback_rate", "tool_error_rate"})
"""Rates of the catalogue that are judged during a canary as events, the more of which the worse."""


_LATENCY = re.compile(r"latency_p\d+")
OF_CATALOGUE = (*sorted(EVENTS), "latency_p50", "latency_p90", "latency_p95", "latency_p99", "quality_mean", "cost_usd")
"""The catalogue's metrics that a canary is judged by, as people name them; any other percentile of the latency, too."""


def is_of_catalogue(metric: str) -> bool:
    """Whether a canary is judged by the catalogue's metric of this name, whatever KPI is called the same.

    >>> [is_of_catalogue(name) for name in ("failure_rate", "latency_p95", "latency_to_order")]
    [True, True, False]
    """
    return metric in OF_CATALOGUE or is_latency(metric)


def is_latency(metric: str) -> bool:
    """Whether it is a percentile of the latency; all of them are judged alike, by the stable bundle's own."""
    return _LATENCY.fullmatch(metric) is not None


def can_be_judged(metric: str, kpis: Iterable[Kpi] = ()) -> bool:
    """Whether a canary can be taken back by the metric, where the stable bundle has data of it.

    Args:
        metric: its name.
        kpis: of the app.

    >>> [can_be_judged(name) for name in ("failure_rate", "latency_p95", "success_rate", "latency_p95_ms")]
    [True, True, False, False]
    """
    kpi = next((kpi for kpi in kpis if kpi.name == metric and not is_of_catalogue(metric)), None)
    if kpi is not None:
        return kpi.aggregate == "rate" and kpi.within is not None
    return is_of_catalogue(metric)


_MARGINS = ((0.1, 3.0), (0.3, 2.0), (1.0, 1.5))


class Shadow(Spec):
    """The stage before the first step: stable answers everybody, the candidate answers copies, and nobody hears it.

    Tools that may change something do not run in it. A first release has nothing to be compared with and goes without.
    """

    share: PositiveShare
    """Fraction of units whose requests the candidate answers, too."""
    at_least: Duration
    """Shortest stay. Time without data does not count."""
    min_units: Annotated[int, Field(ge=1)] = 50
    """Fewest units whose requests it has answered before the first step."""
    margin: Ratio = 1.5
    """It is taken back when its share of bad units is shown to be above stable's, of the same requests, by more than this ratio."""


class RollbackCriterion(Spec):
    """The candidate is taken back when this metric is worse than stable by more than the margin."""

    metric: Text
    """Of the catalogue, or a KPI of app.yaml with `aggregate: rate` and `within`."""
    ratio: Ratio = 1.0
    """Tolerated candidate/stable ratio; stable/candidate of what is better when it is more."""
    role: Literal["critical", "guardrail"] = "guardrail"
    weight: Weight | None = None
    """Its part of the false alarms that a release may have, in proportion to the other weights.
    Without one: 4 for failures, 1 for all else."""


class Watched(Spec):
    """A metric that is followed during a canary and never takes it back by itself."""

    metric: Text
    """Of the catalogue, or a KPI of app.yaml with `within`."""
    role: Literal["signal", "kpi"] = "signal"
    """`kpi`: the canary does not go on while the metric is shown to be worse than stable by more than the ratio, or, of a KPI of
    app.yaml, while no talk's result is known. `signal`: it is shown."""
    ratio: Ratio = 1.0
    """Tolerated candidate/stable ratio; stable/candidate of what is better when it is more."""


class Rollback(Spec):
    """What a rollback restores, and when it happens by itself."""

    target: Literal["last_good", "fallback", "off"] = "last_good"
    criteria: tuple[RollbackCriterion, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if again := twice([criterion.metric for criterion in self.criteria]):
            raise ValueError(f"criteria: {', '.join(again)} stands there more than once; one criterion for each metric")
        return self


class FreezeWindow(Spec):
    """Days without releases, in UTC: days of the week, a stretch of the calendar, or those days of the week within it."""

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    first: Day | None = None
    """First day of the stretch."""
    last: Day | None = None
    """Last day of it, frozen too."""
    reason: Text

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if not self.days and (self.first is None or self.last is None):
            raise ValueError("says no day: name `days`, or `first` and `last`")
        if self.first is not None and self.last is not None and self.last < self.first:
            raise ValueError(f"last {self.last} is before first {self.first}")
        return self


class PlanSpec(Spec):
    """The rollout plan of an app."""

    name: Name = "default"
    steps: tuple[Step, ...] = Field(default=(), min_length=1)
    """Left out, they are those of the app's risk tier."""
    shadow: Shadow | None = None
    """Mirrored traffic before the first step."""
    rollback: Rollback | None = None
    watch: tuple[Watched, ...] = ()
    """Metrics beside the rollback criteria."""
    carried_by: Literal["controller", "people"] = "controller"
    """Who promotes from step to step once a person began the canary. What takes it back is watched in both cases."""
    on_inconclusive: Literal["hold", "rollback", "promote"] = "hold"
    """What happens at the deadline when nothing was shown either way."""
    sessions: Literal["drain", "snap"] = "drain"
    """`drain`: a talk ends on the bundle that it began on while the share rises. `snap`: it goes over with its user.
    A rollback takes all talks with it in both cases."""
    deadline: Duration | None = None
    """Longest time from the first step to the decision."""
    freeze: tuple[FreezeWindow, ...] = ()

    @model_validator(mode="after")
    def _shares_grow(self) -> Self:
        shares = [step.share for step in self.steps]
        if any(later <= earlier for earlier, later in itertools.pairwise(shares)):
            raise ValueError(f"steps: shares {shares} must grow from step to step")
        return self

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        shortest = sum((step.at_least for step in self.steps), timedelta())
        if self.deadline is not None and self.deadline < shortest:
            raise ValueError(
                f"deadline: {format_duration(self.deadline)} is shorter than the steps, which last {format_duration(shortest)} at least"
            )
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics that a canary is judged by or shows."""
        criteria = self.rollback.criteria if self.rollback else ()
        return (*(each.metric for each in criteria), *(each.metric for each in self.watch))

    @model_validator(mode="after")
    def _watched_once(self) -> Self:
        if again := twice(list(self.metrics)):
            raise ValueError(f"watch: {', '.join(again)} is watched already; name each metric once")
        return self

    def stepped(self, risk_tier: str | None) -> PlanSpec:
        """The plan with its steps, or where it names none those of the risk tier; no tier counts as high."""
        return self if self.steps else self.model_copy(update={"steps": RAMPS.get(risk_tier or "high", RAMPS["high"])})


def _ramp(*steps: tuple[float, timedelta, int]) -> tuple[Step, ...]:
    return tuple(Step(share=share, at_least=at_least, min_units=min_units) for share, at_least, min_units in steps)


_HOUR = timedelta(hours=1)
RAMPS: Mapping[str, tuple[Step, ...]] = {
    "low": _ramp((0.1, _HOUR / 2, 100), (0.5, _HOUR, 500)),
    "medium": _ramp((0.05, _HOUR, 200), (0.25, 4 * _HOUR, 1000), (0.5, 12 * _HOUR, 2000)),
    "high": _ramp((0.01, 4 * _HOUR, 200), (0.05, 12 * _HOUR, 1000), (0.25, 24 * _HOUR, 4000), (0.5, 24 * _HOUR, 8000)),
}
"""The steps of plans that name none: the more harm an app can do, the smaller its first share and the longer its way."""
