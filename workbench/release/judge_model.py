"""The nouns of a canary's judgement: what is asked, what was seen, what was made of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.errors import UsageError
from workbench.release.judge_kinds import BY_EVENTS, DECIDING, Decision, Kind, Role

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Units = npt.NDArray[np.uint64]

STABLE, CANDIDATE, OUTSIDE = 0, 1, -1
"""Arms as numbers in an `Observation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPlan:
    """How one metric is judged.

    The margins' meaning follows the kind. `EVENT`, `LATENCY`, `MISSED`: ratio of rates candidate/stable, of the worse event; `REACHED`:
    ratio stable/candidate of the better one; `MOSTLY_REACHED`: harm as `MISSED`, safe as `REACHED`. `SCORE`, `AMOUNT`: loss of the mean,
    candidate against stable, in the metric's own unit, positive. `BUDGET`: rate of the candidate's units with an event.
    """

    name: str
    kind: Kind
    role: Role = Role.GUARDRAIL
    is_lower_better: bool = True
    weight: float = 1.0
    """Share of the false-alarm budget, relative to the other metrics' weights."""
    harm: float = 1.0
    """Takes the candidate back when it is proven worse than this."""
    harm_reached: float = 1.0
    """`MOSTLY_REACHED`: the harm margin once more, as the ratio stable/candidate of those that reached it."""
    safe: tuple[float, ...] = (3.0, 2.0, 1.5)
    """The candidate goes on when it is proven better than this, by step; the last holds for later steps.

    A ratio is of units with an event, and of a KPI also of their first talks. Where few units return often and fail often, it is nearer
    to 1 than that of all events: a candidate at the margin was then proven better in up to 8 % of runs instead of 5 %, so such an app
    sets narrower ones.
    """
    thresholds_ms: tuple[float, ...] = ()
    """`LATENCY`: quantiles of the stable bundle before the release, ascending."""
    slack: float = 0.1
    """`LATENCY`: the candidate may be slower by this fraction."""
    low: float = 0.0
    """`SCORE`: smallest value that can be. `AMOUNT`: values below are cut to it."""
    high: float = 1.0
    """`SCORE`: greatest value that can be. `AMOUNT`: values above are cut to it."""
    unit: str = ""
    """Of a loss, for people."""
    within_us: int | None = None
    """KPI of the app: how long after a talk began its result may come, in microseconds; None where the metric is none."""

    def safe_at(self, step: int) -> float:
        """The margin of that step (from 0)."""
        return self.safe[min(step, len(self.safe) - 1)]

    @property
    def is_of_talks(self) -> bool:
        """Whether it is a KPI's share of talks."""
        return self.within_us is not None and self.kind in BY_EVENTS

    @property
    def may_take_back(self) -> bool:
        return self.role in DECIDING and self.kind is not Kind.AMOUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePlan:
    """What the judge is asked; fixed before the release's first request.

    Raises:
        UsageError: names repeat, a margin, weight or bound is impossible, or no metric may decide.
    """

    metrics: tuple[MetricPlan, ...]
    n_steps: int = 3
    alpha: float = 0.05
    """Most that the probability of taking back a harmless candidate may be, over the whole release, all metrics and all looks."""
    beta: float = 0.05
    """The same of proving a metric safe whose true value is at its margin."""
    split_alpha: float = 0.001
    """The same of calling a healthy split, or equally many results, broken."""
    min_units: tuple[int, ...] = (0,)
    """Fewest candidate units since the release's start before a step is left, by step; the last holds for later steps."""
    max_data_age_s: float = 10.0

    def __post_init__(self) -> None:
        names = [metric.name for metric in self.metrics]
        faults = [f"{name} stands there twice" for name in sorted({name for name in names if names.count(name) > 1})]
        faults += [fault for metric in self.metrics for fault in _faults(metric)]
        faults += [] if any(metric.may_take_back for metric in self.metrics) else ["no metric is critical or a guardrail"]
        faults += [] if self.n_steps >= 1 else [f"{self.n_steps} steps"]
        faults += [f"{what} {value}" for what, value in self._levels() if not 0 < value < 1]
        if faults:
            raise UsageError("judge's plan", seen="; ".join(faults), needed="metrics that can be judged", next_step="correct the plan")

    def _levels(self) -> tuple[tuple[str, float], ...]:
        return ("alpha", self.alpha), ("beta", self.beta), ("split_alpha", self.split_alpha)

    def min_units_at(self, step: int) -> int:
        return self.min_units[min(step, len(self.min_units) - 1)]

    @property
    def weights(self) -> Mapping[str, float]:
        """Name to share of the false-alarm budget, for the metrics that may take the candidate back; they sum to 1."""
        deciding = {metric.name: metric.weight for metric in self.metrics if metric.may_take_back}
        return {name: weight / sum(deciding.values()) for name, weight in deciding.items()}


def _faults(metric: MetricPlan) -> list[str]:
    faults = []
    if not (metric.weight > 0 and np.isfinite(metric.weight)):
        faults.append(f"weight {metric.weight}")
    if not metric.safe:
        faults.append("no safe margin")
    margins = (metric.harm, metric.harm_reached, *metric.safe) if metric.kind is Kind.MOSTLY_REACHED else (metric.harm, *metric.safe)
    if metric.kind in BY_EVENTS and not all(0 < margin < np.inf for margin in margins):
        faults.append(f"ratios {margins}")
    if metric.kind is Kind.BUDGET and not all(0 <= margin < 1 for margin in margins):
        faults.append(f"rates {margins}")
    if metric.kind in (Kind.SCORE, Kind.AMOUNT) and not metric.low < metric.high < np.inf:
        faults.append(f"bounds {metric.low} to {metric.high}")
    elif metric.kind is Kind.SCORE and not all(0 <= margin < metric.high - metric.low for margin in margins):
        faults.append(f"margins {margins} of values from {metric.low} to {metric.high}")
    if metric.kind is Kind.MOSTLY_REACHED and metric.within_us is None:
        faults.append("no talks that reach it")
    if metric.kind is Kind.LATENCY and not (
        metric.thresholds_ms and all(0 < a < b for a, b in itertools.pairwise((*metric.thresholds_ms, np.inf)))
    ):
        faults.append(f"thresholds {metric.thresholds_ms}")
    return [f"{metric.name}: {fault}" for fault in faults]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One metric's values in a batch of rows."""

    values: Floats
    """An event is 1, none is 0. Whatever is not finite, or out of the declared bounds, is refused and counted."""
    is_present: Bools | None = None
    """Which rows have a value at all; None: every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Rows of the log in columns of equal length n, ascending by (batch_id, seq).

    A row is a request that began, one that ended, a score that came in, or a talk whose business result was decided; which of them, its
    columns' `is_present` say.
    """

    batch_id: Ints
    seq: Ints
    """Place in its batch; no two rows of a batch have the same."""
    arm: npt.NDArray[np.int8]
    """`STABLE`, `CANDIDATE`; any other number is outside of the judgement (shadow, none, no unit)."""
    share: Floats
    """Of the route version that decided the request, 0 to 1."""
    step: Ints
    """Of the release, from 0."""
    unit: Units
    """64 bits of the unit's hash."""
    values: Mapping[str, Column]
    """By metric name. A metric of the plan that is not there has no values in these rows."""

    @property
    def n(self) -> int:
        return len(self.batch_id)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A row of the log."""

    batch_id: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """Where a limit was passed for the first time."""

    place: Place
    e: float
    """The e-value there."""
    blame: str
    """The metric that holds most of it, or what is wrong with the split."""
    n_candidate: int
    """Units that the candidate had served by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricJudgement:
    """What is known of one metric."""

    name: str
    kind: Kind
    role: Role
    e_harm: float
    """Evidence that the candidate is worse than the harm margin, 1 where there is none either way."""
    e_safe: float
    """Evidence that it is better than the present step's safe margin."""
    harm: float
    safe: float
    """The two margins."""
    estimate: float | None
    """Ratio, loss or rate as the margins mean it; None without data."""
    low: float | None
    high: float | None
    """Confidence sequence at 1 - alpha: it covers at every look at once. None: unbounded."""
    n_stable: int
    n_candidate: int
    """Units with an event (`EVENT`, `LATENCY`), or values that count (the other kinds); of a KPI talks that are decided."""
    n_refused: int
    """Values that were not finite, out of bounds or of another currency, or came too late."""
    is_safe: bool
    is_harmful: bool
    """Whether this metric alone would do."""
    unit: str = ""
    """Of a loss, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the judge advises, and all it rests on."""

    decision: Decision
    reason: str
    """Stable code: `harm`, `proven`, `split`, `missing`, `no_rows`, `one_arm`, `stale`, `gathering`, `no_outcome`, `kpi`, `units`,
    `deadline`."""
    sentence: str
    at: datetime
    data_at: datetime | None
    """Until when rows are known to be there; None: never."""
    step: int
    e_harm: float
    """The weighted sum over metrics, now."""
    e_harm_limit: float
    e_safe_limit: float
    blame: str | None
    metrics: tuple[MetricJudgement, ...]
    e_split: float
    """Evidence that units are split otherwise than the route says."""
    e_missing: float
    """Evidence that results come in more often from one arm."""
    e_split_limit: float
    units_stable: int
    units_candidate: int
    """Different units that each arm has served since the release's start."""
    units_to_go: int | None
    """Candidate units until every metric is expected to be proven, were the candidate just as good; None where that cannot be said."""
    high_water: Place | None
    rows: int
    """Rows in the judgement."""
    rows_outside: int
    """Rows of other arms, or whose share left nothing to chance."""
    rows_repeated: int
    """Rows that had been seen before."""

    def as_json(self) -> dict[str, Any]:
        """For the ledger and for other programs; numbers that are not finite are texts (`inf`)."""
        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}


def plain(value: Any) -> Any:
    """The value in what JSON knows."""
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value
