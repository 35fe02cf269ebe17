"""Effects: known answers, independent oracles, and the laws that an interval and its p keep."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from workbench.errors import InsufficientData
from workbench.stats.effect import Effect, Mean, Scale, absolute_effect, relative_effect, stratified

KNOWN = Path(__file__).parents[3] / "shared" / "realdata" / "gbstats" / "known_answers.json"
samples = st.lists(st.floats(-50, 50).map(lambda x: round(x, 3)), min_size=2, max_size=30)


def known_cases() -> list:
    if not KNOWN.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="the folder of real data is not beside this checkout"))]
    return [pytest.param(case, id=case["name"]) for case in json.loads(KNOWN.read_text())["cases"]]


def side(sums: dict) -> Mean:
    if "sum_squares" in sums:
        return Mean.of_sums(total=sums["sum"], squares=sums["sum_squares"], n=sums["n"])
    return Mean.of_share(sums["sum"], sums["n"])


def effect_of(case: dict) -> Effect:
    kind = relative_effect if case["name"].endswith("relative") else absolute_effect
    return kind(side(case["b"]), side(case["a"]))


@pytest.mark.parametrize("case", known_cases())
def test_everything_that_the_published_cases_assert(case):
    effect, expected = effect_of(case), case["expect"]
    found = effect.at(0.95)
    assert round(found.value, 5) == expected["effect"]
    assert [round(found.low, 5), round(found.high, 5)] == expected["ci95"]
    assert round(effect.p, 5) == expected["p"]
    if "se" in expected:
        assert round(effect.error, 5) == expected["se"]


def test_the_same_data_give_two_verdicts_and_each_says_which_it_is():
    a = Mean.of_sums(total=1396.87, squares=52377.9767, n=3407)
    b = Mean.of_sums(total=2422.7, squares=134698.29, n=3461)
    absolute, relative = absolute_effect(b, a), relative_effect(b, a)
    assert not absolute.at(0.95).contains(0)
    assert relative.at(0.95).contains(0)
    assert (absolute.at().method, relative.at().method) == ("welch t, absolute", "welch t, relative")
    assert (absolute.scale, relative.scale) == (Scale.ABSOLUTE, Scale.RELATIVE)


@given(samples, samples)
@settings(max_examples=60, deadline=None)
def test_absolute_is_welchs_test(first, second):
    a, b = Mean.of_values(first), Mean.of_values(second)
    if min(a.error, b.error) < 1e-3:
        return
    effect, expected = absolute_effect(a, b), oracle.ttest_ind(first, second, equal_var=False)
    assert effect.p == pytest.approx(expected.pvalue, abs=1e-9)
    low, high = expected.confidence_interval(0.9)
    assert (effect.at(0.9).low, effect.at(0.9).high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


@given(samples, samples, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
@settings(max_examples=60, deadline=None)
def test_p_is_below_alpha_exactly_when_the_interval_excludes_no_effect(first, second, level):
    a, b = Mean.of_values([value + 100 for value in first]), Mean.of_values([value + 100 for value in second])
    if max(a.error, b.error) < 1e-6:
        return
    effects = [absolute_effect(a, b)]
    with contextlib.suppress(InsufficientData):
        effects.append(relative_effect(a, b))
    for effect in effects:
        if abs(effect.p - (1 - level)) > 1e-9:
            assert (effect.p < 1 - level) is not effect.at(level).contains(0)


@given(samples, samples)
@settings(max_examples=100, deadline=None)
def test_swapping_the_sides_turns_the_sign_of_the_absolute_effect(first, second):
    a, b = Mean.of_values(first), Mean.of_values(second)
    if max(a.error, b.error) < 1e-6:
        return
    forth, back = absolute_effect(a, b), absolute_effect(b, a)
    assert (forth.value, forth.at().low, forth.at().high) == (-back.value, -back.at().high, -back.at().low)
    assert forth.p == back.p


def test_the_relative_error_is_what_resampling_shows():
    random = np.random.default_rng(3)
    a, b = random.gamma(2, 5, 4000), random.gamma(2, 5.5, 3000)
    effect = relative_effect(Mean.of_values(b), Mean.of_values(a))
    again = [random.choice(b, b.size).mean() / random.choice(a, a.size).mean() - 1 for _ in range(1500)]
    assert effect.error == pytest.approx(np.std(again), rel=0.06)


def test_a_relative_effect_on_a_baseline_that_may_be_nothing_is_refused():
    near_zero, other = Mean(value=0.1, error=0.2, df=100, n=101), Mean(value=1, error=0.2, df=100, n=101)
    with pytest.raises(InsufficientData) as refused:
        relative_effect(other, near_zero)
    assert refused.value.n_needed > 101
    with pytest.raises(InsufficientData):
        relative_effect(other, Mean(value=-3, error=0.1, df=100, n=101))


def test_units_that_never_differ_have_neither_an_interval_nor_a_p():
    effect = absolute_effect(Mean.of_values([1, 1, 1]), Mean.of_values([0, 0, 0]))
    assert (effect.at().low, effect.at().high) == (None, None)
    with pytest.raises(InsufficientData):
        effect.p  # noqa: B018


@pytest.mark.parametrize("make", [lambda: Mean.of_values([1]), lambda: Mean.of_share(0, 1), lambda: Mean.of_ratio([1], [1])])
def test_one_unit_is_no_mean(make):
    with pytest.raises(InsufficientData):
        make()


def test_a_ratio_over_equal_units_is_the_mean():
    values = [1.0, 4.0, 2.5, 0.0]
    ratio, mean = Mean.of_ratio(values, [1, 1, 1, 1]), Mean.of_values(values)
    assert (ratio.value, ratio.error, ratio.df) == (pytest.approx(mean.value), pytest.approx(mean.error), mean.df)


def test_a_ratio_knows_that_rows_of_one_unit_are_alike():
    """Copying each unit's rows changes nothing about how sure the ratio is."""
    y, x = np.array([1.0, 3.0, 0.0, 2.0, 5.0]), np.array([1.0, 2.0, 1.0, 3.0, 4.0])
    assert Mean.of_ratio(10 * y, 10 * x).error == pytest.approx(Mean.of_ratio(y, x).error)


