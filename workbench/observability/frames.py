"""From a question to the frame that people get: the readings of every group, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from workbench.observability.asking import Definitions, Question
from workbench.observability.dimensions import (
    TIME,
    Filters,
    apps_of,
    bucket_start,
    parse_dimensions,
    parse_grain,
    parse_where,
    parse_window,
)
from workbench.observability.measuring import LEVEL, Where, dated, for_app, sound
from workbench.observability.metric import Kind, Metric
from workbench.observability.model import Window
from workbench.observability.readings import Reading, read
from workbench.observability.sum_reader import Key, SumReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The words of `Metrics.query`, understood, before anybody looks at a log."""

    names: tuple[str, ...]
    dims: tuple[str, ...]
    grain: str | None
    filters: Filters
    window: Window

    @classmethod
    def parse(
        cls,
        metrics: str | Sequence[str],
        *,
        by: str | Sequence[str],
        window: str | Window | None,
        grain: str | None,
        where: Where | None,
        app: str | None,
        now: datetime,
    ) -> Asked:
        """What is meant.

        Raises:
            UnknownSubject: a dimension or grain does not exist; names the nearest.
            UsageError: the window or a filter makes no sense.
        """
        return cls(
            names=(metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics)),
            dims=parse_dimensions((by,) if isinstance(by, str) else by),
            grain=parse_grain(grain),
            filters=for_app(parse_where(where), app),
            window=parse_window(window, now=now),
        )

    @property
    def apps(self) -> tuple[str, ...]:
        """The apps that are named; none for all."""
        return apps_of(self.filters)

    def question(self, definitions: Definitions) -> Question:
        """The question, by what the apps declare.

        Raises:
            UnknownSubject: there is no such metric; names the nearest.
        """
        chosen = tuple(definitions.metric(name) for name in self.names)
        return Question(metrics=chosen, dims=self.dims, grain=self.grain, filters=self.filters, window=self.window, definitions=definitions)


def readings(reader: SumReader, question: Question, level: float | None) -> Iterator[tuple[Key, dict[str, Reading]]]:
    """Each group that has requests, with the reading of each metric; None for a level leaves the intervals out.

    A KPI waits for its own event alone: beside others it is what it is when it is asked alone.
    """
    plain = [metric for metric in question.metrics if metric.kpi is None]
    plans = [plain, *([metric] for metric in question.metrics if metric.kpi is not None)]
    asked = [dated(replace(question, metrics=tuple(plan)), reader) for plan in plans]
    keep = level is not None
    rows = [reader.contributions(each, each.metrics, keep=keep, is_summed=True, place=place) for place, each in enumerate(asked)]
    found = [reader.sums(part, question.keys, level=level) for part in rows]
    for key in found[0]:
        read_of = {}
        for part, groups in zip(rows, found, strict=True):
            for number, metric in enumerate(part.metrics):
                read_of[metric.name] = sound(metric, read(metric, groups.get(key, {}), number, level=level or LEVEL), *key)
        yield key, read_of


def frame(question: Question, groups: Mapping[Key, Mapping[str, Reading]], *, detail: bool) -> pl.DataFrame:
    """The columns that `Metrics.query` promises."""
    columns: dict[str, pl.Series] = {}
    for number, name in enumerate(question.keys):
        columns[name] = pl.Series(name, [key[number] for key in groups], dtype=pl.Int64 if name == TIME else pl.String)
    for metric in question.metrics:
        columns |= _metric_columns(metric, [group[metric.name] for group in groups.values()], detail=detail)
    made = pl.DataFrame(columns)
    if question.grain is not None:
        made = made.with_columns(bucket_start(TIME, question.grain))
    return made.sort(question.keys, nulls_last=True) if question.keys else made


def _metric_columns(metric: Metric, readings: Sequence[Reading], *, detail: bool) -> dict[str, pl.Series]:
    is_counted = metric.kind in {Kind.COUNT, Kind.DISTINCT}
    name, number = metric.name, pl.Int64 if is_counted else pl.Float64
    values = [None if r.value is None else (int(r.value) if is_counted else r.value) for r in readings]
    columns = {name: pl.Series(name, values, dtype=number), f"{name}_n": pl.Series([r.n for r in readings], dtype=pl.Int64)}
    if detail:
        columns[f"{name}_count"] = pl.Series([r.count for r in readings], dtype=pl.Int64)
        columns[f"{name}_low"] = pl.Series([r.low for r in readings], dtype=pl.Float64)
        columns[f"{name}_high"] = pl.Series([r.high for r in readings], dtype=pl.Float64)
    return columns
