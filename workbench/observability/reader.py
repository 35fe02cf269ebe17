"""One look at the lake: runs the expressions of a question at one snapshot and hands back plain sums by group."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import duckdb
import ibis.expr.types as ir
import polars as pl

from workbench.observability.asking import Question, kpi_of
from workbench.observability.comparison import UnitPair
from workbench.observability.dimensions import GRAINS, apps_of
from workbench.observability.evidence import instant, row_set
from workbench.observability.facts import DERIVED, REQUESTS, requests_sql, source_sql
from workbench.observability.flusher import timestamp
from workbench.observability.metric import Metric, needs_of
from workbench.observability.model import RowSet, Window
from workbench.observability.query import DIALECT, row_set_sql, to_sql, units, with_tables
from workbench.observability.recency import Seen
from workbench.observability.rolled import CHOSEN, ROLLED, Statements, ranked, statements
from workbench.observability.rollup import bucket_ms, hour_start, utc_sql
from workbench.observability.rollup_plan import Unsummed, began_about, cover, fresh_sql, is_noted_day, stored_sql
from workbench.observability.success import DEFAULT_SCORE, SuccessRules
from workbench.observability.sum_reader import Key, Rows, SumReader, Sums, key_of
from workbench.observability.tables import at_snapshot

EMPTY = 0
"""Snapshot number of a lake to which nothing was ever written."""
PACE, _DAY = timedelta(days=7), timedelta(days=1)
"""How far back it is looked for how many users come in a day."""


class Reader(SumReader):
    """A cursor in a read transaction, and the snapshot that it looks at."""

    dialect = DIALECT
    quote = '"'
    microseconds = "epoch_us"

    def __init__(self, connection: duckdb.DuckDBPyConnection, snapshot: int, *, is_newest: bool = False) -> None:
        self.snapshot = snapshot
        self.is_newest = is_newest
        """So that the lake has every table; an older snapshot may be from before a table was made."""
        self._connection = connection
        self._held: Question | None = None
        self._facts: dict[str, ir.Table] = {}
        self._rolled: dict[Key, Sums] = {}
        tables = source_sql(None if snapshot == EMPTY else snapshot)
        if snapshot == EMPTY:
            tables = {name: f"SELECT * FROM ({sql}) AS nothing LIMIT 0" for name, sql in tables.items()}
        super().__init__(tables)

    def _answer(self, sql: str) -> list[dict[str, Any]]:
        cursor = self._connection.execute(sql)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def hold(self, question: Question) -> None:
        """From now on read the facts of these rows from the lake once, whatever is asked of them."""
        self._held = question
        self._facts = {}

    def _requests_about(self, window: Window) -> str:
        if self.snapshot == EMPTY or window == Window():
            return super()._requests_about(window)
        return requests_sql(self.snapshot, among=began_about(window))  # ranking the whole log would read it

    def _facts_under(self, question: Question, metrics: Sequence[Metric]) -> ir.Table | None:
        """The facts under the metrics, where they are among those that are held."""
        held, kpi = self._held, kpi_of(metrics)
        if held is None or not held.selection.covers(question.selection, question.needs(metrics)):
            return None
        name = kpi.name if kpi else ""
        if name not in self._facts:
            known = held if kpi is None else replace(held, as_of=question.as_of)
            self._facts[name] = self._named(known.facts(kpi, DERIVED), f"facts{len(self._facts)}", known.window, keep=True)
        return self._facts[name]

    def _keep(self, name: str, sql: str) -> str:
        self._connection.execute(f'CREATE OR REPLACE TEMP TABLE "{name}" AS {sql}')
        return f'SELECT * FROM temp."{name}"'

    def apps(self) -> tuple[str, ...]:
        """The applications in the log, by name."""
        if self.snapshot == EMPTY:
            return ()
        if not self.is_newest:
            return tuple(row["app"] for row in self.rows(f"SELECT DISTINCT app FROM {at_snapshot('requests', self.snapshot)} ORDER BY app"))
        summed = self.rows(f"SELECT DISTINCT app FROM {at_snapshot('requests_daily', self.snapshot)}")
        return tuple(sorted({row["app"] for row in summed} | set(self._unsummed_hours["app"])))

    def bundles(self, app: str) -> tuple[str, ...]:
        """The bundles that answered requests of the app, oldest first."""
        sql = f"""SELECT bundle FROM "requests" WHERE app = {_text(app)} AND bundle IS NOT NULL AND arm IS DISTINCT FROM 'shadow'
                  GROUP BY bundle ORDER BY min(ts_start), bundle"""
        return tuple(row["bundle"] for row in self.rows(sql))

    def score_sources(self, app: str, bundle: str) -> dict[str, int]:
        """How many scores the bundle's requests have, by source."""
        sql = f"""SELECT s.source, count(*) AS n FROM "scores" AS s SEMI JOIN "requests" AS r
                  ON s.app = r.app AND s.request_id = r.request_id AND r.app = {_text(app)} AND r.bundle = {_text(bundle)}
                  WHERE s.source IS NOT NULL GROUP BY s.source ORDER BY s.source"""
        return {row["source"]: row["n"] for row in self.rows(sql)}

    def candidate_units(self, app: str, release_id: str, arm: str = "candidate") -> int:
        """How many different units the candidate of a release has served, or answered in another arm."""
        sql = f"""SELECT count(DISTINCT unit_hash) AS n FROM "requests"
                  WHERE app = {_text(app)} AND release_id = {_text(release_id)} AND arm = {_text(arm)}"""
        return int(self.rows(sql)[0]["n"])

    def units_per_day(self, app: str, *, until: datetime) -> float | None:
        """How many different units come to the app in a day, on the mean of `PACE`; None where the log knows less than a day of it."""
        since = until - PACE
        days = f"""SELECT count(DISTINCT unit_hash) AS n, epoch_us(min(ts_start)) AS first_us FROM "requests"
                   WHERE app = {_text(app)} AND unit_hash IS NOT NULL AND ts_start > {timestamp(since)} AND ts_start <= {timestamp(until)}
                   GROUP BY CAST({utc_sql("ts_start")} AS DATE)"""
        of_days = f"SELECT sum(n)::BIGINT AS n, min(first_us) AS first_us FROM ({days}) AS days"
        (row,) = self.rows(of_days, {REQUESTS.get_name(): self._requests_about(Window(start=since, until=until))})
        if row["n"] is None:
            return 0.0 if app in self.apps() else None
        lasted = until - max(since, instant(row["first_us"]) or since)
        return float(row["n"] / (lasted / _DAY)) if lasted >= _DAY else None

    def summed_rows(self, window: Window, apps: Sequence[str]) -> int:
        """How many requests the daily sums count that hold for the window's days; some of the first and the last day lie outside of it."""
        where = " AND ".join((_of_apps(apps), f"NOT {is_noted_day(self.snapshot)}", *_days(window)))
        (row,) = self.rows(f"SELECT coalesce(sum(n), 0)::BIGINT AS n FROM {at_snapshot('requests_daily', self.snapshot)} WHERE {where}")
        return int(row["n"])

    def has_older_sums(self, window: Window, apps: Sequence[str]) -> bool:
        """Whether there are sums of days in the window whose requests were taken out because of their age."""
        sums, retained = (at_snapshot(table, self.snapshot) for table in ("requests_daily", "retained"))
        where = " AND ".join((_of_apps(apps), *_days(window)))
        kept = f"SELECT app, max(since) AS since FROM {retained} GROUP BY app"
        return bool(
            self.rows(
                f"SELECT 1 AS found FROM (SELECT app, day FROM {sums} WHERE {where}) JOIN ({kept}) USING (app) WHERE day < since LIMIT 1"
            )
        )

    def roll_up(self, question: Question) -> None:
        """Hold the sums that answer the question; those that are not stored are made of its requests."""
        sql, apps = _statements(question), apps_of(question.filters)
        by_hour = question.grain is not None and GRAINS[question.grain] < GRAINS["1d"]
        covered = cover(question.window, self._unsummed(question.window, apps), by_hour=by_hour)
        parts = [with_tables(sql.chosen, {ROLLED: stored_sql(covered, self.snapshot)})]
        if fresh := fresh_sql(covered, _of_apps(apps), self.snapshot):
            parts.append(self._keep("fresh_sums", with_tables(sql.chosen, {ROLLED: fresh})))
        self._tables[CHOSEN] = " UNION ALL ".join(parts)
        self._rolled = {key_of(row, question.keys): row for row in self.rows(sql.totals) if row["rows"]}

    @cached_property
    def _unsummed_hours(self) -> pl.DataFrame:
        """The hours that are not summed: `app hour n`."""
        noted = at_snapshot("unsummed_hours", self.snapshot)
        return self._connection.execute(f"SELECT app, {utc_sql('hour')} AS hour, sum(n)::BIGINT AS n FROM {noted} GROUP BY ALL").pl()

    def _unsummed(self, window: Window, apps: Sequence[str]) -> list[Unsummed]:
        """The days in the window with hours that are not summed."""
        hour, wanted = pl.col("hour"), [pl.col("app").is_in(apps)] if apps else []
        ends = ((operator.ge, window.start), (operator.le, window.until))
        wanted += [lies(hour, hour_start(at).replace(tzinfo=None)) for lies, at in ends if at is not None]
        days = self._unsummed_hours.filter(*wanted).group_by("app", day=hour.dt.date()).agg(pl.col("n").sum()).sort("day", "app")
        return [Unsummed(**row) for row in days.iter_rows(named=True)]

    def rolled_sums(self, question: Question) -> dict[Key, Sums]:
        """As `sums`, for the metrics of the question whose sums are held; a quantile's value stands for its bucket."""
        keys, found = question.keys, {key: dict(sums) for key, sums in self._rolled.items()}
        for numbers, sql in _statements(question).counted:
            counted = self._connection.execute(with_tables(sql, self._tables)).pl()
            quantiles = [question.metrics[number].q or 0 for number in numbers]
            for row in ranked(counted, quantiles, keys).iter_rows(named=True):
                values = {f"y{number}": bucket_ms(row[f"bucket{place}"]) for place, number in enumerate(numbers)}
                found[key_of(row, keys)].update(values | {f"{letter}{number}": row["n"] for number in numbers for letter in "xk"})
        return found

    def decided_by_scores(self, question: Question) -> bool:
        """Whether a score may decide the success of a request whose sums are held: its workflow has no rule, and there is such a score."""
        if not any(sums.get("unruled") for sums in self._rolled.values()):
            return False
        return bool(
            self.rows(
                f"SELECT 1 AS found FROM {at_snapshot('scores', self.snapshot)} "
                f"WHERE name = {_text(DEFAULT_SCORE)} AND {_of_apps(apps_of(question.filters))} LIMIT 1"
            )
        )

    def row_set(self, rows: Rows, ranks: Sequence[int] = ()) -> tuple[RowSet, dict[str, Seen]]:
        """The rows that carry the first metric's number; and bundle to when its own happened, with its newest units at these ranks."""
        found = self.rows(row_set_sql(rows.table, ranks))
        return row_set(found), {part["side"]: _seen(part, ranks) for part in found}

    def units(self, rows: Rows, sides: tuple[str, str]) -> list[UnitPair]:
        """What each unit contributed to the first metric of the two bundles, candidate first; in no particular order."""
        return [_pair(row) for row in self.rows(to_sql(units(rows.table, sides)))]


