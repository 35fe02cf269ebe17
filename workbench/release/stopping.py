"""Why a readiness review stops a release. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.ledger.registry import StoredDeclaration
from workbench.readiness.model import Review, ReviewVerdict, Verdict
from workbench.versions.declarations import REVIEWED


def why_stopped(review: Review, declared: Iterable[StoredDeclaration], *, plan_digest: str) -> str:
    """Why the release goes no further, in a sentence; empty where the review is GO and still speaks of what is declared.

    Args:
        review: of the candidate, made for this release.
        declared: the newest declaration of each kind of the app.
        plan_digest: of the plan that the release would follow.
    """
    if review.verdict is not ReviewVerdict.GO:
        failed = [gate for gate in review.gates if gate.gate_id in review.deciding[1:] and gate.verdict is Verdict.FAIL]
        return " ".join(["stopped at its gates:", review.sentence, *(f"{gate.title}: {gate.sentence}" for gate in failed)])
    digests = {row.kind: row.digest for row in declared if row.kind in REVIEWED and row.content is not None}
    if digests != dict(review.spec_digests) or digests.get("plan") != plan_digest:
        return "stopped: what the app declares changed while it was reviewed; start it again"
    return ""
