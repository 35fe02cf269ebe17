"""Upkeep of the lake, done: each step of a plan is one transaction under the writers' lock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from workbench.errors import StoreError
from workbench.observability import scrubbing, server_vacuum
from workbench.observability.evidence import instant
from workbench.observability.flusher import literal, timestamp
from workbench.observability.lake import Lake
from workbench.observability.upkeep_plan import (
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
_CATALOGUE = "__ducklake_metadata_lake"
_SCHEDULED = f"{_CATALOGUE}.ducklake_files_scheduled_for_deletion"
_VACUUM_S = 600
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepReport:
    """What a run did."""

    done: dict[Step, int] = field(default_factory=dict)
    """Step to how many files or snapshots it changed."""
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
    """

    def __init__(
        self,
        lake: Lake,
        *,
        cited: Callable[[], AbstractSet[int]],
        grace: timedelta = READERS_GRACE,
        retention: timedelta = RETENTION,
        orphan_age: timedelta = ORPHAN_AGE,
    ) -> None:
        self._lake = lake
        self._cited = cited
        self.grace = grace
        self.retention = retention
        self.orphan_age = orphan_age

    def run(self, *, progress: Progress | None = None) -> UpkeepReport:
        """The regular run: given-up files are removed, small files merged, old snapshots given up unless evidence cites them."""
        if self._lake.snapshot() is None:
            return UpkeepReport()
        state = self.state()
        plan = upkeep_plan(state, grace=self.grace)
        cited = self._cited()
        before = state.now - self.retention
        return self._carried_out(plan, reason=RETENTION_REASON, cited=cited, before=before, progress=progress)

    def rewrite(self, *, has_deleted_rows: bool, progress: Progress | None = None) -> UpkeepReport:
        """Bring deleted rows out of all files and all snapshots, whoever cites them; the files go when their readers are done.

        Raises:
            StoreError: other processes deleted rows all the time.
        """
        for _ in range(_TRIES):
            plan = erasure_plan(self.state(), grace=self.grace, has_deleted_rows=has_deleted_rows)
            report = self._carried_out(plan, reason=ERASURE, cited=frozenset(), before=None, progress=progress)
            if not has_deleted_rows:
                return report
            if report.done[Step.EXPIRE]:
                self._lake.write(_narrow_statistics, what="narrow the catalogue's statistics")
                return replace(report, waits_until=self.state().ripe_at(self.grace))
        raise StoreError(f"log lake {self._lake.address}", seen="others deleted rows all the time", next_step="run it again")

    def state(self) -> LakeState:
        """What a plan is made from."""
        return self._lake.read(_state)

    def orphans(self, before: datetime) -> int:
        """How many files from before this time there are that nothing names: killed writers left them. A later run removes them."""
        return self._lake.read(_counting(_orphans(timestamp(before), is_dry_run=True)))

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

    def _carried_out(
        self, plan: Plan, *, reason: str, cited: AbstractSet[int], before: datetime | None, progress: Progress | None
    ) -> UpkeepReport:
        done: dict[Step, int] = {}
        for number, step in enumerate(plan.steps):
            work = self._work_of(step, reason, cited, before)
            done[step] = self._lake.write(work, what=str(step))
            if progress is not None:
                progress("log lake", number + 1, len(plan.steps))
        return UpkeepReport(done=done, waits_until=plan.waits_until)

    def _work_of(
        self, step: Step, reason: str, cited: AbstractSet[int], before: datetime | None
    ) -> Callable[[duckdb.DuckDBPyConnection], int]:
        match step:
            case Step.CLEANUP:
                return self._clean_up
            case Step.FLUSH:
                return _counting("ducklake_flush_inlined_data('lake')")
            case Step.REWRITE:
                return _counting("ducklake_rewrite_data_files('lake', delete_threshold => 0)")
            case Step.MERGE:
                return _counting("ducklake_merge_adjacent_files('lake')")
            case Step.EXPIRE:
                return lambda connection: _expire(connection, reason, cited, before)
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
    return lambda connection: _number(connection, f"SELECT count(*) FROM {function}")


def _orphans(before: str, *, is_dry_run: bool) -> str:
    return f"ducklake_delete_orphaned_files('lake', dry_run => {str(is_dry_run).lower()}, older_than => {before})"


