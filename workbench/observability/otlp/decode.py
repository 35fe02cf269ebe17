"""The spans of an `ExportTraceServiceRequest`, protobuf or JSON. One span that cannot be true is refused, the others are read.

In OTLP's JSON the ids are hex, unlike every other bytes field of protobuf's JSON, and 64-bit numbers may be text.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import orjson

from workbench.errors import RecordRefused
from workbench.observability.otlp.model import KINDS, SpanEvent, TraceSpan

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

_TRACE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SPAN_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_EARLIEST_US = 946_684_800_000_000
"""The year 2000: earlier times are clocks that were never set."""
_LONGEST_US = 7 * 86_400_000_000
_LONGEST_NAME = 512
_DEEPEST = 64
_MOST_EVENTS = 1000
_MOST_NS = (1 << 64) - 1
_ERROR = 2
"""The status code that says so."""


class Unread(NamedTuple):
    """Spans that were refused for one reason."""

    reason: str
    sentence: str
    """Of the first; it quotes nothing that was sent."""
    n: int


class Batch(NamedTuple):
    """The spans of one message."""

    spans: list[TraceSpan]
    unread: list[Unread]


def from_protobuf(body: bytes, *, latest_us: int) -> Batch:
    """The spans of a message in protobuf's binary form (`TracesData` is the same on the wire).

    Args:
        body: the message.
        latest_us: spans that begin later are refused.

    Raises:
        RecordRefused: it is no such message.
    """
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - a gateway that nobody sends traces does not load it
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: PLC0415

    try:
        message = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        _refuse("not_otlp", "body", "no ExportTraceServiceRequest of protobuf", "OTLP as protobuf, or content-type: application/json")
    return _batch(_of_message(message), latest_us)


def from_json(body: bytes, *, latest_us: int) -> Batch:
    """The spans of a message in OTLP's JSON form.

    Args:
        body: the message.
        latest_us: spans that begin later are refused.

    Raises:
        RecordRefused: it is no JSON, or none of this form.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        _refuse("not_json", "body", "no JSON", "OTLP as JSON")
    return from_object(found, latest_us=latest_us)


def from_object(found: Any, *, latest_us: int) -> Batch:
    """As `from_json`, of JSON that was read already."""
    if not isinstance(found, dict):
        _refuse("not_otlp", "body", "JSON that is no object", "an object with `resourceSpans`")
    return _batch(_of_json(found), latest_us)


def _batch(makers: Iterator[Callable[[int], TraceSpan]], latest_us: int) -> Batch:
    spans: list[TraceSpan] = []
    unread: dict[str, Unread] = {}
    for make in makers:
        try:
            spans.append(make(latest_us))
        except RecordRefused as refusal:
            known = unread.get(refusal.reason)
            unread[refusal.reason] = Unread(refusal.reason, known.sentence if known else str(refusal), known.n + 1 if known else 1)
    return Batch(spans, list(unread.values()))


def _of_message(message: Any) -> Iterator[Callable[[int], TraceSpan]]:
    for group in message.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scoped in group.scope_spans:
            for span in scoped.spans:
                yield partial(_span_of_message, span, resource, scoped.scope.name)


