"""The facts under every metric: requests in their latest revision, with success and scores, and the events of a KPI.

Everything here is an Ibis expression over unbound tables, so that the same catalogue compiles for any engine.
`Source.sql` says what the names stand for at one snapshot of the lake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from workbench.observability.dimensions import DIMENSIONS, FAILURE_REASON, Filters, condition, counts_shadows, moment
from workbench.observability.lookups import JUDGMENTS, lookup_facts
from workbench.observability.steps import SPANS, steps
from workbench.observability.success import SuccessRules, failure_reason, success, success_weight
from workbench.observability.tables import at_snapshot, latest_requests_sql
from workbench.observability.unbound import sorted_sum, unbound
from workbench.spec.app import Kpi
from workbench.spec.metrics import Quantity

_REQUEST_COLUMNS = (
    *("request_id", "revision", "ts_start", "session_id", "unit_hash", "latency_ms", "ttft_ms", "is_fallback"),
    *("attempts", "n_tool_calls", "n_tool_errors", "n_retrievals", "input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_write_tokens", "reasoning_tokens", "cost_usd", "violation_rules", "blocked_rules", "handoff_id"),
    *("operation", "model_requested", "finish_reason", "source", "traffic_share"),
)
_SCORE_COLUMNS = ("score_id", "app", "request_id", "name", "value", "scorer_id", "source", "sample_probability", "ts", "batch_id", "seq")
_OUTCOME_COLUMNS = ("outcome_id", "app", "kpi", "value", "currency", "request_id", "session_id", "unit_hash", "ts", "batch_id", "seq")


REQUESTS = unbound("requests", [*DIMENSIONS, *_REQUEST_COLUMNS])
SCORES = unbound("scores", _SCORE_COLUMNS)
ASKED = ibis.table(REQUESTS.schema(), name="asked_requests")
"""The requests among which those of a window are: all of them, unless the reader can tell which rows need not be read."""
OUTCOMES = unbound("outcomes", _OUTCOME_COLUMNS)
LOG = (REQUESTS, SCORES, OUTCOMES, SPANS, JUDGMENTS)
"""Every table that a metric can read, with the columns that some metric reads; `ASKED` is a part of the first."""


def source_sql(snapshot: int | None) -> dict[str, str]:
    """Name of each unbound table to the query that it stands for, at a snapshot of the lake."""
    others = {table.get_name(): table.columns for table in LOG if table is not REQUESTS}
    read = {name: f"SELECT {', '.join(columns)} FROM {at_snapshot(name, snapshot)}" for name, columns in others.items()}
    return {REQUESTS.get_name(): requests_sql(snapshot), **read}


def requests_sql(snapshot: int | None, *, among: str = "true") -> str:
    """The query that `requests` stands for, or some of it; `among` is as of `latest_requests_sql`."""
    return f"SELECT {', '.join(REQUESTS.columns)} FROM ({latest_requests_sql(snapshot, among=among)}) AS latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows, and by which rules they are judged."""

    filters: Filters
    start: datetime | None
    until: datetime | None
    rules: SuccessRules
    as_of: datetime | None
    """Until when the log is known; None when no rule and no KPI waits for an event."""

    def covers(self, other: Selection, needs: frozenset[str]) -> bool:
        """Whether the rows of `other` are among these, and `needs` are derived alike, for all of them."""
        theirs = dict(other.filters)
        is_within = all(name in theirs and set(theirs[name]) <= set(values) for name, values in self.filters)
        is_alike = "success" not in needs or (self.rules, self.as_of) == (other.rules, other.as_of)
        is_within = is_within and counts_shadows(other.filters) <= counts_shadows(self.filters)
        return needs <= DERIVED and is_within and is_alike and self.start in (None, other.start) and self.until in (None, other.until)


def newest_seen(apps: Sequence[str], events: Sequence[str]) -> ir.Table:
    """One row with the `newest` time that the log shows: of a request of these apps, or of one of these business events of theirs."""
    requests = REQUESTS.filter(REQUESTS.app.isin(apps)).select(seen="ts_start")
    outcomes = OUTCOMES.filter(OUTCOMES.app.isin(apps), OUTCOMES.kpi.isin(events)).select(seen="ts")
    both = ibis.union(requests, outcomes)
    return both.aggregate(newest=both.seen.max())


def sampled_scores() -> ir.Table:
    """One row where some score stands for more than its own request; without one no observation of any metric does."""
    return SCORES.filter(SCORES.sample_probability < 1).select("score_id").limit(1)


