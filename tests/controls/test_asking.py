"""Asking a model: who is asked after which failure, how often, how long, and what it leaves behind."""

from __future__ import annotations

import asyncio
import math
from contextlib import nullcontext
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controls.asking import REQUEST, Asked, Scripted, Streaming, failing, other_model, sibling, target
from tests.controls.tiny import said
from workbench.controls.asking import Asking, ModelCaller
from workbench.controls.breaker import State
from workbench.controls.clock import RealClock
from workbench.controls.completions import completion_of
from workbench.controls.events import Choice
from workbench.controls.failures import HANDLING, FailureKind
from workbench.controls.limits import Limits
from workbench.controls.providers import ProviderError
from workbench.controls.targets import Capabilities, TargetHealth
from workbench.demo.traffic import run_to_end

ASKABLE = [kind for kind in FailureKind if kind not in ("deadline", "breaker_open", "throttled", "busy", "unfit")]


def failed(asked, **about) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        asked.complete(**about)
    return raised.value


def test_a_good_answer_is_passed_on_whole_and_leaves_one_step():
    asked = Asked(target(model := Scripted()))
    assert asked.complete() == said()
    assert asked.attempts == [("primary", 1, None)]
    details = asked.steps[0].details
    assert (details["model"], details["provider"], details["input_tokens"], details["wait_s"]) == ("small-1.0", "acme", 12, 0.0)
    assert model.asked == [{**REQUEST, "attempt": 1}]


@pytest.mark.parametrize("kind", ASKABLE)
def test_every_kind_is_tried_again_and_elsewhere_as_the_table_says(kind):
    primary, other = Scripted([failing(kind)]), Scripted([said("From elsewhere.")])
    asked = Asked(target(primary), other_model(other, capabilities=Capabilities(context_tokens=100_000)))
    try:
        answer = asked.complete()["choices"][0]["message"]["content"]
    except ProviderError as fault:
        answer = fault.kind
    row = HANDLING[kind]
    assert len(primary.asked) == (3 if row.retry_same else 1)
    assert len(other.asked) == row.fallback
    assert answer == ("From elsewhere." if row.fallback else kind)


def test_at_most_four_attempts_are_made_and_the_last_failure_stands_for_all():
    asked = Asked(target(Scripted([failing("transient")])), sibling(Scripted([failing("connect")])))
    fault = failed(asked)
    assert asked.attempts == [
        ("primary", 1, "transient"),
        ("primary", 2, "transient"),
        ("primary", 3, "transient"),
        ("sibling", 4, "connect"),
    ]
    assert (fault.kind, fault.code) == ("connect", "code_connect")


def test_without_retries_each_target_is_asked_once():
    asked = Asked(target(Scripted([failing("transient")])), sibling(Scripted()), retries=0)
    asked.complete()
    assert asked.attempts == [("primary", 1, "transient"), ("sibling", 2, None)]


def test_waits_follow_from_the_label_and_pass_on_the_clock_of_the_turn():
    def waits(label):
        asked = Asked(target(Scripted([failing("transient"), failing("transient"), said()])))
        asked.complete(label=label)
        spans = [step.details["wait_s"] for step in asked.steps]
        assert asked.clock.now() == sum(spans)
        return spans

    assert waits("u1") == waits("u1") != waits("u2")
    assert 0 < waits("u1")[1] < 0.25


def test_the_demo_still_waits_on_nothing_real():
    asked = Asked(target(Scripted([[1.0, failing("transient")], [2.0, said()]])), sibling(Scripted()))
    assert run_to_end(asked.caller.complete(REQUEST, asked.asking(within_s=20.0))) == said()


# Hints


def test_a_hint_that_fits_is_waited_for():
    asked = Asked(target(model := Scripted([failing("rate_limited", hint_s=3.0), said()])), sibling(Scripted()), is_one_clock=True)
    asked.complete(within_s=10.0)
    assert len(model.asked) == 2
    assert asked.clock.now() == 3.0


