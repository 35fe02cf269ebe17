"""What the controls cost: the gateway beside a pass-through of the same server and client code, in the same run.

    clients -> pass-through (uvicorn, plain ASGI, aiohttp)                        -> model
    clients -> gateway (the same, with keys, assignment, audit, redaction, flush) -> model

Bodies are of 1 KB; a stream gives the same in 41 events, which the model sends without a pause. All are measured in turn, several times,
and the best round of each counts: the machine does other things, too. LiteLLM's proxy is measured beside them where `BENCH_LITELLM` names
its executable, `litellm`, in an environment of its own.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import linear_regression, median
from urllib.parse import urlsplit

import aiohttp
import uvicorn
import uvloop

from tests.benchmarks import Figure, Report
from tests.gateway.place import APP, Model, opened_place, processes, wait_until

ROUNDS = 4
WINDOW_S = 3.0
AT_ONE_CLIENT = 1500
CLIENTS = 32
MEMORY_REQUESTS, MEMORY_STEP = 100_000, 10_000
EVENTS = 41
LITELLM = "BENCH_LITELLM"
LITELLM_START_S = 120
WORDS = "My order has not arrived yet, it should have been here on Tuesday. Where is it, and can I still change the address? "
ANSWER = "Your parcel left our warehouse yesterday and will arrive within two days. The address can be changed until it is loaded. "

Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Server:
    """A process that is measured."""

    url: str
    pid: int
    key: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a server did in a window."""

    per_s: float
    cpu_us: float
    """Computing time per request."""


def completion() -> bytes:
    """A model's answer of 1 KB."""
    message = {"role": "assistant", "content": (ANSWER * 9)[:1000]}
    usage = {"prompt_tokens": 240, "completion_tokens": 230, "total_tokens": 470}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "model": "house-1", "choices": [choice], "usage": usage}).encode()


def events() -> list[bytes]:
    """The same answer as server-sent events."""
    text = (ANSWER * 9)[:1000]
    step = math.ceil(len(text) / (EVENTS - 1))
    deltas = [({"content": text[at : at + step]}, None) for at in range(0, len(text), step)]
    fixed = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "house-1"}
    choices = [{"index": 0, "delta": delta, "finish_reason": reason} for delta, reason in (*deltas, ({}, "stop"))]
    chunks = [json.dumps({**fixed, "choices": [choice]}).encode() for choice in choices]
    return [b"data: " + chunk + b"\n\n" for chunk in (*chunks, b"[DONE]")]


