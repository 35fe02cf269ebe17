"""One question on its way through the targets of a bundle: who is asked, how often, and what each attempt leaves behind.

Everything that is decided here is in the table of `failures` and in the pure functions of `retries`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from workbench.controls.attempt import Attempt
from workbench.controls.chain import Chain
from workbench.controls.clock import Clock
from workbench.controls.failures import HANDLING, FailureKind
from workbench.controls.providers import NotAsked, ProviderError
from workbench.controls.retries import SHORTEST_S, fraction, may_be_repeated, may_turn_elsewhere, pause_before_retry
from workbench.controls.targets import Health, Needs, Target, TargetHealth, needs_of
from workbench.controls.turn import Step

T = TypeVar("T")
_LONGEST_QUEUE_S = 5.0
"""For a place at a target that is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One question to a model, as one call asks it."""

    clock: Clock
    deadline_s: float
    """A moment on that clock; `inf` where nobody waits."""
    steps: list[Step]
    """Where the attempts are recorded, as they happen."""
    label: str
    """Spreads waits and chances of different questions, and is the same for the same one."""
    idempotency_key: str | None = None
    """The same for all attempts; a provider that knows it answers once."""
    inbound_retries: int = 0
    """How often the caller's own client tried before."""
    is_held: bool = False
    """Whether the guards hold a streamed answer back until it is whole: then it may be asked for again until its last word."""

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline_s - self.clock.now())


Ask = Callable[[Attempt, Asking], Awaitable[T]]


