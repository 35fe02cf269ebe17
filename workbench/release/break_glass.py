"""The exception to the two-person rule: when one person may let a release go alone, and what is owed for it afterwards. Pure.

Breaking the glass replaces the second person and nothing else: the review has to say GO, and gates, freezes, locks and the plan's
steps stay as they are. A rollback never needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from workbench.ledger.broken_glass import StoredBrokenGlass
from workbench.release.approvals import objection_to_person
from workbench.release.model import BrokenGlass, Justification, Objection
from workbench.release.registrars import Registrar

HOLDS = timedelta(hours=1)
"""How long it counts; an approval by a second person counts longer."""
REVIEW_WITHIN = timedelta(days=3)
"""By when a second person has looked at it."""


def glass_of(row: StoredBrokenGlass) -> BrokenGlass:
    """The noun of a row."""
    return BrokenGlass(
        release_id=row.release_id,
        person=row.person,
        known_as=frozenset(row.known_as),
        reason=row.reason,
        called=tuple(row.called),
        broken_at=row.broken_at,
        review_due_at=row.review_due_at,
        verdict=Justification(row.verdict) if row.verdict else None,
        reviewed_by=row.reviewed_by,
        reviewed_at=row.reviewed_at,
        review_reason=row.review_reason or "",
    )


def objection_to_breaking(
    person: str, *, is_approver: bool, known_as: Collection[str], requester: str, registrar: Registrar | None, owed: Sequence[BrokenGlass],
    now: datetime,
) -> Objection | None:  # fmt: skip
    """Why this person may not let the release go alone; None when they may.

    Args:
        person: who would, as the app's people.yaml names them.
        is_approver: whether they have the role to approve.
        known_as: every name under which the record may hold them.
        requester: who asked for the release.
        registrar: who registered its bundle.
        owed: every broken glass of the app, oldest first.
        now: the present.
    """
    overdue = next((glass for glass in owed if glass.is_overdue(now)), None)
    if overdue is not None:
        seen = f"{overdue.person} let {overdue.release_id} go alone, and its review was due at {overdue.review_due_at:%Y-%m-%d %H:%M} UTC"
        step = f"a second person reviews it: `workbench release reviewed {overdue.release_id} --verdict … --reason …`"
        return Objection(reason="review_overdue", seen=seen, needed="that review first", next_step=step)
    if is_approver and objection_to_person(person, known_as, requester=requester, registrar=registrar) is None:
        seen = f"{person} may approve it as a second person"
        return Objection(reason="no_need", seen=seen, next_step="approve it without breaking the glass")
    return None


def objection_to_reviewer(
    person: str, known_as: Collection[str], *, glasses: Sequence[BrokenGlass], requester: str, registrar: Registrar | None
) -> Objection | None:
    """Why this person may not review what was let go alone; None when they may.

    Args:
        person: who would review it, as the app's people.yaml names them.
        known_as: every name under which the record may hold them.
        glasses: what they would review: the release's own without a review.
        requester: who asked for the release.
        registrar: who registered its bundle.
    """
    if not glasses:
        return Objection(reason="nothing_to_review", seen="nobody let it go alone, or that was reviewed already")
    mine = next((glass for glass in glasses if not glass.known_as.isdisjoint({person, *known_as})), None)
    if mine is not None:
        return Objection(reason="same_person", seen=f"{person} let it go alone", needed="the review of a second person")
    return objection_to_person(person, known_as, requester=requester, registrar=registrar)
