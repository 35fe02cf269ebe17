"""The noun of the catalogue: a metric, and how one is written down.

A metric says what one request contributes to it, as Ibis expressions over the request facts (`facts.py`); how
contributions become a number follows from its kind. `formula` says the same in the words of an analyst.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import ibis
import ibis.expr.types as ir

from workbench.observability.model import Direction
from workbench.spec.app import Kpi

Column = Callable[[ir.Table], ir.Value]
WEIGHED = "; what a sampled score says counts 1 / sample_probability times"


class Kind(StrEnum):
    """How contributions become a number: y is the numerator or the value, x the denominator."""

    COUNT = "count"
    """Σy, whole."""
    DISTINCT = "distinct"
    """How many different y there are."""
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
    """What a row of the roll-up (`rolled.py`) adds to a metric: as of its requests one by one, summed. A quantile has histograms for y."""

    y: Column
    x: Column
    k: Column
    bad: Column | None = None
    """How many of its requests say what cannot be."""


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
    column: str | None = None
    """Of a quantile of the catalogue: the requests' column that it is of; quantiles of one column are found together."""
    needs: frozenset[str] = frozenset()
    """Columns that the facts derive only on demand, for example `success`; see `facts.py`."""
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


def needs_of(metrics: Sequence[Metric]) -> frozenset[str]:
    """The derived columns that some of these metrics read."""
    return frozenset[str]().union(*(metric.needs for metric in metrics))


def one(_: ir.Table) -> ir.Value:
    """1 for every row."""
    return ibis.literal(1, type="int64")


def whole(condition: ir.Value) -> ir.Value:
    """1 where the condition holds, else 0; unknown is 0."""
    return condition.fill_null(False).cast("int64")  # noqa: FBT003 - the value, not a flag


def rate(
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
        y=lambda t: whole(share(t) & of(t)),
        x=lambda t: whole(of(t)),
        k=lambda t: whole(of(t)),
        eligible=eligible or one,
        measured=lambda t: whole(of(t)),
        needs=needs,
        weight=weight,
        rolled=None if rolled is None else Rolled(y=rolled[0], x=rolled[1], k=rolled[1]),
    )


def of_column(
    name: str, kind: Kind, column: str, *, unit: str, direction: Direction, description: str, formula: str, q: float | None = None
) -> Metric:
    """A sum, mean, quantile or number of different values of a request's column, over the requests that report it."""
    return Metric(
        name=name,
        unit=unit,
        direction=direction,
        description=description,
        formula=formula,
        kind=kind,
        y=lambda t: t[column].cast("float64") if kind is Kind.QUANTILE else t[column],
        x=lambda t: whole(t[column].notnull()),
        k=lambda t: whole(t[column].notnull()),
        eligible=one,
        measured=lambda t: whole(t[column].notnull()),
        q=q,
        column=column if kind is Kind.QUANTILE else None,
    )


def quantile(name: str, column: str, q: float, what: str, *, unit: str = "ms", direction: Direction = Direction.LOWER) -> Metric:
    """The q-quantile of a column over the requests that report it; the roll-up has the histograms of times."""
    metric = of_column(
        name,
        Kind.QUANTILE,
        column,
        unit=unit,
        direction=direction,
        description=f"{what} that {100 * q:g} % of requests do not exceed.",
        formula=f"{q:g}-quantile of {column}, linear between neighbours, over requests that report it",
        q=q,
    )
    if not column.endswith("_ms"):
        return metric
    rolled = Rolled(y=_all, x=_all, k=_all, bad=lambda t: t[f"n_bad_{column.removesuffix('_ms')}"])
    return replace(metric, rolled=rolled)


def _all(t: ir.Table) -> ir.Value:
    """All requests of a row of the roll-up."""
    return t.n


def total(name: str, unit: str, description: str, *, n: str | None = None) -> Metric:
    """The sum of the column of that name over the requests that report it; `n` names the roll-up's count of those."""
    formula = f"sum of {name} over requests that report it; n says how many do, none at all is no data"
    metric = of_column(name, Kind.SUM, name, unit=unit, direction=Direction.LOWER, description=description, formula=formula)
    rolled = Rolled(y=lambda t: t[f"{name}_sum"], x=lambda t: t[n or f"{name}_n"], k=lambda t: t[n or f"{name}_n"])
    return replace(metric, rolled=rolled)


def weighted(metric: Metric) -> Metric:
    """The metric over a log whose scores are sampled: each observation counts as often as the requests that it stands for.

    Requests whose success is certain, such as technical failures, would else outweigh those of which only some were judged. A rate
    becomes the mean that it is, so its interval allows for unequal weights. What a request costs is known without a score: of a ratio
    only the denominator is weighted.
    """
    weight = metric.weight
    if weight is None or metric.is_weighted:
        return metric

    def times(column: Column) -> Column:
        return lambda t: column(t) * weight(t)

    changed = replace(metric, x=times(metric.x), is_weighted=True)
    if metric.kind not in {Kind.RATE, Kind.MEAN} or metric.measured is None:
        return changed
    within = (0.0, 1.0) if metric.kind is Kind.RATE else metric.within
    return replace(changed, kind=Kind.MEAN, y=times(metric.y), measured=times(metric.measured), within=within)
