"""Asks a model for one answer: which target, how often, how long, and what each attempt leaves behind.

This is the only layer that tries again. Everything it decides is in the tables of `failures` and in the pure functions of `retries`;
what it knows of the targets it shares with all other calls of the process.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from workbench.controls.breaker import Permit
from workbench.controls.chain import Chain
from workbench.controls.clock import Clock
from workbench.controls.completions import checked_completion, completion_of, model_details, prompt_s
from workbench.controls.events import Event, Finished, TextPart, ToolPart, Usage, assembled, events_of
from workbench.controls.failures import HANDLING, Counts, FailureKind
from workbench.controls.lastgood import LastGood, LastGoodAnswers
from workbench.controls.limits import Limits
from workbench.controls.providers import NotAsked, Provider, ProviderError, Sending, StreamingProvider
from workbench.controls.retries import SHORTEST_S, fraction, may_be_repeated, may_turn_elsewhere, pause_before_retry
from workbench.controls.targets import Health, Needs, Target, TargetHealth, needs_of
from workbench.controls.turn import Step

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
_FAIR_WAIT_S = 5.0
"""A target that got less time than this, because its caller had no more, does not count as failed."""
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

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline_s - self.clock.now())


@dataclass(slots=True)
class _Attempt:
    """One attempt that is under way."""

    target: Target
    request: Mapping[str, Any]
    number: int
    limits: Limits
    is_last: bool
    step: Step
    exits: AsyncExitStack
    """What ends with the attempt."""


_Ask = Callable[[_Attempt, Asking], Awaitable[T]]


class _Opened(NamedTuple):
    """A stream of which the first words came."""

    first: list[Event]
    rest: AsyncGenerator[Event] | None
    step: Step
    exits: AsyncExitStack


class ModelCaller:
    """Asks the targets of one bundle. Calls share it.

    Args:
        chain: whom to ask, and how.
        health: how the targets of this process are doing.
        bundle_id: whose answers are remembered under it.
        last_good: where answers are remembered, when the bundle falls back on them.
    """

    def __init__(self, chain: Chain, health: TargetHealth, *, bundle_id: str = "", last_good: LastGoodAnswers | None = None) -> None:
        self.chain = chain
        self._health = health
        self._bundle_id = bundle_id
        ages = [ending.max_age_s for ending in chain.endings if ending.kind == "last_good"]
        self._max_age_s = max(ages, default=0.0)
        self._last_good = last_good if ages else None

    async def complete(self, request: Mapping[str, Any], asking: Asking) -> Mapping[str, Any]:
        """The chat completion of the first target that gives one; `model` in it is the one that answered.

        Raises:
            ProviderError: none did. It is the failure of the last one that was asked, with the shortest of the hints.
        """
        response = await _Question(self.chain, self._health, request, asking).put(_completed)
        if self._last_good is not None:
            self._last_good.keep(self._bundle_id, request, completion_of(response))
        return response

    async def stream(self, request: Mapping[str, Any], asking: Asking) -> AsyncGenerator[Event]:
        """The events of the first target that says something; close it (`aclosing`) when you stop reading, which hangs up at once.

        Until the first word or tool call a failure leads to another attempt, as in `complete`; where the bundle holds everything back,
        until the last. The stream ends only when the answer is complete.

        Raises:
            ProviderError: nobody answered; or, with the kind `mid_stream`, the answer broke off after part of it was given out.
        """
        is_held = self.chain.stream.release == "hold_all"
        opened = await _Question(self.chain, self._health, request, asking).put(_gathered if is_held else _begun)
        kept: list[Event] | None = [] if self._last_good is not None else None
        try:
            async with opened.exits:
                async for event in _passed_on(opened, asking):
                    if kept is not None:
                        kept.append(event)
                    yield event
        except ProviderError as fault:
            opened.step.details["is_mid_stream"] = True
            raise _broken_off(fault) from fault
        if kept is not None and self._last_good is not None:
            self._last_good.keep(self._bundle_id, request, assembled(kept))

    def last_good(self, request: Mapping[str, Any]) -> LastGood | None:
        """What the bundle answered to the same request not too long ago, where it may fall back on that."""
        return self._last_good.find(self._bundle_id, request, max_age_s=self._max_age_s) if self._last_good is not None else None


@dataclass(slots=True)
class _Question:
    """One question on its way through the chain."""

    chain: Chain
    health: TargetHealth
    request: Mapping[str, Any]
    asking: Asking
    needs: Needs = field(init=False)
    in_all: int = 0
    """Attempts so far."""
    faults: list[ProviderError] = field(default_factory=list)
    """Of all attempts, and of those that were not made."""

    def __post_init__(self) -> None:
        self.needs = needs_of(self.request)

    async def put(self, ask: _Ask[T]) -> T:
        """What the first target gives that gives something."""
        fitting = [target for target in self.chain.targets if target.capabilities.suit(self.needs)]
        failed: Target | None = None
        for place, target in enumerate(fitting):
            if failed is not None and not self._may_turn_to(target, failed):
                continue
            answer = await self._at(target, ask, is_last=place == len(fitting) - 1, is_lone=len(fitting) == 1)
            if answer is not None:
                return answer
            failed = target
        raise self._final()

    def _may_turn_to(self, target: Target, failed: Target) -> bool:
        fault = self.faults[-1]
        if not may_turn_elsewhere(fault, in_all=self.in_all, policy=self.chain.policy) or not may_be_repeated(fault, self.request):
            return False
        return not HANDLING[fault.kind].larger_only or target.is_larger(failed, self.needs)

    async def _at(self, target: Target, ask: _Ask[T], *, is_last: bool, is_lone: bool) -> T | None:
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

    async def _attempt(self, target: Target, health: Health, ask: _Ask[T], *, is_last: bool, is_lone: bool, waited_s: float) -> T:
        asking = self.asking
        async with AsyncExitStack() as exits:
            if not await health.slots.enter(asking.clock, within_s=min(asking.left_s, _LONGEST_QUEUE_S)):
                raise NotAsked(f"{target.name}: too many requests are at it, or wait", kind=FailureKind.BUSY, retry_after_s=1.0)
            exits.callback(health.slots.leave)
            is_retry = bool(self.in_all or asking.inbound_retries)
            permit = health.admit(is_lone=is_lone, is_retry=is_retry, fraction=self._chance("admission"))
            self.in_all += 1
            step = Step(kind="model", name=target.model, start_s=asking.clock.now(), attempt=self.in_all)
            step.details = {"provider": target.provider, "target": target.kind, "wait_s": waited_s}
            asking.steps.append(step)
            exits.enter_context(self._recorded(step, health, permit))
            is_last = is_last or self.in_all >= self.chain.policy.in_all
            attempt = _Attempt(
                target=target,
                request=target.request(self.request),
                number=self.in_all,
                limits=self.chain.limits.within(asking.left_s, is_last=is_last),
                is_last=is_last,
                step=step,
                exits=exits,
            )
            return await ask(attempt, asking)

    @contextmanager
    def _recorded(self, step: Step, health: Health, permit: Permit) -> Iterator[None]:
        """Record how the attempt ends, for the log and for the target's record."""
        try:
            yield
        except ProviderError as fault:
            self._failed(fault, step, health, permit)
            raise
        except Exception as fault:
            broken = ProviderError("the provider broke", code="provider_broke", kind=FailureKind.BROKEN)
            _LOG.warning("provider of %s broke: %s", step.name, type(fault).__name__)
            self._failed(broken, step, health, permit)
            raise broken from fault
        except BaseException:  # whoever asked has left
            step.status = "cancelled"
            health.withdraw(permit)
            raise
        else:
            health.settle(permit, None, counts=None, fraction=0.0)
        finally:
            step.duration_s = self.asking.clock.now() - step.start_s

    def _failed(self, fault: ProviderError, step: Step, health: Health, permit: Permit) -> None:
        step.status = "timeout" if fault.kind in _LATE else "error"
        step.error_type = fault.code
        step.details["failure"] = str(fault.kind)
        counts = self._counts(fault, self.asking.clock.now() - step.start_s)
        health.settle(permit, fault, counts=counts, fraction=self._chance("opening"))

    def _counts(self, fault: ProviderError, waited_s: float) -> Counts:
        """How the failure counts against the target: what came late only because the caller had little time does not."""
        if fault.kind in (FailureKind.SILENT, FailureKind.FIRST_TOKEN):
            limits = self.chain.limits
            own_s = limits.headers_s if fault.kind is FailureKind.SILENT else limits.first_token_s
            if waited_s < min(own_s, _FAIR_WAIT_S) - _TOLERANCE_S:
                return Counts.NONE
        return HANDLING[fault.kind].breaker

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
        return self._final() if self.faults else _deadline()

    def _hint(self, fault: ProviderError) -> ProviderError:
        """The failure with the shortest time after which any of the targets may be asked again."""
        fault.retry_after_s = min((known.retry_after_s for known in self.faults if known.retry_after_s is not None), default=None)
        return fault

    def _chance(self, what: str) -> float:
        """A number in [0, 1) that the question's label decides."""
        return fraction(f"{self.asking.label}\x1f{what}\x1f{len(self.faults)}")


