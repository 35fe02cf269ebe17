"""Values by name: those that a workspace chooses once and keeps (its id, its keys' names, its salts), and those that are put there anew."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from workbench.ledger.store import Ledger, WriteTransaction
from workbench.ledger.tables import settings


def get(ledger: Ledger, name: str) -> str | None:
    """The stored value, None where none was chosen."""
    with ledger.read() as connection:
        return connection.execute(select(settings.c.value).where(settings.c.name == name)).scalar()


def get_or_create(ledger: Ledger, name: str, make: Callable[[], str]) -> str:
    """The stored value; made and stored the first time. Processes that ask at the same time get the same one."""
    known = get(ledger, name)
    if known is not None:
        return known
    value = make()
    wanted = select(settings.c.value).where(settings.c.name == name)
    with ledger.write() as act:
        dialect = postgresql if act.connection.dialect.name == "postgresql" else sqlite
        act.connection.execute(dialect.insert(settings).values(name=name, value=value).on_conflict_do_nothing())
        return str(act.connection.execute(wanted).scalar_one())


def put(act: WriteTransaction, name: str, value: str) -> None:
    """Store a value in place of the one before."""
    dialect = postgresql if act.connection.dialect.name == "postgresql" else sqlite
    wanted = dialect.insert(settings).values(name=name, value=value)
    act.connection.execute(wanted.on_conflict_do_update(index_elements=[settings.c.name], set_={"value": value}))
