"""Asking the log: one query function for people, and sealed measurements for gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import duckdb
import polars as pl

from workbench.errors import StoreError, UsageError
from workbench.observability import evidence as records
from workbench.observability.asking import Definitions, Question
from workbench.observability.catalogue import CATALOGUE, Kind, Metric, kpi_metric
from workbench.observability.comparison import compare
from workbench.observability.dimensions import TIME, Filters, bucket_start, parse_dimensions, parse_grain, parse_where, parse_window
from workbench.observability.lake import Lake
from workbench.observability.model import Evidence, Interval, MetricValue, RowSet, Window
from workbench.observability.reader import EMPTY, Key, Reader, Rows
from workbench.observability.readings import TOTAL, Reading, read
from workbench.spec.app import AppSpec
from workbench.stats.ratio import level_of_each

LEVEL = 0.95
"""Coverage of every interval."""
SAME, DIFFERENT, UNAVAILABLE = "SAME", "DIFFERENT", "UNAVAILABLE"
Where = Mapping[str, str | Sequence[str]]
T = TypeVar("T")


class Metrics:
    """The metric catalogue over the log lake.

    Args:
        lake: where the log is.
        app_spec: the declaration of an app, or None for an app that nobody declared.
        clock: the time that windows such as `7d` end at.
    """

    def __init__(self, lake: Lake, *, app_spec: Callable[[str], AppSpec | None], clock: Callable[[], datetime]) -> None:
        self._lake = lake
        self._app_spec = app_spec
        self._clock = clock

    def snapshot(self) -> int | None:
        """The lake's newest snapshot; None before the first write."""
        return self._lake.snapshot()

    def known(self, app: str | None = None) -> tuple[Metric, ...]:
        """The catalogue's metrics, then the app's KPIs."""
        spec = self._app_spec(app) if app else None
        return (*CATALOGUE.values(), *(kpi_metric(kpi) for kpi in (spec.kpis if spec else ())))

    def bundles_with_rows(self, app: str) -> tuple[str, ...]:
        """The bundles of which the log holds requests, oldest first."""
        return self._look(None, lambda reader: reader.bundles(app))

    def score_sources(self, app: str, bundle: str, snapshot: int | None = None) -> dict[str, int]:
        """How many scores the bundle's requests have, by who gave them: rule, judge, human or user."""
        return self._look(snapshot, lambda reader: reader.score_sources(app, bundle))

    def query(
        self,
        metrics: Sequence[str],
        *,
        by: Sequence[str] = (),
        window: str | Window | None = None,
        grain: str | None = None,
        where: Where | None = None,
        app: str | None = None,
        detail: bool = False,
        snapshot: int | None = None,
    ) -> pl.DataFrame:
        """One row per group that has requests, sorted by the dimensions and time.

        Args:
            metrics: names of the catalogue or of KPIs.
            by: dimensions; a missing value is null.
            window: `7d` (ends now), a `Window`, or None for the whole log.
            grain: width of a time bucket: 1m, 5m, 15m, 1h, 1d or 1w.
            where: dimension to the value, or values, that it must have.
            app: the application; None for all, each by its own rules.
            detail: whether to add counts and 95 % intervals.
            snapshot: the lake's snapshot to read; None for the newest.

        Returns:
            Columns: the dimensions str; `ts` datetime[us, UTC] with a grain; for each metric `<m>` f64 (`volume` i64), null where
            there is no data, and `<m>_n` i64; with detail `<m>_count` i64, `<m>_low` and `<m>_high` f64.

        Raises:
            UnknownSubject: a metric, dimension or grain does not exist; names the nearest.
            UsageError: the window or a filter makes no sense.
        """
        dims, bucket = parse_dimensions(by), parse_grain(grain)
        filters, span = _for_app(parse_where(where), app), parse_window(window, now=self._clock())

        def ask(reader: Reader) -> pl.DataFrame:
            definitions = self._definitions(_apps(filters) or reader.apps())
            chosen = tuple(definitions.metric(name) for name in dict.fromkeys(metrics))
            question = _dated(
                Question(metrics=chosen, dims=dims, grain=bucket, filters=filters, window=span, definitions=definitions), reader
            )
            return _frame(question, dict(_readings(reader, question, LEVEL if detail else None)), detail=detail)

        return self._look(snapshot, ask)

    def value(
        self, metric: str, *, app: str, where: Where | None = None, window: Window | None = None, snapshot: int | None = None
    ) -> MetricValue:
        """One number with its interval, the stretch of time it was seen in, and the snapshot."""

        def ask(reader: Reader) -> MetricValue:
            question = self._question(reader, metric, _for_app(parse_where(where), app), window)
            rows = reader.contributions(question, question.metrics, keep=True)
            seen = reader.row_set(rows)
            return _metric_value(question.metrics[0], _reading(reader, rows), Window(start=seen.first, until=seen.last), reader.snapshot)

        return self._look(snapshot, ask)

    def measure(
        self, metric: str, *, app: str, bundle: str, where: Where | None = None, window: Window | None = None, snapshot: int | None = None
    ) -> Evidence:
        """The sealed record of one metric on one bundle. Without data its estimate is None and its n 0."""
        filters = _for_bundles(parse_where(where), app, bundle)
        return self._look(
            snapshot, lambda reader: self._measured(reader, self._question(reader, metric, filters, window), app=app, bundle=bundle)
        )

    def compare(
        self,
        metric: str,
        *,
        app: str,
        bundle: str,
        baseline: str,
        where: Where | None = None,
        window: Window | None = None,
        snapshot: int | None = None,
    ) -> Evidence:
        """The sealed record of one metric on two bundles, paired where both have exactly the same units, one request each.

        Raises:
            UsageError: when the two are the same bundle.
        """
        if bundle == baseline:
            raise UsageError(f"bundle {bundle}", seen="it is compared with itself", needed="another bundle as baseline")
        filters = _for_bundles(parse_where(where), app, bundle, baseline)
        return self._look(
            snapshot,
            lambda reader: self._compared(
                reader, self._question(reader, metric, filters, window), app=app, bundle=bundle, baseline=baseline
            ),
        )

    def verify(self, evidence: Evidence) -> str:
        """Whether the log still says what the record says: SAME, DIFFERENT, or UNAVAILABLE when its snapshot is gone.

        The snapshot is not sealed: at any snapshot that gives the same statistics over the same rows the record is true.
        """
        if records.evidence_id(evidence) != evidence.evidence_id:
            return DIFFERENT
        try:
            again = self._read(evidence.snapshot, lambda reader: self._asked_again(reader, evidence))
        except duckdb.Error as fault:
            if not _is_gone(fault):
                raise
            return UNAVAILABLE
        except UnusableRows:
            return DIFFERENT
        return SAME if again.evidence_id == evidence.evidence_id else DIFFERENT

    def _asked_again(self, reader: Reader, evidence: Evidence) -> Evidence:
        question = _stored_question(evidence)
        if evidence.baseline is None:
            return self._measured(reader, question, app=evidence.app, bundle=evidence.subject)
        return self._compared(reader, question, app=evidence.app, bundle=evidence.subject, baseline=evidence.baseline)

    def _measured(self, reader: Reader, question: Question, *, app: str, bundle: str) -> Evidence:
        rows = reader.contributions(question, question.metrics, keep=True)
        row_set = reader.row_set(rows)
        seen = Window(start=row_set.first, until=row_set.last)
        statistics = records.metric_statistics(question.metrics[0], _reading(reader, rows), seen)
        return self._sealed(question, statistics, row_set, reader.snapshot, kind="metric", app=app, subject=bundle, baseline=None)

    def _compared(self, reader: Reader, question: Question, *, app: str, bundle: str, baseline: str) -> Evidence:
        metric, rows = question.metrics[0], reader.contributions(question, question.metrics, keep=True)
        sums = {level: reader.sums(rows, ["row_bundle"], level=level) for level in _levels(metric)}

        def at(name: str) -> Callable[[float], Reading]:
            return lambda level: _sound(metric, read(metric, sums.get(level, sums[LEVEL]).get((name,), {}), 0, level=level), name)

        spans = reader.spans(rows)

        def side(name: str) -> dict[str, Any]:
            return records.metric_statistics(metric, at(name)(LEVEL), spans.get(name, Window()))

        statistics = {
            "candidate": side(bundle),
            "baseline": side(baseline),
            **compare(metric, at(bundle), at(baseline), reader.units(rows, (bundle, baseline))),
        }
        subject = {"kind": "comparison", "app": app, "subject": bundle, "baseline": baseline}
        return self._sealed(question, statistics, reader.row_set(rows), reader.snapshot, **subject)

    def _sealed(self, question: Question, statistics: dict[str, Any], row_set: RowSet, snapshot: int, **subject: Any) -> Evidence:
        return records.sealed(
            Evidence(
                evidence_id="",
                **subject,
                query=_query_json(question),
                statistics=statistics,
                row_set=row_set,
                snapshot=snapshot,
                collected_at=self._clock(),
            )
        )

    def _question(self, reader: Reader, name: str, filters: Filters, window: Window | None) -> Question:
        definitions = self._definitions(_apps(filters))
        metric = definitions.metric(name)
        span = parse_window(window, now=self._clock())
        return _dated(Question(metrics=(metric,), filters=filters, window=span, definitions=definitions.narrowed(metric)), reader)

    def _definitions(self, apps: Sequence[str]) -> Definitions:
        specs = [self._app_spec(app) for app in apps]
        return Definitions.of([spec for spec in specs if spec is not None])

    def _look(self, snapshot: int | None, work: Callable[[Reader], T]) -> T:
        """What `work` returns, from one read transaction at one snapshot.

        Raises:
            StoreError: the lake no longer holds the snapshot, or cannot be read.
        """
        chosen = snapshot if snapshot is not None else self._lake.snapshot()
        try:
            return self._read(EMPTY if chosen is None else chosen, work)
        except duckdb.Error as fault:
            if not _is_gone(fault):
                raise
            step = "ask without a snapshot to read the newest"
            raise StoreError(f"snapshot {chosen}", seen="the lake no longer holds it", next_step=step) from fault

    def _read(self, snapshot: int, work: Callable[[Reader], T]) -> T:
        return self._lake.read(lambda connection: work(Reader(connection, snapshot)))


