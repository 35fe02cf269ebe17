"""The two-person rule: who may approve, what for, and until when it counts. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from workbench.release.model import Approval, Binding, Objection, State
from workbench.release.registrars import Registrar

APPROVAL_HOLDS = timedelta(hours=4)
"""How long an approval counts; after that it has to be given again."""
REVIEW_HOLDS = timedelta(hours=24)
"""How old the newest review may be when it is approved, or when its approval is used."""
GO = "GO"
_AGAIN = "abort the release and start it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the ledger says now about what a release stands on."""

    binds: Binding
    """What an approval would be for."""
    newest_review: str | None
    """Id of the newest review of the candidate; None when its record is gone."""
    verdict: str | None
    reviewed_at: datetime | None
    changed: tuple[str, ...]
    """Kinds that were declared anew since the release was found ready."""


def objection_to_ground(ground: Ground, *, now: datetime) -> Objection | None:
    """Why the release's review carries nothing any more; None while it does."""
    if ground.changed:
        return _declarations_changed(ground)
    if ground.newest_review != ground.binds.review or ground.verdict != GO:
        return _superseded(ground)
    if ground.reviewed_at is None or now - ground.reviewed_at > REVIEW_HOLDS:
        return Objection(
            reason="review_old",
            seen=f"the review is older than {_hours(REVIEW_HOLDS)}",
            next_step="review the bundle again; when nothing changed the release goes on",
        )
    return None


def objection_to_going_on(ground: Ground) -> Objection | None:
    """Why a canary may not go further on what it was approved for; None when it may. Time alone takes nothing away from it."""
    if ground.changed:
        return _declarations_changed(ground)
    return None if ground.verdict == GO else _superseded(ground)


def objection_to_person(person: str, known_as: Collection[str], *, requester: str, registrar: Registrar | None) -> Objection | None:
    """Why this person is not a second one; None when they are.

    Args:
        person: who would approve, as the app's people.yaml names them.
        known_as: every name under which the record may hold them.
        requester: who asked for the release, as it is recorded.
        registrar: who registered the bundle.
    """
    needed = "the approval of a second person"
    if requester in known_as:
        return Objection(reason="same_person", seen=f"{person} asked for this release", needed=needed)
    return objection_to_registrar(person, known_as, registrar, needed=needed)


def objection_to_adopting(
    person: str, known_as: Collection[str], *, registrar: Registrar | None, risk_tier: str | None
) -> Objection | None:
    """Why this person may not say alone that the bundle is in service already; None when they may.

    No review and no approval come before it. So where the risk tier is high (or none is declared, which counts as high) whoever
    registered the bundle is one person, and whoever adopts it the second.
    """
    if risk_tier in ("low", "medium"):
        return None
    tier = "the risk tier is high" if risk_tier else "no risk tier is declared"
    return objection_to_registrar(person, known_as, registrar, needed=f"somebody else to adopt it, because {tier}")


def objection_to_registrar(person: str, known_as: Collection[str], registrar: Registrar | None, *, needed: str) -> Objection | None:
    """Why this person is not another one than who registered the bundle; None when they are, or it is not registered."""
    if registrar is None:
        return None
    if not registrar.known_as:
        seen = f"its bundle was registered by {registrar.recorded}, and no people.yaml says who that is"
        return Objection(
            reason="registrar", seen=seen, needed=needed, next_step="name them in people.yaml, or register the bundle under another name"
        )
    if not registrar.known_as.isdisjoint(known_as):
        return Objection(reason="registrar", seen=f"{person} registered its bundle", needed=needed)
    return None


def objection_to_approvals(approvals: Sequence[Approval], binds: Binding, *, now: datetime) -> Objection | None:
    """Why none of the decisions lets the release go on; None when the newest one does.

    Args:
        approvals: what was decided about the release, oldest first.
        binds: what an approval has to be for.
        now: the present.
    """
    newest = approvals[-1] if approvals else None
    if newest is None or not newest.is_approved:
        return Objection(reason="no_approval", seen="nobody approved it", needed="the approval of a second person")
    if newest.binds != binds:
        seen = f"what {newest.person} approved is not what the release is now"
        return Objection(reason="approval_void", seen=seen, needed="a new approval")
    if now >= newest.expires_at:
        seen = f"the approval by {newest.person} expired at {newest.expires_at:%Y-%m-%d %H:%M} UTC"
        return Objection(reason="approval_expired", seen=seen, needed="a new approval")
    return None


def objection_to_canary(approvals: Sequence[Approval], ground: Ground, *, now: datetime) -> Objection | None:
    """Why a release may not enter its canary on what was reviewed and approved; None when it may."""
    return objection_to_ground(ground, now=now) or objection_to_approvals(approvals, ground.binds, now=now)


def objection_to_approving(state: State, approvals: Sequence[Approval], ground: Ground, *, now: datetime) -> Objection | None:
    """Why another approval is not what the release needs; None when it waits for one.

    Args:
        state: of the release.
        approvals: what was decided about it, oldest first.
        ground: what it stands on.
        now: the present.
    """
    amiss = objection_to_ground(ground, now=now)
    if amiss is not None or state is not State.APPROVED or objection_to_canary(approvals, ground, now=now) is not None:
        return amiss
    seen = f"{approvals[-1].person} approved it already, until {approvals[-1].expires_at:%Y-%m-%d %H:%M} UTC"
    return Objection(reason="approved_already", seen=seen, next_step="promote it")


def _declarations_changed(ground: Ground) -> Objection:
    files = ", ".join(f"{kind}.yaml" for kind in ground.changed)
    return Objection(reason="declarations_changed", seen=f"{files} changed after the review", next_step=_AGAIN)


def _superseded(ground: Ground) -> Objection:
    seen = f"a newer review of the bundle ({_short(ground.newest_review)}, {ground.verdict}) superseded {_short(ground.binds.review)}"
    return Objection(reason="superseded", seen=seen, next_step=_AGAIN)


def _short(review_id: str | None) -> str:
    return review_id.removeprefix("sha256:")[:12] if review_id else "none"


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.0f} hours"
