"""Two bundles on the same units: published paired intervals, scipy's binomial and t tests."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_rel

from workbench.errors import InsufficientData
from workbench.stats.paired import PairCounts, mcnemar, paired_mean_difference, paired_rate_difference, paired_t_p

SMALL = st.integers(0, 60)


@pytest.mark.parametrize(("wins", "losses", "p"), [(6, 6, 1.0), (12, 0, 0.00049), (0, 0, 1.0), (1, 0, 1.0)])
def test_mcnemar_on_known_pairs(wins, losses, p):
    assert mcnemar(wins, losses) == pytest.approx(p, abs=5e-6)


@settings(deadline=None)
@given(SMALL, SMALL)
def test_mcnemar_is_the_two_sided_binomial_test(wins, losses):
    if wins + losses:
        assert mcnemar(wins, losses) == pytest.approx(binomtest(wins, wins + losses, 0.5).pvalue)
    assert mcnemar(wins, losses) == mcnemar(losses, wins)


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((20, 12, 2, 16), 0.0562, 0.3292),
        ((36, 14, 0, 0), 0.1528, 0.4167),
        ((18, 14, 0, 18), 0.1441, 0.3963),
        ((54, 0, 0, 0), -0.0664, 0.0664),
    ],
)
def test_the_paired_difference_gives_the_published_intervals(cells, low, high):
    both, wins, losses, neither = cells  # Newcombe (1998), Stat. Med. 17:2635-2650, method 10
    difference = paired_rate_difference(PairCounts(both=both, wins=wins, losses=losses, neither=neither))
    assert (round(difference.low, 4), round(difference.high, 4)) == (low, high)


@settings(deadline=None)
@given(SMALL, SMALL, SMALL, SMALL)
def test_swapping_the_sides_flips_the_paired_difference(both, wins, losses, neither):
    if both + wins + losses + neither == 0:
        return
    one = paired_rate_difference(PairCounts(both=both, wins=wins, losses=losses, neither=neither))
    other = paired_rate_difference(PairCounts(both=both, wins=losses, losses=wins, neither=neither))
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-12)
    assert one.low <= one.value <= one.high


def test_equal_answers_on_few_pairs_are_not_certainty():
    alike = paired_rate_difference(PairCounts(both=5, wins=0, losses=0, neither=0))
    assert alike.low < -0.4
    assert alike.high > 0.4


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-100, 100, width=16), st.floats(-100, 100, width=16)), min_size=2, max_size=40))
def test_paired_means_equal_scipy(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    differences = [a - b for a, b in pairs]
    if max(differences) - min(differences) < 1e-3:
        return
    theirs = ttest_rel(first, second)
    interval, ours = theirs.confidence_interval(), paired_mean_difference(first, second)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)
    assert paired_t_p(first, second) == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


def test_pairs_must_match_and_exist():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        paired_mean_difference([1.0, 2.0], [1.0])
    with pytest.raises(InsufficientData):
        paired_rate_difference(PairCounts(both=0, wins=0, losses=0, neither=0))
    with pytest.raises(InsufficientData):
        paired_t_p([1.0], [2.0])
