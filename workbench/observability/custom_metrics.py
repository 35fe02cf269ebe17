"""The metrics that apps declare in metrics.yaml, as metrics of the catalogue's kind."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import and_, or_
from types import MappingProxyType
from typing import Any

import ibis
import ibis.expr.types as ir

from workbench.observability.facts import NEWEST, QUANTITY
from workbench.observability.metric import WEIGHED, Column, Kind, Metric, one
from workbench.observability.model import Direction
from workbench.spec.metrics import Condition, CustomMetric, Quantity

_COMPARISONS: Mapping[str, Callable[[ir.Value, Any], ir.Value]] = MappingProxyType(
    {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
)
_SIGNS = {"eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "in": "one of", "not_in": "none of", "contains": "contains"}


def custom_metric(spec: CustomMetric, apps: Sequence[str]) -> Metric:
    """The metric that these apps declare so; requests of other apps are no part of it."""
    among = _among(spec, apps)
    y, x, known = _contributions(spec)
    return Metric(
        name=spec.name,
        unit=spec.unit or "share",
        direction=Direction(spec.direction),
        description=spec.description,
        formula=formula(spec),
        kind=Kind(spec.kind),
        y=lambda t: ibis.ifelse(among(t) & known(t), y(t), ibis.null(y(t).type())),
        x=lambda t: ibis.ifelse(among(t) & known(t), x(t), 0),
        k=lambda t: (among(t) & known(t)).cast("int64"),
        eligible=lambda t: among(t).cast("int64"),
        measured=lambda t: (among(t) & known(t)).cast("int64"),
        q=spec.q,
        needs=frozenset(need for quantity in spec.quantities() if (need := _need(quantity)) is not None),
        weight=_weight(spec),
    )


def _weight(spec: CustomMetric) -> Column | None:
    """How many requests an observation stands for, where it comes from a score; a mean of scores has it in its contributions already."""
    scores = {quantity.score for quantity in spec.quantities() if quantity.score is not None}
    return (lambda t: t[f"weight_{next(iter(scores))}"]) if scores else None


def _among(spec: CustomMetric, apps: Sequence[str]) -> Column:
    def holds(t: ir.Table) -> ir.Value:
        is_own = t.app.isin(apps)
        return is_own if spec.among is None else is_own & _surely(_truth(spec.among, t))

    return holds


def _contributions(spec: CustomMetric) -> tuple[Column, Column, Column]:
    """What a request adds to numerator and denominator, and whether it says anything."""
    when, value, per = spec.when, spec.value, spec.per
    if when is not None:
        return (lambda t: _surely(_truth(when, t)).cast("int64"), one, lambda t: _truth(when, t).notnull())
    assert value is not None  # noqa: S101 - the spec was checked
    if per is not None:
        return (
            lambda t: _number(value, t),
            lambda t: _number(per, t),
            lambda t: _number(value, t).notnull() & _number(per, t).notnull(),
        )
    if spec.kind == "quantile":
        return (lambda t: _number(value, t).cast("float64"), one, lambda t: _number(value, t).notnull())
    return (lambda t: _number(value, t), one, lambda t: _number(value, t).notnull())


def _surely(condition: ir.Value) -> ir.Value:
    """Whether it is true; what is unknown is not."""
    return condition.fill_null(False)  # noqa: FBT003 - the value, not a flag


def _need(quantity: Quantity) -> str | None:
    """What the facts have to derive for it."""
    if quantity.score is not None:
        return NEWEST + quantity.score
    return QUANTITY + _stored(quantity) if quantity.spans is not None or quantity.outcome is not None else None


def _stored(quantity: Quantity) -> str:
    """What tells it apart: the quantity alone, also where a condition holds it."""
    return Quantity(spans=quantity.spans, outcome=quantity.outcome, total=quantity.total).model_dump_json(exclude_defaults=True)


def _number(quantity: Quantity, t: ir.Table) -> ir.Value:
    """The value of it on each row."""
    if quantity.column is not None:
        return t[quantity.column]
    return t[f"score_{quantity.score}"] if quantity.score is not None else t[str(_need(quantity))]


def _truth(condition: Condition, t: ir.Table) -> ir.Value:
    """True, false or unknown on each row."""
    if condition.all is not None:
        return reduce(and_, (_truth(each, t) for each in condition.all))
    if condition.any is not None:
        return reduce(or_, (_truth(each, t) for each in condition.any))
    if condition.none is not None:
        return ~reduce(or_, (_truth(each, t) for each in condition.none))
    return _compared(_number(condition, t), condition)


def _compared(value: ir.Value, condition: Condition) -> ir.Value:
    wanted = condition.value
    match condition.op:
        case "is_known" | "is_missing":
            return value.notnull() if condition.op == "is_known" else value.isnull()
        case "in" | "not_in":
            return value.isin(wanted) if condition.op == "in" else ~value.isin(wanted)
        case "contains":
            return value.contains(wanted)
        case _:
            return _COMPARISONS[str(condition.op)](value, wanted)


def formula(spec: CustomMetric) -> str:
    """What is computed, in the words of an analyst."""
    among = f" among those with {_words(spec.among)}" if spec.among is not None else ""
    known = "requests that report it"
    weighed = WEIGHED if any(quantity.score is not None for quantity in spec.quantities()) else ""
    if spec.when is not None:
        return f"requests with {_words(spec.when)} / {known}{among}{weighed}"
    value = _name(spec.value) if spec.value else ""
    if spec.per is not None:
        return f"sum of {value} / sum of {_name(spec.per)}, over requests that report both{among}"
    kinds = {"mean": f"mean of {value}", "sum": f"sum of {value}", "quantile": f"{spec.q or 0:g}-quantile of {value}"}
    return f"{kinds[spec.kind]} over {known}{among}{weighed}"


def _name(quantity: Quantity) -> str:
    if quantity.score is not None:
        return f"the newest score `{quantity.score}`"
    if quantity.outcome is not None:
        return f"{'the value of' if quantity.total else 'the number of'} its events {quantity.outcome!r}"
    if quantity.spans is not None:
        matching = " and ".join(f"{name} {' or '.join(values)}" for name, values in quantity.spans.wanted().items())
        return f"the number of its steps{f' with {matching}' if matching else ''}"
    return str(quantity.column)


def _words(condition: Condition) -> str:
    for joined, word in ((condition.all, " and "), (condition.any, " or ")):
        if joined is not None:
            return f"({word.join(map(_words, joined))})"
    if condition.none is not None:
        return f"none of ({', '.join(map(_words, condition.none))})"
    if condition.op in ("is_known", "is_missing"):
        return f"{_name(condition)} {condition.op.removeprefix('is_')}"
    wanted = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    return f"{_name(condition)} {_SIGNS[str(condition.op)]} {', '.join(_shown(value) for value in wanted)}"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
