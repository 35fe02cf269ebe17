"""Asking the log: one query function for people, and sealed measurements for gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import duckdb

from workbench.errors import StoreError, UsageError
from workbench.observability import evidence as records
from workbench.observability.answering import MetricFrame, Path, choose
from workbench.observability.asking import Definitions, Question
from workbench.observability.catalogue import CATALOGUE, kpi_metric
from workbench.observability.custom_metrics import custom_metric
from workbench.observability.dimensions import Filters, apps_of, parse_where, parse_window
from workbench.observability.empty_answers import why_empty
from workbench.observability.frames import Asked, frame, readings
from workbench.observability.lake import Lake
from workbench.observability.lookup import find_request
from workbench.observability.measuring import (
    LEVEL,
    Sitting,
    UnusableRows,
    Where,
    asked_again,
    compared,
    dated,
    for_app,
    for_bundles,
    is_by_other_rules,
    measured,
    question_of,
    reading,
    sound,
)
from workbench.observability.metric import Metric
from workbench.observability.model import Evidence, Interval, MetricValue, Window
from workbench.observability.reader import EMPTY, Reader
from workbench.observability.readings import TOTAL, Reading, read
from workbench.observability.sum_reader import Key
from workbench.spec.app import AppSpec
from workbench.spec.metrics import MetricsSpec

SAME, DIFFERENT = "SAME", "DIFFERENT"
ERASED, EXPIRED = "UNAVAILABLE(erasure)", "UNAVAILABLE(retention)"
NOT_LOGGED = "UNAVAILABLE(not in the log)"
OTHER_RULES = "UNAVAILABLE(rules)"
T = TypeVar("T")


class Metrics:
    """The metric catalogue over the log lake.

    Args:
        lake: where the log is.
        app_spec: the declaration of an app, or None for an app that nobody declared.
        app_metrics: its own metrics, or None for an app without any.
        clock: the time that windows such as `7d` end at.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        app_spec: Callable[[str], AppSpec | None],
        app_metrics: Callable[[str], MetricsSpec | None] = lambda _: None,
        clock: Callable[[], datetime],
    ) -> None:
        self._lake = lake
        self._app_spec = app_spec
        self._app_metrics = app_metrics
        self._clock = clock

    def snapshot(self) -> int | None:
        """The lake's newest snapshot; None before the first write."""
        return self._lake.snapshot()

    def known(self, app: str | None = None) -> tuple[Metric, ...]:
        """The catalogue's metrics, then the app's KPIs, then its own metrics."""
        spec, own = (self._app_spec(app), self._app_metrics(app)) if app else (None, None)
        kpis = (kpi_metric(kpi) for kpi in (spec.kpis if spec else ()))
        return (*CATALOGUE.values(), *kpis, *(custom_metric(metric, (app or "",)) for metric in (own.metrics if own else ())))

    def named(self, name: str, apps: Sequence[str] = ()) -> Metric:
        """The metric of that name, from the catalogue, a family of it, or what these apps declare.

        Raises:
            UnknownSubject: there is none.
        """
        return self._definitions(apps).metric(name)

    def has_rows(self, app: str) -> bool:
        """Whether the log holds requests of the app."""
        return self._look(None, lambda reader: app in reader.apps())

    def bundles_with_rows(self, app: str) -> tuple[str, ...]:
        """The bundles of which the log holds requests, oldest first."""
        return self._look(None, lambda reader: reader.bundles(app))

    def score_sources(self, app: str, bundle: str, snapshot: int | None = None) -> dict[str, int]:
        """How many scores the bundle's requests have, by who gave them: rule, judge, human or user."""
        return self._look(snapshot, lambda reader: reader.score_sources(app, bundle))

    def candidate_units(self, app: str, release_id: str, *, arm: str = "candidate") -> int:
        """How many different units the candidate of a release has served, or answered in the arm `shadow`, as the log shows until now."""
        return self._look(None, lambda reader: reader.candidate_units(app, release_id, arm))

    def units_per_day(self, app: str) -> float | None:
        """How many different units come to the app in a day, of late; None where the log knows less than a day of it."""
        return self._look(None, lambda reader: reader.units_per_day(app, until=self._clock()))

    def request(self, app: str, request_id: str) -> Mapping[str, Any] | None:
        """What the log knows of one request, without its text; None where it knows nothing (yet)."""
        if self._lake.snapshot() is None:
            return None
        return self._lake.read(lambda connection: find_request(connection, app, request_id))

    def query(
        self,
        metrics: str | Sequence[str],
        *,
        by: str | Sequence[str] = (),
        window: str | Window | None = None,
        grain: str | None = None,
        where: Where | None = None,
        app: str | None = None,
        detail: bool | None = False,
        exact: bool | None = None,
        snapshot: int | None = None,
    ) -> MetricFrame:
        """One row per group that has requests, sorted by the dimensions and time.

        It is answered from the requests, or from sums of hours and days where those can answer: `answered` of the result says which, and
        how far a percentile may be off. Counts, rates and sums are the same on both paths. Where nobody chooses, the sums answer when
        they spare reading a million requests and no interval is asked for: units cannot be told from sums.

        Args:
            metrics: names of the catalogue or of KPIs, or one such name.
            by: dimensions, or one; a missing value is null.
            window: `7d` (ends now), a `Window`, or None for the whole log.
            grain: width of a time bucket: 1m, 5m, 15m, 1h, 1d or 1w.
            where: dimension to the value, or values, that it must have.
            app: the application; None for all, each by its own rules.
            detail: whether to add counts and 95 % intervals; None adds the intervals only where the requests are read anyway.
            exact: True for the requests alone, False for the sums, None for the better of the two.
            snapshot: the lake's snapshot to read, from its requests; None for the newest.

        Returns:
            Columns: the dimensions str; `ts` datetime[us, UTC] with a grain; for each metric `<m>` f64 (counts such as
            `volume` and `users` i64), null where there is no data, and `<m>_n` i64; with detail `<m>_count` i64, and `<m>_low` and
            `<m>_high` f64, null where sums answered.

        Raises:
            UnknownSubject: a metric, dimension or grain does not exist; names the nearest.
            UsageError: the window or a filter makes no sense, or `exact` is False and the sums cannot answer.
        """
        asked = Asked.parse(metrics, by=by, window=window, grain=grain, where=where, app=app, now=self._clock())
        if snapshot is not None and exact is False:
            raise UsageError(f"snapshot {snapshot}", seen="it is asked of the sums", needed="the newest, or exact=True")

        def ask(reader: Reader) -> MetricFrame:
            question = asked.question(self._definitions(asked.apps or reader.apps()))
            way = choose(reader, question, exact=exact if snapshot is None else True, needs_ends=bool(detail))
            if way.path is Path.ROLLUP:
                groups = dict(_rolled_readings(reader, question))
            else:
                groups = dict(readings(reader, question, LEVEL if detail is not False else None))
            return MetricFrame.of(frame(question, groups, detail=detail is not False), way)

        return self._look(snapshot, ask)

    def why_empty(self, *, window: str | Window | None = None, where: Where | None = None, app: str | None = None) -> str:
        """Why such a `query` has no rows, in one sentence with what to ask instead; from sums, however long the log is.

        Args:
            window: as of `query`, as the others.
            where: of the question.
            app: of the question.
        """
        filters = for_app(parse_where(where), app) if app is not None else parse_where(where)

        def count(these: Filters, by: str | None, grain: str | None) -> MetricFrame:
            return self.query("volume", by=by or (), where=dict(these), grain=grain, exact=False)

        now = self._clock()
        return why_empty(count, filters, parse_window(window, now=now), now=now)

    def value(
        self, metric: str, *, app: str, where: Where | None = None, window: Window | None = None, snapshot: int | None = None
    ) -> MetricValue:
        """One number with its interval, the stretch of time it was seen in, and the snapshot."""

        def ask(reader: Reader) -> MetricValue:
            question = self._question(reader, metric, for_app(parse_where(where), app), window)
            rows = reader.contributions(question, question.metrics, keep=True)
            seen, _ = reader.row_set(rows)
            return _metric_value(question.metrics[0], reading(reader, rows), Window(start=seen.first, until=seen.last), reader.snapshot)

        return self._look(snapshot, ask)

    def measure(
        self,
        metric: str,
        *,
        app: str,
        bundle: str,
        where: Where | None = None,
        window: Window | None = None,
        min_n: int | None = None,
        snapshot: int | None = None,
    ) -> Evidence:
        """The sealed record of one metric on one bundle. Without data its estimate is None and its n 0.

        Args:
            metric: a name of the catalogue or of a KPI.
            app: the application.
            bundle: the bundle that answered.
            where: dimension to the value, or values, that it must have.
            window: a stretch of time, or None for the whole log.
            min_n: of how many of its newest units the record says when they were observed; a gate judges its age by that.
            snapshot: the lake's snapshot to read; None for the newest.
        """
        filters = for_bundles(parse_where(where), app, bundle)

        def ask(reader: Reader) -> Evidence:
            return measured(reader, self._question(reader, metric, filters, window, min_n), app=app, bundle=bundle, at=self._clock())

        return self._look(snapshot, ask)

    def compare(
        self,
        metric: str,
        *,
        app: str,
        bundle: str,
        baseline: str,
        where: Where | None = None,
        window: Window | None = None,
        min_n: int | None = None,
        snapshot: int | None = None,
    ) -> Evidence:
        """The sealed record of one metric on two bundles, paired where both have exactly the same units, one request each.

        Arguments as in `measure`.

        Raises:
            UsageError: when the two are the same bundle.
        """
        if bundle == baseline:
            raise UsageError(f"bundle {bundle}", seen="it is compared with itself", needed="another bundle as baseline")
        filters = for_bundles(parse_where(where), app, bundle, baseline)

        def ask(reader: Reader) -> Evidence:
            question = self._question(reader, metric, filters, window, min_n)
            return compared(reader, question, app=app, bundle=bundle, baseline=baseline, at=self._clock())

        return self._look(snapshot, ask)

    def sitting(
        self, work: Callable[[Sitting], T], *, app: str, bundle: str, baseline: str | None = None, snapshot: int | None = None
    ) -> T:
        """What `work` returns, whose measurements on these bundles all read the same rows, once, at one snapshot.

        `work` runs again when a file of the snapshot was cleaned away meanwhile, so it changes nothing but its own values.
        """

        def ask(reader: Reader) -> T:
            definitions = self._definitions((app,))
            return work(Sitting(reader, app=app, bundle=bundle, baseline=baseline, definitions=definitions, clock=self._clock))

        return self._look(snapshot, ask)

    def verify(self, evidence: Evidence) -> str:
        """Whether the log still says what the record says: SAME, DIFFERENT, or UNAVAILABLE with what is gone: its snapshot, or its rules.

        The snapshot is not sealed: at any snapshot that gives the same statistics over the same rows the record is true. So where its own
        is gone the newest is asked; only a record that the newest does not bear out is unavailable, as other rows may be why. So it is with
        one whose sessions were counted by other rules: where these give the same it is true, else nobody can tell.
        """
        if records.evidence_id(evidence) != evidence.evidence_id:
            return DIFFERENT
        snapshot = evidence.snapshot
        if snapshot is None:
            return NOT_LOGGED
        try:
            return self._verified(evidence, snapshot)
        except duckdb.Error as fault:
            if not _is_gone(fault):
                raise
        newest = self._lake.snapshot()
        if newest is not None and self._verified(evidence, newest) == SAME:
            return SAME
        return self._lake.read(lambda connection: why_gone(connection, snapshot))

    def _verified(self, evidence: Evidence, snapshot: int) -> str:
        try:
            again = self._read(snapshot, lambda reader: asked_again(reader, evidence, at=self._clock()))
        except UnusableRows:
            return DIFFERENT
        if again.evidence_id == evidence.evidence_id:
            return SAME
        return OTHER_RULES if is_by_other_rules(evidence) else DIFFERENT

    def _question(self, reader: Reader, name: str, filters: Filters, window: Window | None, min_n: int | None = None) -> Question:
        span = parse_window(window, now=self._clock())
        return dated(question_of(name, self._definitions(apps_of(filters)), filters=filters, window=span, min_n=min_n), reader)

    def _definitions(self, apps: Sequence[str]) -> Definitions:
        return Definitions.declared(apps, self._app_spec, self._app_metrics)

    def _look(self, snapshot: int | None, work: Callable[[Reader], T]) -> T:
        """What `work` returns, from one read transaction at one snapshot.

        Raises:
            StoreError: the lake no longer holds the snapshot, or cannot be read.
        """
        if snapshot is None:
            return self._lake.look(lambda connection, newest: work(Reader(connection, newest or EMPTY, is_newest=True)))
        try:
            return self._read(snapshot, work)
        except duckdb.Error as fault:
            if not _is_gone(fault):
                raise
            step = "ask without a snapshot to read the newest"
            raise StoreError(f"snapshot {snapshot}", seen="the lake no longer holds it", next_step=step) from fault

    def _read(self, snapshot: int, work: Callable[[Reader], T]) -> T:
        return self._lake.read(lambda connection: work(Reader(connection, snapshot)))


def _is_gone(fault: duckdb.Error) -> bool:
    """Whether the snapshot that was asked for has expired, or never was."""
    return "No snapshot found" in str(fault)


def why_gone(connection: duckdb.DuckDBPyConnection, snapshot: int) -> str:
    """Why the lake no longer holds a snapshot."""
    sql = f"SELECT count(*) FROM lake.expiries WHERE reason = 'erasure' AND {int(snapshot)} BETWEEN first_snapshot AND last_snapshot"
    row = connection.execute(sql).fetchone()
    return ERASED if row is not None and row[0] else EXPIRED


def _rolled_readings(reader: Reader, question: Question) -> Iterator[tuple[Key, dict[str, Reading]]]:
    """The same from sums, which know no units and so give no intervals."""
    for key, sums in reader.rolled_sums(question).items():
        readings = (read(metric, sums, number, level=LEVEL) for number, metric in enumerate(question.metrics))
        yield key, {metric.name: sound(metric, reading, *key) for metric, reading in zip(question.metrics, readings, strict=True)}


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
