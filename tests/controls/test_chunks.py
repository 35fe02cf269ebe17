"""Chunks of a streamed completion: read where they are some, dropped once where they are none, refused twice."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.chunks import ChunkReader
from workbench.controls.events import Finished, TextPart, Usage
from workbench.controls.providers import ProviderError
from workbench.controls.sse import ServerEvent

STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def read(reader, chunk, name=b""):
    return list(reader.read(ServerEvent(chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode(), name)))


_NAMES = ("choices", "delta", "index", "content", "tool_calls", "function", "arguments", "finish_reason", "usage", "model", "error", "code")
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 600) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4),
    max_leaves=12,
)
_CODES = ("upstream_garbage", "upstream_error", "upstream_truncated")


def outcome(chunks):
    """The code of the failure, or `whole`."""
    reader = ChunkReader("acme")
    try:
        for chunk in chunks:
            assert all(not isinstance(event, TextPart) or event.text for event in read(reader, chunk))
        return "whole" if isinstance(reader.last(), Usage | None) and reader.malformed <= 1 else "neither"
    except ProviderError as fault:
        return fault.code


@given(st.lists(_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20), max_size=6))
def test_whatever_comes_is_events_or_a_failure(chunks):
    assert outcome(chunks) in (*_CODES, "whole")


def test_a_chunk_that_is_dropped_ends_nothing():
    reader = ChunkReader("acme")
    assert read(reader, {"choices": [STOP["choices"][0], 7]}) == []
    assert (reader.malformed, reader.is_complete) == (1, False)
    with pytest.raises(ProviderError, match="broke off"):
        reader.last()
    assert read(reader, STOP) == [Finished(reason="stop")]
    assert reader.is_complete


@pytest.mark.parametrize(
    ("chunk", "name", "kind"),
    [
        ({"error": {"code": "insufficient_quota"}}, b"", "quota"),
        ({"error": "no"}, b"", "transient"),
        ({"code": "content_filter"}, b"error", "content_filter"),
        ({"error": {"message": "please try again in 3s", "code": 429}}, b"", "rate_limited"),
        ({"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}, b"", "transient"),
    ],
)
def test_an_error_in_a_stream_has_its_kind(chunk, name, kind):
    with pytest.raises(ProviderError) as raised:
        read(ChunkReader("acme"), chunk, name)
    assert raised.value.kind == kind
    assert raised.value.retry_after_s == (3.0 if kind == "rate_limited" else None)


def test_a_refusal_in_words_is_text_and_thinking_is_none():
    delta = {"refusal": "I cannot.", "reasoning_content": "Hm."}
    assert read(ChunkReader("acme"), {"choices": [{"index": 0, "delta": delta}]}) == [TextPart(text="I cannot.")]
