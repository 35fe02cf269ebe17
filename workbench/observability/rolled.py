"""Metrics over the roll-up: the Ibis expressions and the SQL that answer a question from sums of requests. Pure.

A row of the relation `rolled` stands for `n` requests that are alike in every column of `ROLLUP_KEY`; `start_s` is the start of its hour
or day. What decides success without a score is in the key, so all requests of a row succeeded, or none did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import polars as pl

from workbench.observability.dimensions import TIME, Filters, bucket_number, chosen
from workbench.observability.metric import Kind, Metric, needs_of
from workbench.observability.query import exact_sum, quantiles_of, to_sql
from workbench.observability.rollup import HISTOGRAMS, TOTALS, entries_sql
from workbench.observability.rollup_plan import ROLLED_COLUMNS
from workbench.observability.success import SuccessRules, is_ruled, success
from workbench.observability.tables import HOW_IT_ENDED, REQUESTS_DAILY
from workbench.observability.unbound import IBIS_TYPES

ROLLED, CHOSEN = "rolled", "chosen"
_TYPES = {name: IBIS_TYPES[REQUESTS_DAILY.by_name[name].duckdb_type] for name in ROLLED_COLUMNS}
_ROLLED = ibis.table({"start_s": "int64", **_TYPES}, name=ROLLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """The SQL by which the roll-up answers a question."""

    chosen: str
    """The relation `chosen`, which the others read: the rows of `rolled` that the question is about, in the columns that it needs."""
    totals: str
    """One row per group: `rows` and the sums `y0 x0 k0 bad0 …` of the metrics; a quantile has only its faults. Where success is asked
    for, `unruled` is how many requests are of a workflow without a rule."""
    counted: tuple[tuple[tuple[int, ...], str], ...]
    """For each histogram the numbers of the metrics that are quantiles of it, and one row per group and bucket with its observations."""


@lru_cache(maxsize=256)
def statements(metrics: tuple[Metric, ...], dims: tuple[str, ...], grain: str | None, filters: Filters, rules: SuccessRules) -> Statements:
    """The SQL of the question, which is made once however often it is asked: that takes as long as the answer."""
    rolled = _rolled(grain, filters)
    if "success" in needs_of(metrics):
        rolled = rolled.mutate(success=_success(rolled, rules), unruled=ibis.ifelse(is_ruled(rolled, rules), 0, rolled.n))
    keys = [*dims, TIME] if grain else list(dims)
    totals = _totals(ibis.table(rolled.schema(), name=CHOSEN), metrics, keys)
    is_by_end = any(name in HOW_IT_ENDED for name in (*dims, *dict(filters)))
    counted, histograms = [], set()
    for column, numbers in quantiles_of(metrics).items():
        own = HISTOGRAMS[str(column)]
        histogram = own if is_by_end else TOTALS[own]
        histograms.add(histogram)
        counted.append((tuple(numbers), _counted_sql(histogram, keys)))
    read = {field.name for field in totals.op().find(ops.Field)} & set(rolled.columns)
    chosen = rolled.select(*sorted(read | histograms))
    return Statements(chosen=to_sql(chosen), totals=to_sql(totals), counted=tuple(counted))


def _rolled(grain: str | None, filters: Filters) -> ir.Table:
    predicates = chosen(_ROLLED, filters)
    sums = _ROLLED.filter(*predicates) if predicates else _ROLLED
    return sums if grain is None else sums.mutate(**{TIME: bucket_number(sums.start_s, grain)})


def _totals(chosen: ir.Table, metrics: Sequence[Metric], keys: Sequence[str]) -> ir.Table:
    counts = {"rows": "n", "unruled": "unruled"}
    aggregates: dict[str, ir.Value] = {name: exact_sum(chosen[column]) for name, column in counts.items() if column in chosen.columns}
    for number, metric in enumerate(metrics):
        rolled = metric.rolled
        if rolled is None:
            raise AssertionError(f"{metric.name} cannot be answered from sums")
        if metric.kind is not Kind.QUANTILE:
            aggregates |= {f"{letter}{number}": exact_sum(getattr(rolled, letter)(chosen)) for letter in "yxk"}
        if rolled.bad is not None:
            aggregates[f"bad{number}"] = exact_sum(rolled.bad(chosen))
    return chosen.aggregate(by=list(keys), **aggregates)


def _counted_sql(histogram: str, keys: Sequence[str]) -> str:
    quoted = ", ".join(f'"{key}"' for key in (*keys, "bucket"))
    entries = entries_sql(f'"{CHOSEN}"', histogram, [f'"{key}"' for key in keys])
    return f"SELECT {quoted}, sum(observations)::BIGINT AS observations FROM ({entries}) AS entries GROUP BY {quoted}"


def ranked(counted: pl.DataFrame, quantiles: Sequence[float], keys: Sequence[str]) -> pl.DataFrame:
    """One row per group of `counted` with observations: `n` of them, and `bucket0 …` that hold the order statistics of these quantiles.

    The order statistic of q is the least observation that a share q of all do not exceed (nearest rank).
    """
    observations = pl.col("observations")
    found = [observations.sum().alias("n")]
    for number, q in enumerate(quantiles):
        share = Fraction(q).limit_denominator(10_000)
        is_reached = observations.cum_sum() * share.denominator >= observations.sum() * share.numerator
        found.append(pl.col("bucket").filter(is_reached).first().alias(f"bucket{number}"))
    rising = counted.sort("bucket")
    groups = rising.group_by(keys, maintain_order=True).agg(found) if keys else rising.select(found)
    return groups.filter(pl.col("n") > 0)


def _success(t: ir.Table, rules: SuccessRules) -> ir.Value:
    """Success of a row's requests, where no score and no event decides it."""

    def unknown(_name: str) -> ir.Value:
        return ibis.null("float64")

    def never(_event: str, _span: object) -> ir.Value:
        return ibis.literal(value=False)

    return success(t, rules, score=unknown, came=never, as_of=None)
