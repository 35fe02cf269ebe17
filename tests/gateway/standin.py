"""A gateway on stand-in controls, and the plainest of HTTP clients."""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from workbench.controls.assignment import assign
from workbench.controls.events import Choice, Completion, Finished, TextPart, ToolPart, Usage, events_of
from workbench.controls.model import Answer, Assignment, ControlsStatus, Embedded, Head, Route
from workbench.errors import RequestRefused
from workbench.gateway.backing import Backing
from workbench.gateway.server import on_thread
from workbench.observability.feedback_log import Accepted
from workbench.observability.logs import FlushStatus
from workbench.observability.otlp.receiving import Received
from workbench.ownership.keys import ApiKey

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
KEY = f"wb_{'0a' * 6}_{'1b' * 32}"
KEY_OF_BANK = f"wb_{'0b' * 6}_{'1b' * 32}"
HOLDER = ApiKey(key_id="0a" * 6, app="support", person="primary", label="", created_at=NOW, created_by="admin")
ANSWER = Answer(
    request_id="",
    choices=(Choice(content="Your parcel is on its way.", finish_reason="stop"),),
    status="ok",
    bundle_id="support@0123456789ab",
    bundle_name="v1",
    arm="stable",
    release_id="rel-1",
    attempts=2,
    is_fallback=False,
    model_served="local-1",
    input_tokens=12,
    output_tokens=7,
    latency_ms=3.0,
    blocked_rules=(),
    violation_rules=(),
    handoff_id=None,
)
ROUTE = Route(
    app="support",
    stable="support@0123456789ab",
    candidate="support@ba9876543210",
    share=0.05,
    salt="salt",
    release_id="support.2",
    without_stable="off",
    route_version=7,
    changed_at=NOW,
)
STATUS = ControlsStatus(
    is_ready=True,
    reasons=(),
    routes=(ROUTE,),
    route_age_s=0.1,
    bundles=(),
    in_flight=1,
    served={"stable": 40, "candidate": 2},
    no_unit=3,
    refused={"overloaded": 1},
    alarms=(),
)
FLUSH = FlushStatus(is_running=True, rows=9, last_success=NOW - timedelta(seconds=2), failures_in_a_row=0, last_fault=None, spool_faults=())
ASK = {"model": "support", "messages": [{"role": "user", "content": "Where is my order?"}]}


@dataclass
class StandIn:
    """Controls that note what they are asked and answer what they are told."""

    answer: Callable[[Mapping[str, Any]], Answer] = lambda _asked: ANSWER
    events: Callable[[], AsyncIterator[TextPart | ToolPart | Finished]] | None = None
    """Of streams; the answer's own where there are none."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    reasons: tuple[str, ...] = ()
    serving: str = "hosted"
    route: Route = ROUTE
    known: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """Requests and held answers, by app and id."""
    told: list[tuple[str, str, Any]] = field(default_factory=list)
    """Kind, app and events of what happened after answers."""
    tells: Exception | None = None
    """What telling fails with."""
    take: Callable[[bytes], Received] = lambda _body: Received(n_accepted=1)
    """What becomes of traces."""
    left: list[str] = field(default_factory=list)
    """How each stream was left: `end`, or what ended it."""

    async def handle(self, app: str, messages: Any, /, **context: Any) -> Answer:
        asked = {"app": app, "messages": list(messages), **context}
        self.asked.append(asked)
        return replace(self.answer(asked), request_id=context["request_id"])

    @asynccontextmanager
    async def stream(self, app: str, messages: Any, /, **context: Any) -> AsyncIterator[Streamed]:
        answer = await self.handle(app, messages, **context)
        try:
            yield Streamed(answer, self.events or partial(said, answer))
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise
        self.left.append("end")

    def tell(self, kind: str, app: str, events: Any) -> Accepted:
        if self.tells is not None:
            raise self.tells
        self.told.append((kind, app, events))
        committed: Future[None] = Future()
        committed.set_result(None)
        return Accepted(tuple(f"ev_{place}" for place in range(len(events))), committed)

    async def embed(self, app: str, texts: Any, /, **context: Any) -> Embedded:
        self.asked.append({"app": app, "texts": list(texts), **context})
        vectors = tuple((float(len(text)), 0.5) for text in texts)
        request_id = context["request_id"]
        return Embedded(
            blocked_rules=(),
            request_id=request_id,
            vectors=vectors,
            model="embed-1",
            input_tokens=3,
            bundle_id="support@0123456789ab",
            arm="stable",
        )

    def take_traces(self, body: bytes, *, is_json: bool, app: str) -> Received:
        self.asked.append({"body": body, "is_json": is_json, "app": app})
        return self.take(body)

    def assign(self, app: str, unit: str, _session: str | None = None) -> Assignment:
        if app != self.route.app:
            raise RequestRefused(f"app {app}", code="nothing_to_serve", http_status=503, seen="it was never released")
        return assign(self.route, unit)


@dataclass
class Streamed:
    """An answer on its way."""

    answer: Answer
    events: Callable[[], AsyncIterator[TextPart | ToolPart | Finished]]

    @property
    def head(self) -> Head:
        return Head(**{name.name: getattr(self.answer, name.name) for name in fields(Head)})

    def __aiter__(self) -> AsyncIterator[TextPart | ToolPart | Finished]:
        return self.events()


async def said(answer: Answer) -> AsyncIterator[TextPart | ToolPart | Finished]:
    """The answer word by word."""
    for event in events_of(Completion(choices=answer.choices)):
        if isinstance(event, TextPart):
            for word in event.text.split(" "):
                yield TextPart(text=f"{word} ", choice=event.choice)
        elif not isinstance(event, Usage):
            yield event


def backing_of(controls: StandIn) -> Backing:
    """What a gateway stands on that knows a key to each of its two apps."""
    return Backing(
        handle=controls.handle,
        stream=controls.stream,
        embed=controls.embed,
        assign=controls.assign,
        bundle_name={"support@0123456789ab": "v1", "support@ba9876543210": "v2"}.__getitem__,
        serving=lambda _app: controls.serving,
        request=lambda app, name: controls.known.get((app, name)),
        handoff=lambda app, name: controls.known.get((app, name)),
        tell=controls.tell,
        key_of={KEY: HOLDER, KEY_OF_BANK: replace(HOLDER, key_id="0b" * 6, app="bank")}.get,
        take_traces=controls.take_traces,
        apps=lambda: {"support", "bank"},
        hindrances=lambda: controls.reasons,
        status=lambda: STATUS,
        flush=lambda: FLUSH,
        spool_pressure=lambda: 0.25,
        keys_age_s=lambda: 0.5,
        clock=lambda: NOW,
    )


@contextmanager
def gateway(controls: StandIn, *, drain_s: int = 20) -> Iterator[str]:
    """The base URL of a gateway on these controls."""
    with on_thread(backing_of(controls), drain_s=drain_s) as url:
        yield url


@dataclass(frozen=True)
class Got:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


def send(url: str, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Got:
    """One request on its own connection."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Got(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def ask(url: str, asked: Any = ASK, *, key: str = KEY, **headers: str) -> Got:
    """A chat request; underscores in header names stand for hyphens."""
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return send(url, "POST", "/v1/chat/completions", body=body, headers={"authorization": f"Bearer {key}", **named})
