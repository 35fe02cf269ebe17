"""`slo.yaml`: how good the application has to be in service, over which window, and when somebody is called.

A target is the share of good events that the objective needs; the rest is its error budget. Nothing here decides a release.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workbench.spec.base import Duration, Name, Share, Spec, Text, format_duration, parse_duration, twice

SUCCESS, LATENCY, TTFT, AVAILABILITY, VIOLATIONS = "success", "latency", "ttft", "availability", "violations"
INDICATORS = (SUCCESS, LATENCY, TTFT, AVAILABILITY, VIOLATIONS)
"""What an objective can count by itself; any rate of the metric catalogue goes by its own name."""
TIMED = frozenset({LATENCY, TTFT})
"""Indicators that compare a time with `under`."""
CALENDAR = {"week": timedelta(days=7), "month": timedelta(days=30), "quarter": timedelta(days=90)}
"""Calendar windows (UTC) to the length by which their alert lines are drawn."""
SHORTEST_WINDOW, LONGEST_WINDOW = timedelta(days=1), timedelta(days=366)
_DAYS_28 = parse_duration("28d")


class BurnLine(Spec):
    """One alert: the budget burns at this rate over the long window, and still does over the short one."""

    burn_rate: Annotated[float, Field(ge=1)]
    """How many times faster than the target allows; 1 spends exactly the budget in the objective's window."""
    long: Duration
    """The window that makes sure of it."""
    short: Duration
    """The window that ends the alert soon after the burning ended."""
    severity: Literal["page", "ticket"]
    """`page` calls whoever is on call, `ticket` waits for the next working day."""

    @model_validator(mode="after")
    def _short_is_shorter(self) -> Self:
        if self.short >= self.long:
            raise ValueError(f"short: got {format_duration(self.short)}, which is not shorter than long ({format_duration(self.long)})")
        if any(span % timedelta(minutes=1) for span in (self.short, self.long)):
            raise ValueError("long and short are whole minutes")
        return self


class Objective(Spec):
    """A share of events that has to be good."""

    name: Name
    title: str = ""
    indicator: Text
    """`success`, `latency`, `ttft`, `availability`, `violations`, or a rate of the metric catalogue by its name."""
    under: Duration | None = None
    """For `latency` and `ttft`: a request is good when it took less."""
    workflow: Name | None = None
    """Only requests of this workflow; all of the app otherwise."""
    target: Share
    """The least share of good events; what is left of 1 is the error budget."""
    window: Duration | None = Field(default=None, json_schema_extra={"default": "28d"})
    """The rolling window that ends now, from 1d to 366d; `28d` where no calendar window is given either."""
    calendar: Literal["week", "month", "quarter"] | None = None
    """Instead of a rolling window: the budget begins anew with each week (Monday), month or quarter, UTC."""
    owner: Name | None = None
    """Who answers for it; the owner of the file otherwise."""
    min_events: Annotated[int, Field(ge=1)] | None = None
    """Fewest decided events on which it is judged; as in the file otherwise."""
    undecided: Literal["left_out", "bad"] = "left_out"
    """Requests of which nobody knows yet whether they were good: never good. `left_out` says nothing where they could turn the answer."""
    settles_after: Duration | None = None
    """Judge only requests older than this, because the answer comes late; by default as long as success waits for a business event."""
    alerts: tuple[BurnLine, ...] | None = None
    """Alert lines of its own instead of those of the file."""
    why: str = ""
    """What the objective protects, for whoever is called at night."""

    @model_validator(mode="after")
    def _target_leaves_a_budget(self) -> Self:
        if not 0 < self.target < 1:
            raise ValueError(f"target: got {self.target:g}; needed a share between 0 and 1, which leaves a budget (99 % is 0.99)")
        return self

    @model_validator(mode="after")
    def _times_have_a_limit(self) -> Self:
        if self.indicator in TIMED and self.under is None:
            raise ValueError(f"under: missing; {self.indicator} needs the time that a good request stays under, for example 3s")
        if self.indicator not in TIMED and self.under is not None:
            raise ValueError(f"under: got {format_duration(self.under)}; only latency and ttft compare a time")
        return self

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        if self.window is not None and self.calendar is not None:
            raise ValueError("give either window or calendar")
        if not SHORTEST_WINDOW <= self.span <= LONGEST_WINDOW:
            raise ValueError(f"window: got {format_duration(self.span)}; needed from 1d to 366d")
        return self

    @property
    def span(self) -> timedelta:
        """The length of its window; nominal for a calendar window."""
        return CALENDAR[self.calendar] if self.calendar else self.window or _DAYS_28


class TrafficAlarms(Spec):
    """Alarms on unusual volume and cost, learnt from the same hours of the weeks before."""

    volume: bool = True
    cost: bool = True
    false_alarms_per_week: Annotated[float, Field(ge=0.05, le=7)] = 1.0
    """How many alarms a week may be chance, for each of them."""


class SloSpec(Spec):
    """The service level objectives of an app."""

    arms: tuple[Literal["stable", "candidate", "none"], ...] = Field(default=("stable", "candidate", "none"), min_length=1)
    """Whose requests count: those that a release served, by its arm, and with `none` those that no release did, as imported ones.
    Copies that a shadow answered never reached anybody and never count."""

    owner: Name | None = None
    """Who answers for an objective that names nobody."""
    min_events: Annotated[int, Field(ge=1)] = 50
    """Fewest decided events on which an objective or an alert line is judged."""
    alerts: tuple[BurnLine, ...] | None = None
    """Alert lines for all objectives; by default the four of the SRE workbook, scaled to each window."""
    alarms: TrafficAlarms = TrafficAlarms()
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        repeated = twice([objective.name for objective in self.objectives])
        if repeated:
            raise ValueError(f"objectives: {', '.join(repeated)} is declared more than once")
        return self
