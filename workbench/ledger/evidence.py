"""The rows under evidence; `observability` seals the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import evidence


def add_evidence(act: WriteTransaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds records that are not there yet."""
    add_once(act.connection, evidence, rows)


def evidence_row(connection: Connection, evidence_id: str) -> Mapping[Any, Any] | None:
    """The record of this id; None where there is none."""
    return connection.execute(select(evidence).where(evidence.c.evidence_id == evidence_id)).mappings().one_or_none()


def add_once(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows that are not there yet; content-addressed rows that are there are equal."""
    if not rows:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(table).on_conflict_do_nothing(), list(rows))
