"""A deadline is one moment; what is left of it shrinks and never goes below nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.deadline import LONGEST_S, RESERVE_S, Deadline

times = st.floats(0, 1e6)


@given(st.floats(0.1, 500), times, st.floats(0, 1000))
def test_what_is_left_is_the_span_less_the_time_gone_and_the_reserve(seconds, now_s, gone_s):
    left = Deadline.after(seconds, now_s=now_s).left_s(now_s + gone_s)
    assert left == pytest.approx(max(0.0, seconds - gone_s - RESERVE_S), abs=1e-6)


@pytest.mark.parametrize("seconds", [0, -1, -math.inf, RESERVE_S / 2])
def test_a_deadline_that_is_past_or_too_near_leaves_nothing(seconds):
    assert Deadline.after(seconds, now_s=100.0).left_s(100.0) == 0.0


@pytest.mark.parametrize("seconds", [LONGEST_S + 1, math.inf])
def test_nobody_waits_for_ever(seconds):
    assert Deadline.after(seconds, now_s=0.0).left_s(0.0) == LONGEST_S - RESERVE_S
