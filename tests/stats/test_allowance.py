"""The absolute allowance against published sample sizes and products in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.stats.allowance import HARM, SAFE, Trials, e_path, e_value, rate_interval, update


@given(happened=st.lists(st.booleans(), max_size=60), rate=st.sampled_from([0.001, 0.01, 0.2]), multiples=st.sampled_from([HARM, SAFE]))
def test_every_prefix_is_the_mean_product_of_likelihood_ratios(happened, rate, multiples):
    path = e_path(Trials(), np.array(happened, dtype=np.bool_), rate, multiples)
    for n in range(len(happened)):
        total = Fraction(0)
        for multiple in multiples:
            other, one = min(Fraction(rate) * Fraction(multiple), 1 - Fraction(1, 10**9)), Fraction(1)
            for event in happened[: n + 1]:
                one *= other / Fraction(rate) if event else (1 - other) / (1 - Fraction(rate))
            total += one
        assert path[n] == pytest.approx(float(total / len(multiples)), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(("rate", "clean"), [(0.01, 354), (0.005, 710), (0.001, 3556)])
def test_so_many_clean_units_prove_an_allowance(rate, clean):
    assert e_value(Trials(n=clean), rate, SAFE) >= 20 > e_value(Trials(n=clean - 1), rate, SAFE)


def test_an_allowance_of_nothing_is_broken_by_the_first_event():
    path = e_path(Trials(), np.array([False, False, True, False]), 0.0, HARM)
    assert path.tolist() == [1.0, 1.0, np.inf, np.inf]


def test_the_interval_holds_what_was_seen_and_nothing_seen_has_none():
    state = update(Trials(), np.arange(2000) % 50 == 0)
    interval = rate_interval(state)
    assert interval.low < 0.02 == interval.estimate < interval.high
    assert rate_interval(Trials()).estimate is None
    assert rate_interval(Trials(n=500)).low is None


@pytest.mark.parametrize(("n", "events"), [(2000, 40), (500, 0), (30, 30), (4000, 3)])
def test_the_interval_excludes_a_rate_exactly_when_its_test_rejects(n, events):
    state = Trials(n=n, events=events)
    interval = rate_interval(state)
    for border, outwards in ((interval.low, 1 / 1.1), (interval.high, 1.1)):
        if border is not None and border * outwards < 1:
            assert max(e_value(state, border, HARM), e_value(state, border, SAFE)) < 40
            assert max(e_value(state, border * outwards, HARM), e_value(state, border * outwards, SAFE)) >= 40
