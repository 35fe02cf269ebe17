"""`plan.yaml`: how a release grows, and what takes it back."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workbench.spec.base import Duration, Name, PositiveShare, Ratio, Spec, Text


class Step(Spec):
    """One stage of the canary."""

    share: PositiveShare
    """Fraction of units that the candidate serves."""
    at_least: Duration
    """Shortest stay, so that a traffic cycle is seen."""
    min_units: Annotated[int, Field(ge=0)] = 0
    """Fewest candidate units before the next step."""


class RollbackCriterion(Spec):
    """The candidate is taken back when this metric is worse than stable by more than the margin."""

    metric: Text
    ratio: Ratio = 1.0
    """Tolerated candidate/stable ratio."""


class Rollback(Spec):
    """What a rollback restores, and when it happens by itself."""

    target: Literal["last_good", "fallback", "off"] = "last_good"
    criteria: tuple[RollbackCriterion, ...] = ()


class FreezeWindow(Spec):
    """Weekly hours without releases, in UTC."""

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(min_length=1)
    reason: Text


class PlanSpec(Spec):
    """The rollout plan of an app."""

    name: Name = "default"
    steps: tuple[Step, ...] = Field(min_length=1)
    rollback: Rollback | None = None
    on_inconclusive: Literal["hold", "rollback", "promote"] = "hold"
    sessions: Literal["drain", "snap"] = "drain"
    deadline: Duration | None = None
    """Longest time from the first step to the decision."""
    freeze: tuple[FreezeWindow, ...] = ()

    @model_validator(mode="after")
    def _shares_grow(self) -> Self:
        shares = [step.share for step in self.steps]
        if any(later <= earlier for earlier, later in itertools.pairwise(shares)):
            raise ValueError(f"steps: shares {shares} must grow from step to step")
        return self