def _is_gone(fault: duckdb.Error) -> bool:
    """Whether the snapshot that was asked for has expired, or never was."""
    return "No snapshot found" in str(fault)


def _reading(reader: Reader, rows: Rows) -> Reading:
    """The first metric over all the rows."""
    return _sound(rows.metrics[0], read(rows.metrics[0], reader.sums(rows, (), level=LEVEL).get((), {}), 0, level=LEVEL))


class UnusableRows(UsageError):
    """Stored rows say what cannot be, so the metric that reads them has no value."""


def _sound(metric: Metric, reading: Reading, *group: object) -> Reading:
    """The reading, when its rows are possible.

    Raises:
        UnusableRows: otherwise; names the metric and the counts.
    """
    if reading.fault is None:
        return reading
    where = " in " + ", ".join("(none)" if name is None else str(name) for name in group) if group else ""
    raise UnusableRows(
        f"metric {metric.name}{where}",
        seen=reading.fault,
        needed="rows in which each part is at most its whole, and each value a number",
        next_step="log corrected revisions of these rows, or choose a window or filter without them",
    )


def _levels(metric: Metric) -> Sequence[float]:
    """The coverages whose order statistics a comparison needs; other intervals follow from the sums at any coverage."""
    return (LEVEL, level_of_each(LEVEL)) if metric.kind is Kind.QUANTILE else (LEVEL,)


