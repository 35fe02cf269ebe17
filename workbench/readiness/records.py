"""A review as JSON and back, and the digest that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from workbench.errors import IntegrityError
from workbench.ledger.audit import AUDIT_SEQ, REVIEW_ACT, AuditEntry, Head
from workbench.ledger.canonical import digest
from workbench.readiness.model import Finding, GateResult, Review, ReviewVerdict, Verdict
from workbench.readiness.wording import CHANGE_OF
from workbench.spec.gates import Family

CONTENT_DIGEST = "content"
"""Where the audit entry of a review holds the digest of everything that is stored of it."""


def review_digest(review: Review) -> str:
    """`sha256:` over what the review rests on and says: app, bundle, baseline, specs, evidence ids, verdicts, findings.

    Time, reviewer, wording, snapshot number and audit head are left out: the same inputs give the same review.
    """
    return digest(
        {
            "app": review.app,
            "bundle": review.bundle_id,
            "baseline": review.baseline_id,
            "specs": [list(pair) for pair in review.spec_digests],
            "gates": [
                [gate.gate_id, gate.family, gate.is_blocking, gate.verdict, gate.reason, sorted(gate.evidence_ids)] for gate in review.gates
            ],
            "findings": [finding.lint_id for finding in review.findings],
            "unpinned": list(review.unpinned),
            "not_enforced": list(review.not_enforced),
            "verdict": review.verdict,
            "deciding": list(review.deciding),
        }
    )


def to_json(review: Review) -> dict[str, Any]:
    """The whole review as plain JSON values."""
    return {
        **_plain(review),
        "gates": [_plain(gate) for gate in review.gates],
        "findings": [_plain(finding) for finding in review.findings],
    }


def from_json(content: Mapping[str, Any]) -> Review:
    """The review that `to_json` wrote.

    Raises:
        IntegrityError: the content is not a review, or its digest is not its id.
    """
    subject = f"review {content.get('review_id')}"
    try:
        review = _review(content)
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(subject, seen=f"its content cannot be read: {error}", needed="a review as it was stored") from error
    if review_digest(review) != review.review_id:
        raise IntegrityError(subject, seen=f"its content has the digest {review_digest(review)}", needed="the digest that is its id")
    return review


def stored_content(review: Review, audit_seq: int) -> dict[str, Any]:
    """What the ledger keeps of a review: all of it, and the number of its audit entry, which vouches for its every byte.

    The head of the chain is left out, as it follows from the entry.
    """
    return {**to_json(replace(review, audit_head=None)), AUDIT_SEQ: audit_seq}


def from_stored(content: Mapping[str, Any], vouchers: Mapping[int, AuditEntry]) -> Review:
    """The review that was stored with `stored_content`, with the head of the chain at its entry.

    Args:
        content: as stored.
        vouchers: audit entries by number.

    Raises:
        IntegrityError: the content cannot be read, is not what its audit entry vouches for, or the entry is gone.
    """
    subject, seq = f"review {content.get('review_id')}", content.get(AUDIT_SEQ)
    entry = vouchers.get(seq) if isinstance(seq, int) else None
    if entry is None or entry.act != REVIEW_ACT:
        raise IntegrityError(
            subject, seen=f"there is no audit entry of it (number {seq})", needed="its own entry", next_step="run `workbench audit verify`"
        )
    kept = digest(content)
    if entry.detail.get(CONTENT_DIGEST) != kept:
        raise IntegrityError(
            subject,
            seen=f"its content has the digest {kept}, audit entry {seq} names {entry.detail.get(CONTENT_DIGEST)}",
            needed="the content that was reviewed",
            next_step="keep this ledger as it is, and compare it with a backup",
        )
    plain = {name: value for name, value in content.items() if name != AUDIT_SEQ}
    return replace(from_json(plain), audit_head=str(Head(seq=entry.seq, digest=entry.digest)))


def measured_bundles(content: Mapping[str, Any]) -> frozenset[str]:
    """The bundles of which a stored review measured something, so that they had traffic."""
    measured = [gate for gate in content.get("gates", ()) if gate.get("observed") is not None]
    compared = [gate for gate in measured if gate.get("unit") == "ratio" or str(gate.get("unit")).startswith(CHANGE_OF)]
    found = {content.get("bundle_id") if measured else None, content.get("baseline_id") if compared else None}
    return frozenset(bundle for bundle in found if bundle is not None)


def _review(content: Mapping[str, Any]) -> Review:
    plain = dict(content)
    return Review(
        **{
            **plain,
            "verdict": ReviewVerdict(plain["verdict"]),
            "deciding": tuple(plain["deciding"]),
            "gates": tuple(_gate(gate) for gate in plain["gates"]),
            "findings": tuple(Finding(**finding) for finding in plain["findings"]),
            "unpinned": tuple(plain["unpinned"]),
            "not_enforced": tuple(plain["not_enforced"]),
            "spec_digests": tuple((kind, spec_digest) for kind, spec_digest in plain["spec_digests"]),
            "reviewed_at": datetime.fromisoformat(plain["reviewed_at"]),
        }
    )


def _gate(content: Mapping[str, Any]) -> GateResult:
    return GateResult(
        **{
            **content,
            "family": Family(content["family"]),
            "verdict": Verdict(content["verdict"]),
            "evidence_ids": tuple(content["evidence_ids"]),
        }
    )


def _plain(value: Review | GateResult | Finding) -> dict[str, Any]:
    return {field.name: _cell(getattr(value, field.name)) for field in fields(value)}


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_cell(item) for item in value]
    return str(value) if isinstance(value, str) else value
