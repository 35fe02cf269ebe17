"""The record of a run of the log's upkeep, and when the next one is due."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The last run, whichever process did it."""

    began_at: datetime
    by: str
    """Process and host."""
    ended_at: datetime | None = None
    """None while it goes on, and for good where its process died in it."""
    done: Mapping[str, int] = field(default_factory=dict)
    """Step to how many files, snapshots or rows it changed."""
    waits_until: datetime | None = None
    """When files that were given up may be removed; until then a run merges nothing."""
    fault: str | None = None
    """What ended it early."""
    succeeded_at: datetime | None = None
    """When a run last came to its end, this one or one before."""
    failures_in_a_row: int = 0
    """Runs without an end since then, those that died among them."""

    @property
    def duration_s(self) -> float | None:
        return None if self.ended_at is None else (self.ended_at - self.began_at).total_seconds()


def is_due(last: Kept | None, *, every: timedelta, now: datetime) -> bool:
    """Whether it is time for a run: so long after the beginning of the last one, or where the clock was set back behind it."""
    return last is None or not timedelta(0) <= now - last.began_at < every


def begun(last: Kept | None, now: datetime) -> Kept:
    """The record of a run that begins; until it ends it counts as one that failed."""
    by = f"process {os.getpid()} on {socket.gethostname()}"
    if last is None:
        return Kept(began_at=now, by=by, failures_in_a_row=1)
    return Kept(began_at=now, by=by, succeeded_at=last.succeeded_at, failures_in_a_row=last.failures_in_a_row + 1)


def read_kept(content: Mapping[str, Any]) -> Kept:
    """The record that was stored as JSON."""

    def moment(name: str) -> datetime | None:
        return datetime.fromisoformat(text) if (text := content[name]) else None

    return Kept(
        began_at=datetime.fromisoformat(content["began_at"]),
        by=content["by"],
        ended_at=moment("ended_at"),
        done=content["done"],
        waits_until=moment("waits_until"),
        fault=content["fault"],
        succeeded_at=moment("succeeded_at"),
        failures_in_a_row=content["failures_in_a_row"],
    )
