"""Objectives asked of the log: what was good and bad in each stretch of time, how each objective stands, and what is unusual."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from workbench.errors import UnknownSubject
from workbench.observability.alarms import HISTORY, HOUR, Alarm, absent, unusual
from workbench.observability.asking import Definitions, Question
from workbench.observability.dimensions import GRAINS, parse_where
from workbench.observability.lake import Lake
from workbench.observability.measuring import dated
from workbench.observability.metric import Kind, Metric
from workbench.observability.metrics import Metrics
from workbench.observability.model import Window
from workbench.observability.reader import EMPTY, Reader
from workbench.observability.slo import Standing, Terms, judge
from workbench.observability.slo_events import bad_events, is_bad_side
from workbench.observability.sum_reader import Sums
from workbench.spec.agreement import UNASSIGNED
from workbench.spec.app import AppSpec, OutcomeRule
from workbench.spec.slo import SUCCESS, Objective, SloSpec
from workbench.stats.burn import Events, total

NO_ARM = "none"
"""The arm of requests that no release served."""
T = TypeVar("T")
FINE, COARSE = "1m", "1h"
"""Steps in which alert lines and whole windows are counted; a window begins and ends on a whole minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The events of one objective by time, counted once and summed often."""

    starts: tuple[datetime, ...]
    """Of the steps that hold events, ascending."""
    events: tuple[Events, ...]

    def between(self, start: datetime, until: datetime) -> Events:
        """The events of the steps that begin in the half-open stretch."""
        return total(self.events[bisect_left(self.starts, start) : bisect_left(self.starts, until)])


class Objectives:
    """Is what was promised kept? Reads the log, writes nothing.

    Args:
        lake: where the log is.
        slo_spec: what an app declares in slo.yaml, or None.
        app_spec: what it declares in app.yaml, or None.
        metrics: the metric catalogue over the same log.
        clock: the present.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        metrics: Metrics,
        slo_spec: Callable[[str], SloSpec | None],
        app_spec: Callable[[str], AppSpec | None],
        clock: Callable[[], datetime],
    ) -> None:
        self._lake = lake
        self._metrics = metrics
        self._slo_spec = slo_spec
        self._app_spec = app_spec
        self._clock = clock

    def declared(self, app: str) -> SloSpec:
        """What the app declares.

        Raises:
            UnknownSubject: nothing.
        """
        spec = self._slo_spec(app)
        if spec is None:
            step = f"write slo.yaml beside app.yaml and declare it: `workbench app register DIR`; `workbench slo list {app}` then shows it"
            raise UnknownSubject(f"objectives of {app}", seen="no slo.yaml is declared", next_step=step)
        return spec

    def terms(self, app: str) -> tuple[Terms, ...]:
        """The objectives of the app with what its file says for all of them, in its order."""
        spec = self.declared(app)
        return tuple(Terms.of(spec, objective, settles_after=self._settling(app, objective)) for objective in spec.objectives)

    def check(self, app: str, *, at: datetime | None = None) -> Standing:
        """How each objective stands, and which alarms are raised.

        Args:
            app: the application.
            at: the moment, by default now; it counts to the whole minute before it.
        """
        now = _whole_minute(at or self._clock())
        terms = self.terms(app)
        fine = self._counted(app, terms, FINE, lambda each: (each.window(now)[1] - each.longest_line, each.window(now)[1]), now=now)
        coarse = self._counted(app, terms, COARSE, lambda each: each.window(now), now=now)
        judgements = tuple(judge(each, now, _count(each, now, fine, coarse)) for each in terms)
        return Standing(app=app, at=now, judgements=judgements, alarms=self.alarms(app, at=now))

    def history(self, app: str, *, at: datetime | None = None) -> Mapping[str, Counted]:
        """Name of each objective to its events by hour, over its window and the longest alert line before it."""
        now = _whole_minute(at or self._clock())
        terms = self.terms(app)

        def stretch(each: Terms) -> tuple[datetime, datetime]:
            start, until = each.window(now)
            return start - each.longest_line, until

        return self._counted(app, terms, COARSE, stretch, now=now)

    def alarms(self, app: str, *, at: datetime | None = None) -> tuple[Alarm, ...]:
        """What is unusual in the newest whole hour: volume, cost, and traffic that is absent."""
        spec = self.declared(app)
        wanted = spec.alarms
        until = (at or self._clock()).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        hours, volume, cost = self._hours(app, spec.arms, Window(start=until - HISTORY, until=until))
        rate = wanted.false_alarms_per_week
        found = [absent(hours, volume, false_alarms_per_week=rate)]
        if wanted.volume:
            found.append(unusual("volume", "requests", hours, volume, false_alarms_per_week=rate))
        if wanted.cost:
            found.append(unusual("cost", "USD", hours, cost, false_alarms_per_week=rate))
        return tuple(found)

    def newest(self, app: str) -> datetime | None:
        """When the newest request of the app began; None where the log has none."""
        return self._look(lambda reader: reader.newest((app,), ()))

    def violations(self, app: str, window: Window) -> Mapping[str, int]:
        """Rule to the requests of the window that broke it towards a user or a tool, most first."""
        start, until = (f"TIMESTAMPTZ '{end.isoformat()}'" if end else None for end in (window.start, window.until))
        when = "".join(f" AND ts_start {sign} {end}" for sign, end in ((">=", start), ("<", until)) if end)
        app_text = app.replace("'", "''")
        sql = f"""SELECT rule, count(*) AS n FROM
                  (SELECT unnest(violation_rules) AS rule FROM "requests"
                   WHERE app = '{app_text}' AND arm IS DISTINCT FROM 'shadow'{when}) AS broken
                  GROUP BY rule ORDER BY n DESC, rule"""
        return self._look(lambda reader: {row["rule"]: int(row["n"]) for row in reader.rows(sql)})

    def _hours(self, app: str, arms: Collection[str], window: Window) -> tuple[list[datetime], list[float], list[float | None]]:
        """All hours from the first with a request, their requests, and their cost where it is known."""
        frame = self._metrics.query(["volume", "cost_usd"], by="arm", grain="1h", window=window, app=app)
        counts: dict[datetime, float] = defaultdict(float)
        costs: dict[datetime, float] = defaultdict(float)
        for row in frame.iter_rows(named=True):
            if (row["arm"] or NO_ARM) in arms:
                counts[row["ts"]] += row["volume"]
                if row["cost_usd"] is not None:
                    costs[row["ts"]] += row["cost_usd"]
        first = min(counts, default=window.until)
        n = int((window.until - first) / HOUR) if window.until and first else 0
        hours = [first + place * HOUR for place in range(n)] if first else []
        return hours, [counts.get(hour, 0.0) for hour in hours], [costs.get(hour) for hour in hours]

    def _settling(self, app: str, objective: Objective) -> timedelta:
        """How long success waits for a business event, in the workflows of the objective."""
        spec = self._app_spec(app)
        if spec is None or objective.indicator != SUCCESS:
            return timedelta(0)
        rules = [workflow.success for workflow in spec.workflows if objective.workflow in (None, workflow.name)]
        return max((rule.within for rule in rules if isinstance(rule, OutcomeRule)), default=timedelta(0))

    def _counted(
        self, app: str, terms: Sequence[Terms], grain: str, stretch: Callable[[Terms], tuple[datetime, datetime]], *, now: datetime
    ) -> dict[str, Counted]:
        """The events of each objective in its stretch of time; objectives with the same stretch are read at once.

        Success is what is known of it now, also where the stretch ended earlier.
        """
        together: dict[tuple[datetime, datetime], list[Objective]] = defaultdict(list)
        for each in terms:
            together[stretch(each)].append(each.objective)
        spec, arms = self._app_spec(app), self.declared(app).arms
        definitions = Definitions.of([spec] if spec else [])

        def ask(reader: Reader) -> dict[str, Counted]:
            found: dict[str, Counted] = {}
            for (start, until), objectives in together.items():
                question = Question(
                    metrics=tuple(map(bad_events, objectives)),
                    dims=("arm", "workflow"),
                    grain=grain,
                    filters=parse_where({"app": app}),
                    window=Window(start=start, until=until),
                    definitions=definitions,
                )
                known = dated(replace(question, window=Window(until=now)), reader)
                found |= _answer(reader, replace(question, as_of=known.as_of), objectives, arms)
            return found

        return self._look(ask)

    def _look(self, work: Callable[[Reader], T]) -> T:
        """What `work` returns, from one read transaction at the newest snapshot."""
        snapshot = self._lake.snapshot()
        return self._lake.read(lambda connection: work(Reader(connection, EMPTY if snapshot is None else snapshot)))


