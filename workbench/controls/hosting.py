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
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from traceback import extract_tb
from typing import Any

import orjson

from workbench.controls.clock import Clock
from workbench.controls.completions import checked_completion, model_details, prompt_s
from workbench.controls.events import ToolCall
from workbench.controls.guarding import DeclaredTools, Guards, TurnGuard
from workbench.controls.modules import load_entry
from workbench.controls.providers import Provider, ProviderError
from workbench.controls.retries import pause_s
from workbench.controls.tools import BadToolResult, ToolError, Tools, is_json_object
from workbench.controls.turn import Say, Step, Turn, said
from workbench.errors import IntegrityError, UsageError, WorkbenchError
from workbench.spec.base import parse_duration
from workbench.versions.model import Bundle

_LOG = logging.getLogger(__name__)
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CASE_NUMBER = re.compile(r"[\x20-\x7e]{0,256}")
"""It leaves in a header."""
_SEARCH_S, _SEARCH_S_PER_DOCUMENT = 0.004, 0.00025
_REPLY_STATUSES = ("ok", "handed_off", "blocked")
NO_ANSWER = "We cannot answer right now. Please try again later."
"""What a bundle without a fallback text says."""


class BundleContent:
    """A bundle's parts as declared, and the bytes of its files, each checked against its digest when read.

    Args:
        bundle: the registered bundle.
        files: path relative to the bundle's folder to content.
    """

    def __init__(self, bundle: Bundle, files: Mapping[str, bytes]) -> None:
        self.bundle = bundle
        self.files = files
        self._parts: Mapping[str, Mapping[str, Any]] = {name: part.content for name, part in bundle.parts.items()}

    def part(self, name: str) -> Mapping[str, Any]:
        """One part as declared; empty when the bundle has none."""
        return self._parts.get(name, {})

    @cached_property
    def side_effects(self) -> Mapping[str, str]:
        """Each tool that the bundle declares, and what it does to the world: `read`, `write` or `unknown`."""
        return {tool["name"]: tool.get("side_effect", "unknown") for tool in self.part("orchestration").get("tools", ())}

    def file(self, reference: Mapping[str, str]) -> bytes:
        """The content behind `{"file": path, "sha256": hex}`.

        Raises:
            IntegrityError: the content is missing or is not what was hashed.
        """
        content = self.files.get(reference["file"])
        expected = reference["sha256"].removeprefix("sha256:")
        if content is None or sha256(content).hexdigest() != expected:
            seen = "not stored" if content is None else "its content has another digest"
            raise IntegrityError(f"bundle {self.bundle.bundle_id}: {reference['file']}", seen=seen, needed=f"sha256 {expected[:12]}…")
        return content


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
        provider: the model.
        tools: what the assistant may do in the world.
        clock: time.
        retries: further attempts after a failure that may pass.
        steps: where the steps are recorded, as they happen.
        guard: sees each tool call before it runs.
        say: takes the answer piece by piece; None where it is wanted whole.
    """

    def __init__(
        self,
        bundle: BundleContent,
        *,
        unit: str,
        provider: Provider,
        tools: Tools,
        clock: Clock,
        retries: int,
        steps: list[Step],
        guard: TurnGuard,
        say: Say | None,
    ) -> None:
        self.bundle = bundle
        self.unit = unit
        self.provider = provider
        self.tools = tools
        self.clock = clock
        self.retries = retries
        self.steps = steps
        self._guard = guard
        self._say = say
        self.first_token_s: float | None = None

    async def complete(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The model's response.

        Raises:
            ProviderError: when every attempt failed.
        """

        async def attempt(number: int, step: Step) -> Mapping[str, Any]:
            response = checked_completion(await self.provider.complete(request, attempt=number))
            step.details = model_details(response)
            first_s = prompt_s(response)
            self.first_token_s = None if first_s is None else step.start_s + first_s
            return response

        return await self._attempts("model", str(request.get("model", "")), attempt)

    async def call_tool(self, name: str, arguments: Mapping[str, Any], *, call_id: str) -> Mapping[str, Any]:
        """The tool's result, or `{"error": …}` when it failed: the model has to live with it.

        A call that a guard forbids does not run; the model is told why.
        """
        forbidding = await self._guard.tool_call(ToolCall(call_id=call_id, name=name, arguments=_json_text(arguments)))
        if forbidding is not None:
            return {"error": forbidding.sentence}

        async def attempt(number: int, step: Step) -> Mapping[str, Any]:
            del number
            step.details = {"tool_call_id": call_id, "arguments": arguments, "side_effect": self.bundle.side_effects[name]}
            result = await self.tools.call(name, arguments)
            if not is_json_object(result):
                raise BadToolResult
            step.details["result"] = result
            return result

        try:
            return await self._attempts("tool", name, attempt)
        except ToolError as fault:
            return {"error": str(fault)}
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

    async def _attempts(self, kind: str, name: str, attempt: Callable[[int, Step], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        """The first result; each attempt leaves its step, the failed ones too."""
        number = 1
        while True:
            step = self._begin(kind, name, attempt=number)
            try:
                return await attempt(number, step)
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
    """The arguments as JSON text; what is nothing that JSON holds is none, and no guard lets it pass."""
    try:
        return orjson.dumps(dict(arguments)).decode()
    except (TypeError, ValueError):
        return ""


class HostedBundle:
    """A bundle, ready to serve.

    Args:
        bundle: the registered bundle.
        files: its files, from the registry.

    Raises:
        UsageError: the bundle has no entry point, or its code does not hold it.
        IntegrityError: a code file is not what was hashed.
    """

    def __init__(self, bundle: Bundle, files: Mapping[str, bytes]) -> None:
        self.bundle = bundle
        self.content = BundleContent(bundle, files)
        orchestration, controls = self.content.part("orchestration"), self.content.part("controls")
        if not orchestration.get("entry"):
            raise UsageError(f"bundle {bundle.bundle_id}", seen="no entry point", needed="orchestration.entry in bundle.yaml")
        code = {reference["file"]: self.content.file(reference) for reference in orchestration.get("code", ())}
        self.entry = load_entry(orchestration["entry"], code, digest=bundle.digest, subject=f"bundle {bundle.bundle_id}")
        self.guards: Guards = DeclaredTools(tuple(self.content.side_effects))
        self.retries = int(controls.get("retries") or 0)
        self.timeout_s = parse_duration(controls["timeout"]).total_seconds() if controls.get("timeout") else math.inf
        canned = [link["text"] for link in controls.get("fallback", ()) if link.get("kind") == "canned"]
        self.fallback = canned[0] if canned else NO_ANSWER

    async def answer(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        unit: str,
        provider: Provider,
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
            provider: the model.
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
        host = TurnHost(
            self.content,
            unit=unit,
            provider=provider,
            tools=tools,
            clock=clock,
            retries=self.retries,
            steps=steps,
            guard=guard or TurnGuard(self.guards, clock=clock, steps=steps, offered=None),
            say=say,
        )
        start_s = clock.now()
        try:
            async with clock.limit(min(limit_s, self.timeout_s)):
                reply = reply_of(await self.entry(messages, host))
        except WorkbenchError:
            raise
        except Exception as fault:  # noqa: BLE001 - the entry point is somebody else's code
            return self._fallen_back(fault, host, start_s)
        return Turn(
            choices=said(reply.content, reply.finish_reason),
            status="truncated" if reply.finish_reason == "length" else reply.status,
            blocked_rules=reply.blocked_rules,
            handoff_id=reply.case_number,
            start_s=start_s,
            latency_s=clock.now() - start_s,
            ttft_s=None if host.first_token_s is None else host.first_token_s - start_s,
            steps=tuple(host.steps),
        )

    def _fallen_back(self, fault: Exception, host: TurnHost, start_s: float) -> Turn:
        if isinstance(fault, TimeoutError):
            for step in host.steps:
                step.status = "timeout" if step.status == "cancelled" else step.status
        elif not isinstance(fault, ProviderError):
            _note("bundle", self.bundle.bundle_id, fault)
        host.record("fallback", "canned", action="canned", reason=error_type(fault))
        return Turn(
            choices=said(self.fallback),
            status="timeout" if isinstance(fault, TimeoutError) else "error",
            is_fallback=True,
            error_type=error_type(fault),
            start_s=start_s,
            latency_s=host.clock.now() - start_s,
            steps=tuple(host.steps),
        )


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
