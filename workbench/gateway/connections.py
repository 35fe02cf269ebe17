"""A connection that no client can hold for nothing: uvicorn's, with limits on what it waits for, and the news when its client leaves."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from workbench.gateway.asgi import CONNECTION
from workbench.gateway.exchange import CLIENT_LEFT, MOST_BODY_BYTES

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

HEAD_WAIT_S = 15.0
"""How long the head of a request may take to arrive, from the connection or from its first byte."""
STALL_S = 30.0
"""How long a client may read nothing of what it was sent, beyond what the buffers hold."""
MOST_HEAD_BYTES = 64 << 10
MOST_REQUEST_BYTES = 8 * MOST_BODY_BYTES
"""With everything that frames a body: the sizes of its chunks, what trails it."""
_MOST_CONNECTIONS = 10_000
_LEAST_CONNECTIONS = 16


def most_connections() -> int:
    """How many connections are kept: half of the files that this process may open, because each may need one to a model."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(_LEAST_CONNECTIONS, min(_MOST_CONNECTIONS, soft // 2))


class Connection(HttpToolsProtocol):
    """One client's connection. `task` is what answers it now; it is cancelled when the client leaves."""

    head_wait_s = HEAD_WAIT_S
    stall_s = STALL_S
    most = _MOST_CONNECTIONS

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config, server_state, {**app_state, CONNECTION: self}, _loop)
        self.task: asyncio.Task[Any] | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._is_in_head = False
        self._piece_bytes = 0
        self._request_bytes = 0
        """Of the request that is arriving, without the piece that it began in."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(b"503 Service Unavailable", b"retry-after: 1\r\n")
        else:
            self._head_timer = self.loop.call_later(self.head_wait_s, self._is_late)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._request_bytes = -self._piece_bytes

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._is_in_head = False

    def data_received(self, data: bytes) -> None:
        self._piece_bytes = len(data)
        super().data_received(data)
        self._request_bytes += len(data)
        is_between = self._is_between
        if self._is_in_head and self._request_bytes > MOST_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._request_bytes > MOST_REQUEST_BYTES and not is_between:
            self._refuse(b"413 Content Too Large")
        elif not is_between:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_wait_s, self._is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        if self.task is not None:
            self.task.cancel(CLIENT_LEFT)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    @property
    def is_body_here(self) -> bool:
        """Whether the request that is answered now has arrived whole; of pipelined ones nothing is said."""
        return not self.pipeline and not self.cycle.more_body

    @property
    def _is_between(self) -> bool:
        """Whether no request is in hand: the next one's head is to come, or the rest of one that was answered before it was read."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _is_late(self) -> None:
        self._head_timer = None
        if self._is_between:
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes, headers: bytes = b"") -> None:
        """End the connection; what else may come is not waited for."""
        if not self.transport.is_closing():
            if self._is_between:
                self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + headers + b"connection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()
