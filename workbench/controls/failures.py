"""How asking a model fails, and what is done about each way of failing: a table, read by everything that asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class FailureKind(StrEnum):
    """How an attempt at a model ended, or why none was made."""

    CONNECT = "connect"
    """It cannot be reached, or hung up before it said anything."""
    SILENT = "silent"
    """It took the request and did not begin to answer in time."""
    FIRST_TOKEN = "first_token"  # noqa: S105 - of an answer
    """It began to answer, and no word of the answer came in time."""
    SLOW = "slow"
    """Words come, but fewer than the bundle asks for, or they stop coming."""
    TRANSIENT = "transient"
    """It says that something went wrong on its side."""
    GARBAGE = "garbage"
    """What it answers is no answer: half of one, HTML, nothing at all."""
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota"
    """What was paid for is used up."""
    CREDENTIAL = "credential"
    """The key is not accepted, or not for this."""
    NO_MODEL = "no_model"
    """It does not know the model, or nothing is at the address."""
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    """The provider refuses the content. Going round that refusal is nothing that happens by itself."""
    BAD_REQUEST = "bad_request"
    """The request is wrong, and would be wrong anywhere."""
    BROKEN = "broken"
    """A provider of this process raised something that is no ProviderError."""
    MID_STREAM = "mid_stream"
    """Part of the answer was passed on already."""
    DEADLINE = "deadline"
    """The caller's time ran out."""
    BREAKER_OPEN = "breaker_open"
    """Not asked: it failed too often lately."""
    THROTTLED = "throttled"
    """Not asked: it refuses most requests, or the retries for it are used up."""
    BUSY = "busy"
    """Not asked: as many requests as allowed are at it, and waiting for it."""
    UNFIT = "unfit"
    """Not asked: no target can do what the request needs."""


class Counts(StrEnum):
    """How a failure counts for the breaker of its target."""

    NONE = "none"
    HALF = "half"
    FULL = "full"
    OPEN_NOW = "open_now"
    """One is enough: it will not pass by itself."""
    RATE = "rate"
    """It closes the way until the hint, and is no failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """What is done about a failure."""

    retry_same: bool = False
    """Whether the same target may be asked again."""
    fallback: bool = False
    """Whether another target may be asked."""
    breaker: Counts = Counts.NONE
    alarm: bool = False
    """Whether somebody has to do something about it."""
    larger_only: bool = False
    """Whether that other target has to be declared larger."""


HANDLING: Mapping[FailureKind, Handling] = {
    FailureKind.CONNECT: Handling(retry_same=True, fallback=True, breaker=Counts.FULL),
    FailureKind.SILENT: Handling(fallback=True, breaker=Counts.FULL),
    FailureKind.FIRST_TOKEN: Handling(fallback=True, breaker=Counts.HALF),
    FailureKind.SLOW: Handling(fallback=True, breaker=Counts.HALF),
    FailureKind.TRANSIENT: Handling(retry_same=True, fallback=True, breaker=Counts.FULL),
    FailureKind.GARBAGE: Handling(retry_same=True, fallback=True, breaker=Counts.FULL),
    FailureKind.RATE_LIMITED: Handling(retry_same=True, fallback=True, breaker=Counts.RATE),
    FailureKind.QUOTA: Handling(fallback=True, breaker=Counts.OPEN_NOW, alarm=True),
    FailureKind.CREDENTIAL: Handling(fallback=True, breaker=Counts.OPEN_NOW, alarm=True),
    FailureKind.NO_MODEL: Handling(fallback=True, breaker=Counts.OPEN_NOW, alarm=True),
    FailureKind.CONTEXT_LENGTH: Handling(fallback=True, larger_only=True),
    FailureKind.CONTENT_FILTER: Handling(),
    FailureKind.BAD_REQUEST: Handling(),
    FailureKind.BROKEN: Handling(fallback=True, breaker=Counts.FULL),
    FailureKind.MID_STREAM: Handling(breaker=Counts.FULL),
    FailureKind.DEADLINE: Handling(),
    FailureKind.BREAKER_OPEN: Handling(fallback=True),
    FailureKind.THROTTLED: Handling(fallback=True),
    FailureKind.BUSY: Handling(fallback=True),
    FailureKind.UNFIT: Handling(),
}
"""Every kind, and what is done about it."""

_BY_STATUS: Mapping[int, FailureKind] = {
    **dict.fromkeys((408, 409, 425, 500, 502, 503, 504, 529), FailureKind.TRANSIENT),
    429: FailureKind.RATE_LIMITED,
    **dict.fromkeys((401, 403), FailureKind.CREDENTIAL),
    402: FailureKind.QUOTA,
    404: FailureKind.NO_MODEL,
}
_BY_CODE: Mapping[str, FailureKind] = {
    **dict.fromkeys(
        (
            "insufficient_quota",
            "quota_exceeded",
            "billing_hard_limit_reached",
            "billing_not_active",
            "billing_error",
            "insufficient_credits",
            "spend_limit_reached",
            "spending_limit_exceeded",
        ),
        FailureKind.QUOTA,
    ),
    **dict.fromkeys(
        ("rate_limit_exceeded", "rate_limit_error", "rate_limit_reached", "too_many_requests", "resource_exhausted"),
        FailureKind.RATE_LIMITED,
    ),
    **dict.fromkeys(
        ("invalid_api_key", "authentication_error", "permission_error", "permission_denied", "unauthenticated", "account_deactivated"),
        FailureKind.CREDENTIAL,
    ),
    **dict.fromkeys(("model_not_found", "not_found_error", "deploymentnotfound"), FailureKind.NO_MODEL),
    **dict.fromkeys(("context_length_exceeded", "context_window_exceeded", "request_too_large"), FailureKind.CONTEXT_LENGTH),
    **dict.fromkeys(("content_filter", "content_policy_violation", "responsibleaipolicyviolation"), FailureKind.CONTENT_FILTER),
    **dict.fromkeys(
        (
            "server_error",
            "internal_error",
            "internal_server_error",
            "api_error",
            "overloaded",
            "overloaded_error",
            "engine_overloaded",
            "service_unavailable",
            "unavailable",
            "timeout",
            "timeout_error",
        ),
        FailureKind.TRANSIENT,
    ),
    **dict.fromkeys(("invalid_request_error", "invalid_argument", "bad_request"), FailureKind.BAD_REQUEST),
}
_VAGUE = frozenset({FailureKind.BAD_REQUEST, FailureKind.RATE_LIMITED})
"""Kinds that a status or a type tells, while a code beside it may know better."""
_CONTEXT_WORDS = ("maximum context length", "context window", "prompt is too long")
_STATUS_DIGITS = 3
_PASSING = frozenset(kind for kind, handling in HANDLING.items() if handling.retry_same)


def kind_of(fault: BaseException) -> FailureKind:
    """The kind of a ProviderError; what is none is `broken`, and a time that ran out is `deadline`."""
    if isinstance(fault, TimeoutError):
        return FailureKind.DEADLINE
    kind = getattr(fault, "kind", None)
    return kind if isinstance(kind, FailureKind) else FailureKind.BROKEN


def kind_of_status(status: int) -> FailureKind:
    """What a status that is not 200 means, as long as no body says more."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:  # noqa: PLR2004 - a server's error
        return FailureKind.TRANSIENT
    return FailureKind.BAD_REQUEST if status >= 400 else FailureKind.GARBAGE  # noqa: PLR2004 - a client's error


