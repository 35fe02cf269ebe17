"""What is tried again, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.failures import HANDLING, FailureKind
from workbench.controls.providers import ProviderError
from workbench.controls.retries import RetryPolicy, backoff_s, may_be_repeated, pause_before_retry, pause_s
from workbench.controls.tools import ToolError

PASSING = ProviderError("busy")


def test_as_often_as_the_bundle_allows_and_no_more():
    assert [pause_s(PASSING, number=number, retries=2, label="u") is not None for number in (1, 2, 3)] == [True, True, False]
    assert pause_s(PASSING, number=1, retries=0, label="u") is None


@pytest.mark.parametrize(
    "fault", [ProviderError("no", may_pass=False), KeyError("x"), TimeoutError(), ProviderError("busy", retry_after_s=21)]
)
def test_what_does_not_pass_is_not_tried_again(fault):
    assert pause_s(fault, number=1, retries=5, label="u") is None


def test_a_tool_that_did_nothing_is_called_again():
    assert pause_s(ToolError("down"), number=1, retries=1, label="u") is not None


@given(st.integers(1, 9), st.text())
def test_pauses_grow_stay_in_bounds_and_depend_on_the_label_alone(number, label):
    pause = pause_s(PASSING, number=number, retries=9, label=label)
    assert 0.1 * number <= pause < 0.2 * number
    assert pause == pause_s(PASSING, number=number, retries=9, label=label)


def test_units_do_not_come_back_all_at_once():
    assert len({pause_s(PASSING, number=1, retries=1, label=f"u{n}") for n in range(100)}) == 100


def test_a_hint_is_a_floor():
    assert pause_s(ProviderError("busy", retry_after_s=3), number=1, retries=1, label="u") == 3


# Questions to a model


def test_a_bundle_that_says_nothing_tries_once_at_each_target():
    assert RetryPolicy.of(retries=None, attempts=None) == RetryPolicy(per_target=1, in_all=4)
    assert RetryPolicy.of(retries=9, attempts=9) == RetryPolicy(per_target=3, in_all=4)
    assert RetryPolicy.of(retries=1, attempts=2) == RetryPolicy(per_target=2, in_all=2)


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 100))
def test_a_backoff_is_full_jitter_above_the_hint(number, chance, hint_s):
    seconds = backoff_s(number, hint_s=hint_s, fraction=chance)
    longest = min(8.0, 0.25 * 2 ** (number - 1))
    assert (hint_s or 0.0) <= seconds <= max(longest, hint_s or 0.0)
    assert backoff_s(number, hint_s=None, fraction=0.0) == 0.0


POLICY = RetryPolicy(per_target=3, in_all=4)


def pause(fault, *, at_target=1, in_all=1, left_s=60.0, chance=0.5):
    return pause_before_retry(fault, at_target=at_target, in_all=in_all, policy=POLICY, left_s=left_s, fraction=chance)


def test_no_target_is_asked_more_than_three_times_and_no_question_more_than_four():
    assert [pause(PASSING, at_target=n, in_all=n) is not None for n in (1, 2, 3)] == [True, True, False]
    assert pause(PASSING, at_target=1, in_all=4) is None


def test_a_wait_for_which_there_is_no_time_is_not_begun():
    assert pause(ProviderError("busy", retry_after_s=3), left_s=3.2) == 3
    assert pause(ProviderError("busy", retry_after_s=3), left_s=3.0) is None
    assert pause(ProviderError("busy", retry_after_s=20.5), left_s=600) is None


@given(st.sampled_from(list(FailureKind)), st.integers(1, 3), st.integers(1, 4), st.floats(0, 99), st.floats(0, 0.99))
def test_what_must_not_be_tried_again_is_not(kind, at_target, in_all, left_s, chance):
    seconds = pause(ProviderError("x", kind=kind), at_target=at_target, in_all=in_all, left_s=left_s, chance=chance)
    assert seconds is None or (HANDLING[kind].retry_same and seconds < left_s)


@pytest.mark.parametrize(
    ("request_", "is_repeatable"),
    [
        ({"messages": []}, True),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, True),
        ({"tools": [{"type": "web_search"}]}, False),
        ({"store": True}, False),
        ({"store": False}, True),
    ],
)
def test_a_request_with_effects_of_its_own_is_not_sent_twice(request_, is_repeatable):
    assert may_be_repeated(ProviderError("x"), request_) is is_repeatable
    assert may_be_repeated(ProviderError("x", was_sent=False), request_)
