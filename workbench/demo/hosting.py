"""Runs a registered bundle: its entry point loaded from the bundle's own content, one turn at a time, every step recorded.

What runs is what was hashed: code, prompts, index and policy come from the registry's blobs, never from the checkout.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from workbench.demo.chance import Draws
from workbench.demo.clock import Clock
from workbench.demo.modules import load_entry
from workbench.demo.provider import Provider, ProviderError
from workbench.demo.shop import ToolError
from workbench.errors import IntegrityError, UsageError
from workbench.spec.base import parse_duration
from workbench.versions.model import Bundle

_BACKOFF_S = 0.2
_SEARCH_S_PER_DOCUMENT = 0.00025


class Tools(Protocol):
    """What the assistant may do in the world."""

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the tool answers. May raise ToolError."""


class BundleContent:
    """A bundle's parts as declared, and the bytes of its files, each checked against its digest when read.

    Args:
        bundle: the registered bundle.
        files: path relative to the bundle's folder to content.
    """

    def __init__(self, bundle: Bundle, files: Mapping[str, bytes]) -> None:
        self.bundle = bundle
        self.files = files

    def part(self, name: str) -> Mapping[str, Any]:
        """One part as declared; empty when the bundle has none."""
        part = {str(key): part for key, part in self.bundle.parts.items()}.get(name)
        return part.content if part else {}

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


@dataclass(slots=True, kw_only=True)
class Step:
    """One thing that happened inside a turn. Times in seconds of the turn's clock."""

    kind: str
    name: str
    start_s: float
    duration_s: float
    status: str = "ok"
    error_type: str | None = None
    attempt: int = 1
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answered turn."""

    content: str
    status: str
    """`ok`, `handed_off`, `truncated`, `error` or `timeout`."""
    finish_reason: str | None
    is_fallback: bool
    error_type: str | None
    blocked_rules: tuple[str, ...]
    case_number: str | None
    start_s: float
    latency_s: float
    ttft_s: float | None
    """From the customer's message to the first token of the answer; None when the model did not answer."""
    steps: tuple[Step, ...]


