"""One trace of Langfuse, with its observations and scores, as log rows. Pure.

| column | from |
|---|---|
| `request_id`, `trace_id` | the trace's id |
| `app`, `bundle` | `metadata.app`, else the import's; `metadata.bundle`, a registered bundle's id or name |
| `workflow` | `metadata.workflow`, else the trace's name (`trace_name` of enriched observations), else the root's, else `unassigned` |
| unit, `session_id` | `user_id`, `session_id` |
| `ts_start`, `ts_end` | first start and last end of the observations; without any, `timestamp` and `latency` (s) after it |
| `latency_ms` | end - start: `latency` of a row is seconds in some exports and milliseconds in others |
| `ttft_ms` | `completion_start_time` - start, where there is a single generation |
| `status` | see below |
| `error_type` | the root's `status_message` when it is a code, else `error`: messages are left out, since they quote |
| model, provider | that of the last generation (`provided_model_name`, `model`) |
| tokens, `cost_usd` | sum over generations and embeddings, see `langfuse_usage`; of a trace alone, its own |
| `n_tool_calls`, `n_tool_errors` | observations of tools (else `tool_calls` of generations), and those of level ERROR |
| `n_retrievals` | observations of retrievers |
| `input`, `output` | the trace's, else the root's, else of the first and of the last generation; as JSON where they are |

Status: a root of level ERROR is an error (the last root, where there are several); a root that never ended is `unknown`, as is a trace of
which only its own row is there, unless that has a level; else the request is `ok`. An error further down is its span's.

An observation that sums up others that have tokens is not counted again, nor is what lies within an evaluator, which is a judge's.

Observations become spans: GENERATION and EMBEDDING are model, TOOL, RETRIEVER, AGENT and GUARDRAIL are what they say, all others are other.

Scores: NUMERIC and BOOLEAN have a value; CATEGORICAL has its label, since its value is only the category's number; TEXT is an
explanation. ANNOTATION is a person's, EVAL a judge's, API a user's where its name says feedback, else a rule's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from workbench.observability.importers import completions, fields, loose
from workbench.observability.importers.identity import hashed, provider_of
from workbench.observability.importers.langfuse_usage import COLUMNS, usage_of
from workbench.observability.importers.source import Row, Rows

_KINDS = {
    "GENERATION": "model",
    "EMBEDDING": "model",
    "TOOL": "tool",
    "RETRIEVER": "retrieval",
    "AGENT": "agent",
    "GUARDRAIL": "guard",
}
_SOURCES = {"ANNOTATION": "human", "EVAL": "judge"}
_LONGEST_TEXT = 4000
_LONGEST_NAME = 200
_DEEPEST = 1000

Values = Mapping[str, Any]


@dataclass(slots=True)
class Trace:
    """What the files say about one trace."""

    trace_id: str
    own: dict[str, Any] = field(default_factory=dict)
    observations: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)


def rows(trace: Trace, *, app: str | None, zone: ZoneInfo) -> Rows:
    """The request of a trace, its spans and its scores.

    Raises:
        RecordRefused: when a field that is read has a wrong type, or the trace contradicts itself.
    """
    spans = [_Span(values, zone) for values in trace.observations.values()]
    spans.sort(key=lambda span: (span.start, span.observation_id))
    tree = _Tree(spans)
    request_id = f"langfuse-{trace.trace_id}"
    own = _Own(trace, tree)
    start, end = _times(trace.own, spans, zone)
    status, error_type = _status(trace.own, tree)
    generations = [span for span in spans if span.type == "GENERATION" and not tree.is_judging(span)]
    tools = [span for span in spans if span.type == "TOOL"]
    asked = [len(fields.items(span.values, "tool_calls")) for span in generations if span.values.get("tool_calls")]
    model = next((span.model for span in reversed(generations) if span.model), None)
    first_token = generations[0].first_token if len(generations) == 1 else None
    request: Row = {
        "request_id": request_id,
        "revision": 0,
        "is_final": True,
        "app": own.named("app") or app,
        "workflow": (own.named("workflow") or own.text("name", "trace_name") or tree.name or "unassigned")[:_LONGEST_NAME],
        "unit": own.text("user_id"),
        "session_id": own.text("session_id"),
        "arm": "none",
        "bundle": own.named("bundle"),
        "trace_id": trace.trace_id,
        "ts_start": start,
        "ts_end": end,
        "latency_ms": None if end is None else _ms(start, end),
        "ttft_ms": None if first_token is None else max(0.0, _ms(start, first_token)),
        "operation": "invoke_agent" if tools or len(generations) > 1 else "chat",
        "provider": provider_of(model) if model else None,
        "model_requested": model,
        "model_served": model,
        "status": status,
        "error_type": error_type,
        "n_tool_calls": (len(tools) if tools else sum(asked)) if spans else None,
        "n_tool_errors": sum(span.is_error for span in tools) if spans else None,
        "n_retrievals": sum(span.type == "RETRIEVER" for span in spans) if spans else None,
        "input": own.body("input", generations[:1]),
        "output": own.body("output", generations[-1:]),
        "source": "langfuse",
    }
    if request["app"] is None:
        fields.refuse("missing_app", "app", "no app in the trace", "`metadata.app`", "or name the app of the files with --app")
    request |= _sum([span.usage for span in tree.counted()] or [usage_of(trace.own)])
    return Rows(
        requests=[request],
        spans=[_span_row(span, tree, request) for span in spans],
        scores=list(_scores(trace.scores.values(), request_id, end or start, zone)),
    )


class _Span:
    """One observation."""

    def __init__(self, values: Values, zone: ZoneInfo) -> None:
        self.values = values
        self.observation_id = fields.text(values, "id") or ""
        self.parent_id = fields.text(values, "parent_observation_id")
        self.type = str(values.get("type") or "SPAN").upper()
        self.start = fields.moment(values["start_time"], "start_time", zone)
        self.end = _moment(values, "end_time", zone)
        self.first_token = _moment(values, "completion_start_time", zone)
        if self.end is not None and self.end < self.start:
            fields.refuse(
                "end_before_start", "end_time", f"{_ms(self.end, self.start) / 1000:g} s before start_time", "an end after the start"
            )
        self.is_error = values.get("level") == "ERROR"
        self.model = fields.text(values, "provided_model_name") or fields.text(values, "model")
        self.usage = usage_of(values) if _KINDS.get(self.type) == "model" else {}

    @property
    def error_type(self) -> str:
        return completions.error_code(self.values.get("status_message")) or "error"


class _Tree:
    """How the observations of a trace belong together; one whose parent is not there is a root."""

    def __init__(self, spans: Sequence[_Span]) -> None:
        self._spans = spans
        self._by_id = {span.observation_id: span for span in spans}
        self.roots = [span for span in spans if self.parent(span) is None]

    @property
    def root(self) -> _Span | None:
        """The last root that is no mere event."""
        return next((span for span in reversed(self.roots) if span.type != "EVENT"), None)

    @property
    def name(self) -> str | None:
        return fields.text(self.roots[0].values, "name") if self.roots else None

    def parent(self, span: _Span) -> _Span | None:
        found = self._by_id.get(span.parent_id or "")
        return None if found is span else found

    def above(self, span: _Span) -> Iterator[_Span]:
        """Those that the span lies within, also where ids form a ring."""
        seen = {span.observation_id}
        at = self.parent(span)
        while at is not None and at.observation_id not in seen and len(seen) < _DEEPEST:
            seen.add(at.observation_id)
            yield at
            at = self.parent(at)

    def is_judging(self, span: _Span) -> bool:
        return any(one.type == "EVALUATOR" for one in (span, *self.above(span)))

    def counted(self) -> list[_Span]:
        """The observations whose tokens are the request's, each token once."""
        summing = {one.observation_id for span in self._spans if span.usage for one in self.above(span)}
        return [span for span in self._spans if span.usage and span.observation_id not in summing and not self.is_judging(span)]


