"""Targets that do what they are told, and questions to them, on time that passes at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from tests.controls.tiny import ASK, said
from workbench.controls.asking import Asking, ModelCaller
from workbench.controls.chain import Chain
from workbench.controls.events import Event
from workbench.controls.failures import FailureKind
from workbench.controls.limits import Limits
from workbench.controls.providers import ProviderError
from workbench.controls.retries import RetryPolicy
from workbench.controls.targets import Capabilities, Target, TargetHealth
from workbench.demo.clock import VirtualClock

REQUEST = {"model": "small", "messages": ASK}
Act = Any
"""What a scripted provider does: an exception to raise, seconds to wait, events, or an answer; a list is done in order."""


@dataclass
class Scripted:
    """A provider that does one act for each request, the last one ever again."""

    acts: list[Act] = field(default_factory=lambda: [said()])
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    sendings: list[Any] = field(default_factory=list)
    clock: Any = None

    def __call__(self, clock: Any) -> Scripted:
        self.clock = clock
        return self

    async def complete(self, request: Mapping[str, Any], *, attempt: int = 1) -> Mapping[str, Any]:
        self.asked.append({**request, "attempt": attempt})
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        for step in act if isinstance(act, list) else [act]:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, int | float):
                await self.clock.sleep(step)
            else:
                return step
        raise AssertionError("an act that ends without an answer")


class Streaming(Scripted):
    """The same, piece by piece."""

    async def complete(self, request: Mapping[str, Any], *, attempt: int = 1, sending: Any = None) -> Mapping[str, Any]:
        self.sendings.append(sending)
        return await super().complete(request, attempt=attempt)

    async def stream(self, request: Mapping[str, Any], *, attempt: int = 1, sending: Any = None):
        self.asked.append({**request, "attempt": attempt})
        self.sendings.append(sending)
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        for step in act if isinstance(act, list) else [act]:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, int | float):
                await self.clock.sleep(step)
            else:
                yield step


def failing(kind: str, *, hint_s: float | None = None, **about: Any) -> ProviderError:
    return ProviderError("failed", code=f"code_{kind}", kind=FailureKind(kind), retry_after_s=hint_s, **about)


def target(provider: Callable[[Any], Any], *, kind: str = "primary", name: str = "acme", model: str = "small", **about: Any) -> Target:
    return Target(kind=kind, provider=name, model=model, factory=provider, **about)


def sibling(provider: Callable[[Any], Any], **about: Any) -> Target:
    return target(provider, kind="sibling", name="other", **about)


def other_model(provider: Callable[[Any], Any], **about: Any) -> Target:
    return target(provider, **{"kind": "model", "name": "third", "model": "large", "capabilities": Capabilities(), **about})


class Asked:
    """Targets of one bundle, and all that comes of asking them.

    `now_s` is the time of the targets' record, unless that is the time of the turn, too.
    """

    def __init__(self, *targets: Target, retries: int = 2, limits: Limits | None = None, is_one_clock: bool = False, **chain: Any) -> None:
        self.now_s = 0.0
        self.health = TargetHealth(monotonic=lambda: self.clock.now() if is_one_clock else self.now_s)
        policy = RetryPolicy.of(retries=retries, attempts=None)
        self.chain = Chain(targets=targets, policy=policy, limits=limits or Limits(), **chain)
        self.caller = ModelCaller(self.chain, self.health, bundle_id="support@1")
        self.steps: list[Any] = []
        self.clock = VirtualClock()

    def asking(self, *, within_s: float = math.inf, label: str = "u1", **about: Any) -> Asking:
        self.clock, self.steps = VirtualClock(), []
        return Asking(clock=self.clock, deadline_s=within_s, steps=self.steps, label=label, **about)

    def complete(self, request: Mapping[str, Any] = REQUEST, **about: Any) -> Mapping[str, Any]:
        return asyncio.run(self.caller.complete(request, self.asking(**about)))

    def stream(self, request: Mapping[str, Any] = REQUEST, **about: Any) -> tuple[list[Event], ProviderError | None]:
        """The events that came, and how it failed."""
        return asyncio.run(self._gather(request, self.asking(**about)))

    async def _gather(self, request: Mapping[str, Any], asking: Asking) -> tuple[list[Event], ProviderError | None]:
        events: list[Event] = []
        try:
            async with aclosing(self.caller.stream(request, asking)) as stream:
                async for event in stream:
                    events.append(event)  # noqa: PERF401 - what came before a failure counts
        except ProviderError as fault:
            return events, fault
        return events, None

    @property
    def attempts(self) -> list[tuple[str, int, str | None]]:
        """Target, number and failure of each attempt."""
        return [(step.details["target"], step.attempt, step.details.get("failure")) for step in self.steps if step.kind == "model"]

    @property
    def passed_over(self) -> list[tuple[str, str]]:
        return [(step.details["target"], step.details["reason"]) for step in self.steps if step.kind == "fallback"]
