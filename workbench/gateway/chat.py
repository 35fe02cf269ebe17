"""OpenAI's chat completions as this gateway speaks them: a request in, an answer out. Pure.

The bundle decides the model and how it is asked, so what a client says about that (`temperature`, `tools`, …) has no effect. It is
named back in the header `x-workbench-ignored`: silently dropped is what nobody finds. What would change the form of the answer
(`stream`, `n`) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from workbench.controls.admission import LONGEST_NAME
from workbench.controls.model import Answer
from workbench.gateway.problem import Problem, bad_request
from workbench.spec.faults import path_text

Headers = Mapping[bytes, bytes]
"""Names in lower case. Of a name that came twice, the last."""

_UNIT, _SESSION, _WORKFLOW = b"x-workbench-unit", b"x-workbench-session", b"x-workbench-workflow"
_DEADLINE_MS, _READ_TIMEOUT_S = b"x-deadline-ms", b"x-stainless-read-timeout"
_MOST_METADATA = 16
_MOST_IGNORED = 20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_PLAIN_TEXT = re.compile(r"[\x20-\x7e]+", re.ASCII)
_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One chat request, checked."""

    app: str
    """What the dialect calls `model`."""
    messages: tuple[dict[str, Any], ...]
    """Oldest first; every content is one text."""
    unit: str | None
    session: str | None
    workflow: str | None
    metadata: Mapping[str, str]
    deadline_s: float | None
    """Seconds that the caller still waits, not above 0 when it is past; None when it does not say."""
    ignored: tuple[str, ...]
    """Fields of the request that have no effect, by name."""


def _joined(content: object) -> object:
    """A content of text parts as one text; everything else as it is.

    Raises:
        PydanticCustomError: a part is not text.
    """
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise PydanticCustomError("text_parts", "Content should be text, or a list of parts of the type text that is not empty")
    return "\n".join(str(text) for text in texts)


class _Wire(BaseModel):
    """What arrives: of exact types, and with fields that we do not know."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class _Function(_Wire):
    name: str
    arguments: str


class _ToolCall(_Wire):
    id: str
    type: Literal["function"]
    function: _Function


class _Message(_Wire):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_joined)] = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[_ToolCall, ...] | None = None

    def plain(self) -> dict[str, Any]:
        """What the bundle gets to see; OpenAI's form without what we do not know."""
        known: dict[str, Any] = {"role": self.role, "content": self.content}
        for name in ("name", "tool_call_id"):
            value = getattr(self, name)
            if value is not None:
                known[name] = value
        if self.tool_calls:
            known["tool_calls"] = [
                {"id": call.id, "type": call.type, "function": {"name": call.function.name, "arguments": call.function.arguments}}
                for call in self.tool_calls
            ]
        return known