class TurnHost:
    """What one turn of the assistant sees of the world; every step through it is recorded.

    Args:
        bundle: the bundle that runs.
        unit: whom the turn is for.
        provider: the model.
        tools: the shop.
        clock: time.
        retries: further attempts after a failure that may pass.
    """

    def __init__(self, bundle: BundleContent, *, unit: str, provider: Provider, tools: Tools, clock: Clock, retries: int) -> None:
        self.bundle = bundle
        self.unit = unit
        self.provider = provider
        self.tools = tools
        self.clock = clock
        self.retries = retries
        self.steps: list[Step] = []
        self.first_token_s: float | None = None
        self._side_effects = {tool["name"]: tool.get("side_effect", "unknown") for tool in bundle.part("orchestration").get("tools", ())}

    async def complete(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The model's response.

        Raises:
            ProviderError: when every attempt failed.
        """

        async def attempt(number: int, step: Step) -> Mapping[str, Any]:
            response = await self.provider.complete({**request, "metadata": {"attempt": str(number)}})
            usage = response["usage"]
            step.details = {
                "model": response["model"],
                "input_tokens": usage["prompt_tokens"],
                "output_tokens": usage["completion_tokens"],
                "finish_reason": response["choices"][0]["finish_reason"],
            }
            self.first_token_s = step.start_s + response["timings"]["prompt_ms"] / 1000
            return response

        return await self._attempts("model", str(request["model"]), attempt)

    async def call_tool(self, name: str, arguments: Mapping[str, Any], *, call_id: str) -> Mapping[str, Any]:
        """The tool's result, or `{"error": …}` when every attempt failed: the model has to live with it.

        A tool that the bundle does not declare is refused.
        """
        if name not in self._side_effects:
            self.record("guard", "tool_allow_list", rule_id="tool_not_declared", action="block", tool=name)
            return {"error": f"{name} is not a tool of this assistant"}

        async def attempt(number: int, step: Step) -> Mapping[str, Any]:
            del number
            step.details = {"tool_call_id": call_id, "arguments": arguments, "side_effect": self._side_effects[name]}
            result = await self.tools.call(name, arguments)
            step.details["result"] = result
            return result

        try:
            return await self._attempts("tool", name, attempt)
        except ToolError as fault:
            return {"error": str(fault)}

    async def search_time(self, n_documents: int) -> None:
        """The time that a search takes."""
        start_s = self.clock.now()
        await self.clock.sleep(0.004 + n_documents * _SEARCH_S_PER_DOCUMENT)
        self.steps.append(Step(kind="retrieval", name="articles", start_s=start_s, duration_s=self.clock.now() - start_s))

    def record(self, kind: str, name: str, **details: Any) -> None:
        """A step of the assistant's own; the details of a search join its time."""
        last = self.steps[-1] if self.steps else None
        if last is not None and last.kind == kind == "retrieval" and not last.details:
            last.details = details
            return
        self.steps.append(Step(kind=kind, name=name, start_s=self.clock.now(), duration_s=0.0, details=details))

    async def _attempts(self, kind: str, name: str, attempt: Callable[[int, Step], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        """The first result; each attempt leaves its step, the failed ones too."""
        number = 1
        while True:
            step = Step(kind=kind, name=name, start_s=self.clock.now(), duration_s=0.0, attempt=number)
            self.steps.append(step)
            try:
                return await attempt(number, step)
            except (ProviderError, ToolError, TimeoutError) as fault:
                step.status = "timeout" if isinstance(fault, TimeoutError) else "error"
                step.error_type = type(fault).__name__
                if isinstance(fault, TimeoutError) or number > self.retries:
                    raise
            finally:
                step.duration_s = self.clock.now() - step.start_s
            await self.clock.sleep(_BACKOFF_S * number * Draws("backoff", self.unit, name, number).uniform(0.5, 1.0))
            number += 1


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
        self.retries = int(controls.get("retries") or 0)
        self.timeout_s = parse_duration(controls["timeout"]).total_seconds() if controls.get("timeout") else None
        canned = [link["text"] for link in controls.get("fallback", ()) if link.get("kind") == "canned"]
        self.fallback = canned[0] if canned else "We cannot answer right now. Please try again later."

    async def answer(self, messages: Sequence[Mapping[str, Any]], *, unit: str, provider: Provider, tools: Tools, clock: Clock) -> Turn:
        """One turn: the entry point's answer, or the bundle's fallback when the model stays away or time runs out."""
        host = TurnHost(self.content, unit=unit, provider=provider, tools=tools, clock=clock, retries=self.retries)
        start_s = clock.now()
        try:
            if self.timeout_s is None:
                answer = await self.entry(messages, host)
            else:
                async with clock.limit(self.timeout_s):
                    answer = await self.entry(messages, host)
        except (ProviderError, TimeoutError) as fault:
            return self._fallen_back(fault, host, start_s)
        status = "truncated" if answer["finish_reason"] == "length" else answer["status"]
        return Turn(
            content=answer["content"],
            status=status,
            finish_reason=answer["finish_reason"],
            is_fallback=False,
            error_type=None,
            blocked_rules=tuple(answer["blocked_rules"]),
            case_number=answer["case_number"],
            start_s=start_s,
            latency_s=clock.now() - start_s,
            ttft_s=None if host.first_token_s is None else host.first_token_s - start_s,
            steps=tuple(host.steps),
        )

    def _fallen_back(self, fault: Exception, host: TurnHost, start_s: float) -> Turn:
        host.record("fallback", "canned", action="canned", reason=type(fault).__name__)
        return Turn(
            content=self.fallback,
            status="timeout" if isinstance(fault, TimeoutError) else "error",
            finish_reason=None,
            is_fallback=True,
            error_type=type(fault).__name__,
            blocked_rules=(),
            case_number=None,
            start_s=start_s,
            latency_s=host.clock.now() - start_s,
            ttft_s=None,
            steps=tuple(host.steps),
        )
