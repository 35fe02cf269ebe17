"""What the controls cost: the gateway beside a pass-through of the same server and client code, in the same run.

    clients -> pass-through (uvicorn, plain ASGI, aiohttp)                        -> model
    clients -> gateway (the same, with keys, assignment, audit, redaction, flush) -> model

Bodies are of 1 KB. The two are measured in turn, several times, and the best round of each counts: the machine does other things, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import aiohttp
import uvicorn
import uvloop

from tests.benchmarks import Figure, Report
from tests.gateway.place import APP, Model, opened_place, processes

ROUNDS = 4
WINDOW_S = 3.0
AT_ONE_CLIENT = 1500
CLIENTS = 32
MEMORY_REQUESTS = 100_000
WORDS = "My order has not arrived yet, it should have been here on Tuesday. Where is it, and can I still change the address? "
ANSWER = "Your parcel left our warehouse yesterday and will arrive within two days. The address can be changed until it is loaded. "

Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Server:
    """A process that is measured."""

    url: str
    pid: int


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


def serve_model() -> None:
    """Answer every request at once."""
    body = completion()

    async def app(_scope, receive, send) -> None:
        await body_of(receive)
        await send_json(send, body)

    serve(app)


def serve_pass_through(url: str) -> None:
    """Hand every request on, and its answer back."""
    sessions: list[aiohttp.ClientSession] = []

    async def app(_scope, receive, send) -> None:
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        body = await body_of(receive)
        async with sessions[0].post(f"{url}/chat/completions", data=body, headers={"content-type": "application/json"}) as response:
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


async def connected(url: str, key: str, number: int) -> Ask:
    """One client on its own connection; each call sends a request of 1 KB and reads the answer to its end."""
    host, _, port = urlsplit(url).netloc.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        messages = [{"role": "user", "content": (WORDS * 9)[:900]}]
        body = json.dumps({"model": APP, "user": f"u-{number}-{asked}", "messages": messages}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answered.startswith(b"http/1.1 200 "), answered
        length = int(answered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)

    return ask


async def latencies_ms(url: str, key: str) -> list[float]:
    """Of one client that asks without a pause, after a warm-up; sorted."""
    ask = await connected(url, key, 0)
    for _ in range(200):
        await ask()
    found = []
    for _ in range(AT_ONE_CLIENT):
        began = time.perf_counter()
        await ask()
        found.append((time.perf_counter() - began) * 1000)
    return sorted(found)


async def answered(url: str, key: str, *, window_s: float, most: int | None = None) -> int:
    """How many requests of many clients are answered within a window, or until so many are."""
    asks = [await connected(url, key, number) for number in range(CLIENTS)]
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
    with tempfile.TemporaryDirectory(prefix="gateway-") as folder, ExitStack() as up:
        model_url, _ = up.enter_context(child("serve_model()"))
        plain = Server(*up.enter_context(child(f"serve_pass_through({model_url!r})")))
        place = up.enter_context(opened_place(Path(folder), Model(url=model_url)))
        [gateway] = up.enter_context(processes(1, place))
        controlled = Server(gateway.url, gateway.process.pid)
        figures = [*compared(plain, controlled, place.key), *memory(controlled, place.key)]
    return Report(title="The gateway and its controls", figures=figures)


def compared(plain: Server, controlled: Server, key: str) -> list[Figure]:
    latencies: dict[Server, list[list[float]]] = {plain: [], controlled: []}
    rates: dict[Server, list[Rate]] = {plain: [], controlled: []}
    for _ in range(ROUNDS):
        for server, found in latencies.items():
            found.append(uvloop.run(latencies_ms(server.url, key)))
            rates[server].append(rate(server, key, window_s=WINDOW_S))
    quick, careful = (min(found, key=median) for found in latencies.values())
    fast, slow = (max(found, key=lambda one: one.per_s) for found in rates.values())
    cheap, dear = (min(one.cpu_us for one in found) for found in rates.values())
    p99 = round(AT_ONE_CLIENT * 0.99)
    many = f"{CLIENTS} clients, best of {ROUNDS} windows of {WINDOW_S:g} s"
    return [
        Figure(what="pass-through", value=fast.per_s, unit="requests/s", note=many),
        Figure(what="with the controls", value=slow.per_s, unit="requests/s", note=many),
        Figure(what="with the controls / pass-through", value=slow.per_s / fast.per_s, unit="ratio", at_least=0.4),
        Figure(what="pass-through, computing per request", value=cheap, unit="us"),
        Figure(
            what="with the controls, computing per request", value=dear, unit="us", note="all threads: spool and flush to the lake, too"
        ),
        Figure(what="pass-through, one client, median", value=median(quick), unit="ms"),
        Figure(what="with the controls, one client, median", value=median(careful), unit="ms"),
        Figure(what="added at one client, median", value=median(careful) - median(quick), unit="ms", at_most=1),
        Figure(what="added at one client, p99", value=careful[p99] - quick[p99], unit="ms"),
    ]


def rate(server: Server, key: str, *, window_s: float, most: int | None = None) -> Rate:
    """What the server did in a window, or until so many requests were answered."""
    before, began = cpu_s(server.pid), time.perf_counter()
    n = uvloop.run(answered(server.url, key, window_s=window_s, most=most))
    return Rate(per_s=n / (time.perf_counter() - began), cpu_us=(cpu_s(server.pid) - before) / n * 1e6)


def memory(server: Server, key: str) -> list[Figure]:
    before = resident_mb(server.pid)
    rate(server, key, window_s=600, most=MEMORY_REQUESTS)
    after = resident_mb(server.pid)
    note = f"{before:.0f} MB before, {after:.0f} MB after, the flusher's work included"
    return [Figure(what=f"memory added by {MEMORY_REQUESTS:,} requests", value=after - before, unit="MB", note=note)]
