"""From facts to sums: the Ibis expressions that a metric query runs, and their SQL. Pure; `metrics.py` executes them.

Columns are numbered by metric: `y0 x0 k0` are the contributions of the first metric, and so on. Sums are exact or
taken over sorted values, so that the same rows give the same digits in any order and on any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, reduce
from operator import or_

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from workbench.observability.dimensions import TIME, bucket
from workbench.observability.metric import Kind, Metric
from workbench.observability.tables import IMPLAUSIBLE
from workbench.observability.unbound import sorted_sum

DIALECT = "duckdb"
DIVIDED = frozenset({Kind.RATE, Kind.MEAN, Kind.RATIO})
"""Kinds whose number is Σy / Σx, with an interval from the residuals of clusters."""


IDENTITY = ("row_app", "row_revision", "row_bundle", "row_ts_start", "row_id")
"""The columns of `contributions` that say which row it is; sums alone do without them."""


def contributions(facts: ir.Table, metrics: Sequence[Metric], dims: Sequence[str], grain: str | None) -> ir.Table:
    """What each row of the facts adds to each metric, beside the keys to group by and the row's identity."""
    columns: dict[str, ir.Value] = {name: facts[name] for name in dims}
    if grain is not None:
        columns[TIME] = bucket(facts, grain)
    columns |= {f"row_{name}": facts[name] for name in ("app", "revision", "bundle", "ts_start")}
    columns |= {"row_id": facts.row_id, "cluster": facts.cluster, "has_unit": facts.unit_hash.notnull()}
    for number, metric in enumerate(metrics):
        columns |= {f"y{number}": metric.y(facts), f"x{number}": metric.x(facts), f"k{number}": metric.k(facts)}
        if metric.eligible is not None and metric.measured is not None:
            columns |= {f"eligible{number}": metric.eligible(facts), f"measured{number}": metric.measured(facts)}
        if metric.weight is not None and not metric.is_weighted:
            columns[f"w{number}"] = metric.weight(facts)
    return facts.select(**columns)


def sampled(rows: ir.Table, metrics: Sequence[Metric]) -> ir.Table | None:
    """One row: `sampled0` …, whether some observation of the metric comes from a sampled score; None where none could."""
    numbers = [number for number in range(len(metrics)) if f"w{number}" in rows.columns]
    found = {f"sampled{n}": (rows[f"w{n}"].max(where=rows[f"k{n}"] > 0) > 1).fill_null(False) for n in numbers}  # noqa: FBT003
    return rows.aggregate(**found) if found else None


def exact_sum(column: ir.Value, *, where: ir.Value | None = None) -> ir.Value:
    """The sum of the known values; whole numbers and decimals exactly, floats in sorted order. Null when none is known.

    Of texts how many different ones there are.
    """
    if column.type().is_string():
        return column.nunique(where=where)
    if column.type().is_floating():
        return sorted_sum(column, where=where)
    if column.type().is_integer():
        return column.sum(where=where).cast("decimal(38, 0)")
    return column.sum(where=where)


def quantiles_of(metrics: Sequence[Metric]) -> dict[str | int, list[int]]:
    """Column to the numbers of the metrics that are quantiles of it: found one by one, its values are held as many times.

    One that is of no column of requests stands alone, under its number.
    """
    numbers: dict[str | int, list[int]] = {}
    for number, metric in enumerate(metrics):
        if metric.kind is Kind.QUANTILE:
            numbers.setdefault(metric.column or number, []).append(number)
    return numbers


def _sums(table: ir.Table, number: int, metric: Metric) -> dict[str, ir.Value]:
    y, x, k = (table[f"{letter}{number}"] for letter in "yxk")
    sums = {} if metric.kind is Kind.QUANTILE else {f"y{number}": exact_sum(y)}
    sums |= {f"x{number}": exact_sum(x), f"k{number}": exact_sum(k)}
    if (bad := _bad(metric, y, x)) is not None:
        sums[f"bad{number}"] = bad.sum()
    if metric.eligible is not None:
        sums |= {f"{name}{number}": exact_sum(table[f"{name}{number}"]) for name in ("eligible", "measured")}
    return sums


def _bad(metric: Metric, y: ir.Value, x: ir.Value) -> ir.Value | None:
    """Whether a row says what cannot be: a part larger than its whole, a negative count, a value that is no number."""
    faults = [(y > x) | (y < 0)] if metric.kind is Kind.RATE else []
    faults += [column.isnan() | (column.abs() > IMPLAUSIBLE) for column in (y, x) if column.type().is_floating()]
    return reduce(or_, faults).fill_null(False) if faults else None  # noqa: FBT003 - the value, not a flag


