"""Whether a failed step is tried again, and when. Pure."""

from __future__ import annotations

from hashlib import blake2b

from workbench.controls.providers import ProviderError
from workbench.controls.tools import ToolError

_BACKOFF_S = 0.2
_LONGEST_HINT_S = 20.0
"""A provider that asks to be left alone for longer is not asked again in this turn."""


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
    return max(hint_s, _BACKOFF_S * number * (0.5 + 0.5 * _fraction(f"{label}\x1f{number}")))


def _fraction(label: str) -> float:
    """A number in [0, 1) that follows from the label."""
    digest = blake2b(label.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
