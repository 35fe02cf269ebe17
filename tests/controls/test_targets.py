"""What is known of targets: what they can do, and how they are doing, whichever thread asks."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controls.asking import Scripted, failing, other_model, sibling, target
from workbench.controls.breaker import State
from workbench.controls.failures import HANDLING, Counts
from workbench.controls.providers import NotAsked
from workbench.controls.targets import Capabilities, TargetHealth, needs_of


def _zero(_purpose):
    return 0.0


@pytest.mark.parametrize(
    ("request_", "needs"),
    [
        ({}, (False, False, 0)),
        ({"messages": [{"role": "user", "content": "x" * 40}]}, (False, False, 10)),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 40}]}]}, (False, False, 10)),
        ({"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:" + "x" * 4000}}]}]}, (False, False, 0)),
        ({"messages": [{"content": [{"type": "input_audio", "input_audio": {"data": "x" * 4000}}]}]}, (False, False, 0)),
        ({"messages": [{"tool_calls": [{"function": {"arguments": "x" * 40}}]}]}, (False, False, 10)),
        ({"tools": [{}]}, (True, False, 0)),
        ({"tools": [], "response_format": {"type": "json_schema"}}, (False, True, 0)),
        ({"response_format": "json_schema", "messages": 7}, (False, False, 0)),
    ],
)
def test_needs_are_read_off_the_request(request_, needs):
    found = needs_of(request_)
    assert (found.tools, found.json_schema, found.tokens) == needs


_json = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner)
)


@given(st.dictionaries(st.sampled_from(["messages", "tools", "response_format"]), _json))
def test_needs_of_anything_are_needs(request_):
    assert needs_of(request_).tokens >= 0


def test_the_same_model_at_the_same_provider_with_the_same_key_is_one_target():
    health, model = TargetHealth(), Scripted()
    assert health.of(target(model)) is health.of(target(Scripted()))
    assert health.of(target(model)) is not health.of(sibling(model))
    assert health.of(target(model)) is not health.of(target(model, credential="second"))
    assert [(state.provider, state.state) for state in health.snapshot()] == [
        ("acme", State.CLOSED),
        ("acme", State.CLOSED),
        ("other", State.CLOSED),
    ]


def test_a_target_that_is_declared_larger_is_larger():
    small = target(Scripted(), capabilities=Capabilities(context_tokens=8000))
    needs = needs_of({"messages": [{"content": "x" * 40_000}]})
    sizes = {
        size: other_model(Scripted(), capabilities=Capabilities(context_tokens=size)).is_larger(small, needs)
        for size in (None, 9000, 16_000)
    }
    assert sizes == {None: False, 9000: False, 16_000: True}


def test_a_target_that_recovers_is_not_throttled_for_what_was_before():
    now = [0.0]
    health = TargetHealth(monotonic=lambda: now[0]).of(target(Scripted()))
    for _ in range(5):
        health.settle(health.admit(is_lone=False, is_retry=False, chance=_zero), failing("connect"), counts=Counts.FULL, fraction=0.0)
    with pytest.raises(NotAsked, match="failed too often"):
        health.admit(is_lone=False, is_retry=False, chance=_zero)
    now[0] = 5.0
    for _ in range(4):
        health.settle(health.admit(is_lone=False, is_retry=False, chance=_zero), None, counts=None, fraction=0.0)
    for _ in range(50):
        health.settle(health.admit(is_lone=False, is_retry=False, chance=_zero), None, counts=None, fraction=0.0)


def test_threads_lose_no_count():
    health = TargetHealth().of(target(Scripted()))
    sent, refused = [0] * 8, [0] * 8

    def work(place):
        chance = random.Random(place)
        for _ in range(2000):
            try:
                permit = health.admit(is_lone=True, is_retry=False, chance=lambda _purpose: chance.random())
            except NotAsked:
                refused[place] += 1
                continue
            sent[place] += 1
            kind = chance.choice([None, None, "transient", "garbage", "content_filter"])
            if chance.random() < 0.1:
                health.withdraw(permit)
            elif kind is None:
                health.settle(permit, None, counts=None, fraction=0.0)
            else:
                fault = failing(kind)
                health.settle(permit, fault, counts=HANDLING[fault.kind].breaker, fraction=chance.random())

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = health.state()
    assert state.attempts == sum(sent)
    told = {kind: n for kind, n in state.failures.items() if kind in ("breaker_open", "throttled")}
    assert sum(told.values()) == sum(refused)
