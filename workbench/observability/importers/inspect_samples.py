"""One sample of an Inspect log as log rows. Pure.

| column | from |
|---|---|
| `request_id` | digest of `uuid` (else of the run), `id` and `epoch`: a sample that a retried run took over is known again |
| unit | `id`, so that two logs of a task pair by unit |
| `ts_start` | `started_at`, else the first event, else `stats.started_at` |
| `latency_ms` | `total_time`, else `completed_at` - start, else until the last event before scoring, else `working_time` |
| `ts_end` | `completed_at`, else start + latency |
| `status` | `error`, see below; else `limit`; else `output.error`, `output.choices[].stop_reason`; else `ok` |
| `error_type` | name of the exception that `error.message` begins with, or `limit_…`; messages are left out, since they quote |
| `attempts` | `error_retries`, and this one |
| tokens, `cost_usd` | `model_usage` of all models, less what scorers used (`role_usage.grader` without events); else the model events |
| `n_tool_calls`, `n_tool_errors` | tool events before scoring; in a log without events, messages of tools |
| `input`, `output` | `messages` before the last answer, or `input`; `output.choices` |

Status: a sample with an `error` is an error (`cancelled` for a `CancelledError`); one that met a `limit` of time or working time is a
timeout, of the operator `cancelled`, of any other kind `truncated`. Of reasons to stop, `max_tokens` and `model_length` mean `truncated`,
`content_filter` means `blocked`.

Cached tokens stand beside `input_tokens` where `total_tokens` counts both, and within it where it does not; reasoning tokens alike. In
the row they are always within. A model call that Inspect answered from its own cache used no tokens.

The events before scoring become spans: an agent span for the sample, a model span per model call, a tool span per tool call. Events that
are nested in others, and those of the older `transcript.events`, are read alike; references to `attachments` are resolved.

Scores: C, I, P, N are 1, 0, 0.5, 0; booleans, numbers and their texts are numbers; other text is a label; an object or a list becomes a
score per part, named `scorer:part`; null (an unscored sample) is none. The main scorer's value is also `quality` where all of the log's
lie between 0 and 1, and `success` where they are binary (P is no success). A sample that somebody declared invalid is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from workbench.observability.importers import completions, fields
from workbench.observability.importers.identity import hashed
from workbench.observability.importers.source import Row, Rows
from workbench.observability.importers.usage import whole

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_STOPPED = {"max_tokens": "truncated", "model_length": "truncated", "content_filter": "blocked"}
_LIMITS = {"time": "timeout", "working": "timeout", "operator": "cancelled"}
_EXCEPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,60}?(?:Error|Exception|Timeout|Interrupt|Exit)\b")
_REFERENCE = re.compile(r"(?:attachment|tc)://([0-9a-f]{16,64})")
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost_usd")
_LONGEST_TEXT = 4000
_LONGEST_LABEL = 200
_DEEPEST = 240
_LONGEST_S = 1e9
_MOST_RESOLVED = 32 * 1024 * 1024
"""Characters of attachments that one sample's references are replaced by; the references beyond are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the samples of a log have in common."""

    run_id: str
    app: str
    task: str
    provider: str
    model: str
    started: Any
    zone: ZoneInfo | None
    main: str | None
    """The scorer that `quality` and `success` come from."""
    is_binary: bool
    is_share: bool


class Number(NamedTuple):
    """The value of a score as a number."""

    value: float
    is_letter: bool


def rows(sample: Mapping[str, Any], run: Run) -> Rows:
    """The request of a sample, its spans and its scores.

    Raises:
        RecordRefused: when a field that is read has a wrong type, or the sample contradicts itself.
    """
    sample_id = fields.text(sample, "id")
    if sample_id is None:
        fields.refuse("missing_field", "id", "nothing", "the sample's id")
    if sample.get("invalidation"):
        fields.refuse("invalidated", "invalidation", "the sample was declared invalid", "a valid one")
    epoch, uuid = fields.count(sample, "epoch") or 1, fields.text(sample, "uuid")
    request_id = "inspect-" + hashed(uuid or run.run_id, sample_id, epoch)[:32]
    work, judging = _divided(_flattened(sample))
    start, end, latency_ms = _times(sample, run, work)
    resolve = _Attachments(sample)
    request = _request(sample, run, resolve) | {"request_id": request_id, "unit": sample_id, "trace_id": hashed(request_id)[:32]}
    request |= {"ts_start": start, "ts_end": end, "latency_ms": latency_ms} | _tokens(sample, work, judging)
    spans = _spans(request, run, work, resolve)
    tools = [span for span in spans if span["kind"] == "tool"]
    n_calls, n_errors = len(tools), sum(span["status"] == "error" for span in tools)
    if not work:
        said = [message for message in fields.items(sample, "messages") if isinstance(message, dict) and message.get("role") == "tool"]
        n_calls, n_errors = len(said), sum(message.get("error") is not None for message in said)
    request |= {"n_tool_calls": n_calls, "n_tool_errors": n_errors, "operation": "invoke_agent" if n_calls else "chat"}
    return Rows(requests=[request], spans=spans, scores=_scores(sample, run, request_id, end or start))