def _expire(connection: duckdb.DuckDBPyConnection, reason: str, cited: AbstractSet[int], before: datetime | None) -> int:
    """Give up snapshots, and note which and why, so that somebody who asks for one of them later is told.

    After an erasure nothing is given up, nor noted, while the newest snapshot itself rests on files with deleted rows: somebody deleted
    more after the files were rewritten.
    """
    is_erasure, snapshots = reason == ERASURE, _snapshots(connection)
    chosen = given_up(snapshots, cited=cited, before=before)
    if is_erasure and _holds_deleted_rows(connection):
        return 0
    if not chosen and not is_erasure:
        return 0
    if chosen:
        versions = ", ".join(map(str, chosen))
        connection.execute(f"SELECT count(*) FROM ducklake_expire_snapshots('lake', versions => [{versions}])").fetchall()
    last = max(chosen, default=snapshots[-1].snapshot_id - 1)
    connection.execute(
        f"INSERT INTO lake.expiries (first_snapshot, last_snapshot, reason, expired_at) "
        f"VALUES ({min(chosen, default=last)}, {last}, {literal(reason)}, now())"
    )
    return max(1, len(chosen))


def _holds_deleted_rows(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether deleted rows stand in the files, or inlined in the catalogue, under the newest snapshot."""
    inlined = connection.execute(
        f"SELECT table_name, table_name LIKE 'ducklake_inlined_delete%' FROM duckdb_tables() WHERE database_name = '{_CATALOGUE}' "
        "AND (table_name LIKE 'ducklake_inlined_data_%' OR table_name LIKE 'ducklake_inlined_delete%') "
        "AND table_name <> 'ducklake_inlined_data_tables'"
    ).fetchall()
    places = [("ducklake_delete_file", "end_snapshot IS NULL")]
    places += [(name, "true" if is_deletions else "end_snapshot IS NOT NULL") for name, is_deletions in inlined]
    return any(_number(connection, f"SELECT count(*) FROM {_CATALOGUE}.{name} WHERE {where}") for name, where in places)


def _state(connection: duckdb.DuckDBPyConnection) -> LakeState:
    row = connection.execute(f"SELECT epoch_us(now()), count(*), epoch_us(max(schedule_start::TIMESTAMPTZ)) FROM {_SCHEDULED}").fetchone()
    now, n, newest = row if row is not None else (None, 0, None)
    return LakeState(
        now=instant(now) or datetime.now(UTC), snapshots=_snapshots(connection), n_scheduled=n, newest_scheduled=instant(newest)
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
        f"SELECT t.table_name, c.column_name, s.table_id, s.column_id FROM {_CATALOGUE}.ducklake_table_column_stats AS s "
        f"JOIN {_CATALOGUE}.ducklake_table AS t ON t.table_id = s.table_id AND t.end_snapshot IS NULL "
        f"JOIN {_CATALOGUE}.ducklake_column AS c ON c.table_id = s.table_id AND c.column_id = s.column_id AND c.end_snapshot IS NULL "
        "WHERE c.parent_column IS NULL AND lower(c.column_type) = 'varchar' "
        f"AND ({' OR '.join(_unconfirmed(end) for end in ('min_value', 'max_value'))})"
    ).fetchall()
    for table, column, table_id, column_id in found:
        ends = connection.execute(f'SELECT min("{column}"), max("{column}") FROM lake."{table}"').fetchone() or (None, None)
        low, high = ("NULL" if end is None else literal(end) for end in ends)
        connection.execute(
            f"UPDATE {_CATALOGUE}.ducklake_table_column_stats SET min_value = {low}, max_value = {high} "
            f"WHERE table_id = {table_id} AND column_id = {column_id}"
        )


def _unconfirmed(end: str) -> str:
    """The condition that a table's extreme is not that of any file there is."""
    return (
        f"(s.{end} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {_CATALOGUE}.ducklake_file_column_stats AS f "
        f"WHERE f.table_id = s.table_id AND f.column_id = s.column_id AND f.{end} = s.{end}))"
    )


def _number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return 0 if row is None else int(row[0])
