"""Spans for the tests of traces: written once, sent as JSON or as protobuf."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from workbench.observability.otlp import decode
from workbench.observability.otlp.assembly import Assembled, assemble
from workbench.observability.otlp.facts import facts_of
from workbench.observability.otlp.model import Facts

TRACE = "5b8efff798038103d269b633813fc60c"
START_NS = 1_772_366_400_000_000_000
"""2026-03-01 12:00:00 UTC, as the clock of the lakes."""
LATEST_US = START_NS // 1000 + 86_400_000_000
KINDS = {"internal": 1, "server": 2, "client": 3}


def span(
    number: int, parent: int | None = None, *, at: float = 0, ms: float | None = 100, trace: str = TRACE, **more: Any
) -> dict[str, Any]:
    """A span in OTLP's JSON form.

    Args:
        number: makes its id.
        parent: number of its parent.
        at: start in ms behind `START_NS`.
        ms: duration; None for one that has no end.
        trace: id of its trace.
        more: `name`, `kind`, `error`, `attributes`, `events` (each `(name, ms, attributes)`).
    """
    start = START_NS + round(at * 1_000_000)
    made: dict[str, Any] = {
        "traceId": trace,
        "spanId": f"{number:016x}",
        "parentSpanId": "" if parent is None else f"{parent:016x}",
        "name": more.get("name", "span"),
        "kind": KINDS[more.get("kind", "internal")],
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": "0" if ms is None else str(start + round(ms * 1_000_000)),
        "attributes": attributes(more.get("attributes", {})),
        "events": [
            {"name": name, "timeUnixNano": str(START_NS + round(event_at * 1_000_000)), "attributes": attributes(held)}
            for name, event_at, held in more.get("events", ())
        ],
    }
    if more.get("error"):
        made["status"] = {"code": 2, "message": more["error"]}
    return made


def chat(number: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    """A model call in OpenTelemetry's words, with 10 input and 5 output tokens unless `attributes` says otherwise."""
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m-1",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
    }
    return span(number, parent, **{**more, "attributes": {**told, **more.get("attributes", {})}})


def agent(number: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    return span(number, parent, **{**more, "attributes": {"gen_ai.operation.name": "invoke_agent", **more.get("attributes", {})}})


def tool(number: int, parent: int | None = None, *, call_id: str | None = None, **more: Any) -> dict[str, Any]:
    told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_weather"} | (
        {"gen_ai.tool.call.id": call_id} if call_id else {}
    )
    return span(number, parent, **{**more, "attributes": {**told, **more.get("attributes", {})}})


def asking(*call_ids: str | None, name: str = "get_weather") -> str:
    """Output messages that ask for tools."""
    calls = [{"type": "tool_call", "name": name, "arguments": {}} | ({"id": call_id} if call_id else {}) for call_id in call_ids]
    return json.dumps([{"role": "assistant", "parts": calls}])


def attributes(plain: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": any_value(value)} for key, value in plain.items()]


def any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    return {"stringValue": value}


def message(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "resourceSpans": [
            {"resource": {"attributes": attributes(resource or {})}, "scopeSpans": [{"scope": {"name": "lib"}, "spans": [*spans]}]}
        ]
    }


def as_json(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> bytes:
    return json.dumps(message(*spans, resource=resource)).encode()


def as_protobuf(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> bytes:
    """The same message in protobuf's binary form, made without the code under test."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(_pairs(attributes(resource or {})))
    scoped = group.scope_spans.add()
    scoped.scope.name = "lib"
    for each in spans:
        made = scoped.spans.add(
            trace_id=bytes.fromhex(each["traceId"]),
            span_id=bytes.fromhex(each["spanId"]),
            parent_span_id=bytes.fromhex(each["parentSpanId"]),
            name=each["name"],
            kind=each["kind"],
            start_time_unix_nano=int(each["startTimeUnixNano"]),
            end_time_unix_nano=int(each["endTimeUnixNano"]),
            attributes=_pairs(each["attributes"]),
        )
        for event in each["events"]:
            made.events.add(name=event["name"], time_unix_nano=int(event["timeUnixNano"]), attributes=_pairs(event["attributes"]))
        if "status" in each:
            made.status.code, made.status.message = each["status"]["code"], each["status"]["message"]
    return request.SerializeToString()


def _pairs(listed: list[dict[str, Any]]) -> list[KeyValue]:
    return [KeyValue(key=pair["key"], value=_any(pair["value"])) for pair in listed]


def _any(value: dict[str, Any]) -> AnyValue:
    ((kind, inner),) = value.items()
    made = AnyValue()
    if kind == "arrayValue":
        made.array_value.values.extend(_any(item) for item in inner["values"])
    elif kind == "kvlistValue":
        made.kvlist_value.values.extend(_pairs(inner["values"]))
    else:
        name = {"boolValue": "bool_value", "intValue": "int_value", "doubleValue": "double_value", "stringValue": "string_value"}[kind]
        setattr(made, name, int(inner) if kind == "intValue" else inner)
    return made


def facts(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> list[Facts]:
    batch = decode.from_json(as_json(*spans, resource=resource), latest_us=LATEST_US)
    assert batch.unread == []
    return [facts_of(one) for one in batch.spans]


def requests(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> tuple[Assembled, ...]:
    return assemble(facts(*spans, resource=resource), app="shop")


def request(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
    """The row of the only request of these spans."""
    (found,) = requests(*spans, resource=resource)
    return found.row
