"""A release's rows in the order of the log, as columns of numbers: what the judge of its canary reads.

Whole batches, ascending, and within a batch by table and `seq`; a batch is one transaction, so whoever reads later finds the same rows in
the same order. A request's first record says that its unit came, its final one how it ended, and a correction is a row of its own: the
judge is told what was known when. A score stands with its own batch, or with that of its request where that came later; whose it is says
its request's first row. A reader remembers that of each request, so that a score costs the same after any number of them. A business result
stands with the batch that decided it, behind the scores (`release_results.py`).
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
from workbench.observability.model import FAILED
from workbench.observability.release_results import Awaited, Decided, ReleaseResults
from workbench.observability.release_talks import REQUEST, SESSION, UNIT, Outcomes
from workbench.observability.release_units import NO_SCORES, Requests, Scores, Whose
from workbench.observability.shadow_rows import ShadowCounts, count_shadow
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

    @classmethod
    def none(cls, metrics: Sequence[str], *, newest_batch: int, data_at: datetime | None) -> ReleaseRows:
        """No rows."""
        ints, numbers = np.zeros(0, np.int64), np.zeros(0)
        return cls(
            batch_id=ints,
            place=ints,
            arm=np.zeros(0, np.int8),
            share=numbers,
            unit=np.zeros(0, np.uint64),
            values=dict.fromkeys(metrics, (numbers, np.zeros(0, np.bool_))),
            newest_batch=newest_batch,
            data_at=data_at,
        )

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

    def reader(self, app: str, release_id: str, metrics: Sequence[str], awaited: Sequence[Awaited] = ()) -> ReleaseReader:
        """Of this release, from its first row on. Arguments and errors as of `ReleaseReader`."""
        return ReleaseReader(self._lake, app, release_id, metrics, awaited)

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


EARLIEST = 1000
"""Batches before the first one of a release in which a score or an outcome of it may be: another process stores it than its request."""


class ReleaseReader:
    """Reads a release batch after batch. Not for several threads.

    Args:
        lake: gives the log.
        app: whose release it is.
        release_id: its id.
        metrics: `failure_rate violation_rate fallback_rate tool_error_rate cost_usd`, any `latency_…` (one value for all of them),
            `quality_mean`, `score:NAME`, or the name of a KPI that is awaited.
        awaited: the KPIs among them.

    Raises:
        UsageError: a metric that a row of the log does not have.
    """

    def __init__(
        self, lake: Callable[[], Lake], app: str, release_id: str, metrics: Sequence[str], awaited: Sequence[Awaited] = ()
    ) -> None:
        kpis = {each.name for each in awaited}
        unknown = [name for name in metrics if name not in kpis and column_sql(name) is None and score_of(name) is None]
        if unknown:
            raise UsageError(
                f"metric {unknown[0]}",
                seen="it is not a value of one request",
                needed=f"one of {', '.join(_EVENTS)}, latency_…, {QUALITY}, {SCORE}NAME",
            )
        self.after = 0
        """The last batch that was read."""
        self._lake = lake
        self._app = app
        self._release_id = release_id
        self._metrics = tuple(metrics)
        self._columns = [None if name in kpis else column_sql(name) for name in metrics]
        self._scores = {name: place for place, metric in enumerate(metrics) if metric not in kpis and (name := score_of(metric))}
        self._awaited = tuple(each for each in awaited if each.name in metrics)
        self._kpis = np.array([metrics.index(each.name) for each in self._awaited], np.int64)
        self._followed_after: int | None = None
        """The last batch whose scores and outcomes were read; None before the first request."""
        self._whose = Whose()
        self._waiting = NO_SCORES
        self._results = ReleaseResults(self._awaited)
        self._snapshot: int | None = None
        """Of the lake, when all of it was read; None where it was read up to a batch."""
        self._data_at: datetime | None = None

    def read(self, *, until: int | None = None) -> ReleaseRows:
        """The rows behind those that were read.

        Args:
            until: the last batch to read; None: the newest.

        Raises:
            StoreError: the log cannot be read; then nothing counts as read.
        """
        fetched = self._lake().look(lambda connection, snapshot: self._fetched(connection, snapshot, until))
        if fetched is None:
            return ReleaseRows.none(self._metrics, newest_batch=self.after, data_at=self._data_at)
        snapshot, newest, data_at, requests, scores, outcomes = fetched
        self._snapshot, self._data_at = None if until is not None else snapshot, data_at
        if self._scores and len(requests.batch_id):
            self._whose.learn(requests)
        found = self._whose.find(scores.key)
        is_known = found >= 0
        scores_now, self._waiting = scores.part(is_known), scores.part(~is_known)
        self.after = max(newest, self.after)
        if self._followed_after is not None or len(requests.batch_id):
            self._followed_after = self.after
        decided = self._results.take(requests, outcomes)
        return self._rows(requests, scores_now, found[is_known], decided, newest=newest, data_at=data_at)

    def _fetched(
        self, connection: duckdb.DuckDBPyConnection, snapshot: int | None, until: int | None
    ) -> tuple[int | None, int, datetime | None, Requests, Scores, Sequence[Outcomes]] | None:
        """The snapshot, newest batch and when it was stored, what is new, and the scores that waited for their request.

        None where the lake is as it was: most looks find it so at night. It changes nothing here, so it may be done again.
        """
        if until is None and snapshot is not None and snapshot == self._snapshot:
            return None
        wanted = f"batch_id > {self.after}" + ("" if until is None else f" AND batch_id <= {until}")
        mark = f"SELECT coalesce(max(batch_id), {self.after}), epoch_us(arg_max(flushed_at, batch_id)) FROM lake.flushed WHERE {wanted}"
        known = connection.execute(mark).fetchall()[0]
        newest = int(known[0])
        requests = self._new_requests(connection, newest)
        after = self._followed_after
        if after is None and len(requests.batch_id):
            after = max(0, int(requests.batch_id[0]) - 1 - EARLIEST)
        scores = self._waiting
        if self._scores and after is not None:
            scores = scores.with_more(self._new_scores(connection, after=after, until=newest))
        outcomes = [self._new_outcomes(connection, each, after=newest if after is None else after, until=newest) for each in self._awaited]
        return snapshot, newest, instant(known[1]) or self._data_at, requests, scores, outcomes

    def _new_requests(self, connection: duckdb.DuckDBPyConnection, until: int) -> Requests:
        sql = [f"CAST(CASE WHEN is_final THEN {column or 'NULL'} END AS DOUBLE) AS v{k}" for k, column in enumerate(self._columns)]
        key = f"{_KEY}, " if self._scores or self._awaited else ""
        key += f"{_TALK}, epoch_us(ts_start) AS at_us, " if self._awaited else ""
        found = connection.execute(
            f"SELECT batch_id, seq, {key}{_WHO}, {', '.join(sql)} FROM {at_snapshot('requests', None)} WHERE app = {literal(self._app)} "
            f"AND release_id = {literal(self._release_id)} AND batch_id > {self.after} AND batch_id <= {until} ORDER BY batch_id, seq"
        ).fetchnumpy()
        return Requests(
            batch_id=_plain(found["batch_id"]).astype(np.int64),
            seq=_plain(found["seq"]).astype(np.int64),
            key=_plain(found["key"]).astype(np.uint64) if key else np.zeros(len(found["seq"]), np.uint64),
            arm=_plain(found["arm"]).astype(np.int8),
            share=np.ma.filled(np.ma.asarray(found["share"], dtype=np.float64), np.nan),
            unit=_plain(found["unit"]).astype(np.uint64),
            values=[_column(found[f"v{place}"]) for place in range(len(self._metrics))],
            talk=_plain(found["talk"] if self._awaited else np.zeros(0)).astype(np.uint64),
            at_us=_plain(found["at_us"] if self._awaited else np.zeros(0)).astype(np.int64),
        )

    def _new_scores(self, connection: duckdb.DuckDBPyConnection, *, after: int, until: int) -> Scores:
        places = " ".join(f"WHEN {literal(name)} THEN {place}" for name, place in self._scores.items())
        names = ", ".join(map(literal, self._scores))
        found = connection.execute(
            f"SELECT batch_id, seq, {_KEY}, md5_number_lower(score_id) AS tie, CASE name {places} END AS metric, value "
            f"FROM {at_snapshot('scores', None)} WHERE app = {literal(self._app)} AND name IN ({names}) AND value IS NOT NULL "
            f"AND batch_id > {after} AND batch_id <= {until}"
        ).fetchnumpy()
        return Scores(
            batch_id=_plain(found["batch_id"]).astype(np.int64),
            seq=_plain(found["seq"]).astype(np.int64),
            key=_plain(found["key"]).astype(np.uint64),
            tie=_plain(found["tie"]).astype(np.uint64),
            metric=_plain(found["metric"]).astype(np.int64),
            value=_plain(found["value"]).astype(np.float64),
        )

    def _new_outcomes(self, connection: duckdb.DuckDBPyConnection, asked: Awaited, *, after: int, until: int) -> Outcomes:
        """Those of the KPI that name somebody."""
        foreign = "false" if asked.currency is None else f"coalesce(currency <> {literal(asked.currency)}, false)"
        found = connection.execute(
            f"SELECT batch_id, hash(outcome_id) AS key, {_NAMED}, epoch_us(ts) AS at_us, value, {foreign} AS is_foreign "
            f"FROM {at_snapshot('outcomes', None)} WHERE app = {literal(self._app)} AND kpi = {literal(asked.outcome)} "
            f"AND batch_id > {after} AND batch_id <= {until} AND coalesce(request_id, session_id, unit_hash) IS NOT NULL "
            "ORDER BY batch_id, seq, outcome_id, spool_id"
        ).fetchnumpy()
        worth, is_valued = _column(found["value"])
        return Outcomes(
            batch_id=_plain(found["batch_id"]).astype(np.int64),
            key=_plain(found["key"]).astype(np.uint64),
            names=_plain(found["names"]).astype(np.int64),
            whom=_plain(found["whom"]).astype(np.uint64),
            at_us=_plain(found["at_us"]).astype(np.int64),
            value=worth,
            is_valued=is_valued,
            is_foreign=_plain(found["is_foreign"]).astype(np.bool_),
        )

    def _rows(
        self,
        requests: Requests,
        scores: Scores,
        whose: npt.NDArray[np.int64],
        decided: Decided,
        *,
        newest: int,
        data_at: datetime | None,
    ) -> ReleaseRows:
        """Requests, scores and results by batch, table, `seq`, and what tells scores apart that came from several batches."""
        n, m, k = len(requests.batch_id), len(scores.batch_id), len(decided.batch_id)
        of, talks = self._whose, self._results.talks
        batch_id = np.concatenate([requests.batch_id, np.maximum(scores.batch_id, of.batch_id[whose]), decided.batch_id])
        order = np.lexsort(
            (
                np.concatenate([np.zeros(n, np.uint64), scores.tie, np.zeros(k, np.uint64)]),
                np.concatenate([np.zeros(n, np.int64), scores.batch_id, np.zeros(k, np.int64)]),
                np.concatenate([requests.seq, scores.seq, np.arange(k)]),
                np.repeat([0, 1, 2], [n, m, k]),
                batch_id,
            )
        )
        values = {}
        kpi = self._kpis[decided.kpi]
        for place, name in enumerate(self._metrics):
            is_its, is_decided = scores.metric == place, kpi == place
            parts = (np.where(is_its, scores.value, 0.0), np.where(is_decided, decided.value, 0.0))
            values[name] = (
                np.concatenate([requests.values[place][0], *parts])[order],
                np.concatenate([requests.values[place][1], is_its, is_decided])[order],
            )
        batch_id = batch_id[order]
        return ReleaseRows(
            batch_id=batch_id,
            place=_places(batch_id),
            arm=np.concatenate([requests.arm, of.arm[whose], talks.arm[decided.talk]])[order],
            share=np.concatenate([requests.share, of.share[whose], talks.share[decided.talk]])[order],
            unit=np.concatenate([requests.unit, of.unit[whose], talks.unit[decided.talk]])[order],
            values=values,
            newest_batch=newest,
            data_at=data_at,
        )


def column_sql(metric: str) -> str | None:
    """What a request's final row says of the metric; None where that is not in a request's row.

    Plans that were stored once may name any `latency_…`.
    """
    return "latency_ms" if metric.startswith("latency_") else _EVENTS.get(metric)


def score_of(metric: str) -> str | None:
    """The score that the metric is; None where it is none."""
    if metric == QUALITY:
        return "quality"
    return metric.removeprefix(SCORE) if metric.startswith(SCORE) and metric != SCORE else None


_KEY = "hash(request_id) AS key"
_TALK = "CASE WHEN session_id IS NULL THEN hash(request_id) ELSE hash('session ' || session_id) END AS talk"
_UNIT = "coalesce(TRY_CAST('0x' || substr(unit_hash, 1, 16) AS UBIGINT), md5_number_lower(coalesce(unit_hash, '')))"
_WHO = (
    "CASE WHEN unit_hash IS NULL THEN -1 WHEN arm = 'candidate' THEN 1 WHEN arm = 'stable' THEN 0 ELSE -1 END AS arm, "
    f"traffic_share AS share, {_UNIT} AS unit"
)
_NAMED = (
    f"CASE WHEN request_id IS NOT NULL THEN {REQUEST} WHEN session_id IS NOT NULL THEN {SESSION} ELSE {UNIT} END AS names, "
    f"CASE WHEN request_id IS NOT NULL THEN hash(request_id) WHEN session_id IS NOT NULL THEN hash('session ' || session_id) "
    f"ELSE {_UNIT} END AS whom"
)
"""What an outcome names, and its key."""


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
