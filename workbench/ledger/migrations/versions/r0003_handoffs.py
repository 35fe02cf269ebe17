"""The vault of raw text that people must see, and the queue of what waits for them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, LargeBinary, String, Text

from workbench.ledger.types import Json, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vault",
        Column("item_id", Text, primary_key=True),
        Column("kind", Text, primary_key=True),
        Column("unit_hash", Text),
        Column("key_id", Text, nullable=False),
        Column("nonce", LargeBinary, nullable=False),
        Column("sealed", LargeBinary, nullable=False),
        Column("expires_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_vault_expires_at", "vault", ["expires_at"])
    op.create_index("ix_vault_unit_hash", "vault", ["unit_hash"])
    op.create_table(
        "handoffs",
        Column("handoff_id", Text, primary_key=True),
        *(Column(name, Text, nullable=False) for name in ("app", "request_id")),
        *(Column(name, Text) for name in ("bundle_id", "unit_hash", "session_id")),
        *(Column(name, Text, nullable=False) for name in ("workflow", "kind", "mode")),
        Column("signals", Json, nullable=False),
        Column("state", Text, nullable=False),
        Column("claimed_by", Text),
        Column("lease_until", UtcDateTime),
        *(Column(name, UtcDateTime, nullable=False) for name in ("created_at", "due_at", "expires_at")),
        Column("shown_digest", String(64)),
        Column("decision", Text),
        Column("answer_digest", String(64)),
        Column("decided_by", Text),
        Column("decided_at", UtcDateTime),
        Column("callback", Text),
        Column("attempts", Integer, nullable=False),
        Column("next_attempt_at", UtcDateTime),
        Column("fault", Text),
        Column("delivered_at", UtcDateTime),
        Column("version", Integer, nullable=False),
    )
    op.create_index("ix_handoffs_state_due_at", "handoffs", ["state", "due_at"])
    op.create_index("ix_handoffs_app_created_at", "handoffs", ["app", "created_at"])
    op.create_index("ix_handoffs_unit_hash", "handoffs", ["unit_hash"])
