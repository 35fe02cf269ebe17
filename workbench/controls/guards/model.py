"""The nouns of guarding: where a guard looks, what it may order, and what it found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Where a guard looks."""

    INPUT = "input"
    TOOL_CALL = "tool_call"
    OUTPUT = "output"


class Action(StrEnum):
    """What a guard orders, mildest first; of several orders the gravest counts."""

    ALLOW = "allow"
    FLAG = "flag"
    """Recorded, and released."""
    REDACT = "redact"
    """What was found is replaced, the rest is released."""
    HANDOFF = "handoff"
    """A person decides before anything is released."""
    BLOCK = "block"
    """Nothing of it reaches the caller or the tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one guard says of one text or tool call. Nothing of the text is quoted."""

    rule_id: str
    stage: Stage
    action: Action
    reason: str
    """Short and stable: `matched`, `not_allowed`, `bad_arguments`, `too_many`, `needs_approval`, `unsure`, `timeout`, `error`, …"""
    sentence: str = ""
    """For the model or the person who has to live with it; empty where nothing was found."""
    tool: str | None = None
    """The tool that the call names, as the policy spells it; None elsewhere."""
    duration_ms: float = 0.0

    @property
    def is_violation(self) -> bool:
        """Whether the rule was broken, whatever was done about it."""
        return self.action is not Action.ALLOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A text after the output guards."""

    text: str
    """What may leave: redacted where a rule orders that, empty where one blocks it. Where one hands off, what the person is shown."""
    findings: tuple[Finding, ...] = ()

    @property
    def action(self) -> Action:
        """The order that counts."""
        return gravest(self.findings)


def gravest(findings: Iterable[Finding]) -> Action:
    """The order that counts; `allow` where there is none."""
    order = Action.ALLOW
    for finding in findings:
        if finding.action is not order:
            order = gravest_of((order, finding.action))
    return order


def gravity(action: Action) -> int:
    """Its place among the orders, mildest first, from 0."""
    return _GRAVITY[action]


def gravest_of(actions: Iterable[Action]) -> Action:
    """Of several orders the one that counts."""
    return max(actions, key=_GRAVITY.__getitem__, default=Action.ALLOW)


_GRAVITY = {action: rank for rank, action in enumerate(Action)}
