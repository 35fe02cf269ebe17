"""Answers from before: whole, recent, of the same request, and few."""

from __future__ import annotations

from functools import partial

import pytest

from tests.controls.asking import REQUEST
from tests.controls.tiny import ASK, Model, put_route, register, said, serving
from tests.gateway.place import wait_until
from workbench.controls.events import Choice, Completion, ToolCall
from workbench.controls.lastgood import LARGEST, LastGoodAnswers
from workbench.controls.providers import ProviderError
from workbench.ledger.erasures import add_erasure

GOOD = Completion(choices=(Choice(content="It is on its way.", finish_reason="stop"),))


def test_the_same_request_gets_its_answer_again_and_its_age():
    now = [0.0]
    answers = LastGoodAnswers(monotonic=lambda: now[0])
    answers.keep("support@1", REQUEST, GOOD)
    now[0] = 30.0
    found = answers.find("support@1", {**REQUEST, "stream": True}, max_age_s=60)
    assert (found.completion, found.age_s) == (GOOD, 30.0)
    assert answers.find("support@1", REQUEST, max_age_s=29) is None


@pytest.mark.parametrize("change", [{"user": "u2"}, {"model": "large"}, {"messages": [{"role": "user", "content": "?"}]}])
def test_nobody_gets_what_was_said_to_another_question(change):
    answers = LastGoodAnswers()
    answers.keep("support@1", REQUEST, GOOD)
    assert answers.find("support@1", {**REQUEST, **change}, max_age_s=60) is None
    assert answers.find("support@2", REQUEST, max_age_s=60) is None


@pytest.mark.parametrize(
    "choice",
    [
        Choice(content="It is", finish_reason="length"),
        Choice(content="It is", finish_reason=None),
        Choice(content="", finish_reason="stop"),
        Choice(content=None, tool_calls=(ToolCall(call_id="1", name="pay", arguments="{}"),), finish_reason="tool_calls"),
        Choice(content="x" * (LARGEST + 1), finish_reason="stop"),
    ],
)
def test_only_whole_answers_without_tool_calls_are_remembered(choice):
    answers = LastGoodAnswers()
    answers.keep("support@1", REQUEST, Completion(choices=(choice,)))
    assert answers.find("support@1", REQUEST, max_age_s=60) is None


def test_the_oldest_make_room_and_all_can_be_forgotten():
    answers = LastGoodAnswers(most=2)
    for user in "abc":
        answers.keep("support@1", {**REQUEST, "user": user}, GOOD)
    found = [answers.find("support@1", {**REQUEST, "user": user}, max_age_s=60) is not None for user in "abc"]
    assert found == [False, True, True]
    answers.clear()
    assert answers.find("support@1", {**REQUEST, "user": "c"}, max_age_s=60) is None


def test_an_erasure_takes_the_answers_that_a_running_process_remembers(ws, tape):
    links = [{"kind": "last_good", "max_age": "1h"}, {"kind": "canned", "text": "Later."}]
    bundle = register(ws, "v1", controls={"timeout": "8s", "retries": 0, "fallback": links})
    put_route(ws, stable=bundle.bundle_id)
    is_down = False

    def reply(_request):
        if is_down:
            raise ProviderError("down", code="upstream_down")
        return said()

    with serving(ws, Model(reply), log=tape) as controls:
        ask = partial(controls.handle_blocking, "support", ASK, unit="u1")
        assert ask().content == "It is on its way."
        is_down = True
        assert (ask().content, ask().is_fallback) == ("It is on its way.", True)
        with ws.ledger.write() as act:
            add_erasure(act, ws.actor, unit_hash="of u1", reason="asked for")
        wait_until(lambda: ask().content == "Later.")