@pytest.mark.parametrize(("hint_s", "within_s"), [(21.0, 100.0), (5.0, 4.0)])
def test_a_hint_that_does_not_fit_leads_elsewhere_at_once(hint_s, within_s):
    asked = Asked(target(Scripted([failing("rate_limited", hint_s=hint_s)])), sibling(Scripted()))
    asked.complete(within_s=within_s)
    assert asked.attempts == [("primary", 1, "rate_limited"), ("sibling", 2, None)]
    assert asked.clock.now() == 0.0


def test_until_the_hint_nobody_asks_the_target_again_and_it_has_not_failed():
    asked = Asked(target(model := Scripted([failing("rate_limited", hint_s=30.0), said()])), sibling(Scripted()))
    asked.complete()
    asked.complete()
    assert asked.passed_over == [("primary", "rate_limited")]
    state = asked.health.snapshot()[0]
    assert (state.is_rate_limited, state.state, state.closed_for_s) == (True, State.CLOSED, 30.0)
    asked.now_s = 30.0
    asked.complete()
    assert len(model.asked) == 2


def test_when_all_fail_the_shortest_hint_is_handed_on():
    asked = Asked(
        target(Scripted([failing("rate_limited", hint_s=40.0)])),
        sibling(Scripted([failing("rate_limited", hint_s=25.0)])),
        other_model(Scripted([failing("transient")])),
        retries=0,
    )
    fault = failed(asked)
    assert (fault.kind, fault.retry_after_s) == ("transient", 25.0)


# Time


def test_no_attempt_starts_with_less_than_50_ms_left():
    asked = Asked(target(model := Scripted()))
    assert failed(asked, within_s=0.049).kind == "deadline"
    assert (model.asked, asked.steps) == ([], [])


def test_an_attempt_that_another_can_follow_leaves_it_half_of_the_time():
    asked = Asked(target(Scripted([[1000.0]])), sibling(Scripted([[4.0, said()]])))
    asked.complete(within_s=10.0)
    assert asked.attempts == [("primary", 1, "silent"), ("sibling", 2, None)]
    assert asked.clock.now() == 9.0
    assert asked.steps[0].status == "timeout"


def test_who_is_left_gets_all_of_the_time_when_the_others_are_not_asked_now():
    asked = Asked(target(Scripted([[8.0, said()]])), sibling(Scripted([failing("quota")])))
    failed_once = Asked(target(Scripted([failing("connect")])), sibling(Scripted([failing("quota")])), retries=0)
    asked.caller = ModelCaller(asked.chain, failed_once.health)
    failed(failed_once)
    assert asked.complete(within_s=10.0) == said()
    assert (asked.attempts, asked.clock.now()) == ([("primary", 1, None)], 8.0)


def test_the_last_target_is_cut_by_the_deadline_alone():
    asked = Asked(target(Scripted([[100.0, said()]])), limits=Limits(headers_s=1.0, first_token_s=1.0))
    asked.complete(within_s=200.0)
    fault = failed(asked, within_s=50.0)
    assert (fault.kind, fault.code, asked.clock.now()) == ("deadline", "timeout", 50.0)
    assert asked.steps[0].status == "timeout"


def test_a_caller_with_little_time_does_not_make_a_target_look_broken():
    asked = Asked(target(Scripted([[2.0, said()]])), sibling(Scripted()))
    for _ in range(10):
        asked.complete(within_s=1.0)
        assert asked.attempts[0] == ("primary", 1, "silent")
    assert asked.health.snapshot()[0].state is State.CLOSED


# What is known of the targets


def test_a_target_that_keeps_failing_is_passed_over_and_its_place_is_taken_without_drawing_on_retries():
    asked = Asked(target(model := Scripted([failing("connect")])), sibling(other := Scripted()), retries=0)
    for _ in range(60):
        asked.complete()
    assert len(model.asked) == 5
    assert len(other.asked) == 60
    assert asked.passed_over == [("primary", "breaker_open")]


