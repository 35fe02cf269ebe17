"""Where the computing time of a call goes, stage by stage: gateway and controls in this process, with a model that answers at once.

Computing time and not the clock's, the best of many short rounds: so it says the same while the machine does other things. What stands
around the application (uvicorn, the HTTP client) and the log's own threads are not in it; `gateway` measures the whole.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import orjson
import uvloop

from tests.benchmarks import Figure, Report
from tests.benchmarks.gateway import WORDS, completion, events
from tests.gateway.place import APP, Model, Place, opened_place
from workbench.controls.chunks import ChunkReader
from workbench.controls.events import Event
from workbench.controls.providers import Providers, Sending
from workbench.controls.service import Controls
from workbench.controls.sse import EventParser
from workbench.gateway.asgi import CONNECTION, Gateway
from workbench.gateway.backing import Backing
from workbench.observability.feedback_log import Accepted
from workbench.observability.logs import FlushStatus
from workbench.observability.otlp.receiving import Received
from workbench.observability.rows import rows_of
from workbench.observability.sealing import Sealer

ROUNDS = 60
EACH = 100
AT_ONCE = 16
YARD_US = 4500.0
TICK_S = 0.001
MEMORY_REQUESTS, MEMORY_WARM = 20_000, 2000
_STAGES = (
    ("workbench/gateway/", "edge"),
    ("workbench/controls/guards/", "guards"),
    ("workbench/controls/guarding", "guards"),
    ("workbench/observability/suspicion", "redaction"),
    ("workbench/observability/redaction", "redaction"),
    ("workbench/observability/sealing", "redaction"),
    ("workbench/observability/detectors", "redaction"),
    ("workbench/controls/recording", "records"),
    ("workbench/observability/", "spool's rows"),
    ("workbench/controls/journal", "journal"),
    *((f"workbench/controls/{name}.", "asking the model") for name in (
        "asking", "question", "targets", "breaker", "budget", "rolling", "slots", "retries", "limits", "completions", "providers", "chunks",
    )),
    *((f"workbench/controls/{name}.", "bundle") for name in ("hosting", "proxied", "turn", "serving", "content", "tools")),
    ("workbench/controls/outlet", "outlet"),
    ("workbench/controls/", "pipeline"),
    ("workbench/spec/folding", "guards"),
    ("tests/", "benchmark"),
)  # fmt: skip
"""The first prefix that a frame's file has names its stage; the innermost frame that has one counts."""


class Instant:
    """A provider that has its answer already, as bytes; reading them is part of what is measured."""

    def __init__(self) -> None:
        self._whole = completion()
        self._pieces = events()

    def __call__(self, _clock: Any) -> Instant:
        return self

    async def complete(self, _request: Mapping[str, Any], *, attempt: int = 1, sending: Sending | None = None) -> Mapping[str, Any]:
        del attempt, sending
        return orjson.loads(self._whole)

    async def stream(self, _request: Mapping[str, Any], *, attempt: int = 1, sending: Sending | None = None) -> AsyncGenerator[Event]:
        del attempt, sending
        parser, reader = EventParser(), ChunkReader("house")
        for piece in self._pieces:
            for said in parser.feed(piece):
                for event in reader.read(said):
                    yield event
        usage = reader.last()
        if usage is not None:
            yield usage


