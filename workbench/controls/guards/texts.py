"""The texts in a message of a talk, wherever the form puts them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from workbench.controls.guards.arguments import strings_in
from workbench.controls.model import Message

_PARTS = ("text", "refusal", "input_text", "output_text")
"""Where a part of a message's content keeps its text, and the types of such parts."""
_NO_TEXT = ("image_url", "input_image", "input_audio", "file", "input_file")
"""Parts that hold pictures, sound and files, which no guard can read."""


def texts_of(message: Message) -> Iterator[str]:
    """Every text of a message: its content, in one piece or in parts, its sender's name and the arguments of its tool calls."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, Sequence):
        for part in content:
            yield from (part[key] for key in _keys(part)) if _keys(part) else _strange(part)
    name = message.get("name")
    if isinstance(name, str):
        yield name
    for call in _calls(message):
        yield call["function"]["arguments"]


def with_texts(message: Message, texts: Sequence[str]) -> Message:
    """The message with other texts, in the order of `texts_of`.

    A name that changed is left out, and arguments that are no JSON any more become empty ones: both have a form that has to be kept.
    """
    rest = iter(texts)
    changed: dict[str, Any] = dict(message)
    content = message.get("content")
    if isinstance(content, str):
        changed["content"] = next(rest)
    elif isinstance(content, Sequence):
        changed["content"] = [_with_text(part, rest) for part in content]
    if isinstance(message.get("name"), str) and next(rest) != message["name"]:
        del changed["name"]
    if any(True for _ in _calls(message)):
        known = {id(call) for call in _calls(message)}
        changed["tool_calls"] = [_with_arguments(call, next(rest)) if id(call) in known else call for call in message["tool_calls"]]
    return changed


def _with_text(part: Any, rest: Iterator[str]) -> Any:
    keys = _keys(part)
    if keys:
        return {**part, **{key: next(rest) for key in keys}}
    for text in _strange(part):
        told = next(rest)
        return part if told == text else {"type": "text", "text": told}
    return part


def _keys(part: Any) -> list[str]:
    """Where a part of a known kind keeps its text."""
    is_known = isinstance(part, Mapping) and part.get("type", "text") in (*_PARTS, *_NO_TEXT)
    return [key for key in _PARTS if isinstance(part.get(key), str)] if is_known else []


def _strange(part: Any) -> Iterator[str]:
    """Every text in a part of a kind that nobody here knows, as one: a provider may know it."""
    if isinstance(part, Mapping) and isinstance(part.get("type"), str) and part["type"] not in _NO_TEXT:
        yield "\n".join(strings_in({name: value for name, value in part.items() if name != "type"}))


def _with_arguments(call: Mapping[str, Any], arguments: str) -> Mapping[str, Any]:
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        arguments = arguments if arguments == call["function"]["arguments"] else "{}"
    return {**call, "function": {**call["function"], "arguments": arguments}}


def _calls(message: Message) -> Iterator[Mapping[str, Any]]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, Sequence) and not isinstance(calls, str) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
            yield call
