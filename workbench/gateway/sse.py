"""A streamed answer as OpenAI's server-sent events. Pure.

`data: [DONE]` ends a stream that is whole and no other: what broke ends with one `error` event, so that no client takes half an
answer for one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from workbench.controls.events import Finished, TextPart, ToolPart
from workbench.controls.model import Answer, Head
from workbench.gateway.completions import Header, finish_reason, usage
from workbench.gateway.problem import Problem

HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
"""The last one asks nginx, and those that understand it, to pass on what comes when it comes."""
_DONE = b"data: [DONE]\n\n"


class Chunks:
    """Writes the events of one answer.

    Args:
        head: what is known when it begins.
        app: named as the model where no model is known.
        at: the time.
        has_usage: whether the tokens are told at the end.
    """

    def __init__(self, head: Head, *, app: str, at: datetime, has_usage: bool) -> None:
        fixed = {
            "id": head.request_id,
            "object": "chat.completion.chunk",
            "created": int(at.timestamp()),
            "model": head.model_served or app,
            "system_fingerprint": head.bundle_id,
        }
        self._before = b"data: " + orjson.dumps(fixed)[:-1] + b',"choices":['
        self._after = b'],"usage":null}\n\n' if has_usage else b"]}\n\n"
        self._has_usage = has_usage
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._calls: set[tuple[int, int]] = set()

    def of(self, event: TextPart | ToolPart | Finished) -> bytes:
        """The event; the first of a choice is preceded by its role."""
        number = event.choice
        before = b"" if number in self._begun else self._begin(number)
        if type(event) is TextPart:
            return before + self._chunk(number, {"content": event.text})
        if type(event) is ToolPart:
            return before + self._chunk(number, {"tool_calls": [self._call(event)]})
        self._finished.add(number)
        return before + self._chunk(number, {}, finish_reason(event.reason))  # type: ignore[union-attr]

    @property
    def is_whole(self) -> bool:
        """Whether every choice that began has come to its end."""
        return bool(self._begun) and self._begun == self._finished

    def end(self, answer: Answer) -> bytes:
        """What ends a stream that is whole. Tokens that nobody counted are not told."""
        counted = usage(answer) if self._has_usage else None
        if counted is None:
            return _DONE
        return self._before + b'],"usage":' + orjson.dumps(counted) + b"}\n\n" + _DONE

    def _begin(self, number: int) -> bytes:
        self._begun.add(number)
        return self._chunk(number, {"role": "assistant", "content": "", "refusal": None})

    def _chunk(self, number: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": reason}
        return b"".join((self._before, orjson.dumps(choice), self._after))

    def _call(self, part: ToolPart) -> dict[str, Any]:
        """A stretch of a tool call; only its first names what is called."""
        key = (part.choice, part.index)
        if key in self._calls:
            return {"index": part.index, "function": {"arguments": part.arguments}}
        self._calls.add(key)
        return {"index": part.index, "id": part.call_id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}


def broken(problem: Problem) -> bytes:
    """What ends a stream that cannot be finished."""
    return b"data: " + problem.body + b"\n\n"
