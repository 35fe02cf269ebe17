"""A streamed answer from a provider on real connections: before its first word a failure is a failure like others, after it a cut."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from tests.controls.asking import REQUEST, Asked, Scripted, Streaming, failing, other_model, sibling, target
from tests.controls.tiny import said
from workbench.controls.addresses import Address
from workbench.controls.asking import Asking, ModelCaller
from workbench.controls.breaker import State
from workbench.controls.chain import Chain, Ending
from workbench.controls.clock import RealClock
from workbench.controls.events import Finished, TextPart, ToolPart, Usage, assembled, joined
from workbench.controls.failures import HANDLING, FailureKind
from workbench.controls.lastgood import LastGoodAnswers
from workbench.controls.limits import Limits
from workbench.controls.pace import Pace
from workbench.controls.providers import ProviderError, Sending
from workbench.controls.retries import RetryPolicy
from workbench.controls.targets import Capabilities, TargetHealth
from workbench.controls.upstream import Upstream
from workbench.demo.faulty import DONE, Act, begun, chunk, event, fault, head, playing, refusal, streamed, whole
from workbench.spec.controls import StreamRules

ANSWER = "It is on its way."
QUICK = Limits(connect_s=5, headers_s=0.5, first_token_s=0.5, gap_s=0.5)
PATIENT = Limits(connect_s=9, headers_s=9, first_token_s=9, gap_s=9)
"""On a busy machine half a second passes while nobody is slow."""
BEFORE = [
    "connect",
    "silent",
    "first_token",
    "transient",
    "garbage",
    "rate_limited",
    "quota",
    "credential",
    "no_model",
    "context_length",
    "content_filter",
    "bad_request",
]
AFTER = ["slow", "garbage", "transient", "rate_limited", "quota", "content_filter", "bad_request"]


@dataclass
class Heard:
    """What came of one question over real connections."""

    events: list = field(default_factory=list)
    fault: ProviderError | None = None
    steps: list = field(default_factory=list)
    took_s: float = 0.0

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextPart))

    @property
    def is_complete(self) -> bool:
        return any(isinstance(event, Finished) for event in self.events)

    @property
    def failures(self) -> list[str | None]:
        return [step.details.get("failure") for step in self.steps if step.kind == "model"]


def limits_of(kind: str) -> Limits:
    """Short ones where the failure is to wait."""
    return QUICK if kind in ("silent", "first_token", "slow") else PATIENT


def upstream_target(url: str, **about):
    upstream = Upstream(Address(name="acme", url=url, key="sk-test-0123456789"))
    return target(lambda _clock: upstream, **about)


async def asked_for_stream(caller, request, heard, within_s, *, is_held=False):
    clock = RealClock()
    begun_s = clock.now()
    asking = Asking(clock=clock, deadline_s=begun_s + within_s, steps=heard.steps, label="u1", idempotency_key="k1", is_held=is_held)
    try:
        async with aclosing(caller.stream(request, asking)) as stream:
            async for event in stream:
                heard.events.append(event)
    except ProviderError as fault:
        heard.fault = fault
    heard.took_s = clock.now() - begun_s


def hear(*urls: str, request=REQUEST, within_s=20.0, limits=PATIENT, retries=2, is_held=False, health=None, **caller) -> Heard:
    """What a client hears of targets at these addresses."""
    names = [{}, {"kind": "sibling", "name": "other"}, {"kind": "sibling", "name": "third"}]
    targets = tuple(upstream_target(url, **about) for url, about in zip(urls, names, strict=False))
    chain = Chain(targets=targets, policy=RetryPolicy.of(retries=retries, attempts=None), limits=limits)
    heard = Heard()
    asyncio.run(asked_for_stream(ModelCaller(chain, health or TargetHealth(), **caller), request, heard, within_s, is_held=is_held))
    return heard


def test_a_stream_is_passed_on_as_it_comes_and_counts_come_last():
    with playing(streamed("It is ", "on its ", "way.")) as upstream:
        heard = hear(upstream.url, within_s=9.0)
    assert heard.fault is None
    assert list(joined(heard.events)) == [
        TextPart(text="It is on its way."),
        Finished(reason="stop"),
        Usage(details={"model": "faulty-1", "input_tokens": 12, "output_tokens": 5}),
    ]
    seen = upstream.seen[0]
    assert seen.body == {**REQUEST, "stream": True, "stream_options": {"include_usage": True}}
    assert (seen.headers["idempotency-key"], seen.headers["x-stainless-retry-count"]) == ("k1", "0")
    assert 8000 < int(seen.headers["x-deadline-ms"]) <= 9000
    details = heard.steps[0].details
    assert (details["model"], details["finish_reason"], details["output_tokens"]) == ("faulty-1", "stop", 5)
    assert 0 < details["ttft_s"] <= heard.steps[0].duration_s


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("kind", BEFORE)
def test_before_the_first_word_every_kind_is_handled_as_the_table_says(kind, is_held):
    row = HANDLING[FailureKind(kind)]
    with playing(fault(FailureKind(kind), is_streamed=True)) as broken, playing(streamed()) as good:
        heard = hear(broken.url, good.url, is_held=is_held, limits=limits_of(kind))
    is_served = row.fallback and not row.larger_only
    assert (heard.text, heard.is_complete) == ((ANSWER, True) if is_served else ("", False))
    assert (heard.fault and heard.fault.kind) == (None if is_served else kind)
    assert heard.failures == [kind] * (3 if row.retry_same else 1) + ([None] if is_served else [])


@pytest.mark.parametrize("kind", AFTER)
def test_after_the_first_word_every_failure_is_a_cut_and_nobody_else_is_asked(kind):
    with playing(fault(FailureKind(kind), is_begun=True)) as broken, playing(streamed()) as good:
        heard = hear(broken.url, good.url, limits=limits_of(kind))
        assert good.seen == []
    assert (heard.text, heard.is_complete, heard.fault.kind) == ("It is ", False, "mid_stream")
    assert heard.failures == [kind]
    assert heard.steps[0].details["is_mid_stream"]


@pytest.mark.parametrize("kind", AFTER)
def test_as_long_as_everything_is_held_back_a_cut_is_a_failure_like_others(kind):
    row = HANDLING[FailureKind(kind)]
    with playing(fault(FailureKind(kind), is_begun=True)) as broken, playing(streamed()) as good:
        heard = hear(broken.url, good.url, is_held=True, limits=limits_of(kind))
    assert heard.text == (ANSWER if row.fallback else "")
    assert (heard.fault and heard.fault.kind) == (None if row.fallback else kind)


GARBAGE = {
    "html": (head(kind="text/html"), b"<html>It works!</html>"),
    "nothing at all": (head(kind="text/event-stream"),),
    "comments only": (head(kind="text/event-stream"), b": hello\n\n"),
    "half an event": (head(kind="text/event-stream"), b'data: {"choices": [{"delta": {"con'),
    "no reason to end": (*begun(), DONE),
    "two malformed events": (*begun(), event(b"{"), event([1])),
    "wrong types": (*begun(), event({"choices": 7}), event({"choices": [{"delta": {"content": 7}}]})),
    "json that is none": (head(), b"{"),
    "json that is no completion": (head(), b"{}"),
    "a reset in the middle": (*begun(), Act.RESET),
    "whole and without a reason to end": (head(), *whole(choices=[{"index": 0, "message": {"content": ANSWER}}])[1:]),
    "an endless line": (head(kind="text/event-stream"), b"data: " + b"x" * (1 << 21)),
    "another content encoding": (head(Content_Encoding="gzip", kind="text/event-stream"), b"nope"),
}


@pytest.mark.parametrize("play", GARBAGE.values(), ids=GARBAGE)
def test_garbage_leads_elsewhere(play):
    with playing(play) as broken, playing(streamed()) as good:
        heard = hear(broken.url, good.url, retries=0)
    assert heard.failures == ["garbage", None]
    assert heard.text == ANSWER


COMPLETE = {
    "without [DONE]": streamed(done=False),
    "without counts": streamed(usage=False),
    "with one malformed event": (*begun("It is "), event(b"{"), chunk(content="on its way."), chunk("stop"), DONE),
    "with comments": (*begun("It is "), b": alive\n\n", chunk(content="on its way."), chunk("stop"), DONE),
    "with a reset behind its end": (*begun(ANSWER), chunk("stop"), Act.RESET),
    "with a line that stays open": (*begun(ANSWER), chunk("stop"), Act.HOLD),
    "whole although a stream was asked for": whole(ANSWER),
    "with another content type": (head(kind="text/plain"), *begun(ANSWER)[1:], chunk("stop")),
}


@pytest.mark.parametrize("play", COMPLETE.values(), ids=COMPLETE)
def test_an_answer_with_a_reason_to_end_is_complete(play):
    with playing(play) as upstream:
        heard = hear(upstream.url, limits=QUICK if play[-1] is Act.HOLD else PATIENT)
    assert (heard.text, heard.is_complete, heard.fault) == (ANSWER, True, None)


def test_an_error_inside_a_stream_is_told_apart_by_its_code_before_the_first_word():
    failing_stream = (*begun(), event({"error": {"code": 429, "message": "try again in 30s"}}))
    with playing(failing_stream) as broken, playing(streamed()) as good:
        health = TargetHealth()
        heard = hear(broken.url, good.url, health=health)
    assert heard.failures == ["rate_limited", None]
    assert health.snapshot()[0].is_rate_limited


def test_tool_calls_come_in_pieces_by_their_number():
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "look_up", "arguments": ""}}
    second = {"index": 1, "id": "b", "function": {"name": "pay", "arguments": '{"eur"'}}
    play = (
        *begun(),
        chunk(tool_calls=[first]),
        chunk(tool_calls=[second, {"index": 0, "function": {"arguments": "{}"}}]),
        chunk(tool_calls=[{"index": 1, "function": {"arguments": ": 5}"}}]),
        chunk("tool_calls"),
        DONE,
    )
    with playing(play) as upstream:
        heard = hear(upstream.url)
    assert heard.events[0] == ToolPart(index=0, call_id="a", name="look_up")
    calls = assembled(heard.events).choices[0].tool_calls
    assert [(call.call_id, call.name, call.arguments) for call in calls] == [("a", "look_up", "{}"), ("b", "pay", '{"eur": 5}')]


def test_of_several_answers_all_must_end():
    two = (*begun("a"), chunk(index=1, content="b"), chunk("stop"))
    with playing((*two, DONE), then=(*two, chunk("stop", index=1), DONE)) as upstream:
        cut = hear(upstream.url, request={**REQUEST, "n": 2})
        good = hear(upstream.url, request={**REQUEST, "n": 2})
    assert (cut.fault.code, cut.fault.kind) == ("upstream_truncated", "mid_stream")
    assert good.fault is None
    assert [choice.content for choice in assembled(good.events).choices] == ["a", "b"]


# Whole answers over the same connections


def complete(*urls: str, within_s=20.0, limits=PATIENT, retries=2) -> Heard:
    """What comes of a question for a whole answer."""
    targets = tuple(upstream_target(url, kind=kind, name=kind) for url, kind in zip(urls, ("primary", "sibling"), strict=False))
    caller = ModelCaller(Chain(targets=targets, policy=RetryPolicy.of(retries=retries, attempts=None), limits=limits), TargetHealth())
    heard, begun_s = Heard(), time.monotonic()
    asking = Asking(clock=RealClock(), deadline_s=begun_s + within_s, steps=heard.steps, label="u1")
    try:
        heard.events = [TextPart(text=asyncio.run(caller.complete(REQUEST, asking))["choices"][0]["message"]["content"])]
    except ProviderError as fault:
        heard.fault = fault
    heard.took_s = time.monotonic() - begun_s
    return heard


@pytest.mark.parametrize("kind", [kind for kind in BEFORE if kind != "first_token"])
def test_whole_answers_are_handled_by_the_same_table(kind):
    row = HANDLING[FailureKind(kind)]
    with playing(fault(FailureKind(kind))) as broken, playing(whole()) as good:
        heard = complete(broken.url, good.url, limits=limits_of(kind))
    is_served = row.fallback and not row.larger_only
    assert heard.text == (ANSWER if is_served else "")
    assert (heard.fault and heard.fault.kind) == (None if is_served else kind)
    assert heard.failures == [kind] * (3 if row.retry_same else 1) + ([None] if is_served else [])


def test_no_question_outlives_its_deadline_and_nobody_works_for_it_afterwards():
    with playing((Act.HOLD,)) as upstream:
        heard = complete(upstream.url, within_s=0.3)
        assert upstream.was_left()
    assert (heard.fault.kind, heard.fault.code, heard.steps[0].status) == ("deadline", "timeout", "timeout")
    assert 0.3 <= heard.took_s < 0.6


# Time


def test_a_slow_beginning_leads_elsewhere_and_the_last_target_is_only_cut_by_the_deadline():
    late = (1.0, *streamed())
    with playing((Act.HOLD,)) as hanging, playing(late) as slow:
        heard = hear(hanging.url, slow.url, limits=QUICK)
        assert (heard.failures, heard.text) == (["silent", None], ANSWER)
        assert hanging.was_left()
        cut = hear(hanging.url, within_s=0.4)
    assert (cut.fault.kind, cut.failures) == ("deadline", ["deadline"])
    assert 0.4 <= cut.took_s < 0.7


def test_no_stream_outlives_the_deadline():
    dripping = (*begun(), *[step for _ in range(100) for step in (chunk(content="x"), 0.02)])
    with playing(dripping) as upstream:
        heard = hear(upstream.url, within_s=0.5)
        assert upstream.was_left()
    assert (heard.fault.kind, heard.fault.code) == ("deadline", "timeout")
    assert 0.5 <= heard.took_s < 0.8


def test_comments_do_not_hide_that_nothing_comes():
    alive = (*begun(), *[step for _ in range(100) for step in (b": alive\n\n", 0.05)])
    with playing(alive) as broken, playing(streamed()) as good:
        heard = hear(broken.url, good.url, limits=QUICK)
    assert heard.failures == ["first_token", None]


# Leaving


def test_who_stops_reading_hangs_up_at_once_and_the_target_is_not_blamed():
    async def leave(url, health, steps):
        caller = ModelCaller(Chain(targets=(upstream_target(url),)), health)
        asking = Asking(clock=RealClock(), deadline_s=math.inf, steps=steps, label="u1")
        async with aclosing(caller.stream(REQUEST, asking)) as stream:
            assert await anext(stream) == TextPart(text="It is ")

    health, steps = TargetHealth(), []
    with playing((*begun("It is "), Act.HOLD)) as upstream:
        asyncio.run(leave(upstream.url, health, steps))
        assert upstream.was_left()
    assert [step.status for step in steps] == ["cancelled"]
    state = health.snapshot()[0]
    assert (state.in_flight, state.failures, state.state) == (0, {}, State.CLOSED)


def test_a_cancelled_question_hangs_up_at_once():
    async def cancel(url):
        caller = ModelCaller(Chain(targets=(upstream_target(url),)), TargetHealth())
        heard = Heard()
        task = asyncio.create_task(asked_for_stream(caller, REQUEST, heard, 30.0))
        assert await asyncio.to_thread(upstream.was_asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return heard

    with playing((Act.HOLD,)) as upstream:
        heard = asyncio.run(cancel(upstream.url))
        assert upstream.was_left()
    assert [step.status for step in heard.steps] == ["cancelled"]


# Going on with what was begun


def continuing(*targets, **about):
    return Asked(*targets, stream=StreamRules(after_commit="continue"), **about)


GOES_ON = Capabilities(prefill=True)
REST = [TextPart(text="on its way."), Finished(reason="stop")]


def test_a_target_that_goes_on_with_what_was_begun_says_the_rest():
    other = Streaming([REST])
    asked = continuing(
        target(Streaming([[TextPart(text="It is "), failing("connect")]])),
        sibling(passed_over := Streaming([REST])),
        other_model(other, capabilities=GOES_ON),
    )
    events, fault = asked.stream()
    assert fault is None
    assert assembled(events).choices[0].content == ANSWER
    assert other.asked[0]["messages"] == [*REQUEST["messages"], {"role": "assistant", "content": "It is "}]
    assert (passed_over.asked, asked.attempts) == ([], [("primary", 1, "connect"), ("model", 2, None)])


@pytest.mark.parametrize(
    "begun_with",
    [
        [ToolPart(index=0, name="pay"), failing("connect")],
        [TextPart(text="It is "), ToolPart(index=0, name="pay"), failing("connect")],
        [TextPart(text="It is "), TextPart(text="It is ", choice=1), failing("connect")],
        [TextPart(text="It is "), failing("content_filter")],
        [TextPart(text="It is "), 100.0, TextPart(text="late")],
    ],
)
def test_nothing_goes_on_after_a_tool_call_several_answers_a_refusal_or_the_deadline(begun_with):
    asked = continuing(target(Streaming([begun_with])), other_model(other := Streaming([REST]), capabilities=GOES_ON))
    _, fault = asked.stream(within_s=50.0)
    assert (fault.kind, other.asked) == ("deadline" if 100.0 in begun_with else "mid_stream", [])


def test_it_goes_on_once():
    cut = [TextPart(text="It is "), failing("connect")]
    asked = continuing(target(Streaming([cut])), other_model(other := Streaming([cut]), capabilities=GOES_ON))
    events, fault = asked.stream()
    assert (len(events), fault.kind, len(other.asked)) == (2, "mid_stream", 1)


# Providers without streams, on time that passes at once


def test_a_provider_that_does_not_stream_is_passed_on_as_events():
    asked = Asked(target(Scripted([[3.0, said()]])))
    events, fault = asked.stream(within_s=20.0)
    assert fault is None
    assert events == [
        TextPart(text="It is on its way."),
        Finished(reason="stop"),
        Usage(details={"model": "small-1.0", "finish_reason": "stop", "input_tokens": 12, "output_tokens": 5}),
    ]
    assert asked.attempts == [("primary", 1, None)]


def test_a_stream_is_cut_by_the_deadline_on_any_clock():
    asked = Asked(target(Streaming([[TextPart(text="a"), 30.0, TextPart(text="b")]])))
    events, fault = asked.stream(within_s=20.0)
    assert (events, fault.kind, fault.code, asked.clock.now()) == ([TextPart(text="a")], "deadline", "timeout", 20.0)


def test_a_mid_stream_failure_counts_for_the_breaker_by_its_own_kind():
    asked = Asked(target(Streaming([[TextPart(text="a"), failing("quota")]])), sibling(Scripted()))
    _, fault = asked.stream()
    assert (fault.kind, fault.code) == ("mid_stream", "code_quota")
    assert asked.health.snapshot()[0].state is State.OPEN
    assert len(asked.health.alarms()) == 1


CANNED = Ending(kind="canned", text="Later.")


def test_whole_answers_are_remembered_where_the_bundle_falls_back_on_them():
    answers = LastGoodAnswers()
    asked = Asked(
        target(Streaming([[TextPart(text="a"), Finished(reason="stop")]])), endings=(Ending(kind="last_good", max_age_s=60), CANNED)
    )
    asked.caller = ModelCaller(asked.chain, asked.health, bundle_id="support@1", last_good=answers)
    assert asked.caller.ending(REQUEST) == (CANNED, None)
    asked.stream()
    ending, found = asked.caller.ending(REQUEST)
    assert (ending.kind, found.completion.choices[0].content) == ("last_good", "a")
    assert asked.caller.ending({**REQUEST, "user": "u2"}) == (CANNED, None)
    assert Asked(target(Scripted())).caller.ending(REQUEST) is None


# Pace, by itself


def test_one_token_a_minute_is_too_slow():
    pace = Pace(Limits(gap_s=100, min_tokens_per_s=2), asked_s=0.0)
    assert pace.lateness is FailureKind.FIRST_TOKEN
    assert pace.hear(1.0, [TextPart(text="a")], is_complete=False)
    assert (pace.lateness, pace.until_s) == (FailureKind.SLOW, 101.0)
    assert not pace.hear(61.0, [TextPart(text="b")], is_complete=False)


def test_a_steady_stream_is_not():
    pace = Pace(Limits(min_tokens_per_s=2), asked_s=0.0)
    assert all(pace.hear(number / 4, [TextPart(text="a")], is_complete=False) for number in range(400))
    assert pace.hear(200.0, [], is_complete=True)
    assert pace.until_s == 202.0


def test_thinking_aloud_is_no_first_token():
    pace = Pace(Limits(first_token_s=10, gap_s=30), asked_s=0.0)
    assert pace.hear(5.0, [], is_complete=False)
    assert (pace.until_s, pace.lateness) == (10.0, FailureKind.FIRST_TOKEN)
    last = Pace(Limits(gap_s=30).within(60.0, is_last=True), asked_s=0.0)
    assert last.hear(5.0, [], is_complete=False)
    assert last.until_s == math.inf, "whom nobody can follow is cut by the deadline alone"


# Embeddings


def embedded(*plays):
    with playing(*plays) as upstream:
        asked = Upstream(Address(name="acme", url=upstream.url, key=None)).embed({"model": "e", "input": ["a"]}, sending=Sending())
        return asyncio.run(asked), upstream.seen[0].path


def test_embeddings_come_back_whole():
    body = b'{"model": "e-1", "data": [{"index": 0, "embedding": [0.5, 1]}], "usage": {"prompt_tokens": 1}}'
    response, path = embedded((head(), body))
    assert (response["data"][0]["embedding"], path) == ([0.5, 1], "/v1/embeddings")


@pytest.mark.parametrize("body", [b"{}", b'{"data": []}', b'{"data": [{"embedding": 7}]}'])
def test_what_holds_no_embeddings_is_garbage(body):
    with pytest.raises(ProviderError, match="no embeddings"):
        embedded((head(), body))


def test_embeddings_are_asked_for_as_answers_are():
    body = b'{"model": "e-1", "data": [{"index": 0, "embedding": [0.5]}]}'
    with playing(refusal(503), then=(head(), body)) as upstream:
        caller = ModelCaller(Chain(targets=(upstream_target(upstream.url),), policy=RetryPolicy(per_target=2)), TargetHealth())
        asking = Asking(clock=RealClock(), deadline_s=math.inf, steps=[], label="u1")
        assert asyncio.run(caller.embed({"model": "e", "input": ["a"]}, asking))["model"] == "e-1"
    assert [step.details.get("failure") for step in asking.steps] == ["transient", None]
    with pytest.raises(ProviderError, match="gives no embeddings"):
        asyncio.run(ModelCaller(Chain(targets=(target(Scripted()),)), TargetHealth()).embed({}, asking))


def test_an_error_with_status_200_is_told_apart_by_its_code():
    with pytest.raises(ProviderError) as raised:
        embedded((head(), b'{"error": {"code": "insufficient_quota"}}'))
    assert raised.value.kind == "quota"


def test_a_refusal_is_read_for_its_reason_and_its_hint():
    with pytest.raises(ProviderError) as raised:
        embedded(refusal(429, code="rate_limit_exceeded", message="Please try again in 2.5s.", retry_after="20"))
    assert (raised.value.kind, raised.value.code, raised.value.status, raised.value.retry_after_s) == (
        "rate_limited",
        "upstream_429",
        429,
        2.5,
    )


def test_a_long_stream_costs_in_proportion_to_its_length():
    def cpu_s(n):
        with playing(streamed(*["word "] * n)) as upstream:
            begun_s = time.thread_time()
            [choice] = assembled(hear(upstream.url, limits=Limits()).events).choices
            assert choice.content == "word " * n
            return time.thread_time() - begun_s

    cpu_s(100)
    assert cpu_s(8000) < 16 * cpu_s(1000)