def _readings(reader: Reader, question: Question, level: float | None) -> Iterator[tuple[Key, dict[str, Reading]]]:
    """Each group that has requests, with the reading of each metric."""
    plain = [metric for metric in question.metrics if metric.kpi is None]
    plans = [plain, *([metric] for metric in question.metrics if metric.kpi is not None)]
    rows = [reader.contributions(question, plan, keep=level is not None) for plan in plans]
    found = [reader.sums(part, question.keys, level=level) for part in rows]
    for key in found[0]:
        readings = {}
        for plan, groups in zip(plans, found, strict=True):
            for number, metric in enumerate(plan):
                readings[metric.name] = _sound(metric, read(metric, groups.get(key, {}), number, level=level or LEVEL), *key)
        yield key, readings


def _frame(question: Question, groups: Mapping[Key, Mapping[str, Reading]], *, detail: bool) -> pl.DataFrame:
    columns: dict[str, pl.Series] = {}
    for number, name in enumerate(question.keys):
        columns[name] = pl.Series(name, [key[number] for key in groups], dtype=pl.Int64 if name == TIME else pl.String)
    for metric in question.metrics:
        readings = [group[metric.name] for group in groups.values()]
        columns |= _metric_columns(metric, readings, detail=detail)
    frame = pl.DataFrame(columns)
    if question.grain is not None:
        frame = frame.with_columns(bucket_start(TIME, question.grain))
    return frame.sort(question.keys, nulls_last=True) if question.keys else frame


