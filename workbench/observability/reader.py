"""One look at the lake: runs the expressions of a question at one snapshot and hands back plain sums by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir

from workbench.observability.asking import Question
from workbench.observability.catalogue import Kind, Metric
from workbench.observability.comparison import UnitPair
from workbench.observability.evidence import instant, row_set
from workbench.observability.facts import source_sql
from workbench.observability.model import RowSet, Window
from workbench.observability.query import (
    cluster_sums,
    order_statistics,
    ranks_sql,
    row_set_sql,
    spans_sql,
    to_sql,
    totals,
    units,
    with_tables,
)
from workbench.stats.cluster import effective_size
from workbench.stats.quantile import Ranks, clustered_ranks

EMPTY = 0
"""Snapshot number of a lake to which nothing was ever written."""
Key = tuple[Any, ...]
Sums = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the rows of a question add to some metrics, ready to be summed."""

    table: ir.Table
    """Unbound; its name is known to the reader."""
    metrics: tuple[Metric, ...]


class Reader:
    """A cursor in a read transaction, and the snapshot that it looks at."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, snapshot: int) -> None:
        self.snapshot = snapshot
        self._connection = connection
        self._tables = source_sql(None if snapshot == EMPTY else snapshot)
        if snapshot == EMPTY:
            self._tables = {name: f"SELECT * FROM ({sql}) AS nothing LIMIT 0" for name, sql in self._tables.items()}

    def rows(self, sql: str, more: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """The answer to a query over the log tables, as one mapping per row."""
        cursor = self._connection.execute(with_tables(sql, {**self._tables, **(more or {})}))
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def contributions(self, question: Question, metrics: Sequence[Metric], *, keep: bool) -> Rows:
        """What the question's rows add to the metrics.

        Args:
            question: which rows.
            metrics: requests' metrics, or one KPI.
            keep: whether to hold the rows in a temporary table, because more than one query will read them.
        """
        expression = question.rows(metrics)
        name, sql = f"rows{len(self._tables)}", with_tables(to_sql(expression), self._tables)
        if keep:
            self._connection.execute(f'CREATE TEMP TABLE "{name}" AS {sql}')
            sql = f'SELECT * FROM temp."{name}"'
        self._tables[name] = sql
        return Rows(table=ibis.table(expression.schema(), name=name), metrics=tuple(metrics))

    def apps(self) -> tuple[str, ...]:
        """The applications in the log, by name."""
        return tuple(row["app"] for row in self.rows('SELECT DISTINCT app FROM "requests" ORDER BY app'))

    def bundles(self, app: str) -> tuple[str, ...]:
        """The bundles that answered requests of the app, oldest first."""
        sql = f"""SELECT bundle FROM "requests" WHERE app = {_text(app)} AND bundle IS NOT NULL
                  GROUP BY bundle ORDER BY min(ts_start), bundle"""
        return tuple(row["bundle"] for row in self.rows(sql))

    def score_sources(self, app: str, bundle: str) -> dict[str, int]:
        """How many scores the bundle's requests have, by source."""
        sql = f"""SELECT s.source, count(*) AS n FROM "scores" AS s SEMI JOIN "requests" AS r
                  ON s.app = r.app AND s.request_id = r.request_id AND r.app = {_text(app)} AND r.bundle = {_text(bundle)}
                  WHERE s.source IS NOT NULL GROUP BY s.source ORDER BY s.source"""
        return {row["source"]: row["n"] for row in self.rows(sql)}

    def newest(self, apps: Sequence[str], events: Sequence[str]) -> datetime | None:
        """The newest time that the log shows: of a request of these apps, or of one of these business events."""
        sql = f"""SELECT epoch_us(max(seen)) AS newest FROM (
                  SELECT max(ts_start) AS seen FROM "requests" WHERE app IN ({_texts(apps)})
                  UNION ALL SELECT max(ts) AS seen FROM "outcomes"
                  WHERE app IN ({_texts(apps)})
                  AND kpi IN ({_texts(events)})) AS both_logs"""
        return instant(self.rows(sql)[0]["newest"])

    def sums(self, rows: Rows, keys: Sequence[str], *, level: float | None) -> dict[Key, Sums]:
        """Group to sums (`y0 x0 k0 …`), with what an interval of this level takes; None leaves that out.

        A group is the values of the key columns. Groups without rows are absent.
        """
        table, metrics = rows.table, rows.metrics
        found = {_key(row, keys): row for row in self.rows(to_sql(totals(table, metrics, keys))) if row["rows"]}
        if level is None or not found or not metrics:
            return found
        self._add(found, keys, cluster_sums(table, metrics, keys))
        self._add(found, keys, order_statistics(table, metrics, keys), _ranks(found.values(), metrics, level))
        return found

    def _add(self, found: dict[Key, Sums], keys: Sequence[str], more: ir.Table | None, tables: Mapping[str, str] | None = None) -> None:
        for row in self.rows(to_sql(more), tables) if more is not None else ():
            if (group := found.get(_key(row, keys))) is not None:
                group.update(row)

    def row_set(self, rows: Rows) -> RowSet:
        """The rows that carry the first metric's number."""
        (row,) = self.rows(row_set_sql(rows.table))
        return row_set(*row.values())

    def spans(self, rows: Rows) -> dict[str, Window]:
        """Bundle to the first and last time of the rows that carry the first metric's number, both inclusive."""
        found = self.rows(spans_sql(rows.table))
        return {row["side"]: Window(start=instant(row["first_us"]), until=instant(row["last_us"])) for row in found}

    def units(self, rows: Rows, sides: tuple[str, str]) -> list[UnitPair]:
        """What each unit contributed to the first metric of the two bundles, candidate first; in no particular order."""
        found: dict[str, dict[str, Sums]] = {}
        for row in self.rows(to_sql(units(rows.table))):
            found.setdefault(row["cluster"], {})[row["side"]] = row
        return [_pair(by_side, sides) for by_side in found.values()]


def _pair(by_side: Mapping[str, Sums], sides: tuple[str, str]) -> UnitPair:
    first, second = (by_side.get(side, {}) for side in sides)
    return UnitPair(
        has_unit=all(row["has_unit"] for row in by_side.values()),
        rows=(int(first.get("rows", 0)), int(second.get("rows", 0))),
        y=(float(first.get("y") or 0), float(second.get("y") or 0)),
        x=(float(first.get("x") or 0), float(second.get("x") or 0)),
        k=(int(first.get("k") or 0), int(second.get("k") or 0)),
    )


def _ranks(groups: Any, metrics: Sequence[Metric], level: float) -> dict[str, str]:
    """The tables of ranks that `order_statistics` reads, one per quantile metric."""
    tables = {}
    for number, metric in enumerate(metrics):
        if metric.kind is Kind.QUANTILE and metric.q is not None:
            sizes = {(int(group[f"k{number}"]), int(group[f"spread{number}"])) for group in groups if group[f"k{number}"]}
            tables[f"ranks{number}"] = ranks_sql({size: _ranks_of(*size, metric.q, level) for size in sizes})
    return tables


def _ranks_of(n: int, spread: int, q: float, level: float) -> Ranks:
    return clustered_ranks(n, effective_size(n, spread, most=n), q, level=level)


def _key(row: Mapping[str, Any], keys: Sequence[str]) -> Key:
    return tuple(row[name] for name in keys)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _texts(values: Sequence[str]) -> str:
    return ", ".join(_text(value) for value in values) or "NULL"