NEWEST, MEAN, LOOKUP, QUANTITY, FIRST_OF_SESSION = "score:", "mean:", "lookup:", "quantity:", "first_of_session"
"""What a metric can need beside `success` and `failure_reason`: the newest score of a name (`score_…`, `weight_…`), all its scorers' newest
scores (`mean_y:…`, `mean_x:…`, `mean_k:…`), a measure of lookups (`lookups.py`),
a number of steps or events (a `spec.metrics.Quantity` as JSON), and whether a request begins its session."""
DERIVED = frozenset({"success", f"{MEAN}quality", f"{NEWEST}retrieval_hit"})
"""The columns that are derived for all who ask the same rows several things; the others only where a metric needs them."""


def request_facts(selection: Selection, predicates: Sequence[ir.Value], needs: frozenset[str]) -> ir.Table:
    """One row per request that satisfies the predicates (on `ASKED`), with `row_id`, `cluster` and the columns in `needs`."""
    facts = ASKED.filter(*predicates) if predicates else ASKED
    facts = facts.mutate(row_id=facts.request_id, cluster=facts.unit_hash.fill_null(facts.request_id))
    if FIRST_OF_SESSION in needs:
        facts = _with_first_of_session(facts)
    names = _after(NEWEST, needs) | set(selection.rules.score_names if needs & {"success", FAILURE_REASON} else ())
    if names:
        facts = _beside(facts, _newest_scores(sorted(names)), ["app", "request_id"])
        facts = facts.mutate(**{f"weight_{name}": facts[f"weight_{name}"].fill_null(1.0) for name in sorted(names)})
    for name in sorted(_after(MEAN, needs)):
        facts = _beside(facts, _mean_scores(name), ["app", "request_id"])
    if measures := _after(LOOKUP, needs):
        facts = _beside(facts, lookup_facts(sorted(measures)), ["app", "request_id"])
    for stored in sorted(_after(QUANTITY, needs)):
        facts = _with_quantity(facts, Quantity.model_validate_json(stored), QUANTITY + stored)
    if needs & {"success", FAILURE_REASON}:
        facts = _with_success(facts, selection)
    if FAILURE_REASON in needs:
        facts = facts.mutate(**{FAILURE_REASON: failure_reason(facts, selection.rules)})
    return facts


def _after(prefix: str, needs: frozenset[str]) -> set[str]:
    """What stands behind the prefix in those of the needs that begin with it."""
    return {need.removeprefix(prefix) for need in needs if need.startswith(prefix)}


def _with_first_of_session(facts: ir.Table) -> ir.Table:
    """The facts with `first_of_session`: 1 for a session's first request under a bundle among them, else 0; null without one."""
    window = ibis.window(group_by=["app", "session_id", "bundle"], order_by=["ts_start", "request_id"])
    first = (ibis.row_number().over(window) == 0).cast("int64")
    return facts.mutate(**{FIRST_OF_SESSION: ibis.ifelse(facts.session_id.notnull(), first, ibis.null("int64"))})


def _with_quantity(facts: ir.Table, quantity: Quantity, name: str) -> ir.Table:
    """The facts with a number of steps, which is unknown where none of a request's was logged, or of events, which is 0 without any."""
    if quantity.spans is not None:
        return _beside(facts, steps(quantity.spans.wanted(), name), ["app", "request_id"])
    found = _events_of_requests(quantity.outcome or "")
    found = found.select("app", "request_id", **{name: found.total if quantity.total else found.n})
    facts = _beside(facts, found, ["app", "request_id"])
    return facts.mutate(**{name: facts[name].fill_null(0)})


def _beside(facts: ir.Table, found: ir.Table, keys: list[str]) -> ir.Table:
    """The facts with the other columns of `found`, which has at most one row per key."""
    others = [name for name in found.columns if name not in keys]
    renamed = found.rename({f"found_{key}": key for key in keys})
    joined = facts.left_join(renamed, [facts[key] == renamed[f"found_{key}"] for key in keys])
    return joined.select(*facts.columns, *others)


def _with_success(facts: ir.Table, selection: Selection) -> ir.Table:
    flags: dict[tuple[str, timedelta], str] = {}
    for number, (event, span) in enumerate(selection.rules.awaited):
        flags[event, span] = f"came_{number}"
        facts = _beside(facts, _followed(event, span).mutate(**{f"came_{number}": ibis.literal(True)}), ["app", "request_id"])  # noqa: FBT003
    judged = success(
        facts,
        selection.rules,
        score=lambda name: facts[f"score_{name}"],
        came=lambda event, span: facts[flags[event, span]].fill_null(False),  # noqa: FBT003
        as_of=selection.as_of,
    )
    weight = success_weight(facts, selection.rules, score=lambda name: facts[f"score_{name}"], weight=lambda name: facts[f"weight_{name}"])
    return facts.mutate(success=judged, success_weight=weight)


