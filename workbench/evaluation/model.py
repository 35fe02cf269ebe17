"""What a scorer sees of an answer, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One thing that the assistant did for an answer."""

    kind: str
    """`tool` or `retrieval`."""
    name: str
    status: str
    arguments: Any = None
    """Of a tool, or the query of a retrieval; redacted."""
    result: Any = None
    """Of a tool; redacted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRequest:
    """An answer as the log holds it: personal data and secrets are replaced. It does not say which arm gave it."""

    app: str
    request_id: str
    workflow: str | None
    status: str
    """`ok`, `truncated`, `blocked` or `handed_off`. What failed is not shown to a scorer: it is worth 0."""
    is_fallback: bool
    input: Any
    """What was asked, as it was stored: `{"messages": […]}` of a chat."""
    output: Any
    """What was answered."""
    steps: tuple[Done, ...] = ()
    """As they began."""

    @property
    def question(self) -> str:
        """The text of the last message in the input; empty where it has none."""
        messages = self.input.get("messages") if isinstance(self.input, Mapping) else self.input
        return _text(messages[-1]) if isinstance(messages, list) and messages else _text(messages)

    @property
    def answer(self) -> str:
        """The text of the output; empty where it has none."""
        return _text(self.output)


def _text(value: Any) -> str:
    """The words in a message, a choice, a response, or a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(_text, value)))
    if isinstance(value, Mapping):
        return next((_text(value[name]) for name in ("content", "text", "message", "choices", "output") if value.get(name)), "")
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreValue:
    """What a scorer says of an answer: a number, a label, or both."""

    value: float | None = None
    """0 (bad) to 1 (good)."""
    label: str | None = None
    explanation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringStatus:
    """What the scorers of this process did since it began to score."""

    is_on: bool = False
    is_leading: bool = False
    """Whether this process scores; of several one does."""
    fault: str | None = None
    """What kept its newest turn from its end."""
    scores: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    """App and score's name to how many were given."""
    faults: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    """App, score's name and kind of fault to how many answers stayed without that score."""
    behind: Mapping[str, int] = field(default_factory=dict)
    """App to final records that no scorer has looked at yet."""