def _span_of_message(span: Span, resource: Mapping[str, Any], scope: str, latest_us: int) -> TraceSpan:
    return _checked(
        ids=(span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()),
        name=span.name,
        kind=span.kind,
        times=(span.start_time_unix_nano, span.end_time_unix_nano),
        code=span.status.code,
        message=span.status.message,
        attributes=_attributes(span.attributes),
        resource=resource,
        scope=scope,
        events=[SpanEvent(event.name, event.time_unix_nano // 1000, _attributes(event.attributes)) for event in span.events[:_MOST_EVENTS]],
        latest_us=latest_us,
    )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    if which == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return None if which is None else _finite(getattr(value, which))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _of_json(found: Mapping[str, Any]) -> Iterator[Callable[[int], TraceSpan]]:
    for group in _objects(found, "resourceSpans"):
        resource = _json_attributes(_object(group, "resource"))
        for scoped in (*_objects(group, "scopeSpans"), *_objects(group, "instrumentationLibrarySpans")):
            scope = _text(_object(scoped, "scope"), "name")
            for span in _objects(scoped, "spans"):
                yield partial(_span_of_json, span, resource, scope)


def _span_of_json(span: Mapping[str, Any], resource: Mapping[str, Any], scope: str, latest_us: int) -> TraceSpan:
    trace_id, span_id, parent = (_text(span, name).lower() for name in ("traceId", "spanId", "parentSpanId"))
    status = _object(span, "status")
    events = [
        SpanEvent(_text(event, "name"), _number(event, "timeUnixNano") // 1000, _json_attributes(event))
        for event in _objects(span, "events")[:_MOST_EVENTS]
    ]
    return _checked(
        ids=(trace_id, span_id, parent),
        name=_text(span, "name"),
        kind=_enumerated(span, "kind", "SPAN_KIND_", tuple(name.upper() for name in KINDS)),
        times=(_number(span, "startTimeUnixNano"), _number(span, "endTimeUnixNano")),
        code=_enumerated(status, "code", "STATUS_CODE_", ("UNSET", "OK", "ERROR")),
        message=_text(status, "message"),
        attributes=_json_attributes(span),
        resource=resource,
        scope=scope,
        events=events,
        latest_us=latest_us,
    )


def _checked(
    *,
    ids: tuple[str, str, str],
    name: str,
    kind: int,
    times: tuple[int, int],
    code: int,
    message: str,
    attributes: Mapping[str, Any],
    resource: Mapping[str, Any],
    scope: str,
    events: Sequence[SpanEvent],
    latest_us: int,
) -> TraceSpan:
    """The span, when it can be true.

    Raises:
        RecordRefused: otherwise.
    """
    trace_id, span_id, parent = ids
    if not _TRACE_ID.fullmatch(trace_id) or not trace_id.strip("0"):
        _refuse("bad_trace_id", "trace id", "no 16 bytes, in JSON 32 hex digits, or all of them zero", "the id of a trace")
    if not _SPAN_ID.fullmatch(span_id) or not span_id.strip("0"):
        _refuse("bad_span_id", "span id", "no 8 bytes, in JSON 16 hex digits, or all of them zero", "the id of a span")
    if parent and not _SPAN_ID.fullmatch(parent):
        _refuse("bad_span_id", "parent span id", "no 8 bytes, in JSON 16 hex digits", "the id of a span, or none")
    start_us, end_us = times[0] // 1000, times[1] // 1000 if times[1] else None
    if not _EARLIEST_US <= start_us <= latest_us:
        _refuse("bad_time", "start time", "missing, before the year 2000 or more than a day in the future", "nanoseconds since 1970")
    if end_us is not None and not start_us <= end_us <= start_us + _LONGEST_US:
        _refuse("bad_time", "end time", "before the start, or more than a week after it", "the end of the span")
    return TraceSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent if parent.strip("0") else None,
        name=name[:_LONGEST_NAME],
        kind=KINDS[kind] if 0 <= kind < len(KINDS) else KINDS[0],
        start_us=start_us,
        end_us=end_us,
        is_error=code == _ERROR,
        message=message,
        attributes=attributes,
        resource=resource,
        scope=scope[:_LONGEST_NAME],
        events=tuple(events),
    )


def _json_attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {_text(pair, "key"): _json_value(_object(pair, "value"), 0) for pair in _objects(holder, "attributes")}


def _json_value(value: Mapping[str, Any], depth: int) -> Any:
    """The plain value of a JSON `AnyValue`."""
    if depth > _DEEPEST:
        _refuse("too_deep", "attribute", f"nested more than {_DEEPEST} levels deep", "less")
    for name, inner in value.items():
        if name == "arrayValue":
            return [_json_value(item, depth + 1) for item in _objects(_object(value, name), "values")]
        if name == "kvlistValue":
            return {_text(pair, "key"): _json_value(_object(pair, "value"), depth + 1) for pair in _objects(_object(value, name), "values")}
        if name == "intValue":
            return _whole(inner)
        if name == "doubleValue" and isinstance(inner, str):
            return _finite(_float(inner))
        if name in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
            return inner if isinstance(inner, str | bool | int | float) else None
    return None


def _whole(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            value = int(value) if len(value) <= 20 else None  # noqa: PLR2004 - a sign and the digits of 2^63
        except ValueError:
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 64 else None


def _float(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _number(holder: Mapping[str, Any], name: str) -> int:
    value = holder.get(name)
    found = int(value) if isinstance(value, float) and value.is_integer() else _whole(value)
    if value is not None and (found is None or not 0 <= found <= _MOST_NS):
        _refuse("bad_time", name, "no whole number of nanoseconds", "a 64-bit number, as text or as a number")
    return found or 0


def _enumerated(holder: Mapping[str, Any], name: str, prefix: str, names: Sequence[str]) -> int:
    """The number of an enumerated value, which some senders write by name."""
    value = holder.get(name)
    if isinstance(value, str) and value.removeprefix(prefix) in names:
        return names.index(value.removeprefix(prefix))
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _text(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    if value is not None and not isinstance(value, str):
        _refuse("not_otlp", name, "no text", "text")
    return value or ""


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = holder.get(name)
    if value is not None and not isinstance(value, dict):
        _refuse("not_otlp", name, "no object", "an object")
    return value or {}


def _objects(holder: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = holder.get(name)
    if value is not None and (not isinstance(value, list) or not all(isinstance(item, dict) for item in value)):
        _refuse("not_otlp", name, "no list of objects", "a list of objects")
    return value or []


def _refuse(reason: str, field: str, seen: str, needed: str) -> NoReturn:
    raise RecordRefused(field, reason=reason, seen=seen, needed=needed)