def kind_of_error(error: Any, *, status: int | None = None) -> FailureKind | None:
    """What an error object of a provider means, `{"code": …, "type": …, "message": …}`; None where it says nothing that is known.

    A status and a type are vague where the code is exact: 429 with `insufficient_quota` does not pass, 400 with
    `context_length_exceeded` is served by a larger model.
    """
    told = [] if status is None else [kind_of_status(status)]
    told += _told(error)
    if all(kind is FailureKind.BAD_REQUEST for kind in told) and _says_too_long(error):
        return FailureKind.CONTEXT_LENGTH
    exact = [kind for kind in told if kind not in _VAGUE]
    return next(iter([*reversed(exact), *reversed(told)]), None)


def may_pass(kind: FailureKind) -> bool:
    """Whether asking the same target again may help."""
    return kind in _PASSING


def _told(error: Any) -> list[FailureKind]:
    """The kinds that the object names, the vaguest first."""
    named = [error.get(name) for name in ("type", "status", "code")] if isinstance(error, Mapping) else []
    kinds = (_kind_of_name(value) for value in named)
    return [kind for kind in kinds if kind is not None]


def _kind_of_name(value: Any) -> FailureKind | None:
    """What one entry of an error object names: a known word, or a status."""
    if isinstance(value, str) and not (len(value) == _STATUS_DIGITS and value.isascii() and value.isdigit()):
        return _BY_CODE.get(value.lower())
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    status = int(value)
    return kind_of_status(status) if 400 <= status < 600 else None  # noqa: PLR2004 - the statuses of failures


def _says_too_long(error: Any) -> bool:
    """Whether the words say what providers without a code for it say of a prompt that is too long."""
    message = error.get("message") if isinstance(error, Mapping) else error
    return isinstance(message, str) and any(words in message[:1000].lower() for words in _CONTEXT_WORDS)
