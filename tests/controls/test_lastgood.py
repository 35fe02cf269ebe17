"""Answers from before: whole, recent, of the same request, and few."""

from __future__ import annotations

import pytest

from tests.controls.asking import REQUEST
from workbench.controls.events import Choice, Completion, ToolCall
from workbench.controls.lastgood import LARGEST, LastGoodAnswers

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
