"""Quantiles: numpy for the estimate, the exact binomial and coverage by simulation for the interval."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from workbench.errors import InsufficientData
from workbench.stats.quantile import Ranks, clustered_ranks, n_to_bound, quantile, quantile_ranks

QS = st.sampled_from([0.5, 0.9, 0.95, 0.99])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=200), QS)
def test_the_estimate_interpolates_linearly_on_every_tenth_prefix(values, q):
    for n in range(1, len(values) + 1, 10):
        assert quantile(values[:n], q).value == pytest.approx(np.percentile(values[:n], 100 * q), rel=1e-12)


@settings(deadline=None)
@given(st.integers(1, 3000), QS, st.sampled_from([0.8, 0.95, 0.975]))
def test_each_end_misses_with_at_most_half_the_error_and_is_the_tightest_that_does(n, q, level):
    low, high = quantile_ranks(n, q, level=level)
    alpha = (1 - level) / 2
    if low is not None:
        assert binom.cdf(low - 1, n, q) <= alpha + 1e-12  # the truth lies below the low order statistic
        assert binom.cdf(low, n, q) > alpha - 1e-12
    else:
        assert binom.cdf(0, n, q) > alpha - 1e-12
    if high is not None:
        assert binom.sf(high - 1, n, q) <= alpha + 1e-12
        assert high == 1 or binom.sf(high - 2, n, q) > alpha - 1e-12
    else:
        assert binom.sf(n - 1, n, q) > alpha - 1e-12


def test_the_median_of_40_has_the_tabled_ranks():
    assert quantile_ranks(40, 0.5) == Ranks(14, 27)  # Conover (1999), table A3: 13 and 27 below and above


def test_a_p95_of_40_has_no_upper_end():
    interval = quantile(list(range(40)), 0.95)
    assert interval.high is None
    assert interval.low is not None


@pytest.mark.parametrize(("q", "n"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_so_many_observations_bound_both_ends(q, n):
    assert n_to_bound(q) == n
    assert None in quantile_ranks(n - 1, q)


def test_the_interval_covers_as_it_says():
    generator, truth, hits = np.random.default_rng(5), 1.6448536269514722, 0
    for _ in range(1500):
        interval = quantile(generator.standard_normal(200), 0.95)
        hits += interval.contains(truth)
    assert hits / 1500 >= 0.945


def test_nothing_has_no_quantile():
    with pytest.raises(InsufficientData):
        quantile([], 0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_ranks(5, 95)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=30), QS)
def test_the_estimate_lies_in_its_interval(values, q):
    interval = quantile(values, q)
    assert interval.contains(interval.value)


def test_400_requests_of_one_unit_bound_nothing():
    assert clustered_ranks(400, 1.0, 0.95) == Ranks(None, None)
    assert clustered_ranks(400, 400.0, 0.95) == quantile_ranks(400, 0.95)


@settings(deadline=None)
@given(st.integers(2, 400), st.integers(1, 30), QS)
def test_fewer_clusters_never_narrow_a_quantile(groups, size, q):
    n = groups * size
    ends = [clustered_ranks(n, float(few), q) for few in (n, groups, max(2, groups // 2))]
    for inner, outer in pairwise(ends):
        assert outer.low is None or (inner.low is not None and outer.low <= inner.low + size)
        assert outer.high is None or (inner.high is not None and outer.high >= inner.high - size)


@pytest.mark.parametrize(("q", "alike"), [(0.5, 1.0), (0.5, 0.3), (0.9, 0.5), (0.95, 0.9)])
def test_40_units_of_25_requests_cover_as_they_say(q, alike):
    generator, truth, hits, trials = np.random.default_rng(7), norm.ppf(q), 0, 800
    low, high = clustered_ranks(1000, 40.0, q)
    for _ in range(trials):
        shared, own = generator.standard_normal((40, 1)), generator.standard_normal((40, 25))
        ordered = np.sort((np.sqrt(alike) * shared + np.sqrt(1 - alike) * own).ravel())
        hits += (low is None or ordered[low - 1] <= truth) and (high is None or truth <= ordered[high - 1])
    assert hits / trials >= 0.93
