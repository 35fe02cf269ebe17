"""Sealed measurements: a question and a look at the lake become one evidence record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from workbench.errors import UsageError
from workbench.observability import evidence as records
from workbench.observability.asking import FIRST_SESSION_RULES, SESSION_RULES, Definitions, Question
from workbench.observability.comparison import compare
from workbench.observability.dimensions import Filters, apps_of, parse_where
from workbench.observability.metric import Kind, Metric
from workbench.observability.model import Evidence, RowSet, Window
from workbench.observability.reader import Reader
from workbench.observability.readings import Reading, read
from workbench.observability.recency import Seen, ranks
from workbench.observability.sum_reader import Rows, SumReader
from workbench.stats.ratio import level_of_each

LEVEL = 0.95
"""Coverage of every interval."""
Where = Mapping[str, str | Sequence[str]]


class UnusableRows(UsageError):
    """Stored rows say what cannot be, so the metric that reads them has no value."""


class Sitting:
    """Measurements on one bundle, and against its baseline, at one snapshot: the rows under them are read from the lake once.

    Each record is the one that `Metrics.measure` and `Metrics.compare` give at that snapshot.
    """

    def __init__(
        self, reader: Reader, *, app: str, bundle: str, baseline: str | None, definitions: Definitions, clock: Callable[[], datetime]
    ) -> None:
        self._reader = reader
        self._app, self._bundle, self._baseline = app, bundle, baseline
        self._definitions = definitions
        self._clock = clock
        bundles = (bundle,) if baseline is None else (bundle, baseline)
        everything = Question(metrics=(), filters=for_bundles((), app, *bundles), window=Window(), definitions=definitions)
        self._as_of = _newest_known(everything, [event for event, _ in definitions.rules.awaited], reader)
        reader.hold(replace(everything, as_of=self._as_of))

    def measure(self, metric: str, where: Where | None = None, *, min_n: int | None = None) -> Evidence:
        """The sealed record of one metric on the bundle."""
        question = self._question(metric, for_bundles(parse_where(where), self._app, self._bundle), min_n)
        return measured(self._reader, question, app=self._app, bundle=self._bundle, at=self._clock())

    def compare(self, metric: str, where: Where | None = None, *, min_n: int | None = None) -> Evidence:
        """The sealed record of one metric on the bundle and its baseline.

        Raises:
            UsageError: when there is no baseline.
        """
        if self._baseline is None:
            raise UsageError(f"metric {metric}", seen="no baseline was chosen", needed="a bundle to compare with")
        question = self._question(metric, for_bundles(parse_where(where), self._app, self._bundle, self._baseline), min_n)
        return compared(self._reader, question, app=self._app, bundle=self._bundle, baseline=self._baseline, at=self._clock())

    def score_sources(self) -> dict[str, int]:
        """How many scores the bundle's requests have, by who gave them: rule, judge, human or user."""
        return self._reader.score_sources(self._app, self._bundle)

    def _question(self, name: str, filters: Filters, min_n: int | None) -> Question:
        question = question_of(name, self._definitions, filters=filters, window=Window(), min_n=min_n)
        if question.metrics[0].kpi:
            return dated(question, self._reader)
        return replace(question, as_of=self._as_of) if question.awaited else question


def question_of(name: str, definitions: Definitions, *, filters: Filters, window: Window, min_n: int | None) -> Question:
    """The question for one metric, with what it depends on.

    Raises:
        UnknownSubject: there is no such metric.
        UsageError: `min_n` is no number of observations.
    """
    if min_n is not None and min_n < 1:
        raise UsageError(f"min_n {min_n}", seen="no number of observations", needed="at least 1")
    metric = definitions.metric(name)
    return Question(metrics=(metric,), filters=filters, window=window, definitions=definitions.narrowed(metric), min_n=min_n)


def dated(question: Question, reader: SumReader) -> Question:
    """The question with the time until which the log is known, where a success rule or a KPI waits for events."""
    return replace(question, as_of=_newest_known(question, question.awaited, reader)) if question.awaited else question


def _newest_known(question: Question, events: Sequence[str], reader: SumReader) -> datetime | None:
    """Until when the log is known of the question's apps and of these events; None without any."""
    if not events:
        return None
    newest, until = reader.newest(apps_of(question.filters) or reader.apps(), events), question.window.until
    return min(newest, until) if newest and until else newest


def measured(reader: Reader, question: Question, *, app: str, bundle: str, at: datetime) -> Evidence:
    """The record of the question's metric on one bundle, collected `at`."""
    rows = reader.contributions(question, question.metrics, keep=True)
    row_set, seen = reader.row_set(rows, _ranks(question))
    statistics = _side(question, reading(reader, rows), seen.get(bundle))
    return _sealed(question, statistics, row_set, reader.snapshot, at, kind="metric", app=app, subject=bundle, baseline=None)


