"""Spans made fit to be stored, and read back from where they are stored.

Personal data and secrets are replaced before a span is written; whoever it was for becomes a hash, and raw bodies are proven by HMAC.
Placeholders are alike within a trace, and different in the next: a span does not always know its unit, but always its trace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from workbench.observability.otlp import aliases
from workbench.observability.otlp.assembly import Row, moment
from workbench.observability.otlp.facts import facts_of
from workbench.observability.otlp.messages import compact
from workbench.observability.otlp.model import Facts, SpanEvent, TraceSpan
from workbench.observability.sealing import Sealer, canonical_body

OTEL, SEALED = "otel", "workbench.sealed"
"""Keys, among the stored attributes, of what is no attribute of the span: the rest of what was sent, and what sealing noted."""
_RESERVED = (OTEL, SEALED)
_AUDITED = re.compile(r"req_[0-9a-f]{32}", re.ASCII)
"""Ids that gateways give; a completion's id is its request's."""
COLUMNS = (
    *("app", "trace_id", "span_id", "parent_span_id", "request_id", "name", "duration_ms", "attributes"),
    "epoch_us(ts_start) AS start_us",
)
"""What `span_of` needs of a stored row, as SQL."""


def sealed(span: TraceSpan, sealer: Sealer, *, is_served_here: bool, resource: Mapping[str, Any] | None = None) -> TraceSpan:
    """The span as it may be stored.

    Args:
        span: as it was sent.
        sealer: of the workspace.
        is_served_here: whether the app's model calls go through a gateway, which has them on record.
        resource: the span's resource, where it was sealed already.

    Raises:
        RecordRefused: a body is nested too deeply.
    """
    facts = facts_of(span)
    noted: dict[str, Any] = {}
    if facts.session_unit is not None:
        noted["session_unit"] = sealer.unit_hash(facts.session_unit)
    for name, body in (("input_hmac", facts.input), ("output_hmac", facts.output)):
        if body is not None:
            noted[name] = sealer.proof(canonical_body(body))
    response = facts.texts.get("response_id", "")
    if is_served_here and facts.kind == "model" and _AUDITED.fullmatch(response):
        noted["audited"] = response
    scope = span.trace_id
    text = sealer.redactor.text
    return TraceSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        name=sealer.redactor.identifier(span.name),
        kind=span.kind,
        start_us=span.start_us,
        end_us=span.end_us,
        is_error=span.is_error,
        message=text(span.message, scope),
        attributes=_sealed(span.attributes, sealer, scope),
        resource=sealed_resource(span, sealer) if resource is None else resource,
        scope=text(span.scope, scope),
        events=tuple(SpanEvent(text(event.name, scope), event.at_us, _sealed(event.attributes, sealer, scope)) for event in span.events),
        sealed=noted,
    )


def sealed_resource(span: TraceSpan, sealer: Sealer) -> Mapping[str, Any]:
    """What a process says of itself, as it may be stored: the same for all of its spans."""
    return _sealed(span.resource, sealer, "")


def _sealed(attributes: Mapping[str, Any], sealer: Sealer, scope: str) -> Mapping[str, Any]:
    units = {name: sealer.unit_hash(str(attributes[name])) for name in aliases.UNITS if attributes.get(name) not in (None, "")}
    is_plain = not units and not any(name in attributes for name in _RESERVED)
    rest = attributes if is_plain else {name: value for name, value in attributes.items() if name not in units and name not in _RESERVED}
    redacted: Mapping[str, Any] = sealer.redactor.json(rest, scope)
    return {**redacted, **units} if units else redacted


def row_of(facts: Facts, *, app: str, request_id: str | None) -> Row:
    """The span as a row of `spans`.

    Args:
        facts: of the sealed span.
        app: whose it is.
        request_id: the request that it is part of, as far as that is known.
    """
    span, texts = facts.span, facts.texts
    row: Row = {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "request_id": request_id,
        "app": app,
        "bundle": facts.serving.get("bundle"),
        "kind": facts.kind,
        "name": span.name,
        "ts_start": moment(span.start_us),
        "duration_ms": span.duration_ms,
        "status": facts.status,
        "error_type": facts.error_type,
        "provider": texts.get("provider"),
        "model": texts.get("model_served") or texts.get("model_requested"),
        **facts.counts,
        "cost_usd": facts.cost_usd,
        "attributes": attributes_text(span),
        "alias_version": aliases.ALIAS_VERSION,
    }
    if facts.kind == "tool":
        row |= {"tool_name": texts.get("tool_name"), "tool_call_id": texts.get("tool_call_id"), "side_effect": "unknown"}
        row |= {"tool_arguments": _body(facts.tool_arguments), "tool_result": _body(facts.tool_result)}
    elif facts.kind == "retrieval":
        row["retrieval_query"] = texts.get("retrieval_query")
        row["retrieved"] = None if facts.hits is None else [hit._asdict() for hit in facts.hits]
    elif facts.kind == "guard":
        row |= {"rule_id": texts.get("rule_id"), "action": texts.get("action")}
    return row


def _body(value: Any) -> str | None:
    return None if value is None else compact(value)


def attributes_text(span: TraceSpan) -> str:
    """All of the span that has no column, as JSON text: its attributes by their names, the rest under `otel`."""
    rest: dict[str, Any] = {"kind": span.kind, "is_error": span.is_error}
    if span.message:
        rest["message"] = span.message
    if span.scope:
        rest["scope"] = span.scope
    if span.resource:
        rest["resource"] = span.resource
    if span.events:
        rest["events"] = [event._asdict() for event in span.events]
    return orjson.dumps({**span.attributes, OTEL: rest, SEALED: span.sealed or {}}, option=orjson.OPT_NON_STR_KEYS).decode()


def span_of(row: Mapping[str, Any]) -> TraceSpan:
    """The span of a stored row, whose columns are `COLUMNS`."""
    attributes = orjson.loads(row["attributes"] or "{}")
    rest, noted = attributes.pop(OTEL, {}), attributes.pop(SEALED, {})
    duration_ms = row["duration_ms"]
    return TraceSpan(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        name=row["name"] or "",
        kind=rest.get("kind", "unspecified"),
        start_us=row["start_us"],
        end_us=None if duration_ms is None else row["start_us"] + round(duration_ms * 1000),
        is_error=bool(rest.get("is_error")),
        message=rest.get("message", ""),
        attributes=attributes,
        resource=rest.get("resource", {}),
        scope=rest.get("scope", ""),
        events=tuple(SpanEvent(event["name"], event["at_us"], event["attributes"]) for event in rest.get("events", ())),
        sealed=noted,
    )
