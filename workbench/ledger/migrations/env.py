"""What Alembic runs: the revisions, on the connection and inside the transaction that `ledger.schema` opened."""

from __future__ import annotations

from alembic import context

from workbench.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