def number_of(score: Any) -> Number | None:
    """The number of a score whose value is one: a scorer's entry, as it stands in a sample or a summary."""
    number, label = _valued(score.get("value") if isinstance(score, dict) else score)
    return None if number is None else Number(number, label in _LETTERS)


def _valued(value: Any) -> tuple[float | None, str | None]:
    """(number, label) of a single value."""
    if isinstance(value, bool):
        return float(value), None
    if isinstance(value, (int, float)):
        return (float(value), None) if math.isfinite(value) else (None, None)
    if not isinstance(value, str):
        return None, None
    number = _LETTERS.get(value, _WORDS.get(value.strip().lower()))
    if number is None:
        with suppress(ValueError):
            number = float(value)
    return (number if number is None or math.isfinite(number) else None), value[:_LONGEST_LABEL] or None


def _flattened(sample: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All events in their order, those nested in others after them."""
    events = fields.items(sample, "events") or fields.items(fields.mapping(sample, "transcript"), "events")
    found: list[Mapping[str, Any]] = []
    waiting = [iter(events)]
    while waiting:
        event = next(waiting[-1], None)
        if event is None:
            waiting.pop()
        elif isinstance(event, dict):
            found.append(event)
            if event.get("events"):
                waiting.append(iter(fields.items(event, "events")))
    return found


def _divided(events: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """(events of the work, events within a scorer): by spans of type scorer and what is below them, and by the older steps."""
    scoring: set[str] = set()
    n_open = 0
    work: list[Mapping[str, Any]] = []
    judging: list[Mapping[str, Any]] = []
    for event in events:
        kind, scorer = event.get("event"), event.get("type") == "scorer" or event.get("name") == "scorers"
        n_open += kind == "step" and scorer and event.get("action") == "begin"
        span, parent = (str(event.get(key)) for key in (("id", "parent_id") if kind in ("span_begin", "span_end") else ("span_id", "id")))
        if kind == "span_begin" and (scorer or parent in scoring):
            scoring.add(span)
        is_judging = n_open > 0 or span in scoring or kind in ("score", "score_edit")
        (judging if is_judging else work).append(event)
        n_open -= kind == "step" and scorer and event.get("action") == "end"
    return work, judging


def _times(sample: Mapping[str, Any], run: Run, work: Sequence[Mapping[str, Any]]) -> tuple[datetime, datetime | None, float | None]:
    first = next((event["timestamp"] for event in work if event.get("timestamp")), None)
    started = sample.get("started_at") or first or run.started
    if not started:
        fields.refuse("missing_field", "started_at", "no start time", "`started_at` or an event with a `timestamp`")
    start = fields.moment(started, "started_at", run.zone)
    end = fields.moment(sample["completed_at"], "completed_at", run.zone) if sample.get("completed_at") else None
    latency_ms = _seconds(sample, "total_time")
    if latency_ms is None:
        last = end or max((_end_of(event, run) or start for event in work if event.get("timestamp")), default=None)
        latency_ms = _seconds(sample, "working_time") if last is None else (last - start).total_seconds() * 1000
    if (end is not None and end < start) or (latency_ms is not None and latency_ms < 0):
        fields.refuse("end_before_start", "completed_at", "an end before the start", "an end after the start")
    return start, end or (None if latency_ms is None else start + timedelta(milliseconds=latency_ms)), latency_ms


def _seconds(record: Mapping[str, Any], key: str) -> float | None:
    """A duration in ms of a field in seconds."""
    seconds = fields.number(record, key)
    if seconds is None:
        return None
    if seconds < 0:
        fields.refuse("negative_latency", key, f"{seconds:g} s", "0 or more")
    if seconds > _LONGEST_S:
        fields.refuse("out_of_range", key, f"{seconds:g} s", "a duration")
    return seconds * 1000


def _end_of(event: Mapping[str, Any], run: Run) -> datetime | None:
    at = event.get("completed") or event.get("timestamp")
    return fields.moment(at, "events.completed", run.zone) if at else None


def _request(sample: Mapping[str, Any], run: Run, resolve: _Attachments) -> Row:
    output = fields.mapping(sample, "output")
    messages = [resolve(message) for message in fields.items(sample, "messages") if isinstance(message, dict)]
    answer = next((place for place in range(len(messages) - 1, -1, -1) if messages[place].get("role") == "assistant"), None)
    stopped = next((fields.text(choice, "stop_reason") for choice in fields.items(output, "choices") if isinstance(choice, dict)), None)
    status, error_type = _status(sample, output, stopped)
    retries = fields.items(sample, "error_retries")
    spoken = messages if answer is None else messages[:answer]
    return {
        "revision": 0,
        "is_final": True,
        "app": run.app,
        "workflow": run.task,
        "arm": "none",
        "provider": run.provider,
        "model_requested": run.model,
        "model_served": fields.text(output, "model") or run.model,
        "status": status,
        "error_type": error_type,
        "finish_reason": stopped,
        "attempts": len(retries) + 1 if retries else None,
        "input": spoken or resolve(sample.get("input")),
        "output": resolve(completions.output_of(output)) or (None if answer is None else messages[answer:]),
        "source": "inspect",
    }


def _status(sample: Mapping[str, Any], output: Mapping[str, Any], stopped: str | None) -> tuple[str, str | None]:
    if sample.get("error"):
        error = sample["error"]
        found = _EXCEPTION.match(str(error.get("message") if isinstance(error, dict) else error).strip())
        name = found[0] if found else "error"
        return ("cancelled" if name.endswith(("CancelledError", "KeyboardInterrupt")) else "error"), name
    limit = sample.get("limit")
    if limit:
        kind = limit.get("type") if isinstance(limit, dict) else limit
        kind = kind if isinstance(kind, str) and kind.isascii() and kind.isalpha() and len(kind) < _LONGEST_LABEL else "custom"
        return _LIMITS.get(kind, "truncated"), f"limit_{kind}"
    if output.get("error"):
        return "error", "model_error"
    return _STOPPED.get(stopped or "", "ok"), None


def _tokens(sample: Mapping[str, Any], work: Sequence[Mapping[str, Any]], judging: Sequence[Mapping[str, Any]]) -> Row:
    """Tokens and cost of the work; a judge's are not the app's."""
    of_work = _sum(_usage(event) for event in work)
    usage = fields.mapping(sample, "model_usage")
    if not usage:
        return of_work
    whole = _sum(_columns(fields.mapping(usage, model)) for model in usage)
    of_judges = _sum(_usage(event) for event in judging)
    if not work and not judging:
        of_judges = _sum([_columns(fields.mapping(fields.mapping(sample, "role_usage"), "grader"))])
    less = {name: value if value is None else value - (of_judges[name] or 0) for name, value in whole.items()}
    return of_work if any(value is not None and value < 0 for value in less.values()) else less


def _usage(event: Mapping[str, Any]) -> Row:
    """What a model call used; nothing for any other event."""
    if event.get("event") != "model" or event.get("cache") == "read":
        return {}
    return _columns(fields.mapping(fields.mapping(event, "output"), "usage"))


def _columns(usage: Mapping[str, Any]) -> Row:
    """The token columns of a usage, cached and reasoning tokens being within the totals."""
    row: Row = {name: fields.count(usage, name) for name in ("input_tokens", "output_tokens", "reasoning_tokens")}
    row["cache_read_tokens"] = fields.count(usage, "input_tokens_cache_read")
    row["cache_write_tokens"] = fields.count(usage, "input_tokens_cache_write")
    row["cost_usd"] = fields.cost(usage, "total_cost")
    cached, reasoned = (row["cache_read_tokens"] or 0) + (row["cache_write_tokens"] or 0), row["reasoning_tokens"] or 0
    if cached or reasoned:
        given, made, total = row["input_tokens"] or 0, row["output_tokens"] or 0, fields.count(usage, "total_tokens")
        row["input_tokens"], row["output_tokens"] = whole(given, made, total, cached, reasoned if total else 0)
    return row


def _sum(parts: Iterable[Row]) -> Row:
    """Each column's sum over the rows that know it; None where none does."""
    known: dict[str, list[Any]] = {name: [] for name in _TOKENS}
    for part in parts:
        for name, value in part.items():
            if value is not None:
                known[name].append(value)
    total = {name: sum(values) if values else None for name, values in known.items()}
    return {name: fields.cost(total, name) if name == "cost_usd" else fields.count(total, name) for name in _TOKENS}


def _spans(request: Row, run: Run, work: Sequence[Mapping[str, Any]], resolve: _Attachments) -> list[Row]:
    """The sample as one agent span, with a span per model and tool call."""
    root_id = hashed(request["request_id"], "sample")[:16]
    base = {key: request[key] for key in ("trace_id", "request_id", "app")}
    root = {"span_id": root_id, "kind": "agent", "name": "sample", "ts_start": request["ts_start"], "duration_ms": request["latency_ms"]}
    spans = [base | root | {"status": request["status"], "error_type": request["error_type"]}]
    for place, event in enumerate(work):
        kind = event.get("event")
        if kind not in ("model", "tool") or event.get("pending"):
            continue
        start = fields.moment(event["timestamp"], "events.timestamp", run.zone) if event.get("timestamp") else request["ts_start"]
        span = {"span_id": hashed(request["request_id"], place)[:16], "parent_span_id": root_id, "kind": kind, "ts_start": start}
        span["duration_ms"] = _duration_ms(event, start, run)
        spans.append(base | span | (_model_span(event, run) if kind == "model" else _tool_span(event, resolve)))
    return spans


def _duration_ms(event: Mapping[str, Any], start: datetime, run: Run) -> float | None:
    if event.get("completed"):
        return max(0.0, (fields.moment(event["completed"], "events.completed", run.zone) - start).total_seconds() * 1000)
    found = _seconds(fields.mapping(event, "output"), "time") if event.get("event") == "model" else None
    return found if found is not None else _seconds(event, "working_time")


def _model_span(event: Mapping[str, Any], run: Run) -> Row:
    output = fields.mapping(event, "output")
    is_error = bool(event.get("error") or output.get("error"))
    requested = fields.text(event, "model") or run.model
    return {
        "name": "chat",
        "status": "error" if is_error else "ok",
        "error_type": "model_error" if is_error else None,
        "provider": requested.partition("/")[0] if "/" in requested else run.provider,
        "model": fields.text(output, "model") or requested,
        **_usage(event),
    }


def _tool_span(event: Mapping[str, Any], resolve: _Attachments) -> Row:
    name, error = fields.text(event, "function") or "unnamed", event.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    is_error = bool(error or event.get("failed"))
    return {
        "name": name,
        "status": "error" if is_error else "ok",
        "error_type": (completions.error_code(kind) or "error") if is_error else None,
        "tool_name": name,
        "tool_call_id": fields.text(event, "id"),
        "tool_arguments": resolve(event.get("arguments")),
        "tool_result": resolve(event.get("result")),
        "side_effect": "unknown",
    }


def _scores(sample: Mapping[str, Any], run: Run, request_id: str, at: datetime) -> list[Row]:
    scores = fields.mapping(sample, "scores")
    if not scores and sample.get("score") is not None:
        scores = {run.main or "score": sample["score"]}
    found: dict[str, Row] = {}
    for scorer, score in scores.items():
        entry = score if isinstance(score, dict) else {"value": score}
        explanation = entry.get("explanation")
        by: Row = {"scorer_id": f"inspect:{scorer[:_LONGEST_LABEL]}", "source": "judge" if scorer.startswith("model_graded") else "rule"}
        by["explanation"] = explanation[:_LONGEST_TEXT] if isinstance(explanation, str) and explanation else None
        for name, value in _parts(scorer, entry.get("value")):
            number, label = _valued(value)
            if number is not None or label is not None:
                found[name[:_LONGEST_LABEL] or "unnamed"] = by | {"value": number, "label": label}
        if scorer == run.main and (number := _valued(entry.get("value"))[0]) is not None:
            if run.is_share and 0 <= number <= 1:
                found["quality"] = by | {"value": number}
            if run.is_binary:
                found["success"] = by | {"value": 1.0 if number == 1 else 0.0}
    base = {"request_id": request_id, "ts": at.astimezone(UTC)}
    return [base | {"score_id": f"{request_id}:{name}", "name": name} | row for name, row in found.items()]


def _parts(scorer: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The single values of a score, each with its name."""
    parts = value.items() if isinstance(value, dict) else enumerate(value, start=1) if isinstance(value, list) else None
    if parts is None:
        yield scorer, value
        return
    for name, part in parts:
        if isinstance(part, (dict, list)):
            fields.refuse("wrong_type", "scores.value", fields.type_name(part), "a number, text, true, false or null in each part")
        yield f"{scorer}:{name}", part


class _Attachments:
    """Replaces references to a sample's attachments by their text."""

    def __init__(self, sample: Mapping[str, Any]) -> None:
        self._texts = fields.mapping(sample, "attachments")
        self._left = _MOST_RESOLVED

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, str):
            found = _REFERENCE.fullmatch(value)
            text = self._texts.get(found[1]) if found else None
            if not isinstance(text, str) or len(text) > self._left:
                return value
            self._left -= len(text)
            return text
        if not self._texts or depth > _DEEPEST:
            return value
        if isinstance(value, dict):
            return {key: self(part, depth + 1) for key, part in value.items()}
        if isinstance(value, list):
            return [self(part, depth + 1) for part in value]
        return value
