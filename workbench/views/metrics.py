"""Metric frames for people: one row per group, each number with the observations under it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Protocol

import polars as pl

from workbench.observability.dimensions import GRAINS
from workbench.observability.model import Window
from workbench.views.numbers import DASH, metric_words, number, rate_cell, sized
from workbench.views.page import Column, Page, Section, page_text
from workbench.views.tables import WIDTH, cell, named

_BETTER = {"higher_is_better": "higher", "lower_is_better": "lower"}
_MOST_SILENCES = 6
ALWAYS = Window()


class Described(Protocol):
    """What a view needs to know of a metric of the catalogue."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def direction(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def formula(self) -> str: ...


class Found(Protocol):
    """What a view needs to know of how numbers were found."""

    @property
    def path(self) -> str: ...
    @property
    def error_bound(self) -> float: ...


def metrics_text(
    frame: pl.DataFrame,
    *,
    metrics: Sequence[Described],
    names: Mapping[str, str] | None = None,
    found: Found | None = None,
    grain: str | None = None,
    window: Window = ALWAYS,
    why_empty: str = "",
    width: int = WIDTH,
) -> str:
    """The frame of a metric query as an aligned table; says so when it has no rows, and which steps of a series have none.

    Args:
        frame: columns as `Metrics.query` gives them: dimensions, `ts` for a series, and per metric the value, `_n` and further detail.
        metrics: the asked metrics, in order.
        names: bundle id to name; a bundle is shown with it.
        found: how the numbers were found; what is not exact, or has no requests behind it, is said below the table.
        grain: width of a step, for a series.
        window: what was asked for; the whole steps of it count, also those before the first request and behind the last.
        why_empty: what to say where there are no rows.
        width: columns of the terminal.
    """
    if frame.is_empty():
        why = why_empty or "Widen the window or the filter, or import a log first."
        return page_text(Page(lead=(f"No requests match. {why}",)), width=width)
    silence = silence_words(frame["ts"].to_list(), GRAINS[grain], window) if grain is not None else ""
    return page_text(_page(frame, metrics, names or {}, "; ".join(filter(None, (found_words(found), silence)))), width=width)


def silence_words(starts: Collection[datetime], step: timedelta, window: Window = ALWAYS) -> str:
    """Which steps have no request: the beginning of each silence, and how many steps it lasts.

    Args:
        starts: of the steps that have one, one at least.
        step: how long each lasts.
        window: its whole steps count; by default those between the first and the last with a request.

    >>> silence_words([datetime(2026, 3, 1, hour) for hour in (4, 5, 8, 10)], timedelta(hours=1))
    'no request in 3 of 7 steps: 2026-03-01 06:00 (2), 2026-03-01 09:00 (1)'
    """
    known = sorted(set(starts))
    first, last = known[0], known[-1]
    if window.start is not None:
        first -= max(0, (first - window.start) // step) * step
    if window.until is not None:
        last += max(0, (window.until - last) // step - 1) * step
    seen = [first - step, *known, last + step]
    silences = [(earlier + step, (later - earlier) // step - 1) for earlier, later in pairwise(seen) if later - earlier > step]
    if not silences:
        return ""
    shown = ", ".join(f"{start:%Y-%m-%d %H:%M} ({n})" for start, n in silences[:_MOST_SILENCES])
    more = f" and {len(silences) - _MOST_SILENCES} more times" if len(silences) > _MOST_SILENCES else ""
    return f"no request in {sum(n for _, n in silences)} of {(last - first) // step + 1} steps: {shown}{more}"


def found_words(found: Found | None) -> str:
    """How far the numbers may be off, and why; empty where each request was read.

    >>> from types import SimpleNamespace
    >>> found_words(SimpleNamespace(path="roll-up", error_bound=0.0109))
    'percentiles from hourly histograms, at most 1.1 % off; --exact reads every request'
    """
    if found is None or found.path != "roll-up":
        return ""
    if found.error_bound:
        return f"percentiles from hourly histograms, at most {100 * found.error_bound:.1f} % off; --exact reads every request"
    return "from hourly sums"


def catalogue_rows(metrics: Iterable[Described]) -> list[dict[str, str]]:
    """One row per metric: name, unit, which way is better, meaning and formula."""
    return [
        {
            "metric": metric.name,
            "unit": metric.unit,
            "better": _BETTER.get(metric.direction, DASH),
            "meaning": metric.description,
            "formula": metric.formula,
        }
        for metric in metrics
    ]


def _page(frame: pl.DataFrame, metrics: Sequence[Described], names: Mapping[str, str], note: str) -> Page:
    asked = {metric.name for metric in metrics}
    dims = [name for name in frame.columns if not _belongs(name, asked)]
    columns = [Column(title="time (UTC)" if name == "ts" else name) for name in dims]
    columns += [Column(title=metric_words(metric.name), is_number=True) for metric in metrics]
    rows = tuple(
        (*(_dimension(name, row[name], names) for name in dims), *(_value(row, metric) for metric in metrics))
        for row in frame.iter_rows(named=True)
    )
    return Page(sections=(Section(title="", columns=tuple(columns), rows=rows, note=note),))


def _belongs(column: str, asked: set[str]) -> bool:
    return column in asked or any(column == f"{name}_{detail}" for name in asked for detail in ("n", "count", "low", "high"))


def _dimension(name: str, value: Any, names: Mapping[str, str]) -> str:
    if name == "bundle" and value is not None:
        return cell(named(value, names))
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else cell(value)


def _value(row: Mapping[str, Any], metric: Described) -> str:
    value, n = row[metric.name], row.get(f"{metric.name}_n")
    if metric.name == "volume":
        return number(value, metric.unit)
    if metric.unit == "share":
        return rate_cell(value, row.get(f"{metric.name}_count"), n)
    return sized(value, metric.unit, n)
