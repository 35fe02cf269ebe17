"""The nouns of business impact: a KPI by period, what usage did meanwhile, and what one bundle changed against another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from workbench.errors import UnknownSubject
from workbench.spec.app import Kpi
from workbench.stats.estimate import Estimate
from workbench.stats.outliers import Tail
from workbench.stats.split import SplitTest, Stretch

ATTRIBUTION = (
    "An event counts for its request, else for the newest request of its session before it, else for the newest of its unit; "
    "a session stands where its first request stands"
)
"""The rule, as it is shown beside every number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TalksBefore:
    """What talks of one bundle came to by a KPI, those alone whose window is over."""

    kpi: Kpi
    n: int
    """Talks with a value."""
    mean: float | None
    """Share of those that reached it, or the mean value within the bounds; None without a value."""
    low: float = 0.0
    """Bounds of a talk's value: 999 of 1000 are within each of them."""
    high: float = 1.0


class State(StrEnum):
    """Whether a period can be judged."""

    COMPLETE = "COMPLETE"
    OPEN = "OPEN"
    """Events of it may still come; its value is only what is known so far."""
    MISSING = "MISSING"
    """Nothing happened in it, or nothing was logged."""


class Standing(StrEnum):
    """Where a value stands to a bar, by the interval of the value."""

    BETTER = "BETTER"
    """The whole interval is on the good side, or on the bar."""
    WORSE = "WORSE"
    UNCLEAR = "UNCLEAR"
    """The interval holds the bar, or has no end on the side that matters."""
    UNKNOWN = "UNKNOWN"
    """There is no value, no bar, or the two are not meant for the same length of time."""


class Reason(StrEnum):
    """Why a finding is what it is; stable codes for filters and logs."""

    TARGET_REACHED = "TARGET_REACHED"
    TARGET_AHEAD = "TARGET_AHEAD"
    """Not reached, and the day has not come."""
    TARGET_MISSED = "TARGET_MISSED"
    """The day has passed, and the value is below it for sure."""
    TARGET_UNCLEAR = "TARGET_UNCLEAR"
    NO_TARGET = "NO_TARGET"
    BELOW_BASELINE = "BELOW_BASELINE"
    NO_COMPLETE_PERIOD = "NO_COMPLETE_PERIOD"
    USAGE_WITHOUT_OUTCOME = "USAGE_WITHOUT_OUTCOME"
    """Usage rises, the outcome does not, and the gap surely grows: measuring success by usage instead of business outcomes."""
    USAGE_WITH_OUTCOME = "USAGE_WITH_OUTCOME"
    OUTCOME_UNCLEAR = "OUTCOME_UNCLEAR"
    """Usage rises, and the outcome may or may not."""
    USAGE_NOT_RISING = "USAGE_NOT_RISING"
    FEW_PERIODS = "FEW_PERIODS"
    USAGE_KPI = "USAGE_KPI"
    """The KPI itself counts activity; it can accompany an outcome."""
    USAGE_ONLY = "USAGE_ONLY"
    """Every KPI of the app counts activity."""
    SPLIT_MISMATCH = "SPLIT_MISMATCH"
    NO_TRAFFIC = "NO_TRAFFIC"
    WINDOW_OPEN = "WINDOW_OPEN"
    FEW_UNITS = "FEW_UNITS"
    NO_VARIATION = "NO_VARIATION"
    """No unit differs from another, so nothing is known of chance."""
    BETTER = "BETTER"
    WORSE = "WORSE"
    NO_DIFFERENCE_SHOWN = "NO_DIFFERENCE_SHOWN"


NEGATIVE = frozenset(
    {Reason.TARGET_MISSED, Reason.BELOW_BASELINE, Reason.USAGE_WITHOUT_OUTCOME, Reason.USAGE_ONLY, Reason.SPLIT_MISMATCH, Reason.WORSE}
)
"""Reasons that are a no."""
OPEN_ENDED = frozenset({Reason.NO_COMPLETE_PERIOD, Reason.NO_TRAFFIC, Reason.WINDOW_OPEN, Reason.FEW_UNITS, Reason.NO_VARIATION})
"""Reasons that mean: not enough evidence."""


class Answer(StrEnum):
    """What several findings come to together."""

    NO = "NO"
    NOT_ENOUGH_EVIDENCE = "NOT_ENOUGH_EVIDENCE"
    YES = "YES"
    """Nothing speaks against it; what was asked is answered."""


