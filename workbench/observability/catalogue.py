"""The metric catalogue: what can be asked of the log, in which unit, and which way is better.

A metric says what one request contributes to it, as Ibis expressions over the request facts (`facts.py`); how
contributions become a number follows from its kind. `formula` says the same in the words of an analyst.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

import ibis
import ibis.expr.types as ir

from workbench.observability.model import Direction
from workbench.spec.app import Kpi
from workbench.spec.base import format_duration

Column = Callable[[ir.Table], ir.Value]


class Kind(StrEnum):
    """How contributions become a number: y is the numerator or the value, x the denominator."""

    COUNT = "count"
    """Σy, whole."""
    RATE = "rate"
    """Σy / Σx, both counts."""
    QUANTILE = "quantile"
    """The q-quantile of y, linear between neighbours."""
    SUM = "sum"
    """Σy."""
    MEAN = "mean"
    """Σy / Σx, where x is the weight of an observation and y its weighted value."""
    RATIO = "ratio"
    """Σy / Σx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """What a row of the roll-up (`rolled.py`) adds to a metric: as of its requests one by one, summed."""

    y: Column
    x: Column
    k: Column
    bad: Column | None = None
    """How many of its requests say what cannot be."""
    histogram: str | None = None
    """The column of requests whose histogram holds the values of a quantile; then y, x and k come from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One thing that can be asked of the log."""

    name: str
    unit: str
    """ms, share, USD, tokens, requests, score, or a KPI's own."""
    direction: Direction
    description: str
    formula: str
    kind: Kind
    y: Column
    """What one row adds to the numerator, or its value; null where it says nothing."""
    x: Column
    """What one row adds to the denominator."""
    k: Column
    """How many observations the row holds: they sum to `n`, and rows without any are not part of the number."""
    q: float | None = None
    needs: frozenset[str] = frozenset()
    """Columns that the facts derive only on demand: `success`, `quality`, `retrieval_hit`."""
    eligible: Column | None = None
    """1 for a row that should hold an observation, else 0; None when every row does, or when nobody can say."""
    measured: Column | None = None
    """For how many eligible rows the row stands: 1 where it holds an observation. A sampled score stands for more than its own."""
    weight: Column | None = None
    """How many requests the row's observation stands for, where it comes from a score that may be sampled."""
    is_weighted: bool = False
    """Whether the weights are in the contributions."""
    within: tuple[float, float] | None = None
    """The range of a single observation, where it is known."""
    kpi: Kpi | None = None
    """Set for a KPI, which is counted in sessions or outcomes instead of requests."""
    rolled: Rolled | None = None
    """How hourly and daily sums answer the metric; None where only the requests themselves can."""


def _one(_: ir.Table) -> ir.Value:
    return ibis.literal(1, type="int64")


def _int(condition: ir.Value) -> ir.Value:
    """1 where the condition holds, else 0; unknown is 0."""
    return condition.fill_null(False).cast("int64")  # noqa: FBT003 - the value, not a flag


def _rate(
    name: str,
    direction: Direction,
    description: str,
    formula: str,
    *,
    share: Callable[[ir.Table], ir.Value],
    of: Callable[[ir.Table], ir.Value],
    eligible: Column | None = None,
    needs: frozenset[str] = frozenset(),
    weight: Column | None = None,
    rolled: tuple[Column, Column] | None = None,
) -> Metric:
    """The share of requests with `share` among those with `of`; `eligible` (default all) are those that should be among them.

    `rolled` is the number of both in a row of the roll-up.
    """
    return Metric(
        name=name,
        unit="share",
        direction=direction,
        description=description,
        formula=formula,
        kind=Kind.RATE,
        y=lambda t: _int(share(t) & of(t)),
        x=lambda t: _int(of(t)),
        k=lambda t: _int(of(t)),
        eligible=eligible or _one,
        measured=lambda t: _int(of(t)),
        needs=needs,
        weight=weight,
        rolled=None if rolled is None else Rolled(y=rolled[0], x=rolled[1], k=rolled[1]),
    )


