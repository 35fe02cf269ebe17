"""What the chunks of a streamed chat completion say, read with care: they come from somewhere else. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from workbench.controls.completions import least_logprob, usage_details
from workbench.controls.events import Event, Finished, TextPart, ToolPart, Usage
from workbench.controls.failures import FailureKind, kind_of_error
from workbench.controls.hints import hint_of_body
from workbench.controls.providers import ProviderError
from workbench.controls.sse import ServerEvent

_MOST_CALLS = 512
_DONE = b"[DONE]"


class ChunkReader:
    """Turns server-sent events into what they say, and knows whether that is the whole answer.

    Args:
        name: of the provider, for errors.
        n: answers that were asked for.
    """

    def __init__(self, name: str, *, n: int = 1) -> None:
        self._name = name
        self._n = n
        self._finished: set[int] = set()
        self._details: dict[str, Any] = {}
        self.malformed = 0
        """Events that were dropped because they are none; one is borne."""
        self.is_done = False
        """Whether the provider said that nothing follows."""

    @property
    def is_complete(self) -> bool:
        """Whether every answer came to its end, with or without the provider's last word."""
        return len(self._finished) >= self._n

    def read(self, event: ServerEvent) -> Sequence[Event]:
        """What one event says.

        Raises:
            ProviderError: it is an error, or the second that says nothing that can be read.
        """
        if event.data == _DONE:
            self.is_done = True
            return ()
        chunk = _object(event.data)
        if chunk is not None and (chunk.get("error") or event.name == b"error"):
            raise self._error(chunk.get("error") or chunk, event.data)
        try:
            said = self._said(chunk)
        except (TypeError, ValueError):
            self._drop()
            return ()
        for told in said:
            if isinstance(told, Finished):
                self._finished.add(told.choice)
        return said

    def last(self) -> Usage | None:
        """What was said of the call; None where nothing was.

        Raises:
            ProviderError: the answer broke off.
        """
        if not self.is_complete:
            raise self._fault("upstream_truncated", "its answer broke off", FailureKind.GARBAGE)
        return Usage(details=self._details) if self._details else None

    def _said(self, chunk: Mapping[str, Any] | None) -> list[Event]:
        """The events of a chunk.

        Raises:
            TypeError: it is no chunk of a completion.
        """
        if chunk is None or not isinstance(chunk.get("choices", []), list):
            raise TypeError
        model, usage = chunk.get("model"), chunk.get("usage")
        if isinstance(model, str) and model:
            self._details["model"] = model
        if isinstance(usage, dict):
            self._details |= usage_details(usage)
        said: list[Event] = []
        for choice in chunk.get("choices", ()):
            self._choice(choice, said)
        return said

    def _choice(self, choice: Any, said: list[Event]) -> None:
        """Add what a choice of a chunk says; one that was not asked for is none."""
        number = _place(choice.get("index", 0) if isinstance(choice, dict) else None, self._n)
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise TypeError
        if choice.get("logprobs"):
            least = least_logprob((choice,))
            if least is not None:
                self._details["least_logprob"] = min(least, self._details.get("least_logprob", least))
        content, refusal = delta.get("content"), delta.get("refusal")
        if content:
            said.append(TextPart(text=_text(content), choice=number))
        if refusal:
            said.append(TextPart(text=_text(refusal), choice=number))
        said += (_tool_part(call, number) for call in delta.get("tool_calls") or ())
        reason = choice.get("finish_reason")
        if reason == "error":
            raise self._fault("upstream_error", "it ended its answer with an error", FailureKind.TRANSIENT)
        if reason:
            said.append(Finished(reason=_text(reason), choice=number))

    def _error(self, error: Any, data: bytes) -> ProviderError:
        kind = kind_of_error(error) or FailureKind.TRANSIENT
        return self._fault("upstream_error", "it said in its answer that it failed", kind, retry_after_s=hint_of_body(data))

    def _drop(self) -> None:
        self.malformed += 1
        if self.malformed > 1:
            raise self._fault("upstream_garbage", "its answer holds events that are none", FailureKind.GARBAGE)

    def _fault(self, code: str, what: str, kind: FailureKind, *, retry_after_s: float | None = None) -> ProviderError:
        return ProviderError(f"provider {self._name}: {what}", code=code, kind=kind, retry_after_s=retry_after_s)


def _object(data: bytes) -> Mapping[str, Any] | None:
    """The JSON object; None where it is none."""
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _tool_part(call: Any, choice: int) -> ToolPart:
    if not isinstance(call, dict) or not isinstance(call.get("function") or {}, dict):
        raise TypeError
    function = call.get("function") or {}
    call_id, name = call.get("id"), function.get("name")
    return ToolPart(
        index=_place(call.get("index", 0), _MOST_CALLS),
        call_id=None if call_id is None else _text(call_id),
        name=None if name is None else _text(name),
        arguments=_text(function.get("arguments") or ""),
        choice=choice,
    )


def _place(value: Any, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < most:
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