_Key = Annotated[str, StringConstraints(max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]


class _Body(_Wire):
    """The fields that have an effect. The limits of `metadata` are OpenAI's."""

    model: str
    messages: tuple[_Message, ...] = Field(min_length=1)
    stream: bool | None = None
    n: int | None = None
    user: str | None = Field(default=None, max_length=LONGEST_NAME)
    safety_identifier: str | None = Field(default=None, max_length=LONGEST_NAME)
    metadata: dict[_Key, _Value] | None = Field(default=None, max_length=_MOST_METADATA)


def read_chat(body: bytes, headers: Headers) -> ChatRequest:
    """The request as the controls take it.

    Raises:
        Problem: it is not a chat request, or asks for what this gateway does not do.
    """
    try:
        asked = _Body.model_validate_json(body)
    except ValidationError as error:
        raise _told(error) from None  # the original holds what the caller sent
    _refuse_other_forms(asked)
    for place, message in enumerate(asked.messages):
        _check_content(message, f"messages[{place}]")
    metadata = asked.metadata or {}
    session = _first(_text(headers, _SESSION), metadata.get("session_id"))
    return ChatRequest(
        app=asked.model,
        messages=tuple(message.plain() for message in asked.messages),
        unit=_first(_text(headers, _UNIT), asked.safety_identifier, asked.user, session),
        session=session,
        workflow=_first(_text(headers, _WORKFLOW), metadata.get("workflow")),
        metadata=metadata,
        deadline_s=_deadline_s(headers),
        ignored=_ignored(asked),
    )


def completion(answer: Answer, *, app: str, at: datetime) -> bytes:
    """The answer as OpenAI's chat completion. Tokens that nobody counted are left out, not zero."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.content, "refusal": None},
        "logprobs": None,
        "finish_reason": _finish_reason(answer),
    }
    body: dict[str, Any] = {
        "id": answer.request_id,
        "object": "chat.completion",
        "created": int(at.timestamp()),
        "model": answer.model_served or app,
        "system_fingerprint": answer.bundle_id,
        "choices": [choice],
    }
    if answer.input_tokens is not None and answer.output_tokens is not None:
        body["usage"] = {
            "prompt_tokens": answer.input_tokens,
            "completion_tokens": answer.output_tokens,
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
    return orjson.dumps(body)


def answer_headers(answer: Answer, *, ignored: Iterable[str] = ()) -> list[tuple[bytes, bytes]]:
    """What the controls did, for whoever debugs the client. What no header can carry is left out: it would cost the answer."""
    told = {
        b"x-workbench-bundle": answer.bundle_id,
        b"x-workbench-arm": answer.arm,
        b"x-workbench-release": answer.release_id,
        b"x-workbench-attempts": str(answer.attempts),
        b"x-workbench-fallback": "true" if answer.is_fallback else "false",
        b"x-handoff-id": answer.handoff_id,
        b"x-workbench-ignored": ", ".join(ignored),
    }
    return [(name, value.encode()) for name, value in told.items() if value and _PLAIN_TEXT.fullmatch(value)]


def model_list(apps: Iterable[str], *, at: datetime) -> bytes:
    """The apps as OpenAI's list of models."""
    return orjson.dumps({"object": "list", "data": [_model(app, at) for app in apps]})


def model(app: str, *, at: datetime) -> bytes:
    """One app as OpenAI's model."""
    return orjson.dumps(_model(app, at))


def _model(app: str, at: datetime) -> dict[str, Any]:
    return {"id": app, "object": "model", "created": int(at.timestamp()), "owned_by": "workbench"}


def _refuse_other_forms(asked: _Body) -> None:
    if asked.stream:
        raise Problem(501, "streaming_not_supported", "This gateway does not stream yet; send stream: false.", param="stream")
    if asked.n is not None and asked.n != 1:
        raise bad_request("This gateway gives one choice per request; leave n out or send 1.", param="n", code="unsupported_value")


def _check_content(message: _Message, param: str) -> None:
    """Refuse a message without text, except the assistant's that calls a tool.

    Raises:
        Problem: it has none.
    """
    if message.content is None and not (message.role == "assistant" and message.tool_calls):
        raise bad_request(f"{param}.content: text is needed.", param=f"{param}.content")
    if message.role == "tool" and message.tool_call_id is None:
        raise bad_request(f"{param}.tool_call_id: a tool's message names the call that it answers.", param=f"{param}.tool_call_id")


def _told(error: ValidationError) -> Problem:
    """The first finding in words that repeat nothing of the body."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return bad_request("The body is not JSON.", code="invalid_json")
    param = path_text(_field(first["loc"]))
    if not param:
        return bad_request("The body should be a JSON object.")
    return bad_request(f"{param}: {first['msg']}.", param=param)


def _field(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place, cut before a key that the caller chose."""
    return location[:1] if location[:1] == ("metadata",) else location


def _first(*names: str | None) -> str | None:
    """The first name that says something, without the blanks around it: a header cannot carry those."""
    return next((name.strip() for name in names if name and name.strip()), None)


def _text(headers: Headers, name: bytes) -> str | None:
    """A header's text in UTF-8; None when it is absent.

    Raises:
        Problem: it is not UTF-8, or too long.
    """
    raw = headers.get(name)
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise bad_request(f"The header {name.decode()} is not UTF-8.", param=name.decode()) from None
    if len(text) > LONGEST_NAME:
        raise bad_request(f"The header {name.decode()} is longer than {LONGEST_NAME} characters.", param=name.decode())
    return text


def _deadline_s(headers: Headers) -> float | None:
    """Seconds that the caller still waits: our own header, else the one that OpenAI's clients send.

    Raises:
        Problem: it is not a number.
    """
    for name, per_second in ((_DEADLINE_MS, 1000.0), (_READ_TIMEOUT_S, 1.0)):
        raw = headers.get(name)
        if raw is None:
            continue
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            raise bad_request(f"The header {name.decode()} is not a number.", param=name.decode())
        return value / per_second
    return None


def _ignored(asked: _Body) -> tuple[str, ...]:
    """The names of what has no effect; a name that no header can carry is left out."""
    extras = asked.model_extra or {}
    within = {f"messages.{name}" for message in asked.messages for name in _given(message.model_extra or {})}
    return tuple(sorted([*_given(extras), *within]))[:_MOST_IGNORED]


def _given(extras: Mapping[str, Any]) -> list[str]:
    return [name for name, value in extras.items() if value is not None and _PLAIN_NAME.fullmatch(name)]


def _finish_reason(answer: Answer) -> str:
    """One of the dialect's; a bundle may know others, or none where no model answered."""
    if answer.finish_reason in _FINISH_REASONS:
        return str(answer.finish_reason)
    return "content_filter" if answer.status == "blocked" else "stop"
