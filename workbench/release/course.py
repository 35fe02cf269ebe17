"""What happens next to a release under way, from what the judge advises and what stands in the way. Pure.

harm shown                     ROLLBACK, whatever else: no wait, lock, freeze or budget keeps a candidate in service
nothing can be trusted         HOLD, and a person is asked: the canary is held
no fresh data                  HOLD, the share stays and the plan's clock stands still
deadline without an answer     what the plan says
proven, nothing in the way     PROMOTE
otherwise                      CONTINUE, with what is waited for
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from workbench.release.judge_kinds import Decision as Advice
from workbench.release.judge_kinds import Kind
from workbench.release.judge_model import Judgement
from workbench.release.judge_terms import FAILURES
from workbench.release.model import Objection, Release, State
from workbench.release.states import Act
from workbench.spec.plan import PlanSpec


class Decision(StrEnum):
    """What is done about a release."""

    PROMOTE = "PROMOTE"
    CONTINUE = "CONTINUE"
    """Nothing is missing but time and evidence."""
    HOLD = "HOLD"
    """It does not go on while this lasts."""
    ROLLBACK = "ROLLBACK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A decision, its reason, and the act that follows from it."""

    decision: Decision
    reason: str
    """Short and stable."""
    sentence: str
    act: Act | None = None
    """None: everything stays as it is."""
    early: str = ""
    """Why a promotion does not wait for what its step asks for."""


class Asked(Protocol):
    """A decision that was noted."""

    @property
    def step(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def release_version(self) -> int: ...
    @property
    def inputs(self) -> Mapping[str, Any]: ...


class Advised(Protocol):
    """A judgement: of the judge, or of a shadow stage."""

    @property
    def decision(self) -> Advice: ...

    @property
    def reason(self) -> str: ...

    @property
    def sentence(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a decision rests on."""

    release: Release
    """In its canary, or held."""
    judgement: Advised | None
    """None where nothing could be judged."""
    fault: str
    """Why nothing could be judged; empty otherwise."""
    waits: Sequence[str]
    """What its step still asks for, by the plan's clock."""
    objections: Sequence[Objection]
    """Why it may not go on now: frozen, locked, declarations changed, a burnt budget …"""
    is_overdue: bool = False
    """Whether its present step began after the deadline."""
    asked: Collection[str] = ()
    """Reasons for which a person was asked at this step already: whoever resumes it is not asked the same again."""


def next_move(at: Situation) -> Move:
    """The decision for this situation."""
    judged = at.judgement
    if judged is None:
        return Move(decision=Decision.HOLD, reason="not_judged", sentence=f"nothing can be judged: {at.fault}")
    if judged.decision is Advice.ROLLBACK:
        return Move(decision=Decision.ROLLBACK, reason=judged.reason, sentence=judged.sentence, act=Act.ROLLBACK)
    if judged.decision is Advice.INVALID:
        is_new = at.release.state is State.CANARY and judged.reason not in at.asked
        return Move(decision=Decision.HOLD, reason=judged.reason, sentence=judged.sentence, act=Act.HOLD if is_new else None)
    if at.release.state is State.HELD:
        return Move(decision=Decision.HOLD, reason="held", sentence=at.release.note or "it is held")
    return _under_way(at, judged)


def asked_at(decisions: Iterable[Asked], step: int, version: int) -> frozenset[str]:
    """The reasons for which a person was asked at this step already: a hold that was noted and never done asked nobody.

    Args:
        decisions: that were noted.
        step: from 0.
        version: the release's present one; a hold that was done made it grow.
    """
    holds = (each for each in decisions if each.step == step and each.inputs.get("act") == Act.HOLD)
    return frozenset(each.reason for each in holds if each.release_version < version)


def is_overdue(plan: PlanSpec | None, *, run_s: float, canary_s: float) -> bool:
    """Whether the step that has lasted `run_s` of the canary's `canary_s` began after the plan's deadline."""
    return plan is not None and plan.deadline is not None and canary_s - run_s >= plan.deadline.total_seconds()


def fails_less(judged: Judgement) -> bool:
    """Whether the candidate is shown to fail less often than stable: then going on is what lets a burnt error budget recover."""
    return any(
        metric.name == FAILURES and metric.kind is Kind.EVENT and metric.high is not None and metric.high < 1 for metric in judged.metrics
    )


def _under_way(at: Situation, judged: Advised) -> Move:
    if judged.decision is Advice.PROMOTE:
        return _proven(at, judged)
    if judged.decision is Advice.INCONCLUSIVE:
        return _at_deadline(at, judged)
    if judged.decision is Advice.NO_DATA or judged.reason in ("stale", "kpi"):
        return Move(decision=Decision.HOLD, reason=judged.reason, sentence=judged.sentence)
    if judged.reason == "incomparable" and not at.waits:
        ask = None if judged.reason in at.asked else Act.HOLD
        return Move(decision=Decision.HOLD, reason=judged.reason, sentence=f"{judged.sentence}; a person has to decide", act=ask)
    if at.objections:
        return _kept(at)
    return Move(decision=Decision.CONTINUE, reason=judged.reason, sentence=judged.sentence)


def _proven(at: Situation, judged: Advised) -> Move:
    if at.waits:
        return Move(decision=Decision.CONTINUE, reason="not_yet", sentence=f"{judged.sentence}; it waits: {'; '.join(at.waits)}")
    if at.objections:
        return _kept(at)
    if not _is_carried(at.release):
        return Move(decision=Decision.CONTINUE, reason="by_people", sentence=f"{judged.sentence}; its plan leaves the promotion to people")
    return Move(decision=Decision.PROMOTE, reason=judged.reason, sentence=judged.sentence, act=Act.PROMOTE)


def _at_deadline(at: Situation, judged: Advised) -> Move:
    policy = at.release.plan.on_inconclusive if at.release.plan else "hold"
    if policy == "rollback":
        words = f"{judged.sentence}; its plan takes it back then"
        return Move(decision=Decision.ROLLBACK, reason=judged.reason, sentence=words, act=Act.ROLLBACK)
    if policy == "promote" and at.is_overdue and at.waits:
        said = f"{judged.sentence}; its plan promotes it step by step, and this one waits: {'; '.join(at.waits)}"
        return Move(decision=Decision.CONTINUE, reason="not_yet", sentence=said)
    if policy == "promote" and not at.objections:
        words = f"{judged.sentence}; its plan promotes it then"
        return Move(decision=Decision.PROMOTE, reason=judged.reason, sentence=words, act=Act.PROMOTE, early=words)
    if policy == "promote":
        return _kept(at)
    ask = None if judged.reason in at.asked else Act.HOLD
    return Move(decision=Decision.HOLD, reason=judged.reason, sentence=f"{judged.sentence}; a person has to decide", act=ask)


def _kept(at: Situation) -> Move:
    first = at.objections[0]
    return Move(decision=Decision.HOLD, reason=first.reason, sentence=f"it cannot go on: {first}")


def _is_carried(release: Release) -> bool:
    return release.plan is not None and release.plan.carried_by == "controller"