def _newest(table: ir.Table, by: Sequence[str], order: Sequence[str]) -> ir.Table:
    """The newest row of each group; what was stored later wins a tie."""
    window = ibis.window(group_by=list(by), order_by=[ibis.desc(name) for name in order])
    ranked = table.mutate(nth=ibis.row_number().over(window))
    return ranked.filter(ranked.nth == 0).drop("nth")


def _newest_scores(names: Sequence[str]) -> ir.Table:
    """One row per scored request: `score_x`, the newest value of each score, and `weight_x`, how many requests it stands for.

    A sampling probability that is not above 0 and at most 1 says nothing; such a score stands for its own request.
    """
    newest = _newest(SCORES.filter(SCORES.name.isin(names)), ["app", "request_id", "name"], ["ts", "batch_id", "seq", "score_id"])
    probability = newest.sample_probability
    newest = newest.mutate(weight=ibis.ifelse((probability > 0) & (probability <= 1), 1.0 / probability, 1.0))
    scores = {f"score_{name}": newest.value.max(where=newest.name == name) for name in names}
    weights = {f"weight_{name}": newest.weight.max(where=newest.name == name) for name in names}
    return newest.group_by("app", "request_id").aggregate(**scores, **weights)


def _mean_scores(name: str) -> ir.Table:
    """One row per request with such a score: weighted sum, weight and number of its scorers' newest scores, `mean_y:…` and so on.

    A score whose sampling probability is not above 0 and at most 1 cannot be weighted and does not count.
    """
    newest = _newest(SCORES.filter(SCORES.name == name), ["app", "request_id", "scorer_id"], ["ts", "batch_id", "seq", "score_id"])
    probability = newest.sample_probability.fill_null(1.0)
    usable = newest.filter(newest.value.notnull(), probability > 0, probability <= 1)
    weighed = usable.mutate(weight=1.0 / usable.sample_probability.fill_null(1.0))
    weighed = weighed.mutate(part=weighed.value * weighed.weight)
    parts = {"y": sorted_sum(weighed.part), "x": sorted_sum(weighed.weight), "k": weighed.count()}
    return weighed.group_by("app", "request_id").aggregate(**{f"mean_{letter}:{name}": part for letter, part in parts.items()})


def _events(event: str, currency: str | None = None) -> ir.Table:
    """The business events of one name, each in its newest version; those of another currency are left out."""
    newest = _newest(OUTCOMES, ["app", "outcome_id"], ["batch_id", "seq"])
    chosen = newest.filter(newest.kpi == event)
    if currency is not None:
        chosen = chosen.filter(chosen.currency.isnull() | (chosen.currency == currency))
    return chosen.select("outcome_id", "value", "request_id", "session_id", "unit_hash", event_app=chosen.app, event_ts=chosen.ts)


def _joined(requests: ir.Table, events: ir.Table, key: str) -> ir.Table:
    """Requests and events of the same app whose `event_key` is the request's `key`."""
    return requests.inner_join(events, [requests.app == events.event_app, requests[key] == events.event_key])


def _followed(event: str, span: timedelta) -> ir.Table:
    """Keys (app, request_id) of the requests that the event followed within the span.

    An event that names a request is that request's; one that names a session is that of every request in it.
    """
    events = _events(event)
    requests = REQUESTS.select("app", "request_id", "session_id", "ts_start")
    named = events.filter(events.request_id.notnull())
    loose = events.filter(events.request_id.isnull(), events.session_id.notnull())
    found = [
        _joined(requests, part.select("event_app", event_key=part[key], event_ts=part.event_ts), key)
        for part, key in ((named, "request_id"), (loose, "session_id"))
    ]
    both = ibis.union(*(pairs.select("app", "request_id", "ts_start", "event_ts") for pairs in found))
    return both.filter(both.event_ts >= both.ts_start, both.event_ts <= both.ts_start + _span(span)).select("app", "request_id").distinct()


