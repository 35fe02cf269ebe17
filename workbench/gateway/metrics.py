"""What the gateway counts, as Prometheus reads it.

Labels hold routes, apps, arms, statuses, codes and rules: no unit, key or content, and never more than a bounded number of them.

Source: Prometheus' text format 0.0.4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import accumulate

from workbench.controls.model import ControlsStatus
from workbench.evaluation.model import ScoringStatus
from workbench.gateway.access import Access
from workbench.gateway.carrying import CarryingStatus
from workbench.gateway.upkeep import UpkeepStatus
from workbench.observability.kept import Kept
from workbench.observability.logs import FlushStatus

CONTENT_TYPE = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the latency buckets."""
MOST_SERIES = 500
"""Of one metric; what comes beyond is counted together, under `other`."""
Labels = tuple[tuple[str, str], ...]


class Meter:
    """Counts requests. Used by one event loop."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: Counter[tuple[str, ...]] = Counter()
        self._problems: Counter[tuple[str, ...]] = Counter()
        self._fallbacks: Counter[tuple[str, ...]] = Counter()
        self._verdicts: Counter[tuple[str, ...]] = Counter()
        self._handoffs: Counter[tuple[str, ...]] = Counter()
        self._latencies: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def count(self, access: Access, *, duration_s: float) -> None:
        """Take in a request at its end."""
        app, arm, route = access.key.app if access.key else "", access.arm or "", access.route
        _add(self._requests, (route, str(access.status), app, arm))
        if access.code is not None:
            _add(self._problems, (app, access.code))
        buckets = self._latencies.get(route)
        if buckets is None:
            buckets = self._latencies[route] = [0] * (len(BOUNDS_S) + 1)
            self._seconds[route] = 0.0
        buckets[bisect_left(BOUNDS_S, duration_s)] += 1
        self._seconds[route] += duration_s
        answer = access.answer
        if answer is None:
            return
        if answer.is_fallback:
            _add(self._fallbacks, (app, arm))
        if answer.handoff_id:
            _add(self._handoffs, (app, arm))
        for verdict, rules in (("blocked", answer.blocked_rules), ("flagged", answer.violation_rules)):
            for rule in rules:
                _add(self._verdicts, (app, verdict, rule))

    def lines(self) -> Iterator[str]:
        """What was counted."""
        yield from _metric("requests_in_flight", "gauge", "Requests that are being answered.", [((), self.in_flight)])
        yield from _counted("requests_total", "Requests at their end.", ("route", "status", "app", "arm"), self._requests)
        yield from _counted("problems_total", "Requests that ended with a problem, by its code.", ("app", "code"), self._problems)
        yield from _counted("fallbacks_total", "Answers by a fallback.", ("app", "arm"), self._fallbacks)
        yield from _counted("guard_verdicts_total", "What guards found in answers.", ("app", "verdict", "rule"), self._verdicts)
        yield from _counted("handoffs_total", "Answers that were handed to a person.", ("app", "arm"), self._handoffs)
        yield from self._histogram()

    def _histogram(self) -> Iterator[str]:
        name = "workbench_gateway_request_duration_seconds"
        yield f"# HELP {name} From the first byte of the request's head read to the last byte of the answer handed over."
        yield f"# TYPE {name} histogram"
        for route, buckets in sorted(self._latencies.items()):
            for bound, n in zip((*map(str, BOUNDS_S), "+Inf"), accumulate(buckets), strict=True):
                yield f"{name}_bucket{_labels((('route', route), ('le', bound)))} {n}"
            yield f"{name}_sum{_labels((('route', route),))} {self._seconds[route]:.9g}"
            yield f"{name}_count{_labels((('route', route),))} {sum(buckets)}"


def exposition(
    meter: Meter,
    controls: ControlsStatus,
    flush: FlushStatus,
    *,
    spool_pressure: float,
    keys_age_s: float,
    is_ready: bool,
    now: datetime,
    upkeep: UpkeepStatus | None = None,
    carrying: CarryingStatus | None = None,
    scoring: ScoringStatus | None = None,
) -> bytes:
    """The whole text."""
    shares = [((("app", route.app),), route.share) for route in controls.routes]
    lag_s = None if flush.last_success is None else max(0.0, (now - flush.last_success).total_seconds())
    lines = [
        *meter.lines(),
        *_gauge("ready", "Whether the gateway may be sent traffic.", float(is_ready)),
        *_gauge("keys_age_seconds", "Since the API keys were last read.", keys_age_s),
        *_gauge("route_age_seconds", "Since the ledger last told the routes.", controls.route_age_s),
        *_gauge("flush_lag_seconds", "Since the log last reached the lake; meanwhile it waits in the spool.", lag_s),
        *_gauge("spool_pressure", "How full the audit's room is, 0 to 1; at 1 calls are refused.", spool_pressure),
        *_gauge("flush_failures_in_a_row", "Of bringing the log to the lake.", flush.failures_in_a_row),
        *_gauge("controls_in_flight", "Calls that the controls answer now.", controls.in_flight),
        *_gauge("alarms", "What somebody has to look at; /readyz and the log say what.", len(controls.alarms)),
        *_gauge("talks_remembered", "Talks of which this gateway saw the beginning; at 50,000 the oldest make room.", controls.talks),
        *_counted("answers_total", "Answers that left the controls.", ("arm",), _keyed(controls.served)),
        *_counted("answers_without_unit_total", "Of them, those for nobody in particular.", (), {(): controls.no_unit}),
        *_counted("refused_total", "Calls that the controls refused, by code.", ("code",), _keyed(controls.refused)),
        *_counted("shadow_copies_total", "Copies for a shadow, by how they ended.", ("ended",), _keyed(controls.shadows)),
        *_upkeep(upkeep.last if upkeep else None, now),
        *_gauge("controller_leading", "Whether this gateway carries the releases.", float(carrying.is_leading) if carrying else None),
        *_gauge("controller_fault", "Whether its newest turn failed; the log says why.", float(bool(carrying.fault)) if carrying else None),
        *_scored(scoring or ScoringStatus()),
        *_metric("traffic_share", "gauge", "The candidate's share of an app's units.", shares),
    ]
    return ("\n".join(lines) + "\n").encode()


def _upkeep(last: Kept | None, now: datetime) -> Iterator[str]:
    """The last run of the log's upkeep, whichever process did it."""
    age_s = None if last is None or last.succeeded_at is None else max(0.0, (now - last.succeeded_at).total_seconds())
    yield from _gauge("upkeep_age_seconds", "Since a run of the log's upkeep last came to its end.", age_s)
    yield from _gauge("upkeep_duration_seconds", "That the last run took.", last.duration_s if last else None)
    failures = max(0, last.failures_in_a_row - (last.ended_at is None)) if last else None
    yield from _gauge("upkeep_failures_in_a_row", "Runs that did not come to their end.", failures)


