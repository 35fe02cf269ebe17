"""What readiness is told of an app's releases: its rollback drills, and what went alone. It is wired by `workspace`."""

from __future__ import annotations

from workbench.errors import IntegrityError
from workbench.ledger.audit import newest_of
from workbench.ledger.broken_glass import broken_glass_of
from workbench.ledger.evidence import evidence_row
from workbench.ledger.store import Ledger
from workbench.observability.evidence import from_row
from workbench.readiness.ports import Unreviewed
from workbench.readiness.rehearsal import Rehearsal, rehearsal_of

DRILLED = "release.drilled"
"""The act that keeps what a drill found; its entry vouches for the record, so that one that is gone does not bring an older one back."""


class Collected:
    """An `EvidenceCollector` over the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def drill(self, app: str) -> Rehearsal | None:
        """The newest rollback drill; None before the first.

        Raises:
            IntegrityError: its record is gone or altered.
        """
        with self._ledger.read() as connection:
            entry = newest_of(connection, DRILLED, app=app, subject=app)
            row = evidence_row(connection, str(entry.detail["evidence"])) if entry else None
        if entry is None:
            return None
        if row is None:
            raise IntegrityError(
                f"rollback drill of {app}",
                seen=f"its record is gone; audit entry {entry.seq} names it",
                next_step="keep this ledger as it is, compare it with a backup, and rehearse again",
            )
        return rehearsal_of(from_row(row))

    def unreviewed(self, app: str) -> tuple[Unreviewed, ...]:
        """What was let go alone and waits for its review, oldest first."""
        with self._ledger.read() as connection:
            rows = broken_glass_of(connection, app)
        return tuple(
            Unreviewed(
                release_id=row.release_id,
                person=row.person,
                reason=row.reason,
                broken_at=row.broken_at,
                review_due_at=row.review_due_at,
            )
            for row in rows
            if row.verdict is None
        )
