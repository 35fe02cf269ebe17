"""The requests of a trace, put together from its spans. Pure: the same spans give the same rows, whatever their order and number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from workbench.observability.gaps import OTLP
from workbench.observability.otlp.model import Facts, Score
from workbench.observability.otlp.totals import lowest, tool_counts, total
from workbench.observability.otlp.tree import Tree, once_each

SOURCE = OTLP
"""How the log names requests that came as traces."""
UNASSIGNED = "unassigned"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_FLAGGED = ("flag", "log")
"""Orders of a guard by which what it found reached somebody all the same."""
_PASSED = ("", "pass", "passed", "allow", "allowed", "none")
_LONGEST_WORKFLOW = 200
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """One request of a trace."""

    request_id: str
    row: Row
    """Columns of `requests` without the storage's, `unit_hash`, revision and `is_final`; bodies are JSON values."""
    unit: str | None
    """Whom it was for, as its spans have it: the hash, where they are sealed."""
    spans: tuple[Facts, ...]
    audited: str | None
    """The gateway's own request that one of its model calls was: then it is on record already."""


def assemble(spans: Iterable[Facts], *, app: str) -> tuple[Assembled, ...]:
    """The requests of one trace of an app, in the order of time; none where no span has to do with a model."""
    tree = Tree(once_each(spans))
    groups = tree.groups()
    if not groups:
        return ()
    numbers = {name: lowest(tree, lambda facts, name=name: facts.counts.get(name)) for name in _COUNTS}  # type: ignore[misc]
    numbers["cost_usd"] = lowest(tree, lambda facts: facts.cost_usd)
    found = []
    for number, (entry, group) in enumerate(groups):
        sums = {name: total(told, group) for name, told in numbers.items()}
        found.append(_assembled(tree, entry, group, app=app, is_first=number == 0, sums=sums))
    return tuple(found)


def moment(us: int) -> datetime:
    """Microseconds since 1970 as a time."""
    return _EPOCH + timedelta(microseconds=us)


def _assembled(
    tree: Tree, entry: Facts | None, spans: Sequence[Facts], *, app: str, is_first: bool, sums: Mapping[str, float | None]
) -> Assembled:
    trace_id = spans[0].span.trace_id
    request_id = trace_id if is_first or entry is None else f"{trace_id}-{entry.span_id}"
    top = entry or min((facts for facts in spans if tree.parent(facts) is None), key=lambda facts: facts.place)
    start_us, end_us = _times(entry, spans)
    answering = _answering(spans)
    near = sorted(spans, key=lambda facts: (facts is not entry, tree.depth[facts.span_id], facts.place))
    n_calls, n_errors = tool_counts(tree, spans)
    status, error_type = _status(tree, entry, spans, answering)
    violation_rules, blocked_rules = _rules(spans)
    given, answered = _bodies(near, answering)
    row: Row = {
        "request_id": request_id,
        "app": app,
        "workflow": (_known(near, lambda facts: facts.texts.get("workflow")) or UNASSIGNED)[:_LONGEST_WORKFLOW],
        "ts_start": moment(start_us),
        "ts_end": None if end_us is None else moment(end_us),
        "latency_ms": None if end_us is None else (end_us - start_us) / 1000,
        "ttft_ms": _first_token_ms(top, answering, start_us),
        "arm": "none",
        **(_known(near, lambda facts: facts.serving or None) or {}),
        "session_id": _known(near, lambda facts: facts.texts.get("session")),
        "trace_id": trace_id,
        "operation": _known(near, lambda facts: facts.texts.get("operation")),
        "provider": _of_model(answering, near, "provider"),
        "model_requested": _of_model(answering, near, "model_requested"),
        "model_served": _of_model(answering, near, "model_served"),
        "status": status,
        "error_type": error_type,
        "finish_reason": answering.texts.get("finish_reason") if answering else None,
        "n_tool_calls": n_calls,
        "n_tool_errors": n_errors,
        "n_retrievals": sum(facts.kind == "retrieval" and not _is_inside(tree, facts, "retrieval") for facts in spans),
        **sums,
        "cost_usd": _rounded(sums["cost_usd"]),
        "violation_rules": violation_rules,
        "blocked_rules": blocked_rules,
        "input": given.input if given else None,
        "output": answered.output if answered else None,
        "input_hmac": given.proofs.get("input_hmac") if given else None,
        "output_hmac": answered.proofs.get("output_hmac") if answered else None,
        "sample_probability": 1.0,
        "source": SOURCE,
    }
    unit = _known(near, lambda facts: facts.unit) or _known(near, lambda facts: facts.session_unit)
    audited = next((facts.audited for facts in spans if facts.audited), None)
    return Assembled(request_id=request_id, row=row, unit=unit, spans=tuple(spans), audited=audited)


