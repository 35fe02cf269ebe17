"""What the controller of releases keeps: its lease, how far its judge has read, and what it decided on what."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, String, Text

from workbench.ledger.types import Json, Serial, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leases",
        Column("name", Text, primary_key=True),
        Column("holder", Text, nullable=False),
        Column("token", Serial, nullable=False),
        Column("beat", Serial, nullable=False),
    )
    op.create_table(
        "watches",
        Column("release_id", Text, primary_key=True),
        Column("step", Integer, nullable=False),
        Column("run_s", Float, nullable=False),
        Column("canary_s", Float, nullable=False),
        Column("high_water", BigInteger, nullable=False),
        Column("plan", Json, nullable=False),
        Column("standing", Json, nullable=False),
        Column("newest_row_at", UtcDateTime),
        Column("looked_at", UtcDateTime, nullable=False),
        Column("token", Serial, nullable=False),
        Column("version", Integer, nullable=False),
    )
    op.create_table(
        "decisions",
        Column("release_id", Text, primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("decided_at", UtcDateTime, nullable=False),
        Column("release_version", Integer, nullable=False),
        Column("step", Integer, nullable=False),
        Column("decision", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("sentence", Text, nullable=False),
        Column("inputs", Json, nullable=False),
        Column("inputs_digest", String(71), nullable=False),
        Column("token", Serial, nullable=False),
    )
