"""An answer as OpenAI's chat completion, whole, and the headers that say what the controls did. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from workbench.controls.events import Choice, ToolCall
from workbench.controls.model import Answer, Head
from workbench.controls.turn import WITHOUT_REASON

Header = tuple[bytes, bytes]
_PLAIN_TEXT = re.compile(r"[\x20-\x7e]+", re.ASCII)
_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_MOST_RULES = 20
_FALLBACK = {True: (b"x-workbench-fallback", b"true"), False: (b"x-workbench-fallback", b"false")}


def completion(answer: Answer, *, app: str, at: datetime) -> bytes:
    """The answer as OpenAI's chat completion. Tokens that nobody counted are left out, not zero."""
    body: dict[str, Any] = {
        "id": answer.request_id,
        "object": "chat.completion",
        "created": int(at.timestamp()),
        "model": answer.model_served or app,
        "system_fingerprint": answer.bundle_id,
        "choices": [_choice(number, choice, answer.status) for number, choice in enumerate(answer.choices)],
    }
    counted = usage(answer)
    if counted:
        body["usage"] = counted
    return orjson.dumps(body)


def usage(answer: Answer) -> dict[str, int] | None:
    """The tokens, None where nobody counted them."""
    if answer.input_tokens is None or answer.output_tokens is None:
        return None
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }


def finish_reason(reason: str | None, status: str = "ok") -> str:
    """One of the dialect's; a bundle may know others, or none where no model answered."""
    return reason if reason in _FINISH_REASONS else WITHOUT_REASON.get(status, "stop")


def told(answer: Answer | Head, *, ignored: Iterable[str] = ()) -> list[Header]:
    """What the controls did, for whoever debugs the client; of a stream what is known when it begins."""
    headers = [
        *_of_assignment(answer.bundle_id, answer.arm, answer.release_id),
        (b"x-workbench-attempts", b"%d" % answer.attempts),
        _FALLBACK[answer.is_fallback],
    ]
    if answer.handoff_id:
        headers += header("x-handoff-id", answer.handoff_id)
    if answer.blocked_rules or answer.violation_rules:
        headers += guards_header(answer.blocked_rules, answer.violation_rules)
    if ignored:
        headers += header("x-workbench-ignored", ", ".join(ignored))
    return headers


def guards_header(blocked: Iterable[str], flagged: Iterable[str] = ()) -> list[Header]:
    """What the guards found; none where that is nothing."""
    found = [*(f"blocked={rule}" for rule in blocked), *(f"flagged={rule}" for rule in flagged)]
    return header("x-workbench-guards", ", ".join([text for text in dict.fromkeys(found) if _PLAIN_TEXT.fullmatch(text)][:_MOST_RULES]))


def header(name: str, value: str | None) -> list[Header]:
    """The header, or none where the value is empty or nothing that a header can carry: it would cost the answer."""
    return [(name.encode(), value.encode())] if value and _PLAIN_TEXT.fullmatch(value) else []


@lru_cache(maxsize=256)
def _of_assignment(bundle_id: str | None, arm: str, release_id: str | None) -> tuple[Header, ...]:
    named = {"x-workbench-bundle": bundle_id, "x-workbench-arm": arm, "x-workbench-release": release_id}
    return tuple(found for name, value in named.items() for found in header(name, value))


def _choice(number: int, choice: Choice, status: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.content, "refusal": None}
    if choice.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in choice.tool_calls]
    return {"index": number, "message": message, "logprobs": None, "finish_reason": finish_reason(choice.finish_reason, status)}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
