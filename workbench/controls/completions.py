"""What a chat completion says, read with care: it comes from somewhere else. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.controls.events import Choice, Completion, ToolCall
from workbench.controls.failures import FailureKind
from workbench.controls.providers import ProviderError

_TEXTS = ("content", "refusal")
"""Where a message says something: a model that refuses says so in place of its answer."""
_CUT = ("content_filter", "length")
"""Why a choice may have ended before it said anything."""
_MOST_TOKENS, _MOST_USD, _LONGEST_MS = 10**9, 10**6, 10**8
"""Of one call; what is beyond is no measurement."""


def checked_completion(response: Any) -> Mapping[str, Any]:
    """The response, when it has the shape of a chat completion: choices with messages, and names that are text.

    Raises:
        ProviderError: it has not.
    """
    if isinstance(response, Mapping) and isinstance(response.get("model"), str | None):
        choices = response.get("choices")
        if isinstance(choices, list) and choices and all(_is_choice(choice) for choice in choices):
            return response
    raise ProviderError("the response is no chat completion", code="provider_garbage", kind=FailureKind.GARBAGE)


def completion_of(response: Mapping[str, Any]) -> Completion:
    """What a checked chat completion says."""
    return Completion(choices=tuple(_choice(choice) for choice in response["choices"]), details=model_details(response))


def complete_completion(response: Mapping[str, Any]) -> Completion:
    """What a checked chat completion says, when each choice of it came to its end.

    Raises:
        ProviderError: one did not.
    """
    require_complete(response)
    return completion_of(response)


def require_complete(response: Mapping[str, Any]) -> None:
    """Return when each choice of a checked chat completion came to its end.

    Raises:
        ProviderError: one did not.
    """
    if any(choice.get("finish_reason") is None for choice in response["choices"]):
        raise ProviderError("the answer broke off", code="upstream_truncated", kind=FailureKind.GARBAGE)


def response_of(completion: Completion) -> Mapping[str, Any]:
    """The completion in the form of a chat completion; what it says of itself beyond the model is in the steps."""
    choices = [
        {"index": number, "message": _message(choice), "finish_reason": choice.finish_reason}
        for number, choice in enumerate(completion.choices)
    ]
    return {"model": completion.details.get("model"), "choices": choices}


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.content}
    if choice.tool_calls:
        message["tool_calls"] = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tool_calls
        ]
    return message


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice["message"]
    calls = tuple(
        ToolCall(call_id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    )
    texts = [text for name in _TEXTS if isinstance(text := message.get(name), str)]
    return Choice(content="".join(texts) if texts else None, tool_calls=calls, finish_reason=choice.get("finish_reason"))


def _is_choice(choice: Any) -> bool:
    if not isinstance(choice, Mapping) or not isinstance(choice.get("finish_reason"), str | None):
        return False
    message = choice.get("message")
    return isinstance(message, Mapping) and (_is_said(message) or _is_cut(choice, message))


def _is_said(message: Mapping[str, Any]) -> bool:
    """Whether the message says something or calls tools in the known form."""
    calls = message.get("tool_calls")
    if not calls:
        return any(isinstance(message.get(name), str) for name in _TEXTS)
    return isinstance(calls, list) and all(_is_tool_call(call) for call in calls)


def _is_cut(choice: Mapping[str, Any], message: Mapping[str, Any]) -> bool:
    """Whether the choice says why it says nothing."""
    return choice.get("finish_reason") in _CUT and message.get("content") is None and not message.get("tool_calls")


def _is_tool_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return False
    return all(isinstance(text, str) for text in (call.get("id"), function.get("name"), function.get("arguments")))


def least_logprob(choices: Any) -> float | None:
    """The log probability of the least likely token of all choices, natural; None where the provider does not tell any.

    Args:
        choices: of a chat completion or of one of its chunks.
    """
    told = [logprobs for choice in choices if (logprobs := _below(choice, "logprobs"))]
    if not told:
        return None
    lists = [_below(logprobs, "content") for logprobs in told]
    tokens = [token for found in lists if isinstance(found, list) for token in found]
    values = [_below(token, "logprob") for token in tokens]
    return min((float(value) for value in values if isinstance(value, int | float) and value <= 0), default=None)


def model_details(response: Mapping[str, Any]) -> dict[str, Any]:
    """What a chat completion says about itself; what it does not say, or says wrongly, is left out."""
    finish_reason = response["choices"][0].get("finish_reason")
    told = {
        "model": response.get("model"),
        "finish_reason": finish_reason,
        "least_logprob": least_logprob(response["choices"]),
        **usage_details(response.get("usage")),
    }
    return {name: value for name, value in told.items() if value is not None}


def usage_details(usage: Any) -> dict[str, Any]:
    """What a `usage` object says: tokens, and what they cost."""
    prompt, completion = _below(usage, "prompt_tokens_details"), _below(usage, "completion_tokens_details")
    details = {
        "input_tokens": _count(usage, "prompt_tokens"),
        "output_tokens": _count(usage, "completion_tokens"),
        "cache_read_tokens": _count(prompt, "cached_tokens"),
        "reasoning_tokens": _count(completion, "reasoning_tokens"),
        "cost_usd": _cost_usd(usage),
    }
    return {name: value for name, value in details.items() if value is not None}


def prompt_s(response: Mapping[str, Any]) -> float | None:
    """Seconds until the model's first token, where the server says it (`timings.prompt_ms`, as local ones do)."""
    prompt_ms = _number(response.get("timings"), "prompt_ms", most=_LONGEST_MS)
    return None if prompt_ms is None else prompt_ms / 1000


def _below(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, (dict, Mapping)) else None  # of JSON, and in any case: the first is told at once


def _number(value: Any, name: str, *, most: float) -> float | None:
    """The number of that name; None where it is no number, negative, or too large to be true."""
    found = _below(value, name)
    return found if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= most else None


def _count(usage: Any, name: str) -> int | None:
    found = _number(usage, name, most=_MOST_TOKENS)
    return int(found) if found is not None and float(found).is_integer() else None


def _cost_usd(usage: Any) -> float | None:
    """What the call cost, where the provider says it (`usage.cost`, as several OpenAI-compatible ones do)."""
    cost_usd = _number(usage, "cost", most=_MOST_USD)
    return None if cost_usd is None else round(float(cost_usd), 9)