async def body_of(receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body


async def send_json(send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_pieces(send, pieces: AsyncIterable[bytes]) -> None:
    """The pieces as server-sent events, each as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def serve_model() -> None:
    """Answer every request at once."""
    body, pieces = completion(), events()

    async def streamed() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def app(_scope, receive, send) -> None:
        asked = json.loads(await body_of(receive))
        await (send_pieces(send, streamed()) if asked.get("stream") else send_json(send, body))

    serve(app)


def serve_pass_through(url: str) -> None:
    """Hand every request on, and its answer back."""
    sessions: list[aiohttp.ClientSession] = []

    async def app(_scope, receive, send) -> None:
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        body = await body_of(receive)
        async with sessions[0].post(f"{url}/chat/completions", data=body, headers={"content-type": "application/json"}) as response:
            if response.content_type == "text/event-stream":
                await send_pieces(send, response.content.iter_any())
            else:
                await send_json(send, await response.read())

    serve(app)


def serve(app) -> None:
    """Serve on a free port, whose base URL is printed."""
    config = uvicorn.Config(app, port=0, loop="uvloop", http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    listener = config.bind_socket()
    listener.listen(2048)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def child(call: str) -> Iterator[tuple[str, int]]:
    """Base URL and process id of one of the servers above."""
    script = f"from tests.benchmarks import gateway; gateway.{call}"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.kill()


@contextmanager
def litellm(model_url: str, folder: Path) -> Iterator[Server | None]:
    """LiteLLM's proxy before the same model; None where it is not installed."""
    executable = shutil.which(os.environ.get(LITELLM, ""))
    if executable is None:
        yield None
        return
    key = f"sk-{secrets.token_hex(16)}"
    model = {"model": "openai/house-1", "api_base": model_url, "api_key": "none"}
    config = {"model_list": [{"model_name": APP, "litellm_params": model}], "general_settings": {"master_key": key}}
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))  # which is YAML, too
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [executable, "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {**os.environ, "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(partial(answers, f"{url}/health/liveliness"), within_s=LITELLM_START_S)
            yield Server(url, process.pid, key, "LiteLLM's proxy")
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - a server of our own
            return response.status == 200
    except OSError:
        return False


async def connected(server: Server, number: int, *, is_streamed: bool) -> Ask:
    """One client on its own connection; each call sends a request of 1 KB and reads the answer to its end."""
    host, _, port = urlsplit(server.url).netloc.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        messages = [{"role": "user", "content": (WORDS * 9)[:900]}]
        body = json.dumps({"model": APP, "user": f"u-{number}-{asked}", "messages": messages, "stream": is_streamed}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        own = f"authorization: Bearer {server.key}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write((head + own).encode() + body)
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answered.startswith(b"http/1.1 200 "), answered
        if is_streamed:
            await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            return
        length = int(answered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)

    return ask


async def latencies_ms(server: Server, *, is_streamed: bool) -> list[float]:
    """Of one client that asks without a pause, after a warm-up; sorted."""
    ask = await connected(server, 0, is_streamed=is_streamed)
    for _ in range(200):
        await ask()
    found = []
    for _ in range(AT_ONE_CLIENT):
        began = time.perf_counter()
        await ask()
        found.append((time.perf_counter() - began) * 1000)
    return sorted(found)


async def answered(server: Server, *, is_streamed: bool, window_s: float, most: int | None = None) -> int:
    """How many requests of many clients are answered within a window, or until so many are."""
    asks = [await connected(server, number, is_streamed=is_streamed) for number in range(CLIENTS)]
    counts = [0] * CLIENTS
    began = time.perf_counter()

    async def run(number: int) -> None:
        while time.perf_counter() - began < window_s and (most is None or sum(counts) < most):
            await asks[number]()
            counts[number] += 1

    await asyncio.gather(*(run(number) for number in range(CLIENTS)))
    return sum(counts)


def cpu_s(pid: int) -> float:
    """Computing time of all threads of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def run() -> Report:
    with tempfile.TemporaryDirectory(prefix="gateway-") as name, ExitStack() as up:
        folder = Path(name)
        model_url, _ = up.enter_context(child("serve_model()"))
        plain = Server(*up.enter_context(child(f"serve_pass_through({model_url!r})")), "", "pass-through")
        place = up.enter_context(opened_place(folder, Model(url=model_url)))
        [gateway] = up.enter_context(processes(1, place, popen=subprocess.Popen))
        controlled = Server(gateway.url, gateway.process.pid, place.key, "with the controls")
        other = up.enter_context(litellm(model_url, folder))
        figures = [
            *compared(plain, controlled, other, is_streamed=False),
            *compared(plain, controlled, other, is_streamed=True),
            *memory(controlled),
        ]
    return Report(title="The gateway and its controls", figures=figures)


def compared(plain: Server, controlled: Server, other: Server | None, *, is_streamed: bool) -> list[Figure]:
    """What whole answers, or streams, take of each."""
    latencies: dict[Server, list[list[float]]] = {server: [] for server in (plain, controlled, other) if server is not None}
    rates: dict[Server, list[Rate]] = {server: [] for server in latencies}
    for _ in range(ROUNDS):
        for server, found in latencies.items():
            found.append(uvloop.run(latencies_ms(server, is_streamed=is_streamed)))
            rates[server].append(rate(server, is_streamed=is_streamed, window_s=WINDOW_S))
    before = "streams, " if is_streamed else ""
    quick, careful = (min(latencies[server], key=median) for server in (plain, controlled))
    most = {server: max(found, key=lambda one: one.per_s).per_s for server, found in rates.items()}
    p99 = round(AT_ONE_CLIENT * 0.99)
    figures = [
        Figure(what=f"{before}with the controls / pass-through", value=most[controlled] / most[plain], unit="ratio", at_least=0.4),
        Figure(what=f"{before}added at one client, median", value=median(careful) - median(quick), unit="ms", at_most=1),
        Figure(what=f"{before}added at one client, p99", value=careful[p99] - quick[p99], unit="ms"),
    ]
    many = f"{CLIENTS} clients, best of {ROUNDS} windows of {WINDOW_S:g} s"
    for server, found in rates.items():
        dear_us = min(one.cpu_us for one in found)
        all_of_it = "all threads: spool and flush to the lake, too" if server is controlled else ""
        half_ms = min(map(median, latencies[server]))
        figures += [
            Figure(what=f"{before}{server.name}", value=most[server], unit="requests/s", note=many),
            Figure(what=f"{before}{server.name}, computing per request", value=dear_us, unit="us", note=all_of_it),
            Figure(what=f"{before}{server.name}, one client, median", value=half_ms, unit="ms"),
        ]
    if other is None:
        note = f"not installed; {LITELLM} names the executable of an environment that has it"
        figures.append(Figure(what=f"{before}LiteLLM's proxy", value=None, unit="requests/s", note=note))
    return figures


def rate(server: Server, *, is_streamed: bool, window_s: float, most: int | None = None) -> Rate:
    """What the server did in a window, or until so many requests were answered."""
    before, began = cpu_s(server.pid), time.perf_counter()
    n = uvloop.run(answered(server, is_streamed=is_streamed, window_s=window_s, most=most))
    return Rate(per_s=n / (time.perf_counter() - began), cpu_us=(cpu_s(server.pid) - before) / n * 1e6)


def memory(server: Server) -> list[Figure]:
    """What many requests, each of another user, add to the resident memory."""
    found = [resident_mb(server.pid)]
    for _ in range(MEMORY_REQUESTS // MEMORY_STEP):
        rate(server, is_streamed=False, window_s=600, most=MEMORY_STEP)
        found.append(resident_mb(server.pid))
    half = found[len(found) // 2 :]
    slope = linear_regression(range(len(half)), half).slope * 2**20 / MEMORY_STEP
    note = f"{found[0]:.0f} MB before, {found[-1]:.0f} MB after, the flusher's work included"
    return [
        Figure(what=f"memory added by {MEMORY_REQUESTS:,} requests", value=found[-1] - found[0], unit="MB", note=note),
        Figure(what="memory added by a request", value=slope, unit="bytes", note="slope over the second half of them"),
    ]
