"""What upkeep the lake needs now, as a plan: which steps, in which order, and which snapshots are given up.

The order is the safe one: files that an earlier run gave up are removed first, and only when no reader can still be at work on them;
nothing is given up while such files wait. Snapshots are always named one by one: on SQLite DuckLake compares times by the day.

A snapshot may be given up only when nobody reads it any more, that is some time after it ceased to be the newest, however old it is: a
transaction on a snapshot that was given up sees its rows vanish, without an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

READERS_GRACE = timedelta(minutes=15)
"""How long a snapshot is kept after it ceased to be the newest, and a file after it was given up; longer than any read transaction."""
RETENTION = timedelta(hours=1)
"""How long every snapshot is kept; longer than any transaction."""
ORPHAN_AGE = timedelta(days=1)
"""Age from which a file that no snapshot names is one that a killed writer left; longer than any write transaction."""

FEWEST_GIVEN_UP = 20
"""Snapshots that a regular run gives up at once, at least: giving up is written down, which makes a snapshot again. So a lake that nobody
writes comes to rest."""


class Step(StrEnum):
    """One transaction of upkeep."""

    CLEANUP = "remove given-up files"
    FLUSH = "write inlined rows to files"
    REWRITE = "rewrite files with deleted rows"
    MERGE = "merge small files"
    EXPIRE = "give up old snapshots"
    ORPHANS = "remove files of killed writers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One snapshot of the lake."""

    snapshot_id: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeState:
    """What a plan is made from."""

    now: datetime
    """By the clock that the other times are of."""
    snapshots: tuple[Snapshot, ...]
    n_scheduled: int
    """Files that no snapshot names and that wait for their removal."""
    newest_scheduled: datetime | None
    """When the last of them was given up."""
    has_deleted_rows: bool
    """Whether some snapshot shows rows that were deleted later, or a file holds them."""
    clean_since: datetime | None
    """From which snapshot on none of them is shown or held; None while the newest itself rests on them, or there are none."""

    def ripe_at(self, grace: timedelta) -> datetime | None:
        """When all the waiting files may be removed; None when none waits. They can only be removed together."""
        return None if self.newest_scheduled is None else self.newest_scheduled + grace


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now."""

    steps: tuple[Step, ...]
    waits_until: datetime | None = None
    """When files that wait for their readers may be removed; None when there are none, or this plan removes them."""


def upkeep_plan(state: LakeState, *, grace: timedelta) -> Plan:
    """The regular run, once the hours are summed. While given-up files wait, it does nothing."""
    ripe_at = state.ripe_at(grace)
    if ripe_at is not None and state.now < ripe_at:
        return Plan(steps=(), waits_until=ripe_at)
    cleanup = (Step.CLEANUP,) if ripe_at is not None else ()
    return Plan(steps=(*cleanup, Step.FLUSH, Step.MERGE, Step.EXPIRE, Step.ORPHANS))


def erasure_plan(state: LakeState, *, grace: timedelta) -> Plan:
    """What removes deleted rows from the files, and the files, both as soon as no reader can be at work on them.

    Inlined rows have to be in files before the state is looked at.
    """
    ripe_at = state.ripe_at(grace)
    is_ripe = ripe_at is not None and state.now >= ripe_at
    cleanup = (Step.CLEANUP,) if is_ripe else ()
    rewriting = (Step.REWRITE, Step.EXPIRE) if state.has_deleted_rows else ()
    return Plan(steps=(*cleanup, *rewriting, Step.ORPHANS), waits_until=None if is_ripe else ripe_at)


def given_up(snapshots: Sequence[Snapshot], *, cited: AbstractSet[int], before: datetime) -> tuple[int, ...]:
    """The snapshots to expire: those that ceased to be the newest before a time, and that are not cited.

    Args:
        snapshots: all there are, oldest first.
        cited: those that evidence names.
        before: at least the readers' grace ago.
    """
    return tuple(
        snapshot.snapshot_id for snapshot, successor in pairwise(snapshots) if successor.at < before and snapshot.snapshot_id not in cited
    )
