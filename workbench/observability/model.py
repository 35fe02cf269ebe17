"""The nouns of observation: what a metric says, over which rows, and the sealed record of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

FAILED = ("error", "timeout", "truncated")
"""The statuses that are failures, whatever a workflow declares."""


class Direction(StrEnum):
    """Which way is better."""

    HIGHER = "higher_is_better"
    LOWER = "lower_is_better"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval; a missing end is unbounded at this n."""

    low: float | None
    high: float | None
    level: float
    """Coverage, for example 0.95."""
    method: str
    """For example `wilson`, `order statistics`, `t, clustered by unit`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Half-open stretch of `ts_start`, UTC; a missing end is open."""

    start: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricValue:
    """One number with everything that makes it evidence. `value` is None where there is no data, never 0."""

    metric: str
    unit: str
    direction: Direction
    value: float | None
    n: int
    """Observations under the number (the denominator of a rate)."""
    count: int | None
    """Numerator of a rate; None for other metrics."""
    interval: Interval | None
    window: Window
    """First and last `ts_start` seen, both inclusive."""
    snapshot: int
    """Lake snapshot that was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSet:
    """The rows under an evidence record: how many, and a digest that does not depend on their order."""

    n: int
    digest: str
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The sealed record of one measurement. Gates read records, never raw logs.

    `evidence_id` is `sha256:` over the canonical JSON of everything else but `snapshot` and `collected_at`, with
    numbers rounded to 12 significant digits, so that the same rows give the same id, whatever else was logged since.
    """

    evidence_id: str
    kind: str
    """`metric` (one bundle) or `comparison` (candidate against baseline, paired by unit where units repeat)."""
    app: str
    subject: str
    """Bundle id."""
    baseline: str | None
    query: Mapping[str, Any]
    """Metric, filters and window: enough to ask again."""
    statistics: Mapping[str, Any]
    """Sufficient statistics: counts, estimate, interval, method; for a comparison those of both sides and the difference."""
    row_set: RowSet
    snapshot: int | None
    """Where the query can be asked again; None where it is none of the log's, as a rollback drill."""
    collected_at: datetime