def _answer(reader: Reader, question: Question, objectives: Sequence[Objective], arms: Collection[str]) -> dict[str, Counted]:
    """The events of each objective by time, over the arms that count and its own workflow."""
    rows = reader.contributions(question, question.metrics, keep=False)
    found = [(key, sums) for key, sums in reader.sums(rows, question.keys, level=None).items() if (key[0] or NO_ARM) in arms]
    width = GRAINS[question.grain or FINE].total_seconds()
    counted: dict[str, Counted] = {}
    for number, (objective, metric) in enumerate(zip(objectives, rows.metrics, strict=True)):
        by_step: dict[int, list[Events]] = defaultdict(list)
        for (_, workflow, step), sums in found:
            if objective.workflow in (None, workflow or UNASSIGNED):
                by_step[step].append(_events(metric, number, sums))
        steps = sorted(by_step)
        starts = tuple(datetime.fromtimestamp(step * width, tz=UTC) for step in steps)
        counted[objective.name] = Counted(starts=starts, events=tuple(total(by_step[step]) for step in steps))
    return counted


def _events(metric: Metric, number: int, sums: Sums) -> Events:
    """Good, bad and undecided events from the sums of a rate; a weighted one keeps its share and its number of observations."""
    part, whole, n = (float(sums.get(f"{letter}{number}") or 0) for letter in "yxk")
    decided = n if metric.kind is Kind.MEAN else whole
    counted = part / whole * decided if whole else 0.0
    bad = counted if is_bad_side(metric) else decided - counted
    undecided = float(sums.get(f"eligible{number}") or 0) - float(sums.get(f"measured{number}") or 0)
    return Events(good=max(0.0, decided - bad), bad=bad, undecided=max(0.0, undecided))


def _count(
    terms: Terms, now: datetime, fine: Mapping[str, Counted], coarse: Mapping[str, Counted]
) -> Callable[[datetime, datetime], Events]:
    """The events of any window that a judgement asks for: the objective's own in coarse steps, those of alert lines in fine ones."""
    whole, name = terms.window(now), terms.objective.name

    def count(start: datetime, until: datetime) -> Events:
        if (start, until) == whole:
            return total(coarse[name].events)
        return fine[name].between(start, until)

    return count


def _whole_minute(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)
