"""The nouns of readiness: verdicts, gates, findings and the review that people sign."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from workbench.spec.gates import Family


class Verdict(StrEnum):
    """What one gate says, worst first; `verdicts.worst_of` combines them."""

    FAIL = "FAIL"
    ERROR = "ERROR"
    STALE = "STALE"
    MISSING = "MISSING"
    INSUFFICIENT = "INSUFFICIENT"
    WAIVED = "WAIVED"
    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    NOT_APPLICABLE = "NOT_APPLICABLE"


class ReviewVerdict(StrEnum):
    """What the whole review says."""

    GO = "GO"
    NO_GO = "NO_GO"
    NOT_ENOUGH_EVIDENCE = "NOT_ENOUGH_EVIDENCE"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One gate's verdict on one bundle."""

    gate_id: str
    title: str
    family: Family
    is_blocking: bool
    verdict: Verdict
    reason: str
    """Stable code, for example `above_limit`, `not_declared`, `too_few`."""
    sentence: str
    """The reason in words, with the numbers."""
    observed: float | None = None
    low: float | None = None
    """Ends of the 95 % interval of `observed`."""
    high: float | None = None
    limit: float | None = None
    unit: str = ""
    n: int | None = None
    n_needed: int | None = None
    """Observations that would be enough, where that can be said."""
    evidence_ids: tuple[str, ...] = ()
    owner: str | None = None
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An anti-pattern of the guide that this app shows, by name."""

    lint_id: str
    title: str
    sentence: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """May this bundle go live? The answer, the gate that decided, and what would change it."""

    review_id: str
    """`sha256:` over app, bundle, baseline, specs, evidence ids and verdicts; not over time or wording."""
    app: str
    bundle_id: str
    bundle_name: str
    baseline_id: str | None
    verdict: ReviewVerdict
    deciding: tuple[str, ...]
    """Gate ids that decided, worst first; empty for GO."""
    sentence: str
    """One sentence that names the verdict and the deciding gate."""
    comparison: str
    """How the bundle compares with its baseline, in one sentence; empty without a baseline."""
    gates: tuple[GateResult, ...]
    findings: tuple[Finding, ...]
    unpinned: tuple[str, ...]
    not_enforced: tuple[str, ...]
    """Parts of the bundle that the workbench records but does not enforce."""
    spec_digests: tuple[tuple[str, str], ...]
    snapshot: int | None
    reviewed_at: datetime
    reviewed_by: str
    audit_head: str | None = None
    """Head of the audit chain at the review's own entry, `N:sha256:…`; None before it is stored. No part of `review_id`."""