def answer(reasons: Iterable[Reason]) -> Answer:
    """The worst of the findings."""
    found = frozenset(reasons)
    if found & NEGATIVE:
        return Answer.NO
    return Answer.NOT_ENOUGH_EVIDENCE if found & OPEN_ENDED or not found else Answer.YES


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A judgement with its stable code and its sentence."""

    reason: Reason
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """One day, week or month of a KPI, UTC."""

    start: datetime
    until: datetime
    state: State
    is_partial: bool
    """Whether the log, or what was asked of it, begins within it: its counts are of a part of it."""
    value: float | None
    """Of an open period only what is known so far; None without data, never 0."""
    low: float | None
    """Ends of the 95 % interval."""
    high: float | None
    n: int
    """Observations: sessions of a rate, events with a value of a mean or sum."""
    requests: int
    sessions: int
    units: int
    outcomes: int
    """Sessions with the event (rate), else events."""
    total: float
    """Sum of the events' values; of a rate the number of sessions with the event."""
    cost_usd: float | None
    """Of the sessions whose every request is priced."""
    cost_per_outcome: float | None
    target: Standing
    baseline: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """What became of the events of a KPI."""

    by_request: int = 0
    by_session: int = 0
    by_unit: int = 0
    too_late: int = 0
    """Later than the KPI's `within` after the request they belong to; of a rate, after the first one of its session."""
    before: int = 0
    """They name a unit whose first request came later: its pre-period."""
    nobodys: int = 0
    """They name no request, session or unit that the log knows."""

    @property
    def counted(self) -> int:
        return self.by_request + self.by_session + self.by_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """Why the total outcome changed from the first to the newest whole period; the parts add up exactly."""

    start: datetime
    """Of the first period."""
    until: datetime
    """Start of the newest one."""
    before: float
    after: float
    parts: Mapping[str, float]
    """Factor to what its change brought, in the unit of the total."""
    factors_before: Mapping[str, float]
    factors_after: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiImpact:
    """What a KPI did, period by period."""

    kpi: Kpi
    by: str
    """day, week or month."""
    periods: tuple[Period, ...]
    """Oldest first, without gaps."""
    now: Period | None
    """The newest complete period; None without one."""
    overall: Estimate | None
    """Over all complete periods; of a sum the mean of the whole ones' totals. None without one."""
    target: Standing
    baseline: Standing
    finding: Finding
    """Where the KPI stands."""
    usage: Finding
    """What usage did beside it."""
    usage_trend: Estimate | None
    """Requests: change per period as a share of the usual number, over whole periods."""
    outcome_trend: Estimate | None
    """The outcome, likewise; positive is better."""
    waterfall: Waterfall | None
    """None below two whole periods with outcomes."""
    attributed: Attributed
    cost_per_outcome: Estimate | None
    priced_share: float | None
    """Of the sessions of complete periods, those whose every request is priced."""

    @property
    def complete(self) -> tuple[Period, ...]:
        return tuple(period for period in self.periods if period.state is State.COMPLETE)

    @property
    def whole(self) -> tuple[Period, ...]:
        """The complete periods that are no partial one: only their counts can be compared."""
        return tuple(period for period in self.complete if not period.is_partial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What the app does for its business, KPI by KPI."""

    app: str
    by: str
    kpis: tuple[KpiImpact, ...]
    as_of: datetime | None
    """Until when the log is known; None where it holds nothing of the app."""
    snapshot: int | None
    where: Mapping[str, tuple[str, ...]]

    @property
    def reasons(self) -> frozenset[Reason]:
        return frozenset(finding.reason for kpi in self.kpis for finding in (kpi.finding, kpi.usage))

    def of(self, kpi: str) -> KpiImpact:
        """What one KPI did.

        Raises:
            UnknownSubject: it is not among them.
        """
        for found in self.kpis:
            if found.kpi.name == kpi:
                return found
        raise UnknownSubject(f"KPI {kpi!r}", seen="it is not in this report", needed=f"one of {', '.join(k.kpi.name for k in self.kpis)}")


class Design(StrEnum):
    """Who decided which unit got which bundle."""

    ROUTED = "ROUTED"
    """The routes of a release, by chance, in declared shares: an experiment."""
    UNROUTED = "UNROUTED"
    """Nobody by chance: the units may differ in more than the bundle."""


class Crossed(StrEnum):
    """What is done with units that were answered by both sides."""

    FIRST_EXPOSURE = "first_exposure"
    """They stay, whole, on the side that answered them first."""
    EXCLUDE = "exclude"
    """They are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison."""

    name: str
    """Bundle ids, as the log has them."""
    units: int
    """Exposed, whatever became of them."""
    judged: int
    """Of these, the ones whose windows are over and that count."""
    value: float | None
    """The KPI per unit, as it is compared; None where the effect is refused."""
    cost_per_outcome: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An effect on both scales, from one way of looking at the same units."""

    way: str
    """`as observed`, `outliers cut`, `adjusted by the pre-period`."""
    absolute: Estimate
    absolute_p: float
    relative: Estimate | None
    """None where the baseline may be 0."""
    relative_p: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variance:
    """What the pre-period took out of the noise, or why it could not."""

    days: float
    """Length of the pre-period before a unit's first exposure."""
    theta: float | None
    reduction: float | None
    """Share of the variance, 0 to 1."""
    n_with_pre: int
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What the candidate changed in one KPI against the baseline; without a number where it cannot be trusted."""

    app: str
    kpi: Kpi
    design: Design
    release_id: str | None
    candidate: Side
    baseline: Side
    finding: Finding
    estimand: str
    """What is compared, in words: `EUR per unit`."""
    split: SplitTest | None
    """None where no shares were declared."""
    stretches: tuple[Stretch, ...]
    crossed: int
    """Units that both sides answered."""
    crossed_rule: Crossed
    open_units: int
    """Left out because an event may still come."""
    one_sided: int
    """Left out because in their stretch only one side had enough units."""
    nameless: int
    """Sessions that name no unit; they are in no experiment."""
    tail: Tail | None
    """How much hangs on the greatest values; None for a rate."""
    measured: tuple[Measured, ...]
    """Empty where the effect is refused. The first one decides."""
    variance: Variance | None
    as_of: datetime | None
    within: timedelta | None
    snapshot: int | None
    drill_lost: float = 0.0
    """Above 0 it is a drill, as if this share of the candidate's units had been lost: no finding of the log."""
