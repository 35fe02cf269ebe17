"""Chat completion bodies, as providers send them: what they say about status, tokens, tool calls and content. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from workbench.observability.importers import fields
from workbench.observability.importers.source import Row

STATUSES = frozenset(("ok", "error", "timeout", "blocked", "handed_off", "cancelled", "truncated", "unknown"))
_SYNONYMS = {
    "success": "ok",
    "succeeded": "ok",
    "completed": "ok",
    "failed": "error",
    "failure": "error",
    "incomplete": "truncated",
    "timed_out": "timeout",
    "canceled": "cancelled",
    "client_cancelled": "cancelled",
    "in_progress": "unknown",
    "queued": "unknown",
}
_FINISHED = {"length": "truncated", "max_tokens": "truncated", "content_filter": "blocked"}
_EMPTY: Mapping[str, Any] = {}
_LONGEST_CODE = 64
_TIMEOUTS = (408, 504)
_FIRST_HTTP_ERROR = 400
_HTTP_CODE = re.compile(r"[245]\d\d", re.ASCII)


class Exchange(NamedTuple):
    """The two bodies of one call, and what went wrong on the way."""

    request: Mapping[str, Any]
    response: Mapping[str, Any]
    error: Any
    http_status: int | None


def exchange_of(record: Mapping[str, Any]) -> Exchange:
    """The bodies inside a pair, a flat record or a line of batch output.

    Raises:
        RecordRefused: when the record has nothing of a chat completion.
    """
    error = record.get("error")
    if "request" in record or "response" in record:
        request, response = fields.mapping(record, "request"), fields.mapping(record, "response")
        http_status = None
        if "status_code" in response:
            http_status = fields.count(response, "status_code")
            response = fields.mapping(response, "body")
        return Exchange(request or (record if "messages" in record else _EMPTY), response, error or response.get("error"), http_status)
    if not any(key in record for key in ("model", "messages", "choices", "usage", "error", "status", "latency_ms", "duration_ms")):
        fields.refuse("not_a_completion", "line", "no request, response, messages, choices or usage", "a chat completion record")
    return Exchange(record, record, error, None)


def finish_reason(response: Mapping[str, Any]) -> str | None:
    """Why the first choice ended."""
    for choice in fields.items(response, "choices"):
        if isinstance(choice, dict):
            return fields.text(choice, "finish_reason")
    return None


def status(declared: Any, exchange: Exchange, finished: str | None) -> tuple[str, str | None]:
    """(status, error type). What the record declares counts; else what its bodies show; `unknown` when they show nothing."""
    http_status, code = exchange.http_status, error_code(exchange.error)
    if declared is not None and declared != "":
        name, number = declared_status(declared)
        if number is None:
            return name, code
        if name == "ok" and not exchange.error:
            return _FINISHED.get(finished or "", name), None
        http_status = number
    if exchange.error or (http_status is not None and http_status >= _FIRST_HTTP_ERROR):
        code = code or (f"http_{http_status}" if http_status else "error")
        return ("timeout" if "timeout" in code or "timed_out" in code or http_status in _TIMEOUTS else "error"), code
    if finished in _FINISHED:
        return _FINISHED[finished], None
    return ("ok" if finished or exchange.response.get("choices") or exchange.response.get("output") else "unknown"), None


def declared_status(declared: Any, *, next_step: str = "") -> tuple[str, int | None]:
    """(status, HTTP code when it is one) of a status field: one of `STATUSES`, a usual synonym, or an HTTP code.

    Raises:
        RecordRefused: when it is something else.
    """
    if isinstance(declared, bool) or not isinstance(declared, (str, int)):
        fields.refuse("wrong_type", "status", fields.type_name(declared), "a status or an HTTP code")
    name = str(declared).strip().lower()
    found = name if name in STATUSES else _SYNONYMS.get(name)
    if found is not None:
        return found, None
    if _HTTP_CODE.fullmatch(name):
        number = int(name)
        return ("ok" if number < _FIRST_HTTP_ERROR else "timeout" if number in _TIMEOUTS else "error"), number
    allowed = f"one of {', '.join(sorted(STATUSES))}, or an HTTP code (2xx, 4xx, 5xx)"
    return fields.refuse("unknown_value", "status", "a value without a meaning here", allowed, next_step)


def error_code(error: Any) -> str | None:
    """The code of an error; its message is left out, since messages quote what people wrote."""
    if isinstance(error, dict):
        error = next((error[key] for key in ("code", "type") if error.get(key) not in (None, "")), "error")
    if error is None or error is False or error == "":
        return None
    text = str(error) if isinstance(error, (str, int)) and not isinstance(error, bool) else "error"
    is_code = len(text) <= _LONGEST_CODE and not any(char.isspace() for char in text)
    return text if is_code else "timeout" if "timed out" in text.lower() or "timeout" in text.lower() else "error"


def tokens(response: Mapping[str, Any]) -> Row:
    """Token counts of a response. Cached and reasoning tokens are parts of the totals."""
    usage = fields.mapping(response, "usage")
    if not usage:
        return {}
    is_new = "input_tokens" in usage or "output_tokens" in usage
    read, written = ("input_tokens", "output_tokens") if is_new else ("prompt_tokens", "completion_tokens")
    row: Row = {"input_tokens": fields.count(usage, read), "output_tokens": fields.count(usage, written)}
    for total, part, column in ((read, "cached_tokens", "cache_read_tokens"), (written, "reasoning_tokens", "reasoning_tokens")):
        details = fields.mapping(usage, f"{total}_details")
        if details:
            row[column] = fields.count(details, part)
    return row


def input_of(request: Mapping[str, Any]) -> Any:
    """What the model was given."""
    for key in ("messages", "input", "prompt"):
        value = request.get(key)
        if value is not None:
            return value
    return None


def output_of(response: Mapping[str, Any]) -> Any:
    """What the model answered: one message per choice."""
    choices = response.get("choices")
    if isinstance(choices, list):
        found = [choice.get("message", choice.get("text")) for choice in choices if isinstance(choice, dict)]
        return found if found.count(None) < len(found) else None
    return response.get("output")


def tool_calls(response: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The calls that a response asks for."""
    found: list[Mapping[str, Any]] = []
    for choice in fields.items(response, "choices"):
        message = choice.get("message") if isinstance(choice, dict) else None
        if isinstance(message, dict) and message.get("tool_calls"):
            found += [call for call in fields.items(message, "tool_calls") if isinstance(call, dict)]
    return found


def tool_spans(request: Row, calls: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A span per asked-for call. How it went is not in a completion, so its status is unknown."""
    trace_id = request["trace_id"] or hashlib.sha256(f"{request['app']}\0{request['request_id']}".encode()).hexdigest()[:32]
    request["trace_id"] = trace_id
    spans = []
    for index, call in enumerate(calls):
        function = call.get("function")
        function = function if isinstance(function, dict) else call
        name = fields.text(function, "name") or "unnamed"
        spans.append(
            {
                "trace_id": trace_id,
                "span_id": hashlib.sha256(f"{trace_id}\0{request['request_id']}\0{index}".encode()).hexdigest()[:16],
                "request_id": request["request_id"],
                "app": request["app"],
                "bundle": request["bundle"],
                "kind": "tool",
                "name": name,
                "ts_start": request["ts_end"] or request["ts_start"],
                "status": "unknown",
                "tool_name": name,
                "tool_call_id": fields.text(call, "id"),
                "tool_arguments": function.get("arguments"),
                "side_effect": "unknown",
            }
        )
    return spans