_LATE = (FailureKind.DEADLINE, FailureKind.SILENT, FailureKind.FIRST_TOKEN, FailureKind.SLOW)
_TOLERANCE_S = 0.01


async def _completed(attempt: _Attempt, asking: Asking) -> Mapping[str, Any]:
    """The whole answer at once."""
    step, provider = attempt.step, attempt.target.factory(asking.clock)
    try:
        async with asking.clock.limit(min(asking.left_s, attempt.limits.headers_s)):
            response = checked_completion(await _response(provider, attempt, asking))
    except TimeoutError:
        raise _silent(attempt) from None
    if response.get("model") is None:
        response = {**response, "model": attempt.target.model}
    step.details |= model_details(response)
    first_s = prompt_s(response)
    if first_s is not None:
        step.details["ttft_s"] = first_s
    return response


async def _response(provider: Provider, attempt: _Attempt, asking: Asking) -> Mapping[str, Any]:
    if isinstance(provider, StreamingProvider):
        return await provider.complete(attempt.request, attempt=attempt.number, sending=_sending(attempt, asking))
    return await provider.complete(attempt.request, attempt=attempt.number)


async def _begun(attempt: _Attempt, asking: Asking) -> _Opened:
    """The stream up to its first word or tool call."""
    events = await attempt.exits.enter_async_context(aclosing(_events(attempt, asking)))
    first: list[Event] = []
    while (event := await _next(events, asking)) is not None:
        first.append(event)
        if isinstance(event, TextPart | ToolPart):
            attempt.step.details["ttft_s"] = asking.clock.now() - attempt.step.start_s
            return _Opened(first, events, attempt.step, attempt.exits.pop_all())
    return _Opened(first, None, attempt.step, attempt.exits.pop_all())


