"""The metric catalogue: what can be asked of the log, in which unit, and which way is better.

`CATALOGUE` has the metrics by name; `FAMILIES` those whose name says a part of the question (`latency_p75`, `score:helpfulness`); `find`
knows both. Retrieval has a file of its own, `retrieval_metrics.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import ibis
import ibis.expr.types as ir

from workbench.errors import UnknownSubject
from workbench.observability.facts import FIRST_OF_SESSION, MEAN, NEWEST
from workbench.observability.metric import WEIGHED, Column, Kind, Metric, Rolled, of_column, one, quantile, rate, total, whole
from workbench.observability.model import FAILED, Direction
from workbench.observability.retrieval_metrics import RETRIEVAL
from workbench.observability.retrieval_metrics import family as retrieval_family
from workbench.spec.app import Kpi
from workbench.spec.base import format_duration


def _violated(t: ir.Table) -> ir.Value:
    return (t.violation_rules.length() > 0).fill_null(False)  # noqa: FBT003


def _blocked(t: ir.Table) -> ir.Value:
    return ((t.status == "blocked") | (t.blocked_rules.length() > 0)).fill_null(False)  # noqa: FBT003


def _withheld(t: ir.Table) -> ir.Value:
    """Whether nothing of the answer reached anybody. A redacted answer did, and so did one of which only a tool call was stopped."""
    held = (t.status == "handed_off") & (t.blocked_rules.length() > 0)
    return ((t.status == "blocked") | held).fill_null(False) & ~_violated(t)  # noqa: FBT003


def _success_weight(t: ir.Table) -> ir.Value:
    return t.success_weight


def _n(t: ir.Table) -> ir.Value:
    """All requests of a row of the roll-up."""
    return t.n


def _n_where(condition: Column, of: str = "n") -> Column:
    """Those requests of a row of the roll-up, if its key satisfies the condition."""
    return lambda t: ibis.ifelse(condition(t).fill_null(False), t[of], 0)  # noqa: FBT003


def _known(column: str) -> Callable[[ir.Table], ir.Value]:
    return lambda t: t[column].notnull()


def score_mean(name: str, score: str, *, within: tuple[float, float] | None = None) -> Metric:
    """The mean of the scores of one name."""
    y, x, k = (f"{MEAN.removesuffix(':')}_{letter}:{score}" for letter in "yxk")
    return Metric(
        name=name,
        unit="score",
        direction=Direction.HIGHER,
        description=f"Mean {score} score, each weighted by how many requests it stands for; higher is taken for better.",
        formula=f"newest score `{score}` of each request and scorer, weighted by 1 / sample_probability (1 where absent); n counts scores",
        kind=Kind.MEAN,
        y=lambda t: t[y],
        x=lambda t: t[x].fill_null(0.0),
        k=lambda t: t[k].fill_null(0),
        eligible=one,
        measured=lambda t: (t[x] / t[k]).fill_null(0.0),
        within=within,
        needs=frozenset({MEAN + score}),
    )


def violations(name: str, rule: str) -> Metric:
    """The share of answers that reached somebody and broke this rule."""
    return rate(
        name,
        Direction.LOWER,
        f"Share of checked answers that reached a user or a tool and broke the rule {rule}.",
        f"requests with {rule} among violation_rules / requests that were checked and not withheld",
        share=lambda t: t.violation_rules.contains(rule),
        of=lambda t: t.violation_rules.notnull() & ~_withheld(t),
        eligible=lambda t: whole(~_withheld(t)),
    )


def blocks(name: str, rule: str) -> Metric:
    """The share of guarded requests of which this rule stopped something."""
    return rate(
        name,
        Direction.NEITHER,
        f"Share of requests of which the rule {rule} stopped or redacted something.",
        f"requests with {rule} among blocked_rules / requests that were guarded (blocked_rules is not null)",
        share=lambda t: t.blocked_rules.contains(rule),
        of=lambda t: t.blocked_rules.notnull(),
    )


_SUCCESS = frozenset({"success"})
_METRICS = (
    Metric(
        name="volume",
        unit="requests",
        direction=Direction.NEITHER,
        description="How many requests there were.",
        formula="count of requests",
        kind=Kind.COUNT,
        y=one,
        x=one,
        k=one,
        eligible=one,
        measured=one,
        rolled=Rolled(y=_n, x=_n, k=_n),
    ),
    rate(
        "success_rate",
        Direction.HIGHER,
        "Share of decided requests that did what the person came for.",
        f"requests with success / requests with success or failure; undecided ones are left out{WEIGHED}",
        share=lambda t: t.success,
        of=lambda t: t.success.notnull(),
        needs=_SUCCESS,
        weight=_success_weight,
        rolled=(_n_where(lambda t: t.success), _n_where(lambda t: t.success.notnull())),
    ),
    rate(
        "failure_rate",
        Direction.LOWER,
        "Share of decided requests that did not do what the person came for.",
        f"requests with failure / requests with success or failure; undecided ones are left out{WEIGHED}",
        share=lambda t: ~t.success,
        of=lambda t: t.success.notnull(),
        needs=_SUCCESS,
        weight=_success_weight,
        rolled=(_n_where(lambda t: ~t.success), _n_where(lambda t: t.success.notnull())),
    ),
    rate(
        "undecided_rate",
        Direction.LOWER,
        "Share of requests of which nobody knows yet whether they succeeded.",
        "requests without a decided success / requests",
        share=lambda t: t.success.isnull(),
        of=lambda t: t.request_id.notnull(),
        needs=_SUCCESS,
        rolled=(_n_where(lambda t: t.success.isnull()), _n),
    ),
    rate(
        "error_rate",
        Direction.LOWER,
        "Share of requests that failed technically, whatever the success rule says.",
        f"requests with the status {', '.join(FAILED)} / requests whose status is known",
        share=lambda t: t.status.isin(FAILED),
        of=lambda t: t.status.notnull() & (t.status != "unknown"),
        rolled=(_n_where(lambda t: t.status.isin(FAILED)), _n_where(lambda t: t.status.notnull() & (t.status != "unknown"))),
    ),
    *(quantile(f"latency_p{q}", "latency_ms", q / 100, "Time from request to complete answer") for q in (50, 90, 95, 99)),
    *(quantile(f"ttft_p{q}", "ttft_ms", q / 100, "Time from request to first token") for q in (50, 90, 95, 99)),
    Metric(
        name="tool_error_rate",
        unit="share",
        direction=Direction.LOWER,
        description="Share of tool calls that failed.",
        formula="sum of n_tool_errors / sum of n_tool_calls, over requests that report both; n counts tool calls",
        kind=Kind.RATE,
        y=lambda t: ibis.ifelse(t.n_tool_calls.notnull(), t.n_tool_errors, 0).fill_null(0),
        x=lambda t: ibis.ifelse(t.n_tool_errors.notnull(), t.n_tool_calls, 0).fill_null(0),
        k=lambda t: ibis.ifelse(t.n_tool_errors.notnull(), t.n_tool_calls, 0).fill_null(0),
        eligible=lambda t: whole((t.n_tool_calls != 0).fill_null(True)),  # noqa: FBT003
        measured=lambda t: whole(t.n_tool_errors.notnull() & (t.n_tool_calls > 0)),
        rolled=Rolled(
            y=lambda t: t.tool_errors_known, x=lambda t: t.tool_calls_known, k=lambda t: t.tool_calls_known, bad=lambda t: t.n_bad_tools
        ),
    ),
    rate(
        "fallback_rate",
        Direction.LOWER,
        "Share of requests answered by the fallback.",
        "requests with is_fallback / requests that report it",
        share=lambda t: t.is_fallback,
        of=lambda t: t.is_fallback.notnull(),
        rolled=(_n_where(lambda t: t.is_fallback), _n_where(lambda t: t.is_fallback.notnull())),
    ),
    rate(
        "retry_rate",
        Direction.LOWER,
        "Share of requests that took the model more than one attempt.",
        "requests with attempts above 1 / requests that report attempts",
        share=lambda t: t.attempts > 1,
        of=_known("attempts"),
    ),
    of_column(
        "attempts_mean",
        Kind.MEAN,
        "attempts",
        unit="attempts",
        direction=Direction.LOWER,
        description="How many attempts at the model a request takes.",
        formula="sum of attempts / requests that report attempts",
    ),
    rate(
        "handoff_rate",
        Direction.LOWER,
        "Share of requests handed to a person.",
        "requests with a handoff or the status handed_off / requests",
        share=lambda t: t.handoff_id.notnull() | (t.status == "handed_off").fill_null(False),  # noqa: FBT003
        of=lambda t: t.request_id.notnull(),
        rolled=(lambda t: t.n_handoff, _n),
    ),
    rate(
        "violation_rate",
        Direction.LOWER,
        "Share of checked answers that broke a rule and reached a user or a tool.",
        "requests with a violated rule / requests that were checked (violation_rules is not null) and not withheld; withheld is what was "
        "blocked, or held by a guard for a person. A redacted answer was checked and reached its user without what broke the rule",
        share=_violated,
        of=lambda t: t.violation_rules.notnull() & ~_withheld(t),
        eligible=lambda t: whole(~_withheld(t)),
        rolled=(lambda t: t.n_violation, lambda t: t.n_violation_known),
    ),
    rate(
        "block_rate",
        Direction.NEITHER,
        "Share of requests that a guard stopped.",
        "requests with the status blocked or a blocking rule / requests that were guarded (blocked_rules is not null) or blocked",
        share=_blocked,
        of=lambda t: t.blocked_rules.notnull() | _blocked(t),
        rolled=(lambda t: t.n_blocked, lambda t: t.n_blocked_known),
    ),
    score_mean("quality_mean", "quality", within=(0.0, 1.0)),
    rate(
        "retrieval_hit_rate",
        Direction.HIGHER,
        "Share of requests whose lookup found what the answer needed, as a scorer saw it.",
        f"requests whose newest score `retrieval_hit` is at least 0.5 / requests with retrievals and such a score{WEIGHED}",
        share=lambda t: t.score_retrieval_hit >= 0.5,  # noqa: PLR2004 - a score of 0 or 1
        of=lambda t: t.score_retrieval_hit.notnull() & (t.n_retrievals > 0).fill_null(False),  # noqa: FBT003
        eligible=lambda t: whole(t.n_retrievals > 0),
        needs=frozenset({f"{NEWEST}retrieval_hit"}),
        weight=lambda t: t.weight_retrieval_hit,
    ),
    total("input_tokens", "tokens", "Tokens sent to models, cached ones included."),
    total("output_tokens", "tokens", "Tokens written by models, reasoning included."),
    total("cache_read_tokens", "tokens", "Tokens that the provider read from its cache; part of input_tokens."),
    total("cache_write_tokens", "tokens", "Tokens that the provider wrote to its cache; part of input_tokens."),
    total("reasoning_tokens", "tokens", "Tokens that the model wrote for itself; part of output_tokens."),
    *(quantile(f"input_tokens_p{q}", "input_tokens", q / 100, "Tokens sent to models", unit="tokens") for q in (50, 95, 99)),
    *(quantile(f"output_tokens_p{q}", "output_tokens", q / 100, "Tokens written by models", unit="tokens") for q in (50, 95, 99)),
    total("cost_usd", "USD", "What the priced requests cost.", n="n_priced"),
    of_column(
        "cost_per_request",
        Kind.MEAN,
        "cost_usd",
        unit="USD",
        direction=Direction.LOWER,
        description="What one request costs.",
        formula="sum of cost_usd / requests that are priced",
    ),
    Metric(
        name="cost_per_success",
        unit="USD",
        direction=Direction.LOWER,
        description="What one success costs, failures paid for.",
        formula=f"sum of cost_usd / successes, both over priced requests; n counts priced requests{WEIGHED}",
        kind=Kind.RATIO,
        y=lambda t: t.cost_usd,
        x=lambda t: whole(t.success & t.cost_usd.notnull()),
        k=lambda t: whole(t.cost_usd.notnull()),
        eligible=one,
        measured=lambda t: whole(t.cost_usd.notnull()),
        needs=_SUCCESS,
        weight=_success_weight,
        rolled=Rolled(y=lambda t: t.cost_usd_sum, x=_n_where(lambda t: t.success, of="n_priced"), k=lambda t: t.n_priced),
    ),
    of_column(
        "users",
        Kind.DISTINCT,
        "unit_hash",
        unit="users",
        direction=Direction.NEITHER,
        description="How many different units asked.",
        formula="number of different unit_hash; n counts the requests that name their unit",
    ),
    Metric(
        name="sessions",
        unit="sessions",
        direction=Direction.NEITHER,
        description="How many different sessions there were.",
        formula="number of different (app, session_id); n counts the requests that name their session",
        kind=Kind.DISTINCT,
        y=lambda t: ibis.ifelse(t.session_id.notnull(), t.app + "/" + t.session_id, ibis.null("string")),
        x=lambda t: whole(t.session_id.notnull()),
        k=lambda t: whole(t.session_id.notnull()),
        eligible=one,
        measured=lambda t: whole(t.session_id.notnull()),
    ),
    Metric(
        name="requests_per_session",
        unit="requests",
        direction=Direction.NEITHER,
        description="How many requests a session takes; it counts where its first request stands, and under each bundle for itself.",
        formula="requests that name their session / sessions; n counts requests",
        kind=Kind.RATIO,
        y=lambda t: whole(t.session_id.notnull()),
        x=lambda t: t[FIRST_OF_SESSION].fill_null(0),
        k=lambda t: whole(t.session_id.notnull()),
        eligible=one,
        measured=lambda t: whole(t.session_id.notnull()),
        needs=frozenset({FIRST_OF_SESSION}),
    ),
    *RETRIEVAL,
)

CATALOGUE: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _METRICS})
"""Name to metric, in the order in which people read them."""


class Family(NamedTuple):
    """Metrics whose name says a part of the question."""

    name: str
    """With the part in angle brackets."""
    example: str
    made: Callable[[str], Metric | None]
    """The metric of a name; None for a name that is not of this family."""

    range: str = ""
    """What the part may be, where it is no word."""

    @property
    def shown(self) -> Metric:
        """One of them, under the name of the family."""
        metric = self.made(self.example)
        assert metric is not None  # noqa: S101 - a test asks every family for its example
        description = f"{metric.description.removesuffix('.')}; {self.range}." if self.range else metric.description
        return replace(metric, name=self.name, description=description)


_PERCENTILE = re.compile(r"(latency|ttft|input_tokens|output_tokens)_p([1-9][0-9](?:\.[0-9]{1,3})?)")
_ANY_PERCENTILE = re.compile(r"(latency|ttft|input_tokens|output_tokens)_p(-?[0-9.]+)")
_PERCENTILES = "N from 10 to 99.999"
_WORD = re.compile(r"\S(?:.{0,98}\S)?")


def _percentile(name: str) -> Metric | None:
    match = _PERCENTILE.fullmatch(name)
    if match is None:
        return None
    known = CATALOGUE[f"{match[1]}_p50"]
    column, unit = (match[1], "tokens") if known.unit == "tokens" else (f"{match[1]}_ms", "ms")
    what = known.description.partition(" that ")[0]
    return quantile(name, column, float(match[2]) / 100, what, unit=unit)


def _named(prefix: str, made: Callable[[str, str], Metric]) -> Callable[[str], Metric | None]:
    def of(name: str) -> Metric | None:
        word = name.removeprefix(prefix)
        return made(name, word) if name.startswith(prefix) and _WORD.fullmatch(word) else None

    return of


FAMILIES = (
    Family("latency_p<N>, ttft_p<N>, input_tokens_p<N>, output_tokens_p<N>", "latency_p75", _percentile, _PERCENTILES),
    Family("score:<NAME>", "score:helpfulness", _named("score:", score_mean)),
    Family("violation_rate:<RULE>", "violation_rate:no_refunds", _named("violation_rate:", violations)),
    Family("block_rate:<RULE>", "block_rate:no_refunds", _named("block_rate:", blocks)),
    Family("retrieval_hit@<K>", "retrieval_hit@3", retrieval_family),
    Family("retrieval_recall@<K>", "retrieval_recall@3", retrieval_family),
    Family("retrieval_precision@<K>", "retrieval_precision@3", retrieval_family),
    Family("retrieval_ndcg@<K>", "retrieval_ndcg@3", retrieval_family),
    Family("retrieval_judged@<K>", "retrieval_judged@3", retrieval_family),
)


def check_percentile(name: str) -> None:
    """Return when the name is none of a percentile, or one that there is.

    Raises:
        UnknownSubject: it is a percentile outside of the range.
    """
    match = _ANY_PERCENTILE.fullmatch(name)
    if match is not None and _percentile(name) is None:
        needed = f"{match[1]}_p<N> with {_PERCENTILES}, at most three digits behind the point, for example {match[1]}_p95"
        raise UnknownSubject(f"metric {name!r}", seen="there is no such percentile", needed=needed)


def find(name: str) -> Metric | None:
    """The metric of this name, from the catalogue or a family; None where there is none."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    return next((metric for family in FAMILIES if (metric := family.made(name)) is not None), None)


def kpi_metric(kpi: Kpi) -> Metric:
    """The metric that a KPI of app.yaml is."""
    given = "each given to its request, else to the newest one of its session, or of its unit, before it"
    late = f"; none later than {format_duration(kpi.within)} after that" if kpi.within else ""
    over = f"{late}; a session counts when that time is over" if kpi.within else ""
    formulas = {
        "rate": f"sessions (requests without one count alone) followed by the event {kpi.outcome!r} / sessions, by first request{over}",
        "mean": f"mean value of the events {kpi.outcome!r}, {given}{late}",
        "sum": f"total value of the events {kpi.outcome!r}, {given}{late}",
    }
    return Metric(
        name=kpi.name,
        unit=kpi.unit,
        direction=Direction(kpi.direction),
        description=kpi.description or f"KPI {kpi.name}.",
        formula=formulas[kpi.aggregate],
        kind=Kind(kpi.aggregate),
        y=lambda t: t.kpi_y,
        x=lambda t: t.kpi_x,
        k=lambda t: t.kpi_x,
        eligible=one if kpi.aggregate == "rate" else None,
        measured=one if kpi.aggregate == "rate" else None,
        kpi=kpi,
    )
