"""The nouns of traces: a span as it was sent, and what the table of names makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
"""OpenTelemetry's kinds of span, by their number on the wire."""
ENTRANCES = frozenset(("server", "consumer"))
"""Kinds of a span that something from outside began."""


class SpanEvent(NamedTuple):
    """Something that happened in a span."""

    name: str
    at_us: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSpan:
    """One span of any dialect. Times are microseconds since 1970 UTC, ids lower-case hex."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    """One of `KINDS`."""
    start_us: int
    end_us: int | None
    is_error: bool
    message: str
    """What the status says, in words."""
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    scope: str
    events: tuple[SpanEvent, ...] = ()
    sealed: Mapping[str, Any] | None = None
    """What sealing noted, on a span that was sealed: `unit`, `session_unit`, `audited`, `input_hmac`, `output_hmac`."""

    @property
    def duration_ms(self) -> float | None:
        return None if self.end_us is None else (self.end_us - self.start_us) / 1000


class ToolCall(NamedTuple):
    """A call of a tool that a model asked for."""

    call_id: str | None
    name: str


class Hit(NamedTuple):
    """A document that a retrieval found."""

    doc_id: str | None
    score: float | None
    rank: int
    """From 1."""


class Score(NamedTuple):
    """A judgement that came as an event."""

    name: str
    value: float | None
    label: str | None
    explanation: str | None
    source: str
    at_us: int
    number: int
    """Place of the event in its span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one span says, in our names."""

    span: TraceSpan
    kind: str
    """A kind of `tables.SPAN_KINDS`."""
    is_ai: bool
    is_request: bool
    """Whether its app marked it as a request of its own."""
    status: str
    error_type: str | None
    texts: Mapping[str, str]
    """By the names of `aliases.TEXTS`; only those that are known."""
    counts: Mapping[str, int]
    """By the names of `aliases.COUNTS`; zero is a value, missing is absent."""
    serving: Mapping[str, Any]
    """By the names of `aliases.SERVING`."""
    unit: str | None
    """The unit, or its hash where the span is sealed."""
    session_unit: str | None
    """What counts as the unit where no span of the request names one."""
    audited: str | None
    """The gateway's own request that this model call was."""
    cost_usd: float | None = None
    first_token_ms: float | None = None
    """From the span's beginning."""
    input: Any = None
    output: Any = None
    """Messages, or another JSON value."""
    calls: Sequence[ToolCall] = ()
    """Calls of tools that a model's answer asks for."""
    earlier_calls: Sequence[ToolCall] = ()
    """Those that it was told of as having been asked for in the same turn."""
    tool_arguments: Any = None
    tool_result: Any = None
    hits: Sequence[Hit] | None = None
    """None where it is no retrieval, or does not tell what it found."""
    scores: Sequence[Score] = ()
    proofs: Mapping[str, str] = field(default_factory=dict)
    """`input_hmac`, `output_hmac` of a sealed span."""

    @property
    def span_id(self) -> str:
        return self.span.span_id

    @property
    def place(self) -> tuple[int, str]:
        """What orders the spans of a trace."""
        return self.span.start_us, self.span.span_id