class _Own:
    """What a trace says of itself, be it in its own row or in those of its observations."""

    def __init__(self, trace: Trace, tree: _Tree) -> None:
        self._own = trace.own
        self._tree = tree
        self._observed = list(trace.observations.values())

    def named(self, key: str) -> str | None:
        """What the metadata says."""
        said = [loose.mapping(self._own, "metadata"), *(loose.mapping(root.values, "metadata") for root in self._tree.roots[:1])]
        return next((text for metadata in said if (text := fields.text(metadata, key))), None)

    def text(self, key: str, observed: str | None = None) -> str | None:
        found = fields.text(self._own, key)
        return found or next((text for values in self._observed if (text := fields.text(values, observed or key))), None)

    def body(self, key: str, generations: Sequence[_Span]) -> Any:
        roots = self._tree.roots if len(self._tree.roots) == 1 else []
        for values in (self._own, *(span.values for span in (*roots, *generations))):
            value = values.get(key)
            if value not in (None, "", {}, []):
                return _parsed(value)
        return None


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _moment(values: Values, key: str, zone: ZoneInfo) -> datetime | None:
    return None if values.get(key) in (None, "") else fields.moment(values[key], key, zone)


def _ms(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds() * 1000


def _times(own: Values, spans: Sequence[_Span], zone: ZoneInfo) -> tuple[datetime, datetime | None]:
    if spans:
        ends = [span.end or (span.start if span.type == "EVENT" else None) for span in spans]
        known = [end for end in ends if end is not None]
        return spans[0].start, max(known) if known else None
    start = _moment(own, "timestamp", zone)
    if start is None:
        fields.refuse("missing_field", "timestamp", "neither `timestamp` nor an observation", "when the trace began")
    seconds = fields.number(own, "latency")
    if seconds is not None and seconds < 0:
        fields.refuse("negative_latency", "latency", f"{seconds:g} s", "0 or more")
    try:
        return start, None if seconds is None else start + timedelta(seconds=seconds)
    except OverflowError:
        fields.refuse("out_of_range", "latency", f"{seconds:g} s", "a duration")


def _status(own: Values, tree: _Tree) -> tuple[str, str | None]:
    root = tree.root
    if root is None:
        level = own.get("level")
        return ("error", "error") if level == "ERROR" else ("ok" if isinstance(level, str) and level else "unknown", None)
    if root.is_error:
        return completions.status(None, completions.Exchange({}, {}, {"code": root.error_type}, None), None)
    return ("unknown" if root.end is None else "ok"), None


def _sum(parts: Iterable[Row]) -> Row:
    """Each column's sum over the rows that know it; None where none does."""
    known: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for part in parts:
        for name, value in part.items():
            known[name].append(value)
    total = {name: sum(values) if values else None for name, values in known.items()}
    return {name: fields.cost(total, name) if name == "cost_usd" else fields.count(total, name) for name in COLUMNS}


def _span_row(span: _Span, tree: _Tree, request: Row) -> Row:
    values, kind = span.values, _KINDS.get(span.type, "other")
    parent = tree.parent(span)
    said = {
        key: values[key] for key in ("model_parameters", "prompt_name", "prompt_version", "version") if values.get(key) not in (None, "")
    }
    name = fields.text(values, "name")
    row: Row = {key: request[key] for key in ("trace_id", "request_id", "app", "bundle")}
    row |= {
        "span_id": hashed(request["trace_id"], span.observation_id)[:16],
        "parent_span_id": hashed(request["trace_id"], parent.observation_id)[:16] if parent else None,
        "kind": kind,
        "name": name or span.type.lower(),
        "ts_start": span.start,
        "duration_ms": None if span.end is None else _ms(span.start, span.end),
        "status": "error" if span.is_error else "ok",
        "error_type": span.error_type if span.is_error else None,
        "attributes": said or None,
    }
    if kind == "model":
        row |= {"model": span.model, "provider": provider_of(span.model) if span.model else None} | span.usage
    elif kind == "tool":
        row |= {"tool_name": name or "unnamed", "tool_arguments": values.get("input"), "tool_result": values.get("output")}
        row |= {"side_effect": "unknown"}
    elif kind == "retrieval":
        query = values.get("input")
        row |= {"retrieval_query": query if isinstance(query, str) else None}
    elif kind == "guard":
        row |= {"rule_id": name}
    return row


def _scores(scores: Iterable[Values], request_id: str, at: datetime, zone: ZoneInfo) -> Iterator[Row]:
    for place, score in enumerate(scores):
        name = (fields.text(score, "name") or "unnamed")[:_LONGEST_NAME]
        source = str(score.get("source") or "").upper()
        default = "user" if "feedback" in name.lower() or name.lower().startswith("user") else "rule"
        comment = score.get("comment")
        row: Row = {
            "score_id": f"langfuse-{fields.text(score, 'id') or f'{request_id}:{place}'}",
            "request_id": request_id,
            "name": name,
            "scorer_id": f"langfuse:{source.lower() or 'unknown'}"[:_LONGEST_NAME],
            "source": _SOURCES.get(source, default),
            "ts": (_moment(score, "timestamp", zone) or _moment(score, "created_at", zone) or at).astimezone(UTC),
            "explanation": comment[:_LONGEST_TEXT] if isinstance(comment, str) and comment else None,
        }
        yield row | _valued(score)


def _valued(score: Values) -> Row:
    """The value or the label of a score."""
    kind, value, text = str(score.get("data_type") or "").upper(), score.get("value"), score.get("string_value")
    text = value if isinstance(value, str) and text in (None, "") else text
    if text is not None and not isinstance(text, str):
        fields.refuse("wrong_type", "string_value", fields.type_name(text), "text")
    if kind in ("TEXT", "CORRECTION"):
        return {"value": None, "explanation": text[:_LONGEST_TEXT] if text else None}
    if kind == "CATEGORICAL" or (kind == "" and isinstance(value, str)):
        return {"value": None, "label": text[:_LONGEST_NAME] if text else None}
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            fields.refuse("wrong_type", "value", "text", f"a number for a {kind.lower()} score")
        value = value.lower() == "true"
    number = float(value) if isinstance(value, bool) else fields.number(score, "value")
    return {"value": number, "label": text[:_LONGEST_NAME] if text and not isinstance(score.get("value"), str) else None}
