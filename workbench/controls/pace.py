"""The clocks of a stream: when its next piece must be there, and whether it comes too slowly. Time is passed in."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.controls.events import Event, TextPart, ToolPart
from workbench.controls.failures import FailureKind
from workbench.controls.limits import Limits

_BLOCK_S = 5.0
"""The rate is measured over blocks of this length."""
_CHARACTERS_PER_TOKEN = 4
_TAIL_S = 2.0
"""For the last word and the counts of an answer that is complete already."""


class Pace:
    """How a stream keeps its time.

    Args:
        limits: of the attempt.
        asked_s: when the request was sent.
    """

    def __init__(self, limits: Limits, *, asked_s: float) -> None:
        self._limits = limits
        self._first_until_s = asked_s + limits.first_token_s
        self._until_s = self._first_until_s
        self._block_s: float | None = None
        self._tokens = 0.0
        self.is_begun = False
        """Whether a word or a tool call came."""

    @property
    def until_s(self) -> float:
        """When the next piece must be there."""
        return self._until_s

    @property
    def lateness(self) -> FailureKind:
        """What it is when it is not."""
        return FailureKind.SLOW if self.is_begun else FailureKind.FIRST_TOKEN

    def hear(self, now_s: float, events: Sequence[Event], *, is_complete: bool) -> bool:
        """Take note of what an event said; False where the stream is too slow."""
        self._tokens += sum(_tokens(event) for event in events)
        if not self.is_begun and any(isinstance(event, TextPart | ToolPart) for event in events):
            self.is_begun, self._block_s = True, now_s
        self._until_s = now_s + self._limits.gap_s if self.is_begun else self._first_until_s
        if is_complete:
            self._until_s = min(self._until_s, now_s + _TAIL_S)
            return True
        return self._keeps_up(now_s)

    def _keeps_up(self, now_s: float) -> bool:
        if self._block_s is None or now_s - self._block_s < _BLOCK_S:
            return True
        is_enough = self._tokens >= self._limits.min_tokens_per_s * (now_s - self._block_s)
        self._block_s, self._tokens = now_s, 0.0
        return is_enough


def _tokens(event: Event) -> float:
    """Tokens of a piece, of which each has one at least."""
    if isinstance(event, TextPart):
        return max(1.0, len(event.text) / _CHARACTERS_PER_TOKEN)
    return max(1.0, len(event.arguments) / _CHARACTERS_PER_TOKEN) if isinstance(event, ToolPart) else 0.0