def _quantile(name: str, column: str, q: float, what: str) -> Metric:
    return Metric(
        name=name,
        unit="ms",
        direction=Direction.LOWER,
        description=f"{what} that {q:.0%} of requests do not exceed.",
        formula=f"{q:g}-quantile of {column}, linear between neighbours, over requests that report it",
        kind=Kind.QUANTILE,
        y=lambda t: t[column].cast("float64"),
        x=lambda t: _int(t[column].notnull()),
        k=lambda t: _int(t[column].notnull()),
        eligible=_one,
        measured=lambda t: _int(t[column].notnull()),
        q=q,
        rolled=Rolled(y=_n, x=_n, k=_n, bad=lambda t: t[f"n_bad_{column.removesuffix('_ms')}"], histogram=column),
    )


def _sum(name: str, unit: str, description: str, *, n: str | None = None) -> Metric:
    """The sum of a column; `n` names the roll-up's count of the requests that report it."""
    return Metric(
        name=name,
        unit=unit,
        direction=Direction.LOWER,
        description=description,
        formula=f"sum of {name} over requests that report it; n says how many do, none at all is no data",
        kind=Kind.SUM,
        y=lambda t: t[name],
        x=lambda t: _int(t[name].notnull()),
        k=lambda t: _int(t[name].notnull()),
        eligible=_one,
        measured=lambda t: _int(t[name].notnull()),
        rolled=Rolled(y=lambda t: t[f"{name}_sum"], x=lambda t: t[n or f"{name}_n"], k=lambda t: t[n or f"{name}_n"]),
    )


def _violated(t: ir.Table) -> ir.Value:
    return (t.violation_rules.length() > 0).fill_null(False)  # noqa: FBT003


def _blocked(t: ir.Table) -> ir.Value:
    return ((t.status == "blocked") | (t.blocked_rules.length() > 0)).fill_null(False)  # noqa: FBT003


def _success_weight(t: ir.Table) -> ir.Value:
    return t.success_weight


def _n(t: ir.Table) -> ir.Value:
    """All requests of a row of the roll-up."""
    return t.n


def _n_where(condition: Column, of: str = "n") -> Column:
    """Those requests of a row of the roll-up, if its key satisfies the condition."""
    return lambda t: ibis.ifelse(condition(t).fill_null(False), t[of], 0)  # noqa: FBT003


