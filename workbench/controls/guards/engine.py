"""The guards of one bundle at work: on what the model is told, on the tools that it calls, on what the caller is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from workbench.controls.clock import Clock, RealClock
from workbench.controls.events import ToolCall
from workbench.controls.guards.matches import Match, Matcher, clean, findings_of, redacted
from workbench.controls.guards.model import Action, Checked, Finding, Stage, gravest
from workbench.controls.guards.slow import SlowGuard, SlowlyChecked, ask_all, failed
from workbench.controls.guards.texts import texts_of, with_texts
from workbench.controls.guards.tool_calls import ToolPolicy
from workbench.controls.guards.withheld import Withheld
from workbench.controls.model import Message
from workbench.controls.uncertainty import Uncertainty
from workbench.spec.guards import Handoff, PromptSize

_LOG = logging.getLogger(__name__)
_AT_ONCE = 64 << 10
"""Characters that are looked at without leaving the loop to others meanwhile."""
_LONGEST = 8 << 20
"""Characters of a text that is looked at, at all."""
_INSTRUCTIONS = ("system", "developer")
"""Roles of messages that the assistant's makers write."""
_REAL = RealClock()


class Guards:
    """What stands between a bundle and the world.

    Args:
        tools: which may be called.
        matchers: what is searched for in texts, by stage.
        slow: guards that wait for somebody else.
        prompt_size: how much may be asked at once.
        handoff: which signals bring a person in.
        streaming: `hold_all`, `window` or `after`.
        refusal: what a caller gets in place of what was blocked.
        trusts_instructions: whether messages of the roles `system` and `developer` are left alone.
        are_declared: whether the bundle's policy declares guards; without, only the built-in ones look.
    """

    def __init__(
        self,
        tools: ToolPolicy,
        matchers: Mapping[Stage, Sequence[Matcher]],
        slow: Sequence[SlowGuard] = (),
        *,
        prompt_size: PromptSize | None = None,
        handoff: Handoff | None = None,
        streaming: str = "window",
        refusal: str = "",
        trusts_instructions: bool = True,
        are_declared: bool = True,
    ) -> None:
        self._trusted = _INSTRUCTIONS if trusts_instructions else ()
        self.are_declared = are_declared
        self.refusal = refusal
        self.handoff = handoff or Handoff()
        self.uncertainty = Uncertainty(self.handoff)
        self.streaming = streaming
        self._tools = tools
        self._matchers = {stage: tuple(matchers.get(stage, ())) for stage in Stage}
        self._slow = {stage: tuple(guard for guard in slow if stage in guard.stages) for stage in Stage}
        self._size = prompt_size
        self._ids = {stage: tuple(name for matcher in found for name in matcher.guards) for stage, found in self._matchers.items()}
        self._passed = {stage: clean(stage, self._ids[stage]) for stage in Stage}
        self._fits = clean(Stage.INPUT, ("prompt_size",)) if prompt_size else ()

    # What the model is told

    @property
    def has_input_judges(self) -> bool:
        """Whether somebody else is asked about the input: that may run beside the model call, and nothing leaves before it ended."""
        return bool(self._slow[Stage.INPUT])

    @property
    def redacts_slowly(self) -> bool:
        """Whether somebody else finds what the model may not be told, who is waited for before it is."""
        return any(guard.redacts for guard in self._slow[Stage.INPUT])

    async def check_input(self, messages: Sequence[Message], *, clock: Clock = _REAL) -> tuple[Finding, ...]:
        """What all guards say of a talk; the slow ones are not asked where a quick one blocks."""
        findings = await self.look_at_input(messages, clock=clock)
        if gravest(findings) is Action.BLOCK:
            return findings
        return (*findings, *await self.judge_input(messages, clock=clock))

    async def look_at_input(self, messages: Sequence[Message], *, clock: Clock = _REAL) -> tuple[Finding, ...]:
        """What the quick guards say of a talk, before the model is told it."""
        size = self._size_findings(messages)
        if not self._matchers[Stage.INPUT]:
            return size
        return (*size, *self._findings(Stage.INPUT, *await self._searched(Stage.INPUT, self._told(messages), clock)))

    async def judge_input(self, messages: Sequence[Message], *, clock: Clock = _REAL) -> tuple[Finding, ...]:
        """What the slow guards say of it."""
        asked = await self._asked(Stage.INPUT, "\n".join(self._told(messages)), clock) if self.has_input_judges else SlowlyChecked()
        return asked.findings

    async def redacted_input(self, messages: Sequence[Message], *, clock: Clock = _REAL) -> tuple[Message, ...]:
        """The talk as the model may be told it: for where a finding orders to redact."""
        return tuple([message if message.get("role") in self._trusted else await self._redacted(message, clock) for message in messages])

    def _told(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """The texts of a talk that somebody else than the assistant's makers may have written."""
        return tuple(text for message in messages if message.get("role") not in self._trusted for text in texts_of(message))

    async def _redacted(self, message: Message, clock: Clock) -> Message:
        texts = list(texts_of(message))
        told: list[str] = []
        for text in texts:
            asked = await self._asked(Stage.INPUT, text, clock)
            matches, faults = await self._searched(Stage.INPUT, (text,), clock)
            is_known = not faults and all(finding.reason in ("passed", "matched") for finding in asked.findings)
            told.append(redacted(text, (*matches, *asked.matches)) if is_known else "[removed]")
        return message if told == texts else with_texts(message, told)

    # What it calls

    def allowed_tools(self, requested: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
        """Those of a request's tools, in OpenAI's form, that the model may be offered: named as the policy spells them, each once."""
        offered: dict[str, Mapping[str, Any]] = {}
        for tool in requested:
            function = tool.get("function") if tool.get("type") == "function" else None
            name = function.get("name") if isinstance(function, Mapping) else None
            if isinstance(name, str) and self._tools.canonical(name) == name:
                offered.setdefault(name, tool)
        return tuple(offered.values())

    def canonical_tool(self, name: str) -> str | None:
        """The tool that is meant, as the policy spells it, which alone is passed on; None where it may not be called."""
        return self._tools.canonical(name)

    def check_tool_call(
        self, call: ToolCall, counts: Mapping[str, int], *, requested: Collection[str] | None = None
    ) -> tuple[Finding, ...]:
        """What the policy says of a call; where it lets it pass, the last finding names the tool.

        Args:
            call: whole, as the model wrote it.
            counts: calls for this request so far, by the policy's names, without this one.
            requested: names of the tools that the request offers; None where the bundle's own are offered.
        """
        try:
            return self._tools.check(call, counts, requested)
        except Exception as fault:  # noqa: BLE001 - what cannot be judged does not run
            _note("tools", fault)
            return (failed("tools", Stage.TOOL_CALL, Action.BLOCK),)

    # What the caller is told

    def withhold(self, *, is_streamed: bool) -> Withheld:
        """The way of one choice's text to the caller."""
        return Withheld(self, self.streaming if is_streamed and not self.hold_all else "hold_all")

    @property
    def hold_all(self) -> bool:
        """Whether nothing of a streamed answer leaves before all of it was looked at."""
        is_judged = self.has_slow_output and self.streaming == "window"
        waits = self._tools.needs_approval and self.handoff.needs_approval == "hold"
        return self.streaming == "hold_all" or is_judged or waits or self.uncertainty.may_hold_answers

    @property
    def has_slow_output(self) -> bool:
        """Whether somebody else is asked about the answer, which is then held until it is whole."""
        return bool(self._slow[Stage.OUTPUT])

    async def check_output(self, text: str, *, clock: Clock = _REAL) -> Checked:
        """What may be released of a whole answer, and what all guards say of it."""
        if not self.has_slow_output and len(text) <= _AT_ONCE:
            return self.check_output_quickly(text)
        (matches, faults), asked = await asyncio.gather(
            self._searched(Stage.OUTPUT, (text,), clock), self._asked(Stage.OUTPUT, text, clock)
        )
        return self._checked(text, (*self._findings(Stage.OUTPUT, matches, faults), *asked.findings), (*matches, *asked.matches))

    def check_output_quickly(self, text: str) -> Checked:
        """The same without the guards that ask somebody else."""
        if not self._matchers[Stage.OUTPUT]:
            return Checked(text=text, findings=())
        faults: list[Finding] = []
        matches = self._scan(Stage.OUTPUT, text, 0, faults)
        return self._checked(text, self._findings(Stage.OUTPUT, matches, faults), matches)

    @property
    def has_quick_output(self) -> bool:
        """Whether anything is searched for in an answer."""
        return bool(self._matchers[Stage.OUTPUT])

    def scan_output(self, text: str, start: int, faults: list[Finding]) -> list[Match]:
        """What matches in a stretch of an answer from a place on; guards that fail are added to `faults`."""
        return self._scan(Stage.OUTPUT, text, start, faults)

    def output_findings(self, matches: Sequence[Match], faults: Sequence[Finding]) -> tuple[Finding, ...]:
        """What is said of an answer in which that was found."""
        return self._findings(Stage.OUTPUT, matches, faults)

    def _checked(self, text: str, findings: tuple[Finding, ...], matches: Sequence[Match]) -> Checked:
        is_blocked = gravest(findings) is Action.BLOCK
        return Checked(text="" if is_blocked else redacted(text, matches) if matches else text, findings=findings)

    # How

    def _size_findings(self, messages: Sequence[Message]) -> tuple[Finding, ...]:
        size = self._size
        if size is None:
            return ()
        characters = sum(len(text) for message in messages for text in texts_of(message)) if size.most_characters else 0
        if len(messages) <= (size.most_messages or len(messages)) and characters <= (size.most_characters or characters):
            return self._fits
        sentence = "The conversation is too long."
        return (Finding(rule_id="prompt_size", stage=Stage.INPUT, action=Action(size.action), reason="too_long", sentence=sentence),)

    async def _searched(self, stage: Stage, texts: Sequence[str], clock: Clock) -> tuple[list[Match], list[Finding]]:
        """What matches in the texts, and which guards failed; a long text is searched beside the loop, within the guards' time."""
        if not self._matchers[stage]:
            return [], []
        if sum(map(len, texts)) <= _AT_ONCE:
            return self._search(stage, texts)
        try:
            async with clock.limit(max(matcher.timeout_s for matcher in self._matchers[stage])):
                return await asyncio.to_thread(self._search, stage, texts)
        except TimeoutError:
            return [], [failed(name, stage, matcher.on_error, reason="timeout") for matcher, name in self._named(stage)]

    def _search(self, stage: Stage, texts: Sequence[str]) -> tuple[list[Match], list[Finding]]:
        if sum(map(len, texts)) > _LONGEST:
            return [], [failed(name, stage, matcher.on_error, reason="too_long") for matcher, name in self._named(stage)]
        faults: list[Finding] = []
        return [match for text in texts for match in self._scan(stage, text, 0, faults)], faults

    def _scan(self, stage: Stage, text: str, start: int, faults: list[Finding]) -> list[Match]:
        matches: list[Match] = []
        for matcher in self._matchers[stage]:
            try:
                matches += matcher.find(text, start)
            except Exception as fault:  # noqa: BLE001 - a guard that fails orders what its `on_error` says
                _note(", ".join(matcher.guards), fault)
                faults += (failed(name, stage, matcher.on_error) for name in matcher.guards)
        return matches

    def _named(self, stage: Stage) -> Iterable[tuple[Matcher, str]]:
        return ((matcher, name) for matcher in self._matchers[stage] for name in matcher.guards)

    def _findings(self, stage: Stage, matches: Sequence[Match], faults: Sequence[Finding]) -> tuple[Finding, ...]:
        if not matches and not faults:
            return self._passed[stage]
        failures = dict.fromkeys(faults)
        wrong = {fault.rule_id for fault in failures}
        return (*findings_of(matches, stage, passed=[name for name in self._ids[stage] if name not in wrong]), *failures)

    async def _asked(self, stage: Stage, text: str, clock: Clock) -> SlowlyChecked:
        return await ask_all(self._slow[stage], text, stage, clock) if self._slow[stage] else SlowlyChecked()


def _note(name: str, fault: Exception) -> None:
    """Say that a guard failed, without the words of the fault, which may quote a user."""
    _LOG.error("guard %s failed: %s", name, type(fault).__name__)
