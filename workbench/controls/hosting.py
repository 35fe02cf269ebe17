"""Runs a registered bundle: its entry point loaded from the bundle's own content, one turn at a time, every step recorded.

What runs is what was hashed: code, prompts, index and policy come from the registry's blobs, never from a checkout. The code is
somebody else's: whatever it raises ends in the bundle's fallback, and a failed tool is told to the model, never to the log.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from traceback import extract_tb
from typing import Any

import orjson

from workbench.controls.asking import ModelCaller
from workbench.controls.clock import Clock
from workbench.controls.completions import response_of
from workbench.controls.content import BundleContent
from workbench.controls.endings import ended
from workbench.controls.events import Assembly, TextPart, ToolCall
from workbench.controls.failures import FailureKind, kind_of
from workbench.controls.guarding import TurnGuard
from workbench.controls.guards.engine import Guards
from workbench.controls.guards.model import Finding
from workbench.controls.guards.rules import guards_of
from workbench.controls.modules import load_entry
from workbench.controls.providers import ProviderError, ProviderFactory
from workbench.controls.question import Asking
from workbench.controls.retries import pause_s
from workbench.controls.tools import BadToolResult, ToolError, Tools, Withheld, is_json_object
from workbench.controls.turn import Say, Step, Turn, first_token_s, is_served_by_another, said
from workbench.errors import UsageError, WorkbenchError
from workbench.spec.base import parse_duration
from workbench.versions.model import Bundle

_LOG = logging.getLogger(__name__)
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CASE_NUMBER = re.compile(r"[\x20-\x7e]{0,256}")
"""It leaves in a header."""
_SEARCH_S, _SEARCH_S_PER_DOCUMENT = 0.004, 0.00025
_REPLY_STATUSES = ("ok", "handed_off", "blocked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an entry point gave back."""

    content: str
    status: str
    finish_reason: str | None
    blocked_rules: tuple[str, ...]
    case_number: str | None


class BadReply(Exception):
    """The entry point gave back something that is no reply."""

    code = "bad_reply"


