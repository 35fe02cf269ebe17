"""The audit chain: every entry's digest covers its content and the digest before it, so no entry can change unseen.

`audit_head` repeats the newest entry's number and digest; a report prints it. An entry that was altered, removed or
put in shows against its neighbours, a cut tail against the head and against the acts that are stored, and a chain
rewritten whole against a printed head.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, exists, select
from sqlalchemy.exc import IntegrityError as ConstraintFailed

from workbench.errors import IntegrityError, UsageError
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON, canonical_json, digest, read_canonical
from workbench.ledger.tables import audit, audit_head, bundles, declarations
from workbench.ledger.types import utc_text

GENESIS = "sha256:" + "0" * 64
"""What the first entry names as its predecessor."""
REVIEW_ACT = "review"
AUDIT_SEQ = "audit_seq"
"""Where the stored content of a review holds the number of its audit entry."""
_COVERED = ("seq", "time", "actor", "via", "assurance", "act", "app", "subject", "detail", "previous")
_NEXT_STEP = "keep this ledger as it is, compare it with a backup, and find out who could write to it"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act: who did what to which subject, and the entry before it."""

    seq: int
    """1 for the first entry, without gaps."""
    time: datetime
    actor: str
    via: str
    assurance: str
    act: str
    app: str | None
    subject: str
    detail: Mapping[str, Any]
    previous: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest entry of a chain; `seq` 0 before the first."""

    seq: int
    digest: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """The head that `str` printed.

        Raises:
            UsageError: for any other text.
        """
        seq, _, value = text.strip().partition(":")
        if not seq.isascii() or not seq.isdigit() or not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
            raise UsageError(f"audit head {text!r}", seen="not a head", needed="NUMBER:sha256:… as `workbench audit verify` prints it")
        return cls(seq=int(seq), digest=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What `verify` found."""

    n: int
    """Entries that were read and are whole, counted from the first."""
    head: Head | None
    """The head as stored; None when its record is gone."""
    broken_at: int | None
    """Number of the first entry that is missing or broken; None for a whole chain."""
    reason: str
    """What is wrong, in words; empty for a whole chain."""

    @property
    def is_whole(self) -> bool:
        return self.broken_at is None

    def require_whole(self) -> None:
        """Raise IntegrityError when the chain is broken."""
        if self.broken_at is not None:
            raise IntegrityError(f"audit entry {self.broken_at}", seen=self.reason, needed="an unbroken chain", next_step=_NEXT_STEP)


def digest_of(
    *,
    seq: int,
    time: datetime | str,
    actor: str,
    via: str,
    assurance: str,
    act: str,
    app: str | None,
    subject: str,
    detail: Mapping[str, JSON],
    previous: str,
) -> str:
    """`sha256:` over the canonical JSON of one entry, its time as stored text."""
    stamp = time if isinstance(time, str) else utc_text(time)
    values = (seq, stamp, actor, via, assurance, act, app, subject, detail, previous)
    return digest(dict(zip(_COVERED, values, strict=True)))


def append(
    connection: Connection,
    author: Author,
    act: str,
    *,
    app: str | None,
    subject: str,
    detail: Mapping[str, JSON],
    time: datetime,
) -> AuditEntry:
    """The new entry, chained and inserted in the connection's transaction. The head's row stays locked until its end.

    Raises:
        IntegrityError: when the head's record is gone or no longer fits the entries.
        UsageError: when `detail` is not JSON.
    """
    head = read_head(connection, lock=True)
    if head is None:
        raise IntegrityError(
            "audit head", seen="its record is gone", needed="the record of the newest entry", next_step="run `workbench audit verify`"
        )
    values: dict[str, Any] = {
        "seq": head.seq + 1,
        "time": datetime.fromisoformat(utc_text(time)),
        "actor": str(author.person),
        "via": str(author.via),
        "assurance": str(author.assurance),
        "act": act,
        "app": app,
        "subject": subject,
        "previous": head.digest,
    }
    text = canonical_json(detail).decode()
    entry = AuditEntry(**values, detail=read_canonical(text), digest=digest_of(**values, detail=detail))
    try:
        connection.execute(audit.insert().values(**values, detail=text, digest=entry.digest))
    except ConstraintFailed as error:
        seen = f"the head names entry {head.seq} as the newest, but entry {entry.seq} exists"
        raise IntegrityError("audit head", seen=seen, needed="a head that fits", next_step="run `workbench audit verify`") from error
    connection.execute(audit_head.update().values(seq=entry.seq, digest=entry.digest))
    return entry