_SUCCESS = frozenset({"success"})
_WEIGHED = "; what a sampled score says counts 1 / sample_probability times"
_METRICS = (
    Metric(
        name="volume",
        unit="requests",
        direction=Direction.NEITHER,
        description="How many requests there were.",
        formula="count of requests",
        kind=Kind.COUNT,
        y=_one,
        x=_one,
        k=_one,
        eligible=_one,
        measured=_one,
        rolled=Rolled(y=_n, x=_n, k=_n),
    ),
    _rate(
        "success_rate",
        Direction.HIGHER,
        "Share of decided requests that did what the person came for.",
        f"requests with success / requests with success or failure; undecided ones are left out{_WEIGHED}",
        share=lambda t: t.success,
        of=lambda t: t.success.notnull(),
        needs=_SUCCESS,
        weight=_success_weight,
        rolled=(_n_where(lambda t: t.success), _n_where(lambda t: t.success.notnull())),
    ),
    _rate(
        "failure_rate",
        Direction.LOWER,
        "Share of decided requests that did not do what the person came for.",
        f"requests with failure / requests with success or failure; undecided ones are left out{_WEIGHED}",
        share=lambda t: ~t.success,
        of=lambda t: t.success.notnull(),
        needs=_SUCCESS,
        weight=_success_weight,
        rolled=(_n_where(lambda t: ~t.success), _n_where(lambda t: t.success.notnull())),
    ),
    _rate(
        "undecided_rate",
        Direction.LOWER,
        "Share of requests of which nobody knows yet whether they succeeded.",
        "requests without a decided success / requests",
        share=lambda t: t.success.isnull(),
        of=lambda t: t.request_id.notnull(),
        needs=_SUCCESS,
        rolled=(_n_where(lambda t: t.success.isnull()), _n),
    ),
    *(_quantile(f"latency_p{q}", "latency_ms", q / 100, "Time from request to complete answer") for q in (50, 90, 95, 99)),
    _quantile("ttft_p95", "ttft_ms", 0.95, "Time from request to first token"),
    Metric(
        name="tool_error_rate",
        unit="share",
        direction=Direction.LOWER,
        description="Share of tool calls that failed.",
        formula="sum of n_tool_errors / sum of n_tool_calls, over requests that report both; n counts tool calls",
        kind=Kind.RATE,
        y=lambda t: ibis.ifelse(t.n_tool_calls.notnull(), t.n_tool_errors, 0).fill_null(0),
        x=lambda t: ibis.ifelse(t.n_tool_errors.notnull(), t.n_tool_calls, 0).fill_null(0),
        k=lambda t: ibis.ifelse(t.n_tool_errors.notnull(), t.n_tool_calls, 0).fill_null(0),
        eligible=lambda t: _int((t.n_tool_calls != 0).fill_null(True)),  # noqa: FBT003
        measured=lambda t: _int(t.n_tool_errors.notnull() & (t.n_tool_calls > 0)),
        rolled=Rolled(
            y=lambda t: t.tool_errors_known, x=lambda t: t.tool_calls_known, k=lambda t: t.tool_calls_known, bad=lambda t: t.n_bad_tools
        ),
    ),
    _rate(
        "fallback_rate",
        Direction.LOWER,
        "Share of requests answered by the fallback.",
        "requests with is_fallback / requests that report it",
        share=lambda t: t.is_fallback,
        of=lambda t: t.is_fallback.notnull(),
        rolled=(_n_where(lambda t: t.is_fallback), _n_where(lambda t: t.is_fallback.notnull())),
    ),
    _rate(
        "handoff_rate",
        Direction.LOWER,
        "Share of requests handed to a person.",
        "requests with a handoff or the status handed_off / requests",
        share=lambda t: t.handoff_id.notnull() | (t.status == "handed_off").fill_null(False),  # noqa: FBT003
        of=lambda t: t.request_id.notnull(),
        rolled=(lambda t: t.n_handoff, _n),
    ),
    _rate(
        "violation_rate",
        Direction.LOWER,
        "Share of checked answers that broke a rule and reached a user or a tool.",
        "requests with a violated rule / requests that were checked (violation_rules is not null) and not blocked, or violated one",
        share=_violated,
        of=lambda t: t.violation_rules.notnull() & (~_blocked(t) | _violated(t)),
        eligible=lambda t: _int(~_blocked(t) | _violated(t)),
        rolled=(lambda t: t.n_violation, lambda t: t.n_violation_known),
    ),
    _rate(
        "block_rate",
        Direction.NEITHER,
        "Share of requests that a guard stopped.",
        "requests with the status blocked or a blocking rule / requests that were guarded (blocked_rules is not null) or blocked",
        share=_blocked,
        of=lambda t: t.blocked_rules.notnull() | _blocked(t),
        rolled=(lambda t: t.n_blocked, lambda t: t.n_blocked_known),
    ),
    Metric(
        name="quality_mean",
        unit="score",
        direction=Direction.HIGHER,
        description="Mean quality score, each weighted by how many requests it stands for.",
        formula="newest score `quality` of each request and scorer, weighted by 1 / sample_probability (1 where absent); n counts scores",
        kind=Kind.MEAN,
        y=lambda t: t.quality_y,
        x=lambda t: t.quality_x.fill_null(0.0),
        k=lambda t: t.quality_k.fill_null(0),
        eligible=_one,
        measured=lambda t: (t.quality_x / t.quality_k).fill_null(0.0),
        within=(0.0, 1.0),
        needs=frozenset({"quality"}),
    ),
    _rate(
        "retrieval_hit_rate",
        Direction.HIGHER,
        "Share of judged lookups that found what the answer needed.",
        f"requests whose newest score `retrieval_hit` is at least 0.5 / requests with retrievals and such a score{_WEIGHED}",
        share=lambda t: t.score_retrieval_hit >= 0.5,  # noqa: PLR2004 - a score of 0 or 1
        of=lambda t: t.score_retrieval_hit.notnull() & (t.n_retrievals > 0).fill_null(False),  # noqa: FBT003
        eligible=lambda t: _int(t.n_retrievals > 0),
        needs=frozenset({"retrieval_hit"}),
        weight=lambda t: t.weight_retrieval_hit,
    ),
    _sum("input_tokens", "tokens", "Tokens sent to models, cached ones included."),
    _sum("output_tokens", "tokens", "Tokens written by models, reasoning included."),
    _sum("cost_usd", "USD", "What the priced requests cost.", n="n_priced"),
    Metric(
        name="cost_per_success",
        unit="USD",
        direction=Direction.LOWER,
        description="What one success costs, failures paid for.",
        formula=f"sum of cost_usd / successes, both over priced requests; n counts priced requests{_WEIGHED}",
        kind=Kind.RATIO,
        y=lambda t: t.cost_usd,
        x=lambda t: _int(t.success & t.cost_usd.notnull()),
        k=lambda t: _int(t.cost_usd.notnull()),
        eligible=_one,
        measured=lambda t: _int(t.cost_usd.notnull()),
        needs=_SUCCESS,
        weight=_success_weight,
        rolled=Rolled(y=lambda t: t.cost_usd_sum, x=_n_where(lambda t: t.success, of="n_priced"), k=lambda t: t.n_priced),
    ),
)