@dataclass(slots=True)
class Question:
    """One question on its way through the chain."""

    chain: Chain
    health: TargetHealth
    request: Mapping[str, Any]
    asking: Asking
    in_all: int = 0
    """Attempts so far."""
    faults: list[ProviderError] = field(default_factory=list)
    """Of all attempts, and of those that were not made."""

    _needs: Needs | None = None

    @property
    def needs(self) -> Needs:
        """What the request needs of a model. It is looked for where a target's limits ask for it: that reads every message."""
        if self._needs is None:
            self._needs = needs_of(self.request)
        return self._needs

    async def put(self, ask: Ask[T]) -> T:
        """What the first target gives that gives something."""
        fitting = [target for target in self.chain.targets if target.capabilities.are_whole or target.capabilities.suit(self.needs)]
        failed: Target | None = None
        for place, target in enumerate(fitting):
            if failed is not None and not self._may_turn_to(target, failed):
                continue
            is_last = not any(self.health.of(following).is_askable for following in fitting[place + 1 :])
            answer = await self._at(target, ask, is_last=is_last, is_lone=len(fitting) == 1)
            if answer is not None:
                return answer
            failed = target
        raise self._final()

    def _may_turn_to(self, target: Target, failed: Target) -> bool:
        fault = self.faults[-1]
        if not may_turn_elsewhere(fault, in_all=self.in_all, policy=self.chain.policy) or not may_be_repeated(fault, self.request):
            return False
        return not HANDLING[fault.kind].larger_only or target.is_larger(failed, self.needs)

    async def _at(self, target: Target, ask: Ask[T], *, is_last: bool, is_lone: bool) -> T | None:
        """What this target gives, asked as often as the policy allows; None where it gives nothing.

        Raises:
            ProviderError: no other target is to be asked either.
        """
        health = self.health.of(target)
        at_target, waited_s = 0, 0.0
        while True:
            if self.asking.left_s < SHORTEST_S:
                raise self._out_of_time()
            try:
                return await self._attempt(target, health, ask, is_last=is_last, is_lone=is_lone, waited_s=waited_s)
            except NotAsked as fault:
                self._pass_over(target, fault)
                return None
            except ProviderError as fault:
                self.faults.append(fault)
                if not HANDLING[fault.kind].fallback:
                    self._hint(fault)
                    raise
                at_target += 1
                pause_s = self._pause_s(fault, health, at_target)
            if pause_s is None:
                return None
            await self.asking.clock.sleep(pause_s)
            waited_s = pause_s

    def _pause_s(self, fault: ProviderError, health: Health, at_target: int) -> float | None:
        """Seconds before the same target is asked again; None where it is not."""
        if not may_be_repeated(fault, self.request) or not health.has_retry:
            return None
        return pause_before_retry(
            fault,
            at_target=at_target,
            in_all=self.in_all,
            policy=self.chain.policy,
            left_s=self.asking.left_s,
            fraction=self._chance("pause"),
        )

    async def _attempt(self, target: Target, health: Health, ask: Ask[T], *, is_last: bool, is_lone: bool, waited_s: float) -> T:
        asking = self.asking
        if not await health.slots.enter(asking.clock, within_s=min(asking.left_s, _LONGEST_QUEUE_S)):
            raise NotAsked(f"{target.name}: too many requests are at it, or wait", kind=FailureKind.BUSY, retry_after_s=1.0)
        try:
            attempt = self._begun(target, health, is_last=is_last, is_lone=is_lone, waited_s=waited_s)
        except BaseException:
            health.slots.leave()
            raise
        async with attempt:
            return await ask(attempt, asking)

    def _begun(self, target: Target, health: Health, *, is_last: bool, is_lone: bool, waited_s: float) -> Attempt:
        """The attempt, with the target's leave and its step recorded."""
        asking, left_s = self.asking, self.asking.left_s
        if left_s < SHORTEST_S:
            raise deadline_passed()
        is_retry = bool(self.in_all or asking.inbound_retries)
        permit = health.admit(is_lone=is_lone, is_retry=is_retry, chance=self._chance)
        self.in_all += 1
        details = {"provider": target.provider, "target": target.kind, "wait_s": waited_s}
        step = Step(kind="model", name=target.model, start_s=asking.clock.now(), attempt=self.in_all, details=details)
        asking.steps.append(step)
        is_last = is_last or self.in_all >= self.chain.policy.in_all
        return Attempt(
            target=target,
            request=target.request(self.request),
            number=self.in_all,
            limits=self.chain.limits.within(left_s, is_last=is_last),
            own_limits=self.chain.limits,
            is_last=is_last,
            clock=asking.clock,
            step=step,
            health=health,
            permit=permit,
            chance=self._chance,
        )

    def _pass_over(self, target: Target, fault: NotAsked) -> None:
        """Record that the target was not asked."""
        self.faults.append(fault)
        details = {"action": "passed_over", "reason": str(fault.kind), "target": target.kind, "provider": target.provider}
        step = Step(kind="fallback", name=target.model, start_s=self.asking.clock.now(), error_type=fault.code, details=details)
        self.asking.steps.append(step)

    def _final(self) -> ProviderError:
        """The failure that stands for all: the last one of a target that was asked, else the last one."""
        asked = [fault for fault in self.faults if not isinstance(fault, NotAsked)]
        if not self.faults:
            return NotAsked("no target can do what the request needs", kind=FailureKind.UNFIT, code="no_target_fits")
        return self._hint((asked or self.faults)[-1])

    def _out_of_time(self) -> ProviderError:
        return self._final() if self.faults else deadline_passed()

    def _hint(self, fault: ProviderError) -> ProviderError:
        """The failure with the shortest time after which any of the targets may be asked again."""
        fault.retry_after_s = min((known.retry_after_s for known in self.faults if known.retry_after_s is not None), default=None)
        return fault

    def _chance(self, what: str) -> float:
        """A number in [0, 1) that the question's label and moment decide: on virtual time a question finds the same luck again."""
        return fraction(f"{self.asking.label}\x1f{what}\x1f{len(self.faults)}\x1f{self.asking.clock.now()}")


def deadline_passed() -> ProviderError:
    """The failure of who still waits when the caller's time is over."""
    return ProviderError("the time of the call ran out", code="timeout", kind=FailureKind.DEADLINE)
