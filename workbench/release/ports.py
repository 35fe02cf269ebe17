"""What releasing asks of others, and whom it tells."""

from __future__ import annotations

from typing import Protocol

from workbench.ledger.audit import AuditEntry
from workbench.ledger.authority import Author
from workbench.readiness.model import Review
from workbench.release.model import Release
from workbench.versions.model import Bundle


class Reviewer(Protocol):
    """Makes readiness reviews; `readiness.service.Readiness` is one."""

    def review(
        self, app: str, bundle: Bundle | str | None = None, *, baseline: str | None = None, actor: Author | None = None
    ) -> Review: ...


class CandidateUnits(Protocol):
    """Counts the different units that the candidate of a release has served.

    Raises:
        StoreError: the log cannot be read.
    """

    def __call__(self, app: str, release_id: str) -> int: ...


class ReleaseListener(Protocol):
    """Is told of every change of a release after it is committed; what it does cannot undo the change."""

    def on_transition(self, release: Release, entry: AuditEntry) -> None: ...
