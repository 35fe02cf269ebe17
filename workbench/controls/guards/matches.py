"""Where a rule found something in a text, and what the text becomes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from workbench.controls.guards.model import Action, Finding, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one rule orders for what it finds."""

    rule_id: str
    action: Action
    sentence: str = ""
    label: str = "removed"
    """What stands in brackets in place of the stretch."""

    def finding(self, stage: Stage, *, reason: str = "matched", action: Action | None = None) -> Finding:
        """What is said of a text in which the rule found something."""
        return Finding(rule_id=self.rule_id, stage=stage, action=action or self.action, reason=reason, sentence=self.sentence)


class Match(NamedTuple):
    """`text[start:end]` is what the rule looks for."""

    start: int
    end: int
    rule: Rule


class Matcher(Protocol):
    """Rules that are searched for together. Whether something matches depends on no text further away than `window.TAIL` characters."""

    guards: tuple[str, ...]
    """Ids of the guards it stands for."""
    on_error: Action
    """What is ordered when it fails."""
    timeout_s: float
    """How long it may take over one text."""

    def find(self, text: str, start: int) -> list[Match]:
        """What begins at `start` or after it; what stands before is context."""


def redacted(text: str, matches: Iterable[Match]) -> str:
    """The text with everything replaced that has to be; stretches that touch become one."""
    pieces: list[str] = []
    end = 0
    for match in sorted(matches, key=lambda match: match.start):
        if match.rule.action is not Action.REDACT:
            continue
        if match.start >= end:
            pieces += [text[end : match.start], f"[{match.rule.label}]"]
        end = max(end, match.end)
    return "".join([*pieces, text[end:]]) if pieces else text


def findings_of(matches: Sequence[Match], stage: Stage, *, passed: Collection[str]) -> tuple[Finding, ...]:
    """One finding for each rule that matched, in the order of the text, and one for each guard that found nothing.

    Args:
        matches: what was found.
        stage: where.
        passed: ids of the guards that looked.
    """
    rules = dict.fromkeys(match.rule for match in matches)
    broken = {rule.rule_id.partition(".")[0] for rule in rules}
    return (*(rule.finding(stage) for rule in rules), *clean(stage, [guard for guard in passed if guard not in broken]))


def clean(stage: Stage, guards: Iterable[str]) -> tuple[Finding, ...]:
    """What guards say that found nothing."""
    return tuple(Finding(rule_id=guard, stage=stage, action=Action.ALLOW, reason="passed") for guard in guards)
