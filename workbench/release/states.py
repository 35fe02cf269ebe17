"""Which act leads from which state to which, and what the route is in each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from workbench.ledger.releases import READY_ACT
from workbench.release.model import SERVING, State


class Act(StrEnum):
    """What can be done to a release; the value is the act's name in permissions and in the audit."""

    READY = READY_ACT
    """Its review said GO."""
    STOP = "release.stop"
    """Its review did not say GO."""
    APPROVE = "release.approve"
    BREAK_GLASS = "release.break_glass"
    """Approved by one person alone."""
    REJECT = "release.reject"
    PROMOTE = "release.promote"
    """One step further: into the canary, to a greater share, or into service."""
    HOLD = "release.hold"
    RESUME = "release.resume"
    ABORT = "release.abort"
    ROLLBACK = "rollback"


FROM: Mapping[Act, frozenset[State]] = {
    Act.READY: frozenset({State.DRAFT}),
    Act.STOP: frozenset({State.DRAFT}),
    Act.APPROVE: frozenset({State.READY, State.APPROVED}),
    Act.BREAK_GLASS: frozenset({State.READY, State.APPROVED}),
    Act.REJECT: frozenset({State.READY, State.APPROVED}),
    Act.PROMOTE: frozenset({State.APPROVED, State.CANARY}),
    Act.HOLD: frozenset({State.CANARY}),
    Act.RESUME: frozenset({State.HELD}),
    Act.ABORT: frozenset({State.DRAFT, State.READY, State.APPROVED, State.CANARY, State.HELD}),
    Act.ROLLBACK: frozenset({State.CANARY, State.HELD}),
}
"""The states in which each act is possible."""

_TO: Mapping[Act, State] = {
    Act.READY: State.READY,
    Act.STOP: State.ABORTED,
    Act.APPROVE: State.APPROVED,
    Act.BREAK_GLASS: State.APPROVED,
    Act.REJECT: State.ABORTED,
    Act.HOLD: State.HELD,
    Act.RESUME: State.CANARY,
    Act.ABORT: State.ABORTED,
    Act.ROLLBACK: State.ROLLED_BACK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A state, and in or after a canary the step of the plan, from 0; none in its shadow stage."""

    state: State
    step: int | None


def after(act: Act, at: Position, *, n_steps: int, has_shadow: bool = False) -> Position:
    """Where the act leads.

    Args:
        act: what is done.
        at: where the release stands; one of the states in which the act is possible.
        n_steps: of its plan; a promotion from the last one puts the bundle into service.
        has_shadow: whether a shadow stage comes before the first step.

    Raises:
        ValueError: the act is not possible there.
    """
    if at.state not in FROM[act]:
        raise ValueError(f"{act} leads nowhere from {at.state}")
    if act is not Act.PROMOTE:
        return Position(state=_TO[act], step=at.step)
    if at.state is State.APPROVED and has_shadow:
        return Position(state=State.CANARY, step=None)
    step = 0 if at.step is None else at.step + 1
    return Position(state=State.CANARY, step=step) if step < n_steps else Position(state=State.PROMOTED, step=at.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Who serves an app: what a route has to say."""

    stable: str | None
    candidate: str | None = None
    share: float = 0.0
    release_id: str | None = None
    """The release under way; only while it has a candidate, or a shadow."""
    shadow: str | None = None
    shadow_share: float = 0.0
    retiring: str | None = None
    """What served before a promotion, for the talks that began on it."""


def serving(
    at: Position,
    *,
    bundle_id: str | None,
    previous_stable: str | None,
    shares: Sequence[float],
    release_id: str,
    shadow_share: float = 0.0,
    drains: bool = False,
) -> Serving:
    """Who serves the app while its newest release stands there.

    Args:
        at: where the release stands.
        bundle_id: its candidate, or what a rollback restored.
        previous_stable: what was in service at its start.
        shares: of the steps of its plan.
        release_id: its id.
        shadow_share: of its plan's shadow stage.
        drains: whether its plan has talks end where they began.
    """
    if at.state is State.PROMOTED:
        return Serving(stable=bundle_id, retiring=previous_stable if drains else None)
    if at.state in SERVING and at.step is not None:
        return Serving(stable=previous_stable, candidate=bundle_id, share=shares[at.step], release_id=release_id)
    if at.state in SERVING:
        return Serving(stable=previous_stable, release_id=release_id, shadow=bundle_id, shadow_share=shadow_share)
    return Serving(stable=previous_stable)
