"""The shadow stage of a canary: which bundle answers copies of which share of the units' requests."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Float, Text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("routes", Column("shadow", Text))
    op.add_column("routes", Column("shadow_share", Float, nullable=False, server_default="0"))