def totals(rows: ir.Table, metrics: Sequence[Metric], keys: Sequence[str]) -> ir.Table:
    """One row per group: the sums of each metric's contributions (y of a quantile is the quantile), and `rows`."""
    aggregates: dict[str, ir.Value] = {"rows": rows.count()}
    for number, metric in enumerate(metrics):
        aggregates |= _sums(rows, number, metric)
    alike = quantiles_of(metrics).values()
    for numbers in alike:
        aggregates[f"quantiles{numbers[0]}"] = rows[f"y{numbers[0]}"].quantile([metrics[number].q for number in numbers])
    table = rows.aggregate(by=list(keys), **aggregates)
    found = {f"y{number}": table[f"quantiles{numbers[0]}"][place] for numbers in alike for place, number in enumerate(numbers)}
    return table.select(*(name for name in table.columns if not name.startswith("quantiles")), **found) if alike else table


def cluster_sums(rows: ir.Table, metrics: Sequence[Metric], keys: Sequence[str]) -> ir.Table:
    """One row per group, over the clusters that hold observations: `groups0` of them, `named0` units, `spread0` and `squares0`.

    The spread is the sum of the squared weights, which are x of a rate, mean or ratio, else k. The squares are those of the
    residuals, for rates, means and ratios only.
    """
    numbers = range(len(metrics))
    letters = [f"{letter}{number}" for number in numbers for letter in "yxk"]
    sums = {name: exact_sum(rows[name]).fill_null(0) for name in letters}
    per = rows.aggregate(by=[*keys, "cluster"], named=rows.has_unit.any(), **sums)
    group = ibis.window(group_by=list(keys)) if keys else ibis.window()
    divided = [number for number in numbers if metrics[number].kind in DIVIDED]
    squares = {}  # in one step: a select within a select for each metric is more than an engine plans in a minute
    for number in divided:
        y, x = per[f"y{number}"].cast("float64"), per[f"x{number}"].cast("float64")
        ratio = per[f"y{number}"].sum().over(group).cast("float64") / per[f"x{number}"].sum().over(group).cast("float64").nullif(0)
        squares[f"square{number}"] = (y - ratio * x) * (y - ratio * x)
    per = per.mutate(**squares) if squares else per
    aggregates: dict[str, ir.Value] = {}
    for number in numbers:
        counted, weight = per[f"k{number}"] > 0, per[f"{'x' if number in divided else 'k'}{number}"].cast("float64")
        aggregates[f"groups{number}"] = counted.sum().cast("int64")
        aggregates[f"named{number}"] = (counted & per.named).sum().cast("int64")
        aggregates[f"spread{number}"] = sorted_sum(weight * weight, where=counted)
        if number in divided:
            aggregates[f"squares{number}"] = sorted_sum(per[f"square{number}"], where=counted)
    return per.aggregate(by=list(keys), **aggregates)


def order_statistics(rows: ir.Table, metrics: Sequence[Metric], keys: Sequence[str]) -> ir.Table | None:
    """One row per group: `low0` and `high0`, the observations whose ranks the table `ranks0` (n, spread, low, high) names.

    Groups of the same n differ in how many clusters their observations come from; `spread` is as in `cluster_sums`.
    """
    alike = quantiles_of(metrics).values()
    if not alike:
        return None
    firsts = {number: numbers[0] for numbers in alike for number in numbers}
    cluster = ibis.window(group_by=[*keys, "cluster"])
    rows = rows.mutate(**{f"size{n}": rows[f"k{n}"].sum().over(cluster) for n, *_ in alike})
    aggregates: dict[str, ir.Value] = {}
    for n, *_ in alike:
        known = rows[f"y{n}"].notnull()
        aggregates[f"sorted{n}"] = rows[f"y{n}"].collect().sort()
        aggregates |= {f"n{n}": known.sum(), f"spread{n}": rows[f"size{n}"].sum(where=known).cast("int64")}
    table = rows.aggregate(by=list(keys), **aggregates)
    joined = table
    for n, first in firsts.items():  # one chain of joins: a select around each would have an engine plan for minutes
        ranks = ibis.table({"n": "int64", "spread": "int64", "low": "int32", "high": "int32"}, name=f"ranks{n}")
        renamed = ranks.rename({f"rank_{name}{n}": name for name in ranks.columns})
        joined = joined.left_join(renamed, [table[f"{name}{first}"] == renamed[f"rank_{name}{n}"] for name in ("n", "spread")])
    ends = {f"{end}{n}": _at(joined[f"sorted{first}"], joined[f"rank_{end}{n}"]) for n, first in firsts.items() for end in ("low", "high")}
    return joined.select(*keys, **ends)