def test_an_outage_does_not_double_the_load_on_the_fallback():
    asked = Asked(
        target(Scripted([failing("context_length")])), sibling(other := Scripted(), capabilities=Capabilities(context_tokens=9999))
    )
    outcomes = []
    for _ in range(60):
        try:
            asked.complete()
            outcomes.append("served")
        except ProviderError as fault:
            outcomes.append(fault.kind)
    assert outcomes == ["served"] * 10 + ["context_length"] * 50
    assert len(other.asked) == 10


def test_a_client_that_tries_again_by_itself_draws_on_the_budget():
    asked = Asked(target(model := Scripted()))
    outcomes = [asked.complete(inbound_retries=1) and "served" for _ in range(10)]
    assert outcomes == ["served"] * 10
    assert failed(asked, inbound_retries=1).kind == "throttled"
    assert asked.complete() == said()
    assert len(model.asked) == 11


def test_a_lone_target_is_probed_and_recovers_at_once():
    asked = Asked(target(Scripted([*[failing("connect")] * 5, said()])), retries=0)
    for _ in range(5):
        assert failed(asked).kind == "connect"
    assert asked.complete() == said()


def test_a_wrong_key_raises_an_alarm_until_it_is_accepted():
    asked = Asked(target(Scripted([failing("credential"), said()])), sibling(Scripted()))
    asked.complete()
    assert asked.health.alarms() == ("acme/small: it does not accept the key (code_credential)",)
    asked.complete()
    assert asked.passed_over == [("primary", "breaker_open")]
    asked.now_s = 6.0
    asked.complete()
    assert asked.health.alarms() == ()


