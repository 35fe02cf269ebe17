"""A gateway on stand-in controls, and the plainest of HTTP clients."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from workbench.controls.events import Choice
from workbench.controls.model import Answer
from workbench.gateway.asgi import Backing
from workbench.gateway.server import on_thread
from workbench.ownership.keys import ApiKey

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
KEY = f"wb_{'0a' * 6}_{'1b' * 32}"
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
ASK = {"model": "support", "messages": [{"role": "user", "content": "Where is my order?"}]}


@dataclass
class StandIn:
    """Controls that note what they are asked and answer what they are told."""

    answer: Callable[[Mapping[str, Any]], Answer] = lambda _asked: ANSWER
    asked: list[dict[str, Any]] = field(default_factory=list)
    reasons: tuple[str, ...] = ()

    async def handle(self, app: str, messages: Any, /, **context: Any) -> Answer:
        asked = {"app": app, "messages": list(messages), **context}
        self.asked.append(asked)
        return replace(self.answer(asked), request_id=context["request_id"])


def backing_of(controls: StandIn) -> Backing:
    """What a gateway stands on that knows one key and two apps."""
    return Backing(
        handle=controls.handle,
        key_of={KEY: HOLDER}.get,
        apps=lambda: {"support", "bank"},
        hindrances=lambda: controls.reasons,
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
