"""The ledger: transactions that either store an act with its audit entry, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self

from sqlalchemy import Connection, Engine, Table, and_, select

from workbench.errors import ConflictError, UnknownSubject
from workbench.ledger.audit import AuditEntry, append, read_head
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.engines import WRITES, engine_for, parse_url, shown
from workbench.ledger.faults import told_by
from workbench.ledger.forking import at_work, before_each_fork
from workbench.ledger.schema import bring_up_to_date, scrub


class WriteTransaction:
    """One act in progress: its rows and its audit entry become visible together, at the end of the block."""

    def __init__(self, connection: Connection, clock: Callable[[], datetime]) -> None:
        self.connection = connection
        self._clock = clock

    def audit(self, author: Author, act: str, *, app: str | None, subject: str, detail: Mapping[str, JSON]) -> AuditEntry:
        """The entry of this act, chained to the one before it.

        Args:
            author: who acts.
            act: name of the act, for example `bundle.register`.
            app: application, None for the whole workspace.
            subject: what is acted on, for example a bundle id.
            detail: what a reader needs later; never a secret.
        """
        return append(self.connection, author, act, app=app, subject=subject, detail=detail, time=self._clock())

    def transition(self, table: Table, *, key: Mapping[str, Any], expected_version: int, values: Mapping[str, Any]) -> None:
        """Changes one row, if it is still at the version that the caller saw; its `version` grows by one.

        Args:
            table: has an integer column `version`.
            key: column values that name the row.
            expected_version: the version on which the caller decided.
            values: new column values.

        Raises:
            ConflictError: when somebody else changed the row first.
            UnknownSubject: when there is no such row.
        """
        is_row = and_(*(table.c[name] == value for name, value in key.items()))
        change = table.update().where(is_row, table.c.version == expected_version).values({**values, "version": expected_version + 1})
        if self.connection.execute(change).rowcount == 1:
            return
        subject = f"{table.name} {', '.join(f'{name}={value}' for name, value in key.items())}"
        version = self.connection.execute(select(table.c.version).where(is_row)).scalar()
        if version is None:
            raise UnknownSubject(subject, seen="there is no such row", next_step="list what exists and name one of it")
        raise ConflictError(
            subject,
            seen=f"it is at version {version}",
            needed=f"version {expected_version}, which this act was decided on",
            next_step="somebody else changed it first: read it again, then decide again",
        )


class Ledger:
    """The open ledger of one workspace. Threads and processes may share it; each transaction has its own connection."""

    def __init__(self, engine: Engine, *, place: str, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock
        self.place = place
        before_each_fork(self, Ledger.close)  # two processes must not share a connection, nor SQLite's idea of who has the file open

    @classmethod
    def open(cls, url: str, *, clock: Callable[[], datetime]) -> Self:
        """The ledger at this address, created or brought up to date when needed.

        Args:
            url: `sqlite:////absolute/path/ledger.sqlite` or `postgresql://…`.
            clock: the present time, aware.

        Raises:
            NewerWorkspace: when a newer workbench wrote it.
            StoreError: when it cannot be opened, or is no ledger.
        """
        address = parse_url(url)
        ledger = cls(engine_for(address), place=shown(address), clock=clock)
        try:
            with at_work(), told_by(ledger.place):
                bring_up_to_date(ledger._engine, ledger.place)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one moment of the ledger and cannot write."""
        with at_work(), told_by(self.place), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[WriteTransaction]:
        """A transaction that is committed at the end of the block, or undone when an exception leaves it.

        There is one at a time: what it reads stays true until its end.
        """
        with at_work(), told_by(self.place), self._engine.connect() as connection:
            connection.execution_options(**{WRITES: True})
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    read_head(connection, lock=True)  # one writer at a time from the start, as BEGIN IMMEDIATE is on SQLite
                yield WriteTransaction(connection, self._clock)

    def scrub(self, tables: Sequence[str]) -> bool:
        """Whether nothing of the rows that were deleted from these tables is left in the ledger's own files.

        False when somebody had them in use all the time; what a server keeps in its log and its archives is not reached.
        """
        with at_work(), told_by(self.place):
            return scrub(self._engine, tables)

    def close(self) -> None:
        """Gives back all connections. Transactions that are open end when their blocks do."""
        self._engine.dispose()