def read_head(connection: Connection, *, lock: bool = False) -> Head | None:
    """The stored head, None when its record is gone. With `lock`, other writers wait (PostgreSQL; SQLite has one writer anyway)."""
    query = select(audit_head.c.seq, audit_head.c.digest)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else Head(seq=row.seq, digest=row.digest)


def tail(connection: Connection, n: int, *, app: str | None = None) -> tuple[AuditEntry, ...]:
    """The newest `n` entries, oldest first; of one app when it is given."""
    query = select(audit).order_by(audit.c.seq.desc()).limit(n)
    rows = connection.execute(query if app is None else query.where(audit.c.app == app)).all()
    return tuple(_entry(row) for row in reversed(rows))


def entries_of(connection: Connection, act: str, *, app: str | None) -> tuple[AuditEntry, ...]:
    """All entries of one act on one app, or on the whole workspace when it is None, oldest first."""
    wanted = select(audit).where(audit.c.app == app, audit.c.act == act).order_by(audit.c.seq)
    return tuple(_entry(row) for row in connection.execute(wanted))


def entries_about(connection: Connection, subject: str, *, app: str) -> tuple[AuditEntry, ...]:
    """All entries on one subject of an app, oldest first."""
    wanted = select(audit).where(audit.c.app == app, audit.c.subject == subject).order_by(audit.c.seq)
    return tuple(_entry(row) for row in connection.execute(wanted))


def newest_of(connection: Connection, act: str, *, app: str, subject: str) -> AuditEntry | None:
    """The newest entry of one act on one subject; None before the first."""
    is_meant = (audit.c.app == app, audit.c.act == act, audit.c.subject == subject)
    row = connection.execute(select(audit).where(*is_meant).order_by(audit.c.seq.desc()).limit(1)).first()
    return None if row is None else _entry(row)


def verify(connection: Connection, *, expected: Head | None = None) -> ChainReport:
    """What a walk over the whole chain found, in one read transaction.

    A chain that is whole in itself must also hold the entry of every bundle, declaration and review that is stored: one that
    was cut off together with its head leaves the row of its act behind.

    Args:
        connection: of a read or write transaction.
        expected: a head that a report printed earlier; it must still be an entry of the chain.
    """
    columns = ", ".join(column.name for column in audit.columns)
    with _undecoded_texts(connection):
        head = connection.exec_driver_sql("SELECT seq, digest FROM audit_head").first()
        rows = connection.exec_driver_sql(f"SELECT {columns} FROM audit ORDER BY seq", execution_options={"yield_per": 1000})
        with rows:
            report = check(rows, Head(seq=head.seq, digest=head.digest) if head else None, expected=expected)
        return _against_acts(report, _unvouched(connection)) if report.is_whole else report


