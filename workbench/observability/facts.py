"""The facts under every metric: requests in their latest revision, with success and scores, and the events of a KPI.

Everything here is an Ibis expression over three unbound tables, so that the same catalogue compiles for any engine.
`Source.sql` says what the names stand for at one snapshot of the lake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from workbench.observability.dimensions import DIMENSIONS, Filters, condition
from workbench.observability.success import SuccessRules, success, success_weight
from workbench.observability.tables import TABLES, at_snapshot, latest_requests_sql
from workbench.spec.app import Kpi

IBIS_TYPES = {
    "VARCHAR": "string",
    "BIGINT": "int64",
    "INTEGER": "int32",
    "DOUBLE": "float64",
    "DECIMAL(18,9)": "decimal(18, 9)",
    "BOOLEAN": "boolean",
    "TIMESTAMP WITH TIME ZONE": "timestamp('UTC')",
    "VARCHAR[]": "array<string>",
    "DECIMAL(38,9)": "decimal(38, 9)",
    "MAP(INTEGER, BIGINT)": "map<int32, int64>",
}
_REQUEST_COLUMNS = (
    *("request_id", "revision", "ts_start", "session_id", "unit_hash", "latency_ms", "ttft_ms", "is_fallback"),
    *("n_tool_calls", "n_tool_errors", "n_retrievals", "input_tokens", "output_tokens", "cost_usd"),
    *("violation_rules", "blocked_rules", "handoff_id"),
)
_SCORE_COLUMNS = ("score_id", "app", "request_id", "name", "value", "scorer_id", "source", "sample_probability", "ts", "batch_id", "seq")
_OUTCOME_COLUMNS = ("outcome_id", "app", "kpi", "value", "currency", "request_id", "session_id", "unit_hash", "ts", "batch_id", "seq")


def _unbound(table: str, columns: Sequence[str]) -> ir.Table:
    known = TABLES[table].by_name
    return ibis.table({name: IBIS_TYPES[known[name].duckdb_type] for name in columns}, name=table)


_READ = {"requests": [*DIMENSIONS, *_REQUEST_COLUMNS], "scores": _SCORE_COLUMNS, "outcomes": _OUTCOME_COLUMNS}
REQUESTS, SCORES, OUTCOMES = (_unbound(table, columns) for table, columns in _READ.items())


def source_sql(snapshot: int | None) -> dict[str, str]:
    """Name of each unbound table to the query that it stands for, at a snapshot of the lake."""
    origins = {
        "requests": f"({latest_requests_sql(snapshot)}) AS latest",
        "scores": at_snapshot("scores", snapshot),
        "outcomes": at_snapshot("outcomes", snapshot),
    }
    return {table: f"SELECT {', '.join(_READ[table])} FROM {origin}" for table, origin in origins.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rows, and by which rules they are judged."""

    filters: Filters
    start: datetime | None
    until: datetime | None
    rules: SuccessRules
    as_of: datetime | None
    """Until when the log is known; None when no rule waits for an outcome."""

    def covers(self, other: Selection, needs: frozenset[str]) -> bool:
        """Whether the rows of `other` are among these, and `needs` are derived alike."""
        theirs = dict(other.filters)
        is_within = all(name in theirs and set(theirs[name]) <= set(values) for name, values in self.filters)
        is_alike = "success" not in needs or (self.rules, self.as_of) == (other.rules, other.as_of)
        return is_within and is_alike and self.start in (None, other.start) and self.until in (None, other.until)


DERIVED = frozenset({"success", "quality", "retrieval_hit"})
"""The columns that are derived only where a metric needs them."""


def request_facts(selection: Selection, predicates: Sequence[ir.Value], needs: frozenset[str]) -> ir.Table:
    """One row per request that satisfies the predicates (on `REQUESTS`), with `row_id`, `cluster` and the columns in `needs`."""
    facts = REQUESTS.filter(*predicates) if predicates else REQUESTS
    facts = facts.mutate(row_id=facts.request_id, cluster=facts.unit_hash.fill_null(facts.request_id))
    names = set(selection.rules.score_names if "success" in needs else ()) | ({"retrieval_hit"} & needs)
    if names:
        facts = _beside(facts, _newest_scores(sorted(names)), ["app", "request_id"])
        facts = facts.mutate(**{f"weight_{name}": facts[f"weight_{name}"].fill_null(1.0) for name in sorted(names)})
    if "quality" in needs:
        facts = _beside(facts, _quality(), ["app", "request_id"])
    if "success" in needs:
        facts = _with_success(facts, selection)
    return facts


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


