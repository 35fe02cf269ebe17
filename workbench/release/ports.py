"""What releasing asks of others, and whom it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # who only names them does not wait for the log's and the judge's libraries
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from workbench.ledger.audit import AuditEntry
    from workbench.ledger.authority import Author
    from workbench.observability.release_results import Awaited
    from workbench.observability.release_rows import ReleaseReader
    from workbench.observability.shadow_rows import ShadowCounts
    from workbench.readiness.model import Review
    from workbench.release.judge_model import Judgement
    from workbench.release.judge_terms import Baseline
    from workbench.release.model import Release
    from workbench.release.shadowing import ShadowJudgement
    from workbench.spec.plan import PlanSpec
    from workbench.versions.model import Bundle


class Reviewer(Protocol):
    """Makes readiness reviews; `readiness.service.Readiness` is one."""

    def review(
        self, app: str, bundle: Bundle | str | None = None, *, baseline: str | None = None, actor: Author | None = None
    ) -> Review: ...


class CandidateUnits(Protocol):
    """Counts the different units that the candidate of a release has served, or answered as a shadow.

    Raises:
        StoreError: the log cannot be read.
    """

    def __call__(self, app: str, release_id: str, *, arm: str = "candidate") -> int: ...


class Before(Protocol):
    """Tells what a stable bundle of an app did until now, with the KPIs that the plan of a release names.

    Raises:
        StoreError: the log cannot be read.
    """

    def __call__(self, app: str, stable: str | None, plan: PlanSpec) -> Baseline: ...


class ReleaseLog(Protocol):
    """Reads releases from the log.

    Raises:
        StoreError: the log cannot be read.
    """

    def reader(self, app: str, release_id: str, metrics: Sequence[str], awaited: Sequence[Awaited] = ()) -> ReleaseReader:
        """Reads the rows of a release with these metrics, KPIs among them, from the first one on.

        Raises:
            UsageError: a metric that a row of the log does not have.
        """

    def shadow(self, app: str, release_id: str) -> ShadowCounts:
        """What the copies of a release came to, as the log shows them now."""

    def times(self, first: int, last: int) -> Mapping[int, datetime]:
        """When the batches from one to another were stored, as far as that is known."""


class Judging(Protocol):
    """Judges canaries from the log, in the order of its rows.

    Raises:
        StoreError: the log cannot be read.
        WorkbenchError: nothing can be judged, for the reason it says.
    """

    def plan_of(self, release: Release) -> Mapping[str, Any]:
        """What the judge is asked about this release, as JSON. Asked once, before the first look, and kept with the release."""

    def judge(self, release: Release, plan: Mapping[str, Any], *, canary_s: float, at: datetime) -> Judgement:
        """What the judge says now, after all rows that are in the log.

        Args:
            release: in its canary, or held.
            plan: from `plan_of`.
            canary_s: seconds of the canary, for its deadline.
            at: the present.
        """

    def judge_shadow(self, release: Release, *, at: datetime) -> ShadowJudgement:
        """What the shadow stage of a release shows now.

        Args:
            release: in its shadow stage, held or not.
            at: the present.
        """

    def digest(self, release_id: str) -> str | None:
        """Of the judge's memory of a release: what the rows up to its high water give, whoever reads them. None where there is none."""

    def forget(self, kept: Collection[str]) -> None:
        """Keep in memory only what belongs to these releases."""


class Budget(Protocol):
    """Says why the error budget of an app forbids to go on; None where it does not.

    Raises:
        StoreError: the log cannot be read.
    """

    def __call__(self, app: str) -> str | None: ...


class ReleaseListener(Protocol):
    """Is told of every change of a release after it is committed; what it does cannot undo the change."""

    def on_transition(self, release: Release, entry: AuditEntry) -> None: ...
