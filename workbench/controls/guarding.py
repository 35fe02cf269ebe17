"""The guards of one call: they see its input, each of its tool calls and its output, and remember what they found."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from workbench.controls.clock import Clock
from workbench.controls.events import Choice, ToolCall
from workbench.controls.guards.model import Action, Checked, Finding, Stage, gravest
from workbench.controls.model import Message
from workbench.controls.outlet import Withholding
from workbench.controls.turn import Step, guard_step

STOPPED = frozenset({Action.BLOCK, Action.HANDOFF, Action.REDACT})
"""Orders by which what was found reaches nobody."""


class Guards(Protocol):
    """The guards of a bundle."""

    @property
    def are_declared(self) -> bool:
        """Whether the bundle's policy declares guards; without, only the built-in ones look."""

    @property
    def refusal(self) -> str:
        """What a caller gets in place of what was blocked."""

    def look_at_input(self, messages: Sequence[Message]) -> tuple[Finding, ...]:
        """What the quick guards say of the input."""

    async def judge_input(self, messages: Sequence[Message]) -> tuple[Finding, ...]:
        """What the slow guards say of it; they may run beside the model's call."""

    @property
    def has_input_judges(self) -> bool:
        """Whether `judge_input` has anything to do."""

    def look_at_tool_call(self, call: ToolCall, *, earlier: int, offered: Sequence[str] | None) -> tuple[Finding, ...]:
        """What the guards say of a tool call.

        Args:
            call: as the model wrote it.
            earlier: how often the same tool was called in this request before.
            offered: the names of the request's own tools; None where the bundle's tools count.
        """

    def withhold(self, *, is_streamed: bool) -> Withholding:
        """The way of one choice's text to the caller."""


class Unguarded:
    """No guards: where no bundle serves, only what the app itself declares is said."""

    are_declared = False
    refusal = ""
    has_input_judges = False

    def look_at_input(self, messages: Sequence[Message]) -> tuple[Finding, ...]:
        del messages
        return ()

    async def judge_input(self, messages: Sequence[Message]) -> tuple[Finding, ...]:
        del messages
        return ()

    def look_at_tool_call(self, call: ToolCall, *, earlier: int, offered: Sequence[str] | None) -> tuple[Finding, ...]:
        del call, earlier, offered
        return ()

    def withhold(self, *, is_streamed: bool) -> Withholding:
        del is_streamed
        return _Passing()


class DeclaredTools(Unguarded):
    """Only the tools that a bundle declares may be called.

    Args:
        names: of the tools.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def look_at_tool_call(self, call: ToolCall, *, earlier: int, offered: Sequence[str] | None) -> tuple[Finding, ...]:
        del earlier, offered
        if call.name in self._names:
            return ()
        sentence = f"{call.name} is not a tool of this assistant"
        return (Finding(rule_id="tool_not_declared", stage=Stage.TOOL_CALL, action=Action.BLOCK, reason="not_allowed", sentence=sentence),)


class _Passing:
    """Lets everything pass at once."""

    def feed(self, text: str) -> str:
        return text

    async def finish(self) -> Checked:
        return Checked(text="")


class TurnGuard:
    """The guards of a bundle at work on one call.

    Args:
        guards: the bundle's.
        clock: of the call.
        steps: where what they found is recorded.
        offered: the names of the tools that the request itself offers; None where the bundle's tools count.
    """

    def __init__(self, guards: Guards, *, clock: Clock, steps: list[Step], offered: Sequence[str] | None) -> None:
        self.guards = guards
        self._clock = clock
        self._steps = steps
        self._offered = offered
        self._calls: Counter[str] = Counter()
        self._judging: asyncio.Task[tuple[Finding, ...]] | None = None
        self.findings: list[Finding] = []

    def admit(self, messages: Sequence[Message]) -> bool:
        """Whether the quick guards let the input through; the slow ones begin to look at it.

        What they say counts from `passed` on: until then nothing may be released and no tool may run.
        """
        if self._note(self.guards.look_at_input(messages)) in (Action.BLOCK, Action.HANDOFF):
            return False
        if self.guards.has_input_judges:
            self._judging = asyncio.create_task(self.guards.judge_input(messages))
        return True

    async def passed(self) -> bool:
        """Whether the slow guards let the input through."""
        if self._judging is not None:
            judging, self._judging = self._judging, None
            self._note(await judging)
        return self.input_order not in (Action.BLOCK, Action.HANDOFF)

    async def end(self) -> None:
        """Stop what is still looking."""
        if self._judging is not None:
            self._judging.cancel()
            await asyncio.gather(self._judging, return_exceptions=True)

    @property
    def input_order(self) -> Action:
        """The gravest order about the input."""
        return gravest(tuple(finding for finding in self.findings if finding.stage is Stage.INPUT))

    async def tool_call(self, call: ToolCall) -> Finding | None:
        """What forbids this tool call; None when it may go on."""
        if not await self.passed():
            return next(finding for finding in self.findings if finding.stage is Stage.INPUT and finding.action in STOPPED)
        found = self.guards.look_at_tool_call(call, earlier=self._calls[call.name], offered=self._offered)
        self._calls[call.name] += 1
        self._note(found)
        stopping = [finding for finding in found if finding.action in (Action.BLOCK, Action.HANDOFF)]
        return stopping[0] if stopping else None

    async def tool_calls(self, choice: Choice) -> Choice:
        """The choice with those of its tool calls that may reach the caller."""
        if not choice.tool_calls:
            return choice
        allowed = tuple([call for call in choice.tool_calls if await self.tool_call(call) is None])
        return Choice(content=choice.content, tool_calls=allowed, finish_reason=choice.finish_reason)

    def note(self, checked: Checked) -> Action:
        """Remember what the output guards found; gives the gravest order."""
        return self._note(checked.findings)

    def _note(self, findings: Sequence[Finding]) -> Action:
        self.findings += findings
        now_s = self._clock.now()
        self._steps += [guard_step(finding, start_s=now_s) for finding in findings]
        return gravest(tuple(findings))

    @property
    def blocked_rules(self) -> tuple[str, ...]:
        """What was stopped, each rule once."""
        return tuple(dict.fromkeys(finding.rule_id for finding in self.findings if finding.action in STOPPED))

    @property
    def violation_rules(self) -> tuple[str, ...] | None:
        """What reached a user or a tool although a rule is against it; None where no declared guard looked."""
        if not self.guards.are_declared:
            return None
        flagged = (finding for finding in self.findings if finding.action is Action.FLAG and finding.stage is not Stage.INPUT)
        return tuple(dict.fromkeys(finding.rule_id for finding in flagged))
