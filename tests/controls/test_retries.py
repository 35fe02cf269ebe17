"""What is tried again, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.providers import ProviderError
from workbench.controls.retries import pause_s
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
