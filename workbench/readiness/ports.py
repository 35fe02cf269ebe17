"""What readiness asks of chapters above it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from workbench.readiness.rehearsal import Rehearsal


class Unreviewed(NamedTuple):
    """A release that somebody let go alone, and that no second person has looked at since."""

    release_id: str
    person: str
    reason: str
    broken_at: datetime
    review_due_at: datetime


class EvidenceCollector(Protocol):
    """What is known of an app's releases, beside its log and what it declares.

    Raises:
        IntegrityError: a stored record is gone or altered.
    """

    def drill(self, app: str) -> Rehearsal | None:
        """The newest rollback drill; None before the first."""

    def unreviewed(self, app: str) -> Sequence[Unreviewed]:
        """What waits for its review, the oldest first."""
