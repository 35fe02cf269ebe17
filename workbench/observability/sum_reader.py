"""One look at the log through any engine: what the rows of a question add to its metrics, and their sums by group.

`reader.py` looks at the lake through DuckDB, `spark.py` at an exported folder through Spark. Both run the same expressions, so that they
find the same numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import ibis
import ibis.expr.types as ir

from workbench.observability.asking import Question
from workbench.observability.evidence import instant
from workbench.observability.facts import ASKED, REQUESTS, newest_seen, sampled_scores
from workbench.observability.metric import Kind, Metric, weighted
from workbench.observability.model import Window
from workbench.observability.query import IDENTITY, cluster_sums, order_statistics, ranks_sql, sampled, to_sql, totals, with_tables
from workbench.stats.cluster import effective_size
from workbench.stats.quantile import Ranks, clustered_ranks

Key = tuple[Any, ...]
Sums = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the rows of a question add to some metrics, ready to be summed."""

    table: ir.Table
    """Unbound; its name is known to the reader."""
    metrics: tuple[Metric, ...]


class SumReader(ABC):
    """What is read alike on every engine; each says how a query runs there, and how rows are kept for the next ones.

    Args:
        tables: name of each table that an expression can name to the query that it stands for.
    """

    dialect: ClassVar[str]
    """As Ibis names it."""
    quote: ClassVar[str]
    """What stands around a name."""
    microseconds: ClassVar[str]
    """The function from a time to microseconds since 1970."""

    def __init__(self, tables: Mapping[str, str]) -> None:
        self._tables = dict(tables)

    @abstractmethod
    def apps(self) -> tuple[str, ...]:
        """The applications in the log, by name."""

    @abstractmethod
    def _answer(self, sql: str) -> list[dict[str, Any]]:
        """What the engine says to a query, as one mapping per row."""

    @abstractmethod
    def _keep(self, name: str, sql: str) -> str:
        """The query of a table of that name in which the engine keeps the rows of this query."""

    def rows(self, sql: str, more: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """The answer to a query over the log tables, and `more` ones, as one mapping per row."""
        return self._answer(with_tables(sql, {**self._tables, **(more or {})}, self.quote))

    def contributions(self, question: Question, metrics: Sequence[Metric], *, keep: bool, is_summed: bool = False, place: int = 0) -> Rows:
        """What the question's rows add to the metrics, which are weighted where their scores are sampled.

        Args:
            question: which rows.
            metrics: requests' metrics, or one KPI.
            keep: whether more than one query will read the rows, so that they are kept; facts that are held are kept already.
            is_summed: whether nothing but their sums is asked for, so that they need no identity.
            place: number of these rows among those that are asked together; it takes the place of the last that had it.
        """
        facts = self._facts_under(question, metrics)
        expression = question.rows(metrics) if facts is None else question.rows_among(facts, metrics)
        expression = expression.drop(*IDENTITY) if is_summed else expression
        table = self._named(expression, f"rows{place}", question.window, keep=keep and facts is None)
        rows = Rows(table=table, metrics=tuple(metrics))
        heavy = self._sampled(rows)
        if not heavy:
            return rows
        chosen = [weighted(metric) if number in heavy else metric for number, metric in enumerate(metrics)]
        return self.contributions(question, chosen, keep=keep, is_summed=is_summed, place=place)

    def _sampled(self, rows: Rows) -> set[int]:
        """Numbers of the metrics with observations from sampled scores whose weights are not in the rows yet."""
        expression = sampled(rows.table, rows.metrics)
        if expression is None or not self._asked(sampled_scores()):
            return set()
        (found,) = self._asked(expression)
        return {number for number in range(len(rows.metrics)) if found.get(f"sampled{number}")}

    def _requests_about(self, _window: Window) -> str:
        """What `ASKED` stands for: all requests, unless the reader can tell which rows a question about the window need not read."""
        return self._tables[REQUESTS.get_name()]

    def _facts_under(self, _question: Question, _metrics: Sequence[Metric]) -> ir.Table | None:
        """The facts under the metrics, where the reader holds them for several questions; None where it does not."""
        return None

    def _named(self, expression: ir.Table, name: str, window: Window, *, keep: bool) -> ir.Table:
        """The expression, about requests of the window, as a table for later queries: unbound, and computed once when it is kept."""
        tables = {**self._tables, ASKED.get_name(): self._requests_about(window)}
        sql = with_tables(to_sql(expression, self.dialect), tables, self.quote)
        self._tables[name] = self._keep(name, sql) if keep else sql
        return ibis.table(expression.schema(), name=name)

    def newest(self, apps: Sequence[str], events: Sequence[str]) -> datetime | None:
        """The newest time that the log shows: of a request of these apps, or of one of these business events."""
        newest = to_sql(newest_seen(apps, events), self.dialect)
        return instant(self.rows(f"SELECT {self.microseconds}(newest) AS newest FROM ({newest}) AS known")[0]["newest"])

    def sums(self, rows: Rows, keys: Sequence[str], *, level: float | None) -> dict[Key, Sums]:
        """Group to sums (`y0 x0 k0 …`), with what an interval of this level takes; None leaves that out.

        A group is the values of the key columns. Groups without rows are absent.
        """
        table, metrics = rows.table, rows.metrics
        found = {key_of(row, keys): row for row in self._asked(totals(table, metrics, keys)) if row["rows"]}
        if level is None or not found or not metrics:
            return found
        self._add(found, keys, cluster_sums(table, metrics, keys))
        self._add(found, keys, order_statistics(table, metrics, keys), _ranks(found.values(), metrics, level))
        return found

    def _add(self, found: dict[Key, Sums], keys: Sequence[str], more: ir.Table | None, tables: Mapping[str, str] | None = None) -> None:
        for row in self._asked(more, tables) if more is not None else ():
            if (group := found.get(key_of(row, keys))) is not None:
                group.update(row)

    def _asked(self, expression: ir.Table, more: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        return self.rows(to_sql(expression, self.dialect), more)


def key_of(row: Mapping[str, Any], keys: Sequence[str]) -> Key:
    """The group that a row of sums is of."""
    return tuple(row[name] for name in keys)


def _ranks(groups: Iterable[Sums], metrics: Sequence[Metric], level: float) -> dict[str, str]:
    """The tables of ranks that `order_statistics` reads, one per quantile metric."""
    tables = {}
    for number, metric in enumerate(metrics):
        if metric.kind is Kind.QUANTILE and metric.q is not None:
            sizes = {(int(group[f"k{number}"]), int(group[f"spread{number}"])) for group in groups if group[f"k{number}"]}
            tables[f"ranks{number}"] = ranks_sql({size: _ranks_of(*size, metric.q, level) for size in sizes})
    return tables


def _ranks_of(n: int, spread: int, q: float, level: float) -> Ranks:
    return clustered_ranks(n, effective_size(n, spread, most=n), q, level=level)
