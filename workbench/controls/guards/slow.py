"""Guards that wait for somebody else: each within its own time, and whatever it does, the answer is an order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from workbench.controls.clock import Clock
from workbench.controls.guards.matches import Match, Rule, findings_of
from workbench.controls.guards.model import Action, Finding, Stage

_LOG = logging.getLogger(__name__)


class BadVerdict(Exception):
    """A guard gave back something that is no verdict."""

    code = "bad_verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a slow guard says of one text."""

    matches: tuple[Match, ...] = ()
    """Stretches that it found."""
    finding: Rule | None = None
    """What it orders for the whole text; None where nothing."""
    reason: str = "matched"


class SlowGuard(Protocol):
    """A guard that takes its time."""

    rule_id: str
    stages: frozenset[Stage]
    on_error: Action
    timeout_s: float
    redacts: bool
    """Whether it names stretches of a text that are to be replaced."""

    async def check(self, text: str, clock: Clock) -> Verdict:
        """What it says of the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowlyChecked:
    """What all slow guards say of one text."""

    findings: tuple[Finding, ...] = ()
    matches: tuple[Match, ...] = ()


async def ask_all(guards: Sequence[SlowGuard], text: str, stage: Stage, clock: Clock) -> SlowlyChecked:
    """What the guards say, asked side by side; one that fails, takes too long or answers nonsense orders what its `on_error` says."""
    answers = await asyncio.gather(*(_asked(guard, text, stage, clock) for guard in guards))
    return SlowlyChecked(
        findings=tuple(finding for answer in answers for finding in answer.findings),
        matches=tuple(match for answer in answers for match in answer.matches),
    )


async def _asked(guard: SlowGuard, text: str, stage: Stage, clock: Clock) -> SlowlyChecked:
    start_s = clock.now()
    try:
        async with clock.limit(guard.timeout_s):
            verdict = await guard.check(text, clock)
        if not isinstance(verdict, Verdict):
            raise BadVerdict  # noqa: TRY301 - as any other failure of the guard
        findings, matches = _said(guard, verdict, stage), verdict.matches
    except TimeoutError:
        findings, matches = (failed(guard.rule_id, stage, guard.on_error, reason="timeout"),), ()
    except Exception as fault:  # noqa: BLE001 - a guard is somebody else's code
        _LOG.warning("guard %s failed: %s", guard.rule_id, type(fault).__name__)
        findings, matches = (failed(guard.rule_id, stage, guard.on_error),), ()
    duration_ms = round((clock.now() - start_s) * 1000, 3)
    return SlowlyChecked(findings=tuple(replace(finding, duration_ms=duration_ms) for finding in findings), matches=matches)


def _said(guard: SlowGuard, verdict: Verdict, stage: Stage) -> tuple[Finding, ...]:
    if verdict.finding is not None:
        return (verdict.finding.finding(stage, reason=verdict.reason),)
    return findings_of(verdict.matches, stage, passed=(guard.rule_id,))


def failed(rule_id: str, stage: Stage, on_error: Action, *, reason: str = "error") -> Finding:
    """What is said where a guard failed."""
    return Finding(rule_id=rule_id, stage=stage, action=on_error, reason=reason)
