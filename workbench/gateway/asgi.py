"""The gateway as a plain ASGI application: the table of its endpoints, and who may use them.

It expects to be served by `server`, which cancels a request whose client has left. No endpoint reaches a model but through the controls.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from workbench.controls import admission
from workbench.errors import RequestRefused, StoreError
from workbench.gateway import access, chat, completions, embeddings, feedback, metrics, models, ofrep, otlp
from workbench.gateway.about import About
from workbench.gateway.access import Access
from workbench.gateway.backing import Backing, Serving
from workbench.gateway.exchange import BODY_WAIT_S, MOST_BODY_BYTES, NOT_MODIFIED, Exchange, Receive, Reply, Scope, Send
from workbench.gateway.problem import Problem
from workbench.gateway.streaming import stream_out
from workbench.ownership.keys import ApiKey

SOURCE = "gateway"
"""How the log names this edge."""
CONNECTION = "connection"
"""Names, in a scope's state, what wants to know the task that answers."""
MOST_LOOKUPS = 2
"""Questions to the log at once; one whose asker has left still takes its thread."""
NAME_WAIT_S = 1.0
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_ELSEWHERE_AT_OPENAI = frozenset({
    "assistants", "audio", "batches", "chat", "completions", "containers", "conversations", "evals", "files", "fine_tuning", "images",
    "moderations", "organization", "realtime", "responses", "threads", "uploads", "vector_stores", "videos",
})  # fmt: skip
"""What stands behind /v1/ in OpenAI's API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoint:
    route: str
    method: str
    answer: Callable[[Exchange], Awaitable[Reply | None]]
    """The reply; None where it has sent its own."""
    has_head: bool = True
    """Whether GET may be asked without its body: not where being told is what counts."""


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
        self._meter = metrics.Meter()
        self._lookups = ThreadPoolExecutor(MOST_LOOKUPS, thread_name_prefix="lookups")
        self._names: dict[str, str | None] = {}
        self._intake = otlp.Intake(backing.take_traces, pressure=backing.spool_pressure)
        self.is_stopping = False
        """Whether it takes its leave: it says so on /readyz."""
        fixed = (
            _Endpoint(route="/v1/chat/completions", method="POST", answer=self._chat),
            _Endpoint(route="/v1/embeddings", method="POST", answer=self._embeddings),
            _Endpoint(route="/v1/models", method="GET", answer=self._models),
            _Endpoint(route=ofrep.FLAGS, method="POST", answer=self._flags),
            _Endpoint(route=feedback.FEEDBACK, method="POST", answer=self._told),
            _Endpoint(route=feedback.OUTCOMES, method="POST", answer=self._told),
            _Endpoint(route=otlp.TRACES, method="POST", answer=self._traces),
            _Endpoint(route="/healthz", method="GET", answer=self._alive),
            _Endpoint(route="/readyz", method="GET", answer=self._ready),
            _Endpoint(route="/metrics", method="GET", answer=self._metrics),
        )
        self._fixed = {endpoint.route: endpoint for endpoint in fixed}
        self._named = (
            _Endpoint(route="/v1/models/{model}", method="GET", answer=self._model),
            _Endpoint(route="/v1/requests/{id}", method="GET", answer=self._request),
            _Endpoint(route="/v1/handoffs/{id}", method="GET", answer=self._handoff, has_head=False),
            _Endpoint(route=f"{ofrep.FLAGS}/{{key}}", method="POST", answer=self._flag),
        )

    @property
    def routes(self) -> tuple[tuple[str, str], ...]:
        """Method and path of every endpoint."""
        return tuple((endpoint.method, endpoint.route) for endpoint in (*self._fixed.values(), *self._named))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = time.perf_counter()
        seen = Access(request_id=f"req_{self._first_half}{next(self._count):012x}", method=scope["method"])
        exchange = Exchange(path=scope["path"], headers=dict(scope["headers"]), receive=receive, send=send, access=seen)
        connection = scope.get("state", {}).get(CONNECTION)
        if connection is not None:
            connection.task = asyncio.current_task()
            exchange.is_arrived = connection.is_body_here
        self._meter.in_flight += 1
        try:
            await self._answer(exchange)
        except asyncio.CancelledError:
            seen.code = seen.code or "client_left"  # nobody is there, or nobody took the answer in time
        finally:
            if connection is not None:
                connection.task = None
            self._meter.in_flight -= 1
            duration_s = time.perf_counter() - started_s
            self._meter.count(seen, duration_s=duration_s)
            access.write(seen, clock=self._backing.clock, duration_ms=duration_s * 1000)

    async def _answer(self, exchange: Exchange) -> None:
        """Send what is to be sent, whatever happens."""
        try:
            reply = await self._endpoint(exchange).answer(exchange)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the edge: what nobody foresaw is answered without what was sent
            problem = exchange.problem_of(error)
            if problem is None:
                return
            reply = _failure(problem, exchange)
        if reply is not None:
            await exchange.reply(reply)

    def _endpoint(self, exchange: Exchange) -> _Endpoint:
        """What answers this path and method.

        Raises:
            Problem: nothing does.
        """
        path = exchange.path
        endpoint = self._fixed.get(path) or next((named for named in self._named if _is_below(path, named.route)), None)
        if endpoint is None:
            raise _not_here(path)
        exchange.access.route = endpoint.route
        method = exchange.access.method
        allowed = (endpoint.method, "HEAD") if endpoint.method == "GET" and endpoint.has_head else (endpoint.method,)
        if method not in allowed:
            allow = ", ".join(allowed)
            raise Problem(405, "method_not_allowed", f"{endpoint.route} takes {allow}.", allow=allow)
        return endpoint

    def _key(self, exchange: Exchange) -> ApiKey:
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

    async def _chat(self, exchange: Exchange) -> Reply | None:
        key = self._key(exchange)
        request = chat.read_chat(await self._body(exchange), exchange.headers, serving_of=lambda app: self._serving(key, app))
        about = _passed_on(request.about, exchange) | {"asked": request.asked}
        at = self._backing.clock()
        if request.asked.is_streamed:
            streaming = self._backing.stream(request.app, request.messages, **about)
            await stream_out(exchange, streaming, app=request.app, at=at, has_usage=request.has_usage, ignored=request.ignored)
            return None
        answer = await self._backing.handle(request.app, request.messages, **about)
        exchange.access.note(answer)
        body = completions.completion(answer, app=request.app, at=at)
        return Reply(status=200, body=body, headers=completions.told(answer, ignored=request.ignored))

    async def _embeddings(self, exchange: Exchange) -> Reply:
        key = self._key(exchange)
        request = embeddings.read_embedding(await self._body(exchange), exchange.headers, serving_of=lambda app: self._serving(key, app))
        embedded = await self._backing.embed(request.app, request.texts, **_passed_on(request.about, exchange))
        exchange.access.note(embedded)
        body = embeddings.embedding_list(embedded, is_base64=request.is_base64)
        return Reply(status=200, body=body, headers=embeddings.told(embedded, ignored=request.ignored))

    async def _models(self, exchange: Exchange) -> Reply:
        key = self._key(exchange)
        return Reply(status=200, body=models.model_list((key.app,), at=key.created_at))

    async def _model(self, exchange: Exchange) -> Reply:
        key = self._key(exchange)
        self._require_app(key, _named(exchange))
        return Reply(status=200, body=models.model(key.app, at=key.created_at))

    async def _request(self, exchange: Exchange) -> Reply:
        return await self._looked_up(exchange, self._backing.request, "request of this id, or not yet: the log takes a moment")

    async def _handoff(self, exchange: Exchange) -> Reply:
        return await self._looked_up(exchange, self._backing.handoff, "handoff of this id")

    async def _looked_up(self, exchange: Exchange, look_up: Callable[[str, str], Mapping[str, Any] | None], what: str) -> Reply:
        """What is known of something of the key's app, by its id; another app's is not found."""
        key, named = self._key(exchange), _named(exchange)
        found = None
        if _ID.fullmatch(named):
            found = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up, key.app, named)
        if found is None:
            raise Problem(404, f"unknown_{what.partition(' ')[0]}", f"{key.app} has no {what}.")
        return Reply(status=200, body=orjson.dumps(dict(found), default=str), headers=((b"cache-control", b"no-store"),))

    async def _flags(self, exchange: Exchange) -> Reply:
        key = self._key(exchange)
        flag = await self._evaluation(exchange, key.app)
        body = ofrep.bulk([] if flag is None else [flag])
        tag = ofrep.etag(body)
        headers = ((b"etag", tag), (b"cache-control", b"private, no-cache"))
        if ofrep.is_known(tag, exchange.headers):
            return Reply(status=NOT_MODIFIED, body=b"", headers=headers)
        return Reply(status=200, body=body, headers=headers)

    async def _flag(self, exchange: Exchange) -> Reply:
        key, flag = self._key(exchange), _named(exchange)
        if flag != key.app:
            if flag in self._backing.apps():
                raise _other_app(key, None)
            raise ofrep.no_such_flag(key.app)
        evaluation = await self._evaluation(exchange, key.app)
        if evaluation is None:
            raise ofrep.no_such_flag(key.app)
        return Reply(status=200, body=orjson.dumps(evaluation))

    async def _told(self, exchange: Exchange) -> Reply:
        key, kind = self._key(exchange), feedback.KIND_OF[exchange.access.route]
        accepted = feedback.accepted(await self._body(exchange), kind, app=key.app, tell=self._backing.tell)
        try:
            await asyncio.wrap_future(accepted.committed)
        except StoreError as fault:
            raise feedback.not_stored() from fault
        return Reply(status=200, body=feedback.answer(accepted.ids))

    async def _traces(self, exchange: Exchange) -> Reply:
        key = self._key(exchange)
        form = otlp.form_of(exchange.headers)
        if form is None:
            raise otlp.unknown_form()
        packed = await exchange.body(most_bytes=otlp.MOST_BYTES, wait_s=self._body_wait_s, encodings=otlp.ENCODINGS)
        received = await self._intake.take(packed, form, is_packed=exchange.encoding == otlp.GZIP, app=key.app)
        return Reply(status=200, body=otlp.answer(received, form), content_type=form.header)

    async def _evaluation(self, exchange: Exchange, app: str) -> dict[str, Any] | None:
        """The app's flag for the unit that the body names; None where the app has no route."""
        asked = ofrep.read_asked(await self._body(exchange))
        try:
            assignment = self._backing.assign(app, asked.unit, asked.session)
        except RequestRefused:
            return None
        exchange.access.bundle, exchange.access.arm = assignment.bundle_id, assignment.arm
        return ofrep.evaluation(assignment, await self._name(assignment.bundle_id))

    async def _name(self, bundle_id: str | None) -> str | None:
        """The bundle's name. It is asked for once; where it cannot be told in time, it stays away, and the flag does without."""
        if bundle_id is None:
            return None
        if bundle_id not in self._names:
            name = None
            with suppress(Exception):  # whatever ails the ledger, units get their bundle
                async with asyncio.timeout(NAME_WAIT_S):
                    name = await asyncio.to_thread(self._backing.bundle_name, bundle_id)
            self._names[bundle_id] = name
        return self._names[bundle_id]

    async def _alive(self, _: Exchange) -> Reply:
        return Reply(status=200, body=b'{"status":"alive"}')

    async def _ready(self, _: Exchange) -> Reply:
        reasons = self._hindrances()
        status, word = (503, "not ready") if reasons else (200, "ready")
        return Reply(status=status, body=orjson.dumps({"status": word, "reasons": reasons}))

    async def _metrics(self, _: Exchange) -> Reply:
        backing = self._backing
        body = metrics.exposition(
            self._meter,
            backing.status(),
            backing.flush(),
            spool_pressure=backing.spool_pressure(),
            keys_age_s=backing.keys_age_s(),
            is_ready=not self._hindrances(),
            now=backing.clock(),
            upkeep=backing.upkeep(),
            carrying=backing.carrying(),
            scoring=backing.scoring(),
        )
        return Reply(status=200, body=body, content_type=metrics.CONTENT_TYPE)

    def _hindrances(self) -> list[str]:
        return [*(["the gateway is stopping"] if self.is_stopping else []), *self._backing.hindrances()]

    def _serving(self, key: ApiKey, app: str) -> Serving:
        """How the app is served.

        Raises:
            Problem: the key does not open it.
        """
        self._require_app(key, app)
        return self._backing.serving(app)

    def _require_app(self, key: ApiKey, app: str) -> None:
        """Return when the key opens the app.

        Raises:
            Problem: it is another one, or none.
        """
        if app == key.app:
            return
        if app in self._backing.apps():
            raise _other_app(key, "model")
        raise Problem(404, "unknown_app", f"`model` names no app of this gateway; this API key opens {key.app}.", param="model")

    async def _body(self, exchange: Exchange) -> bytes:
        return await exchange.body(most_bytes=self._most_body_bytes, wait_s=self._body_wait_s)


