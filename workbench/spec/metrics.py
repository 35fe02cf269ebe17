"""`metrics.yaml`: an app's own metrics, over the columns of its log.

A metric is a rate, mean, sum, quantile or ratio over requests. What it counts is said in conditions on columns, never in SQL:

    metrics:
      - name: long_answer_rate
        description: Share of good answers that are longer than anybody reads.
        kind: rate
        when: {column: output_tokens, op: gt, value: 500}
        among: {column: status, op: eq, value: ok}
        direction: lower_is_better

What a request does not report is unknown, neither true nor 0: it is not among the observations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from workbench.spec.base import Name, Number, Spec, Text, twice

Type = Literal["text", "number", "flag", "texts"]
TextColumn = Literal[
    "workflow",
    "bundle",
    "arm",
    "release_id",
    "session_id",
    "operation",
    "provider",
    "model_requested",
    "model_served",
    "status",
    "error_type",
    "finish_reason",
    "handoff_id",
    "source",
]
NumberColumn = Literal[
    "latency_ms",
    "ttft_ms",
    "attempts",
    "n_tool_calls",
    "n_tool_errors",
    "n_retrievals",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_usd",
    "traffic_share",
]
FlagColumn = Literal["is_fallback"]
TextsColumn = Literal["violation_rules", "blocked_rules"]
ColumnName = Literal[TextColumn, NumberColumn, FlagColumn, TextsColumn]
"""A column of a request that a metric may read."""
COLUMNS: Mapping[str, Type] = MappingProxyType(
    {
        **dict.fromkeys(get_args(TextColumn), "text"),
        **dict.fromkeys(get_args(NumberColumn), "number"),
        **dict.fromkeys(get_args(FlagColumn), "flag"),
        **dict.fromkeys(get_args(TextsColumn), "texts"),
    }
)
"""Each of those columns with what it holds."""
Op = Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "contains", "is_known", "is_missing"]
_OPS: Mapping[Type, frozenset[str]] = MappingProxyType(
    {
        "text": frozenset({"eq", "ne", "in", "not_in", "is_known", "is_missing"}),
        "number": frozenset({"eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "is_known", "is_missing"}),
        "flag": frozenset({"eq", "ne", "is_known", "is_missing"}),
        "texts": frozenset({"contains", "is_known", "is_missing"}),
    }
)
_LISTS, _ALONE = frozenset({"in", "not_in"}), frozenset({"is_known", "is_missing"})
Scalar = bool | Number | Text
Words = Annotated[tuple[Text, ...], Field(min_length=1)]
_SOURCES = ("column", "score", "spans", "outcome")
_JOINED = ("all", "any", "none")


class Spans(Spec):
    """Which steps of a request are counted: those that match every line; without a line all of them."""

    kind: Words | Text | None = None
    """`model`, `tool`, `retrieval`, `guard`, `fallback`, `handoff`, `agent` or `other`; one, or a list of which any will do. So below."""
    name: Words | Text | None = None
    status: Words | Text | None = None
    error_type: Words | Text | None = None
    tool_name: Words | Text | None = None
    side_effect: Words | Text | None = None
    rule_id: Words | Text | None = None
    action: Words | Text | None = None
    provider: Words | Text | None = None
    model: Words | Text | None = None

    def wanted(self) -> dict[str, tuple[str, ...]]:
        """Column to the values of which any will do."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: (value,) if isinstance(value, str) else value for name, value in given.items() if value is not None}


