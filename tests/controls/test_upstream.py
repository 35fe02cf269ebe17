"""A provider over HTTP, on real connections: whatever it does is a typed failure, and the key stays between the two."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import orjson
import pytest
import uvloop
from aiohttp import web

from tests.controls.tiny import ASK, Tape, put_route, register, said, serving
from workbench.controls.addresses import Address, address_of, variable
from workbench.controls.providers import ProviderError, Providers
from workbench.controls.upstream import Upstream
from workbench.demo.clock import VirtualClock
from workbench.demo.provider import LocalProvider
from workbench.demo.traffic import run_to_end
from workbench.demo.upstream import local_upstream, running
from workbench.errors import UsageError
from workbench.workspace import Workspace

KEY = "sk-test-0123456789abcdefghijklmnop"
REQUEST = {"model": "small", "messages": ASK, "user": "u1"}


@contextmanager
def answering(reply) -> Iterator[str]:
    """The base URL of a server that answers completions by a coroutine function of the request."""
    application = web.Application()
    application.router.add_post("/v1/chat/completions", reply)
    with running(application) as url:
        yield url


def complete(url, *, key=KEY, request=REQUEST, attempt=1, **limits):
    upstream = Upstream(Address(name="acme", url=url, key=key), **limits)
    return asyncio.run(upstream.complete(request, attempt=attempt))


def fault(url, **about) -> ProviderError:
    """How it failed; what was said of it holds neither the key nor a word of a body."""
    with pytest.raises(ProviderError) as raised:
        complete(url, **about)
    told = f"{raised.value} {raised.value.code} {''.join(traceback.format_exception(raised.value))}"
    assert KEY not in told
    assert "a word of the body" not in told
    return raised.value


def test_a_good_answer_comes_back_and_the_request_goes_out_whole():
    seen = {}

    async def reply(request):
        seen.update(body=await request.json(), headers=dict(request.headers))
        return web.json_response(said())

    with answering(reply) as url:
        assert complete(url, attempt=3) == said()
    assert seen["body"] == REQUEST
    assert seen["headers"]["Authorization"] == f"Bearer {KEY}"
    assert seen["headers"]["x-stainless-retry-count"] == "2"


def test_without_a_key_none_is_sent():
    async def reply(request):
        return web.json_response(said(model=str("Authorization" in request.headers)))

    with answering(reply) as url:
        assert complete(url, key=None)["model"] == "False"


@pytest.mark.parametrize(
    ("status", "may_pass"),
    [
        *((status, True) for status in (408, 409, 429, 500, 502, 503, 504, 529)),
        *((status, False) for status in (204, 301, 302, 307, 400, 401, 403, 404, 418)),
    ],
)
def test_a_wrong_status_is_named_and_only_those_that_pass_may_be_tried_again(status, may_pass):
    async def reply(_request):
        return web.Response(
            status=status,
            headers={"Location": "http://127.0.0.1:1/", "Retry-After": "7"},
            text="a word of the body" if status != 204 else None,
        )

    with answering(reply) as url:
        raised = fault(url)
    assert (raised.code, raised.may_pass, raised.retry_after_s) == (f"upstream_{status}", may_pass, 7.0)


def test_a_redirect_does_not_carry_the_key_elsewhere():
    reached = []

    async def elsewhere(request):
        reached.append(request.headers.get("Authorization"))
        return web.json_response(said())

    with answering(elsewhere) as other:

        async def reply(_request):
            raise web.HTTPTemporaryRedirect(f"{other}/chat/completions")

        with answering(reply) as url:
            assert fault(url).code == "upstream_307"
    assert reached == []


@pytest.mark.parametrize("body", [b"", b"a word of the body", b"[]", b"7", b'{"a":', b"\xff\xfe", b'"\\ud800"', b"NaN"])
def test_garbage_is_garbage(body):
    async def reply(_request):
        return web.Response(body=body)

    with answering(reply) as url:
        assert fault(url).code == "upstream_garbage"


def test_a_response_beyond_the_limit_is_not_read_to_its_end():
    sent = []

    async def reply(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(b"x" * 65536)
            sent.append(65536)
        return response

    with answering(reply) as url:
        raised = fault(url, largest=100_000)
    assert (raised.code, raised.may_pass) == ("upstream_oversized", False)


def test_a_small_response_that_unpacks_to_a_large_one_is_oversized():
    async def reply(_request):
        return web.Response(body=zlib.compress(b" " * (4 << 20)), headers={"Content-Encoding": "deflate"})

    with answering(reply) as url:
        assert fault(url, largest=1 << 20).code == "upstream_oversized"


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_nobody_at_the_address_is_down():
    raised = fault(f"http://127.0.0.1:{closed_port()}/v1")
    assert (raised.code, raised.may_pass) == ("upstream_down", True)


@contextmanager
def speaking(script: bytes | None) -> Iterator[str]:
    """A server that reads a request, says these bytes and hangs up; with None it says nothing and holds the line."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve():
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                line.recv(65536)
                if script is None:
                    ended.wait(20)
                else:
                    line.sendall(script)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.parametrize(
    ("script", "codes"),
    [
        (b"", {"upstream_down"}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it", {"upstream_cut_off"}),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", {"upstream_cut_off"}),
        (b"a word of the body\r\n\r\n", {"upstream_cut_off", "upstream_down"}),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", {"upstream_cut_off"}),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", {"upstream_cut_off", "upstream_down"}),
    ],
)
def test_a_line_that_breaks_is_told_apart(script, codes):
    with speaking(script) as url:
        assert fault(url).code in codes


