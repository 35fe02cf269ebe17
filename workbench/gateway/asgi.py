"""The gateway as a plain ASGI application: paths, keys, limits, disconnects. What is asked and answered is in `chat`."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import orjson

from workbench.controls.model import Answer
from workbench.errors import RequestRefused
from workbench.gateway import access, chat
from workbench.gateway.access import Access
from workbench.gateway.problem import Problem
from workbench.ownership.keys import ApiKey

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SOURCE = "gateway"
"""How the log names this edge."""
MOST_BODY_BYTES = 4 << 20
BODY_WAIT_S = 30.0
"""How long a request may take to arrive."""
_ELSEWHERE_AT_OPENAI = frozenset({
    "assistants", "audio", "batches", "chat", "completions", "containers", "conversations", "embeddings", "evals", "files",
    "fine_tuning", "images", "moderations", "organization", "realtime", "responses", "threads", "uploads", "vector_stores", "videos",
})  # fmt: skip
"""What stands behind /v1/ in OpenAI's API."""


class Handle(Protocol):
    """The controls, as far as an edge needs them."""

    async def __call__(
        self,
        app: str,
        messages: Sequence[Mapping[str, Any]],
        /,
        *,
        unit: str | None,
        session: str | None,
        workflow: str | None,
        metadata: Mapping[str, str] | None,
        deadline_s: float | None,
        request_id: str | None,
        source: str,
    ) -> Answer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """What the gateway stands on."""

    handle: Handle
    key_of: Callable[[str], ApiKey | None]
    """The key whose text this is."""
    apps: Callable[[], Collection[str]]
    """The apps that are served here."""
    hindrances: Callable[[], Sequence[str]]
    """Why no traffic should come, one sentence each."""
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """One request on its way."""

    path: str
    headers: chat.Headers
    receive: Receive
    access: Access