def _scored(scoring: ScoringStatus) -> Iterator[str]:
    """The scores of live answers that this process gave."""
    if not scoring.is_on:
        return
    yield from _gauge("scoring_leading", "Whether this gateway scores live answers.", float(scoring.is_leading))
    yield from _gauge("scoring_fault", "Whether its newest turn failed; the log says why.", float(bool(scoring.fault)))
    yield from _counted("scores_total", "Scores of live answers.", ("app", "score"), scoring.scores)
    yield from _counted("score_faults_total", "Answers without a score, by what its scorer did.", ("app", "score", "kind"), scoring.faults)
    behind = [((("app", app),), float(n)) for app, n in sorted(scoring.behind.items())]
    yield from _metric("score_backlog", "gauge", "Final records that no scorer has looked at.", behind)


def _add(counter: Counter[tuple[str, ...]], labels: tuple[str, ...]) -> None:
    if labels in counter or len(counter) < MOST_SERIES:
        counter[labels] += 1
    else:
        counter[("other",) * len(labels)] += 1


def _keyed(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(name,): n for name, n in counts.items()}


def _gauge(name: str, help_text: str, value: float | None) -> Iterator[str]:
    """A number; what is not known is left out, not zero."""
    yield from _metric(name, "gauge", help_text, [] if value is None else [((), value)])


def _counted(name: str, help_text: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> Iterator[str]:
    series = [(tuple(zip(labels, values, strict=True)), n) for values, n in sorted(counts.items())]
    yield from _metric(name, "counter", help_text, series)


def _metric(name: str, kind: str, help_text: str, series: Iterable[tuple[Labels, float]]) -> Iterator[str]:
    full = f"workbench_gateway_{name}"
    yield f"# HELP {full} {help_text}"
    yield f"# TYPE {full} {kind}"
    for labels, value in series:
        yield f"{full}{_labels(labels)} {value:.12g}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
