"""Events: the pieces of an answer, and the whole that they make."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.events import Choice, Completion, Finished, TextPart, ToolCall, ToolPart, assembled, events_of, joined
from workbench.controls.turn import output_of

WORDS = st.text(min_size=1, max_size=20)
CALLS = st.builds(lambda call_id, name, arguments: ToolCall(call_id=call_id, name=name, arguments=arguments), WORDS, WORDS, st.text())
CHOICES = st.builds(
    lambda content, calls, reason: Choice(content=content, tool_calls=tuple(calls), finish_reason=reason),
    WORDS,
    st.lists(CALLS, max_size=3),
    st.sampled_from(["stop", "length", "tool_calls"]),
)


@given(st.lists(CHOICES, min_size=1, max_size=3))
def test_a_completion_is_what_its_events_say(choices: list[Choice]) -> None:
    completion = Completion(choices=tuple(choices), details={"model": "m"})
    assert assembled(events_of(completion)) == completion


@given(st.text(min_size=1, max_size=200), st.integers(1, 7))
def test_pieces_of_any_size_make_the_same_whole(text: str, size: int) -> None:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    named = ToolPart(index=0, call_id="c", name="refund")
    events = [named, *(ToolPart(index=0, arguments=piece) for piece in pieces), *(TextPart(text=piece) for piece in pieces)]
    assert assembled(events).choices[0] == Choice(content=text, tool_calls=(ToolCall(call_id="c", name="refund", arguments=text),))


def test_what_has_no_finish_is_not_complete() -> None:
    assert not assembled([TextPart(text="The first half")]).is_complete
    assert assembled([TextPart(text="All of it"), Finished(reason="stop")]).is_complete


def test_an_answer_that_was_cut_is_kept_without_half_a_word():
    cut, whole = (Choice(content="Write to joe.doe@exam", finish_reason=reason) for reason in ("length", "stop"))
    assert output_of((cut, whole)) == {"content": "Write to ", "others": [{"content": "Write to joe.doe@exam"}]}


SAID = st.builds(lambda text, choice: TextPart(text=text, choice=choice), WORDS, st.integers(0, 1))
OTHERS = st.sampled_from([Finished(reason="stop"), ToolPart(index=0, call_id="c", name="refund")])


@given(st.lists(SAID | OTHERS, max_size=12))
def test_joined_events_say_the_same_in_as_few_pieces_as_possible(events) -> None:
    pieces = list(joined(events))
    assert assembled(pieces) == assembled(events)
    assert [event for event in pieces if not isinstance(event, TextPart)] == [event for event in events if not isinstance(event, TextPart)]
    assert not any(
        isinstance(one, TextPart) and isinstance(next_, TextPart) and one.choice == next_.choice for one, next_ in pairwise(pieces)
    )
