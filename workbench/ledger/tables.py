"""The ledger's tables as they are now. Older shapes live in `migrations`; a test holds the two equal."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

from workbench.ledger.types import Json, Serial, UtcDateTime, UtcText

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False, doc="1, 2, 3 … without gaps"),
    Column("time", UtcText, nullable=False),
    Column("actor", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("assurance", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("app", Text, doc="null for an act on the whole workspace"),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False, doc="canonical JSON; never a secret"),
    Column("previous", String(71), nullable=False, doc="digest of the entry before"),
    Column("digest", String(71), nullable=False, doc="sha256 over the canonical JSON of all other columns"),
)
Index("ix_audit_app_seq", audit.c.app, audit.c.seq)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Serial, nullable=False, doc="newest entry, 0 before the first"),
    Column("digest", String(71), nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False, doc="bytes"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("bundle_id", Text, primary_key=True, doc="app@<first 12 hex of the digest>"),
    Column("seq", Serial, nullable=False, unique=True, doc="audit entry of the registration; orders the registry"),
    Column("app", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("spec", Json, nullable=False, doc="the spec as read"),
    Column("manifest", Json, nullable=False, doc="the hashed value: parts with files replaced by their digests"),
    Column("unpinned", Json, nullable=False),
    Column("external", Json, nullable=False),
    Column("registered_at", UtcDateTime, nullable=False),
    Column("registered_by", Text, nullable=False),
)
Index("ix_bundles_app_seq", bundles.c.app, bundles.c.seq)

declarations = Table(
    "declarations",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False, doc="audit entry of the declaration; the newest counts"),
    Column("app", Text, nullable=False),
    Column("kind", Text, nullable=False, doc="app, people, gates, plan or rota"),
    Column("digest", String(71), nullable=False),
    Column("content", Json, doc="null when the file was taken away"),
    Column("registered_at", UtcDateTime, nullable=False),
    Column("registered_by", Text, nullable=False),
)
Index("ix_declarations_app_kind_seq", declarations.c.app, declarations.c.kind, declarations.c.seq)

evidence = Table(
    "evidence",
    metadata,
    Column("evidence_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("subject", Text, nullable=False, doc="bundle id"),
    Column("baseline", Text, doc="bundle id compared with"),
    Column("query", Json, nullable=False),
    Column("statistics", Json, nullable=False),
    Column("row_n", BigInteger, nullable=False),
    Column("row_digest", Text),
    Column("row_first", UtcDateTime),
    Column("row_last", UtcDateTime),
    Column("snapshot", BigInteger),
    Column("collected_at", UtcDateTime, nullable=False),
)
Index("ix_evidence_app_subject", evidence.c.app, evidence.c.subject)

reviews = Table(
    "reviews",
    metadata,
    Column("review_id", Text, primary_key=True),
    Column("reviewed_at", UtcDateTime, primary_key=True),
    Column("app", Text, nullable=False),
    Column("bundle_id", Text, nullable=False),
    Column("baseline_id", Text),
    Column("verdict", Text, nullable=False),
    Column("content", Json, nullable=False),
    Column("reviewed_by", Text, nullable=False),
)
Index("ix_reviews_app_reviewed_at", reviews.c.app, reviews.c.reviewed_at)