class Quantity(Spec):
    """A number of a request; exactly one line says which."""

    column: ColumnName | None = None
    score: Text | None = None
    """The newest score of this name."""
    spans: Spans | None = None
    """How many of its steps match; unknown where none of its steps was logged."""
    outcome: Text | None = None
    """How many events of this name followed it (named it, or its session next after it)."""
    total: bool = False
    """With `outcome`: the events' total value instead of their number."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        _check_one(self, _SOURCES)
        if self.total and self.outcome is None:
            raise ValueError("total: only with an outcome")
        return self

    @property
    def holds(self) -> Type:
        """What it is."""
        return COLUMNS[self.column] if self.column is not None else "number"


class Condition(Quantity):
    """True, false or unknown of a request: a comparison, or conditions joined by `all`, `any` or `none`."""

    op: Op | None = None
    value: Scalar | Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    all: tuple[Condition, ...] | None = Field(default=None, min_length=1)
    """Every one of these."""
    any: tuple[Condition, ...] | None = Field(default=None, min_length=1)
    """At least one of these."""
    none: tuple[Condition, ...] | None = Field(default=None, min_length=1)
    """Not one of these."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        _check_one(self, (*_SOURCES, *_JOINED))
        if self.total and self.outcome is None:
            raise ValueError("total: only with an outcome")
        return self

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if any(getattr(self, name) is not None for name in _JOINED):
            if self.op is not None or self.value is not None:
                raise ValueError("op and value belong to a comparison; `all`, `any` and `none` stand alone")
            return self
        self._check_op()
        self._check_value()
        return self

    def _check_op(self) -> None:
        fitting = _OPS[self.holds]
        if self.op is None or self.op not in fitting:
            said = "missing" if self.op is None else f'got "{self.op}"'
            raise ValueError(f"op: {said}; {self._subject} takes {', '.join(sorted(fitting))}")

    def _check_value(self) -> None:
        if self.op in _ALONE:
            if self.value is not None:
                raise ValueError(f"value: {self.op} takes none; leave it out")
            return
        if isinstance(self.value, tuple) != (self.op in _LISTS) or self.value is None:
            raise ValueError(f"value: {self.op} takes {'a list' if self.op in _LISTS else 'one value'}")
        wanted: Mapping[Type, tuple[type, str]] = {"text": (str, "text"), "texts": (str, "text"), "flag": (bool, "true or false")}
        kind, words = wanted.get(self.holds, (float, "a number"))
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        if not all(isinstance(value, kind) for value in values):
            raise ValueError(f"value: {self._subject} is compared with {words}")

    @property
    def _subject(self) -> str:
        return next(
            f"{name} {value}" if isinstance(value, str) else name for name in _SOURCES if (value := getattr(self, name)) is not None
        )

    def parts(self) -> Iterator[Condition]:
        """Itself and every condition in it."""
        yield self
        for name in _JOINED:
            for each in getattr(self, name) or ():
                yield from each.parts()


def _check_one(spec: Spec, names: tuple[str, ...]) -> None:
    given = [name for name in names if getattr(spec, name) is not None]
    if len(given) != 1:
        said = f"got {' and '.join(given)}" if given else "got none of them"
        raise ValueError(f"{said}; needed exactly one of {', '.join(names)}")


_GIVEN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"rate": ("when",), "mean": ("value",), "sum": ("value",), "quantile": ("value", "q"), "ratio": ("value", "per")}
)
_ONLY_SOME = ("when", "value", "per", "q")


class CustomMetric(Spec):
    """One metric of an app's own."""

    name: Name
    description: Text
    """What it says, for those who read a review."""
    kind: Literal["rate", "mean", "sum", "quantile", "ratio"]
    """`rate`: share of requests with `when`; `mean`, `sum`, `quantile` of `value`; `ratio`: sum of `value` by sum of `per`."""
    when: Condition | None = None
    among: Condition | None = None
    """Only these requests count; by default all."""
    value: Quantity | None = None
    per: Quantity | None = None
    q: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Which quantile, for example 0.95."""
    unit: Text | None = None
    """For example `ms`, `USD`, `tokens`; a rate is a `share`."""
    direction: Literal["higher_is_better", "lower_is_better", "neither"]

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        needed = _GIVEN[self.kind]
        for name in _ONLY_SOME:
            is_given = getattr(self, name) is not None
            if is_given != (name in needed):
                raise ValueError(f"{name}: a {self.kind} takes {' and '.join(needed)}" + ("; leave it out" if is_given else ""))
        if self.kind == "rate" and self.unit not in (None, "share"):
            raise ValueError("unit: a rate is a share; leave it out")
        if self.kind != "rate" and self.unit is None:
            raise ValueError(f"unit: a {self.kind} needs one, for example ms, USD or tokens")
        return self

    @model_validator(mode="after")
    def _counts_numbers(self) -> Self:
        for name in ("value", "per"):
            quantity: Quantity | None = getattr(self, name)
            if quantity is not None and quantity.holds != "number":
                raise ValueError(f"{name}: {quantity.column} holds {quantity.holds}; needed a number")
        return self

    @model_validator(mode="after")
    def _weighs_one_score(self) -> Self:
        """Scores may be sampled, and each stands for as many requests as its own sampling says."""
        names = {quantity.score for quantity in self.quantities() if quantity.score is not None}
        if len(names) > 1:
            raise ValueError(f"reads the scores {', '.join(sorted(names))}; each may be sampled in its own way, so a metric reads one")
        if names and self.kind in ("sum", "ratio"):
            raise ValueError(f"a {self.kind} cannot read a score, which may be there for some requests only; a mean or a rate can")
        return self

    def quantities(self) -> Iterator[Quantity]:
        """Everything that it reads of a request."""
        for condition in (self.when, self.among):
            yield from condition.parts() if condition is not None else ()
        yield from (quantity for quantity in (self.value, self.per) if quantity is not None)


class MetricsSpec(Spec):
    """The metrics that an app declares beside the catalogue's."""

    metrics: tuple[CustomMetric, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        repeated = twice([metric.name for metric in self.metrics])
        if repeated:
            raise ValueError(f"names must be unique; {', '.join(repeated)} appears more than once")
        return self