def _at(array: ir.Value, rank: ir.Value) -> ir.Value:
    """The element of that rank, counted from 1; null where there is no rank, which Spark 4.0 would answer with 0.0."""
    return ibis.ifelse(rank.notnull(), array[rank - 1], ibis.null(array.type().value_type))  # Ibis counts from 0


def ranks_sql(ranks: Mapping[tuple[int, int], tuple[int | None, int | None]]) -> str:
    """The table `ranks…` as a query: sample size and spread to the ranks of the two observations."""
    types = {"n": "BIGINT", "spread": "BIGINT", "low": "INTEGER", "high": "INTEGER"}
    rows = ", ".join(f"({n}, {spread}, {_sql(low)}, {_sql(high)})" for (n, spread), (low, high) in sorted(ranks.items()))
    columns = ", ".join(f"CAST({name} AS {type_}) AS {name}" for name, type_ in types.items())
    return f"SELECT {columns} FROM (VALUES {rows or '(0, 0, NULL, NULL)'}) AS v({', '.join(types)})"


def _sql(number: int | None) -> str:
    return "NULL" if number is None else str(int(number))


def row_set_sql(rows: ir.Table, ranks: Sequence[int] = ()) -> str:
    """A query for (side, n, low half, high half, units, first, last, at1 …) of the rows that carry the first metric's number, by bundle.

    The halves are sums of the halves of each row's MD5, so their order does not matter and a repeated row counts. `at5` is when
    the unit of rank 5 was last observed, newest first; the oldest unit's time where there are fewer. A unit counts once, however
    often it was observed.
    """
    counted = rows.filter(rows.k0 > 0)
    judged = ("row_app", "row_bundle", "row_id", "row_revision", "y0", "x0", "k0")
    parts = ", ".join(f"coalesce(CAST({name} AS VARCHAR), chr(30))" for name in judged)
    content = f"SELECT row_bundle, cluster, row_ts_start, concat_ws(chr(31), {parts}) AS content FROM ({{}}) AS judged"
    by_unit = (
        "SELECT row_bundle AS side, cluster, count(*) AS n, sum(md5_number_lower(content)) AS low, sum(md5_number_upper(content)) AS high, "
        f"epoch_us(min(row_ts_start)) AS first_us, epoch_us(max(row_ts_start)) AS last_us "
        f"FROM ({content.format(to_sql(counted.select(*judged, 'cluster', 'row_ts_start')))}) AS digested GROUP BY row_bundle, cluster"
    )
    newest = "".join(f", list(last_us ORDER BY last_us DESC)[least({int(rank)}, count(*))] AS at{int(rank)}" for rank in ranks)
    return (
        "SELECT side, sum(n)::BIGINT AS n, sum(low)::VARCHAR AS low_half, sum(high)::VARCHAR AS high_half, count(*) AS units, "
        f"min(first_us) AS first_us, max(last_us) AS last_us{newest} FROM ({by_unit}) AS by_unit GROUP BY side"
    )


def units(rows: ir.Table, sides: Sequence[str]) -> ir.Table:
    """One row per unit (else request): whether a unit was known, and for each bundle its rows and sums: `rows0 y0 x0 k0 rows1 …`."""
    aggregates: dict[str, ir.Value] = {"has_unit": rows.has_unit.any()}
    for number, side in enumerate(sides):
        its = rows.row_bundle == side
        aggregates[f"rows{number}"] = its.sum()
        aggregates |= {f"{letter}{number}": exact_sum(rows[f"{letter}0"], where=its) for letter in "yxk"}
    return rows.aggregate(by=["cluster"], **aggregates)


def to_sql(expression: ir.Table, dialect: str = DIALECT) -> str:
    """The SQL of an expression over the unbound tables, as an engine speaks it."""
    return _compiled(expression.op(), dialect)


@lru_cache(maxsize=1024)
def _compiled(node: ops.Node, dialect: str) -> str:
    """Metrics of one kind ask the same of their rows, so that most expressions come again."""
    return str(ibis.to_sql(node.to_expr(), dialect=dialect))


def with_tables(sql: str, tables: Mapping[str, str], quote: str = '"') -> str:
    """The query with its table names, which stand in quotes, bound to queries."""
    quoted = {f"{quote}{name}{quote}": query for name, query in tables.items()}
    used = [f"{name} AS ({query})" for name, query in quoted.items() if name in sql]
    return f"WITH {', '.join(used)} SELECT * FROM ({sql}) AS answer" if used else sql