def _metric_columns(metric: Metric, readings: Sequence[Reading], *, detail: bool) -> dict[str, pl.Series]:
    name, number = metric.name, pl.Int64 if metric.kind is Kind.COUNT else pl.Float64
    values = [None if r.value is None else (int(r.value) if metric.kind is Kind.COUNT else r.value) for r in readings]
    columns = {name: pl.Series(name, values, dtype=number), f"{name}_n": pl.Series([r.n for r in readings], dtype=pl.Int64)}
    if detail:
        columns[f"{name}_count"] = pl.Series([r.count for r in readings], dtype=pl.Int64)
        columns[f"{name}_low"] = pl.Series([r.low for r in readings], dtype=pl.Float64)
        columns[f"{name}_high"] = pl.Series([r.high for r in readings], dtype=pl.Float64)
    return columns


def _metric_value(metric: Metric, reading: Reading, seen: Window, snapshot: int) -> MetricValue:
    interval = Interval(low=reading.low, high=reading.high, level=reading.level, method=reading.method)
    has_interval = reading.value is not None and reading.method != TOTAL
    return MetricValue(
        metric=metric.name,
        unit=metric.unit,
        direction=metric.direction,
        value=reading.value,
        n=reading.n,
        count=reading.count,
        interval=interval if has_interval else None,
        window=seen,
        snapshot=snapshot,
    )


def _apps(filters: Filters) -> tuple[str, ...]:
    return dict(filters).get("app", ())


def _for_app(filters: Filters, app: str | None) -> Filters:
    if app is None:
        return filters
    asked = dict(filters)
    if app not in asked.get("app", (app,)):
        raise UsageError(f"app {app}", seen=f"the filter asks for app {', '.join(asked['app'])}", next_step="leave one of the two out")
    return tuple(sorted({**asked, "app": (app,)}.items()))


def _for_bundles(filters: Filters, app: str, *bundles: str) -> Filters:
    if "bundle" in dict(filters):
        raise UsageError("filter bundle", seen="the bundle is chosen by the measurement", next_step="leave it out of `where`")
    return tuple(sorted({**dict(_for_app(filters, app)), "bundle": tuple(sorted(bundles))}.items()))


def _dated(question: Question, reader: Reader) -> Question:
    """The question with the time until which the log is known, where a success rule waits for events."""
    if not question.waits_for_outcomes:
        return question
    events = [event for event, _ in question.definitions.rules.awaited]
    newest, until = reader.newest(_apps(question.filters) or reader.apps(), events), question.window.until
    return replace(question, as_of=min(newest, until) if newest and until else newest)


def _query_json(question: Question) -> dict[str, Any]:
    return {
        "metric": question.metrics[0].name,
        "where": {name: list(values) for name, values in question.filters},
        "window": records.window_json(question.window),
        "definitions": question.definitions.as_json(),
        "as_of": records.iso(question.as_of),
    }


def _stored_question(evidence: Evidence) -> Question:
    content = evidence.query
    definitions = Definitions.from_json(content["definitions"])
    return Question(
        metrics=(definitions.metric(content["metric"]),),
        filters=parse_where(content["where"]),
        window=records.window_from_json(content["window"]),
        definitions=definitions,
        as_of=datetime.fromisoformat(content["as_of"]) if content["as_of"] else None,
    )
