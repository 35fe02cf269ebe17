"""The guards of one call: they see its input, each of its tool calls and its output, and remember what they found."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace

from workbench.controls.clock import Clock
from workbench.controls.events import Choice, ToolCall
from workbench.controls.guards.engine import Guards
from workbench.controls.guards.model import Action, Checked, Finding, Stage, gravest, gravest_of
from workbench.controls.model import Message
from workbench.controls.turn import Step, guard_step

WITHHOLDING = (Action.BLOCK, Action.HANDOFF)
"""Orders by which nothing goes on."""
STOPPED = (*WITHHOLDING, Action.REDACT)
"""Orders by which what was found reaches nobody."""
REFUSAL = "I cannot help with that."
"""What a caller gets in place of what was stopped, where the rule says nothing."""


class TurnGuard:
    """The guards of a bundle at work on one call.

    Args:
        guards: the bundle's.
        clock: of the call.
        steps: where what they found is recorded.
        offered: the names of the tools that the request itself offers; None where the bundle's tools count.
    """

    def __init__(self, guards: Guards, *, clock: Clock, steps: list[Step], offered: Collection[str] | None = None) -> None:
        self.guards = guards
        self._clock = clock
        self._steps = steps
        self._offered = offered
        self._counts: dict[str, int] = {}
        self._judging: asyncio.Task[tuple[Finding, ...]] | None = None
        self._is_judged = False
        self._order = Action.ALLOW
        """The gravest so far."""
        self._is_input_stopped = False
        self.findings: list[Finding] = []
        self.awaiting: list[ToolCall] = []
        """Calls of tools that a person has to approve."""

    async def admit(self, messages: Sequence[Message]) -> Sequence[Message] | None:
        """The talk as the model may be told it; None where the quick guards stop it. The slow ones begin to look at it.

        What those say counts from `passed` on: until then nothing may be released and no tool may run.
        """
        if self._note(await self.guards.look_at_input(messages, clock=self._clock)) in WITHHOLDING:
            return None
        if self.guards.has_input_judges:
            self._judging = asyncio.create_task(self.guards.judge_input(messages, clock=self._clock))
            if self.guards.redacts_slowly:
                await self.passed()
        if self._order is not Action.ALLOW and any(finding.action is Action.REDACT for finding in self.findings):
            return await self.guards.redacted_input(messages, clock=self._clock)
        return messages

    async def passed(self) -> bool:
        """Whether the slow guards let the input through."""
        if self._judging is not None and not self._is_judged:
            found = await asyncio.shield(self._judging)  # several may wait: tools that run side by side
            if not self._is_judged:
                self._is_judged = True
                self._note(found)
        return not self._is_input_stopped

    async def end(self) -> None:
        """Stop what is still looking."""
        if self._judging is not None:
            self._judging.cancel()
            await asyncio.gather(self._judging, return_exceptions=True)

    async def tool_call(self, call: ToolCall) -> ToolCall | Finding:
        """The call as it may go on, under the name that the policy gives the tool; else what forbids it."""
        if not await self.passed():
            return next(finding for finding in self.findings if finding.stage is Stage.INPUT and finding.action in WITHHOLDING)
        found = self.guards.check_tool_call(call, self._counts, requested=self._offered)
        name = self.guards.canonical_tool(call.name) or call.name
        self._counts[name] = self._counts.get(name, 0) + 1
        self._note(found)
        forbidding = next((finding for finding in found if finding.action in WITHHOLDING), None)
        if forbidding is None:
            return replace(call, name=name)
        if forbidding.action is Action.HANDOFF:
            self.awaiting.append(replace(call, name=name))
        return forbidding

    async def tool_calls(self, choice: Choice) -> Choice:
        """The choice with those of its tool calls that may reach the caller."""
        if not choice.tool_calls:
            return choice
        seen = [await self.tool_call(call) for call in choice.tool_calls]
        return replace(choice, tool_calls=tuple(call for call in seen if isinstance(call, ToolCall)))

    def note(self, checked: Checked) -> Action:
        """Remember what the output guards found; gives the gravest order."""
        return self._note(checked.findings)

    def _note(self, findings: Sequence[Finding]) -> Action:
        """Remember what was found. That a guard looked and found nothing is no step of its own: most requests are clean."""
        self.findings += findings
        order = gravest(findings)
        if order is not Action.ALLOW:
            now_s = self._clock.now()
            self._steps += [guard_step(finding, start_s=now_s) for finding in findings if finding.action is not Action.ALLOW]
            self._order = gravest_of((self._order, order))
            stopping = (finding for finding in findings if finding.action in WITHHOLDING)
            self._is_input_stopped = self._is_input_stopped or any(finding.stage is Stage.INPUT for finding in stopping)
        return order

    @property
    def is_blocked(self) -> bool:
        """Whether what was asked or answered is blocked: then there is nothing that a person could let through."""
        blocking = (finding for finding in self._violations if finding.action is Action.BLOCK)
        return any(finding.stage is not Stage.TOOL_CALL for finding in blocking)

    @property
    def _violations(self) -> Sequence[Finding]:
        """What was found against the rules: in most calls nothing, which is known at once."""
        return () if self._order is Action.ALLOW else [finding for finding in self.findings if finding.is_violation]

    @property
    def refusal(self) -> str:
        """What the caller gets in place of what was stopped."""
        told = (finding.sentence for finding in self.findings if finding.action in WITHHOLDING and finding.stage is not Stage.TOOL_CALL)
        return next(filter(None, told), self.guards.refusal or REFUSAL)

    @property
    def looked(self) -> tuple[str, ...]:
        """The rules and guards that looked, each once."""
        return tuple(dict.fromkeys(finding.rule_id for finding in self.findings))

    @property
    def blocked_rules(self) -> tuple[str, ...]:
        """What was stopped, each rule once."""
        return tuple(dict.fromkeys(finding.rule_id for finding in self._violations if finding.action in STOPPED))

    @property
    def violation_rules(self) -> tuple[str, ...] | None:
        """What reached a user or a tool although a rule is against it; None where the bundle declares no guards."""
        if not self.guards.are_declared:
            return None
        flagged = (finding for finding in self._violations if finding.action is Action.FLAG and finding.stage is not Stage.INPUT)
        return tuple(dict.fromkeys(finding.rule_id for finding in flagged))
