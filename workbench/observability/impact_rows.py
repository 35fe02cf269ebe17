"""Sessions with their outcomes: the one table that every number of business impact is made of, as DuckDB queries.

Attribution is that of the KPI metrics (`facts.kpi_facts`): an event goes to its request, else to the newest request of its session
before it, else to the newest one of its unit; what comes later than the KPI's window is nobody's. That window runs, of a rate, from the
session's first request, so that a session that is over stays what it is; of a mean or sum from the event's own. A session counts where its
first request stands, so that one session is never on two sides or in two periods. Shadow answers reach nobody and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from workbench.observability.dimensions import Filters
from workbench.observability.impact_model import Attributed, TalksBefore
from workbench.observability.tables import at_snapshot, latest_requests_sql
from workbench.spec.app import Kpi

Rows = list[dict[str, Any]]
Column = NDArray[Any]
SESSIONS = "impact_sessions"
REQUESTS = "impact_requests"
TALKS = "impact_talks"
EVENTS = "impact_events"
_DIMENSIONS = ("workflow", "bundle", "arm", "release_id", "model_served", "provider", "status", "error_type")
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_REQUESTS_SQL = """
CREATE OR REPLACE TEMP TABLE {requests} AS
SELECT request_id, ts_start, session_id, unit_hash, traffic_share, cost_usd, {dimensions},
       coalesce('s:' || session_id, 'r:' || request_id) AS session, coalesce(unit_hash, session_id, request_id) AS unit
FROM ({latest}) AS latest WHERE app = $app AND arm IS DISTINCT FROM 'shadow' AND ts_start <= $now
"""

_TALKS_SQL = """
CREATE OR REPLACE TEMP TABLE {talks} AS
WITH first AS (
  SELECT * FROM {requests} QUALIFY row_number() OVER (PARTITION BY session ORDER BY ts_start, request_id) = 1
), talked AS (
  SELECT session, count(*) AS requests, max(ts_start) AS last_ts, fsum(cost_usd::DOUBLE) AS cost_usd,
         bool_and(cost_usd IS NOT NULL) AS is_priced
  FROM {requests} GROUP BY session
)
SELECT f.session, f.unit, f.unit_hash, f.ts_start AS ts, t.last_ts, f.traffic_share, {dimensions}, t.requests, t.cost_usd, t.is_priced
FROM first AS f JOIN talked AS t USING (session)
"""

_EVENTS_SQL = """
CREATE OR REPLACE TEMP TABLE {events} AS
WITH newest AS (
  SELECT * FROM {outcomes} WHERE app = $app
  QUALIFY row_number() OVER (PARTITION BY outcome_id ORDER BY batch_id DESC, seq DESC) = 1
), known AS (
  SELECT outcome_id, value, request_id, session_id, unit_hash, ts FROM newest
  WHERE kpi = $event AND ts <= $now AND ($currency IS NULL OR currency IS NULL OR currency = $currency)
), candidates AS (
  SELECT e.outcome_id, r.request_id AS at_request, r.ts_start AS at_ts, 'by_request' AS rule
  FROM known AS e JOIN {requests} AS r ON e.request_id = r.request_id
  UNION ALL
  SELECT e.outcome_id, r.request_id, r.ts_start, 'by_session' FROM known AS e
  JOIN {requests} AS r ON e.request_id IS NULL AND e.session_id = r.session_id AND r.ts_start <= e.ts
  UNION ALL
  SELECT e.outcome_id, r.request_id, r.ts_start, 'by_unit' FROM known AS e
  JOIN {requests} AS r ON e.request_id IS NULL AND e.session_id IS NULL AND e.unit_hash = r.unit_hash AND r.ts_start <= e.ts
), chosen AS (
  SELECT * FROM candidates QUALIFY row_number() OVER (PARTITION BY outcome_id ORDER BY at_ts DESC, at_request DESC) = 1
)
SELECT e.outcome_id, e.value, e.ts, coalesce(e.unit_hash, r.unit_hash) AS named_unit, r.session,
       CASE WHEN c.at_request IS NULL AND e.request_id IS NULL AND e.unit_hash IN (SELECT unit_hash FROM {requests}) THEN 'before'
            WHEN c.at_request IS NULL THEN 'nobodys'
            WHEN $within_us IS NOT NULL AND epoch_us(e.ts) > epoch_us({begins}) + $within_us THEN 'too_late' ELSE c.rule END AS rule