class Void:
    """A log that takes rows, as the spool does, and keeps nothing."""

    pressure = 0.0

    def __init__(self) -> None:
        self._done: Future[None] = Future()
        self._done.set_result(None)

    def submit(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Future[None]:
        rows_of(rows)
        return self._done


@contextmanager
def gateway(place: Place, log: Any) -> Iterator[Gateway]:
    """The gateway of a place whose model answers in this process."""
    ws, provider = place.ws, Instant()
    controls = Controls(
        ws.ledger,
        ws.versions,
        log,
        sealer=Sealer(ws.redactor, ws.unit_key),
        providers=Providers({}, installed=lambda _name: provider),
        desk=ws.handoffs,
        app_spec=ws.app_spec,
        clock=ws.clock,
    )
    keys = ws.keys.snapshot()
    with controls:
        yield Gateway(
            Backing(
                handle=controls.handle,
                stream=controls.stream,
                embed=controls.embed,
                assign=controls.assign,
                bundle_name=str,
                serving=controls.serving,
                request=lambda _app, _id: None,
                handoff=lambda _app, _id: None,
                tell=lambda *_about: Accepted(ids=(), committed=Future()),
                take_traces=lambda _body, **_about: Received(n_accepted=0),
                key_of=keys.holder,
                apps=lambda: {APP},
                hindrances=tuple,
                status=controls.status,
                flush=lambda: FlushStatus(is_running=True),
                spool_pressure=lambda: 0.0,
                keys_age_s=lambda: 0.0,
                clock=ws.clock,
            )
        )


def asker(app: Any, key: str, *, is_streamed: bool) -> Callable[[int], Awaitable[None]]:
    """Sends a request of 1 KB to the application and takes its answer."""
    headers = [
        (b"host", b"x"),
        (b"authorization", f"Bearer {key}".encode()),
        (b"content-type", b"application/json"),
        (b"user-agent", b"OpenAI/Python 2.8.1"),
    ]
    whole = type("Whole", (), {"is_body_here": True})()
    scope = {"state": {CONNECTION: whole}, "type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
    messages = [{"role": "user", "content": (WORDS * 9)[:900]}]
    asked = {"model": APP, "messages": messages, "stream": is_streamed}

    async def ask(number: int) -> None:
        body = json.dumps({**asked, "user": f"u-{number}"}).encode()
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)

        await app(dict(scope), receive, send)
        assert status == 200, status

    return ask


async def asked(ask: Callable[[int], Awaitable[None]], n: int) -> None:
    """So many requests, several at once."""
    numbers = iter(range(n))

    async def client() -> None:
        for number in numbers:
            await asyncio.create_task(ask(number))

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


async def cpu_us(ask: Callable[[int], Awaitable[None]]) -> float:
    """Computing time of this thread per request, in the median round.

    Each round is set against a fixed piece of work beside it, so that one in which the machine was slow counts like the others: what is
    told is the time on a machine that takes `YARD_US` for that work.
    """
    await asked(ask, EACH)
    found = []
    for _ in range(ROUNDS):
        before_us = yardstick_us()
        began = time.thread_time()
        await asked(ask, EACH)
        spent_us = (time.thread_time() - began) / EACH * 1e6
        yard_us = (before_us + yardstick_us()) / 2
        found.append(spent_us / yard_us)
    return median(found) * YARD_US


def yardstick_us() -> float:
    """Computing time of a fixed piece of work, of the kind that a request is: calls, small objects, texts."""
    began = time.thread_time()
    kept: dict[str, Any] = {}
    for number in range(3000):
        text = f"{number:x}-{number}"
        kept[text] = _Yard(text, number, (number, text))
        if kept[text].number % 7 == 0:
            kept[text] = replace(kept[text], text=text.upper())
    assert len(orjson.dumps(list(kept))) > 1
    return (time.thread_time() - began) * 1e6


@dataclass(frozen=True, slots=True)
class _Yard:
    text: str
    number: int
    both: tuple[int, str]


async def shares(ask: Callable[[int], Awaitable[None]]) -> dict[str, float]:
    """Stage to its share of the computing time, by looking at what runs each millisecond of it."""
    seen: Counter[str] = Counter()

    def look(_signal: int, frame: FrameType | None) -> None:
        seen[stage_of(frame)] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, TICK_S, TICK_S)
    try:
        for _ in range(ROUNDS):
            await asked(ask, EACH)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    total = seen.total()
    return {stage: n / total for stage, n in seen.most_common()}


def stage_of(frame: FrameType | None) -> str:
    """The stage of the innermost frame that belongs to one."""
    while frame is not None:
        file = frame.f_code.co_filename
        for prefix, stage in _STAGES:
            if prefix in file:
                return stage
        frame = frame.f_back
    return "event loop"


async def kept_bytes(ask: Callable[[int], Awaitable[None]]) -> float:
    """What a request leaves in memory, in the mean of many, each of another user; what is remembered up to a bound is full by then."""
    await asked(ask, MEMORY_WARM)
    gc.collect()
    tracemalloc.start()
    try:
        await asked(ask, MEMORY_REQUESTS)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / MEMORY_REQUESTS
    finally:
        tracemalloc.stop()


def run() -> Report:
    figures = []
    with (
        tempfile.TemporaryDirectory(prefix="stages-") as folder,
        opened_place(Path(folder), Model()) as place,
        gateway(place, Void()) as app,
    ):
        for what, is_streamed in (("whole", False), ("stream", True)):
            ask = asker(app, place.key, is_streamed=is_streamed)
            spent_us = uvloop.run(cpu_us(ask))
            figures.append(Figure(what=f"{what}: gateway and controls", value=spent_us, unit="us"))
            stages = uvloop.run(shares(ask))
            figures += [Figure(what=f"{what}: {stage}", value=share * spent_us, unit="us") for stage, share in stages.items()]
        kept = uvloop.run(kept_bytes(asker(app, place.key, is_streamed=False)))
        figures.append(Figure(what="kept in memory by a request", value=kept, unit="bytes", note=f"mean of {MEMORY_REQUESTS:,}"))
    return Report(title="Computing time of a call by stage", figures=figures)
