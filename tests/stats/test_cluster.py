"""Means and ratios, with and without clusters: scipy, a linear model by hand, and published A/B answers as oracles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workbench.errors import InsufficientData
from workbench.stats.cluster import ClusterSums, clustered_ratio, difference_of_ratios, mean, p_of_t, standard_error

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=60)
KNOWN = Path(__file__).parents[3] / "shared" / "realdata" / "gbstats" / "known_answers.json"


def clustered_mean(values, clusters):
    """The mean of observations of which some share a cluster."""
    members = {}
    for value, cluster in zip(values, clusters, strict=True):
        members.setdefault(cluster, []).append(value)
    return clustered_ratio(ClusterSums.of([sum(m) for m in members.values()], [float(len(m)) for m in members.values()], n=len(values)))


@settings(deadline=None)
@given(VALUES)
def test_the_mean_and_its_interval_equal_scipy_on_every_prefix(values):
    for n in range(2, len(values) + 1):
        ours = mean(values[:n])
        centre, error = np.mean(values[:n]), stats.sem(values[:n])
        assert ours.value == pytest.approx(centre, rel=1e-9, abs=1e-9)
        if error > 1e-6:
            low, high = stats.t.interval(0.95, n - 1, loc=centre, scale=error)
            assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-7, abs=1e-6)


def test_one_observation_has_a_mean_and_no_interval():
    one = mean([3.0])
    assert (one.value, one.low, one.high, one.n) == (3.0, None, None, 1)


def test_no_observations_have_no_mean():
    with pytest.raises(InsufficientData):
        mean([])
    with pytest.raises(InsufficientData):
        clustered_ratio(ClusterSums.of([], []))


@settings(deadline=None)
@given(VALUES, st.data())
def test_clusters_give_the_sandwich_variance_of_a_regression_on_a_constant(values, data):
    clusters = data.draw(st.lists(st.integers(0, 4), min_size=len(values), max_size=len(values)))
    groups = sorted(set(clusters))
    if len(groups) < 2:
        return
    ours = clustered_mean(values, clusters)
    residuals = np.array(values) - np.mean(values)
    scores = np.array([residuals[np.array(clusters) == g].sum() for g in groups])
    variance = len(groups) / (len(groups) - 1) * (scores @ scores) / len(values) ** 2
    sizes = [clusters.count(g) for g in groups]
    effective = len(values) ** 2 / sum(size**2 for size in sizes)
    if ours.high is None:
        assert effective < 2 or variance < 1e-12
    else:
        half = stats.t.ppf(0.975, max(1, effective - 1)) * np.sqrt(variance)
        assert ours.high - ours.value == pytest.approx(half, rel=1e-6, abs=1e-6)


def test_repeats_of_a_cluster_add_nothing():
    once = clustered_mean([1.0, 2.0, 4.0], ["a", "b", "c"])
    thrice = clustered_mean([1.0, 2.0, 4.0] * 3, ["a", "b", "c"] * 3)
    assert (once.value, once.low, once.high) == pytest.approx((thrice.value, thrice.low, thrice.high))
    assert (once.method, thrice.method) == ("t", "t, clustered by unit")


def test_the_standard_error_of_one_cluster_is_insufficient_data():
    with pytest.raises(InsufficientData, match="clusters"):
        standard_error(ClusterSums.of([1.0], [2.0]))


def test_disjoint_units_give_the_variance_of_two_samples():
    a, b = [1.0, 2.0, 4.0, 7.0] * 20, [2.0, 3.0, 3.0, 9.0, 1.0] * 20
    n, m = len(a), len(b)
    found = difference_of_ratios((a + [0.0] * m, [1.0] * n + [0.0] * m), ([0.0] * n + b, [0.0] * n + [1.0] * m)).at(0.95)
    error = np.sqrt((np.var(a) / n + np.var(b) / m) * (n + m) / (n + m - 1))
    assert found.value == pytest.approx(np.mean(a) - np.mean(b))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 4 * n * m / (n + m) - 1) * error)


def test_units_on_both_sides_give_the_paired_t_test():
    a, b = [3.0, 5.0, 9.0, 4.0], [2.0, 5.0, 7.0, 1.0]
    found = difference_of_ratios((a, [1.0] * 4), (b, [1.0] * 4)).at(0.95)
    assert p_of_t(0.0, found, df=3) == pytest.approx(stats.ttest_rel(a, b).pvalue)


@settings(deadline=None)
@given(VALUES, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_p_and_interval_agree(values, level):
    ours = mean(values, level=level)
    if ours.high is not None and ours.high - ours.low > 1e-6 and min(abs(ours.low), abs(ours.high)) > 1e-9 * abs(ours.value) + 1e-9:
        assert (p_of_t(0.0, ours, df=len(values) - 1) < 1 - level) == (not ours.contains(0.0))


@pytest.mark.skipif(not KNOWN.exists(), reason="third-party A/B cases are not on this machine")
def test_the_published_absolute_effect_is_found():
    case = next(c for c in json.loads(KNOWN.read_text())["cases"] if c["name"] == "welch_t_absolute")
    sides = [_normal_scores(case[side]) for side in ("b", "a")]
    n, m = len(sides[0]), len(sides[1])
    found = difference_of_ratios((sides[0] + [0.0] * m, [1.0] * n + [0.0] * m), ([0.0] * n + sides[1], [0.0] * n + [1.0] * m)).at(0.95)
    assert found.value == pytest.approx(case["expect"]["effect"], abs=5e-6)
    assert (found.low, found.high) == pytest.approx(case["expect"]["ci95"], abs=1e-4)
    assert p_of_t(0.0, found, df=n + m - 1) == pytest.approx(case["expect"]["p"], abs=1e-4)


def _normal_scores(sums: dict[str, float]) -> list[float]:
    """Values with exactly this n, sum and sum of squares."""
    n, centre = sums["n"], sums["sum"] / sums["n"]
    spread = np.sqrt((sums["sum_squares"] - n * centre**2) / n)
    shape = np.linspace(-1, 1, n)
    return list(centre + spread * shape / shape.std())


@pytest.mark.parametrize("groups", [2, 5, 29])
def test_no_variance_among_few_clusters_bounds_nothing(groups):
    alike = ClusterSums.of([90.0] * groups, [100.0] * groups, n=100 * groups)
    found = clustered_ratio(alike)
    assert (found.value, found.low, found.high) == (0.9, None, None)
    known = clustered_ratio(alike, within=(0.0, 1.0))
    assert known.low < 0.9 - 1 / groups
    assert known.high == min(1.0, known.high)


def test_a_known_range_never_narrows_and_fades_with_clusters():
    for groups, most in ((40, 1.5), (4000, 1.05)):
        sums = ClusterSums.of([0.7, 0.9] * (groups // 2), [1.0] * groups)
        plain, known = clustered_ratio(sums), clustered_ratio(sums, within=(0.0, 1.0))
        assert known.low <= plain.low
        assert known.high >= plain.high
        assert known.high - known.low < (3.0 if groups < 100 else most) * (plain.high - plain.low)


def test_one_observation_with_all_the_weight_bounds_nothing():
    weights = [1.0] * 199 + [1e6]
    found = clustered_ratio(ClusterSums.of([0.2] * 199 + [0.9e6], weights), within=(0.0, 1.0))
    assert found.value == pytest.approx(0.9, abs=1e-3)
    assert (found.low, found.high) == (None, None)


@settings(deadline=None)
@given(st.lists(st.floats(1, 50), min_size=2, max_size=40))
def test_the_effective_number_lies_between_one_and_all(weights):
    effective = ClusterSums.of([0.0] * len(weights), weights).effective
    assert 1 - 1e-9 <= effective <= len(weights)
    merged = [weights[0] + weights[1], *weights[2:]]
    assert ClusterSums.of([0.0] * len(merged), merged).effective <= effective + 1e-9