async def _gathered(attempt: _Attempt, asking: Asking) -> _Opened:
    """The stream up to its end: as long as all of it is held back, nothing of it was passed on."""
    opened = await _begun(attempt, asking)
    async with opened.exits:
        events = [event async for event in _passed_on(opened, asking)]
    return _Opened(events, None, attempt.step, AsyncExitStack())


async def _passed_on(opened: _Opened, asking: Asking) -> AsyncGenerator[Event]:
    """Every event, noted in the attempt's step."""
    for event in opened.first:
        _note(event, opened.step)
        yield event
    while opened.rest is not None:
        following = await _next(opened.rest, asking)
        if following is None:
            return
        _note(following, opened.step)
        yield following


async def _next(events: AsyncGenerator[Event], asking: Asking) -> Event | None:
    """The next event within the deadline; None after the last."""
    try:
        async with asking.clock.limit(asking.left_s):
            return await anext(events, None)
    except TimeoutError:
        raise _deadline() from None


async def _events(attempt: _Attempt, asking: Asking) -> AsyncGenerator[Event]:
    """The answer's events; a provider that does not stream says them all at once."""
    provider = attempt.target.factory(asking.clock)
    if isinstance(provider, StreamingProvider):
        async with aclosing(provider.stream(attempt.request, attempt=attempt.number, sending=_sending(attempt, asking))) as events:
            async for event in events:
                yield event
        return
    for event in events_of(completion_of(await _completed(attempt, asking))):
        yield event


def _note(event: Event, step: Step) -> None:
    if isinstance(event, Usage):
        step.details |= event.details
    elif isinstance(event, Finished) and not event.choice:
        step.details["finish_reason"] = event.reason


def _sending(attempt: _Attempt, asking: Asking) -> Sending:
    return Sending(left_s=asking.left_s, idempotency_key=asking.idempotency_key, limits=attempt.limits)


def _silent(attempt: _Attempt) -> ProviderError:
    if attempt.is_last:
        return _deadline()
    return ProviderError(f"{attempt.target.name}: it did not answer in time", code="upstream_silent", kind=FailureKind.SILENT)


def _deadline() -> ProviderError:
    return ProviderError("the time of the call ran out", code="timeout", kind=FailureKind.DEADLINE)


def _broken_off(fault: ProviderError) -> ProviderError:
    return ProviderError(str(fault), code=fault.code, kind=FailureKind.MID_STREAM, retry_after_s=fault.retry_after_s, status=fault.status)
