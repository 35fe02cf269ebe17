"""`gates.yaml`: the measured bars that a bundle must clear before it goes live.

The declared gates (owner, plan, target, escalation …) need no entry here: they are built in and cannot be left out.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from workbench.spec.base import Duration, Name, NotNegative, Number, Ratio, Spec, Text, parse_duration, twice

SHARE_SUFFIX = "_rate"
"""How the names of metrics that are shares end; a share lies between 0 and 1."""
DRILL_METRIC = "rollback_drill_s"
"""Seconds until the slowest gateway followed in the newest rollback drill: no metric of the log, but a bar like any other."""


class Family(StrEnum):
    """The guide's four families of readiness gates."""

    BUSINESS = "business"
    QUALITY = "quality"
    RISK = "risk"
    ROLLBACK = "rollback"


class AgainstBaseline(Spec):
    """How much worse than the baseline bundle the candidate may be; exactly one of the two."""

    margin: NotNegative | None = None
    """Tolerated absolute difference, in the metric's unit."""
    ratio: Ratio | None = None
    """Tolerated candidate/baseline ratio (baseline/candidate where higher is better)."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.margin is None) == (self.ratio is None):
            raise ValueError("give either margin or ratio")
        return self


class GateSpec(Spec):
    """One bar. Exactly one of `at_least`, `at_most` and `against_baseline` sets it."""

    id: Name
    title: str = ""
    family: Family = Family.QUALITY
    metric: Text
    """A metric of the catalogue or a KPI of app.yaml. Or `rollback_drill_s`: of the slowest gateway in the newest rollback drill."""
    where: dict[str, str] = Field(default_factory=dict)
    """Restricts the requests, for example `{workflow: refund}`."""
    at_least: Number | None = None
    at_most: Number | None = None
    against_baseline: AgainstBaseline | None = None
    min_n: Annotated[int, Field(ge=1)] = 100
    """Fewest observations on which the gate may decide; of a drill, gateways, by default 1."""
    max_age: Duration = Field(default=parse_duration("14d"), json_schema_extra={"default": "14d"})
    """How old the newest `min_n` observations may be, each unit counted once; one fresh request renews nothing."""
    is_blocking: bool = True
    """Whether a failure stops the release, or is only shown."""
    why: str = ""
    """What the bar protects, for the reader of a review."""

    @model_validator(mode="before")
    @classmethod
    def _as_a_drill(cls, written: object) -> object:
        """What a gate on drills need not say."""
        if isinstance(written, dict) and written.get("metric") == DRILL_METRIC:
            return {"family": Family.ROLLBACK, "min_n": 1, "max_age": "90d", **written}
        return written

    @model_validator(mode="after")
    def _is_a_drill(self) -> Self:
        if self.metric != DRILL_METRIC:
            return self
        if self.at_most is None or self.at_most <= 0 or self.where or self.family is not Family.ROLLBACK:
            raise ValueError(f"a gate on {DRILL_METRIC} has at_most, in seconds and above 0, no where, and no other family than rollback")
        return self

    @model_validator(mode="after")
    def _one_bar(self) -> Self:
        bars = [self.at_least is not None, self.at_most is not None, self.against_baseline is not None]
        if sum(bars) != 1:
            raise ValueError("a gate has exactly one of at_least, at_most and against_baseline")
        return self

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        """A bar that every share clears would let anything through."""
        if not self.metric.endswith(SHARE_SUFFIX):
            return self
        if self.at_least is not None and self.at_least <= 0:
            raise ValueError(f"{self.metric} is always at least {self.at_least:g}, so this bar lets everything through; set one above 0")
        if self.at_most is not None and self.at_most >= 1:
            raise ValueError(f"{self.metric} is always at most {self.at_most:g}, so this bar lets everything through; set one below 1")
        margin = self.against_baseline.margin if self.against_baseline else None
        if margin is not None and margin >= 1:
            raise ValueError(f"no {self.metric} can be worse by more than 1, so this margin lets everything through; set one below 1")
        return self


class GatesSpec(Spec):
    """The measured gates of an app."""

    gates: tuple[GateSpec, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        repeated = twice([gate.id for gate in self.gates])
        if repeated:
            raise ValueError(f"gate ids must be unique; {', '.join(repeated)} appears more than once")
        return self
