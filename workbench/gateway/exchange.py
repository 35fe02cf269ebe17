"""One HTTP request and its response: what comes in is read within limits, what goes out is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.controls.model import StreamBroken
from workbench.controls.pipeline import STOPPING
from workbench.errors import RequestRefused
from workbench.gateway.about import Headers
from workbench.gateway.access import Access, write_fault
from workbench.gateway.completions import Header
from workbench.gateway.problem import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_BODY_BYTES = 4 << 20
BODY_WAIT_S = 30.0
"""How long a request may take to arrive."""
CLIENT_LEFT = "client_left"
"""The message with which the server cancels a request whose connection is gone, `task.cancel(CLIENT_LEFT)`."""
NOT_MODIFIED = 304
PLAIN = b"identity"
"""The encoding of a body that is not packed."""
JSON: Header = (b"content-type", b"application/json")


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response that is sent at once."""

    status: int
    body: bytes
    headers: Sequence[Header] = ()
    content_type: Header = JSON


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request on its way."""

    path: str
    headers: Headers
    receive: Receive
    send: Send
    access: Access
    is_arrived: bool = False
    """Whether the whole body is known to be there."""

    @property
    def encoding(self) -> bytes:
        """How the body is packed."""
        return self.headers.get(b"content-encoding", PLAIN).strip().lower()

    async def reply(self, reply: Reply) -> None:
        """Send the response."""
        headers = [reply.content_type, (b"content-length", b"%d" % len(reply.body))] if reply.status != NOT_MODIFIED else []
        await self.begin(reply.status, (*headers, *reply.headers))
        await self.send({"type": "http.response.body", "body": reply.body})

    async def begin(self, status: int, headers: Iterable[Header]) -> None:
        """Send the head of a response."""
        self.access.status = status
        own = (b"x-request-id", self.access.request_id.encode())
        await self.send({"type": "http.response.start", "status": status, "headers": [*headers, own]})

    async def body(self, *, most_bytes: int, wait_s: float, encodings: Collection[bytes] = (PLAIN,)) -> bytes:
        """The request's body, as it came.

        Raises:
            Problem: it is too long, too slow or in another encoding than these.
            ClientLeft: it will not come.
        """
        if self.encoding not in encodings:
            others = [name.decode() for name in encodings if name != PLAIN]
            needed = f"send it plain or as {' or '.join(others)}" if others else "send no content-encoding"
            raise Problem(415, "unsupported_encoding", f"This gateway reads plain bodies; {needed}.")
        if int(self.headers.get(b"content-length", 0)) > most_bytes:
            raise _too_long(most_bytes)
        if self.is_arrived:  # the usual case, and a timer costs more than reading
            return await self._received(most_bytes)
        try:
            async with asyncio.timeout(wait_s):
                return await self._received(most_bytes)
        except TimeoutError:
            raise Problem(408, "body_timeout", f"The body did not arrive within {wait_s:g} s.") from None

    async def _received(self, most_bytes: int) -> bytes:
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece: bytes = message.get("body", b"")
            if len(body) + len(piece) > most_bytes:
                raise _too_long(most_bytes)
            if not message.get("more_body", False):
                return bytes(body + piece) if body else piece
            body += piece

    def problem_of(self, error: BaseException) -> Problem | None:
        """What the caller is told of what went wrong; None when nobody is there to read it. What nobody foresaw is logged."""
        problem = self._problem_of(error)
        self.access.code = problem.code if problem else "client_left"
        return problem

    def _problem_of(self, error: BaseException) -> Problem | None:
        if isinstance(error, Problem):
            return error
        if isinstance(error, RequestRefused):
            return Problem.of(error)
        if isinstance(error, StreamBroken):
            return Problem(502, error.code, str(error))
        if isinstance(error, ClientLeft) or (isinstance(error, asyncio.CancelledError) and CLIENT_LEFT in error.args):
            return None
        if isinstance(error, asyncio.CancelledError):
            return Problem(503, STOPPING, "This gateway is stopping; send the request again.", retry_after_s=1)
        write_fault(self.access, error)
        return Problem(500, "internal", "The gateway failed; its log tells more under the id of this request.")


def _too_long(most_bytes: int) -> Problem:
    return Problem(413, "body_too_long", f"The body is longer than {most_bytes:,} bytes.")