def _passed_on(about: About, exchange: Exchange) -> admission.About:
    return {
        "unit": about.unit,
        "session": about.session,
        "workflow": about.workflow,
        "metadata": about.metadata,
        "deadline_s": about.deadline_s,
        "request_id": exchange.access.request_id,
        "source": SOURCE,
        "priority": about.priority,
        "callback": about.callback,
        "retries": about.retries,
    }


def _failure(problem: Problem, exchange: Exchange) -> Reply:
    """The problem in the form of the endpoint's dialect."""
    route = exchange.access.route
    if route == otlp.TRACES:
        form = otlp.form_of(exchange.headers) or otlp.Form.JSON
        return Reply(status=problem.status, body=otlp.failure(problem, form), headers=problem.headers, content_type=form.header)
    body = ofrep.failure(problem, exchange.path) if route.startswith(ofrep.FLAGS) else problem.body
    return Reply(status=problem.status, body=body, headers=problem.headers)


def _is_below(path: str, route: str) -> bool:
    return path.startswith(route[: route.index("{")])


def _named(exchange: Exchange) -> str:
    """What the end of the path names."""
    return exchange.path[exchange.access.route.index("{") :]


def _other_app(key: ApiKey, param: str | None) -> Problem:
    named = "`model`" if param else "this path"
    return Problem(403, "other_app", f"This API key opens {key.app}, not the app that {named} names.", param=param)


def _not_here(path: str) -> Problem:
    root, _, rest = path.removeprefix("/").partition("/")
    if root == "v1" and rest.partition("/")[0] in _ELSEWHERE_AT_OPENAI:
        served = "/v1/chat/completions and /v1/embeddings"
        return Problem(501, "not_supported", f"This gateway does not speak this part of OpenAI's API; it serves {served}.")
    return Problem(404, "unknown_path", "There is nothing at this path; the gateway serves /v1/chat/completions and /v1/models.")
