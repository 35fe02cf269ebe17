"""A provider behind an OpenAI-compatible address.

Whatever goes wrong there becomes a ProviderError that names the provider and what happened, and nothing of the key, the address or a body.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Mapping
from typing import Any, NamedTuple

import aiohttp
import orjson

from workbench.controls.addresses import Address
from workbench.controls.providers import ProviderError

CONNECT_S = 5.0
"""To reach the provider at all."""
SILENCE_S = 120.0
"""Without a byte from the provider; the turn's own limit is usually shorter."""
LARGEST_RESPONSE = 8 << 20
"""Bytes of a response, unpacked."""
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which another attempt may help."""
_CHUNK = 1 << 16


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
        self._endpoint = f"{address.url}/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if address.key is not None:
            self._headers["Authorization"] = f"Bearer {address.key}"
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s, sock_read=silence_s)
        self._largest = largest
        self._sessions: dict[asyncio.AbstractEventLoop, _Held] = {}
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"Upstream({self._name!r})"

    async def complete(self, request: Mapping[str, Any], *, attempt: int = 1) -> Mapping[str, Any]:
        """The chat completion that the provider gives.

        Raises:
            ProviderError: with the code `upstream_down`, `upstream_silent`, `upstream_cut_off`, `upstream_<status>`, `upstream_oversized`,
                `upstream_garbage` or `bad_model_request`.
        """
        session = await self._session()
        headers = {"x-stainless-retry-count": str(attempt - 1)}
        try:
            async with session.post(self._endpoint, data=_body(request), headers=headers, allow_redirects=False) as response:
                if response.status != 200:  # noqa: PLR2004 - OK
                    raise self._refused(response)
                return self._parsed(await self._read(response))
        except aiohttp.SocketTimeoutError:
            raise self._fault("upstream_silent", "it was silent for too long", may_pass=False) from None
        except aiohttp.ClientConnectionError:
            raise self._fault("upstream_down", "it cannot be reached, or closed the connection") from None
        except aiohttp.ClientError:
            raise self._fault("upstream_cut_off", "its response was cut off or malformed") from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > self._largest:
                raise self._fault("upstream_oversized", f"its response is larger than {self._largest} bytes", may_pass=False)
        return bytes(body)

    def _parsed(self, body: bytes) -> Mapping[str, Any]:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise self._fault("upstream_garbage", "its response is no JSON") from None
        if not isinstance(parsed, dict):
            raise self._fault("upstream_garbage", "its response is no JSON object")
        return parsed

    def _refused(self, response: aiohttp.ClientResponse) -> ProviderError:
        status = response.status
        return self._fault(
            f"upstream_{status}", f"it answered {status}", may_pass=status in _PASSING, retry_after_s=retry_after_s(response.headers)
        )

    def _fault(self, code: str, what: str, *, may_pass: bool = True, retry_after_s: float | None = None) -> ProviderError:
        return ProviderError(f"provider {self._name}: {what}", code=code, may_pass=may_pass, retry_after_s=retry_after_s)

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


def _body(request: Mapping[str, Any]) -> bytes:
    """The request as JSON.

    Raises:
        ProviderError: the assistant's code put something into it that JSON does not hold.
    """
    try:
        return orjson.dumps(dict(request))
    except TypeError:
        raise ProviderError("the request is nothing that JSON holds", code="bad_model_request", may_pass=False) from None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the provider asks to be left alone: `retry-after-ms`, else `retry-after` in seconds; None when it says neither."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / scale
        except ValueError:
            continue
        if 0 <= seconds < math.inf:
            return seconds
    return None