CATALOGUE: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _METRICS})
"""Name to metric, in the order in which people read them."""


def weighted(metric: Metric) -> Metric:
    """The metric over a log whose scores are sampled: each observation counts as often as the requests that it stands for.

    Requests whose success is certain, such as technical failures, would else outweigh those of which only some were judged. A rate
    becomes the mean that it is, so its interval allows for unequal weights. What a request costs is known without a score.
    """
    weight = metric.weight
    if weight is None or metric.is_weighted:
        return metric

    def times(column: Column) -> Column:
        return lambda t: column(t) * weight(t)

    changed = replace(metric, x=times(metric.x), is_weighted=True)
    if metric.kind is not Kind.RATE or metric.measured is None:
        return changed
    return replace(changed, kind=Kind.MEAN, y=times(metric.y), measured=times(metric.measured), within=(0.0, 1.0))


def kpi_metric(kpi: Kpi) -> Metric:
    """The metric that a KPI of app.yaml is."""
    given = "each given to its request, else to the newest one of its session, or of its unit, before it"
    late = f"; none later than {format_duration(kpi.within)} after that" if kpi.within else ""
    formulas = {
        "rate": f"sessions (requests without one count alone) followed by the event {kpi.outcome!r} / sessions, by first request{late}",
        "mean": f"mean value of the events {kpi.outcome!r}, {given}{late}",
        "sum": f"total value of the events {kpi.outcome!r}, {given}{late}",
    }
    return Metric(
        name=kpi.name,
        unit=kpi.unit,
        direction=Direction(kpi.direction),
        description=kpi.description or f"KPI {kpi.name}.",
        formula=formulas[kpi.aggregate],
        kind=Kind(kpi.aggregate),
        y=lambda t: t.kpi_y,
        x=lambda t: t.kpi_x,
        k=lambda t: t.kpi_x,
        eligible=_one if kpi.aggregate == "rate" else None,
        measured=_one if kpi.aggregate == "rate" else None,
        kpi=kpi,
    )
