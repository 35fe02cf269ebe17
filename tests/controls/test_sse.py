"""Server-sent events: the same ones however the bytes are cut."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.sse import EventParser, OversizedEvent, ServerEvent


def parsed(*chunks: bytes, largest: int = 1 << 20) -> list[ServerEvent]:
    parser = EventParser(largest=largest)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def by_the_book(text: bytes) -> list[ServerEvent]:
    """The standard's algorithm, written down as slowly as it reads."""
    events, data, name = [], [], b""
    *lines, _ = re.split(rb"\r\n|\r|\n", text.removeprefix(b"\xef\xbb\xbf"))
    for line in lines:
        if not line:
            if data:
                events.append(ServerEvent(b"\n".join(data), name))
            data, name = [], b""
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            data = [*data, value] if field == b"data" else data
            name = value if field == b"event" else name
    return events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b": a comment\n\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf\ndata: a\n\n", [b"a"]),
        (b"\n\ndata: a\n\n", [b"a"]),
        (b"id: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"data: \xe2\x80\xa8 is no line end\n\n", [b"\xe2\x80\xa8 is no line end"]),
        (b"data: a\x0bb\x0cc\x85\n\n", [b"a\x0bb\x0cc\x85"]),
        (b"data: half", []),
        (b"data: a\n", []),
        (b"event: error\n\n", []),
        (b"", []),
    ],
)
def test_events(text, events):
    assert [event.data for event in parsed(text)] == events


def test_an_event_has_a_name():
    assert parsed(b"event: error\ndata: x\n\ndata: y\n\n") == [ServerEvent(b"x", b"error"), ServerEvent(b"y")]


_bytes = st.lists(
    st.sampled_from([b"data", b"event", b":", b" ", b"\r", b"\n", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"x", b"\xe2\x82", b"id: 1"]),
    max_size=40,
).map(b"".join)


@given(_bytes)
def test_it_reads_what_the_standard_says(text):
    assert parsed(text) == by_the_book(text)


@given(_bytes, st.data())
def test_any_cut_gives_the_same_events(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    assert parsed(*chunks) == parsed(text)
    assert parsed(*[text[place : place + 1] for place in range(len(text))]) == parsed(text)


def test_a_line_or_an_event_that_does_not_end_is_not_kept():
    for chunk in (b"data: " + b"x" * 90, b"data: x\n", b"event: x\n", b"junk\n"):
        with pytest.raises(OversizedEvent):
            parsed(*[chunk] * 100, largest=100)


def test_comments_may_keep_a_line_alive_for_hours():
    assert parsed(*[b": still here\n\n", b": still here\n"] * 1000, b"data: a\n\n", largest=100)[0].data == b"a"


def test_what_is_half_said_shows():
    parser = EventParser()
    assert parser.is_between_events
    assert list(parser.feed(b"data: a\n")) == []
    assert not parser.is_between_events
    assert len(list(parser.feed(b"\n"))) == 1
    assert parser.is_between_events


def test_single_bytes_cost_no_more_than_their_number():
    def cpu_s(n):
        parser, begun = EventParser(largest=1 << 22), time.process_time()
        for _ in range(n):
            list(parser.feed(b"x"))
        list(parser.feed(b"\n\n"))
        return time.process_time() - begun

    cpu_s(1000)
    assert cpu_s(200_000) < 40 * cpu_s(20_000) + 0.05
