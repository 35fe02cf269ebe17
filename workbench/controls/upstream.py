"""A provider behind an OpenAI-compatible address.

Whatever goes wrong there becomes a ProviderError that names the provider and what happened, and nothing of the key, the address or a body.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
import orjson

from workbench.controls.addresses import Address
from workbench.controls.chunks import ChunkReader
from workbench.controls.clock import RealClock
from workbench.controls.completions import checked_completion, complete_completion
from workbench.controls.events import Event, events_of, joined
from workbench.controls.failures import FailureKind, kind_of_error, kind_of_status
from workbench.controls.hints import hint_s
from workbench.controls.pace import Pace
from workbench.controls.providers import ProviderError, Sending
from workbench.controls.sse import EventParser, OversizedEvent, ServerEvent

CONNECT_S = 5.0
"""To reach the provider at all."""
SILENCE_S = 120.0
"""Without a byte from the provider; the turn's own limit is usually shorter."""
LARGEST_RESPONSE = 8 << 20
"""Bytes of a response, unpacked."""
_MOST_SAID = 1 << 14
"""Bytes of a refusal's body that are looked at."""
_REFUSAL_S = 2.0
"""To read them; the status alone says enough."""
_CHUNK = 1 << 16
_PAGES = frozenset({"text/html", "application/xhtml+xml"})


class _Held(NamedTuple):
    """The session of one loop, and the generator that closes it."""

    session: aiohttp.ClientSession
    holder: AsyncGenerator[aiohttp.ClientSession]