def test_strata_keep_what_changes_over_time_out_of_the_effect():
    """The share grows from 5 % to 50 % while everybody's value doubles: the pooled difference is large, the true one nothing."""
    random = np.random.default_rng(5)
    early, late = random.normal(10, 2, 4000), random.normal(20, 2, 4000)
    candidate, baseline = (early[:200], late[:2000]), (early[200:], late[2000:])
    pooled = absolute_effect(Mean.of_values(np.concatenate(candidate)), Mean.of_values(np.concatenate(baseline)))
    assert pooled.p < 1e-9
    sides = [stratified([(4000, Mean.of_values(part)) for part in parts]) for parts in (candidate, baseline)]
    assert absolute_effect(*sides).at().contains(0)


def test_one_stratum_is_the_mean_itself_and_weights_only_count_by_ratio():
    mean, other = Mean.of_values([1, 2, 3.5]), Mean.of_values([4, 5, 9])
    assert stratified([(17, mean)]) == Mean(value=mean.value, error=mean.error, df=pytest.approx(mean.df), n=mean.n)
    assert stratified([(1, mean), (3, other)]) == stratified([(10, mean), (30, other)])
    both = stratified([(1, mean), (1, other)])
    assert both.error == pytest.approx(math.hypot(mean.error, other.error) / 2)


def test_intervals_of_skewed_values_cover_the_truth():
    random = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        a, b = random.lognormal(0, 1, 400), random.lognormal(0, 1, 300)
        hits += absolute_effect(Mean.of_values(a), Mean.of_values(b)).at().contains(0)
    assert 0.92 <= hits / 400 <= 0.98
