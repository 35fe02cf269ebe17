"""Audit chain, settings, bundles with their files, declarations, evidence and reviews."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, LargeBinary, String, Text

from workbench.ledger.types import Json, Serial, UtcDateTime, UtcText

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_GENESIS = "sha256:" + "0" * 64


def upgrade() -> None:
    _audit()
    _versions()
    _readiness()


def _audit() -> None:
    op.create_table(
        "audit",
        Column("seq", Serial, primary_key=True, autoincrement=False),
        Column("time", UtcText, nullable=False),
        *(Column(name, Text, nullable=False) for name in ("actor", "via", "assurance", "act")),
        Column("app", Text),
        Column("subject", Text, nullable=False),
        Column("detail", Text, nullable=False),
        Column("previous", String(71), nullable=False),
        Column("digest", String(71), nullable=False),
    )
    op.create_index("ix_audit_app_seq", "audit", ["app", "seq"])
    head = op.create_table(
        "audit_head",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("seq", Serial, nullable=False),
        Column("digest", String(71), nullable=False),
        CheckConstraint("id = 1", name="one_row"),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "digest": _GENESIS}])
    op.create_table("settings", Column("name", Text, primary_key=True), Column("value", Text, nullable=False))


def _versions() -> None:
    op.create_table(
        "blobs",
        Column("digest", String(71), primary_key=True),
        Column("content", LargeBinary, nullable=False),
        Column("size", BigInteger, nullable=False),
    )
    op.create_table(
        "bundles",
        Column("bundle_id", Text, primary_key=True),
        Column("seq", Serial, nullable=False, unique=True),
        Column("app", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("digest", String(71), nullable=False),
        *(Column(name, Json, nullable=False) for name in ("spec", "manifest", "unpinned", "external")),
        Column("registered_at", UtcDateTime, nullable=False),
        Column("registered_by", Text, nullable=False),
    )
    op.create_index("ix_bundles_app_seq", "bundles", ["app", "seq"])
    op.create_table(
        "declarations",
        Column("seq", Serial, primary_key=True, autoincrement=False),
        Column("app", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("digest", String(71), nullable=False),
        Column("content", Json),
        Column("registered_at", UtcDateTime, nullable=False),
        Column("registered_by", Text, nullable=False),
    )
    op.create_index("ix_declarations_app_kind_seq", "declarations", ["app", "kind", "seq"])


def _readiness() -> None:
    op.create_table(
        "evidence",
        Column("evidence_id", Text, primary_key=True),
        *(Column(name, Text, nullable=False) for name in ("kind", "app", "subject")),
        Column("baseline", Text),
        Column("query", Json, nullable=False),
        Column("statistics", Json, nullable=False),
        Column("row_n", BigInteger, nullable=False),
        Column("row_digest", Text),
        Column("row_first", UtcDateTime),
        Column("row_last", UtcDateTime),
        Column("snapshot", BigInteger),
        Column("collected_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_evidence_app_subject", "evidence", ["app", "subject"])
    op.create_table(
        "reviews",
        Column("review_id", Text, primary_key=True),
        Column("reviewed_at", UtcDateTime, primary_key=True),
        Column("app", Text, nullable=False),
        Column("bundle_id", Text, nullable=False),
        Column("baseline_id", Text),
        Column("verdict", Text, nullable=False),
        Column("content", Json, nullable=False),
        Column("reviewed_by", Text, nullable=False),
    )
    op.create_index("ix_reviews_app_reviewed_at", "reviews", ["app", "reviewed_at"])