def test_callers_who_leave_count_neither_way_and_leave_no_place_taken():
    async def leaves(asked):
        task = asyncio.create_task(asked.caller.complete(REQUEST, asked.asking()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    class Hanging(Scripted):
        async def complete(self, *_, **__):
            await asyncio.Event().wait()

    asked = Asked(target(Hanging()))
    for _ in range(20):
        asyncio.run(leaves(asked))
        assert [step.status for step in asked.steps] == ["cancelled"]
    state = asked.health.snapshot()[0]
    assert (state.state, state.in_flight, state.failures) == (State.CLOSED, 0, {})


def test_where_too_many_are_at_a_target_the_next_one_is_asked():
    async def crowd():
        release = asyncio.Event()

        class Slow(Scripted):
            async def complete(self, *_, **__):
                await release.wait()
                return said()

        chain = Asked(target(Slow()), sibling(other := Scripted())).chain
        caller = ModelCaller(chain, health := TargetHealth(most_at_once=1, most_waiting=0))
        steps = []
        first = asyncio.create_task(caller.complete(REQUEST, Asking(clock=RealClock(), deadline_s=math.inf, steps=[], label="a")))
        await asyncio.sleep(0)
        assert await caller.complete(REQUEST, Asking(clock=RealClock(), deadline_s=math.inf, steps=steps, label="b")) == said()
        assert [(step.kind, step.details.get("reason")) for step in steps] == [("fallback", "busy"), ("model", None)]
        release.set()
        assert await first == said()
        assert (len(other.asked), health.snapshot()[0].in_flight) == (1, 0)

    asyncio.run(crowd())


def test_a_place_that_becomes_free_too_late_is_not_used():
    async def late():
        chain = Asked(target(model := Scripted())).chain
        health = TargetHealth(most_at_once=1)
        slots = health.of(chain.targets[0]).slots
        assert await slots.enter(RealClock(), within_s=1)
        clock = RealClock()
        asking = Asking(clock=clock, deadline_s=clock.now() + 0.2, steps=[], label="u1")
        with pytest.raises(ProviderError) as raised:
            await ModelCaller(chain, health).complete(REQUEST, asking)
        assert (raised.value.kind, model.asked, asking.steps[0].details["reason"]) == ("busy", [], "busy")
        slots.leave()
        assert slots.taken == 0

    asyncio.run(late())


# What fits


@pytest.mark.parametrize(
    ("capabilities", "request_", "is_asked"),
    [
        (Capabilities(tools=False), {"tools": [{"type": "function"}]}, False),
        (Capabilities(tools=False), {}, True),
        (Capabilities(json_schema=False), {"response_format": {"type": "json_schema"}}, False),
        (Capabilities(json_schema=False), {"response_format": {"type": "json_object"}}, True),
        (Capabilities(context_tokens=10), {"messages": [{"role": "user", "content": "x" * 1000}]}, False),
        (Capabilities(context_tokens=10), {}, True),
    ],
)
def test_only_targets_that_fit_are_asked(capabilities, request_, is_asked):
    asked = Asked(target(Scripted([failing("quota")])), other_model(model := Scripted(), capabilities=capabilities))
    with nullcontext() if is_asked else pytest.raises(ProviderError, match="failed"):
        asked.complete({**REQUEST, **request_})
    assert bool(model.asked) is is_asked


def test_what_was_too_long_goes_to_a_larger_target_only():
    models = [Scripted([said(name)]) for name in ("undeclared", "smaller", "larger")]
    sizes = (None, 4000, 16_000)
    others = [
        other_model(model, name=f"m{size}", capabilities=Capabilities(context_tokens=size))
        for model, size in zip(models, sizes, strict=True)
    ]
    primary = target(Scripted([failing("context_length")]), capabilities=Capabilities(context_tokens=8000))
    assert Asked(primary, *others).complete()["choices"][0]["message"]["content"] == "larger"


def test_another_model_gets_its_own_name_and_parameters_a_sibling_the_same_request():
    primary, same, other = Scripted([failing("quota")]), Scripted([failing("quota")]), Scripted()
    asked = Asked(target(primary), sibling(same), other_model(other, params={"temperature": 0.5}))
    asked.complete({**REQUEST, "temperature": 0.1, "top_p": 1})
    assert same.asked == [{**REQUEST, "temperature": 0.1, "top_p": 1, "attempt": 2}]
    assert other.asked == [{**REQUEST, "model": "large", "temperature": 0.5, "top_p": 1, "attempt": 3}]


def test_an_answer_without_a_name_gets_that_of_the_model_that_gave_it():
    asked = Asked(target(Scripted([failing("quota")])), other_model(Scripted([said(model=None)])))
    assert asked.complete()["model"] == "large"
    assert asked.steps[-1].details["model"] == "large"


def test_a_request_with_effects_is_not_sent_twice():
    asked = Asked(target(Scripted([failing("transient")])), sibling(other := Scripted()))
    assert failed(asked, request={**REQUEST, "store": True}).kind == "transient"
    assert other.asked == []
    unsent = Asked(target(Scripted([failing("connect", was_sent=False)])), sibling(Scripted()), retries=0)
    assert unsent.complete({**REQUEST, "store": True}) == said()


def test_when_nothing_fits_nobody_is_asked():
    asked = Asked(target(model := Scripted(), capabilities=Capabilities(tools=False)))
    fault = failed(asked, request={**REQUEST, "tools": [{"type": "function"}]})
    assert (fault.kind, fault.code, model.asked) == ("unfit", "no_target_fits", [])


# Providers


@pytest.mark.parametrize("answer", [{}, {"choices": []}, None, "x", {"choices": [{"message": {}}]}])
def test_an_answer_that_is_none_is_a_failure_like_others(answer):
    asked = Asked(target(Scripted([answer])), sibling(Scripted()), retries=0)
    asked.complete()
    assert asked.attempts[0] == ("primary", 1, "garbage")


def test_an_answer_that_does_not_say_that_it_ended_is_none():
    cut = said(choices=[{"index": 0, "message": {"role": "assistant", "content": "It is"}, "finish_reason": None}])
    asked = Asked(target(model := Scripted([cut])), sibling(Scripted()))
    assert asked.complete() == said()
    assert (asked.steps[0].error_type, len(model.asked)) == ("upstream_truncated", 3)


@pytest.mark.parametrize(
    ("message", "reason", "content"),
    [
        ({"content": None, "refusal": "I will not."}, "stop", "I will not."),
        ({"content": None}, "content_filter", None),
        ({}, "length", None),
    ],
)
def test_a_refusal_and_a_cut_are_answers_and_nobody_else_is_asked(message, reason, content):
    answer = said(choices=[{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}])
    asked = Asked(target(Scripted([answer])), sibling(other := Scripted()))
    assert completion_of(asked.complete()).choices == (Choice(content=content, finish_reason=reason),)
    assert other.asked == []


def test_a_provider_that_breaks_leads_elsewhere_and_its_words_reach_nobody(caplog):
    asked = Asked(target(Scripted([KeyError("a word of the user")])), sibling(Scripted()))
    asked.complete()
    assert asked.attempts[0] == ("primary", 1, "broken")
    assert "a word of the user" not in caplog.text


def test_a_provider_that_is_told_gets_the_rest_of_the_time_and_the_key_of_the_question():
    asked = Asked(target(model := Streaming([[3.0, failing("transient")], [said()]])))
    asked.complete(within_s=20.0, idempotency_key="k1")
    first, second = model.sendings
    assert (first.left_s, first.idempotency_key, second.idempotency_key) == (20.0, "k1", "k1")
    assert 16.0 < second.left_s < 17.0


# Whatever happens

_acts = st.one_of(
    st.just(said()),
    st.builds(failing, st.sampled_from(ASKABLE), hint_s=st.none() | st.floats(0, 40)),
    st.lists(st.floats(0, 30), min_size=1, max_size=2).map(lambda waits: [*waits, said()]),
    st.tuples(st.floats(0, 30), st.builds(failing, st.sampled_from(ASKABLE))).map(list),
)


@given(
    st.lists(st.lists(_acts, min_size=1, max_size=4), min_size=1, max_size=4),
    st.floats(0, 60),
    st.integers(0, 3),
    st.booleans(),
    st.text(max_size=3),
)
def test_no_order_of_failures_breaks_a_promise(scripts, within_s, retries, is_streamed, label):
    kinds = ("primary", "sibling", "model", "model")
    targets = [
        target(Scripted(list(script)), kind=kind, name=f"p{place}")
        for place, (kind, script) in enumerate(zip(kinds, scripts, strict=False))
    ]
    asked = Asked(*targets, retries=retries, is_one_clock=True)
    try:
        answer = asked.stream(within_s=within_s, label=label)[1] if is_streamed else asked.complete(within_s=within_s, label=label) and None
    except ProviderError as fault:
        answer = fault
    models = [step for step in asked.steps if step.kind == "model"]
    assert asked.clock.now() <= max(within_s, 0.0) + 1e-6
    assert len(models) <= 4
    assert [step.attempt for step in models] == list(range(1, len(models) + 1))
    by_target = [step.details["provider"] for step in models]
    assert max(map(by_target.count, by_target), default=0) <= 1 + min(retries, 2)
    assert by_target == sorted(by_target)
    for step, following in pairwise(models):
        row = HANDLING[FailureKind(step.details["failure"])]
        is_same = step.details["provider"] == following.details["provider"]
        assert row.retry_same if is_same else row.fallback
        assert following.start_s + 0.049 <= within_s
    assert all("failure" in step.details for step in models[:-1])
    assert (answer is None) is bool(models and "failure" not in models[-1].details)
    assert all(state.in_flight == 0 for state in asked.health.snapshot())
