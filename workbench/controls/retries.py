"""Whether a failed step is tried again, and when. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

from workbench.controls.failures import HANDLING
from workbench.controls.providers import ProviderError
from workbench.controls.tools import ToolError

MOST_PER_TARGET, MOST_IN_ALL = 3, 4
"""Attempts at one target, and at one question, whatever a bundle says."""
SHORTEST_S = 0.05
"""With less time left no attempt starts."""
_BASE_S, _CAP_S = 0.25, 8.0
_BACKOFF_S = 0.2
_LONGEST_HINT_S = 20.0
"""A provider that asks to be left alone for longer is not asked again in this turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How many attempts a bundle allows."""

    per_target: int = 1
    in_all: int = MOST_IN_ALL

    @classmethod
    def of(cls, *, retries: int | None, attempts: int | None) -> Self:
        """From what a bundle says: further attempts at the same target, none where it says nothing; attempts in all."""
        return cls(per_target=min(1 + (retries or 0), MOST_PER_TARGET), in_all=min(attempts or MOST_IN_ALL, MOST_IN_ALL))


def backoff_s(number: int, *, hint_s: float | None, fraction: float) -> float:
    """Seconds before the attempt after attempt `number`: full jitter, never less than the target asks for.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog: uniform in [0, min(cap, base * 2^(n - 1))).

    Args:
        number: from 1.
        hint_s: how long the target asks to be left alone.
        fraction: a random number in [0, 1).
    """
    return max(hint_s or 0.0, fraction * min(_CAP_S, _BASE_S * 2.0 ** (number - 1)))


def pause_before_retry(
    fault: ProviderError, *, at_target: int, in_all: int, policy: RetryPolicy, left_s: float, fraction: float
) -> float | None:
    """Seconds before the same target is asked again; None where it is not.

    Args:
        fault: how the last attempt failed.
        at_target: attempts at this target so far.
        in_all: attempts so far.
        policy: how many there may be.
        left_s: until the deadline.
        fraction: a random number in [0, 1).
    """
    hint_s = fault.retry_after_s or 0.0
    if not fault.may_pass or at_target >= policy.per_target or in_all >= policy.in_all or hint_s > _LONGEST_HINT_S:
        return None
    pause_s = backoff_s(at_target, hint_s=hint_s, fraction=fraction)
    return pause_s if pause_s + SHORTEST_S < left_s else None


def may_be_repeated(fault: ProviderError, request: Mapping[str, Any]) -> bool:
    """Whether asking once more can do nothing twice: nothing was sent, or the request has no effect beyond its answer.

    Stored responses and the provider's own tools have one.
    """
    if not fault.was_sent:
        return True
    tools = request.get("tools") or ()
    return not request.get("store") and all(isinstance(tool, Mapping) and tool.get("type", "function") == "function" for tool in tools)


def may_turn_elsewhere(fault: ProviderError, *, in_all: int, policy: RetryPolicy) -> bool:
    """Whether another target may be asked after this failure."""
    return HANDLING[fault.kind].fallback and in_all < policy.in_all


def pause_s(fault: Exception, *, number: int, retries: int, label: str) -> float | None:
    """Seconds before the next attempt; None when there is none.

    Args:
        fault: what ended attempt `number`.
        number: from 1.
        retries: further attempts that the bundle allows.
        label: spreads the pauses of different units, and is the same for the same one.
    """
    may_pass = isinstance(fault, ToolError) or (isinstance(fault, ProviderError) and fault.may_pass)
    hint_s = getattr(fault, "retry_after_s", None) or 0.0
    if not may_pass or number > retries or hint_s > _LONGEST_HINT_S:
        return None
    return max(hint_s, _BACKOFF_S * number * (0.5 + 0.5 * fraction(f"{label}\x1f{number}")))


def fraction(label: str) -> float:
    """A number in [0, 1) that follows from the label."""
    digest = blake2b(label.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
