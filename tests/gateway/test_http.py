"""The gateway over real HTTP, on stand-in controls: keys, paths, limits, disconnects."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.gateway.standin import ANSWER, ASK, KEY, NOW, StandIn, ask, backing_of, gateway, send
from workbench.controls.events import Choice
from workbench.controls.model import Answer, Asked
from workbench.errors import RequestRefused, StoreError
from workbench.gateway import access
from workbench.gateway.asgi import MOST_BODY_BYTES, Gateway


@pytest.fixture
def controls() -> StandIn:
    return StandIn()


@pytest.fixture
def url(controls: StandIn) -> Iterator[str]:
    with gateway(controls) as base:
        yield base


def test_a_chat_request_reaches_the_controls_as_it_was_meant(controls: StandIn, url: str):
    asked = {**ASK, "user": "u-1", "metadata": {"workflow": "orders"}, "temperature": 0.5}
    got = ask(url, asked, x_deadline_ms="2500", x_workbench_session="s-1")
    assert controls.asked == [
        {
            "app": "support",
            "messages": ASK["messages"],
            "unit": "u-1",
            "session": "s-1",
            "workflow": "orders",
            "metadata": {"workflow": "orders"},
            "deadline_s": 2.5,
            "request_id": got.headers["x-request-id"],
            "source": "gateway",
            "priority": "interactive",
            "callback": None,
            "retries": 0,
            "asked": Asked(),
        }
    ]
    assert got.status == 200
    assert got.json["id"] == got.headers["x-request-id"]
    assert got.json["choices"][0]["message"]["content"] == "Your parcel is on its way."
    assert got.headers["content-type"] == "application/json"
    assert {name: got.headers[name] for name in got.headers if name.startswith("x-workbench")} == {
        "x-workbench-bundle": "support@0123456789ab",
        "x-workbench-arm": "stable",
        "x-workbench-release": "rel-1",
        "x-workbench-attempts": "2",
        "x-workbench-fallback": "false",
        "x-workbench-ignored": "temperature",
    }


def test_every_request_has_an_id_of_its_own_whatever_the_caller_sends(url: str):
    ids = {ask(url, x_request_id="mine").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
    assert "mine" not in ids


def test_a_key_never_becomes_the_unit(controls: StandIn, url: str):
    ask(url)
    assert controls.asked[0]["unit"] is None
    assert KEY not in repr(controls.asked)


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Bearer   ", "missing_api_key"),
        ("Basic dXNlcjpwYXNz", "missing_api_key"),
        (KEY, "missing_api_key"),
        (f"Bearer {KEY}0", "invalid_api_key"),
        (f"Bearer wb_{'0c' * 6}_{'1b' * 32}", "invalid_api_key"),
        ("Bearer sk-something-else", "invalid_api_key"),
        ("Bearer \xff\xfe", "invalid_api_key"),
    ],
)
def test_without_a_good_key_nothing_is_asked(controls: StandIn, url: str, authorization: str | None, code: str):
    headers = {} if authorization is None else {"authorization": authorization}
    got = send(url, "POST", "/v1/chat/completions", body=json.dumps(ASK).encode(), headers=headers)
    assert (got.status, got.error["code"], got.headers["www-authenticate"]) == (401, code, "Bearer")
    assert controls.asked == []
    assert "1b1b" not in got.body.decode()


def test_the_scheme_is_read_in_any_case(url: str):
    assert send(url, "GET", "/v1/models", headers={"authorization": f"bearer {KEY}"}).status == 200


def test_a_key_of_another_app_is_forbidden_and_an_unknown_app_not_found(controls: StandIn, url: str):
    other = ask(url, {**ASK, "model": "bank"})
    assert (other.status, other.error["code"], other.error["param"]) == (403, "other_app", "model")
    for name in ("shop", "", "anna@example.com", "SUPPORT"):
        unknown = ask(url, {**ASK, "model": name})
        assert (unknown.status, unknown.error["code"]) == (404, "unknown_app")
        assert "anna" not in unknown.body.decode()
    assert controls.asked == []


def test_the_models_are_the_app_of_the_key(url: str):
    headers = {"authorization": f"Bearer {KEY}"}
    listed = send(url, "GET", "/v1/models", headers=headers)
    one = {"id": "support", "object": "model", "created": int(NOW.timestamp()), "owned_by": "workbench"}
    assert listed.json == {"object": "list", "data": [one]}
    assert send(url, "GET", "/v1/models/support", headers=headers).json == one
    assert send(url, "GET", "/v1/models/bank", headers=headers).status == 403
    assert send(url, "GET", "/v1/models/shop", headers=headers).status == 404
    assert send(url, "GET", "/v1/models").status == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/completions", 501),
        ("POST", "/v1/responses", 501),
        ("GET", "/v1/files", 501),
        ("POST", "/v1/audio/speech", 501),
        ("GET", "/v1/chat/completions/chatcmpl-1", 501),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models/support", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/healthz", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/anna@example.com", 404),
        ("POST", "/v1/chat/completions/", 501),
        ("GET", "/v2/models", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/%2e%2e/etc/passwd", 404),
    ],
)
def test_every_other_path_is_a_clear_no(url: str, method: str, path: str, status: int):
    got = send(url, method, path)
    assert got.status == status
    assert set(got.error) == {"message", "type", "param", "code"}
    assert got.headers["x-should-retry"] == "false"
    assert "anna" not in got.body.decode()
    if status == 405:
        assert "allow" in got.headers


def test_an_error_keeps_the_connection_in_order(url: str):
    """After each refusal the next request on the same connection is answered: nothing of a body is read as a request."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    good = {"authorization": f"Bearer {KEY}"}
    for headers, body, status in (
        ({}, json.dumps(ASK), 401),
        (good, json.dumps(ASK), 200),
        (good, "{", 400),
        (good, "GET /healthz HTTP/1.1\r\n\r\n", 400),
        (good, "x" * (MOST_BODY_BYTES + 1), 413),
        (good, json.dumps(ASK), 200),
    ):
        connection.request("POST", "/v1/chat/completions", body=body, headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_refused(controls: StandIn, url: str):
    rest = len(json.dumps({**ASK, "pad": ""}).encode())
    assert ask(url, {**ASK, "pad": "x" * (MOST_BODY_BYTES - rest)}).status == 200
    got = ask(url, {**ASK, "pad": "x" * (MOST_BODY_BYTES - rest + 1)})
    assert (got.status, got.error["code"]) == (413, "body_too_long")
    assert len(controls.asked) == 1


def test_a_body_in_chunks_is_read_and_an_endless_one_is_refused(url: str):
    def chunked(n: int) -> http.client.HTTPResponse:
        body = json.dumps({**ASK, "pad": "x" * n}).encode()
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.request(
            "POST",
            "/v1/chat/completions",
            body=(body[at : at + 16_384] for at in range(0, len(body), 16_384)),
            headers={"authorization": f"Bearer {KEY}"},
            encode_chunked=True,
        )
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    assert chunked(10_000).status == 200
    assert chunked(MOST_BODY_BYTES + 100_000).status == 413


def test_a_body_that_was_announced_too_long_is_not_waited_for(url: str):
    with socket.create_connection(urlsplit(url).netloc.split(":"), timeout=20) as wire:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 99999999999\r\n"
        wire.sendall(f"{head}expect: 100-continue\r\n\r\n".encode())
        assert wire.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_arrive_is_not_waited_for_for_ever():
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError("nobody waits so long")

    async def send_back(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
    asyncio.run(Gateway(backing_of(StandIn()), body_wait_s=0.01)(scope, receive, send_back))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["error"]["code"] == "body_timeout"


def test_a_compressed_body_is_refused(url: str):
    got = ask(url, b"\x1f\x8b", content_encoding="gzip")
    assert (got.status, got.error["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    ("refused", "headers"),
    [
        ({"code": "deadline_passed", "http_status": 504}, {"x-should-retry": "false"}),
        ({"code": "overloaded", "http_status": 429, "retry_after_s": 0.4}, {"retry-after": "1"}),
        ({"code": "audit_unavailable", "http_status": 503, "retry_after_s": 5.0}, {"retry-after": "5"}),
        ({"code": "nothing_to_serve", "http_status": 503}, {"x-should-retry": "false"}),
    ],
)
def test_what_the_controls_refuse_is_told(controls: StandIn, url: str, refused: dict[str, Any], headers: dict[str, str]):
    def refuse(_asked: object) -> Answer:
        raise RequestRefused("app support", seen="a reason", **refused)

    controls.answer = refuse
    got = ask(url)
    assert (got.status, got.error["code"]) == (refused["http_status"], refused["code"])
    assert "a reason" in got.error["message"]
    assert headers.items() <= got.headers.items()
    assert ("retry-after" in got.headers) != ("x-should-retry" in got.headers)


SECRET = "anna.meier@example.com"


@pytest.mark.parametrize("fault", [ValueError(SECRET), KeyError(SECRET), StoreError("spool", seen=SECRET), RuntimeError(SECRET)])
def test_what_nobody_foresaw_is_answered_and_logged_without_what_was_sent(fault: Exception, caplog: pytest.LogCaptureFixture):
    def break_down(_asked: object) -> Answer:
        raise fault

    with caplog.at_level(logging.INFO), gateway(StandIn(answer=break_down)) as url:
        got = ask(url)
    assert (got.status, got.error["code"]) == (500, "internal")
    told = [json.loads(record.message) for record in caplog.records if record.name == access.LOGGER.name]
    assert [line["fault"] for line in told if "fault" in line] == [type(fault).__name__]
    assert {line["request_id"] for line in told} == {got.headers["x-request-id"]}
    assert SECRET not in caplog.text + got.body.decode()


def test_the_access_log_names_key_app_bundle_and_outcome_and_nothing_that_was_sent(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger=access.LOGGER.name), gateway(StandIn()) as url:
        got = ask(url, {**ASK, "user": SECRET, "messages": [{"role": "user", "content": SECRET}]}, x_workbench_session=SECRET)
        ask(url, {**ASK, "model": SECRET})
        send(url, "GET", f"/{SECRET}?q={SECRET}")
    lines = [json.loads(record.message) for record in caplog.records if record.name == access.LOGGER.name]
    assert lines[0].pop("duration_ms") > 0
    assert lines[0] == {
        "time": "2026-03-01T09:00:00+00:00",
        "request_id": got.headers["x-request-id"],
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "key": "0a" * 6,
        "app": "support",
        "bundle": "support@0123456789ab",
        "arm": "stable",
        "code": None,
    }
    assert [(line["route"], line["status"], line["code"]) for line in lines[1:]] == [
        ("/v1/chat/completions", 404, "unknown_app"),
        ("other", 404, "unknown_path"),
    ]
    assert SECRET not in caplog.text
    assert KEY not in caplog.text


def test_lines_of_one_turn_are_written_at_once_and_none_is_lost():
    writes: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return len(text)

    logger, lines = logging.getLogger("lines of a turn"), access.Lines(Stream())
    logger.setLevel(logging.INFO)
    logger.addHandler(lines)

    async def turn() -> None:
        logger.info("one")
        logger.info("two")
        await asyncio.sleep(0)
        logger.info("three")

    logger.info("before")
    asyncio.run(turn())
    logger.info("after")
    logger.removeHandler(lines)
    assert writes == ["before\n", "one\ntwo\n", "three\n", "after\n"]


class Slow(StandIn):
    """Controls that take their time, and say when they begin and when they are cancelled."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.working, self.cancelled = threading.Event(), threading.Event()

    async def handle(self, app: str, messages: Any, /, **context: Any) -> Answer:
        self.working.set()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await super().handle(app, messages, **context)


def test_a_client_that_leaves_ends_the_work_at_once(caplog: pytest.LogCaptureFixture):
    slow = Slow(60)

    with caplog.at_level(logging.INFO, logger=access.LOGGER.name), gateway(slow) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.request("POST", "/v1/chat/completions", body=json.dumps(ASK), headers={"authorization": f"Bearer {KEY}"})
        assert slow.working.wait(20)
        connection.close()
        assert slow.cancelled.wait(20)
    lines = [json.loads(record.message) for record in caplog.records if record.name == access.LOGGER.name]
    assert [(line["status"], line["code"]) for line in lines] == [(499, "client_left")]


def test_a_client_that_leaves_amid_its_body_asks_nothing(controls: StandIn, url: str):
    with socket.create_connection(urlsplit(url).netloc.split(":"), timeout=20) as wire:
        wire.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 100\r\n\r\n{{".encode()
        )
    assert ask(url).status == 200
    assert len(controls.asked) == 1


def test_health_needs_no_key_and_readiness_says_why_not(controls: StandIn, url: str):
    assert send(url, "GET", "/healthz").json == {"status": "alive"}
    assert send(url, "HEAD", "/healthz").status == 200
    ready = send(url, "GET", "/readyz")
    assert (ready.status, ready.json) == (200, {"status": "ready", "reasons": []})
    controls.reasons = ("the routes were last read 31 s ago",)
    unready = send(url, "GET", "/readyz")
    assert (unready.status, unready.json) == (503, {"status": "not ready", "reasons": ["the routes were last read 31 s ago"]})
    assert send(url, "GET", "/healthz").status == 200


@pytest.mark.parametrize(("seconds", "drain_s", "status"), [(0.5, 20, 200), (60, 0, 503)])
def test_requests_in_hand_are_answered_when_the_gateway_stops_or_told_that_it_does(seconds: float, drain_s: int, status: int):
    slow, got = Slow(seconds), []
    with gateway(slow, drain_s=drain_s) as url:
        client = threading.Thread(target=lambda: got.append(ask(url)))
        client.start()
        assert slow.working.wait(20)
    client.join()
    assert [answer.status for answer in got] == [status]
    if status == 503:
        assert (got[0].error["code"], got[0].headers["retry-after"]) == ("stopping", "1")
    with pytest.raises(ConnectionRefusedError):
        ask(url)


def test_many_at_once_get_each_their_own_answer(controls: StandIn, url: str):
    controls.answer = lambda asked: replace(ANSWER, choices=(Choice(content=f"for {asked['unit']}", finish_reason="stop"),))
    got: dict[str, str] = {}

    def client(unit: str) -> None:
        got[unit] = ask(url, {**ASK, "user": unit}).json["choices"][0]["message"]["content"]

    clients = [threading.Thread(target=client, args=(f"u-{i}",)) for i in range(40)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert got == {f"u-{i}": f"for u-{i}" for i in range(40)}
