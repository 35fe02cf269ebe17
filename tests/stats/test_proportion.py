"""Rates: published examples, scipy as oracle, and what clusters do to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from workbench.errors import InsufficientData
from workbench.stats.cluster import ClusterSums
from workbench.stats.estimate import Estimate, p_by_inversion
from workbench.stats.proportion import clustered_rate, hybrid_difference, n_to_prove, newcombe, wilson

LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.975, 0.99])
COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None)
@given(COUNTS, LEVELS)
def test_wilson_equals_scipy(counts, level):
    count, n = counts
    ours, theirs = wilson(count, n, level=level), binomtest(count, n).proportion_ci(level, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


@pytest.mark.parametrize(
    ("count", "n", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
)
def test_wilson_gives_the_published_intervals(count, n, low, high):
    interval = wilson(count, n)  # Newcombe (1998), Stat. Med. 17:857-872, table I, method 3
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_no_observations_are_insufficient_not_zero():
    with pytest.raises(InsufficientData, match="at least 1"):
        wilson(0, 0)


@pytest.mark.parametrize("level", [0, 1, 95, -0.5])
def test_a_level_is_a_coverage(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson(1, 2, level=level)


@settings(deadline=None)
@given(COUNTS)
def test_more_of_the_same_only_narrows(counts):
    count, n = counts
    few, many = wilson(count, n), wilson(3 * count, 3 * n)
    assert few.low <= many.low + 1e-12
    assert many.high <= few.high + 1e-12


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_newcombe_gives_the_published_differences(first, second, low, high):
    difference = newcombe(first, second)  # Newcombe (1998), Stat. Med. 17:873-890, table II, method 10
    assert (round(difference.low, 4), round(difference.high, 4)) == (low, high)


@settings(deadline=None)
@given(COUNTS, COUNTS, LEVELS)
def test_swapping_the_arms_flips_the_difference(first, second, level):
    one, other = newcombe(first, second, level=level), newcombe(second, first, level=level)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


@settings(deadline=None)
@given(COUNTS, COUNTS, LEVELS)
def test_p_is_below_alpha_exactly_when_the_interval_excludes_zero(first, second, level):
    p = p_by_inversion(lambda coverage: newcombe(first, second, level=coverage))
    difference = newcombe(first, second, level=level)
    if min(abs(difference.low), abs(difference.high)) > 1e-9:
        assert (p < 1 - level) == (not difference.contains(0.0))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_a_clustered_rate_is_never_surer_than_independent_observations(groups):
    sizes = [(s, s + f) for s, f in groups if s + f]
    if len(sizes) < 2:
        return
    y, x = [float(s) for s, _ in sizes], [float(n) for _, n in sizes]
    n = int(sum(x))
    clustered, plain = clustered_rate(ClusterSums.of(y, x, n=n)), wilson(sum(y), n)
    assert clustered.value == pytest.approx(plain.value)
    assert clustered.low is None or clustered.low <= plain.low + 1e-12
    assert clustered.high is None or clustered.high >= plain.high - 1e-12


def test_clusters_that_agree_count_once_each():
    repeated = clustered_rate(ClusterSums.of([0.0] * 20, [50.0] * 20, n=1000))
    assert repeated.high > wilson(0, 20).high
    assert repeated.high < 2 * wilson(0, 20).high


def test_the_known_design_effect_is_found():
    y, x = [10.0] * 10 + [0.0] * 10, [10.0] * 20  # every cluster says one thing: 200 observations are worth 20 less one
    interval = clustered_rate(ClusterSums.of(y, x, n=200))
    expected = math.sqrt(0.25 / 19)
    assert interval.high - interval.low == pytest.approx(2 * 2.093 * expected, rel=0.12)


def test_one_cluster_bounds_nothing():
    interval = clustered_rate(ClusterSums.of([30.0], [40.0], n=40))
    assert (interval.value, interval.low, interval.high) == (0.75, None, None)
    difference = hybrid_difference(interval, wilson(10, 20))
    assert (difference.value, difference.low, difference.high) == (0.25, None, None)


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), LEVELS)
def test_that_many_observations_prove_the_bar_and_one_less_does_not(share, bar, level):
    n = n_to_prove(share, bar, at_least_bar=True, level=level)
    if n is None:
        assert share <= bar
    elif n < 10**9:
        assert wilson(share * n * 1.0000001, n * 1.0000001, level=level).low >= bar - 1e-7
        if n > 2:
            assert wilson(share * (n - 1.01), n - 1.01, level=level).low <= bar + 1e-7


def test_a_ceiling_is_a_floor_seen_from_the_other_side():
    assert n_to_prove(0.02, 0.05, at_least_bar=False) == n_to_prove(0.98, 0.95, at_least_bar=True)
    assert n_to_prove(0.07, 0.05, at_least_bar=False) is None
    assert n_to_prove(1.0, 1.0, at_least_bar=True) is None


CLUSTERS = st.lists(st.integers(1, 30).flatmap(lambda m: st.tuples(st.integers(0, m), st.just(m))), min_size=2, max_size=30)


def rate_of(clusters) -> Estimate:
    return clustered_rate(ClusterSums.of([float(y) for y, _ in clusters], [float(m) for _, m in clusters], n=sum(m for _, m in clusters)))


def is_within(inner: Estimate, outer: Estimate) -> bool:
    low = outer.low is None or (inner.low is not None and outer.low <= inner.low + 1e-9)
    return low and (outer.high is None or (inner.high is not None and inner.high <= outer.high + 1e-9))


@settings(deadline=None)
@given(CLUSTERS, st.data())
def test_one_more_failure_never_raises_low_and_one_more_event_never_lowers_high(clusters, data):
    number = data.draw(st.integers(0, len(clusters) - 1))
    y, m = clusters[number]
    before = rate_of(clusters)
    if y > 0 and before.low is not None:
        after = rate_of([*clusters[:number], (y - 1, m), *clusters[number + 1 :]])
        assert after.low <= before.low + 1e-12
    if y < m and before.high is not None:
        after = rate_of([*clusters[:number], (y + 1, m), *clusters[number + 1 :]])
        assert after.high >= before.high - 1e-12


@settings(deadline=None)
@given(CLUSTERS)
def test_the_same_data_in_fewer_clusters_never_narrows(clusters):
    (a, m), (b, n), *rest = clusters
    assert is_within(rate_of(clusters), rate_of([(a + b, m + n), *rest]))


@settings(deadline=None)
@given(CLUSTERS, st.integers(2, 4))
def test_dropping_rows_at_the_same_estimate_never_narrows(clusters, times):
    more_rows = [(times * y, times * m) for y, m in clusters]
    assert is_within(rate_of(more_rows), rate_of(clusters))
    assert is_within(rate_of(clusters * times), rate_of(clusters))


@pytest.mark.parametrize(
    ("groups", "size", "icc", "share"), [(100, 10, 0.5, 0.01), (10, 100, 0.2, 0.05), (300, 10, 0.5, 0.01), (40, 25, 1.0, 0.1)]
)
def test_clustered_intervals_cover_as_they_say(groups, size, icc, share):
    generator, trials, hits = np.random.default_rng(11), 1500, 0
    for _ in range(trials):
        if icc < 1:
            strength = (1 - icc) / icc
            own = generator.beta(share * strength, (1 - share) * strength, groups)
        else:
            own = (generator.random(groups) < share).astype(float)
        hits += rate_of([(int(y), size) for y in generator.binomial(size, own)]).contains(share)
    assert hits / trials >= 0.93