FROM known AS e LEFT JOIN chosen AS c USING (outcome_id) LEFT JOIN {requests} AS r ON c.at_request = r.request_id
LEFT JOIN {talks} AS t ON t.session = r.session
"""

_SESSIONS_SQL = """
CREATE OR REPLACE TEMP TABLE {sessions} AS
WITH reached AS (
  SELECT session, count(*) AS events, count(value) AS valued, fsum(value) AS total, min(value) AS lowest FROM {events}
  WHERE rule IN ('by_request', 'by_session', 'by_unit') GROUP BY session
)
SELECT f.*, {outcomes} AS outcomes, {total} AS total, e.lowest,
       $within_us IS NULL OR epoch_us({ends}) + $within_us <= epoch_us($as_of) AS is_over
FROM {talks} AS f LEFT JOIN reached AS e USING (session)
WHERE ($start IS NULL OR f.ts >= $start) AND ($until IS NULL OR f.ts < $until) {where}
"""

_NEWEST_SQL = """
SELECT epoch_us(max(seen)) AS newest FROM (
  SELECT max(ts_start) AS seen FROM {requests} UNION ALL SELECT max(ts) FROM {outcomes} WHERE app = $app AND ts <= $now)
"""

_SUMS_SQL = """
WITH units AS (
  SELECT {period} AS period, unit, count(*) AS sessions, sum(requests) AS requests, sum(outcomes) AS outcomes, fsum(total) AS total,
         min(lowest) AS lowest, fsum(cost_usd) FILTER (is_priced) AS cost, coalesce(sum(outcomes) FILTER (is_priced), 0) AS paid,
         count(*) FILTER (is_priced) AS priced
  FROM {sessions} WHERE $before_us IS NULL OR epoch_us(ts) < $before_us GROUP BY ALL
)
SELECT period, count(*) AS units, count(*) FILTER (outcomes > 0) AS units_with_outcome, count(*) FILTER (priced > 0) AS priced_units,
       sum(sessions)::BIGINT AS sessions, sum(requests)::BIGINT AS requests, sum(outcomes)::BIGINT AS outcomes, fsum(total) AS total,
       min(lowest) AS lowest, fsum(cost) AS cost, sum(paid)::BIGINT AS paid, sum(priced)::BIGINT AS priced,
       sum(sessions * sessions)::DOUBLE AS session_squares, sum(outcomes * sessions)::DOUBLE AS outcome_sessions,
       sum(outcomes * outcomes)::DOUBLE AS outcome_squares, fsum(total * outcomes) AS total_outcomes, fsum(total * total) AS total_squares,
       fsum(cost * cost) AS cost_squares, fsum(cost * paid) AS cost_paid, sum(paid * paid)::DOUBLE AS paid_squares
FROM units GROUP BY period ORDER BY period
"""
_BY = "epoch_us(date_trunc('{by}', make_timestamp(epoch_us(ts))))"
"""Start of a period in UTC, whatever time zone the engine is in."""


_TALKS_BEFORE_SQL = """
WITH talks AS (
  SELECT {value} AS v FROM {sessions} WHERE bundle = $bundle AND is_over AND {counts}
), bounds AS (
  SELECT CASE WHEN min(v) >= 0 THEN 0 ELSE quantile_disc(v, 0.001) END AS low,
         CASE WHEN quantile_disc(v, 0.999) > 0 THEN quantile_disc(v, 0.999) ELSE max(v) END AS high FROM talks WHERE isfinite(v)
)
SELECT count(*) AS n, avg(greatest(least(v, high), low)) AS mean, any_value(low) AS low, any_value(high) AS high FROM talks, bounds
WHERE isfinite(v)
"""


_DIVIDED = "arm IN ('candidate', 'stable') AND traffic_share > 0 AND traffic_share < 1"
"""Sessions that a route assigned by chance."""

_EXPOSED_SQL = """
WITH chosen AS (SELECT *, ({side}) AS is_candidate FROM {sessions} WHERE {scope}),
first AS (
  SELECT unit, unit_hash, ts, is_candidate, traffic_share FROM chosen
  QUALIFY row_number() OVER (PARTITION BY unit ORDER BY ts, session) = 1
), sums AS (
  SELECT unit, count(DISTINCT is_candidate) > 1 AS crossed, bool_or(is_over) AS is_judged,
         coalesce(fsum(total) FILTER (is_over), 0) AS total, coalesce(sum(outcomes) FILTER (is_over), 0)::DOUBLE AS outcomes,
         (count(*) FILTER (is_over))::DOUBLE AS sessions,
         coalesce(fsum(cost_usd) FILTER (is_over AND is_priced), 0) AS cost,
         coalesce(sum(outcomes) FILTER (is_over AND is_priced), 0)::DOUBLE AS paid,
         (count(*) FILTER (is_over AND is_priced))::DOUBLE AS priced
  FROM chosen GROUP BY unit
), earlier_events AS (
  SELECT f.unit, count(*) AS outcomes, fsum(coalesce(e.value, 0)) AS total FROM first AS f JOIN {events} AS e
  ON e.named_unit = f.unit_hash AND e.ts < f.ts AND epoch_us(e.ts) >= epoch_us(f.ts) - $pre_us GROUP BY f.unit
), earlier_requests AS (
  SELECT DISTINCT f.unit FROM first AS f JOIN {requests} AS r
  ON r.unit_hash = f.unit_hash AND r.ts_start < f.ts AND epoch_us(r.ts_start) >= epoch_us(f.ts) - $pre_us
)
SELECT f.is_candidate, f.traffic_share AS share, s.crossed, s.is_judged, s.total, s.outcomes, s.sessions, s.cost, s.paid, s.priced,
       CASE WHEN e.unit IS NOT NULL OR r.unit IS NOT NULL THEN coalesce(e.total, 0) END AS pre_total,
       CASE WHEN e.unit IS NOT NULL OR r.unit IS NOT NULL THEN coalesce(e.outcomes, 0)::DOUBLE END AS pre_outcomes