def _known(near: Sequence[Facts], told: Callable[[Facts], Any]) -> Any:
    """What the request's own span says, else the next below it that says something."""
    return next((value for facts in near if (value := told(facts)) is not None), None)


def _times(entry: Facts | None, spans: Sequence[Facts]) -> tuple[int, int | None]:
    """Of the request's own span; from the first to the last that is known, where that is still to come."""
    if entry is not None:
        return entry.span.start_us, entry.span.end_us
    ends = [facts.span.end_us for facts in spans if facts.span.end_us is not None]
    return min(facts.span.start_us for facts in spans), max(ends, default=None)


def _answering(spans: Sequence[Facts]) -> Facts | None:
    """The model call that gave the answer: the last one, of those that speak before those that make vectors."""
    models = [facts for facts in spans if facts.kind == "model"]
    speaking = [facts for facts in models if facts.texts.get("operation") != "embeddings"]
    return max(speaking or models, key=lambda facts: (facts.span.start_us, facts.span.end_us or 0, facts.span_id), default=None)


def _of_model(answering: Facts | None, near: Sequence[Facts], name: str) -> str | None:
    told = answering.texts.get(name) if answering else None
    found: str | None = told or _known(near, lambda facts: facts.texts.get(name))
    return found


def _first_token_ms(top: Facts, answering: Facts | None, start_us: int) -> float | None:
    """From the request's beginning; the model call that gave the answer is the one whose first token somebody saw."""
    if top.first_token_ms is not None:
        return top.first_token_ms
    if answering is None or answering.first_token_ms is None:
        return None
    return max(0.0, round((answering.span.start_us - start_us) / 1000 + answering.first_token_ms, 3))


def _status(tree: Tree, entry: Facts | None, spans: Sequence[Facts], answering: Facts | None) -> tuple[str, str | None]:
    """Of the request's own span, or the last of the topmost; a model that stopped early is the request's status where nothing failed."""
    if entry is None:
        tops = [facts for facts in spans if tree.parent(facts) is None]
        entry = max((facts for facts in tops if facts.is_ai), key=lambda facts: (facts.span.end_us or 0, facts.place), default=tops[-1])
    status, error_type = entry.status, entry.error_type
    if status == "ok" and answering is not None and answering.status in ("truncated", "blocked"):
        return answering.status, None
    if error_type == "error":  # it says that it failed, not how
        error_type = next((facts.error_type for facts in reversed(spans) if facts.error_type not in (None, "error")), error_type)
    return status, error_type


def _bodies(near: Sequence[Facts], answering: Facts | None) -> tuple[Facts | None, Facts | None]:
    """The spans whose input and whose output are the request's: its own where it has them, else what the models were told and said."""
    own = near[0]
    models = sorted((facts for facts in near if facts.kind == "model"), key=lambda facts: facts.place)
    agents = [facts for facts in near if facts.kind == "agent"]
    given = next((facts for facts in (own, *agents, *models) if facts.input is not None), None)
    last = (answering,) if answering is not None else ()
    answered = next((facts for facts in (own, *agents, *last, *reversed(models)) if facts.output is not None), None)
    return given, answered


def _rules(spans: Sequence[Facts]) -> tuple[list[str] | None, list[str] | None]:
    """(violated, blocked) rules that guards told of; None for both where no guard looked."""
    guards = [facts for facts in spans if facts.kind == "guard"]
    if not guards:
        return None, None
    found = [
        (facts.texts["rule_id"].replace("\0", ""), facts.texts.get("action", "").lower()) for facts in guards if facts.texts.get("rule_id")
    ]
    violated = sorted({rule for rule, action in found if action in _FLAGGED})
    blocked = sorted({rule for rule, action in found if action not in (*_FLAGGED, *_PASSED)})
    return violated, blocked


def _is_inside(tree: Tree, facts: Facts, kind: str) -> bool:
    parent = tree.parent(facts)
    return parent is not None and parent.kind == kind


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 9)


def score_row(score: Score, facts: Facts, request: Assembled) -> Row:
    """A judgement of the request as a row of `scores`; its id follows from where it stood."""
    span = facts.span
    named = hashlib.sha256(f"{request.row['app']}\0{span.trace_id}\0{span.span_id}\0{score.number}".encode()).hexdigest()[:32]
    return {
        "score_id": f"otlp-{named}",
        "request_id": request.request_id,
        "app": request.row["app"],
        "name": score.name,
        "value": score.value,
        "label": score.label,
        "scorer_id": f"otlp:{score.name}",
        "source": score.source,
        "explanation": score.explanation,
        "ts": moment(score.at_us or span.end_us or span.start_us),
    }
