"""Rows of the ledger as the nouns of release. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.ledger.canonical import digest
from workbench.ledger.releases import Foundation, StoredApproval, StoredLock, StoredRelease
from workbench.ledger.watches import StoredDecision, StoredWatch
from workbench.release.approvals import Ground
from workbench.release.model import Approval, Binding, DecisionRecord, Kind, Lock, LockKind, Objection, Release, State, Watch
from workbench.release.registrars import Registrar, registrar_of
from workbench.spec.people import PeopleSpec
from workbench.spec.plan import PlanSpec
from workbench.versions.declarations import REVIEWED, spec_of


def release_of(row: StoredRelease, names: Mapping[str, str]) -> Release:
    """The release of a row.

    Args:
        row: as stored.
        names: bundle id to name, for the bundles that it mentions.

    Raises:
        StoreError: this version cannot read its plan.
    """
    return Release(
        release_id=row.release_id,
        app=row.app,
        kind=Kind(row.kind),
        state=State(row.state),
        step=row.step,
        bundle_id=row.bundle_id,
        previous_stable=row.previous_stable,
        plan=plan_of(row.app, row.plan),
        plan_digest=row.plan_digest,
        review_id=row.review_id,
        reason=row.reason,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        step_since=row.step_since,
        note=row.note,
        ended_at=row.ended_at,
        version=row.version,
        names=names,
    )


def plan_of(app: str, content: Mapping[str, Any]) -> PlanSpec | None:
    """The plan as stored; None where none was declared.

    Raises:
        StoreError: this version cannot read it.
    """
    spec = spec_of(app, "plan", content or None)
    return spec if isinstance(spec, PlanSpec) else None


def ground_of(row: StoredRelease, under: Foundation) -> Ground:
    """What an approval of the release would be for, and whether that still holds."""
    since = under.ready.seq if under.ready else 0
    review = under.review
    return Ground(
        binds=Binding(bundle=under.bundle.digest if under.bundle else "", review=row.review_id or "", plan=row.plan_digest),
        newest_review=str(review.detail["review_id"]) if review else None,
        verdict=str(review.detail["verdict"]) if review else None,
        reviewed_at=review.time if review else None,
        changed=tuple(declared.kind for declared in under.declarations if declared.kind in REVIEWED and declared.seq > since),
    )


def registrar_in(under: Foundation, people: PeopleSpec | None) -> Registrar | None:
    """Who registered the candidate; None where it is not registered.

    Args:
        under: what its release stands on.
        people: the app's people at present.

    Raises:
        StoreError: this version cannot read the people.yaml of the registration.
    """
    if under.bundle is None:
        return None
    stored = under.people_then
    then = spec_of(stored.app, "people", stored.content) if stored else None
    return registrar_of(under.bundle.registered_by, then=then if isinstance(then, PeopleSpec) else None, now=people)


def approval_of(row: StoredApproval) -> Approval:
    """The decision of a row."""
    return Approval(
        release_id=row.release_id,
        person=row.person,
        is_approved=row.decision in ("approve", "break_glass"),
        is_alone=row.decision == "break_glass",
        binds=Binding(bundle=row.binds["bundle"], review=row.binds["review"], plan=row.binds["plan"]),
        decided_at=row.decided_at,
        expires_at=row.expires_at,
    )


def lock_from(row: StoredLock) -> Lock:
    """The lock of a row."""
    return Lock(app=row.app, kind=LockKind(row.kind), holder=row.holder, reason=row.reason, since=row.since)


def locks_from(rows: Iterable[StoredLock]) -> tuple[Lock, ...]:
    """The locks of rows."""
    return tuple(map(lock_from, rows))


def watch_of(row: StoredWatch, newest: StoredDecision | None) -> Watch:
    """The watch of a row."""
    standing = row.standing
    return Watch(
        looked_at=row.looked_at,
        decision=standing["decision"],
        reason=standing["reason"],
        sentence=standing["sentence"],
        step=row.step,
        run_s=row.run_s,
        canary_s=row.canary_s,
        data_at=row.newest_row_at,
        waits=tuple(standing["waits"]),
        objections=tuple(str(Objection(**each)) for each in standing["objections"]),
        judgement=standing["judgement"],
        decision_id=newest.decision_id if newest else None,
    )


def decision_of(row: StoredDecision) -> DecisionRecord:
    """The decision of a row."""
    return DecisionRecord(
        decision_id=row.decision_id,
        release_id=row.release_id,
        decided_at=row.decided_at,
        release_version=row.release_version,
        step=row.step,
        decision=row.decision,
        reason=row.reason,
        sentence=row.sentence,
        inputs=row.inputs,
        is_whole=digest(row.inputs) == row.inputs_digest,
    )
