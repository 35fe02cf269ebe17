"""Metrics over the roll-up: the Ibis expressions and the SQL that answer a question from sums of requests. Pure.

A row of the relation `rolled` stands for `n` requests that are alike in every column of `ROLLUP_KEY`; `start_s` is the start of its hour
or day. What decides success without a score is in the key, so all requests of a row succeeded, or none did.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import ibis
import ibis.expr.types as ir

from workbench.observability.dimensions import TIME, Filters, bucket_number, chosen
from workbench.observability.metric import Kind, Metric
from workbench.observability.query import exact_sum, to_sql
from workbench.observability.rollup import HISTOGRAMS, TOTALS, entries_sql
from workbench.observability.rollup_plan import ROLLED_COLUMNS
from workbench.observability.success import SuccessRules, success
from workbench.observability.tables import HOW_IT_ENDED, REQUESTS_DAILY
from workbench.observability.unbound import IBIS_TYPES

NAME = "rolled"
_TYPES = {name: IBIS_TYPES[REQUESTS_DAILY.by_name[name].duckdb_type] for name in ROLLED_COLUMNS}
ROLLED = ibis.table({"start_s": "int64", **_TYPES}, name=NAME)


def rolled_sums(metrics: Sequence[Metric], dims: Sequence[str], grain: str | None, filters: Filters, rules: SuccessRules) -> ir.Table:
    """One row per group: `rows` and the sums `y0 x0 k0 bad0 …` of the metrics; a quantile has only its faults."""
    chosen = _chosen(grain, filters)
    if any("success" in metric.needs for metric in metrics):
        chosen = chosen.mutate(success=_success(chosen, rules))
    aggregates: dict[str, ir.Value] = {"rows": exact_sum(chosen.n)}
    for number, metric in enumerate(metrics):
        rolled = metric.rolled
        if rolled is None:
            raise AssertionError(f"{metric.name} cannot be answered from sums")
        if metric.kind is not Kind.QUANTILE:
            aggregates |= {f"{letter}{number}": exact_sum(getattr(rolled, letter)(chosen)) for letter in "yxk"}
        if rolled.bad is not None:
            aggregates[f"bad{number}"] = exact_sum(rolled.bad(chosen))
    return chosen.aggregate(by=_keys(dims, grain), **aggregates)


def ranked_sql(column: str, quantiles: Sequence[float], dims: Sequence[str], grain: str | None, filters: Filters) -> str:
    """One row per group with observations: `n` of them, and `bucket0 …` that hold the order statistics of these quantiles.

    The order statistic of q is the least observation that a share q of all do not exceed (nearest rank).
    """
    keys = _keys(dims, grain)
    is_by_end = any(name in HOW_IT_ENDED for name in (*dims, *dict(filters)))
    histogram = HISTOGRAMS[column] if is_by_end else TOTALS[HISTOGRAMS[column]]
    chosen = to_sql(_chosen(grain, filters).select(*keys, histogram))
    quoted = [f'"{key}"' for key in keys]
    by = f"GROUP BY {', '.join(quoted)}" if keys else ""
    within = f"PARTITION BY {', '.join(quoted)}" if keys else ""
    lead = "".join(f"{key}, " for key in quoted)
    counted = (
        f"SELECT {lead}bucket, sum(observations)::BIGINT AS observations "
        f"FROM ({entries_sql(f'({chosen})', histogram, quoted)}) AS entries GROUP BY {lead}bucket"
    )
    ranked = (
        f"SELECT {lead}bucket, sum(observations) OVER ({within} ORDER BY bucket) AS upto, sum(observations) OVER ({within}) AS n "
        f"FROM ({counted}) AS counted"
    )
    found = []
    for number, q in enumerate(quantiles):
        share = Fraction(q).limit_denominator(10_000)
        found.append(f"min(bucket) FILTER (WHERE upto * {share.denominator} >= n * {share.numerator}) AS bucket{number}")
    return f"SELECT {lead}max(n)::BIGINT AS n, {', '.join(found)} FROM ({ranked}) AS ranked {by} HAVING max(n) > 0"


def _chosen(grain: str | None, filters: Filters) -> ir.Table:
    predicates = chosen(ROLLED, filters)
    sums = ROLLED.filter(*predicates) if predicates else ROLLED
    return sums if grain is None else sums.mutate(**{TIME: bucket_number(sums.start_s, grain)})


def _keys(dims: Sequence[str], grain: str | None) -> list[str]:
    return [*dims, TIME] if grain else list(dims)


def _success(t: ir.Table, rules: SuccessRules) -> ir.Value:
    """Success of a row's requests, where no score and no event decides it."""

    def unknown(_name: str) -> ir.Value:
        return ibis.null("float64")

    def never(_event: str, _span: object) -> ir.Value:
        return ibis.literal(value=False)

    return success(t, rules, score=unknown, came=never, as_of=None)