def _span(span: timedelta) -> ir.IntervalScalar:
    """The span as an expression, to the microsecond."""
    return ibis.interval(microseconds=span // timedelta(microseconds=1))


def _events_of_requests(event: str) -> ir.Table:
    """One row per request with such events: how many are its own, and their total value; where an event belongs says `_attributed`."""
    events = _events(event)
    requests = REQUESTS.select(at_app="app", at_request="request_id", at_session="session_id", at_ts="ts_start")
    by_app = events.event_app == requests.at_app
    named = events.inner_join(requests, [by_app, events.request_id == requests.at_request])
    loose = events.filter(events.request_id.isnull())
    before = loose.inner_join(
        requests, [loose.event_app == requests.at_app, loose.session_id == requests.at_session, requests.at_ts <= loose.event_ts]
    )
    nearest = _newest(before, ["event_app", "outcome_id"], ["at_ts", "at_request"])
    both = ibis.union(*(part.select("value", app="at_app", request_id="at_request") for part in (named, nearest)))
    return both.group_by("app", "request_id").aggregate(n=both.count(), total=sorted_sum(both.value))


def kpi_facts(kpi: Kpi, app: str, selection: Selection) -> ir.Table:
    """What a KPI counts, in the columns of the request facts with `kpi_y` and `kpi_x`.

    A `rate` has one row per session, which stands where its first request stands. Where the KPI says within which time, that time runs from
    there, whoever comes back later: what follows it is nobody's, and a session whose time is not over is left out, reached or not.
    A `mean` or `sum` has one row per event, which stands where its request stands. What a shadow answered never reached anybody, so it
    carries nothing.
    """
    requests = REQUESTS.filter(REQUESTS.app == app, REQUESTS.arm.fill_null("none") != "shadow")
    requests = requests.mutate(
        session=ibis.ifelse(requests.session_id.notnull(), "s:" + requests.session_id, "r:" + requests.request_id),
        cluster=requests.unit_hash.fill_null(requests.session_id).fill_null(requests.request_id),
    )
    events = _events(kpi.outcome, kpi.currency)
    events = _attributed(events.filter(events.event_app == app), requests)
    if kpi.aggregate == "rate":
        facts = _sessions(requests, events, within=kpi.within, as_of=selection.as_of)
    else:
        facts = _valued(requests, events, within=kpi.within)
    predicates = condition(facts, selection.filters, selection.start, selection.until)
    return facts.filter(*predicates) if predicates else facts


def _attributed(events: ir.Table, requests: ir.Table) -> ir.Table:
    """(outcome_id, value, event_app, event_ts, at_request, at_ts, session): each event at its request, else at the newest one before it.

    That is the newest of its session, where it names one, else of its unit.
    """
    slim = requests.select(at_request="request_id", at_session_id="session_id", at_unit="unit_hash", session="session", at_ts="ts_start")
    named = events.inner_join(slim, events.request_id == slim.at_request)
    loose = events.filter(events.request_id.isnull())
    in_session = loose.inner_join(slim, [loose.session_id == slim.at_session_id, slim.at_ts <= loose.event_ts])
    unbound = loose.filter(loose.session_id.isnull())
    of_unit = unbound.inner_join(slim, [unbound.unit_hash == slim.at_unit, slim.at_ts <= unbound.event_ts])
    columns = ("outcome_id", "value", "event_app", "event_ts", "at_request", "at_ts", "session")
    nearest = [_newest(before, ["outcome_id"], ["at_ts", "at_request"]).select(*columns) for before in (in_session, of_unit)]
    return ibis.union(named.select(*columns), *nearest)


def _sessions(requests: ir.Table, events: ir.Table, *, within: timedelta | None, as_of: datetime | None) -> ir.Table:
    """One row per session; those whose time was over by `as_of`, where both are known. It runs from the session's first request."""
    window = ibis.window(group_by="session", order_by=["ts_start", "request_id"])
    ranked = requests.mutate(nth=ibis.row_number().over(window))
    first = ranked.filter(ranked.nth == 0).drop("nth")
    if within is not None and as_of is not None:
        first = first.filter(first.ts_start <= moment(as_of - within))
    joined = _beside(first, events.group_by("session").aggregate(came_ts=events.event_ts.min()), ["session"])
    is_reached = joined.came_ts.notnull()
    if within is not None:
        is_reached &= joined.came_ts <= joined.ts_start + _span(within)
    return joined.mutate(row_id=joined.request_id, kpi_y=is_reached.cast("int64"), kpi_x=ibis.literal(1, type="int64")).drop("came_ts")


def _valued(requests: ir.Table, events: ir.Table, *, within: timedelta | None) -> ir.Table:
    """One row per event with a value, at its request; one that came later than `within` after that is nobody's."""
    valued = events.filter(events.value.notnull())
    if within is not None:
        valued = valued.filter(valued.event_ts <= valued.at_ts + _span(within))
    joined = _joined(requests, valued.select("outcome_id", "event_app", event_key="at_request", kpi_y="value"), "request_id")
    return joined.mutate(row_id=joined.outcome_id, kpi_x=ibis.literal(1, type="int64"))
