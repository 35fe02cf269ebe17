"""Clients that mean harm, or know no better: slow, greedy, lying, silent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.standin import ANSWER, ASK, KEY, StandIn, ask, gateway, send
from workbench.controls.events import Choice, TextPart
from workbench.gateway import connections
from workbench.gateway.connections import MOST_HEAD_BYTES, Connection
from workbench.gateway.json_body import DEEPEST, json_object
from workbench.gateway.problem import Problem

SECRET = "anna.meier@example.com"
BODY = json.dumps(ASK).encode()


@pytest.fixture
def controls() -> StandIn:
    return StandIn()


@pytest.fixture
def url(controls: StandIn) -> Iterator[str]:
    with gateway(controls) as base:
        yield base


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(Connection, "head_wait_s", 0.3)
    monkeypatch.setattr(Connection, "stall_s", 0.3)


@contextmanager
def wire_to(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(urlsplit(url).netloc.split(":"), timeout=20) as wire:
        yield wire


def head(*, length: int | str = len(BODY), extra: str = "", path: str = "/v1/chat/completions", method: str = "POST") -> bytes:
    lines = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n{extra}\r\n"
    return lines.encode("latin-1")


def rest(wire: socket.socket) -> bytes:
    """Everything until the other side closes."""
    received = b""
    try:
        while piece := wire.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def send_until_refused(wire: socket.socket, piece: bytes) -> None:
    try:
        while True:
            wire.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        return


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "support\xff"}',
        b'{"model": "\\ud800"}',
        b'{"model": NaN}',
        b'{"model": Infinity}',
        b'{"model": 1e999}',
        b"\xef\xbb\xbf{}",
        b'{"model": "support", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"model": "support", "tools": ' + b'{"a":' * DEEPEST + b"1" + b"}" * DEEPEST + b"}",
        b'{"model": "support", "messages": [{"role": ["user"], "content": "x"}]}',
        b'{"model": "support", "messages": [{"role": {"a": 1}, "content": "x"}]}',
        b'{"model": {}, "messages": []}',
    ],
)
def test_hostile_json_is_a_plain_no(controls: StandIn, url: str, body: bytes):
    got = ask(url, body)
    assert (got.status, got.error["type"]) == (400, "invalid_request_error")
    assert controls.asked == []


def test_depth_counts_and_not_brackets():
    brackets = {"text": "[{" * 5000, "flat": [[]] * 500}
    assert json_object(json.dumps(brackets).encode()) == brackets

    def nested(levels: int) -> bytes:
        return b'{"a":' * levels + b"1" + b"}" * levels

    json_object(nested(DEEPEST))
    with pytest.raises(Problem, match="nests deeper"):
        json_object(nested(DEEPEST + 1))


def test_of_a_key_that_comes_twice_what_is_checked_is_what_is_passed_on(controls: StandIn, url: str):
    message = b'{"role": "system", "role": "user", "content": "a", "content": "b"}'
    body = b'{"model": "bank", "model": "support", "messages": [], "messages": [' + message + b"]}"
    assert ask(url, body).status == 200
    assert [(asked["app"], asked["messages"]) for asked in controls.asked] == [("support", [{"role": "user", "content": "b"}])]


def test_numbers_beyond_every_machine_are_no_crash(controls: StandIn, url: str):
    controls.serving = "proxied"
    body = {**ASK, "seed": 10**30, "max_tokens": 10**30, "temperature": 10**300}
    assert ask(url, body).status == 400
    assert ask(url, {**ASK, "n": 10**30}).status == 400


@given(
    fields=st.dictionaries(
        st.sampled_from(
            ["messages", "n", "stream", "stream_options", "tools", "tool_choice", "stop", "user", "metadata", "response_format"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda v: (
                st.lists(v, max_size=3)
                | st.dictionaries(st.sampled_from(["role", "content", "type", "function", "name", "text", "id"]), v, max_size=3)
            ),
            max_leaves=8,
        ),
    ),
    serving=st.sampled_from(["hosted", "proxied"]),
)
def test_any_fields_are_a_request_or_a_problem(fields: dict[str, Any], serving: str):
    from workbench.gateway.chat import read_chat

    try:
        body = json.dumps({**ASK, **fields}, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # half of a pair is no text in UTF-8
    try:
        read_chat(body, {}, serving_of=lambda _app: serving)
    except Problem as problem:
        refused = problem
        assert refused.status == 400


HOSTILE = ["a\r\nset-cookie: x", "a\nb", "a\0b", "ä", "\u2028", "a\x7f", ""]


@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_that_comes_from_a_model_or_a_caller_becomes_another_header(controls: StandIn, url: str, value: str):
    controls.answer = lambda _asked: replace(
        ANSWER, bundle_id=value, release_id=value, handoff_id=value, blocked_rules=(value, "tone"), violation_rules=(value,)
    )
    for asked in ({**ASK, value or "x": 1}, {**ASK, "stream": True, "stream_options": {value or "x": 1}}):
        got = ask(url, asked)
        assert got.status == 200
        assert "set-cookie" not in got.headers
        assert value == "" or not any(value in text for name, text in got.headers.items() if name != "date")
    assert ask(url).headers["x-workbench-guards"].split(", ")[-1 if value else 0].endswith("tone" if value else "")


def test_a_message_of_any_text_and_a_choice_of_any_text_pass(controls: StandIn, url: str):
    text = "data: [DONE]\n\n\r\n\0\u2028\U0001f600"
    controls.answer = lambda _asked: replace(ANSWER, choices=(Choice(content=text, finish_reason="stop"),))
    assert ask(url, {**ASK, "messages": [{"role": "user", "content": text}]}).json["choices"][0]["message"]["content"] == text
    body = ask(url, {**ASK, "stream": True}).body
    assert body.count(b"\n\n") == body.count(b"data: {") + 1


@pytest.mark.parametrize(
    "request_head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"NONSENSE / HTTP/1.1\r\nhost: x\r\n\r\n",
        head(length=-1),
        head(length="7, 8"),
        head(length="0x10"),
        head(extra="content-length: 5\r\n"),
        head(extra="transfer-encoding: chunked\r\n"),
        head(extra="bad header: x\r\n"),
        head(extra=" folded\r\n"),
        head(path="/\xff"),
    ],
)
def test_what_is_no_http_is_refused_and_the_connection_ends(controls: StandIn, url: str, request_head: bytes):
    with wire_to(url) as wire:
        wire.sendall(request_head)
        assert rest(wire).startswith(b"HTTP/1.1 400 ")
    assert controls.asked == []
    assert ask(url).status == 200


def test_a_body_longer_than_announced_is_no_second_request(controls: StandIn, url: str):
    with wire_to(url) as wire:
        wire.sendall(head() + BODY + b"and more\r\n\r\n")
        answers = rest(wire)
    assert answers.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
    assert len(controls.asked) <= 1


def test_pipelined_requests_are_answered_in_order(controls: StandIn, url: str):
    controls.answer = lambda asked: replace(ANSWER, choices=(Choice(content=asked["unit"], finish_reason="stop"),))
    with wire_to(url) as wire:
        wire.sendall(
            b"".join(head(extra=f"x-workbench-unit: u-{i}\r\n") + BODY for i in range(20)) + head(extra="connection: close\r\n") + BODY
        )
        answers = rest(wire)
    assert [answers.count(f'"content":"u-{i}"'.encode()) for i in range(20)] == [1] * 20
    assert sorted(answers.index(f'"u-{i}"'.encode()) for i in range(20)) == [answers.index(f'"u-{i}"'.encode()) for i in range(20)]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat", head()[:-2], b"\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(url: str, sent: bytes):
    with wire_to(url) as wire:
        wire.sendall(sent)
        assert rest(wire).startswith(b"HTTP/1.1 408 ")
    assert ask(url).status == 200


@pytest.mark.usefixtures("impatient")
def test_a_second_head_that_does_not_come_is_not_waited_for_either(controls: StandIn, url: str):
    with wire_to(url) as wire:
        wire.sendall(head() + BODY)
        assert wire.recv(65536).startswith(b"HTTP/1.1 200 ")
        wire.sendall(b"GET /healthz HT")
        assert b"HTTP/1.1 408 " in rest(wire)
    assert len(controls.asked) == 1


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_takes_its_time_is_no_late_head(controls: StandIn, url: str):
    async def slowly() -> AsyncIterator[TextPart]:
        await asyncio.sleep(0.8)
        yield TextPart(text="x")

    controls.events = slowly
    assert ask(url, {**ASK, "stream": True}).body.endswith(b"\n\n")


def test_a_head_without_end_is_cut_off(url: str):
    with wire_to(url) as wire:
        try:
            wire.sendall(b"GET /healthz HTTP/1.1\r\n")
            for number in range(40):
                wire.sendall(f"x-{number}: ".encode() + b"x" * (MOST_HEAD_BYTES // 4) + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = rest(wire)
    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""
    assert ask(url).status == 200


def test_a_body_of_100_mb_is_refused_at_its_head_and_never_kept(controls: StandIn, url: str):
    with wire_to(url) as wire:
        wire.sendall(head(length=100 << 20))
        assert wire.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert controls.asked == []


@pytest.mark.usefixtures("impatient")
def test_the_rest_of_a_refused_body_is_read_away_for_a_while_and_no_longer(controls: StandIn, url: str):
    with wire_to(url) as wire:
        wire.sendall(head(length=100 << 20))
        assert wire.recv(1000).startswith(b"HTTP/1.1 413 ")
        send_until_refused(wire, b"x" * 1000)


def test_trailers_without_end_are_cut_off(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setattr(connections, "MOST_REQUEST_BYTES", 200_000)
    with wire_to(url) as wire:
        start = head().replace(f"content-length: {len(BODY)}".encode(), b"transfer-encoding: chunked")
        wire.sendall(start + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n")
        send_until_refused(wire, b"x-trailer: " + b"x" * 1000 + b"\r\n")
    assert ask(url).status == 200


@pytest.mark.usefixtures("impatient")
def test_a_client_that_stops_reading_ends_its_stream(controls: StandIn, url: str):
    async def endless() -> AsyncIterator[TextPart]:
        while True:
            yield TextPart(text="x" * 10_000)
            await asyncio.sleep(0)

    controls.events = endless
    body = json.dumps({**ASK, "stream": True}).encode()
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = urlsplit(url).netloc.split(":")
        wire.settimeout(20)
        wire.connect((host, int(port)))
        wire.sendall(head(length=len(body)) + body)
        while not controls.left:
            pass
    assert controls.left == ["CancelledError"]


def test_more_connections_than_are_kept_are_sent_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workbench.gateway.server.most_connections", lambda: 3)
    with gateway(StandIn()) as url, wire_to(url) as first, wire_to(url) as second, wire_to(url) as third:
        for wire in (first, second, third):
            wire.sendall(head(method="GET", path="/healthz", length=0))
            assert wire.recv(1000).startswith(b"HTTP/1.1 200 ")
        with wire_to(url) as fourth:
            assert rest(fourth).startswith(b"HTTP/1.1 503 ")
        third.close()
        while not (got := once(url)).startswith(b"HTTP/1.1 200 "):
            assert got.startswith(b"HTTP/1.1 503 ") or got == b""


def once(url: str) -> bytes:
    with wire_to(url) as wire:
        try:
            wire.sendall(head(method="GET", path="/healthz", length=0, extra="connection: close\r\n"))
        except (BrokenPipeError, ConnectionResetError):
            return b""
        return rest(wire)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_no_other_method_asks_anything(controls: StandIn, url: str, method: str):
    for path in ("/v1/chat/completions", "/v1/embeddings", "/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/support"):
        got = send(url, method, path, headers={"authorization": f"Bearer {KEY}"})
        assert (got.status, got.headers["allow"]) == (405, "POST")
    assert send(url, method, "/v1/models", headers={"authorization": f"Bearer {KEY}"}).status == (200 if method == "HEAD" else 405)
    assert controls.asked == []


def test_head_has_the_headers_of_get_and_no_body(url: str):
    headers = {"authorization": f"Bearer {KEY}"}
    asked, whole = (send(url, method, "/v1/models", headers=headers) for method in ("HEAD", "GET"))
    assert (asked.body, asked.headers["content-length"]) == (b"", str(len(whole.body)))
