"""The nouns of release: a release and its states, approvals, locks, and what stands in the way of an act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from workbench.release.followers import Followers
from workbench.spec.plan import PlanSpec, Shadow, Step


class State(StrEnum):
    """Where a release stands."""

    DRAFT = "DRAFT"
    """Asked for; its readiness review is being made."""
    READY = "READY"
    """Its review said GO; a second person has to approve it."""
    APPROVED = "APPROVED"
    CANARY = "CANARY"
    """The candidate serves the share of the present step; without a step it answers copies, which nobody hears."""
    HELD = "HELD"
    """The candidate keeps its share, and the release does not go on."""
    PROMOTED = "PROMOTED"
    """Its bundle serves everybody, or did until a later release."""
    ROLLED_BACK = "ROLLED_BACK"
    """Its candidate was taken back."""
    ABORTED = "ABORTED"
    """It was given up, rejected, or stopped at its gates."""


SERVING = frozenset({State.CANARY, State.HELD})
"""States in which the candidate serves somebody."""
ENDED = frozenset({State.PROMOTED, State.ROLLED_BACK, State.ABORTED})


class Kind(StrEnum):
    """What a release does."""

    RELEASE = "release"
    """Brings a candidate into service, by steps."""
    ADOPT = "adopt"
    """Names what is in service already, when an app enters the workbench."""
    ROLLBACK = "rollback"
    """Takes a promoted bundle out of service, at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One attempt to change what serves an app."""

    release_id: str
    """`<app>.<number>`, counted from 1 in each app."""
    app: str
    kind: Kind
    state: State
    step: int | None
    """Place in the plan's steps, from 0; None before the first and for a rollback. It stays where the canary ended."""
    bundle_id: str | None
    """The candidate; of a rollback what it restored, None where that is the app's fallback or nothing."""
    previous_stable: str | None
    """What was in service at its start; None for a first release."""
    plan: PlanSpec | None
    """As declared at its start; None for a rollback, and where none was declared."""
    plan_digest: str
    review_id: str | None
    """The readiness review that it stands on; None for a rollback and for a draft."""
    reason: str
    """Why it was asked for."""
    requested_by: str
    requested_at: datetime
    step_since: datetime | None
    """Start of the present step."""
    note: str
    """Why it is held, or how it ended; empty otherwise."""
    ended_at: datetime | None
    version: int
    """Grows by one with every change; an act decided on another version is refused."""
    names: Mapping[str, str]
    """Bundle id to its name, for the bundles that it mentions."""

    @property
    def is_open(self) -> bool:
        return self.state not in ENDED

    @property
    def is_serving(self) -> bool:
        return self.state in SERVING

    @property
    def present_step(self) -> Step | None:
        """The step of the plan at which its candidate serves; None outside a canary."""
        return self.plan.steps[self.step] if self.plan and self.step is not None and self.is_serving else None

    @property
    def is_shadowed(self) -> bool:
        """Whether its candidate answers copies, before the first step."""
        return self.is_serving and self.step is None

    @property
    def shadow_stage(self) -> Shadow | None:
        """The stage before its first step; None where its plan has none, or nothing serves whose requests could be copied."""
        return self.plan.shadow if self.plan and self.previous_stable is not None else None

    @property
    def present_stage(self) -> Step | Shadow | None:
        """What the present step or the shadow stage asks for; None outside a canary."""
        return self.shadow_stage if self.is_shadowed else self.present_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What an approval is for. When one of these is another, the approval is for something else."""

    bundle: str
    """Digest of the candidate."""
    review: str
    """Id of the readiness review, which is its digest."""
    plan: str
    """Digest of the rollout plan."""

    def as_json(self) -> dict[str, str]:
        return {"bundle": self.bundle, "review": self.review, "plan": self.plan}


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What a second person decided about a release."""

    release_id: str
    person: str
    is_approved: bool
    """False: rejected."""
    binds: Binding
    decided_at: datetime
    expires_at: datetime
    is_alone: bool = False
    """Whether it is no second person's: somebody broke the glass."""