class _ClientLeft(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoint:
    route: str
    method: str
    answer: Callable[[_Exchange], Awaitable[_Reply]]


class Gateway:
    """The ASGI application.

    Args:
        backing: what it stands on.
        most_body_bytes: longer requests are refused.
        body_wait_s: slower requests are refused.
    """

    def __init__(self, backing: Backing, *, most_body_bytes: int = MOST_BODY_BYTES, body_wait_s: float = BODY_WAIT_S) -> None:
        self._backing = backing
        self._first_half = secrets.token_hex(10)  # of request ids: drawn once, because the system's randomness costs more than the rest
        self._count = itertools.count()
        self._most_body_bytes = most_body_bytes
        self._body_wait_s = body_wait_s
        endpoints = (
            _Endpoint(route="/v1/chat/completions", method="POST", answer=self._chat),
            _Endpoint(route="/v1/models", method="GET", answer=self._models),
            _Endpoint(route="/healthz", method="GET", answer=self._alive),
            _Endpoint(route="/readyz", method="GET", answer=self._ready),
        )
        self._endpoints = {endpoint.route: endpoint for endpoint in endpoints}
        self._one_model = _Endpoint(route="/v1/models/{model}", method="GET", answer=self._model)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = time.perf_counter()
        seen = Access(request_id=f"req_{self._first_half}{next(self._count):012x}", method=scope["method"])
        exchange = _Exchange(path=scope["path"], headers=dict(scope["headers"]), receive=receive, access=seen)
        reply = await self._reply(exchange)
        if reply is not None:
            await _send(send, reply, request_id=seen.request_id)
        status = access.CLIENT_LEFT if reply is None else reply.status
        access.write(seen, status=status, at=self._backing.clock(), duration_ms=(time.perf_counter() - started_s) * 1000)

    async def _reply(self, exchange: _Exchange) -> _Reply | None:
        """What is sent, whatever happens; None when nobody is there to read it."""
        try:
            return await self._endpoint(exchange).answer(exchange)
        except _ClientLeft:
            exchange.access.code = "client_left"
            return None
        except Problem as problem:
            return _told(problem, exchange)
        except RequestRefused as refused:
            return _told(Problem.of(refused), exchange)
        except asyncio.CancelledError:
            return _told(Problem(503, "stopping", "This gateway is stopping; send the request again.", retry_after_s=1), exchange)
        except Exception as error:  # noqa: BLE001 - the edge: what nobody foresaw is answered and logged without what the caller sent
            access.write_fault(exchange.access, error)
            return _told(Problem(500, "internal", "The gateway failed; its log tells more under the id of this request."), exchange)

    def _endpoint(self, exchange: _Exchange) -> _Endpoint:
        """What answers this path and method.

        Raises:
            Problem: nothing does.
        """
        path = exchange.path
        endpoint = self._one_model if path.startswith("/v1/models/") else self._endpoints.get(path)
        if endpoint is None:
            raise _not_here(path)
        exchange.access.route = endpoint.route
        method = exchange.access.method
        if method != endpoint.method and not (method == "HEAD" and endpoint.method == "GET"):
            allow = endpoint.method if endpoint.method != "GET" else "GET, HEAD"
            raise Problem(405, "method_not_allowed", f"{endpoint.route} takes {allow}.", allow=allow)
        return endpoint

    def _key(self, exchange: _Exchange) -> ApiKey:
        """The key that came with the request.

        Raises:
            Problem: none did, or it is unknown or revoked.
        """
        scheme, _, text = exchange.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise Problem(401, "missing_api_key", "No API key came with this request; send it as `Authorization: Bearer wb_…`.")
        key = self._backing.key_of(text.strip())
        if key is None:
            raise Problem(401, "invalid_api_key", "This API key is unknown or revoked; `workbench key create` makes one.")
        exchange.access.key = key
        return key

    async def _chat(self, exchange: _Exchange) -> _Reply:
        key, seen = self._key(exchange), exchange.access
        request = chat.read_chat(await self._body(exchange), exchange.headers)
        self._require_app(key, request.app)
        answer = await _while_connected(
            exchange.receive,
            self._backing.handle(
                request.app,
                request.messages,
                unit=request.unit,
                session=request.session,
                workflow=request.workflow,
                metadata=request.metadata,
                deadline_s=request.deadline_s,
                request_id=seen.request_id,
                source=SOURCE,
            ),
        )
        seen.bundle, seen.arm = answer.bundle_id, answer.arm
        body = chat.completion(answer, app=request.app, at=self._backing.clock())
        return _Reply(status=200, body=body, headers=chat.answer_headers(answer, ignored=request.ignored))

    async def _models(self, exchange: _Exchange) -> _Reply:
        key = self._key(exchange)
        return _Reply(status=200, body=chat.model_list((key.app,), at=key.created_at))

    async def _model(self, exchange: _Exchange) -> _Reply:
        key = self._key(exchange)
        self._require_app(key, exchange.path.removeprefix("/v1/models/"))
        return _Reply(status=200, body=chat.model(key.app, at=key.created_at))

    async def _alive(self, _: _Exchange) -> _Reply:
        return _Reply(status=200, body=b'{"status":"alive"}')

    async def _ready(self, _: _Exchange) -> _Reply:
        reasons = self._backing.hindrances()
        status, word = (503, "not ready") if reasons else (200, "ready")
        return _Reply(status=status, body=orjson.dumps({"status": word, "reasons": list(reasons)}))

    def _require_app(self, key: ApiKey, app: str) -> None:
        """Return when the key opens the app.

        Raises:
            Problem: it is another one, or none.
        """
        if app == key.app:
            return
        if app in self._backing.apps():
            raise Problem(403, "other_app", f"This API key opens {key.app}, not the app that `model` names.", param="model")
        raise Problem(404, "unknown_app", f"`model` names no app of this gateway; this API key opens {key.app}.", param="model")

    async def _body(self, exchange: _Exchange) -> bytes:
        """The request's body.

        Raises:
            Problem: it is too long, too slow or compressed.
        """
        headers = exchange.headers
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Problem(415, "unsupported_encoding", "This gateway reads plain bodies; send no content-encoding.")
        if int(headers.get(b"content-length", 0)) > self._most_body_bytes:
            raise self._too_long()
        try:
            async with asyncio.timeout(self._body_wait_s):
                return await self._received(exchange.receive)
        except TimeoutError:
            raise Problem(408, "body_timeout", f"The body did not arrive within {self._body_wait_s:g} s.") from None

    async def _received(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeft
            body += message.get("body", b"")
            if len(body) > self._most_body_bytes:
                raise self._too_long()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_long(self) -> Problem:
        return Problem(413, "body_too_long", f"The body is longer than {self._most_body_bytes:,} bytes.")


async def _while_connected(receive: Receive, answering: Awaitable[Answer]) -> Answer:
    """The answer. When the client leaves before it is there, answering is cancelled: that ends the model's work and keeps the record.

    Raises:
        _ClientLeft: the client left.
    """
    task = asyncio.current_task()
    is_over = has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        if not is_over and task is not None:
            has_left = True
            task.cancel()

    watching = asyncio.create_task(watch())
    try:
        answer = await answering
    except asyncio.CancelledError:
        if not has_left:
            raise
        raise _ClientLeft from None
    finally:
        is_over = True
        watching.cancel()
    if has_left:
        raise _ClientLeft
    return answer


async def _send(send: Send, reply: _Reply, *, request_id: str) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-request-id", request_id.encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _told(problem: Problem, exchange: _Exchange) -> _Reply:
    exchange.access.code = problem.code
    return _Reply(status=problem.status, body=problem.body, headers=problem.headers)


def _not_here(path: str) -> Problem:
    root, _, rest = path.removeprefix("/").partition("/")
    if root == "v1" and rest.partition("/")[0] in _ELSEWHERE_AT_OPENAI:
        return Problem(501, "not_supported", "This gateway does not speak this part of OpenAI's API; it serves /v1/chat/completions.")
    return Problem(404, "unknown_path", "There is nothing at this path; the gateway serves /v1/chat/completions and /v1/models.")