def test_a_silent_provider_is_not_waited_for_and_not_asked_again():
    with speaking(None) as url:
        raised = fault(url, silence_s=0.05)
    assert (raised.code, raised.may_pass) == ("upstream_silent", False)


def test_cookies_of_one_user_are_not_sent_for_another():
    seen = []

    async def reply(request):
        seen.append(dict(request.cookies))
        response = web.json_response(said())
        response.set_cookie("who", "u1")
        return response

    async def twice(url):
        upstream = Upstream(Address(name="acme", url=url, key=None))
        await upstream.complete(REQUEST)
        await upstream.complete(REQUEST)

    with answering(reply) as url:
        asyncio.run(twice(url))
    assert seen == [{}, {}]


def test_a_request_that_json_does_not_hold_is_the_bundles_mistake():
    raised = fault("http://127.0.0.1:1/v1", request={"model": object()})
    assert (raised.code, raised.may_pass) == ("bad_model_request", False)


def test_connections_are_kept_within_a_loop_and_closed_with_it():
    peers = []

    async def reply(request):
        peers.append(request.transport.get_extra_info("peername"))
        return web.json_response(said())

    async def thrice(upstream):
        for _ in range(3):
            await upstream.complete(REQUEST)

    with answering(reply) as url:
        upstream = Upstream(Address(name="acme", url=url, key=None))
        asyncio.run(thrice(upstream))
        threads = [threading.Thread(target=lambda: asyncio.run(thrice(upstream))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        uvloop.run(thrice(upstream))
    assert len(peers) == 15
    assert len(set(peers)) == 5
    assert len(upstream._sessions) == 1


# Where it is


def environ(**values: str) -> dict[str, str]:
    return {variable("acme", name): value for name, value in values.items()}


def test_a_providers_name_makes_its_variables():
    assert variable("acme", "URL") == "WORKBENCH_PROVIDER_ACME_URL"
    assert variable("my-host.v2", "KEY") == "WORKBENCH_PROVIDER_MY_HOST_V2_KEY"


def test_the_address_is_read_from_the_environment(tmp_path):
    assert address_of("acme", {}) is None
    assert address_of("acme", environ(URL=" https://api.example.com/v1/ ", KEY=KEY)) == Address(
        name="acme", url="https://api.example.com/v1", key=KEY
    )
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert address_of("acme", environ(URL="http://127.0.0.1:1", KEY_FILE=str(tmp_path / "key"))).key == KEY


def test_the_key_is_in_no_representation():
    address = address_of("acme", environ(URL="http://127.0.0.1:1", KEY=KEY))
    assert KEY not in f"{address!r} {Upstream(address)!r}"


@pytest.mark.parametrize(
    ("values", "said_of"),
    [
        ({"URL": "api.example.com"}, "ACME_URL"),
        ({"URL": "ftp://api.example.com/v1"}, "ACME_URL"),
        ({"URL": "https:///v1"}, "ACME_URL"),
        ({"URL": "https://api.example.com/v1?key=1"}, "ACME_URL"),
        ({"URL": f"https://user:{KEY}@api.example.com/v1"}, "ACME_URL"),
        ({"URL": "https://[bad/v1"}, "ACME_URL"),
        ({"URL": "https://api.example.com:99999/v1"}, "ACME_URL"),
        ({"URL": "https://a/v1", "KEY": f"{KEY} {KEY}"}, "ACME_KEY"),
        ({"URL": "https://a/v1", "KEY": f"{KEY}\r\nX-Evil: 1"}, "ACME_KEY"),
        ({"URL": "https://a/v1", "KEY": KEY, "KEY_FILE": "/x"}, "ACME_KEY"),
        ({"URL": "https://a/v1", "KEY_FILE": "/no/such/file"}, "ACME_KEY_FILE"),
    ],
)
def test_a_wrong_address_names_its_variable_and_quotes_no_key(values, said_of):
    with pytest.raises(UsageError, match=said_of) as refused:
        address_of("acme", environ(**values))
    assert KEY not in "".join(traceback.format_exception(refused.value))


def test_an_address_in_the_environment_wins_over_what_is_installed():
    found = Providers(environ(URL="http://127.0.0.1:1/v1"), installed=lambda _: LocalProvider).named("acme")
    assert isinstance(found(VirtualClock()), Upstream)
    assert Providers({}, installed=lambda _: LocalProvider).named("acme") is LocalProvider


def test_the_demos_provider_is_installed():
    assert Providers({}).named("local") is LocalProvider


# Through the whole controls


class Released(NamedTuple):
    """A workspace whose bundle asks a provider at an address."""

    ws: Workspace
    providers: Providers


@pytest.fixture
def released_on(ws):

    def make(url):
        put_route(ws, stable=register(ws, "v1", model={"provider": "acme", "name": "small", "version": "1"}).bundle_id)
        return Released(ws, Providers(environ(URL=url, KEY=KEY)))

    return make


def response(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Status\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@pytest.mark.parametrize(
    ("script", "code", "attempts"),
    [
        (response(200, b"{x}"), "upstream_garbage", 2),
        (response(200, b"{}"), "provider_garbage", 2),
        (response(500), "upstream_500", 2),
        (response(401), "upstream_401", 1),
    ],
)
def test_a_broken_provider_ends_in_the_fallback_and_the_record_says_why(released_on, caplog, script, code, attempts):
    tape = Tape()
    with speaking(script) as url, caplog.at_level(logging.DEBUG):
        released = released_on(url)
        with serving(released.ws, None, log=tape, providers=released.providers) as controls:
            answer = controls.handle_blocking("support", ASK, unit="u1")
    assert (answer.status, answer.is_fallback, answer.content) == ("error", True, "Please try again later.")
    assert (tape.last()["error_type"], tape.last()["attempts"]) == (code, attempts)
    assert KEY not in caplog.text + json.dumps(tape.batches, default=str)


def test_a_slow_provider_ends_in_the_fallback_at_the_deadline(released_on):
    tape = Tape()
    with speaking(None) as url, serving((released := released_on(url)).ws, None, log=tape, providers=released.providers) as controls:
        answer = controls.handle_blocking("support", ASK, deadline_s=0.3)
    assert (answer.status, answer.is_fallback) == ("timeout", True)
    assert [span["status"] for span in tape.rows("spans") if span["kind"] == "model"] == ["timeout"]


# The demo's own server


def test_the_demos_model_says_over_http_what_it_says_in_the_process():
    request = {
        "model": "shop-assistant-small",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "system", "content": "Passages:"},
            {"role": "user", "content": "hello"},
        ],
        "user": "customer-000007",
        "seed": 7,
    }
    here = run_to_end(LocalProvider(VirtualClock()).complete(request, attempt=2))
    with running(local_upstream(key=KEY, turn_clock=VirtualClock)) as url:
        assert complete(url, request=request, attempt=2) == orjson.loads(orjson.dumps(here))
        assert fault(url, key="sk-another").code == "upstream_401"
        assert fault(url, request={}).code == "upstream_400"
        assert fault(url, request={"messages": "a word of the body"}).code == "upstream_400"


def test_the_demos_model_is_overloaded_over_http_as_it_is_in_the_process():
    request = {"messages": [{"role": "system", "content": ""}, {"role": "system", "content": ""}, {"role": "user", "content": "hello"}]}

    def is_overloaded(user):
        try:
            run_to_end(LocalProvider(VirtualClock()).complete({"model": "m", **request, "user": user}))
        except ProviderError:
            return True
        return False

    unlucky = next(f"u{number}" for number in range(2000) if is_overloaded(f"u{number}"))
    with running(local_upstream(turn_clock=VirtualClock)) as url:
        raised = fault(url, request={"model": "m", **request, "user": unlucky})
    assert (raised.code, raised.may_pass) == ("upstream_503", True)
