"""A release's rows in the order of the log, as columns of numbers: what the judge of its canary reads.

Whole batches, ascending, and within a batch by table and `seq`; a batch is one transaction, so whoever reads later finds the same rows in
the same order. A request's first record says that its unit came, its final one how it ended, and a correction is a row of its own: the
judge is told what was known when. A score stands with its own batch, or with that of its request where that came later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import numpy.typing as npt

from workbench.errors import UsageError
from workbench.observability.evidence import instant
from workbench.observability.flusher import literal
from workbench.observability.shadow_rows import ShadowCounts, count_shadow
from workbench.observability.success import FAILED
from workbench.observability.tables import at_snapshot

if TYPE_CHECKING:
    from workbench.observability.lake import Lake

QUALITY, SCORE = "quality_mean", "score:"
_REACHED = (
    "NOT (coalesce(status = 'blocked' OR (status = 'handed_off' AND len(blocked_rules) > 0), false) AND NOT len(violation_rules) > 0)"
)
_FAILED = ", ".join(map(literal, FAILED))
_EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "failure_rate": f"CASE WHEN status <> 'unknown' THEN status IN ({_FAILED}) OR coalesce(is_fallback, false) END",
        "violation_rate": f"CASE WHEN {_REACHED} THEN len(violation_rules) > 0 END",
        "fallback_rate": "is_fallback",
        "tool_error_rate": "CASE WHEN n_tool_calls > 0 THEN n_tool_errors > 0 END",
        "cost_usd": "cost_usd",
    }
)
"""Metrics of the catalogue that one request has, as SQL; null where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRows:
    """Rows as columns of equal length n, ascending by batch and place."""

    batch_id: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    """In its batch, from 0."""
    arm: npt.NDArray[np.int8]
    """0 stable, 1 candidate, -1 neither, or without a unit."""
    share: npt.NDArray[np.float64]
    """Of the route version that decided the request; NaN where it is not known."""
    unit: npt.NDArray[np.uint64]
    """The first 64 bits of the unit's hash."""
    values: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]
    """Metric to its values and to which rows have one."""
    newest_batch: int
    """Of the log, as far as it was read; the next look begins behind it."""
    data_at: datetime | None
    """When the newest batch was stored, whatever is in it, by the clock of whoever stored it; None before the first."""

    @property
    def n(self) -> int:
        return len(self.batch_id)

    def part(self, begin: int, end: int) -> ReleaseRows:
        """The rows from one place to before another."""
        return ReleaseRows(
            batch_id=self.batch_id[begin:end],
            place=self.place[begin:end],
            arm=self.arm[begin:end],
            share=self.share[begin:end],
            unit=self.unit[begin:end],
            values={name: (values[begin:end], present[begin:end]) for name, (values, present) in self.values.items()},
            newest_batch=int(self.batch_id[end - 1]),
            data_at=self.data_at,
        )


class ReleaseLog:
    """Releases in a lake.

    Args:
        lake: gives it; it is opened when something is read.
    """

    def __init__(self, lake: Callable[[], Lake]) -> None:
        self._lake = lake

    def rows(self, app: str, release_id: str, metrics: Sequence[str], *, after: int = 0, until: int | None = None) -> ReleaseRows:
        """As `read_release`.

        Raises:
            StoreError: the lake cannot be read.
        """
        return self._lake().read(lambda connection: read_release(connection, app, release_id, metrics, after=after, until=until))

    def shadow(self, app: str, release_id: str) -> ShadowCounts:
        """As `count_shadow`.

        Raises:
            StoreError: the lake cannot be read.
        """
        return self._lake().read(lambda connection: count_shadow(connection, app, release_id))

    def times(self, first: int, last: int) -> Mapping[int, datetime]:
        """When the batches from one to another were stored; without those of which the lake does not know it any more.

        Raises:
            StoreError: the lake cannot be read.
        """
        asked = f"SELECT batch_id, epoch_us(max(flushed_at)) FROM lake.flushed WHERE batch_id BETWEEN {first} AND {last} GROUP BY batch_id"
        found = self._lake().read(lambda connection: connection.execute(asked).fetchall())
        return {int(batch): at for batch, us in found if (at := instant(us)) is not None}


def read_release(
    connection: duckdb.DuckDBPyConnection, app: str, release_id: str, metrics: Sequence[str], *, after: int = 0, until: int | None = None
) -> ReleaseRows:
    """The rows of a release behind a batch.

    Args:
        connection: in a read transaction.
        app: whose release it is.
        release_id: its id.
        metrics: `failure_rate violation_rate fallback_rate tool_error_rate cost_usd`, any `latency_…` (one value for all of them),
            `quality_mean` or `score:NAME`.
        after: the last batch that is known.
        until: the last batch to read; None: the newest.

    Raises:
        UsageError: a metric that a row of the log does not have.
    """
    unknown = [name for name in metrics if column_sql(name) is None and score_of(name) is None]
    if unknown:
        raise UsageError(
            f"metric {unknown[0]}",
            seen="it is not a value of one request",
            needed=f"one of {', '.join(_EVENTS)}, latency_…, {QUALITY}, {SCORE}NAME",
        )
    wanted = "" if until is None else f" WHERE batch_id <= {until}"
    mark = f"SELECT coalesce(max(batch_id), 0), epoch_us(arg_max(flushed_at, batch_id)) FROM lake.flushed{wanted}"
    known = connection.execute(mark).fetchall()[0]
    newest, flushed = int(known[0]), known[1]
    found = connection.execute(_sql(app, release_id, metrics, after=after, until=newest)).fetchnumpy()
    batch_id = _plain(found["batch_id"]).astype(np.int64)
    return ReleaseRows(
        batch_id=batch_id,
        place=_places(batch_id),
        arm=_plain(found["arm"]).astype(np.int8),
        share=np.ma.filled(np.ma.asarray(found["share"], dtype=np.float64), np.nan),
        unit=_plain(found["unit"]).astype(np.uint64),
        values={name: _column(found[f"v{number}"]) for number, name in enumerate(metrics)},
        newest_batch=newest,
        data_at=instant(flushed),
    )