def _seen(part: Mapping[str, Any], ranks: Sequence[int]) -> Seen:
    newest = {rank: at for rank in ranks if (at := instant(part[f"at{rank}"])) is not None}
    return Seen(first=instant(part["first_us"]), last=instant(part["last_us"]), units=part["units"], newest=newest)


def _pair(row: Mapping[str, Any]) -> UnitPair:
    return UnitPair(
        has_unit=row["has_unit"],
        rows=(int(row["rows0"]), int(row["rows1"])),
        y=(float(row["y0"] or 0), float(row["y1"] or 0)),
        x=(float(row["x0"] or 0), float(row["x1"] or 0)),
        k=(int(row["k0"] or 0), int(row["k1"] or 0)),
    )


def _statements(question: Question) -> Statements:
    rules = question.definitions.rules if "success" in needs_of(question.metrics) else SuccessRules()
    return statements(question.metrics, question.dims, question.grain, question.filters, rules)


def _days(window: Window) -> list[str]:
    """The conditions that a day has a part in the window."""
    return [f"day {sign} DATE '{at.astimezone(UTC).date()}'" for sign, at in ((">=", window.start), ("<=", window.until)) if at is not None]


def _of_apps(apps: Sequence[str]) -> str:
    """The condition that a row is of one of these apps, of any where none is named."""
    return f"app IN ({_texts(apps)})" if apps else "true"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _texts(values: Sequence[str]) -> str:
    return ", ".join(_text(value) for value in values) or "NULL"
