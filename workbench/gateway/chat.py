"""A request for a chat completion, read into what the controls take. Pure.

The bundle decides the model and how it is asked, so what a client says about that (`temperature`, …) has no effect. What shapes the
answer (`tools`, `response_format`, `n`, …) counts for a proxied app; a hosted one's bundle decides that as well. Whatever has no
effect is named back in the header `x-workbench-ignored`: silently dropped is what nobody finds.

Checked by hand and not by a model class: this runs for every request, and takes a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.controls.admission import LONGEST_NAME
from workbench.controls.model import Asked
from workbench.controls.serving import HOSTED
from workbench.gateway.about import About, Headers, about
from workbench.gateway.json_body import MOST_IGNORED, given, json_object, text_of
from workbench.gateway.problem import Problem, bad_request

MOST_CHOICES = 128
"""OpenAI's limit of `n`."""
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_call_id", "tool_calls"})
_FIELDS = frozenset({"model", "messages", "stream", "stream_options", "n", "user", "safety_identifier", "metadata"})
"""Those that have an effect for every app."""
_NO_ASKED, _STREAMED = Asked(), Asked(is_streamed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One chat request, checked."""

    app: str
    """What the dialect calls `model`."""
    messages: tuple[dict[str, Any], ...]
    """Oldest first; text in parts is one text."""
    about: About
    asked: Asked
    has_usage: bool
    """Whether the end of a stream tells the tokens."""
    ignored: tuple[str, ...]
    """Fields of the request that have no effect, by name."""


def read_chat(body: bytes, headers: Headers, *, serving_of: Callable[[str], str]) -> ChatRequest:
    """The request as the controls take it.

    Args:
        body: as it came.
        headers: as they came.
        serving_of: how an app is served (`hosted`, …); may raise Problem for one that the caller may not ask.

    Raises:
        Problem: it is not a chat request, or asks for what this gateway does not do.
    """
    asked = json_object(body)
    app = text_of(asked, "model")
    is_hosted = serving_of(app) == HOSTED
    messages = asked.get("messages")
    if type(messages) is not list or not messages:
        raise bad_request("messages: a list of messages that is not empty is needed.", param="messages")
    is_streamed = _flag(asked, "stream")
    n = _choices(asked, is_hosted=is_hosted)
    return ChatRequest(
        app=app,
        messages=tuple([_message(message, place, is_hosted=is_hosted) for place, message in enumerate(messages)]),
        about=about(asked, headers),
        asked=(_STREAMED if is_streamed else _NO_ASKED) if is_hosted else _forms(asked, n=n, is_streamed=is_streamed),
        has_usage=is_streamed and _has_usage(asked),
        ignored=_ignored(asked, messages, is_hosted=is_hosted),
    )


def _flag(asked: Mapping[str, Any], name: str) -> bool:
    value = asked.get(name)
    if value is not None and type(value) is not bool:
        raise bad_request(f"{name}: true or false is needed.", param=name)
    return bool(value)


def _choices(asked: Mapping[str, Any], *, is_hosted: bool) -> int:
    n = asked.get("n")
    if n is None:
        return 1
    most = 1 if is_hosted else MOST_CHOICES
    if type(n) is not int or not 1 <= n <= most:
        needed = "This app gives one choice per request; leave n out or send 1." if is_hosted else f"n: 1 to {MOST_CHOICES} is needed."
        raise bad_request(needed, param="n", code="unsupported_value")
    return n


def _has_usage(asked: Mapping[str, Any]) -> bool:
    options = asked.get("stream_options")
    if options is None:
        return False
    if type(options) is not dict or type(options.get("include_usage", False)) is not bool:
        raise bad_request("stream_options: an object is needed, with true or false as include_usage.", param="stream_options")
    return bool(options.get("include_usage"))


def _message(message: Any, place: int, *, is_hosted: bool) -> dict[str, Any]:
    """The message without what we do not know."""
    role = message.get("role") if type(message) is dict else None
    if type(role) is not str or role not in _ROLES:
        raise _wrong(place, "role", "one of system, developer, user, assistant, tool is needed")
    content = message.get("content")
    if type(content) is not str:
        content = _content(content, place, is_hosted=is_hosted)
    known = {"role": role, "content": content}
    if content is None or len(message) > len(known):
        for name in ("name", "tool_call_id"):
            value = message.get(name)
            if value is not None:
                if type(value) is not str or len(value) > LONGEST_NAME:
                    raise _wrong(place, name, f"text of at most {LONGEST_NAME} characters is needed")
                known[name] = value
        calls = message.get("tool_calls")
        if calls:
            known["tool_calls"] = _tool_calls(calls, place)
    if content is None and not (role == "assistant" and "tool_calls" in known):
        raise _wrong(place, "content", "text is needed")
    if role == "tool" and "tool_call_id" not in known:
        raise _wrong(place, "tool_call_id", "a tool's message names the call that it answers")
    return known


def _content(content: Any, place: int, *, is_hosted: bool) -> str | list[dict[str, Any]] | None:
    """Parts of text as one text; a proxied app gets parts of other types as they are."""
    if content is None:
        return None
    if type(content) is not list or not content:
        raise _wrong(place, "content", "text, or a list of parts that is not empty, is needed")
    if all(type(part) is dict and part.get("type") == "text" and type(part.get("text")) is str for part in content):
        return "\n".join([part["text"] for part in content])
    if is_hosted:
        raise _wrong(place, "content", "this app takes parts of the type text only")
    for part in content:
        if type(part) is not dict or type(part.get("type")) is not str or (part["type"] == "text" and type(part.get("text")) is not str):
            raise _wrong(place, "content", "each part is an object with a type, and text where that is its type")
    return content


def _tool_calls(calls: Any, place: int) -> list[dict[str, Any]]:
    if type(calls) is not list:
        raise _wrong(place, "tool_calls", "a list is needed")
    known = []
    for number, call in enumerate(calls):
        where = f"tool_calls[{number}]"
        if type(call) is not dict or call.get("type") != "function":
            raise _wrong(place, f"{where}.type", "function is needed")
        function = call.get("function")
        if type(function) is not dict or type(function.get("name")) is not str or type(function.get("arguments")) is not str:
            raise _wrong(place, f"{where}.function", "an object with name and arguments as text is needed")
        if type(call.get("id")) is not str:
            raise _wrong(place, f"{where}.id", "text is needed")
        known.append({
            "id": call["id"],
            "type": "function",
            "function": {"name": function["name"], "arguments": function["arguments"]},
        })  # fmt: skip
    return known


def _wrong(place: int, field: str, needed: str) -> Problem:
    param = f"messages[{place}].{field}"
    return bad_request(f"{param}: {needed}.", param=param)


def _forms(asked: Mapping[str, Any], *, n: int, is_streamed: bool) -> Asked:
    """What shapes the answer."""
    options = {}
    for name, (is_valid, needed) in _OPTIONS.items():
        value = asked.get(name)
        if value is not None:
            if not is_valid(value):
                raise bad_request(f"{name}: {needed} is needed.", param=name)
            options[name] = value
    return Asked(tools=_tools(asked.get("tools")), n=n, options=options, is_streamed=is_streamed)


def _tools(tools: Any) -> tuple[Mapping[str, Any], ...]:
    if tools is None:
        return ()
    if type(tools) is not list:
        raise bad_request("tools: a list is needed.", param="tools")
    for place, tool in enumerate(tools):
        param = f"tools[{place}]"
        function = tool.get("function") if type(tool) is dict and tool.get("type") == "function" else None
        if type(function) is not dict:
            raise bad_request(f"{param}: a tool of the type function is needed; the controls know no other.", param=param)
        name = function.get("name")
        if type(name) is not str or not 0 < len(name) <= LONGEST_NAME:
            raise bad_request(f"{param}.function.name: text of 1 to {LONGEST_NAME} characters is needed.", param=f"{param}.function.name")
        if type(function.get("parameters", {})) is not dict:
            raise bad_request(f"{param}.function.parameters: an object is needed.", param=f"{param}.function.parameters")
    return tuple(tools)


def _is_object(value: Any) -> bool:
    return type(value) is dict


def _is_number(value: Any) -> bool:
    return type(value) is int


def _is_tokens(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_stop(value: Any) -> bool:
    return type(value) is str or (type(value) is list and all(type(text) is str for text in value))


_OPTIONS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "tool_choice": (lambda value: type(value) is str or _is_object(value), "none, auto, required or an object"),
    "parallel_tool_calls": (_is_bool, "true or false"),
    "response_format": (_is_object, "an object"),
    "stop": (_is_stop, "text or a list of texts"),
    "max_tokens": (_is_tokens, "a whole number above 0"),
    "max_completion_tokens": (_is_tokens, "a whole number above 0"),
    "seed": (_is_number, "a whole number"),
    "logprobs": (_is_bool, "true or false"),
    "top_logprobs": (_is_number, "a whole number"),
}
"""What shapes the answer of a proxied app, with what it has to be."""
_FIELDS_OF_PROXIED = (_FIELDS | _OPTIONS.keys() | {"tools"}) - {"logprobs", "top_logprobs"}
"""Log probabilities are for the controls, and are not passed back: the answer is made of guarded text."""


def _ignored(asked: Mapping[str, Any], messages: Iterable[Mapping[str, Any]], *, is_hosted: bool) -> tuple[str, ...]:
    """The names of what has no effect."""
    names = given(asked, besides=_FIELDS if is_hosted else _FIELDS_OF_PROXIED)
    within = {
        f"messages.{name}"
        for message in messages
        if len(message) > 2  # noqa: PLR2004 - role and content are no news
        for name in given(message, besides=_MESSAGE_FIELDS)
    }
    return tuple(sorted([*names, *within])[:MOST_IGNORED]) if names or within else ()
