"""Calls at the door: each refusal names the place and quotes nothing."""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controls.tiny import ASK, NOW
from workbench.controls.admission import LONGEST_NAME, call_of
from workbench.controls.deadline import DEFAULT_S
from workbench.errors import RequestRefused

GOOD = {
    "messages": ASK,
    "unit": "u1",
    "session": "s1",
    "workflow": "returns",
    "metadata": {"signed_in": "yes"},
    "deadline_s": 5,
    "request_id": "req_1",
    "source": "library",
    "received_at": NOW,
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def call(**changes):
    return call_of("support", **{**GOOD, **changes})


def test_a_good_call_is_taken_as_it_is():
    taken = call()
    assert (taken.messages, taken.unit, taken.session_id, taken.workflow) == (tuple(ASK), "u1", "s1", "returns")
    assert (taken.metadata, taken.deadline_s, taken.request_id) == ({"signed_in": "yes"}, 5.0, "req_1")


def test_what_is_not_given_is_absent_or_the_default():
    taken = call(unit="", session=None, workflow="", metadata=None, deadline_s=None, request_id=None)
    assert (taken.unit, taken.session_id, taken.workflow, taken.metadata, taken.deadline_s) == (None, None, None, {}, DEFAULT_S)


def test_made_ids_differ():
    assert len({call(request_id=None).request_id for _ in range(1000)}) == 1000


SECRET = "maria.schmidt@example.com"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"messages": []}, "messages is empty"),
        ({"messages": SECRET}, "messages is no list"),
        ({"messages": {"role": "user", "content": SECRET}}, "messages is no list"),
        ({"messages": [SECRET]}, r"messages\[0\] is no message"),
        ({"messages": [{"role": SECRET, "content": "x"}]}, r"messages\[0\] is no message"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, r"messages\[0\] is no message"),
        ({"messages": [MappingProxyType({"role": "user", "content": "x"})]}, r"messages\[0\] is no message"),
        ({"messages": [{"role": "user", "content": [{"text": SECRET}]}]}, r"messages\[0\].content is no text"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\].content is no text"),
        ({"messages": [*ASK, {"role": "assistant", "content": SECRET}]}, "the last message is not the user's"),
        ({"unit": SECRET * 20}, "unit is no name"),
        ({"unit": 7}, "unit is no name"),
        ({"session": "\ud800"}, "session is no name"),
        ({"workflow": "x" * (LONGEST_NAME + 1)}, "workflow is no name"),
        ({"request_id": b"x"}, "request_id is no name"),
        ({"metadata": [SECRET]}, "metadata is no object"),
        ({"metadata": {str(n): "" for n in range(65)}}, "metadata is no object"),
        ({"metadata": {SECRET: 7}}, "metadata has an entry"),
        ({"metadata": {SECRET: "\udc00"}}, "metadata has an entry"),
        ({"deadline_s": float("nan")}, "the deadline is no number"),
        ({"deadline_s": "5"}, "the deadline is no number"),
        ({"deadline_s": True}, "the deadline is no number"),
    ],
)
def test_a_bad_call_is_refused_with_its_place_and_without_its_content(changes, said):
    with pytest.raises(RequestRefused, match=said) as refused:
        call(**changes)
    assert (refused.value.code, refused.value.http_status) == ("bad_request", 400)
    assert SECRET not in str(refused.value)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("messages", "unit", "session", "workflow", "metadata", "deadline_s", "request_id"), json_values)
    )
)
def test_whatever_comes_in_is_a_call_or_a_refusal(changes):
    with suppress(RequestRefused):
        call(**changes)
