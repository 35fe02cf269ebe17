"""Trends, tails and decompositions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InsufficientData
from workbench.stats.decomposition import shapley_parts
from workbench.stats.outliers import tail, winsorised
from workbench.stats.trend import FEWEST, relative_to_usual, trend

factors = st.lists(st.floats(0, 100), min_size=3, max_size=3)


def test_the_slope_is_the_median_of_all_pairs():
    values = [3.0, 5.0, 4.0, 8.0, 9.0, 7.0, 12.0, 30.0]
    slopes = [(values[b] - values[a]) / (b - a) for a, b in itertools.combinations(range(8), 2)]
    assert trend(values).value == pytest.approx(np.median(slopes))


def test_a_gap_in_the_series_is_not_a_step():
    at = [0, 1, 2, 3, 6, 7, 8, 9]
    assert trend([float(place) for place in at], at=at).value == pytest.approx(1)


def test_series_without_a_trend_rarely_show_one():
    random = np.random.default_rng(6)
    shown = sum(not trend(random.lognormal(0, 0.5, 20)).contains(0) for _ in range(600))
    assert shown / 600 < 0.08


def test_the_interval_turns_with_the_series():
    values = [1.0, 3, 2, 5, 4, 6, 9, 7, 8]
    up, down = trend(values), trend([-value for value in values])
    assert (up.low, up.high) == (pytest.approx(-down.high), pytest.approx(-down.low))


@pytest.mark.parametrize("values", [[], [1.0] * (FEWEST - 1)])
def test_few_periods_have_no_trend(values):
    with pytest.raises(InsufficientData):
        trend(values)


@pytest.mark.parametrize("values", [[], [0.0] * 10, [-1.0] * 10])
def test_nothing_to_grow_from_has_no_usual_size(values):
    with pytest.raises(InsufficientData):
        relative_to_usual(values)


@given(factors, factors)
@settings(max_examples=100, deadline=None)
def test_parts_add_up_exactly(first, second):
    names = ("a", "b", "c")
    parts = shapley_parts(dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True)))
    assert math.fsum(parts.values()) == pytest.approx(math.prod(second) - math.prod(first), abs=1e-6)


def test_a_factor_that_did_not_change_brought_nothing_and_the_order_is_no_matter():
    parts = shapley_parts({"a": 2.0, "b": 3.0, "c": 5.0}, {"a": 2.0, "b": 6.0, "c": 4.0})
    assert parts["a"] == 0
    again = shapley_parts({"c": 5.0, "a": 2.0, "b": 3.0}, {"c": 4.0, "a": 2.0, "b": 6.0})
    assert again == {"c": parts["c"], "a": 0, "b": parts["b"]}


def test_going_back_takes_what_going_forth_brought():
    before, after = {"a": 2.0, "b": 0.0}, {"a": 3.0, "b": 4.0}
    forth, back = shapley_parts(before, after), shapley_parts(after, before)
    assert forth == {name: -part for name, part in back.items()}


def test_different_factors_are_no_decomposition():
    with pytest.raises(ValueError, match="differ"):
        shapley_parts({"a": 1.0}, {"b": 1.0})


def test_the_tail_is_named_and_cut_on_both_ends_alike():
    values = [1.0, -2.0] * 999 + [900.0, -400.0]
    found = tail(values, share=0.001)
    assert (found.n, found.limit, found.largest) == (2, 2.0, 900.0)
    assert found.share_of_total == pytest.approx(1300 / (1300 + 999 * 3))
    cut = winsorised(values, found.limit)
    assert (cut.max(), cut.min()) == (2.0, -2.0)


def test_a_sample_without_value_has_no_heavy_tail():
    assert tail([0.0, 0.0, 0.0]).share_of_total == 0.0
    with pytest.raises(InsufficientData):
        tail([1.0])
