"""A model provider on this machine that fails as it is told, to see what the controls make of it.

with playing(fault(FailureKind.SILENT), then=whole("Here I am.")) as upstream:
...  # the first request is left without an answer, all others get one
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

from workbench.controls.blocking import LoopThread
from workbench.controls.failures import FailureKind
from workbench.demo.upstream import HOST

MODEL = "faulty-1"
_LONGEST_WAIT_S = 30.0


class Act(Enum):
    """What is done besides saying something."""

    HOLD = "hold"
    """Say nothing more until the client leaves."""
    RESET = "reset"
    """Break the connection."""


Play = tuple[bytes | float | Act, ...]
"""An answer: bytes to say, seconds to wait, acts. Behind the last the connection is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Any


@dataclass(slots=True, kw_only=True)
class Faulty:
    """The provider while it plays."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released when a request is there."""
    left: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released when a client leaves before the play was over."""

    def was_asked(self) -> bool:
        """Whether a request came; waits for it."""
        return self.asked.acquire(timeout=_LONGEST_WAIT_S)

    def was_left(self) -> bool:
        """Whether a client left; waits for it."""
        return self.left.acquire(timeout=_LONGEST_WAIT_S)


def head(status: int = 200, *, kind: str = "application/json", **headers: str) -> bytes:
    """The head of a response that ends with its connection; `_` in the name of a header is `-`."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(content: str = "It is on its way.", **changes: Any) -> Play:
    """A chat completion at once."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    completion = {"id": "x", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": _USAGE, **changes}
    return (head(), orjson.dumps(completion))


def refusal(status: int, *, code: str | None = None, message: str = "No.", **headers: str) -> Play:
    """A status that is not good, with an error object."""
    return (head(status, **headers), orjson.dumps({"error": {"code": code, "type": None, "message": message}}))


def event(data: Any, *, name: str | None = None) -> bytes:
    """One server-sent event; what is no bytes is said as JSON."""
    said = data if isinstance(data, bytes) else orjson.dumps(data)
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + said + b"\n\n"


def chunk(finish_reason: str | None = None, *, index: int = 0, **delta: Any) -> bytes:
    """One piece of a streamed completion."""
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return event({"id": "x", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice]})


def begun(*texts: str) -> Play:
    """A stream that says these pieces and has not ended."""
    return (head(kind="text/event-stream"), chunk(role="assistant", content=""), *(chunk(content=text) for text in texts))


def streamed(*texts: str, gap_s: float = 0.0, usage: bool = True, done: bool = True) -> Play:
    """A stream that says these pieces and comes to its end."""
    opening, *pieces = begun(*texts or ("It is ", "on its way."))
    paced = [step for piece in pieces for step in ((gap_s, piece) if gap_s else (piece,))]
    last = (event({"model": MODEL, "choices": [], "usage": _USAGE}),) if usage else ()
    return (opening, *paced, chunk("stop"), *last, *((DONE,) if done else ()))


def fault(kind: FailureKind, *, is_streamed: bool = False, is_begun: bool = False) -> Play:
    """A play that leads to a failure of that kind.

    Args:
        kind: a kind that a provider can cause.
        is_streamed: whether a stream is asked for.
        is_begun: whether it fails after the first word; then it is a stream in any case, and `mid_stream` for who passed the word on.

    Raises:
        LookupError: no provider can cause it, or not at that place.
    """
    if is_begun:
        return (*begun("It is "), *_MID_STREAM[kind])
    opening = begun() if is_streamed else ()
    if kind in _WHILE_OPENING:
        return (*(opening or (head(),)), *_WHILE_OPENING[kind])
    return _AT_ONCE[kind]


DONE = event(b"[DONE]")
_USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
_AT_ONCE: Mapping[FailureKind, Play] = {
    FailureKind.CONNECT: (Act.RESET,),
    FailureKind.SILENT: (Act.HOLD,),
    FailureKind.TRANSIENT: refusal(503),
    FailureKind.GARBAGE: (head(kind="text/html"), b"<html>It works!</html>"),
    FailureKind.RATE_LIMITED: refusal(429, code="rate_limit_exceeded", retry_after_ms="20"),
    FailureKind.QUOTA: refusal(429, code="insufficient_quota"),
    FailureKind.CREDENTIAL: refusal(401, code="invalid_api_key"),
    FailureKind.NO_MODEL: refusal(404, code="model_not_found"),
    FailureKind.CONTEXT_LENGTH: refusal(400, code="context_length_exceeded"),
    FailureKind.CONTENT_FILTER: refusal(400, code="content_filter"),
    FailureKind.BAD_REQUEST: refusal(422, code="invalid_request_error"),
}
_WHILE_OPENING: Mapping[FailureKind, Play] = {FailureKind.FIRST_TOKEN: (Act.HOLD,)}
_MID_STREAM: Mapping[FailureKind, Play] = {
    FailureKind.SLOW: (Act.HOLD,),
    FailureKind.GARBAGE: (),
    **{
        kind: (event({"error": {"code": code, "message": "No."}}),)
        for kind, code in (
            (FailureKind.TRANSIENT, "server_error"),
            (FailureKind.RATE_LIMITED, "rate_limit_exceeded"),
            (FailureKind.QUOTA, "insufficient_quota"),
            (FailureKind.CREDENTIAL, "invalid_api_key"),
            (FailureKind.NO_MODEL, "model_not_found"),
            (FailureKind.CONTEXT_LENGTH, "context_length_exceeded"),
            (FailureKind.CONTENT_FILTER, "content_filter"),
            (FailureKind.BAD_REQUEST, "invalid_request_error"),
        )
    },
}


@contextmanager
def playing(*plays: Play, then: Play | None = None) -> Iterator[Faulty]:
    """The provider on loopback: one play for each request, in order, and `then` (or the last one) for all others."""
    waiting, last = iter(plays), then if then is not None else plays[-1]
    with playing_to(lambda _seen: next(waiting, last)) as faulty:
        yield faulty


@contextmanager
def playing_to(choose: Callable[[Seen], Play]) -> Iterator[Faulty]:
    """The provider on loopback, which plays for each request what is chosen for it; other paths may be other providers."""
    faulty, loop = Faulty(), LoopThread()
    stage = _Stage(faulty, choose)
    try:
        faulty.url = loop.run(stage.open())
        yield faulty
    finally:
        loop.run(stage.close())
        loop.close()


class _Stage:
    """Where the plays are played, on one loop."""

    def __init__(self, faulty: Faulty, choose: Callable[[Seen], Play]) -> None:
        self._faulty = faulty
        self._choose = choose
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._meet, HOST, 0)
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}/v1"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                seen = await _request(reader)
                self._faulty.seen.append(seen)
                self._faulty.asked.release()
                await self._play(self._choose(seen), reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _play(self, play: Play, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        leaving = asyncio.ensure_future(reader.read(1))  # the client says nothing more: it ends when the client hangs up
        try:
            for step in play:
                if step is Act.RESET:
                    writer.transport.abort()
                    return
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                    continue
                await asyncio.wait([leaving], timeout=None if isinstance(step, Act) else step)
                if leaving.done():
                    self._faulty.left.release()
                    return
        except ConnectionError:  # who has left is told so by the next word, too
            self._faulty.left.release()
        finally:
            leaving.cancel()
            with suppress(ConnectionError, asyncio.CancelledError):
                await leaving


async def _request(reader: asyncio.StreamReader) -> Seen:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(path=first.split()[1], headers=headers, body=orjson.loads(body or b"null"))