def check(rows: Iterable[Row[Any]], head: Head | None, *, expected: Head | None = None) -> ChainReport:
    """The first fault of a chain. Pure.

    Args:
        rows: entries as stored, by number.
        head: the stored head; None when its record is gone.
        expected: a head that was printed earlier.
    """
    n, previous = 0, GENESIS
    for row in rows:
        fault = _entry_fault(row, n + 1, previous, expected)
        if fault:
            return ChainReport(n=n, head=head, broken_at=n + 1, reason=fault)
        n, previous = row.seq, row.digest
    at, fault = _end_fault(n, previous, head, expected) or (None, "")
    return ChainReport(n=n, head=head, broken_at=at, reason=fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unvouched:
    """A stored row whose audit entry is not there, or is of something else."""

    seq: int
    what: str


def _against_acts(report: ChainReport, unvouched: Iterable[_Unvouched]) -> ChainReport:
    """The report, broken at the first entry that a stored row names and the chain does not hold."""
    first = min(unvouched, key=lambda row: row.seq, default=None)
    if first is None:
        return report
    at, fault = first.seq, f"entry {first.seq} is not the one of {first.what}, which was stored with it"
    if first.seq < 1:
        at, fault = report.n + 1, f"{first.what} names no entry: its stored content was altered"
    elif first.seq > report.n:
        at = report.n + 1
        fault = f"entry {at} is missing: {first.what} was stored with entry {first.seq}, the chain ends at {report.n}"
    return replace(report, broken_at=at, reason=fault)


def _unvouched(connection: Connection) -> Iterator[_Unvouched]:
    """The stored bundles, declarations and reviews without their audit entry."""
    declared = declarations.c.app + "/" + declarations.c.kind
    for table, subject, noun in ((bundles, bundles.c.bundle_id, "bundle"), (declarations, declared, "declaration")):
        entry = exists().where(audit.c.seq == table.c.seq, audit.c.subject == subject)
        for seq, name in connection.execute(select(table.c.seq, subject).where(~entry)).all():
            yield _Unvouched(seq=seq, what=f"{noun} {name}")
    entries = connection.execute(select(audit.c.seq, audit.c.subject).where(audit.c.act == REVIEW_ACT))
    reviewed = {entry.seq: entry.subject for entry in entries}
    for row in connection.exec_driver_sql("SELECT review_id, bundle_id, content FROM reviews"):
        seq = _seq_in(row.content)
        if reviewed.get(seq) != row.bundle_id:
            yield _Unvouched(seq=seq, what=f"review {row.review_id}")


def _seq_in(content: Any) -> int:
    """The audit entry that the stored content of a review names; 0, which no entry has, when it names none."""
    try:
        seq = (content if isinstance(content, Mapping) else json.loads(content))[AUDIT_SEQ]
    except (ValueError, TypeError, KeyError):
        return 0
    return seq if isinstance(seq, int) else 0


def _entry_fault(row: Row[Any], seq: int, previous: str, expected: Head | None) -> str:
    """What is wrong with the entry that should be number `seq`; empty when it is whole and follows `previous`."""
    if not isinstance(row.seq, int) or row.seq > seq:
        return f"entry {seq} is missing; the next one stored is {row.seq!r}"
    if row.seq < seq:
        return f"entry {row.seq!r} is stored where entry {seq} is expected"
    if not _matches_digest(row):
        return f"entry {seq} was altered: its content no longer matches its digest"
    if row.previous != previous:
        return f"entry {seq} does not follow entry {seq - 1}: it names another predecessor"
    if expected and seq == expected.seq and row.digest != expected.digest:
        return f"entry {seq} is not the one that was printed earlier: the chain was rewritten at or before it"
    return ""


def _matches_digest(row: Row[Any]) -> bool:
    """Whether every stored byte of an entry is what its digest covers."""
    try:
        detail = read_canonical(row.detail)
        content = {name: detail if name == "detail" else getattr(row, name) for name in _COVERED}
        return bool(digest(content) == row.digest and canonical_json(detail).decode() == row.detail)
    except (ValueError, TypeError, RecursionError, UsageError):
        return False


def _end_fault(n: int, newest: str, head: Head | None, expected: Head | None) -> tuple[int, str] | None:
    """The number of the first entry that is missing or too many after `n` whole ones, and what is wrong."""
    if expected and expected.seq > n:
        return n + 1, f"entry {n + 1} is missing: a head printed earlier names entry {expected.seq}, the chain ends at {n}"
    if head is None:
        return n + 1, f"the record of the newest entry is gone: the chain ends at {n}, and entries after it may be missing"
    if head == Head(seq=n, digest=newest):
        return None
    if head.seq == n or not isinstance(head.seq, int):
        return max(n, 1), f"the record of the newest entry does not fit entry {n}: it was altered, or the entry was replaced"
    if head.seq > n:
        return n + 1, f"entry {n + 1} is missing: the record of the newest entry names {head.seq}, the chain ends at {n}"
    return max(
        head.seq + 1, 1
    ), f"the record of the newest entry names {head.seq}, but the chain goes on to {n}: entries were put in beside it"


@contextmanager
def _undecoded_texts(connection: Connection) -> Iterator[None]:
    """Lets damaged UTF-8 through for the block, so that it is found by its digest instead of failing the read."""
    driver = connection.connection.driver_connection
    if connection.dialect.name != "sqlite" or driver is None:
        yield
        return
    before = driver.text_factory
    driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        driver.text_factory = before


def _entry(row: Row[Any]) -> AuditEntry:
    values = {name: getattr(row, name) for name in (*_COVERED, "digest") if name != "detail"}
    return AuditEntry(**values, detail=read_canonical(row.detail))
