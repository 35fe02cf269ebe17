"""The words of a canary's judgement: how a metric is tested, what it may decide, what is advised."""

from __future__ import annotations

from enum import StrEnum

RULES = 2
"""Which rules of judging these are: it grows with every change by which the same rows may come to another judgement. `replaying` says which
plans a change concerns, so that only their decisions of before are not taken for ones whose rows were altered."""
FIRST_RULES = 1
"""Those of decisions that name none."""


class Kind(StrEnum):
    """How a metric is tested."""

    EVENT = "event"
    """Happened or not: failure, violation, tool error. Ratio candidate/stable by the tilted-label e-process."""
    LATENCY = "latency"
    """Milliseconds: events are requests above fixed thresholds, tested like `EVENT`, one test per threshold."""
    SCORE = "score"
    """Bounded value: block-paired betting on the difference of means."""
    BUDGET = "budget"
    """Happened or not, in the candidate alone, against an absolute rate; a rate of 0 takes the candidate back at the first event."""
    AMOUNT = "amount"
    """Heavy-tailed value (revenue): asymptotic confidence sequence of block differences. May hold, never take back."""
    REACHED = "reached"
    """Reached or not, the more the better: `EVENT` with the arms exchanged. Ratio stable/candidate."""
    MOSTLY_REACHED = "mostly_reached"
    """The same where most, but not nearly all, reach it: harm also by units that did not, ratio candidate/stable; safety as `REACHED`."""
    MISSED = "missed"
    """The same with safety by units that did not, too. Only of plans that were fixed before `MOSTLY_REACHED` was there."""


class Role(StrEnum):
    """What a metric may decide."""

    CRITICAL = "critical"
    """May take the candidate back, and must be proven safe before it goes on."""
    GUARDRAIL = "guardrail"
    """The same; blamed after a critical one."""
    KPI = "kpi"
    """Holds while it looks worse than its margin."""
    SIGNAL = "signal"
    """Is shown, and decides nothing: a new metric on trial."""


class Decision(StrEnum):
    """What the judge advises at one moment."""

    PROMOTE = "promote"
    """This step is proven: on to the next one, or to all users after the last."""
    HOLD = "hold"
    """Neither proven safe nor harmful yet, or data too old: keep the share."""
    ROLLBACK = "rollback"
    INVALID = "invalid"
    """Units are not split as the route says, or results are missing on one side: no number can be trusted. A person has to look."""
    NO_DATA = "no_data"
    """Nothing to judge by: no requests, or none in one arm."""
    INCONCLUSIVE = "inconclusive"
    """The deadline passed and nothing was decided; the plan's policy says what follows."""


BY_EVENTS = frozenset({Kind.EVENT, Kind.LATENCY, Kind.REACHED, Kind.MOSTLY_REACHED, Kind.MISSED})
"""Kinds whose evidence is that of the tilted-label e-process."""
BY_MISSES = frozenset({Kind.MOSTLY_REACHED, Kind.MISSED})
"""Kinds whose harm is that of units that did not reach it."""
LOSSES = frozenset({Kind.SCORE, Kind.AMOUNT})
"""Kinds whose estimate is a loss, which a gain makes negative."""
DECIDING = frozenset({Role.CRITICAL, Role.GUARDRAIL})
