"""The steps of requests that the log holds as spans: model calls, tool calls, lookups, findings of guards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_

import ibis
import ibis.expr.types as ir

from workbench.observability.unbound import unbound

SPANS = unbound(
    "spans",
    (
        *("app", "trace_id", "span_id", "request_id", "kind", "name", "status", "error_type", "tool_name", "side_effect"),
        *("retrieval_query", "retrieved", "rule_id", "action", "provider", "model", "batch_id", "seq"),
    ),
)


def newest_spans(spans: ir.Table = SPANS) -> ir.Table:
    """Each span of a request once, as it was logged last; `step` tells the spans of a request apart."""
    of_requests = spans.filter(spans.request_id.notnull())
    of_requests = of_requests.mutate(step=of_requests.trace_id.fill_null("") + "/" + of_requests.span_id)
    window = ibis.window(group_by=["app", "request_id", "step"], order_by=[ibis.desc("batch_id"), ibis.desc("seq")])
    ranked = of_requests.mutate(nth=ibis.row_number().over(window))
    return ranked.filter(ranked.nth == 0).drop("nth")


def steps(wanted: Mapping[str, Sequence[str]], name: str) -> ir.Table:
    """One row per request with spans: under `name`, how many of them have one of the wanted values in each of these columns."""
    spans = newest_spans()
    matches = reduce(and_, (spans[column].isin(values).fill_null(False) for column, values in wanted.items()), ibis.literal(value=True))  # noqa: FBT003
    return spans.mutate(matches=matches.cast("int64")).group_by("app", "request_id").aggregate(**{name: lambda t: t.matches.sum()})
