"""A model provider on loopback whose answers are functions of the request: text and tool calls, whole or in small pieces, and vectors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Call = tuple[str, str]
"""Name and arguments of a tool call, as the model writes them."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the model answers."""

    text: str | None = None
    calls: Sequence[Call] = ()
    reason: str | None = None
    """By default what fits."""
    model: str = "house-1"
    ids: Sequence[str] = ()
    """Of the calls; by default numbered."""
    pieces: Sequence[str] | None = None
    """The text as it is streamed; by default in pieces of three characters."""
    after_s: float = 0.0
    status: int = 200
    body: bytes | None = None
    """Sent instead of everything else."""
    is_cut: bool = False
    """Whether a stream breaks off before its end."""

    @property
    def finish_reason(self) -> str:
        return self.reason or ("tool_calls" if self.calls else "stop")

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        ids = self.ids or [f"call_{number}" for number in range(len(self.calls))]
        return [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, (name, arguments) in zip(ids, self.calls, strict=True)
        ]


@dataclass
class Scripted:
    """The provider while it runs."""

    say: Callable[[Mapping[str, Any]], Said] = lambda _request: Said(text="It is on its way.")
    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)


def last_text(request: Mapping[str, Any]) -> str:
    """What the user said last."""
    return str(next(message["content"] for message in reversed(request["messages"]) if message["role"] == "user"))


@contextmanager
def scripted(say: Callable[[Mapping[str, Any]], Said] | None = None) -> Iterator[Scripted]:
    """The provider."""
    model = Scripted() if say is None else Scripted(say)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            model.seen.append(request)
            if self.path.endswith("/embeddings"):
                vectors = [{"index": n, "embedding": [float(n), 0.5]} for n in range(len(request["input"]))]
                self._send(200, json.dumps({"model": "vec-1", "data": vectors, "usage": {"prompt_tokens": 3}}).encode())
                return
            said = model.say(request)
            if said.after_s:
                time.sleep(said.after_s)
            if said.body is not None or not request.get("stream"):
                self._send(said.status, said.body if said.body is not None else _completion(said))
            else:
                self._send(200, b"".join(_chunks(said)), kind="text/event-stream")

        def _send(self, status: int, body: bytes, *, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """A gateway that hangs up leaves its connections."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        model.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield model
        finally:
            server.shutdown()
            thread.join()


def _completion(said: Said) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    if said.calls:
        message["tool_calls"] = said.tool_calls
    choice = {"index": 0, "message": message, "finish_reason": said.finish_reason}
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    return json.dumps({"id": "x", "model": said.model, "choices": [choice], "usage": usage}).encode()


def _chunks(said: Said) -> Iterator[bytes]:
    """The answer in pieces; a tool's name comes letter by letter, its arguments in threes."""
    text = said.text or ""
    for piece in [text[place : place + 3] for place in range(0, len(text), 3)] if said.pieces is None else said.pieces:
        yield _chunk(said, {"content": piece})
    for index, call in enumerate(said.tool_calls):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        yield _chunk(said, {"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": {"name": name[:1]}}]})
        for letter in name[1:]:
            yield _chunk(said, {"tool_calls": [{"index": index, "function": {"name": letter}}]})
        for place in range(0, len(arguments), 3):
            yield _chunk(said, {"tool_calls": [{"index": index, "function": {"arguments": arguments[place : place + 3]}}]})
    if not said.is_cut:
        yield _chunk(said, {}, reason=said.finish_reason)
        yield b"data: [DONE]\n\n"


def _chunk(said: Said, delta: Mapping[str, Any], *, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps({"id": "x", "model": said.model, "choices": [choice]}).encode() + b"\n\n"
