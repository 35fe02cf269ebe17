"""The lake's health: what its catalogue says, and what of that is somebody's task. Looking is the shell, judging is pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import duckdb

from workbench.observability.evidence import instant
from workbench.observability.kept import Kept
from workbench.observability.reshaping import CATALOGUE

SMALL_BYTES = 1 << 20
MOST_FILES = 100
"""In one partition; a question about a day opens them all."""
MOST_INLINED = 100_000
"""Rows in the catalogue itself; each question reads them all."""
LONGEST_SKEW = timedelta(seconds=30)
"""By which the clocks of two machines may differ: snapshots, grace and retention go by them."""
_LATE = 6
"""Intervals without a run that came to its end, after which upkeep counts as late."""
_FAILURES = 3
_MAINTAIN = "run `workbench lake maintain`, or let a gateway do it (WORKBENCH_UPKEEP)"


class State(StrEnum):
    """How much a finding matters: `broken` makes `workbench doctor` end with 1."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The files of one table, app and day."""

    table: str
    place: str
    """For example `shop/2026-03-01`; empty for a table without partitions."""
    n_files: int
    n_small: int
    """Of less than 1 MB."""
    n_bytes: int

    def __str__(self) -> str:
        return f"{self.table} {self.place}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeHealth:
    """What the catalogue says at one moment."""

    seen_at: datetime
    """By the clock of this machine."""
    catalogue_at: datetime
    """By the clock of the catalogue; the same on SQLite."""
    partitions: tuple[Partition, ...]
    inlined: Mapping[str, int]
    """Table to its rows in the catalogue."""
    n_snapshots: int
    first_snapshot_at: datetime | None
    last_snapshot_at: datetime | None
    n_scheduled: int
    """Files that were given up and wait for their readers."""
    scheduled_at: datetime | None
    """When the newest of them was given up."""

    @property
    def n_files(self) -> int:
        return sum(part.n_files for part in self.partitions)

    @property
    def n_small(self) -> int:
        """Small files that a merge would bring together with others of their partition."""
        return sum(part.n_small for part in self.partitions if part.n_files > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: State
    seen: str
    next_step: str = ""


def look(connection: duckdb.DuckDBPyConnection, *, now: datetime) -> LakeHealth:
    """What the catalogue says, in a read transaction on a lake that was written."""
    n_snapshots, first, last = _row(connection, f"SELECT count(*), {_us('min')}, {_us('max')} FROM {CATALOGUE}.ducklake_snapshot")
    n_scheduled, scheduled = _row(
        connection, f"SELECT count(*), epoch_us(max(schedule_start::TIMESTAMPTZ)) FROM {CATALOGUE}.ducklake_files_scheduled_for_deletion"
    )
    return LakeHealth(
        seen_at=now,
        catalogue_at=_clock_of_catalogue(connection) or now,
        partitions=tuple(_partitions(connection)),
        inlined=_inlined(connection),
        n_snapshots=n_snapshots,
        first_snapshot_at=instant(first),
        last_snapshot_at=instant(last),
        n_scheduled=n_scheduled,
        scheduled_at=instant(scheduled),
    )


def findings(health: LakeHealth, kept: Kept | None, *, every: timedelta | None, grace: timedelta) -> Iterator[Finding]:
    """What somebody has to know, and what they can do.

    Args:
        health: what the catalogue says.
        kept: the last run of upkeep.
        every: how often gateways do it; None for never.
        grace: how long files that were given up wait for their readers.
    """
    yield _of_files(health)
    yield _of_inlined(health)
    yield _of_snapshots(health)
    yield _of_scheduled(health, grace)
    yield _of_upkeep(kept, every, health.seen_at)
    yield _of_clocks(health)


def of_orphans(n: int) -> Finding:
    """Of files that nothing names, and that are old enough to be removed."""
    state, step = (State.NOTE, _MAINTAIN) if n else (State.OK, "")
    return Finding(check="files of killed writers", state=state, seen=f"{n:,}" if n else "none", next_step=step)


def of_retention(n_declared: int, n_rows: int, *, n_apps: int) -> Finding:
    """Of what is kept, and for how long."""
    if not n_declared:
        return Finding(check="retention", state=State.OK, seen="everything is kept for good")
    seen = f"{n_declared} declared (`workbench lake retention show`); "
    if not n_rows:
        return Finding(check="retention", state=State.OK, seen=f"{seen}nothing is older")
    return Finding(check="retention", state=State.NOTE, seen=f"{seen}{n_rows:,} rows of {n_apps} apps are older", next_step=_MAINTAIN)


def _of_files(health: LakeHealth) -> Finding:
    if not health.partitions:
        return Finding(check="lake files", state=State.OK, seen="none")
    fullest = max(health.partitions, key=lambda part: part.n_files)
    size = sum(part.n_bytes for part in health.partitions) / (1 << 20)
    seen = (
        f"{health.n_files:,} files with {size:,.1f} MB in {len(health.partitions):,} partitions; most in {fullest}: {fullest.n_files:,}; "
        f"{health.n_small:,} small ones could be merged"
    )
    is_full = fullest.n_files > MOST_FILES
    return Finding(check="lake files", state=State.NOTE if is_full else State.OK, seen=seen, next_step=_MAINTAIN if is_full else "")


def _of_inlined(health: LakeHealth) -> Finding:
    n = sum(health.inlined.values())
    parts = ", ".join(f"{rows:,} of {table}" for table, rows in sorted(health.inlined.items()) if rows)
    is_much = n > MOST_INLINED
    state, step = (State.NOTE, _MAINTAIN) if is_much else (State.OK, "")
    return Finding(check="rows in the catalogue", state=state, seen=parts or "none", next_step=step)


def _of_snapshots(health: LakeHealth) -> Finding:
    span = f", from {_time(health.first_snapshot_at)} to {_time(health.last_snapshot_at)}" if health.n_snapshots else ""
    return Finding(check="snapshots", state=State.OK, seen=f"{health.n_snapshots:,}{span}")


def _of_scheduled(health: LakeHealth, grace: timedelta) -> Finding:
    if health.scheduled_at is None:
        return Finding(check="given-up files", state=State.OK, seen="none")
    ripe_at = health.scheduled_at + grace
    seen = f"{health.n_scheduled:,} wait until {_time(ripe_at)} for who may read them"
    if health.catalogue_at < ripe_at + timedelta(hours=1):
        return Finding(check="given-up files", state=State.OK, seen=seen)
    return Finding(check="given-up files", state=State.NOTE, seen=seen.replace("wait", "have waited"), next_step=_MAINTAIN)


def _of_upkeep(kept: Kept | None, every: timedelta | None, now: datetime) -> Finding:
    check = "upkeep"
    if kept is None:
        return Finding(check=check, state=State.NOTE, seen="there was none yet", next_step=_MAINTAIN)
    took = "" if kept.duration_s is None else f", took {kept.duration_s:.1f} s"
    seen = f"last run {_time(kept.began_at)} by {kept.by}{took}"
    if kept.failures_in_a_row >= _FAILURES:
        why = kept.fault or "its process died in it, or it goes on"
        seen += f"; {kept.failures_in_a_row} runs in a row did not come to their end: {why}"
        return Finding(check=check, state=State.BROKEN, seen=seen, next_step="mend what it says, then run `workbench lake maintain`")
    limit = _LATE * (every or timedelta(hours=4))
    if kept.succeeded_at is None or now - kept.succeeded_at > limit:
        seen += "; none came to its end" + (f" since {_time(kept.succeeded_at)}" if kept.succeeded_at else "")
        return Finding(check=check, state=State.NOTE, seen=seen, next_step=_MAINTAIN)
    return Finding(check=check, state=State.OK, seen=seen)


def _of_clocks(health: LakeHealth) -> Finding:
    ahead = [at - health.seen_at for at in (health.catalogue_at, health.last_snapshot_at) if at is not None]
    behind = health.seen_at - health.catalogue_at
    skew = max(*ahead, behind, timedelta(0))
    if skew <= LONGEST_SKEW:
        return Finding(check="clocks", state=State.OK, seen="this machine and the catalogue agree")
    seen = f"this machine and whoever wrote the catalogue differ by {skew.total_seconds():.0f} s"
    return Finding(check="clocks", state=State.BROKEN, seen=seen, next_step="set the clocks by NTP: grace and retention go by them")


def _partitions(connection: duckdb.DuckDBPyConnection) -> Iterator[Partition]:
    sql = f"""WITH parts AS (SELECT data_file_id, string_agg(partition_value, '/' ORDER BY partition_key_index) AS place
                             FROM {CATALOGUE}.ducklake_file_partition_value GROUP BY data_file_id)
              SELECT t.table_name, coalesce(place, ''), count(*), count_if(file_size_bytes < {SMALL_BYTES}), sum(file_size_bytes)::BIGINT
              FROM {CATALOGUE}.ducklake_data_file AS f
              JOIN {CATALOGUE}.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
              LEFT JOIN parts USING (data_file_id)
              WHERE f.end_snapshot IS NULL GROUP BY ALL ORDER BY ALL"""
    for table, place, n, small, size in connection.execute(sql).fetchall():
        yield Partition(table=table, place=place, n_files=n, n_small=small, n_bytes=size)


def _inlined(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    tables = connection.execute(
        f"SELECT t.table_name, i.table_name FROM {CATALOGUE}.ducklake_inlined_data_tables AS i "
        f"JOIN {CATALOGUE}.ducklake_table AS t ON t.table_id = i.table_id AND t.end_snapshot IS NULL"
    ).fetchall()
    found: dict[str, int] = {}
    for table, inlined in tables:
        (n,) = _row(connection, f'SELECT count(*) FROM {CATALOGUE}."{inlined}" WHERE end_snapshot IS NULL')
        found[table] = found.get(table, 0) + n
    return found


def _clock_of_catalogue(connection: duckdb.DuckDBPyConnection) -> datetime | None:
    """The time of the catalogue's server; None on SQLite, which has none."""
    kind = connection.execute(f"SELECT type FROM duckdb_databases() WHERE database_name = '{CATALOGUE}'").fetchone()
    if kind is None or kind[0] != "postgres":
        return None
    now = "SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint AS us"
    (us,) = _row(connection, f"SELECT us FROM postgres_query('{CATALOGUE}', '{now}')")
    return instant(us)


def _us(end: str) -> str:
    return f"epoch_us({end}(snapshot_time::TIMESTAMPTZ))"


def _row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    (row,) = connection.execute(sql).fetchall()
    return tuple(row)


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