class TurnHost:
    """What one turn of the assistant sees of the world; every step through it is recorded.

    Args:
        bundle: the bundle that runs.
        unit: whom the turn is for.
        caller: asks the model.
        tools: what the assistant may do in the world.
        clock: time.
        deadline_s: when the answer has to be there, on that clock.
        retries: further attempts of a tool after a failure that may pass.
        steps: where the steps are recorded, as they happen.
        guard: sees each tool call before it runs.
        say: takes the answer piece by piece; None where it is wanted whole.
    """

    def __init__(
        self,
        bundle: BundleContent,
        *,
        unit: str,
        caller: ModelCaller,
        tools: Tools,
        clock: Clock,
        deadline_s: float,
        retries: int,
        steps: list[Step],
        guard: TurnGuard,
        say: Say | None,
    ) -> None:
        self.bundle = bundle
        self.unit = unit
        self.clock = clock
        self.steps = steps
        self.tools = tools
        self.retries = retries
        self._caller = caller
        self._deadline_s = deadline_s
        self._guard = guard
        self._say = say
        self.asked: Mapping[str, Any] | None = None
        """The newest question to the model."""

    async def complete(self, request: Mapping[str, Any], *, aloud: bool = False) -> Mapping[str, Any]:
        """The model's response.

        Args:
            request: as OpenAI's chat completions take it.
            aloud: whether its text is passed on as it comes, where the answer is wanted piece by piece; as of `say`.

        Raises:
            ProviderError: nobody answered whom the bundle's chain names.
        """
        self.asked = request
        asking = Asking(
            clock=self.clock,
            deadline_s=self._deadline_s,
            steps=self.steps,
            label=f"{self.unit}\x1f{len(self.steps)}",
            is_held=self._guard.guards.hold_all,
        )
        if self._say is None or not aloud:
            return await self._caller.complete(request, asking)
        assembly = Assembly()
        async with aclosing(self._caller.stream(request, asking)) as events:
            async for event in events:
                assembly.add(event)
                if isinstance(event, TextPart):
                    await self._say(event)
        return response_of(assembly.completion())

    async def say(self, text: str) -> None:
        """Pass on a piece of the answer, where it is wanted piece by piece; the whole answer has to begin with what was said."""
        if self._say is not None:
            await self._say(TextPart(text=text))

    async def call_tool(self, name: str, arguments: Mapping[str, Any], *, call_id: str) -> Mapping[str, Any]:
        """The tool's result, or `{"error": …}` when it failed: the model has to live with it.

        A call that a guard forbids does not run; the model is told why.
        """
        allowed = await self._guard.tool_call(ToolCall(call_id=call_id, name=name, arguments=_json_text(arguments)))
        if isinstance(allowed, Finding):
            return {"error": allowed.sentence or f"{name} may not be called like this"}
        name, arguments = allowed.name, orjson.loads(allowed.arguments)  # what runs is what was looked at

        async def attempt(step: Step) -> Mapping[str, Any]:
            step.details = {"tool_call_id": call_id, "arguments": arguments, "side_effect": self.bundle.side_effects[name]}
            result = await self.tools.call(name, arguments)
            if not is_json_object(result):
                raise BadToolResult
            step.details["result"] = result
            return result

        try:
            return await self._attempts(name, attempt)
        except ToolError as fault:
            return {"error": str(fault)}
        except Withheld:
            return {"error": f"{name} was not called: nothing may change now"}
        except Exception as fault:  # noqa: BLE001 - a tool is somebody else's code
            _note("tool", name, fault)
            return {"error": f"{name} failed"}

    async def search_time(self, n_documents: int) -> None:
        """Begin a search, whose details `record` adds; on a clock that sees no computing it takes as long as so many documents take."""
        step = self._begin("retrieval", "search")
        await self.clock.compute(_SEARCH_S + n_documents * _SEARCH_S_PER_DOCUMENT)
        step.duration_s = self.clock.now() - step.start_s

    def record(self, kind: str, name: str, **details: Any) -> None:
        """A step of the assistant's own; the details of a search end the search that was begun last."""
        last = self.steps[-1] if self.steps else None
        if last is not None and last.kind == kind == "retrieval" and not last.details:
            last.name, last.details, last.duration_s = name, details, self.clock.now() - last.start_s
            return
        self._begin(kind, name).details = details

    def _begin(self, kind: str, name: str, *, attempt: int = 1) -> Step:
        step = Step(kind=kind, name=name, start_s=self.clock.now(), attempt=attempt)
        self.steps.append(step)
        return step

    async def _attempts(self, name: str, attempt: Callable[[Step], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        """A tool's first result; each attempt leaves its step, the failed ones too."""
        number = 1
        while True:
            step = self._begin("tool", name, attempt=number)
            try:
                return await attempt(step)
            except asyncio.CancelledError:
                step.status = "cancelled"
                raise
            except Exception as fault:
                step.status = "timeout" if isinstance(fault, TimeoutError) else "error"
                step.error_type = error_type(fault)
                pause = pause_s(fault, number=number, retries=self.retries, label=f"{self.unit}\x1f{name}")
                if pause is None:
                    raise
            finally:
                step.duration_s = self.clock.now() - step.start_s
            await self.clock.sleep(pause)
            number += 1


def _json_text(arguments: Mapping[str, Any]) -> str:
    """The arguments as JSON text; what is nothing that JSON holds is text that no guard can read, and none lets pass."""
    try:
        return orjson.dumps(dict(arguments)).decode()
    except (TypeError, ValueError):
        return "?"


class HostedBundle:
    """A bundle, ready to serve.

    Args:
        bundle: the registered bundle.
        files: its files, from the registry.
        guards: of its policy; by default made from it, as long as no judge has to be found for that.

    Raises:
        UsageError: the bundle has no entry point, or its code does not hold it.
        IntegrityError: a code file is not what was hashed.
    """

    def __init__(self, bundle: Bundle, files: Mapping[str, bytes], *, guards: Guards | None = None) -> None:
        self.bundle = bundle
        self.content = BundleContent(bundle, files)
        orchestration, controls = self.content.part("orchestration"), self.content.part("controls")
        if not orchestration.get("entry"):
            raise UsageError(f"bundle {bundle.bundle_id}", seen="no entry point", needed="orchestration.entry in bundle.yaml")
        code = {reference["file"]: self.content.file(reference) for reference in orchestration.get("code", ())}
        self.entry = load_entry(orchestration["entry"], code, digest=bundle.digest, subject=f"bundle {bundle.bundle_id}")
        subject = f"bundle {bundle.bundle_id}"
        self.guards = guards or guards_of(self.content, provider=_unknown, risk_tier=None, subject=subject)
        self.retries = int(controls.get("retries") or 0)
        self.timeout_s = parse_duration(controls["timeout"]).total_seconds() if controls.get("timeout") else math.inf

    async def answer(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        unit: str,
        caller: ModelCaller,
        tools: Tools,
        clock: Clock,
        limit_s: float = math.inf,
        steps: list[Step] | None = None,
        guard: TurnGuard | None = None,
        say: Say | None = None,
    ) -> Turn:
        """One turn: the entry point's answer, or the bundle's fallback when it fails or time runs out.

        Args:
            messages: the talk so far, oldest first.
            unit: whom the turn is for.
            caller: asks the bundle's model, or what its chain names in its place.
            tools: what the assistant may do in the world.
            clock: time.
            limit_s: seconds that the caller gives; the bundle's own timeout counts where it is shorter.
            steps: filled as they happen, so that a turn that is cancelled leaves what it did.
            guard: the bundle's guards at work on this call; by default on nothing but its tool calls.
            say: takes the answer piece by piece; None where it is wanted whole.

        Raises:
            IntegrityError: a file of the bundle is not what was hashed.
        """
        steps = [] if steps is None else steps
        start_s = clock.now()
        limit_s = min(limit_s, self.timeout_s)
        host = TurnHost(
            self.content,
            unit=unit,
            caller=caller,
            tools=tools,
            clock=clock,
            deadline_s=start_s + limit_s,
            retries=self.retries,
            steps=steps,
            guard=guard or TurnGuard(self.guards, clock=clock, steps=steps, offered=None),
            say=say,
        )
        try:
            async with clock.limit(limit_s):
                reply = reply_of(await self.entry(messages, host))
        except WorkbenchError:
            raise
        except Exception as fault:  # noqa: BLE001 - the entry point is somebody else's code
            return self._fallen_back(fault, host, caller, start_s)
        return Turn(
            choices=said(reply.content, reply.finish_reason),
            status="truncated" if reply.finish_reason == "length" else reply.status,
            blocked_rules=reply.blocked_rules,
            handoff_id=reply.case_number,
            start_s=start_s,
            latency_s=clock.now() - start_s,
            is_fallback=is_served_by_another(host.steps),
            ttft_s=first_token_s(host.steps, start_s),
            steps=tuple(host.steps),
        )

    def _fallen_back(self, fault: Exception, host: TurnHost, caller: ModelCaller, start_s: float) -> Turn:
        is_late = isinstance(fault, TimeoutError) or kind_of(fault) is FailureKind.DEADLINE
        if is_late:
            for step in host.steps:
                step.status = "timeout" if step.status == "cancelled" else step.status
        elif not isinstance(fault, ProviderError):
            _note("bundle", self.bundle.bundle_id, fault)
        return ended(caller, host.asked, code=error_type(fault), is_late=is_late, clock=host.clock, start_s=start_s, steps=host.steps)


def _unknown(name: str) -> ProviderFactory:
    raise UsageError(f"provider {name}", seen="a judge needs it", needed="guards that were opened with the providers")


def error_type(fault: BaseException) -> str:
    """A short name of what failed: the fault's own code, else its class; never its words, which may quote a user."""
    if isinstance(fault, TimeoutError):
        return "timeout"
    code = getattr(fault, "code", None)
    return code if isinstance(code, str) and _CODE.fullmatch(code) else type(fault).__name__


def reply_of(value: Any) -> Reply:
    """What the entry point gave back, checked.

    Raises:
        BadReply: it is no mapping, has no text, says something of itself that nobody knows, or names a case in other characters than
            up to 256 printable ones of ASCII.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
        raise BadReply
    reply = Reply(
        content=value["content"],
        status=value.get("status", "ok"),
        finish_reason=value.get("finish_reason"),
        blocked_rules=tuple(value.get("blocked_rules") or ()),
        case_number=value.get("case_number"),
    )
    names = (*(name for name in (reply.finish_reason, reply.case_number) if name is not None), *reply.blocked_rules)
    if reply.status not in _REPLY_STATUSES or not all(isinstance(name, str) for name in names):
        raise BadReply
    if reply.case_number is not None and _CASE_NUMBER.fullmatch(reply.case_number) is None:
        raise BadReply
    return reply


def _note(what: str, name: str, fault: BaseException) -> None:
    """Log where somebody else's code failed; not its words, which may quote a user."""
    place = next((f"{frame.filename}:{frame.lineno}" for frame in reversed(extract_tb(fault.__traceback__))), "unknown place")
    _LOG.warning("%s %s failed: %s at %s", what, name, error_type(fault), place)
