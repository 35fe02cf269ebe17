"""What can happen to a release now, in sentences that fit every edge. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from workbench.readiness.wording import number
from workbench.release.model import Objection, Release, State

_ANOTHER_APPROVAL_HELPS = frozenset({"no_approval", "approval_void", "approval_expired"})


def next_steps(
    release: Release | None, *, objection: Objection | None, may_approve: Sequence[str], waits: Sequence[str], freeze: str | None
) -> tuple[str, ...]:
    """What the release waits for, and what leads it on; empty where none is under way.

    Args:
        release: the open release, or the newest.
        objection: why what it stands on does not let it go on.
        may_approve: who could approve it.
        waits: what its present step still waits for.
        freeze: why nobody may release now.
    """
    if release is None or not release.is_open:
        return ()
    found = list(_leading_on(release, objection, may_approve, waits))
    if freeze and release.state in (State.APPROVED, State.CANARY):
        found.append(f"Nothing is promoted now: {freeze}.")
    return tuple(found)


def _leading_on(release: Release, objection: Objection | None, may_approve: Sequence[str], waits: Sequence[str]) -> Iterator[str]:
    match release.state:
        case State.DRAFT:
            yield "Its readiness review is being made. Abort it if whoever started it has stopped."
        case State.CANARY | State.HELD if objection is not None:
            yield f"It cannot go on: {objection}."
        case State.HELD:
            yield "Resume it, abort it, or roll it back."
        case State.CANARY:
            yield from (f"It waits: {wait}." for wait in waits)
            if release.plan is not None and release.plan.carried_by == "controller":
                yield f"The controller goes on once its criteria are shown to hold: {_following(release)}. A person may promote it before."
            else:
                yield f"{'After that promote' if waits else 'Promote'} it: {_following(release)}."
        case _ if objection is not None and objection.reason not in _ANOTHER_APPROVAL_HELPS:
            yield f"It cannot go on: {objection}."
        case _ if objection is not None:
            yield from (f"{objection.seen[:1].upper()}{objection.seen[1:]}." for _ in range(objection.reason != "no_approval"))
            who = " or ".join(may_approve)
            yield f"It waits for the approval of {who}." if who else "Nobody can approve it: another person needs the role approver."
        case _:
            yield f"Promote it: {_following(release)}."


def _following(release: Release) -> str:
    """What a promotion does."""
    steps = release.plan.steps if release.plan else ()
    if release.state is State.APPROVED and (stage := release.shadow_stage):
        return f"its candidate answers copies of {number(stage.share, 'share')} of the units' requests, which nobody hears"
    following = 0 if release.step is None else release.step + 1
    if following < len(steps):
        return f"its candidate serves {number(steps[following].share, 'share')} of the units"
    return "its candidate serves everybody"
