"""Streams over real HTTP: what leaves, when, and how they end."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.standin import ANSWER, ASK, KEY, NOW, StandIn, Streamed, ask, backing_of, gateway
from workbench.controls.events import Choice, Completion, Finished, TextPart, ToolCall, ToolPart, assembled, events_of
from workbench.controls.model import StreamBroken
from workbench.errors import RequestRefused
from workbench.gateway import access, streaming
from workbench.gateway.asgi import Gateway
from workbench.gateway.sse import Chunks
from workbench.gateway.streaming import Outbox

STREAM = {**ASK, "stream": True}
SECRET = "anna.meier@example.com"


@pytest.fixture
def controls() -> StandIn:
    return StandIn()


@pytest.fixture
def url(controls: StandIn) -> Iterator[str]:
    with gateway(controls) as base:
        yield base


def told(body: bytes) -> list[Any]:
    """What the events of a stream say, `[DONE]` among them."""
    assert body.endswith(b"\n\n")
    events = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [event if event == "data: [DONE]" else json.loads(event.removeprefix("data: ")) for event in events]


def test_a_stream_says_role_words_reason_and_done(url: str):
    got = ask(url, STREAM, x_workbench_unit="u-1")
    *chunks, done = told(got.body)
    assert done == "data: [DONE]"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        *({"content": f"{word} "} for word in ["Your", "parcel", "is", "on", "its", "way."]),
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 7 + ["stop"]
    assert {name: value for name, value in chunks[0].items() if name != "choices"} == {
        "id": got.headers["x-request-id"],
        "object": "chat.completion.chunk",
        "created": int(NOW.timestamp()),
        "model": "local-1",
        "system_fingerprint": "support@0123456789ab",
    }
    assert (got.headers["content-type"], got.headers["cache-control"]) == ("text/event-stream; charset=utf-8", "no-cache")
    assert (got.headers["x-workbench-arm"], got.headers["x-workbench-attempts"]) == ("stable", "2")


def test_usage_is_told_at_the_end_where_it_was_asked_for_and_counted(controls: StandIn, url: str):
    asked = {**STREAM, "stream_options": {"include_usage": True}}
    *chunks, last, done = told(ask(url, asked).body)
    assert (last["choices"], last["usage"]) == ([], {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19})
    assert {chunk["usage"] for chunk in chunks} == {None}
    controls.answer = lambda _asked: replace(ANSWER, input_tokens=None)
    *_, last, done = told(ask(url, asked).body)
    assert (last["usage"], done) == (None, "data: [DONE]")
    assert last["choices"][0]["finish_reason"] == "stop"


texts = st.text('ab {"\\\n\0ö\u2028\U0001f600', max_size=20)
calls = st.builds(ToolCall, call_id=texts, name=st.text("abc_", min_size=1, max_size=8), arguments=texts)
choices = st.builds(
    Choice, content=texts, tool_calls=st.lists(calls, max_size=2).map(tuple), finish_reason=st.sampled_from(["stop", "length"])
)


@given(said=st.lists(choices, min_size=1, max_size=3), seed=st.randoms(use_true_random=False))
def test_whatever_is_said_in_whatever_order_a_client_puts_together_the_same(said: list[Choice], seed: Any):
    parts: list[list[Any]] = []
    for event in events_of(Completion(choices=tuple(said))):
        if isinstance(event, ToolPart):
            half = len(event.arguments) // 2
            rest = ToolPart(index=event.index, choice=event.choice, arguments=event.arguments[half:])
            parts.append([event.choice, replace(event, arguments=event.arguments[:half])])
            parts.append([event.choice, rest])
        else:
            parts.append([event.choice, event])
    queues = [[event for number, event in parts if number == choice] for choice in range(len(said))]
    chunks = Chunks(Streamed(ANSWER, lambda: None).head, app="support", at=NOW, has_usage=False)
    body = b""
    while any(queues):
        body += chunks.of(seed.choice([queue for queue in queues if queue]).pop(0))
        assert chunks.is_whole or any(queues)
    assert chunks.is_whole
    *read, _done = told(body + chunks.end(ANSWER))
    assert assembled(event for chunk in read for event in events_in(chunk)).choices == tuple(
        replace(choice, content=choice.content if choice.content or not choice.tool_calls else None) for choice in said
    )


def events_in(chunk: dict[str, Any]) -> Iterator[TextPart | ToolPart | Finished]:
    [choice] = chunk["choices"]
    delta, number = choice["delta"], choice["index"]
    if "content" in delta:
        yield TextPart(text=delta["content"], choice=number)
    for call in delta.get("tool_calls", ()):
        yield ToolPart(
            index=call["index"],
            call_id=call.get("id"),
            name=call["function"].get("name"),
            arguments=call["function"]["arguments"],
            choice=number,
        )
    if choice["finish_reason"]:
        yield Finished(reason=choice["finish_reason"], choice=number)


class Told(StandIn):
    """Controls whose stream says what a test tells it, when it tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: asyncio.Queue[Any] = asyncio.Queue()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.began, self.was_left = threading.Event(), threading.Event()
        self.events = self._said

    async def _said(self) -> AsyncIterator[TextPart | ToolPart | Finished]:
        self.loop = asyncio.get_running_loop()
        self.began.set()
        try:
            while (step := await self.steps.get()) is not None:
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.was_left.set()

    def say(self, step: Any) -> None:
        assert self.began.wait(20)
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.steps.put_nowait, step)


