"""Messages of every dialect in one form: that of OpenAI's chat, in which the log keeps talks.

A message is `{role, content, tool_calls, tool_call_id}`, keys without a value left out. Arguments of a call are JSON text with sorted keys,
so that a dialect that sends text and one that sends an object say the same. What is no message at all stays the JSON value it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from workbench.observability.otlp.model import ToolCall

Message = dict[str, Any]
_MOST_MESSAGES = 2000


def structured(value: Any) -> Any:
    """The JSON value that a text holds, where it is an object or a list; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def rebuilt(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """The list that was spread over attributes `<prefix><number>.<path>`, in the order of its numbers. Gaps are closed."""
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        if not name.startswith(prefix):
            continue
        *path, leaf = name[len(prefix) :].split(".")
        place = tree
        for step in path:
            inner = place.setdefault(step, {})
            if not isinstance(inner, dict):
                inner = place[step] = {}
            place = inner
        if not isinstance(place.get(leaf), dict):
            place[leaf] = value
    found = _listed(tree)
    return found[:_MOST_MESSAGES] if isinstance(found, list) else []


def _listed(tree: Any) -> Any:
    """Objects whose keys are all numbers as lists. The paths are as deep as the longest name has dots."""
    if not isinstance(tree, dict):
        return tree
    inner = {key: _listed(value) for key, value in tree.items()}
    if inner and all(key.isascii() and key.isdigit() and len(key) <= 9 for key in inner):  # noqa: PLR2004 - no list is longer
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def talk(value: Any, role: str) -> Any:
    """A talk as messages, from any form of it; what is no talk stays as it is, and None stays None.

    Args:
        value: of an attribute; JSON text is read.
        role: of text that names none.
    """
    value = structured(value)
    if isinstance(value, dict):
        return _talk_of_object(value, role)
    if isinstance(value, list):
        is_talk = bool(value) and all(isinstance(item, dict) and _is_message(item) for item in value)
        return [message for item in value for message in _messages(item, role)] if is_talk else value
    return [{"role": role, "content": value}] if isinstance(value, str) and value else None if value == "" else value


def _talk_of_object(value: Mapping[str, Any], role: str) -> Any:
    if isinstance(value.get("messages"), list):
        return talk(value["messages"], role)
    if isinstance(value.get("choices"), list):
        return [message for choice in value["choices"] if isinstance(choice, dict) for message in _messages(choice, role)]
    if _is_message(value):
        return list(_messages(value, role))
    if isinstance(value.get("text"), str) and value.keys() <= {"text", "finish_reason"}:
        return [{"role": role, "content": value["text"]}]
    return value


def _is_message(item: Mapping[str, Any]) -> bool:
    return "message" in item or (
        "role" in item and not item.keys().isdisjoint(("content", "parts", "contents", "tool_calls", "function_call_name"))
    )


def _messages(item: Mapping[str, Any], default: str) -> Iterator[Message]:
    """The message that an item of any dialect is; several where it answers several calls."""
    inner = item.get("message")
    item = inner if isinstance(inner, dict) else item
    role = item.get("role") if isinstance(item.get("role"), str) else default
    parts = item.get("parts", item.get("contents", item.get("content")))
    contents, calls, answers = _sorted_parts(structured(parts) if isinstance(parts, str) and _is_parts(parts) else parts)
    calls += [call for each in _list(item.get("tool_calls")) if (call := _call(each))]
    if isinstance(item.get("function_call_name"), str):  # OpenInference's older form of the only call
        calls += [_function({"name": item["function_call_name"], "arguments": item.get("function_call_arguments_json")})]
    yield from answers
    if calls or contents or not answers:
        call_id = item.get("tool_call_id", item.get("id") if role == "tool" else None)
        message = {"role": role, "content": _joined(contents), "tool_calls": calls or None, "tool_call_id": call_id}
        yield {key: value for key, value in message.items() if value is not None}


def _is_parts(text: str) -> bool:
    """Whether text is a list of parts, and not something that a person wrote in brackets."""
    found = structured(text)
    return isinstance(found, list) and bool(found) and all(isinstance(part, dict) and "type" in part for part in found)


def _sorted_parts(parts: Any) -> tuple[list[Any], list[Message], list[Message]]:
    """What a message's parts hold: contents, calls, and answers to calls as messages of their own."""
    contents: list[Any] = []
    calls: list[Message] = []
    answers: list[Message] = []
    for part in parts if isinstance(parts, list) else [] if parts is None or parts == "" else [parts]:
        if not isinstance(part, dict):
            contents.append(part)
            continue
        inner = part.get("message_content")
        part = inner if isinstance(inner, dict) else part  # noqa: PLW2901
        kind = part.get("type")
        if kind in ("tool_call", "tool_use"):
            calls += [call for call in (_call(part),) if call]
        elif kind in ("tool_call_response", "tool_result"):
            answers.append(_answer(part))
        elif kind in ("text", "input_text", "output_text", None):
            contents.append(part.get("content", part.get("text", part if kind is None else None)))
        else:
            contents.append(dict(part))
    return [content for content in contents if content is not None], calls, answers


def _answer(part: Mapping[str, Any]) -> Message:
    said = next((part[name] for name in ("response", "result", "content") if part.get(name) is not None), None)
    call_id = part.get("id", part.get("tool_use_id"))
    message = {"role": "tool", "content": said if isinstance(said, str) else compact(said), "tool_call_id": call_id}
    return {key: value for key, value in message.items() if value is not None}


def _call(each: Any) -> Message | None:
    """A call in OpenAI's form."""
    if not isinstance(each, dict):
        return None
    inner = each.get("tool_call")
    each = inner if isinstance(inner, dict) else each
    function = each.get("function")
    function = function if isinstance(function, dict) else each
    made = _function(function)
    return made if each.get("id") is None else {"id": each["id"], **made}


def _function(function: Mapping[str, Any]) -> Message:
    name = function.get("name")
    arguments = next((function[key] for key in ("arguments", "input") if function.get(key) is not None), None)
    return {"type": "function", "function": {"name": name if isinstance(name, str) else "", "arguments": _canonical(arguments)}}


def _canonical(arguments: Any) -> str:
    found = structured(arguments)
    return "" if found is None else found if isinstance(found, str) else compact(found)


def compact(value: Any) -> str:
    """A JSON value as text with sorted keys."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()


def _joined(contents: list[Any]) -> Any:
    """Nothing, the only text, or a list of parts."""
    if not contents:
        return None
    if len(contents) == 1 and isinstance(contents[0], str):
        return contents[0]
    return [{"type": "text", "text": content} if isinstance(content, str) else content for content in contents]


def _list(value: Any) -> Sequence[Any]:
    value = structured(value)
    return value if isinstance(value, list) else ()


def calls_in(messages: Any) -> Iterator[ToolCall]:
    """The calls that these messages ask for."""
    for message in messages if isinstance(messages, list) else ():
        for call in message.get("tool_calls") or () if isinstance(message, dict) else ():
            function, call_id = call.get("function") if isinstance(call, dict) else None, call.get("id") if isinstance(call, dict) else None
            if isinstance(function, dict):
                yield ToolCall(call_id if isinstance(call_id, str) else None, str(function.get("name") or ""))


def since_last_user(messages: Any) -> list[Any]:
    """What was said after the last message of a user: it belongs to the turn that is being answered. Without one, nothing."""
    if not isinstance(messages, list):
        return []
    for place in range(len(messages) - 1, -1, -1):
        if isinstance(messages[place], dict) and messages[place].get("role") == "user":
            return messages[place + 1 :]
    return []


def finish_reason(value: Any) -> str | None:
    """Why a model stopped, where its messages or its raw output say it."""
    value = structured(value)
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            choices = item.get("choices")
            found = item.get("finish_reason") or (finish_reason(choices) if isinstance(choices, list) else None)
            if isinstance(found, str):
                return found
    return None