class Upstream:
    """The provider at an address. It serves any number of event loops, each with connections of its own.

    Args:
        address: where it is.
        connect_s: to reach it.
        silence_s: without a byte from it.
        largest: bytes of a response.
    """

    def __init__(
        self, address: Address, *, connect_s: float = CONNECT_S, silence_s: float = SILENCE_S, largest: int = LARGEST_RESPONSE
    ) -> None:
        self._name = address.name
        self._url = address.url
        self._headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if address.key is not None:
            self._headers["Authorization"] = f"Bearer {address.key}"
        self._connect_s = connect_s
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s, sock_read=silence_s)
        self._largest = largest
        self._clock = RealClock()
        self._usual = _patient(connect_s)
        self._sessions: dict[asyncio.AbstractEventLoop, _Held] = {}
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"Upstream({self._name!r})"

    async def complete(self, request: Mapping[str, Any], *, attempt: int = 1, sending: Sending | None = None) -> Mapping[str, Any]:
        """The chat completion that the provider gives.

        Raises:
            ProviderError: with the code `upstream_down`, `upstream_silent`, `upstream_cut_off`, `upstream_<status>`, `upstream_oversized`,
                `upstream_garbage`, `upstream_error` or `bad_model_request`.
        """
        return await self._whole("/chat/completions", request, attempt=attempt, sending=sending)

    async def embed(self, request: Mapping[str, Any], *, attempt: int = 1, sending: Sending | None = None) -> Mapping[str, Any]:
        """The embeddings that the provider gives, in OpenAI's form.

        Raises:
            ProviderError: as `complete`.
        """
        response = await self._whole("/embeddings", request, attempt=attempt, sending=sending)
        data = response.get("data")
        if (
            isinstance(data, list)
            and data
            and all(isinstance(item, dict) and isinstance(item.get("embedding"), list | str) for item in data)
        ):
            return response
        raise self._fault("upstream_garbage", "its response holds no embeddings", FailureKind.GARBAGE)

    async def stream(self, request: Mapping[str, Any], *, attempt: int = 1, sending: Sending | None = None) -> AsyncGenerator[Event]:
        """The events of the answer, as they come. It ends only when the answer is complete; closing it hangs up at once.

        Raises:
            ProviderError: as `complete`; or with the code `upstream_late`, `upstream_truncated` or `upstream_empty`.
        """
        limits = (sending or Sending()).limits
        pace = Pace(limits, asked_s=self._clock.now())
        options = request.get("stream_options")
        asked = {
            **request,
            "stream": True,
            "stream_options": {**(options if isinstance(options, Mapping) else {}), "include_usage": True},
        }
        posted = self._posted("/chat/completions", asked, attempt=attempt, sending=sending, headers_s=limits.headers_s)
        async with posted as response:
            if response.content_type == "application/json":
                for event in events_of(complete_completion(await self._unstreamed(response, pace))):
                    yield event
                return
            if response.content_type in _PAGES:
                raise self._fault("upstream_garbage", "its response is a web page", FailureKind.GARBAGE)
            reader = ChunkReader(self._name, n=_n(request))
            async for event in self._streamed(response, reader, pace):
                yield event

    async def _streamed(self, response: aiohttp.ClientResponse, reader: ChunkReader, pace: Pace) -> AsyncGenerator[Event]:
        """What the response says, to its end."""
        parser, size, time = EventParser(), 0, self._clock.now
        while not reader.is_done:
            chunk = await self._chunk(response, pace, is_complete=reader.is_complete)
            size += len(chunk)
            if not chunk:
                break
            if size > self._largest:
                raise self._oversized()
            heard: list[Event] = []
            try:
                for said in self._parsed_events(parser, chunk):
                    events = reader.read(said)
                    heard += events
                    if not pace.hear(time(), events, is_complete=reader.is_complete):
                        raise self._fault("upstream_late", "its answer comes too slowly", FailureKind.SLOW)
            finally:
                for event in joined(heard):
                    yield event
        if not size:
            raise self._fault("upstream_empty", "its response is empty", FailureKind.GARBAGE)
        usage = reader.last()
        if usage is not None:
            yield usage

    def _parsed_events(self, parser: EventParser, chunk: bytes) -> list[ServerEvent]:
        try:
            return list(parser.feed(chunk))
        except OversizedEvent:
            raise self._oversized() from None

    async def _chunk(self, response: aiohttp.ClientResponse, pace: Pace, *, is_complete: bool) -> bytes:
        """The next bytes; none at the end, which an answer that is complete has reached however it goes on."""
        try:
            return await self._clock.within(pace.until_s, response.content.readany())
        except (TimeoutError, aiohttp.ClientError) as ended:
            if is_complete:
                return b""
            if isinstance(ended, aiohttp.ClientError):
                raise
            raise self._fault("upstream_late", "its answer did not go on in time", pace.lateness) from None

    async def _unstreamed(self, response: aiohttp.ClientResponse, pace: Pace) -> Mapping[str, Any]:
        """The answer of a provider that gives it whole although a stream was asked for."""
        try:
            async with self._clock.limit(pace.until_s - self._clock.now()):
                return checked_completion(self._parsed(await self._read(response)))
        except TimeoutError:
            raise self._fault("upstream_late", "its answer did not come in time", pace.lateness) from None

    async def _whole(self, path: str, request: Mapping[str, Any], *, attempt: int, sending: Sending | None) -> Mapping[str, Any]:
        async with self._posted(path, request, attempt=attempt, sending=sending) as response:
            return self._parsed(await self._read(response))

    @asynccontextmanager
    async def _posted(
        self, path: str, request: Mapping[str, Any], *, attempt: int, sending: Sending | None, headers_s: float = math.inf
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to the request, whose status is good; the line is closed behind it unless all of it was read."""
        session, body = await self._session(), _body(request)
        response: aiohttp.ClientResponse | None = None
        try:
            async with self._clock.limit(headers_s):
                response = await session.post(
                    f"{self._url}{path}",
                    data=body,
                    headers=_headers(attempt, sending),
                    allow_redirects=False,
                    timeout=self._timeout if sending is None else self._timeout_of(sending),
                )
            if response.status != 200:  # noqa: PLR2004 - OK
                raise await self._refused(response)
            yield response
        except aiohttp.SocketTimeoutError:
            raise self._fault("upstream_silent", "it was silent for too long", FailureKind.SILENT) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise self._fault("upstream_down", "it cannot be reached", FailureKind.CONNECT, was_sent=False) from None
        except aiohttp.ClientConnectionError:
            raise self._fault("upstream_down", "it closed the connection", FailureKind.CONNECT) from None
        except aiohttp.ClientError:
            raise self._fault("upstream_cut_off", "its response was cut off or malformed", FailureKind.GARBAGE) from None
        except TimeoutError:
            raise self._fault("upstream_silent", "it did not begin to answer in time", FailureKind.SILENT) from None
        finally:
            if response is not None:
                response.close()

    def _timeout_of(self, sending: Sending) -> aiohttp.ClientTimeout:
        connect_s = min(self._connect_s, sending.limits.connect_s)
        if connect_s == self._connect_s:  # as nearly always
            return self._usual
        return _patient(connect_s)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > self._largest:
                raise self._oversized()
        return bytes(body)

    def _parsed(self, body: bytes) -> Mapping[str, Any]:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self._fault("upstream_garbage", "its response is no JSON", FailureKind.GARBAGE) from None
        if not isinstance(parsed, dict):
            raise self._fault("upstream_garbage", "its response is no JSON object", FailureKind.GARBAGE)
        if parsed.get("error") and not parsed.get("choices") and not parsed.get("data"):
            kind = kind_of_error(parsed["error"]) or FailureKind.TRANSIENT
            hint = hint_s({}, body, now=datetime.now(UTC))
            raise self._fault("upstream_error", "it answered 200 and an error", kind, retry_after_s=hint)
        return parsed

    async def _refused(self, response: aiohttp.ClientResponse) -> ProviderError:
        """What a status that is not good means, together with what the body says."""
        status, body = response.status, bytearray()
        try:
            async with asyncio.timeout(_REFUSAL_S):
                async for chunk in response.content.iter_chunked(_CHUNK):
                    body += chunk
                    if len(body) > _MOST_SAID:
                        break
        except (TimeoutError, aiohttp.ClientError):
            pass  # what came has to do
        try:
            said = orjson.loads(bytes(body))
        except orjson.JSONDecodeError:
            said = None
        error = said.get("error", said) if isinstance(said, dict) else None
        return self._fault(
            f"upstream_{status}",
            f"it answered {status}",
            kind_of_error(error, status=status) or kind_of_status(status),
            may_pass=status >= 400,  # noqa: PLR2004 - what is no error is no answer either, and stays so
            retry_after_s=hint_s(response.headers, bytes(body), now=datetime.now(UTC)),
            status=status,
        )

    def _oversized(self) -> ProviderError:
        return self._fault("upstream_oversized", "its response is larger than allowed", FailureKind.GARBAGE, may_pass=False)

    def _fault(self, code: str, what: str, kind: FailureKind, **about: Any) -> ProviderError:
        return ProviderError(f"provider {self._name}: {what}", code=code, kind=kind, **about)

    async def _session(self) -> aiohttp.ClientSession:
        """The session of the running loop. The loop closes it when it ends, as it does with every generator that was begun on it."""
        loop = asyncio.get_running_loop()
        held = self._sessions.get(loop)
        if held is None:
            holder = self._open()
            held = _Held(await anext(holder), holder)
            with self._opening:
                for ended in [known for known in self._sessions if known.is_closed()]:
                    del self._sessions[ended]
                self._sessions[loop] = held
        return held.session

    async def _open(self) -> AsyncGenerator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), headers=self._headers, timeout=self._timeout
        ) as session:
            yield session


def _patient(connect_s: float) -> aiohttp.ClientTimeout:
    """For a caller who counts the time of the answer."""
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s, sock_read=None)


def _body(request: Mapping[str, Any]) -> bytes:
    """The request as JSON.

    Raises:
        ProviderError: the assistant's code put something into it that JSON does not hold.
    """
    try:
        return orjson.dumps(dict(request))
    except TypeError:
        raise ProviderError("the request is nothing that JSON holds", code="bad_model_request", may_pass=False) from None


def _headers(attempt: int, sending: Sending | None) -> dict[str, str]:
    headers = {"x-stainless-retry-count": str(attempt - 1)}
    if sending is None:
        return headers
    if sending.left_s < math.inf:
        headers["x-deadline-ms"] = str(max(0, int(sending.left_s * 1000)))
    if sending.idempotency_key is not None:
        headers["Idempotency-Key"] = sending.idempotency_key
    return headers


def _n(request: Mapping[str, Any]) -> int:
    """How many answers the request asks for."""
    n = request.get("n")
    return n if isinstance(n, int) and n > 1 else 1