@pytest.fixture
def open_stream() -> Iterator[Any]:
    """Opens a stream and reads as far as it is asked to."""
    connections = []

    def opened(url: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connections.append(connection)
        connection.request("POST", "/v1/chat/completions", body=json.dumps(STREAM), headers={"authorization": f"Bearer {KEY}"})
        return connection.getresponse()

    yield opened
    for connection in connections:
        connection.close()


def line(response: http.client.HTTPResponse) -> str:
    """The next event, without the empty line after it."""
    text = response.readline().decode().strip()
    assert response.readline() == b"\n" or not text
    return text


def test_each_piece_leaves_when_it_comes(open_stream: Any):
    controls = Told()
    with gateway(controls) as url:
        response = open_stream(url)
        for word in ("one", "two", "three"):
            controls.say(TextPart(text=word))
            if word == "one":
                assert '"role":"assistant"' in line(response)
            assert f'"content":"{word}"' in line(response)
        controls.say(Finished(reason="stop"))
        assert '"finish_reason":"stop"' in line(response)
        controls.say(None)
        assert line(response) == "data: [DONE]"
        assert response.read() == b""


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (StreamBroken("upstream_cut_off", "The model stopped in the middle."), "upstream_cut_off"),
        (RequestRefused("audit", code="audit_unavailable", http_status=503, seen="full"), "audit_unavailable"),
        (RuntimeError(SECRET), "internal"),
        (None, "truncated"),
    ],
)
def test_what_is_not_whole_ends_with_one_error_and_never_as_done(
    ends: Exception | None, code: str, open_stream: Any, caplog: pytest.LogCaptureFixture
):
    controls = Told()
    with caplog.at_level(logging.INFO, logger=access.LOGGER.name), gateway(controls) as url:
        response = open_stream(url)
        assert response.status == 200
        controls.say(TextPart(text="Your parcel"))
        controls.say(ends)
        *_, last = told(response.read())
    assert last["error"]["code"] == code
    assert list(last) == ["error"]
    assert SECRET not in json.dumps(last) + caplog.text
    lines = [json.loads(record.message) for record in caplog.records if record.name == access.LOGGER.name]
    assert [(line["status"], line["code"]) for line in lines if "status" in line] == [(200, code)]


def test_one_choice_of_two_that_is_cut_off_is_no_whole_answer(open_stream: Any):
    controls = Told()
    with gateway(controls) as url:
        response = open_stream(url)
        for event in (TextPart(text="a"), TextPart(text="b", choice=1), Finished(reason="stop"), None):
            controls.say(event)
        assert told(response.read())[-1]["error"]["code"] == "truncated"


def test_nothing_leaves_before_the_stream_is_entered(controls: StandIn, url: str):
    def refuse(_asked: object) -> Any:
        raise RequestRefused("app support", code="overloaded", http_status=429, seen="a reason", retry_after_s=2.0)

    controls.answer = refuse
    got = ask(url, STREAM)
    assert (got.status, got.error["code"], got.headers["retry-after"]) == (429, "overloaded", "2")
    assert got.headers["content-type"] == "application/json"


def test_a_client_that_leaves_a_stream_ends_it(caplog: pytest.LogCaptureFixture):
    controls = Told()
    with caplog.at_level(logging.INFO, logger=access.LOGGER.name), gateway(controls) as url:
        body = json.dumps(STREAM)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection(urlsplit(url).netloc.split(":"), timeout=20) as wire:
            wire.sendall((head + body).encode())
            controls.say(TextPart(text="one"))
            assert wire.recv(100).startswith(b"HTTP/1.1 200 ")
        assert controls.was_left.wait(20)
    assert controls.left == ["CancelledError"]
    lines = [json.loads(record.message) for record in caplog.records if record.name == access.LOGGER.name]
    assert [(line["status"], line["code"]) for line in lines] == [(200, "client_left")]


def test_streams_that_run_when_the_gateway_stops_end_with_an_error(open_stream: Any):
    controls = Told()
    with gateway(controls, drain_s=0) as url:
        response = open_stream(url)
        controls.say(TextPart(text="one"))
        assert response.status == 200
    assert told(response.read())[-1]["error"]["code"] == "stopping"
    assert controls.left == ["CancelledError"]


def test_streams_that_run_when_the_gateway_stops_may_finish(open_stream: Any):
    controls = Told()
    with gateway(controls, drain_s=20) as url:
        response = open_stream(url)
        for event in (TextPart(text="one"), Finished(reason="stop"), None):
            controls.say(event)
    assert told(response.read())[-1] == "data: [DONE]"


def test_what_comes_in_one_turn_leaves_at_once_and_nothing_is_kept_back():
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def run() -> None:
        outbox = Outbox(send)
        for word in (b"a", b"b", b"c"):
            outbox.put(word)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outbox.put(b"d")
        await outbox.end(b"e")

    asyncio.run(run())
    assert [(message["body"], message["more_body"]) for message in sent] == [(b"abc", True), (b"de", False)]


def test_a_model_that_writes_faster_than_its_client_reads_waits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streaming, "MOST_WAITING_BYTES", 10_000)
    said = 0
    reads: asyncio.Event

    async def endless() -> AsyncIterator[TextPart | Finished]:
        nonlocal said
        for _ in range(1000):
            said += 1
            yield TextPart(text="x" * 1000)
        yield Finished(reason="stop")

    async def run() -> list[bytes]:
        nonlocal reads
        reads, body, sent = asyncio.Event(), json.dumps(STREAM).encode(), []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                await reads.wait()
                sent.append(message["body"])

        headers = [(b"authorization", f"Bearer {KEY}".encode())]
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        task = asyncio.create_task(Gateway(backing_of(StandIn(events=endless)))(scope, receive, send))
        for _ in range(200):
            await asyncio.sleep(0)
        assert said < 50
        reads.set()
        await task
        return sent

    assert told(b"".join(asyncio.run(run())))[-1] == "data: [DONE]"
    assert said == 1000
