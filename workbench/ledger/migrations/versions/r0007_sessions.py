"""Whether talks end on the bundle that they began on, and which bundle of a release that is over they may still end on."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, Text, false

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("routes", Column("drains", Boolean, nullable=False, server_default=false()))
    op.add_column("routes", Column("retiring", Text))
