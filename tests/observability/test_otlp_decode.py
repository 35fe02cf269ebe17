"""OTLP from the wire: both forms alike, ids in hex, and one bad span among good ones."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.observability.real_data import real
from tests.observability.traces import LATEST_US, TRACE, as_json, as_protobuf, chat, message, span
from workbench.errors import RecordRefused
from workbench.observability.otlp import decode

RICH = chat(
    1,
    2,
    name="chat m-1",
    kind="client",
    error="it broke",
    attributes={"flag": True, "n": -(2**63), "x": 1.5, "list": ["a", 1, ["b"]], "object": {"k": {"l": "m"}}},
    events=[("exception", 50, {"exception.type": "ValueError"})],
)


def test_both_forms_give_the_same_spans():
    by_json = decode.from_json(as_json(RICH, span(3), resource={"service.name": "s"}), latest_us=LATEST_US)
    by_protobuf = decode.from_protobuf(as_protobuf(RICH, span(3), resource={"service.name": "s"}), latest_us=LATEST_US)
    assert by_json == by_protobuf
    first = by_json.spans[0]
    assert (first.trace_id, first.span_id, first.parent_span_id) == (TRACE, f"{1:016x}", f"{2:016x}")
    assert (first.kind, first.is_error, first.message, first.duration_ms) == ("client", True, "it broke", 100.0)
    assert first.attributes["object"] == {"k": {"l": "m"}}
    assert first.attributes["n"] == -(2**63)
    assert first.resource == {"service.name": "s"}


def test_upper_case_ids_and_numbers_that_are_numbers_are_read():
    content = json.loads(real("otlp", "otlp_trace_example.json").read_bytes())
    (only,) = decode.from_object(content, latest_us=LATEST_US).spans
    assert (only.trace_id, only.span_id, only.parent_span_id) == (
        "5b8efff798038103d269b633813fc60c",
        "eee19b7ec3c1b174",
        "eee19b7ec3c1b173",
    )
    assert (only.start_us, only.duration_ms, only.kind) == (1_544_712_660_000_000, 1000.0, "server")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"traceId": "W47/95gDgQPSabYzgT/GDA=="}, "bad_trace_id"),
        ({"traceId": "0" * 32}, "bad_trace_id"),
        ({"traceId": ""}, "bad_trace_id"),
        ({"traceId": "５" * 32}, "bad_trace_id"),
        ({"spanId": "0" * 16}, "bad_span_id"),
        ({"parentSpanId": "xyz"}, "bad_span_id"),
        ({"startTimeUnixNano": "0"}, "bad_time"),
        ({"startTimeUnixNano": str((LATEST_US + 1) * 1000)}, "bad_time"),
        ({"endTimeUnixNano": "1"}, "bad_time"),
        ({"endTimeUnixNano": "-1"}, "bad_time"),
        ({"startTimeUnixNano": "9" * 400}, "bad_time"),
        ({"endTimeUnixNano": 1.5}, "bad_time"),
        ({"name": 7}, "not_otlp"),
        ({"attributes": "x"}, "not_otlp"),
        ({"attributes": [{"key": "k", "value": {"arrayValue": {"values": [7]}}}]}, "not_otlp"),
    ],
)
def test_a_span_that_cannot_be_true_is_refused_alone(change: dict[str, object], reason: str):
    batch = decode.from_object(message(span(1), {**span(2), **change}, span(3)), latest_us=LATEST_US)
    assert [one.span_id for one in batch.spans] == [f"{1:016x}", f"{3:016x}"]
    assert [(unread.reason, unread.n) for unread in batch.unread] == [(reason, 1)]


def test_attributes_nested_too_deeply_are_refused_and_do_not_break_the_stack():
    value: dict[str, object] = {"stringValue": "x"}
    for _ in range(90):
        value = {"arrayValue": {"values": [value]}}
    deep = {**span(1), "attributes": [{"key": "k", "value": value}]}
    assert [unread.reason for unread in decode.from_object(message(deep), latest_us=LATEST_US).unread] == ["too_deep"]
    with pytest.raises(RecordRefused):
        decode.from_json(b'{"resourceSpans":' + b"[" * 100_000, latest_us=LATEST_US)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"resourceSpans": 7}', b'{"resourceSpans": [7]}', b'{"a": "\xff"}'])
def test_what_is_no_message_is_refused_whole(body: bytes):
    with pytest.raises(RecordRefused):
        decode.from_json(body, latest_us=LATEST_US)


def test_an_empty_message_is_one():
    assert decode.from_json(b"{}", latest_us=LATEST_US) == decode.from_protobuf(b"", latest_us=LATEST_US) == decode.Batch([], [])


@given(body=st.binary(max_size=300) | st.builds(lambda a, b: as_protobuf(RICH)[:a] + b, st.integers(0, 200), st.binary(max_size=40)))
@settings(max_examples=200)
def test_no_bytes_end_in_anything_but_spans_or_a_refusal(body: bytes):
    for read in (decode.from_json, decode.from_protobuf):
        with suppress(RecordRefused):
            read(body, latest_us=LATEST_US)


def test_numbers_that_are_not_finite_say_nothing():
    odd = {**span(1), "attributes": [{"key": "k", "value": {"doubleValue": word}} for word in ("NaN", "Infinity", "x")]}
    (only,) = decode.from_object(message(odd), latest_us=LATEST_US).spans
    assert only.attributes == {"k": None}