def compared(reader: Reader, question: Question, *, app: str, bundle: str, baseline: str, at: datetime) -> Evidence:
    """The record of the question's metric on two bundles, collected `at`."""
    rows = reader.contributions(question, question.metrics, keep=True)
    metric = rows.metrics[0]
    sums = {level: reader.sums(rows, ["row_bundle"], level=level) for level in _levels(metric)}

    def at_level(name: str) -> Callable[[float], Reading]:
        return lambda level: sound(metric, read(metric, sums.get(level, sums[LEVEL]).get((name,), {}), 0, level=level), name)

    row_set, seen = reader.row_set(rows, _ranks(question))
    statistics = {
        "candidate": _side(question, at_level(bundle)(LEVEL), seen.get(bundle)),
        "baseline": _side(question, at_level(baseline)(LEVEL), seen.get(baseline)),
        **compare(metric, at_level(bundle), at_level(baseline), reader.units(rows, (bundle, baseline))),
    }
    subject = {"kind": "comparison", "app": app, "subject": bundle, "baseline": baseline}
    return _sealed(question, statistics, row_set, reader.snapshot, at, **subject)


def asked_again(reader: Reader, evidence: Evidence, *, at: datetime) -> Evidence:
    """What the record's own question gives where the reader looks."""
    question = _stored_question(evidence)
    if evidence.baseline is None:
        return measured(reader, question, app=evidence.app, bundle=evidence.subject, at=at)
    return compared(reader, question, app=evidence.app, bundle=evidence.subject, baseline=evidence.baseline, at=at)


def is_by_other_rules(evidence: Evidence) -> bool:
    """Whether sessions were counted by rules that this program has no more, or not yet."""
    question = _stored_question(evidence)
    return bool(question.timed_rates) and question.session_rules != SESSION_RULES


def reading(reader: SumReader, rows: Rows) -> Reading:
    """The first metric over all the rows."""
    return sound(rows.metrics[0], read(rows.metrics[0], reader.sums(rows, (), level=LEVEL).get((), {}), 0, level=LEVEL))


def sound(metric: Metric, reading: Reading, *group: object) -> Reading:
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


def for_app(filters: Filters, app: str | None) -> Filters:
    """The filters, for one app.

    Raises:
        UsageError: they name another.
    """
    if app is None:
        return filters
    asked = dict(filters)
    if app not in asked.get("app", (app,)):
        raise UsageError(f"app {app}", seen=f"the filter asks for app {', '.join(asked['app'])}", next_step="leave one of the two out")
    return tuple(sorted({**asked, "app": (app,)}.items()))


def for_bundles(filters: Filters, app: str, *bundles: str) -> Filters:
    """The filters, for these bundles of one app.

    Raises:
        UsageError: they name bundles themselves, or another app.
    """
    if "bundle" in dict(filters):
        raise UsageError("filter bundle", seen="the bundle is chosen by the measurement", next_step="leave it out of `where`")
    return tuple(sorted({**dict(for_app(filters, app)), "bundle": tuple(sorted(bundles))}.items()))


def _ranks(question: Question) -> tuple[int, ...]:
    return () if question.min_n is None else ranks(question.min_n)


def _side(question: Question, reading: Reading, seen: Seen | None) -> dict[str, Any]:
    return records.metric_statistics(question.metrics[0], reading, seen or Seen(), is_age_asked=question.min_n is not None)


def _levels(metric: Metric) -> Sequence[float]:
    """The coverages whose order statistics a comparison needs; other intervals follow from the sums at any coverage."""
    return (LEVEL, level_of_each(LEVEL)) if metric.kind is Kind.QUANTILE else (LEVEL,)


def _sealed(question: Question, statistics: dict[str, Any], row_set: RowSet, snapshot: int, at: datetime, **subject: Any) -> Evidence:
    return records.sealed(
        Evidence(
            evidence_id="",
            **subject,
            query=_query_json(question),
            statistics=statistics,
            row_set=row_set,
            snapshot=snapshot,
            collected_at=at,
        )
    )


def _query_json(question: Question) -> dict[str, Any]:
    """Enough to ask again. Who did not ask for ages has a record without them, as all had before ages were kept; so with the rules."""
    has_rules = question.timed_rates and question.session_rules != FIRST_SESSION_RULES
    return {
        "metric": question.metrics[0].name,
        "where": {name: list(values) for name, values in question.filters},
        "window": records.window_json(question.window),
        "definitions": question.definitions.as_json(),
        "as_of": records.iso(question.as_of),
        **({} if question.min_n is None else {"min_n": question.min_n}),
        **({"session_rules": question.session_rules} if has_rules else {}),
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
        min_n=content.get("min_n"),
        session_rules=content.get("session_rules", FIRST_SESSION_RULES),
    )
