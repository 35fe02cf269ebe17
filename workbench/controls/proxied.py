"""A proxied app: its own code runs the talk, and each of its model calls passes through here.

The bundle decides the model, its parameters, the system prompt, the tools that may be offered, the policy and the controls. The caller
decides the rest of the messages and the form of the answer. What it says beyond that has no effect, and is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from workbench.controls.asking import ModelCaller
from workbench.controls.completions import completion_of
from workbench.controls.content import BundleContent
from workbench.controls.embedding import Embedding
from workbench.controls.endings import ended
from workbench.controls.events import Assembly, Completion
from workbench.controls.failures import FailureKind
from workbench.controls.guards.engine import Guards
from workbench.controls.model import Call, Message
from workbench.controls.providers import ProviderError
from workbench.controls.question import Asking
from workbench.controls.turn import Say, Turn, first_token_s, is_served_by_another
from workbench.controls.underway import Underway
from workbench.spec.base import parse_duration

PASSED_ON = frozenset({
    "tool_choice", "parallel_tool_calls", "response_format", "seed", "stop", "logprobs", "top_logprobs",
    "max_tokens", "max_completion_tokens",
})  # fmt: skip
"""Options of the caller that have an effect, where the bundle's own parameters do not say otherwise."""
_LIMITS = ("max_tokens", "max_completion_tokens")
"""Names of one limit, of which the smallest counts, the caller's or the bundle's, under the bundle's name."""
_INSTRUCTIONS = ("system", "developer")


class Proxied:
    """A bundle whose model answers a client's own assistant.

    Args:
        content: the registered bundle.
        caller: asks its model.
        guards: of its policy.
        embed: makes what answers a question for vectors.
    """

    def __init__(
        self, content: BundleContent, caller: ModelCaller, guards: Guards, *, embed: Callable[[], Embedding] | None = None
    ) -> None:
        self._caller = caller
        self._embed = embed
        self.guards = guards
        model, controls = content.part("model"), content.part("controls")
        self.bundle_name: str | None = content.bundle.name
        self.provider: str | None = model["provider"]
        self.model: str | None = model["name"]
        self._params: Mapping[str, Any] = {"model": model["name"], **model.get("params", {})}
        prompt = content.part("prompts").get("system")
        self._system = content.file(prompt).decode().strip() if prompt else None
        self._timeout_s = parse_duration(controls["timeout"]).total_seconds() if controls.get("timeout") else math.inf

    @property
    def embedding(self) -> Embedding | None:
        return self._embed() if self._embed else None

    def offered(self, call: Call) -> Sequence[str]:
        """The names of the tools that the request offers and the bundle allows."""
        return [tool["function"]["name"] for tool in self.guards.allowed_tools(call.asked.tools)]

    async def answer(self, underway: Underway) -> Turn:
        call, clock = underway.call, underway.clock
        start_s = clock.now()
        request = self._request(call)
        asking = Asking(
            clock=clock,
            deadline_s=min(underway.deadline_s, start_s + self._timeout_s),
            steps=underway.steps,
            label=call.unit or call.request_id,
            idempotency_key=call.request_id,
            inbound_retries=call.retries,
            is_held=self.guards.hold_all,
        )
        try:
            completion = await self._asked(request, asking, underway.say)
        except ProviderError as fault:
            is_late = fault.kind is FailureKind.DEADLINE
            return ended(self._caller, request, code=fault.code, is_late=is_late, clock=clock, start_s=start_s, steps=underway.steps)
        is_cut = any(choice.finish_reason == "length" for choice in completion.choices)
        return Turn(
            choices=completion.choices,
            status="truncated" if is_cut else "ok",
            start_s=start_s,
            latency_s=clock.now() - start_s,
            is_fallback=is_served_by_another(underway.steps),
            ttft_s=first_token_s(underway.steps, start_s),
            steps=tuple(underway.steps),
        )

    async def _asked(self, request: Mapping[str, Any], asking: Asking, say: Say | None) -> Completion:
        if say is None:
            return completion_of(await self._caller.complete(request, asking))
        assembly = Assembly()
        async with aclosing(self._caller.stream(request, asking)) as events:
            async for event in events:
                assembly.add(event)
                await say(event)
        return assembly.completion()

    def _request(self, call: Call) -> Mapping[str, Any]:
        """What the model is asked."""
        asked = call.asked
        request = {name: value for name, value in asked.options.items() if name in PASSED_ON}
        request |= {**self._params, "messages": self._messages(call.messages)}
        own = [name for name in _LIMITS if name in self._params]
        if own:  # two names of one limit: the bundle's stays
            least = min(limits[name] for limits in (self._params, asked.options) for name in _LIMITS if name in limits)
            request = {**{name: value for name, value in request.items() if name not in _LIMITS}, **dict.fromkeys(own, least)}
        tools = self.guards.allowed_tools(asked.tools)
        if tools:
            request["tools"] = tools
        else:
            for name in ("tool_choice", "parallel_tool_calls"):
                request.pop(name, None)
        if asked.n > 1:
            request["n"] = asked.n
        return request

    def _messages(self, messages: Sequence[Message]) -> list[Message]:
        """The talk under the bundle's own instructions; the caller's count only where the bundle has none."""
        if self._system is None:
            return list(messages)
        return [{"role": "system", "content": self._system}, *(each for each in messages if each["role"] not in _INSTRUCTIONS)]