def column_sql(metric: str) -> str | None:
    """What a request's final row says of the metric; None where that is not in a request's row."""
    return "latency_ms" if metric.startswith("latency_") else _EVENTS.get(metric)


def score_of(metric: str) -> str | None:
    """The score that the metric is; None where it is none."""
    if metric == QUALITY:
        return "quality"
    return metric.removeprefix(SCORE) if metric.startswith(SCORE) and metric != SCORE else None


def _sql(app: str, release_id: str, metrics: Sequence[str], *, after: int, until: int) -> str:
    is_its = f"app = {literal(app)} AND release_id = {literal(release_id)}"
    values = [f"CAST(CASE WHEN is_final THEN {column_sql(name) or 'NULL'} END AS DOUBLE) AS v{k}" for k, name in enumerate(metrics)]
    own = f"{is_its} AND batch_id > {after} AND batch_id <= {until}"
    columns = f"batch_id, 0 AS part, seq, '' AS tie, {_WHO}, {', '.join(values)}"
    parts = [f"SELECT {columns} FROM {at_snapshot('requests', None)} WHERE {own}"]
    scores = {score_of(name): k for k, name in enumerate(metrics) if score_of(name)}
    tables: list[str] = []
    if scores:
        taken = [f"CASE WHEN s.name = {literal(score_of(name) or '')} THEN s.value END AS v{k}" for k, name in enumerate(metrics)]
        names = ", ".join(literal(name) for name in sorted(map(str, scores)))
        for name, is_new in (("came", True), ("waited", False))[: 1 + (after > 0)]:
            found, joined = _scores(name, app, is_its, names, ", ".join(taken), after=after, until=until, is_new=is_new)
            tables.append(found)
            parts.append(joined)
    given = f"WITH {', '.join(tables)} " if tables else ""
    return f"{given}SELECT * EXCLUDE (part, seq, tie) FROM ({' UNION ALL '.join(parts)}) AS all_rows ORDER BY batch_id, part, seq, tie"


def _scores(table: str, app: str, is_its: str, names: str, taken: str, *, after: int, until: int, is_new: bool) -> tuple[str, str]:
    """A table of that name, and what is read of it: scores that came behind a batch, or earlier ones whose request came behind it.

    Only the requests of those scores are looked for: which unit a request is of says its first row, and that may be old.
    """
    requests, scores = at_snapshot("requests", None), at_snapshot("scores", None)
    came = f"batch_id > {after}" if is_new else f"batch_id <= {after}"
    found = (
        f"SELECT * FROM {scores} AS s WHERE app = {literal(app)} AND name IN ({names}) AND value IS NOT NULL "
        f"AND {came} AND batch_id <= {until}"
    )
    if not is_new:
        found += f" AND request_id IN (SELECT request_id FROM {requests} WHERE {is_its} AND batch_id > {after} AND batch_id <= {until})"
    whose = (
        f"SELECT request_id, {_WHO}, batch_id AS first_batch FROM {requests} WHERE {is_its} AND batch_id <= {until}"
        f"{f' AND request_id IN (SELECT request_id FROM {table})' if after else ''} "
        "QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY batch_id, seq) = 1"
    )
    joined = (
        "SELECT greatest(s.batch_id, r.first_batch) AS batch_id, 1 AS part, s.seq, concat(s.batch_id, ' ', s.score_id) AS tie, "
        f"r.arm, r.share, r.unit, {taken} FROM {table} AS s JOIN ({whose}) AS r "
        f"ON s.request_id = r.request_id AND {'true' if is_new else f'first_batch > {after}'}"
    )
    return f"{table} AS MATERIALIZED ({found})", joined


_WHO = (
    "CASE WHEN unit_hash IS NULL THEN -1 WHEN arm = 'candidate' THEN 1 WHEN arm = 'stable' THEN 0 ELSE -1 END AS arm, "
    "traffic_share AS share, "
    "coalesce(TRY_CAST('0x' || substr(unit_hash, 1, 16) AS UBIGINT), md5_number_lower(coalesce(unit_hash, ''))) AS unit"
)


def _plain(column: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.ma.getdata(column)


def _column(column: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    values = np.ma.asarray(column)
    present = ~np.ma.getmaskarray(values)
    return np.where(present, np.ma.getdata(values).astype(np.float64), 0.0), present


def _places(batch_id: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The number of each row in its batch."""
    rows = np.arange(len(batch_id))
    begins = np.concatenate([[True], batch_id[1:] != batch_id[:-1]]) if len(batch_id) else np.zeros(0, np.bool_)
    return np.asarray(rows - np.maximum.accumulate(np.where(begins, rows, 0)), dtype=np.int64)