def _quality() -> ir.Table:
    """One row per request with a quality score: weighted sum, weight and number of its scorers' newest scores.

    A score whose sampling probability is not above 0 and at most 1 cannot be weighted and does not count.
    """
    newest = _newest(SCORES.filter(SCORES.name == "quality"), ["app", "request_id", "scorer_id"], ["ts", "batch_id", "seq", "score_id"])
    probability = newest.sample_probability.fill_null(1.0)
    usable = newest.filter(newest.value.notnull(), probability > 0, probability <= 1)
    weighed = usable.mutate(weight=1.0 / usable.sample_probability.fill_null(1.0))
    weighed = weighed.mutate(part=weighed.value * weighed.weight)
    return weighed.group_by("app", "request_id").aggregate(
        quality_y=weighed.part.collect(order_by=weighed.part).sums(),
        quality_x=weighed.weight.collect(order_by=weighed.weight).sums(),
        quality_k=weighed.count(),
    )


def _events(event: str, unit: str | None = None) -> ir.Table:
    """The business events of one name, each in its newest version; those of another currency than `unit` are left out."""
    newest = _newest(OUTCOMES, ["app", "outcome_id"], ["batch_id", "seq"])
    chosen = newest.filter(newest.kpi == event)
    if unit is not None and len(unit) == 3 and unit.isupper():  # noqa: PLR2004 - an ISO 4217 code
        chosen = chosen.filter(chosen.currency.isnull() | (chosen.currency == unit))
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
    latest = both.ts_start + ibis.interval(microseconds=span // timedelta(microseconds=1))
    return both.filter(both.event_ts >= both.ts_start, both.event_ts <= latest).select("app", "request_id").distinct()


def kpi_facts(kpi: Kpi, app: str, selection: Selection) -> ir.Table:
    """What a KPI counts, in the columns of the request facts with `kpi_y` and `kpi_x`.

    A `rate` has one row per session, which stands where its first request stands. A `mean` or `sum` has one row per
    event, which stands where its request stands.
    """
    requests = REQUESTS.filter(REQUESTS.app == app)
    requests = requests.mutate(
        session=ibis.ifelse(requests.session_id.notnull(), "s:" + requests.session_id, "r:" + requests.request_id),
        cluster=requests.unit_hash.fill_null(requests.session_id).fill_null(requests.request_id),
    )
    events = _events(kpi.outcome, kpi.unit if kpi.aggregate != "rate" else None)
    events = _attributed(events.filter(events.event_app == app), requests, kpi.within)
    facts = _sessions(requests, events) if kpi.aggregate == "rate" else _valued(requests, events)
    predicates = condition(facts, selection.filters, selection.start, selection.until)
    return facts.filter(*predicates) if predicates else facts


def _attributed(events: ir.Table, requests: ir.Table, within: timedelta | None) -> ir.Table:
    """(outcome_id, value, event_app, at_request, session): each event at its request, else at the newest one before it.

    That is the newest of its session, where it names one, else of its unit. An event that came later than `within` is nobody's.
    """
    slim = requests.select(at_request="request_id", at_session_id="session_id", at_unit="unit_hash", session="session", at_ts="ts_start")
    named = events.inner_join(slim, events.request_id == slim.at_request)
    loose = events.filter(events.request_id.isnull())
    in_session = loose.inner_join(slim, [loose.session_id == slim.at_session_id, slim.at_ts <= loose.event_ts])
    unbound = loose.filter(loose.session_id.isnull())
    of_unit = unbound.inner_join(slim, [unbound.unit_hash == slim.at_unit, slim.at_ts <= unbound.event_ts])
    columns = ("outcome_id", "value", "event_app", "event_ts", "at_request", "at_ts", "session")
    nearest = [_newest(before, ["outcome_id"], ["at_ts", "at_request"]).select(*columns) for before in (in_session, of_unit)]
    found = ibis.union(named.select(*columns), *nearest)
    if within is not None:
        found = found.filter(found.event_ts <= found.at_ts + ibis.interval(microseconds=within // timedelta(microseconds=1)))
    return found.drop("event_ts", "at_ts")


def _sessions(requests: ir.Table, events: ir.Table) -> ir.Table:
    window = ibis.window(group_by="session", order_by=["ts_start", "request_id"])
    ranked = requests.mutate(nth=ibis.row_number().over(window))
    first = ranked.filter(ranked.nth == 0).drop("nth")
    reached = events.select("session").distinct().mutate(reached=ibis.literal(1, type="int64"))
    joined = _beside(first, reached, ["session"])
    return joined.mutate(row_id=joined.request_id, kpi_y=joined.reached.fill_null(0), kpi_x=ibis.literal(1, type="int64"))


def _valued(requests: ir.Table, events: ir.Table) -> ir.Table:
    valued = events.filter(events.value.notnull())
    joined = _joined(requests, valued.select("outcome_id", "event_app", event_key="at_request", kpi_y="value"), "request_id")
    return joined.mutate(row_id=joined.outcome_id, kpi_x=ibis.literal(1, type="int64"))
