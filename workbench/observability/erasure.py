"""Erasing a unit: everything the stores hold of it, in every snapshot, and an honest word on what that does not reach.

The act is recorded first, in the ledger, with the unit's hash alone. What follows may be cut off anywhere and is done again by the next
call: taking out rows that are gone takes out none, and files are rewritten only while some snapshot still shows the unit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import duckdb

from workbench.errors import UsageError
from workbench.ledger.authority import Author, Authority
from workbench.ledger.erasures import ERASE, StoredErasure, add_erasure, end_erasure, erase_held, open_erasures
from workbench.ledger.store import Ledger
from workbench.observability.evidence import instant
from workbench.observability.lake import Lake
from workbench.observability.logs import Logs
from workbench.observability.unit_rows import COUNTED, Keys, Taken, take_out
from workbench.observability.upkeep import Progress, Upkeep

LOG, SPOOLS = "log lake", "spools"
MAINTAIN = "log.maintain"
_SCHEDULED = "__ducklake_metadata_lake.ducklake_files_scheduled_for_deletion"
_SLACK = timedelta(seconds=5)
"""Between the times that one transaction notes."""
_BEYOND = (
    "backups and copies of the workspace",
    "files that reports, exports or notebooks wrote elsewhere",
    "what model providers and other systems were sent",
    "the sums of days whose rows retention has taken out: they count, and name nobody",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedPart:
    """What one store did."""

    store: str
    removed: Mapping[str, int]
    """What to how many rows of it: of the log since the erasure was asked for, of other stores by this run."""
    pending: str = ""
    """What is not gone yet, and why; empty when nothing is left."""
    until: datetime | None = None
    """When it can be removed; None where that is not known."""
    left: str = ""
    """What was left on purpose, and why."""


class Erasable(Protocol):
    """Another store that holds something of units."""

    @property
    def name(self) -> str: ...

    def erase(self, unit_hash: str) -> ErasedPart:
        """Remove everything of the unit; called again, it finds nothing."""


class HeldInLedger:
    """What waits for people or was held back, as an `Erasable`."""

    name = "handoffs"

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def erase(self, unit_hash: str) -> ErasedPart:
        """Delete the unit's items with their texts, and leave nothing of them in free pages."""
        n, is_clean = erase_held(self._ledger, unit_hash)
        return ErasedPart(store=self.name, removed={"rows": n}, pending="" if is_clean else "the ledger's write-ahead log is in use")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReport:
    """How far an erasure has come."""

    erasure_id: int
    unit_hash: str
    reason: str
    requested_by: str
    requested_at: datetime
    parts: tuple[ErasedPart, ...]
    beyond: tuple[str, ...]
    """Where the unit may stand and the workbench cannot reach."""
    is_done: bool
    """Whether nothing is left in any store."""
    until: datetime | None
    """When the last of what has a time can be removed."""

    @property
    def n_removed(self) -> int:
        return sum(n for part in self.parts for n in part.removed.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _InLake:
    """What the lake knows of an erasure."""

    is_taken_out: bool
    rows: tuple[int, ...]
    expired_at: datetime | None
    """When snapshots that showed the unit were last given up; None while none was."""
    n_waiting: int
    """Files of those snapshots that wait for their readers."""


class Erasure:
    """The verbs: erase a unit, see what is pending, finish it.

    Args:
        ledger: where the act is recorded.
        lake: the log lake.
        logs: its writing side, with the spools.
        upkeep: rewrites the lake.
        unit_hash: the hash under which the stores know a unit.
        others: further stores that hold something of units.
        authority: says who may.
        author: who acts when nobody is named.
        clock: the present time.
        clean: takes personal data out of a reason.
    """

    def __init__(
        self,
        ledger: Ledger,
        lake: Lake,
        logs: Logs,
        upkeep: Upkeep,
        *,
        unit_hash: Callable[[str], str],
        others: Sequence[Erasable] = (),
        authority: Authority,
        author: Author,
        clock: Callable[[], datetime],
        clean: Callable[[str], str],
    ) -> None:
        self._ledger = ledger
        self._lake = lake
        self._logs = logs
        self._upkeep = upkeep
        self._unit_hash = unit_hash
        self._others = tuple(others)
        self._authority = authority
        self._author = author
        self._clock = clock
        self._clean = clean

    def erase(self, unit: str, *, reason: str, actor: Author | None = None, progress: Progress | None = None) -> ErasureReport:
        """Remove everything of the unit. An erasure of it that is not done is continued; a unit that nobody knows is recorded all the same.

        Args:
            unit: as applications name it; it is stored nowhere.
            reason: why, for the audit.
            actor: who decides it.
            progress: called with a label, the steps done and all steps.

        Raises:
            NotPermitted: the actor may not erase.
            UsageError: there is no unit or no reason.
            StoreError: a store failed; calling again goes on where it stopped.
        """
        author = actor or self._author
        self._authority.require(author, ERASE, None)
        why = " ".join(self._clean(_unnamed(reason, unit)).split())
        for name, given in (("unit", unit.strip()), ("reason", why)):
            if not given:
                raise UsageError(f"erasure: {name}", seen="it is empty", needed=f"a {name}")
        meant = self._unit_hash(unit)
        with self._ledger.write() as act:
            known = next((erasure for erasure in open_erasures(act.connection) if erasure.unit_hash == meant), None)
            erasure_id = known.erasure_id if known else add_erasure(act, author, unit_hash=meant, reason=why)
        reports = self._carry_on(author, asked_again=erasure_id, progress=progress)
        return next(report for report in reports if report.erasure_id == erasure_id)

    def pending(self) -> tuple[ErasureReport, ...]:
        """The erasures that are not done, with what is left to do; it changes nothing."""
        reports = []
        for erasure in self._open():
            part = self._log_part(self._seen(erasure), others="`workbench erase --finish` checks what is left")
            reports.append(_report(erasure, (part,)))
        return tuple(reports)

    def finish(self, *, actor: Author | None = None, progress: Progress | None = None) -> tuple[ErasureReport, ...]:
        """Go on with every erasure that is not done, as far as that is possible now.

        Raises:
            NotPermitted: the actor may neither erase nor maintain the log.
            StoreError: as of `erase`.
        """
        author = actor or self._author
        self._authority.require(author, MAINTAIN, None)
        return self.go_on(author, progress=progress)

    def go_on(self, author: Author, *, progress: Progress | None = None) -> tuple[ErasureReport, ...]:
        """As `finish`, for a schedule: nobody new decides anything, so nobody is asked for a permission."""
        return self._carry_on(author, asked_again=None, progress=progress)

    def _carry_on(self, author: Author, *, asked_again: int | None, progress: Progress | None) -> tuple[ErasureReport, ...]:
        """One pass over all erasures that are not done, oldest first."""
        erasures = self._open()
        if not erasures:
            return ()
        faults, shared = self._take_out(erasures, asked_again)
        seen = {erasure.erasure_id: self._seen(erasure) for erasure in erasures}
        is_clean = True
        if any(any(found.rows) for found in seen.values()):
            self._upkeep.forget(progress=progress)
            is_clean = self._upkeep.vacuum()
        return tuple(
            self._ended(author, erasure, faults, others="" if is_clean else _IN_USE, shared=shared.get(erasure.erasure_id, 0))
            for erasure in erasures
        )

    def _take_out(self, erasures: Sequence[StoredErasure], asked_again: int | None) -> tuple[list[str], dict[int, int]]:
        """Bring every spool into the lake, and delete the units there; returns what failed and how many shared outcomes were left.

        Twice: what was recorded between the first flush and the deletion comes in with the second. From the first deletion on no row of
        before is stored any more, but what only names a request of the unit, such as a score, does not tell.
        """
        taken: dict[int, Taken] = {}
        faults: Sequence[str] = ()
        for _ in range(2):
            faults = self._logs.flush(everything=True).faults
            for erasure in erasures:
                before = taken.get(erasure.erasure_id)
                if before is not None or erasure.erasure_id == asked_again or not self._seen(erasure).is_taken_out:
                    taken[erasure.erasure_id] = self._take_out_of_lake(erasure, before)
        shared = {number: found.shared for number, found in taken.items()}
        return [*faults, *self._logs.scrub()], shared

    def _take_out_of_lake(self, erasure: StoredErasure, before: Taken | None) -> Taken:
        known: Keys = before.keys if before is not None else ()

        def work(connection: duckdb.DuckDBPyConnection) -> Taken:
            number, unit_hash, now = erasure.erasure_id, erasure.unit_hash, self._clock()
            return take_out(connection, erasure_id=number, unit_hash=unit_hash, known=known, at=now)

        taken = self._lake.write(work, what="take out a unit's rows")
        return taken if before is None else replace(taken, shared=max(taken.shared, before.shared))

    def _ended(self, author: Author, erasure: StoredErasure, faults: Sequence[str], *, others: str, shared: int) -> ErasureReport:
        """How far the erasure has come after a pass, noted in the ledger when it is done."""
        part = self._log_part(self._seen(erasure), others=others)
        if shared:
            part = replace(part, left=f"{shared} outcomes that name only a session in which other units took part")
        spools = ErasedPart(store=SPOOLS, removed={}, pending="; ".join(faults))
        report = _report(erasure, (part, spools, *(other.erase(erasure.unit_hash) for other in self._others)))
        if report.is_done:
            with self._ledger.write() as act:
                end_erasure(act, author, erasure, removed={part.store: dict(part.removed) for part in report.parts if part.removed})
        return report

    def _log_part(self, seen: _InLake, *, others: str) -> ErasedPart:
        """What the lake has done and what waits there; `others` is what is known besides."""
        part = ErasedPart(store=LOG, removed=dict(zip(COUNTED, seen.rows, strict=True)))
        if not seen.is_taken_out:
            return replace(part, pending="its rows stand in the log; `workbench erase --finish` goes on")
        if not any(seen.rows):
            return part
        state = self._upkeep.state()
        if state.has_deleted_rows:
            until = state.clean_since and state.clean_since + self._upkeep.grace
            return replace(part, pending="earlier snapshots show its rows, and somebody may be reading those", until=until)
        if seen.n_waiting:
            what = f"{seen.n_waiting} files, given up, that readers may still have open"
            return replace(part, pending=what, until=state.ripe_at(self._upkeep.grace))
        if seen.expired_at is not None and (n := self._upkeep.orphans(seen.expired_at)):
            return replace(part, pending=f"{n} files that killed writers left", until=seen.expired_at + self._upkeep.orphan_age)
        return replace(part, pending=others)

    def _open(self) -> tuple[StoredErasure, ...]:
        with self._ledger.read() as connection:
            return open_erasures(connection)

    def _seen(self, erasure: StoredErasure) -> _InLake:
        return self._lake.read(lambda connection: _look(connection, erasure.erasure_id))


_IN_USE = "the catalogue could not be rewritten: somebody had it in use all the time"


def _unnamed(reason: str, unit: str) -> str:
    """The reason without the unit, which people like to repeat there."""
    return re.sub(rf"(?<!\w){re.escape(unit)}(?!\w)", "the unit", reason, flags=re.IGNORECASE) if unit.strip() else reason


def _look(connection: duckdb.DuckDBPyConnection, erasure_id: int) -> _InLake:
    sums = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in COUNTED)
    n, through, *rows = _row(
        connection, f"SELECT count(*), max(through_snapshot), {sums} FROM lake.erasures WHERE erasure_id = {erasure_id}"
    )
    (expired_us,) = _row(connection, f"SELECT epoch_us(max(expired_at)) FROM lake.expiries WHERE last_snapshot >= {through if n else 0}")
    if expired_us is None or not any(rows):
        return _InLake(is_taken_out=bool(n), rows=tuple(rows), expired_at=None, n_waiting=0)
    is_of_it = f"epoch_us(schedule_start::TIMESTAMPTZ) <= {expired_us + _SLACK // timedelta(microseconds=1)}"
    (waiting,) = _row(connection, f"SELECT count(*) FROM {_SCHEDULED} WHERE {is_of_it}")
    return _InLake(is_taken_out=bool(n), rows=tuple(rows), expired_at=instant(expired_us), n_waiting=waiting)


def _row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    (row,) = connection.execute(sql).fetchall()
    return tuple(row)


def _report(erasure: StoredErasure, parts: tuple[ErasedPart, ...]) -> ErasureReport:
    return ErasureReport(
        erasure_id=erasure.erasure_id,
        unit_hash=erasure.unit_hash,
        reason=erasure.reason,
        requested_by=erasure.requested_by,
        requested_at=erasure.requested_at,
        parts=parts,
        beyond=_BEYOND,
        is_done=not any(part.pending for part in parts),
        until=max((part.until for part in parts if part.until is not None), default=None),
    )
