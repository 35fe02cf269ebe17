"""Routes, releases with their approvals and locks, stand-ins of the rota, API keys, the bot's inbox and messages."""

from __future__ import annotations

from alembic import op
from sqlalchemy import CheckConstraint, Column, Float, Integer, String, Text, text

from workbench.ledger.types import Json, Serial, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_IS_OPEN = text("ended_at IS NULL")


def upgrade() -> None:
    _controls()
    _release()
    _ownership()
    _bot()


def _controls() -> None:
    op.create_table(
        "routes",
        Column("app", Text, primary_key=True),
        Column("stable", Text),
        Column("candidate", Text),
        Column("share", Float, nullable=False),
        Column("salt", Text, nullable=False),
        Column("release_id", Text),
        Column("without_stable", Text, nullable=False),
        Column("version", Integer, nullable=False),
        Column("changed_at", UtcDateTime, nullable=False),
        CheckConstraint("share >= 0 AND share <= 1", name="share"),
    )
    op.create_table(
        "api_keys",
        Column("key_id", Text, primary_key=True),
        Column("digest", String(71), nullable=False),
        *(Column(name, Text, nullable=False) for name in ("app", "person", "label")),
        Column("created_at", UtcDateTime, nullable=False),
        Column("created_by", Text, nullable=False),
        Column("revoked_at", UtcDateTime),
        Column("revoked_by", Text),
        Column("version", Integer, nullable=False),
    )
    op.create_index("ix_api_keys_app", "api_keys", ["app"])


def _release() -> None:
    op.create_table(
        "releases",
        Column("release_id", Text, primary_key=True),
        *(Column(name, Text, nullable=False) for name in ("app", "kind", "state")),
        Column("step", Integer),
        Column("bundle_id", Text),
        Column("previous_stable", Text),
        Column("plan", Json, nullable=False),
        Column("plan_digest", String(71), nullable=False),
        Column("review_id", Text),
        *(Column(name, Text, nullable=False) for name in ("salt", "reason", "requested_by")),
        Column("requested_at", UtcDateTime, nullable=False),
        Column("step_since", UtcDateTime),
        Column("note", Text, nullable=False),
        Column("ended_at", UtcDateTime),
        Column("version", Integer, nullable=False),
    )
    op.create_index("ix_releases_app_requested_at", "releases", ["app", "requested_at"])
    op.create_index("uq_releases_open", "releases", ["app"], unique=True, sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN)
    op.create_table(
        "approvals",
        Column("seq", Serial, primary_key=True, autoincrement=False),
        *(Column(name, Text, nullable=False) for name in ("release_id", "person", "decision")),
        Column("binds", Json, nullable=False),
        Column("decided_at", UtcDateTime, nullable=False),
        Column("expires_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_approvals_release_id", "approvals", ["release_id"])
    op.create_table(
        "locks",
        Column("app", Text, primary_key=True),
        Column("kind", Text, primary_key=True),
        Column("holder", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("since", UtcDateTime, nullable=False),
    )


def _ownership() -> None:
    op.create_table(
        "rota_overrides",
        Column("seq", Serial, primary_key=True, autoincrement=False),
        *(Column(name, Text, nullable=False) for name in ("app", "person")),
        Column("tier", Integer, nullable=False),
        Column("start", UtcDateTime, nullable=False),
        Column("until", UtcDateTime, nullable=False),
        *(Column(name, Text, nullable=False) for name in ("reason", "declared_by")),
        Column("declared_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_rota_overrides_app_until", "rota_overrides", ["app", "until"])


def _bot() -> None:
    op.create_table(
        "inbox",
        Column("delivery", Text, primary_key=True),
        Column("intent", Json, nullable=False),
        Column("state", Text, nullable=False),
        Column("received_at", UtcDateTime, nullable=False),
        Column("worker", Text),
        Column("leased_until", UtcDateTime),
        Column("attempts", Integer, nullable=False),
        Column("outcome", Json),
        Column("finished_at", UtcDateTime),
        Column("version", Integer, nullable=False),
    )
    op.create_index("ix_inbox_state_received_at", "inbox", ["state", "received_at"])
    op.create_table(
        "messages",
        Column("name", Text, primary_key=True),
        *(Column(name, Text, nullable=False) for name in ("channel", "ts")),
        Column("digest", String(71), nullable=False),
        Column("changed_at", UtcDateTime, nullable=False),
    )
