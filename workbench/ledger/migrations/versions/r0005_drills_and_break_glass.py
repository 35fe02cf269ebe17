"""Which route version each serving process serves by, and what was let go by one person alone until somebody reviewed it."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, Text

from workbench.ledger.types import Json, Serial, UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "acknowledgements",
        Column("gateway", Text, primary_key=True),
        Column("app", Text, primary_key=True),
        Column("route_version", Integer, nullable=False),
        Column("heard_at", UtcDateTime, nullable=False),
    )
    op.create_table(
        "broken_glass",
        Column("seq", Serial, primary_key=True, autoincrement=False),
        Column("release_id", Text, nullable=False),
        Column("app", Text, nullable=False),
        Column("person", Text, nullable=False),
        Column("known_as", Json, nullable=False),
        Column("reason", Text, nullable=False),
        Column("called", Json, nullable=False),
        Column("broken_at", UtcDateTime, nullable=False),
        Column("review_due_at", UtcDateTime, nullable=False),
        Column("verdict", Text),
        Column("reviewed_by", Text),
        Column("reviewed_at", UtcDateTime),
        Column("review_reason", Text),
        Column("version", Integer, nullable=False),
    )
    op.create_index("ix_broken_glass_app_seq", "broken_glass", ["app", "seq"])
