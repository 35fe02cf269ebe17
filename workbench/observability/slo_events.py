"""What counts as a bad event of an objective, and what as one that is not decided; all else is good.

indicator      bad                                          not decided                        left out
success        failure by the workflow's rule               success unknown yet
availability   status error or timeout                      status unknown or absent           cancelled by the client
latency        slower than the limit, or a timeout          status unknown; ok without a time  error, cancelled
ttft           slower than the limit                                                           no time to first token
violations     a rule was broken towards a user or a tool   nobody looked                      blocked
any rate       its bad side                                 rows that should say, and do not
"""

from __future__ import annotations

from datetime import timedelta

import ibis
import ibis.expr.types as ir

from workbench.errors import SpecError
from workbench.observability.catalogue import CATALOGUE
from workbench.observability.metric import Column, Kind, Metric
from workbench.observability.model import Direction
from workbench.spec.faults import suggestion
from workbench.spec.slo import AVAILABILITY, INDICATORS, LATENCY, SUCCESS, TTFT, VIOLATIONS, Objective

_NAMED = {SUCCESS: "failure_rate", VIOLATIONS: "violation_rate"}
"""Indicators that are the bad side of a rate of the catalogue."""
_UNKNOWN, _LEFT, _FAILED, _TIMEOUT = "unknown", "cancelled", "error", "timeout"


def bad_events(objective: Objective) -> Metric:
    """The objective's bad events as a rate among its decided ones; what it should decide and does not is eligible without being measured.

    Raises:
        SpecError: no indicator and no rate has that name.
    """
    indicator = objective.indicator
    if indicator == AVAILABILITY:
        return _share(objective, bad=lambda t: t.status.isin((_FAILED, _TIMEOUT)), of=_is_known, among=lambda t: ~_is(t, _LEFT))
    if indicator in {LATENCY, TTFT} and objective.under is not None:
        return _slow(objective, "latency_ms" if indicator == LATENCY else "ttft_ms", objective.under / timedelta(milliseconds=1))
    return _catalogue_rate(objective, _NAMED.get(indicator, indicator))


def is_bad_side(metric: Metric) -> bool:
    """Whether more of the metric is worse."""
    return metric.direction is not Direction.HIGHER


def _catalogue_rate(objective: Objective, name: str) -> Metric:
    metric = CATALOGUE.get(name)
    if metric is None or metric.kind is not Kind.RATE:
        known = (*INDICATORS, *(each.name for each in CATALOGUE.values() if each.kind is Kind.RATE))
        raise SpecError(
            f"slo.yaml: objective {objective.name}",
            seen=f"no indicator and no rate is called {objective.indicator}{suggestion(objective.indicator, known)}",
        )
    return metric


def _slow(objective: Objective, column: str, limit_ms: float) -> Metric:
    """Requests that took the limit or longer. A failure that came fast is not a quick answer: it is left out, a timeout is slow."""
    if column == "ttft_ms":
        return _share(objective, bad=lambda t: t[column] >= limit_ms, of=lambda t: t[column].notnull(), among=lambda t: t[column].notnull())
    return _share(
        objective,
        bad=lambda t: _is(t, _TIMEOUT) | (t[column] >= limit_ms).fill_null(False),  # noqa: FBT003 - the value, not a flag
        of=lambda t: _is(t, _TIMEOUT) | (_is_known(t) & t[column].notnull()),
        among=lambda t: ~_is(t, _LEFT) & ~_is(t, _FAILED),
    )


def _share(objective: Objective, *, bad: Column, of: Column, among: Column) -> Metric:
    """`bad` among the rows of `among` for which `of` holds; the other rows of `among` are not decided."""

    def decided(t: ir.Table) -> ir.Value:
        return _int(of(t) & among(t))

    return Metric(
        name=objective.name,
        unit="share",
        direction=Direction.LOWER,
        description=f"Bad events of the objective {objective.name}.",
        formula=f"bad events / decided events of {objective.indicator}",
        kind=Kind.RATE,
        y=lambda t: _int(bad(t) & of(t) & among(t)),
        x=decided,
        k=decided,
        eligible=lambda t: _int(among(t)),
        measured=decided,
    )


def _is(t: ir.Table, status: str) -> ir.Value:
    return (t.status == status).fill_null(False)  # noqa: FBT003


def _is_known(t: ir.Table) -> ir.Value:
    return (t.status != _UNKNOWN).fill_null(False)  # noqa: FBT003


def _int(condition: ir.Value) -> ir.Value:
    return ibis.ifelse(condition.fill_null(False), 1, 0).cast("int64")  # noqa: FBT003
