"""Summing hours: the sums of noted hours are made from their requests and put in the place of those that are there.

An hour's sums, its day's and the note are changed in one transaction, so that at any snapshot an hour is noted or its sums are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import duckdb

from workbench.observability.model import Window
from workbench.observability.rollup import daily_sql, hour_sql, hour_start, hourly_sql, is_retained_sql, naive_sql, note_sql, utc_sql
from workbench.observability.tables import REQUESTS_DAILY, REQUESTS_HOURLY, LogTable, latest_sql

ROWS_AT_ONCE = 2_000_000
"""About how many new rows one transaction sums; nobody else writes meanwhile. A day is never divided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """What one transaction did."""

    hours: int
    """Of apps."""
    days: int
    """That these hours are of."""
    days_left: int
    """With hours that are not summed yet."""


def note_window(connection: duckdb.DuckDBPyConnection, window: Window) -> None:
    """Note the hours of the window, whole ones, whether they were summed or not: those with requests and those with sums."""
    ends = ((sign, hour_start(at)) for sign, at in ((">=", window.start), ("<=", window.until)) if at is not None)
    within = " AND ".join(f"{{hour}} {sign} {naive_sql(hour)}" for sign, hour in ends) or "true"
    logged = f"(SELECT * FROM lake.requests WHERE {within.format(hour=hour_sql('ts_start'))})"
    connection.execute(note_sql(logged, batch_id="max(batch_id)"))
    connection.execute(
        "INSERT INTO lake.unsummed_hours (app, hour, n, batch_id) SELECT DISTINCT app, hour, 0, 0 FROM lake.requests_hourly AS sums "
        f"WHERE {within.format(hour=utc_sql('hour'))} AND {is_retained_sql('sums.app', 'sums.day')}"
    )


def sum_next(connection: duckdb.DuckDBPyConnection, *, most_rows: int = ROWS_AT_ONCE) -> Summed:
    """Sum the noted hours of the oldest days, inside the caller's write transaction."""
    noted = connection.execute(
        f"SELECT CAST({utc_sql('hour')} AS DATE) AS day, sum(n)::BIGINT FROM lake.unsummed_hours GROUP BY day ORDER BY day"
    ).fetchall()
    days: list[date] = []
    n = 0
    for day, rows in noted:
        if days and n + rows > most_rows:
            break
        days.append(day)
        n += rows
    if not days:
        return Summed(hours=0, days=0, days_left=0)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE next_hours AS SELECT DISTINCT app, {utc_sql('hour')} AS hour FROM lake.unsummed_hours "
        f"WHERE {utc_sql('hour')} < TIMESTAMP '{days[-1]}' + INTERVAL 1 DAY"
    )
    return Summed(hours=sum_hours(connection, "next_hours"), days=len(days), days_left=len(noted) - len(days))


def retain(connection: duckdb.DuckDBPyConnection, app: str, *, since: date, sums_since: date) -> None:
    """Note that the app's requests of days before `since` are about to be taken out, and sum what is not summed yet while they are there.

    Args:
        connection: of the transaction that takes them out.
        app: the application.
        since: the first day whose requests are kept.
        sums_since: the first day whose sums are kept.
    """
    noted = f"lake.unsummed_hours WHERE app = '{app}' AND {utc_sql('hour')}"
    connection.execute(f"DELETE FROM {noted} < {_day(sums_since)}")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE old_hours AS SELECT DISTINCT app, {utc_sql('hour')} AS hour FROM {noted} < {_day(since)}"
    )
    sum_hours(connection, "old_hours")
    connection.execute(f"INSERT INTO lake.retained (app, since, taken_out_at) VALUES ('{app}', {_day(since)}, now())")


def sum_hours(connection: duckdb.DuckDBPyConnection, hours: str) -> int:
    """Put the sums of these hours in the place of what is there, inside the caller's write transaction; how many hours they are.

    Hours whose requests were taken out because of their age keep the sums that they have.

    Args:
        connection: of the transaction.
        hours: a temporary table with `app` and `hour`, a time without a zone in UTC.
    """
    retained = is_retained_sql("given.app", "CAST(given.hour AS DATE)")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE summed_hours AS SELECT app, hour FROM {hours} AS given WHERE {retained}")
    row = connection.execute("SELECT count(*), min(CAST(hour AS DATE)), max(CAST(hour AS DATE)) FROM summed_hours").fetchone()
    n, first, last = row if row is not None else (0, None, None)
    if not n:
        return 0
    is_among = "(app, {}) IN (SELECT app, hour FROM summed_hours)"
    is_day = "(app, day) IN (SELECT app, CAST(hour AS DATE) FROM summed_hours)"
    between = f"day BETWEEN {_day(first)} AND {_day(last)}"
    rows = f"SELECT * FROM lake.requests WHERE {between} AND {is_among.format(hour_sql('ts_start'))}"
    connection.execute(f"DELETE FROM lake.requests_hourly WHERE {between} AND {is_among.format(utc_sql('hour'))}")
    connection.execute(_insert(REQUESTS_HOURLY, hourly_sql(f"({latest_sql(f'({rows}) AS revisions')}) AS latest")))
    connection.execute(f"DELETE FROM lake.requests_daily WHERE {between} AND {is_day}")
    connection.execute(_insert(REQUESTS_DAILY, daily_sql(f"(SELECT * FROM lake.requests_hourly WHERE {between} AND {is_day})")))
    connection.execute(f"DELETE FROM lake.unsummed_hours WHERE {is_among.format(utc_sql('hour'))}")
    return int(n)


def _day(day: date) -> str:
    return f"DATE '{day}'"


def _insert(table: LogTable, select: str) -> str:
    return f"INSERT INTO lake.{table.name} ({', '.join(column.name for column in table.columns)}) {select}"