class Justification(StrEnum):
    """What a second person says of a release that was let go alone."""

    JUSTIFIED = "justified"
    NOT_JUSTIFIED = "not_justified"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenGlass:
    """A release that one person let go alone, and the review that this owes."""

    release_id: str
    person: str
    known_as: frozenset[str]
    """Every name under which the record held them then."""
    reason: str
    called: tuple[str, ...]
    """Who was to be told at once: the people on call, and those who may approve."""
    broken_at: datetime
    review_due_at: datetime
    verdict: Justification | None
    """None until somebody reviewed it."""
    reviewed_by: str | None
    reviewed_at: datetime | None
    review_reason: str

    @property
    def is_open(self) -> bool:
        return self.verdict is None

    def is_overdue(self, now: datetime) -> bool:
        return self.is_open and now >= self.review_due_at


class LockKind(StrEnum):
    """What a lock keeps from happening."""

    LOCK = "lock"
    """Only its holder starts, resumes and promotes releases."""
    FREEZE = "freeze"
    """Nobody starts or promotes releases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A hand on an app's releases. Holding, aborting and rolling back are never locked."""

    app: str
    kind: LockKind
    holder: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why the rules do not allow an act now, in the words of an error."""

    reason: str
    """Stable code: `wrong_state`, `no_approval`, `approval_expired`, `superseded`, `review_old`, `declarations_changed`, `same_person`,
    `registrar`, `frozen`, `locked`, `not_yet` …"""
    seen: str
    needed: str = ""
    next_step: str = ""

    def __str__(self) -> str:
        return "; ".join(part for part in (self.seen, f"needed: {self.needed}" if self.needed else "", self.next_step) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How the controller last saw a release."""

    looked_at: datetime
    decision: str
    """`PROMOTE`, `CONTINUE`, `HOLD` or `ROLLBACK`."""
    reason: str
    sentence: str
    step: int
    run_s: float
    """Seconds of the step that count: those with data and a controller."""
    canary_s: float
    """The same of all its steps, held or not."""
    data_at: datetime | None
    """Until when the log was known; None where it could not be read yet."""
    waits: tuple[str, ...]
    objections: tuple[str, ...]
    judgement: Mapping[str, Any] | None
    """The judge's, as JSON; None where nothing could be judged."""
    decision_id: str | None
    """Of the newest decision that was noted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision of the controller, with all that it was decided on."""

    decision_id: str
    """`<release>/<number>`."""
    release_id: str
    decided_at: datetime
    release_version: int
    step: int
    decision: str
    reason: str
    sentence: str
    inputs: Mapping[str, Any]
    """The judge's plan and judgement, the plan's clock, what was waited for and what stood in the way, as JSON."""
    is_whole: bool
    """Whether the inputs have the digest that was stored with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStatus:
    """What serves an app now, the release under way, and what happens next."""

    app: str
    at: datetime
    stable: str | None
    candidate: str | None
    share: float
    """Of units that the candidate serves, 0 to 1."""
    route_version: int | None
    """None before the first canary."""
    without_stable: str | None
    """`fallback` or `off`: what units get that no bundle serves; None before the first canary."""
    release: Release | None
    """The open one, else the newest; None before the first."""
    approvals: tuple[Approval, ...]
    """Of that release, oldest first."""
    objection: Objection | None
    """Why the newest approval does not count, nobody can approve, or the canary may not go on; None where nothing is amiss."""
    may_approve: tuple[str, ...]
    """Who could approve it, while it waits for that."""
    units: int | None
    """Different units that its candidate has served; None where that is unknown or there is no canary."""
    waits: tuple[str, ...]
    """What the present step still waits for, one sentence each."""
    lock: Lock | None
    freeze: str | None
    """Why nobody may release now; None when nothing is frozen."""
    last_good: str | None
    """What a rollback of the stable bundle would restore; None where it would be the fallback or nothing."""
    next_steps: tuple[str, ...]
    """What can happen now, one sentence each."""
    names: Mapping[str, str]
    """Bundle id to its name, for every bundle that is mentioned."""
    watch: Watch | None = None
    """How the controller last saw the release; None where none has looked."""
    followers: Followers | None = None
    """The processes that serve by the route; None where there is no route."""
    broken_glass: tuple[BrokenGlass, ...] = ()
    """What was let go alone: all that waits for its review, and that of this release."""
    left_open: tuple[str, ...] = ()
    """What its plan cannot measure or reach, one sentence each."""
