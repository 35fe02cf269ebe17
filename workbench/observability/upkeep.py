"""Upkeep of the lake, done: each step of a plan is one transaction under the writers' lock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb

from workbench.errors import StoreError
from workbench.observability import scrubbing, server_vacuum
from workbench.observability.evidence import instant
from workbench.observability.flusher import literal, timestamp
from workbench.observability.lake import Lake
from workbench.observability.model import Window
from workbench.observability.reshaping import CATALOGUE
from workbench.observability.summing import note_window, sum_next
from workbench.observability.tables import WRITABLE
from workbench.observability.tablewise import count, flush_inlined, merge, rewrite
from workbench.observability.upkeep_plan import (
    FEWEST_GIVEN_UP,
    ORPHAN_AGE,
    READERS_GRACE,
    RETENTION,
    LakeState,
    Plan,
    Snapshot,
    Step,
    erasure_plan,
    given_up,
    upkeep_plan,
)

ERASURE, RETENTION_REASON = "erasure", "retention"
Progress = Callable[[str, int, int], None]
_SCHEDULED = f"{CATALOGUE}.ducklake_files_scheduled_for_deletion"
_VACUUM_S = 600
_MERGED_AT_ONCE = 64
"""Files that one transaction of a merge makes of each table; writers of the lake wait for it."""
_MOST_MERGES = 50
"""Transactions of one run's merge; what is left is the next run's."""
_SUM = "sum hours that got rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepReport:
    """What a run did."""

    done: dict[Step, int] = field(default_factory=dict)
    """Step to how many files or snapshots it changed."""
    hours: int = 0
    """Hours of apps that got rows since they were summed, and are summed now."""
    waits_until: datetime | None = None
    """When files that wait for their readers may be removed; until then a regular run does nothing."""


class Upkeep:
    """Keeps the lake small and, after an erasure, clean. One process at a time does it: each step holds the writers' lock.

    Args:
        lake: the lake.
        cited: the snapshots that evidence names; a regular run keeps them, an erasure does not.
        grace: how long readers are given before a file is removed.
        retention: how long a regular run keeps every snapshot.
        orphan_age: from which age a file that nothing names is removed.
        fewest: how many snapshots a regular run gives up, at least, where none shows deleted rows.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        cited: Callable[[], AbstractSet[int]],
        grace: timedelta = READERS_GRACE,
        retention: timedelta = RETENTION,
        orphan_age: timedelta = ORPHAN_AGE,
        fewest: int = FEWEST_GIVEN_UP,
    ) -> None:
        self._lake = lake
        self._cited = cited
        self.grace = grace
        self.retention = retention
        self.orphan_age = orphan_age
        self.fewest = fewest

    def run(self, *, progress: Progress | None = None) -> UpkeepReport:
        """The regular run: hours are summed, given-up files removed, small files merged, snapshots that nobody cites given up."""
        if self._lake.snapshot() is None:
            return UpkeepReport()
        hours = self.sum_hours(progress=progress)
        plan = upkeep_plan(self.state(), grace=self.grace)
        keep = max(self.grace, self.retention)
        report = self._carried_out(plan, reason=RETENTION_REASON, cited=self._cited(), keep=keep, progress=progress)
        return replace(report, hours=hours)

    def sum_hours(self, *, again: Window | None = None, progress: Progress | None = None) -> int:
        """Sum the hours that got rows since they were last summed; how many hours of apps they are.

        Args:
            again: hours in which are summed whether they got rows or not.
            progress: called with a label, the days of hours that are summed and all such days.
        """
        if self._lake.snapshot() is None:
            return 0
        if again is not None:
            self._lake.write(lambda connection: note_window(connection, again), what=_SUM)
        hours, days = 0, 0
        while True:
            summed = self._lake.write(sum_next, what=_SUM)
            hours, days = hours + summed.hours, days + summed.days
            if progress is not None and (days or summed.days_left):
                progress("hours", days, days + summed.days_left)
            if not summed.days_left:
                return hours

    def forget(self, *, progress: Progress | None = None) -> None:
        """Bring deleted rows out of files and snapshots, whoever cites them, as far as readers' grace allows now."""
        self._lake.reshape((flush_inlined,), what=str(Step.FLUSH))
        plan = erasure_plan(self.state(), grace=self.grace)
        self._carried_out(plan, reason=ERASURE, cited=frozenset(), keep=self.grace, progress=progress)
        self.narrow_statistics()

    def narrow_statistics(self) -> None:
        """Take values of deleted rows out of what the catalogue says of whole tables."""
        self._lake.reshape((_narrow_statistics,), what="narrow the catalogue's statistics")

    def state(self) -> LakeState:
        """What a plan is made from."""
        return self._lake.read(_state)

    def orphans(self, before: datetime) -> int:
        """How many files from before this time there are that nothing names: killed writers left them. A later run removes them."""
        look = _counting(_orphans(timestamp(before), is_dry_run=True))
        return self._lake.write(look, what="look for files of killed writers")  # DuckLake refuses to look where it may not write

    def vacuum(self) -> bool:
        """Whether nothing of deleted rows is left in the catalogue itself; False when somebody had it in use all the time.

        Raises:
            StoreError: it failed.
        """
        address = self._lake.address
        with self._lake.alone("rewrite the catalogue"):
            if address.file is None:
                return server_vacuum.vacuum(address.target)
            script = str(Path(scrubbing.__file__))
            done = subprocess.run(  # noqa: S603 - our own file and interpreter
                [sys.executable, "-I", script, str(address.file)], capture_output=True, text=True, timeout=_VACUUM_S, check=False
            )
        if done.returncode not in (0, scrubbing.BUSY):
            raise StoreError(
                f"log lake {address}", seen=f"the catalogue could not be rewritten: {done.stderr.strip()}", next_step="run it again"
            )
        return done.returncode == 0

    def _carried_out(self, plan: Plan, *, reason: str, cited: AbstractSet[int], keep: timedelta, progress: Progress | None) -> UpkeepReport:
        done: dict[Step, int] = {}
        for number, step in enumerate(plan.steps):
            work = self._work_of(step, reason, cited, keep)
            # DuckLake cannot commit these while rows of the table are inlined: it reads their columns of numbers as text
            first = (flush_inlined,) if step in (Step.REWRITE, Step.MERGE) else ()
            done[step] = self._lake.reshape((*first, work), what=str(step))[-1]
            for _ in range(_MOST_MERGES - 1 if step is Step.MERGE and done[step] else 0):
                more = self._lake.reshape((*first, work), what=str(step))[-1]
                done[step] += more
                if not more:
                    break
            if progress is not None:
                progress("log lake", number + 1, len(plan.steps))
        return UpkeepReport(done=done, waits_until=plan.waits_until)

    def _work_of(self, step: Step, reason: str, cited: AbstractSet[int], keep: timedelta) -> Callable[[duckdb.DuckDBPyConnection], int]:
        match step:
            case Step.CLEANUP:
                return self._clean_up
            case Step.FLUSH:
                return flush_inlined
            case Step.REWRITE:
                return rewrite
            case Step.MERGE:
                return partial(merge, most=_MERGED_AT_ONCE)
            case Step.EXPIRE:
                least = 1 if reason == ERASURE else self.fewest
                return lambda connection: _expire(connection, reason, cited, keep, least)
            case Step.ORPHANS:
                age = f"INTERVAL {int(self.orphan_age.total_seconds())} SECOND"
                return _counting(_orphans(f"now() - {age}", is_dry_run=False))

    def _clean_up(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Remove the files that wait, unless another process gave up more of them since the plan was made."""
        state = _state(connection)
        ripe_at = state.ripe_at(self.grace)
        if ripe_at is None or state.now < ripe_at:
            return 0
        return len(connection.execute("SELECT path FROM ducklake_cleanup_old_files('lake', cleanup_all => true)").fetchall())


def _counting(function: str) -> Callable[[duckdb.DuckDBPyConnection], int]:
    return lambda connection: count(connection, function)


def _orphans(before: str, *, is_dry_run: bool) -> str:
    return f"ducklake_delete_orphaned_files('lake', dry_run => {str(is_dry_run).lower()}, older_than => {before})"


def _expire(connection: duckdb.DuckDBPyConnection, reason: str, cited: AbstractSet[int], keep: timedelta, least: int) -> int:
    """Give up snapshots, and note which and why, so that somebody who asks for one of them later is told.

    Fewer than `least` stay, unless some snapshot shows deleted rows.
    """
    state = _state(connection)
    chosen = given_up(state.snapshots, cited=cited, before=state.now - keep)
    if not chosen or (len(chosen) < least and not state.has_deleted_rows):
        return 0
    versions = ", ".join(map(str, chosen))
    connection.execute(f"SELECT count(*) FROM ducklake_expire_snapshots('lake', versions => [{versions}])").fetchall()
    connection.execute(
        f"INSERT INTO lake.expiries (first_snapshot, last_snapshot, reason, expired_at) "
        f"VALUES ({min(chosen)}, {max(chosen)}, {literal(reason)}, now())"
    )
    return len(chosen)


def _deleted_rows(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
    """Files that hold deleted rows of a log; those of them under the newest snapshot; from which snapshot on the others are not shown.

    Rows that stand deleted in the catalogue are none of them until they are written to files. Sums of hours are replaced all the time.
    """
    ended, until = 0, 0
    logs = f"table_id IN (SELECT table_id FROM {CATALOGUE}.ducklake_table WHERE table_name IN ({', '.join(map(literal, WRITABLE))}))"
    for name in ("ducklake_data_file", "ducklake_delete_file"):
        sql = f"SELECT count(*), coalesce(max(end_snapshot), 0) FROM {CATALOGUE}.{name} WHERE end_snapshot IS NOT NULL AND {logs}"
        ((n, last),) = connection.execute(sql).fetchall()
        ended, until = ended + n, max(until, last)
    newest = _number(connection, f"SELECT count(*) FROM {CATALOGUE}.ducklake_delete_file WHERE end_snapshot IS NULL AND {logs}")
    return ended + newest, newest, until


def _state(connection: duckdb.DuckDBPyConnection) -> LakeState:
    row = connection.execute(f"SELECT epoch_us(now()), count(*), epoch_us(max(schedule_start::TIMESTAMPTZ)) FROM {_SCHEDULED}").fetchone()
    now, n, newest = row if row is not None else (None, 0, None)
    snapshots = _snapshots(connection)
    n_deleted, n_newest, until = _deleted_rows(connection)
    clean = next((snapshot.at for snapshot in snapshots if snapshot.snapshot_id >= until), None)
    return LakeState(
        now=instant(now) or datetime.now(UTC),
        snapshots=snapshots,
        n_scheduled=n,
        newest_scheduled=instant(newest),
        has_deleted_rows=n_deleted > 0,
        clean_since=None if n_newest or not n_deleted else clean,
    )


def _snapshots(connection: duckdb.DuckDBPyConnection) -> tuple[Snapshot, ...]:
    rows = connection.execute("SELECT snapshot_id, epoch_us(snapshot_time) FROM ducklake_snapshots('lake') ORDER BY 1").fetchall()
    return tuple(Snapshot(snapshot_id=number, at=at) for number, us in rows if (at := instant(us)) is not None)


def _narrow_statistics(connection: duckdb.DuckDBPyConnection) -> None:
    """Take texts of deleted rows out of the smallest and greatest values that the catalogue keeps of each table's columns.

    DuckLake only ever widens them. They are set to what the rows now have, never to nothing: the next insert
    would take its own rows for all.
    """
    found = connection.execute(
        f"SELECT t.table_name, c.column_name, s.table_id, s.column_id FROM {CATALOGUE}.ducklake_table_column_stats AS s "
        f"JOIN {CATALOGUE}.ducklake_table AS t ON t.table_id = s.table_id AND t.end_snapshot IS NULL "
        f"JOIN {CATALOGUE}.ducklake_column AS c ON c.table_id = s.table_id AND c.column_id = s.column_id AND c.end_snapshot IS NULL "
        "WHERE c.parent_column IS NULL AND lower(c.column_type) = 'varchar' "
        f"AND ({' OR '.join(_unconfirmed(end) for end in ('min_value', 'max_value'))})"
    ).fetchall()
    for table, column, table_id, column_id in found:
        ends = connection.execute(f'SELECT min("{column}"), max("{column}") FROM lake."{table}"').fetchone() or (None, None)
        low, high = ("NULL" if end is None else literal(end) for end in ends)
        connection.execute(
            f"UPDATE {CATALOGUE}.ducklake_table_column_stats SET min_value = {low}, max_value = {high} "
            f"WHERE table_id = {table_id} AND column_id = {column_id}"
        )


def _unconfirmed(end: str) -> str:
    """The condition that a table's extreme is not that of any file there is."""
    return (
        f"(s.{end} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {CATALOGUE}.ducklake_file_column_stats AS f "
        f"WHERE f.table_id = s.table_id AND f.column_id = s.column_id AND f.{end} = s.{end}))"
    )


def _number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return 0 if row is None else int(row[0])
