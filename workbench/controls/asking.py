"""Asks a model for one answer, whole or piece by piece. This is the only layer that tries again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

from workbench.controls.attempt import Attempt
from workbench.controls.chain import Chain, Ending
from workbench.controls.completions import (
    checked_completion,
    complete_completion,
    completion_of,
    model_details,
    prompt_s,
    require_complete,
    usage_details,
)
from workbench.controls.events import Event, Finished, TextPart, ToolPart, Usage, assembled, events_of
from workbench.controls.failures import FailureKind
from workbench.controls.lastgood import LastGood, LastGoodAnswers
from workbench.controls.providers import Provider, ProviderError, Sending, is_embedding, is_streaming
from workbench.controls.question import Asking, Question, deadline_passed
from workbench.controls.retries import may_turn_elsewhere
from workbench.controls.targets import TargetHealth
from workbench.controls.turn import Step


class _Opened(NamedTuple):
    """A stream of which the first words came."""

    first: list[Event]
    rest: AsyncGenerator[Event] | None
    step: Step
    attempt: AbstractAsyncContextManager[object]
    """To be entered while the rest is read; it ends with the block."""


class Fallen(NamedTuple):
    """What is said in place of an answer."""

    ending: Ending
    last_good: LastGood | None
    """The answer from before and its age, where that is the ending."""


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
        self._last_good = last_good if any(ending.kind == "last_good" for ending in chain.endings) else None

    async def complete(self, request: Mapping[str, Any], asking: Asking) -> Mapping[str, Any]:
        """The chat completion of the first target that gives one; `model` in it is the one that answered.

        Raises:
            ProviderError: none did. It is the failure of the last one that was asked, with the shortest of the hints.
        """
        response = await Question(self.chain, self._health, request, asking).put(_completed)
        if self._last_good is not None:
            self._last_good.keep(self._bundle_id, request, completion_of(response))
        return response

    async def stream(self, request: Mapping[str, Any], asking: Asking) -> AsyncGenerator[Event]:
        """The events of the first target that says something; close it (`aclosing`) when you stop reading, which hangs up at once.

        Until the first word or tool call a failure leads to another attempt, as in `complete`; where everything is held back, until the
        last. The stream ends only when the answer is complete.

        Raises:
            ProviderError: nobody answered; or the answer broke off after part of it was given out: the kind is `mid_stream`, or `deadline`.
        """
        question = Question(self.chain, self._health, request, asking)
        opened = await question.put(_gathered if asking.is_held else _begun)
        said: list[Event] | None = [] if self._last_good is not None or self._goes_on else None
        try:
            async with opened.attempt:
                async for event in _passed_on(opened, asking):
                    if said is not None:
                        said.append(event)
                    yield event
        except ProviderError as fault:
            opened.step.details["is_mid_stream"] = True
            rest = self._rest(question, said or (), fault)
            if rest is None:
                raise _broken_off(fault) from fault
        else:
            if said is not None and self._last_good is not None:
                self._last_good.keep(self._bundle_id, request, assembled(said))
            return
        async with aclosing(_to_the_end(rest)) as events:
            async for event in events:
                yield event

    async def embed(self, request: Mapping[str, Any], asking: Asking) -> Mapping[str, Any]:
        """The embeddings of the first target that gives them, in OpenAI's form.

        Raises:
            ProviderError: none did.
        """
        return await Question(self.chain, self._health, request, asking).put(_embedded)

    @property
    def _goes_on(self) -> bool:
        return self.chain.stream.after_commit == "continue"

    def _rest(self, question: Question, said: Sequence[Event], fault: ProviderError) -> Question | None:
        """The question for the rest of an answer that broke off, to those who go on with what was begun; None where nobody is asked."""
        targets = tuple(target for target in self.chain.targets if target.capabilities.prefill)
        begun = _begun_text(said)
        if (
            not self._goes_on
            or not targets
            or begun is None
            or not may_turn_elsewhere(fault, in_all=question.in_all, policy=self.chain.policy)
        ):
            return None
        messages = [*question.request["messages"], {"role": "assistant", "content": begun}]
        chain = replace(self.chain, targets=targets)
        return Question(chain, self._health, {**question.request, "messages": messages}, question.asking, in_all=question.in_all)

    def ending(self, request: Mapping[str, Any]) -> Fallen | None:
        """What is said when nobody answered: the first ending of the bundle that can be given; None where it declares none."""
        for ending in self.chain.endings:
            if ending.kind != "last_good":
                return Fallen(ending, None)
            found = self._last_good.find(self._bundle_id, request, max_age_s=ending.max_age_s) if self._last_good is not None else None
            if found is not None:
                return Fallen(ending, found)
        return None


async def _completed(attempt: Attempt, asking: Asking) -> Mapping[str, Any]:
    """The whole answer at once."""
    step, provider = attempt.step, attempt.target.factory(asking.clock)
    try:
        async with asking.clock.limit(min(asking.left_s, attempt.limits.headers_s)):
            response = checked_completion(await _response(provider, attempt, asking))
    except TimeoutError:
        raise _silent(attempt) from None
    require_complete(response)  # half an answer is none
    if response.get("model") is None:
        response = {**response, "model": attempt.target.model}
    step.details |= model_details(response)
    first_s = prompt_s(response)
    if first_s is not None:
        step.details["ttft_s"] = first_s
    return response


async def _response(provider: Provider, attempt: Attempt, asking: Asking) -> Mapping[str, Any]:
    if is_streaming(provider):
        return await provider.complete(attempt.request, attempt=attempt.number, sending=_sending(attempt, asking))
    return await provider.complete(attempt.request, attempt=attempt.number)


async def _begun(attempt: Attempt, asking: Asking) -> _Opened:
    """The stream up to its first word or tool call."""
    events = attempt.events = _events(attempt, asking)
    attempt.goes_on = True
    first: list[Event] = []
    while (event := await _next(events, asking)) is not None:
        first.append(event)
        if isinstance(event, TextPart | ToolPart):
            attempt.step.details["ttft_s"] = asking.clock.now() - attempt.step.start_s
            return _Opened(first, events, attempt.step, attempt)
    return _Opened(first, None, attempt.step, attempt)


async def _gathered(attempt: Attempt, asking: Asking) -> _Opened:
    """The stream up to its end: as long as all of it is held back, nothing of it was passed on."""
    opened = await _begun(attempt, asking)
    attempt.goes_on = False
    events = [event async for event in _passed_on(opened, asking)]
    return _Opened(events, None, attempt.step, nullcontext())


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


async def _to_the_end(rest: Question) -> AsyncGenerator[Event]:
    """The rest of an answer that was begun."""
    try:
        opened = await rest.put(_begun)
        async with opened.attempt:
            async for event in _passed_on(opened, rest.asking):
                yield event
    except ProviderError as fault:
        raise _broken_off(fault) from fault


def _begun_text(said: Sequence[Event]) -> str | None:
    """What a target could go on with; None after a tool call was begun, or an answer came to its end, or where there are several."""
    texts = [event.text for event in said if isinstance(event, TextPart) and not event.choice]
    is_plain = all(isinstance(event, Usage) or (isinstance(event, TextPart) and not event.choice) for event in said)
    return "".join(texts) if texts and is_plain else None


async def _embedded(attempt: Attempt, asking: Asking) -> Mapping[str, Any]:
    provider = attempt.target.factory(asking.clock)
    if not is_embedding(provider):
        raise ProviderError(f"{attempt.target.name}: it gives no embeddings", code="no_embeddings", kind=FailureKind.BAD_REQUEST)
    try:
        async with asking.clock.limit(min(asking.left_s, attempt.limits.headers_s)):
            response = await provider.embed(attempt.request, attempt=attempt.number, sending=_sending(attempt, asking))
    except TimeoutError:
        raise _silent(attempt) from None
    details = {"model": response.get("model"), **usage_details(response.get("usage"))}
    attempt.step.details |= {name: value for name, value in details.items() if value is not None}
    return response


async def _next(events: AsyncGenerator[Event], asking: Asking) -> Event | None:
    """The next event within the deadline; None after the last."""
    try:
        return await asking.clock.within(asking.deadline_s, anext(events, None))
    except TimeoutError:
        raise deadline_passed() from None


def _events(attempt: Attempt, asking: Asking) -> AsyncGenerator[Event]:
    """The answer's events; a provider that does not stream says them all at once."""
    provider = attempt.target.factory(asking.clock)
    if is_streaming(provider):
        return provider.stream(attempt.request, attempt=attempt.number, sending=_sending(attempt, asking))
    return _at_once(attempt, asking)


async def _at_once(attempt: Attempt, asking: Asking) -> AsyncGenerator[Event]:
    for event in events_of(complete_completion(await _completed(attempt, asking))):
        yield event


def _note(event: Event, step: Step) -> None:
    if isinstance(event, Usage):
        step.details |= event.details
    elif isinstance(event, Finished) and not event.choice:
        step.details["finish_reason"] = event.reason


def _sending(attempt: Attempt, asking: Asking) -> Sending:
    return Sending(left_s=asking.left_s, idempotency_key=asking.idempotency_key, limits=attempt.limits)


def _silent(attempt: Attempt) -> ProviderError:
    if attempt.is_last:
        return deadline_passed()
    return ProviderError(f"{attempt.target.name}: it did not answer in time", code="upstream_silent", kind=FailureKind.SILENT)


def _broken_off(fault: ProviderError) -> ProviderError:
    kind = FailureKind.DEADLINE if fault.kind is FailureKind.DEADLINE else FailureKind.MID_STREAM  # of both nothing follows
    return ProviderError(str(fault), code=fault.code, kind=kind, retry_after_s=fault.retry_after_s, status=fault.status)
