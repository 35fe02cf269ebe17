"""A streamed answer on its way out: headers when the first content may leave, then events as they come, then a true end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from workbench.controls.model import Answer
from workbench.gateway import sse
from workbench.gateway.backing import AnswerStream
from workbench.gateway.completions import told
from workbench.gateway.exchange import Exchange, Send
from workbench.gateway.problem import Problem

MOST_WAITING_BYTES = 256 << 10
"""Of a stream whose client reads slower than the model writes; then the model waits."""
_NOT_WHOLE = Problem(502, "truncated", "The answer ended before it was whole.")


async def stream_out(
    exchange: Exchange,
    streaming: AbstractAsyncContextManager[AnswerStream],
    *,
    app: str,
    at: datetime,
    has_usage: bool,
    ignored: Iterable[str],
) -> None:
    """Send the stream. Whatever happens before its first content is raised and may become a status; later it becomes an error event.

    Raises:
        RequestRefused: nothing was answered.
    """
    outbox: Outbox | None = None
    try:
        async with streaming as stream:
            head = stream.head
            exchange.access.note(head)
            chunks = sse.Chunks(head, app=app, at=at, has_usage=has_usage)
            await exchange.begin(200, [*sse.HEADERS, *told(head, ignored=ignored)])
            outbox = Outbox(exchange.send)
            async for event in stream:
                outbox.put(chunks.of(event))
                if outbox.is_full:
                    await outbox.has_room()
            answer = stream.answer
        last = _end(exchange, chunks, answer)
    except (Exception, asyncio.CancelledError) as error:  # the edge: once begun, only the stream itself can tell
        if outbox is None:
            raise
        problem = exchange.problem_of(error)
        last = sse.broken(problem) if problem else b""
    await outbox.end(last)


def _end(exchange: Exchange, chunks: sse.Chunks, answer: Answer) -> bytes:
    exchange.access.note(answer)
    if chunks.is_whole:
        return chunks.end(answer)
    exchange.access.code = _NOT_WHOLE.code
    return sse.broken(_NOT_WHOLE)


class Outbox:
    """Sends what is put into it: all that came in one turn of the loop at once, and never more than the client can take.

    Args:
        send: takes parts of a response's body.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: list[bytes] = []
        self._size = 0
        self._changed = asyncio.Event()
        self._emptied = asyncio.Event()
        self._is_ended = False
        self._sending = asyncio.create_task(self._run())

    def put(self, piece: bytes) -> None:
        """Send the piece soon."""
        self._waiting.append(piece)
        self._size += len(piece)
        self._changed.set()

    @property
    def is_full(self) -> bool:
        return self._size > MOST_WAITING_BYTES

    async def has_room(self) -> None:
        """Return when what was put in is on its way."""
        self._emptied.clear()
        await self._emptied.wait()

    async def end(self, piece: bytes) -> None:
        """Send the last piece, and return when everything is on its way."""
        self._is_ended = True
        self.put(piece)
        try:
            await self._sending
        finally:
            self._sending.cancel()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            body, is_ended = b"".join(self._waiting), self._is_ended
            self._waiting.clear()
            self._size = 0
            await self._send({"type": "http.response.body", "body": body, "more_body": not is_ended})
            self._emptied.set()
            if is_ended:
                return
