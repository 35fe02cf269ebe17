"""How much may be asked again, against plain recounting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.budget import RetryBudget, Throttle
from workbench.controls.rolling import Rolling


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(-3, 3)), max_size=60))
def test_a_rolling_sum_is_the_sum_of_what_is_young_enough(steps):
    rolling, now_s, added = Rolling(1, span_s=10), 0.0, []
    for pause_s, amount in steps:
        now_s += pause_s
        rolling.add(now_s, amount)
        added.append((now_s, amount))
        assert rolling.sums(now_s) == (sum(amount for at_s, amount in added if int(at_s) > int(now_s) - 10),)


def test_without_traffic_there_is_a_retry_for_each_second():
    budget = RetryBudget()
    assert [budget.draw(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert not budget.draw(9.9)
    assert budget.draw(10.0)


def test_a_tenth_of_the_first_attempts_may_be_repeated():
    budget = RetryBudget()
    for _ in range(1000):
        budget.first(0.0)
    assert sum(budget.draw(0.0) for _ in range(1000)) == 110


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200))
def test_never_more_is_drawn_in_a_window_than_it_holds(steps):
    budget, now_s, firsts, draws = RetryBudget(), 0.0, [], []
    for pause_s, is_retry in steps:
        now_s += pause_s
        if not is_retry:
            budget.first(now_s)
            firsts.append(now_s)
        elif budget.draw(now_s):
            draws.append(now_s)
            young = int(now_s) - 10
            assert sum(int(at) > young for at in draws) <= 10 + 0.1 * sum(int(at) > young for at in firsts)


def test_a_target_that_takes_half_of_the_requests_gets_all():
    throttle = Throttle()
    for number in range(100):
        assert throttle.probability(0.0) == 0.0
        assert not throttle.refuses(0.0, lambda _purpose: 0.0)
        if number % 2 == 0:
            throttle.accept(0.0)
        else:
            throttle.reject(0.0)


def test_a_target_that_takes_none_gets_ever_fewer():
    throttle = Throttle()
    for _ in range(9):
        throttle.reject(0.0)
    assert throttle.probability(0.0) == 0.0
    throttle.reject(0.0)
    assert throttle.probability(0.0) == pytest.approx(10 / 11)
    assert not throttle.refuses(0.0, lambda _purpose: 0.92)
    assert throttle.refuses(0.0, lambda _purpose: 0.9)
    assert throttle.probability(0.0) == pytest.approx(11 / 12), "who is refused here counts"
    assert throttle.probability(31.0) == 0.0


def test_a_target_that_has_not_answered_yet_has_refused_nothing():
    throttle = Throttle()
    assert not any(throttle.refuses(0.0, lambda _purpose: 0.0) for _ in range(200))
    assert throttle.probability(0.0) == 0.0
