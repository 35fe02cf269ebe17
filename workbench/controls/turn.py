"""The nouns of one answered call: the steps inside it, and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.controls.events import Choice, Event
from workbench.controls.guards.model import Finding
from workbench.controls.guards.window import settled

Say = Callable[[Event], Awaitable[None]]
"""Takes a piece of an answer that is passed on as it comes."""
WITHOUT_REASON: Mapping[str, str] = {"blocked": "content_filter", "truncated": "length"}
"""Why an answer ended that no model ended, by the status of its call; `stop` for every other one."""


@dataclass(slots=True, kw_only=True)
class Step:
    """One thing that happened inside a turn. Times in seconds of the turn's clock."""

    kind: str
    name: str
    start_s: float
    duration_s: float = 0.0
    status: str = "ok"
    """`ok`, `error`, `timeout` or `cancelled`."""
    error_type: str | None = None
    attempt: int = 1
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answered turn."""

    choices: tuple[Choice, ...]
    """At least one."""
    status: str
    """`ok`, `handed_off`, `blocked`, `truncated`, `cancelled`, `error` or `timeout`."""
    is_fallback: bool = False
    error_type: str | None = None
    blocked_rules: tuple[str, ...] = ()
    """What was stopped."""
    violation_rules: tuple[str, ...] | None = None
    """What reached a user or a tool although a rule is against it; None where no guard looked."""
    handoff_id: str | None = None
    """Of the item that a person decides, or the assistant's own case number."""
    looked: tuple[str, ...] = ()
    """The guards that looked."""
    wants_person: bool = False
    """Whether a person should look at what was asked."""
    start_s: float
    latency_s: float
    ttft_s: float | None = None
    """From the user's message to the first token of the answer; None when the model did not answer or does not say."""
    steps: tuple[Step, ...]

    @property
    def content(self) -> str:
        """The text of the first choice; empty where it only calls tools."""
        return self.choices[0].content or ""

    @property
    def finish_reason(self) -> str | None:
        """Of the first choice."""
        return self.choices[0].finish_reason


def is_served_by_another(steps: Sequence[Step]) -> bool:
    """Whether the newest answer of a model came from another one than the bundle's own."""
    answered = next((step for step in reversed(steps) if step.kind == "model" and step.status == "ok"), None)
    return answered is not None and answered.details.get("target", "primary") != "primary"


def model_served(steps: Sequence[Step]) -> str | None:
    """The model that said last which one it is."""
    return next((step.details["model"] for step in reversed(steps) if step.kind == "model" and "model" in step.details), None)


def most_attempts(steps: Sequence[Step]) -> int:
    """The most that one question to a model took; 0 where none was asked."""
    return max((step.attempt for step in steps if step.kind == "model"), default=0)


def first_token_s(steps: Sequence[Step], start_s: float) -> float | None:
    """Seconds from a moment to the first token of the newest answer of a model; None where nobody says it."""
    answered = next((step for step in reversed(steps) if step.kind == "model"), None)
    return None if answered is None or "ttft_s" not in answered.details else answered.start_s + answered.details["ttft_s"] - start_s


def said(content: str, finish_reason: str | None = None) -> tuple[Choice, ...]:
    """The choices of an answer that is one text."""
    return (Choice(content=content, finish_reason=finish_reason),)


def closed(choice: Choice, status: str) -> Choice:
    """The choice with a reason why it ended, as the end of a stream needs one."""
    return choice if choice.finish_reason is not None else replace(choice, finish_reason=WITHOUT_REASON.get(status, "stop"))


def output_of(choices: tuple[Choice, ...]) -> Mapping[str, Any]:
    """The answer as the log keeps it: the text of one choice, its tool calls, the further choices."""
    first, *others = [_kept(choice) for choice in choices]
    return {**first, "others": others} if others else first


def _kept(choice: Choice) -> dict[str, Any]:
    is_cut = choice.finish_reason == "length"  # perhaps in the middle of an address, which half of it gives away
    kept: dict[str, Any] = {"content": settled(choice.content) if is_cut and choice.content else choice.content}
    if choice.tool_calls:
        kept["tool_calls"] = [{"id": call.call_id, "name": call.name, "arguments": call.arguments} for call in choice.tool_calls]
    return kept


def guard_step(finding: Finding, *, start_s: float) -> Step:
    """What a guard found, as a step of the turn."""
    return Step(
        kind="guard",
        name=str(finding.stage),
        start_s=start_s,
        duration_s=finding.duration_ms / 1000,
        status="timeout" if finding.reason == "timeout" else "error" if finding.reason == "error" else "ok",
        error_type=finding.reason if finding.reason in ("timeout", "error") else None,
        details={"rule_id": finding.rule_id, "action": str(finding.action), "tool": finding.tool, "reason": finding.reason},
    )