FROM first AS f JOIN sums AS s USING (unit) LEFT JOIN earlier_events AS e USING (unit) LEFT JOIN earlier_requests AS r USING (unit)
ORDER BY f.unit
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which sessions, judged how."""

    app: str
    kpi: Kpi
    filters: Filters
    start: datetime | None
    until: datetime | None
    now: datetime


class Sessions:
    """The sessions of one KPI at one snapshot, in temporary tables of a read transaction.

    Args:
        connection: a cursor in a read transaction on a lake with tables.
        snapshot: which one.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, snapshot: int | None) -> None:
        self._connection = connection
        self._outcomes = at_snapshot("outcomes", snapshot)
        self._latest = latest_requests_sql(snapshot)

    def read_requests(self, app: str, now: datetime) -> None:
        """Read the app's requests and their sessions once, for all of its KPIs."""
        sql = _REQUESTS_SQL.format(requests=REQUESTS, latest=self._latest, dimensions=", ".join(_DIMENSIONS))
        self._run(sql, {"app": app, "now": now})
        self._run(_TALKS_SQL.format(requests=REQUESTS, talks=TALKS, dimensions=", ".join(f"f.{name}" for name in _DIMENSIONS)))

    def as_of(self, app: str, now: datetime) -> datetime | None:
        """The newest moment that the log shows of the app; None where it shows nothing."""
        found = self._rows(_NEWEST_SQL.format(requests=REQUESTS, outcomes=self._outcomes), {"app": app, "now": now})[0]["newest"]
        return None if found is None else moment(found)

    def read_sessions(self, scope: Scope, as_of: datetime) -> None:
        """Make the table of sessions of this scope."""
        kpi = scope.kpi
        within_us = None if kpi.within is None else kpi.within // _MICROSECOND
        is_rate = kpi.aggregate == "rate"
        begins, ends = ("t.ts", "f.ts") if is_rate else ("c.at_ts", "f.last_ts")
        self._run(
            _EVENTS_SQL.format(requests=REQUESTS, talks=TALKS, events=EVENTS, outcomes=self._outcomes, begins=begins),
            {"app": scope.app, "event": kpi.outcome, "now": scope.now, "within_us": within_us, "currency": kpi.currency},
        )
        where, values = _where(scope.filters)
        sql = _SESSIONS_SQL.format(
            events=EVENTS,
            talks=TALKS,
            sessions=SESSIONS,
            ends=ends,
            outcomes="coalesce(e.events > 0, false)::BIGINT" if is_rate else "coalesce(e.valued, 0)",
            total="coalesce(e.events > 0, false)::DOUBLE" if is_rate else "coalesce(e.total, 0.0)",
            where=where,
        )
        self._run(sql, {"within_us": within_us, "as_of": as_of, "start": scope.start, "until": scope.until, **values})

    def attributed(self) -> Attributed:
        """What became of the KPI's events, whatever the scope."""
        found = {row["rule"]: row["n"] for row in self._rows(f"SELECT rule, count(*) AS n FROM {EVENTS} GROUP BY rule")}
        return Attributed(**found)

    def periods(self, by: str) -> Rows:
        """Sums by period, oldest first; periods without sessions are absent."""
        return self._rows(_SUMS_SQL.format(period=_BY.format(by=by), sessions=SESSIONS), {"before_us": None})

    def before(self, until: datetime) -> Rows:
        """The same sums over all sessions that began before this moment: one row, or none."""
        return self._rows(_SUMS_SQL.format(period="0", sessions=SESSIONS), {"before_us": microseconds(until)})

    def before_release(self, kpi: Kpi, bundle: str) -> TalksBefore:
        """What the bundle's talks in the table of sessions came to."""
        value, counts = ("total / outcomes", "outcomes > 0") if kpi.aggregate == "mean" else ("total", "true")
        sql = _TALKS_BEFORE_SQL.format(sessions=SESSIONS, value=value, counts=counts)
        found = self._rows(sql, {"bundle": bundle})[0]
        if not found["n"]:
            return TalksBefore(kpi=kpi, n=0, mean=None)
        return TalksBefore(kpi=kpi, n=found["n"], **{name: float(f"{found[name]:.12g}") for name in ("mean", "low", "high")})

    def releases(self) -> Rows:
        """The releases whose routes divided sessions between two bundles by chance, newest first, with the bundles of each arm.

        An app that serves itself reports arms and shares without a release; what it reports counts as one.
        """
        return self._rows(
            f"""SELECT release_id, list_sort(list(DISTINCT bundle) FILTER (arm = 'candidate')) AS candidates,
                       list_sort(list(DISTINCT bundle) FILTER (arm = 'stable')) AS stables
                FROM {SESSIONS} WHERE {_DIVIDED} AND bundle IS NOT NULL
                GROUP BY release_id HAVING bool_or(arm = 'candidate') AND bool_or(arm = 'stable')
                ORDER BY max(ts) DESC, release_id DESC"""
        )

    def exposed(self, scope: str, side: str, values: Mapping[str, Any], *, pre: timedelta) -> dict[str, Column]:
        """One entry per unit in the scope, ordered by unit.

        Args:
            scope: condition on a session.
            side: condition under which it is the candidate's.
            values: parameters of both.
            pre: length of the pre-period.

        Returns:
            Columns: `is_candidate` and `share` (NaN where none) of the first session; `crossed`; `is_judged`, whether some session's
            window is over; of those sessions `total`, `outcomes`, `sessions`, and of the priced ones `cost`, `paid`, `priced`;
            `pre_total` and `pre_outcomes`, NaN without a pre-period.
        """
        sql = _EXPOSED_SQL.format(sessions=SESSIONS, events=EVENTS, requests=REQUESTS, scope=scope, side=side)
        return self._columns(sql, {**values, "pre_us": pre // _MICROSECOND})

    def count(self, condition: str, values: Mapping[str, Any]) -> int:
        """How many sessions satisfy the condition."""
        return int(self._rows(f"SELECT count(*) AS n FROM {SESSIONS} WHERE {condition}", values)[0]["n"])

    def _run(self, sql: str, values: Mapping[str, Any] | None = None) -> None:
        self._connection.execute(sql, dict(values or {}))

    def _rows(self, sql: str, values: Mapping[str, Any] | None = None) -> Rows:
        cursor = self._connection.execute(sql, dict(values or {}))
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _columns(self, sql: str, values: Mapping[str, Any]) -> dict[str, Column]:
        """The answer by column; a missing number is NaN."""
        found = self._connection.execute(sql, dict(values)).fetchnumpy()
        return {name: _plain(column) for name, column in found.items()}


def moment(us: int) -> datetime:
    """An instant from its microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=us)


def microseconds(at: datetime) -> int:
    """An instant as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def _plain(column: Any) -> Column:
    return (
        np.ma.filled(column.astype(float), np.nan) if isinstance(column, np.ma.MaskedArray) and column.dtype != bool else np.asarray(column)
    )


def _where(filters: Filters) -> tuple[str, dict[str, Sequence[str]]]:
    """The filters as a condition on a session's first request, with its parameters."""
    own = [(name, list(values)) for name, values in filters if name != "app"]
    condition = "".join(f" AND list_contains($where_{name}, f.{name})" for name, _ in own)
    return condition, {f"where_{name}": values for name, values in own}
