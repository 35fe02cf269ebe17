"""The sample ratio: independent oracles, false alarms, and what a growing share does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from workbench.errors import InsufficientData
from workbench.stats.split import MISMATCH, Stretch, split_test


def stretch(share: float, candidate: int, baseline: int) -> Stretch:
    return Stretch(share=share, candidate=candidate, baseline=baseline)


@given(st.floats(0.05, 0.95), st.integers(200, 3000), st.integers(200, 3000))
@settings(max_examples=100, deadline=None)
def test_one_stretch_is_pearsons_chi_square(share, candidate, baseline):
    n = candidate + baseline
    expected = oracle.chisquare([candidate, baseline], [n * share, n * (1 - share)])
    found = split_test([stretch(share, candidate, baseline)])
    assert (found.statistic, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))


def test_stretches_of_different_shares_add_up():
    parts = [stretch(0.05, 70, 1130), stretch(0.5, 480, 520)]
    each = [split_test([part]) for part in parts]
    both = split_test(parts)
    assert (both.statistic, both.df) == (pytest.approx(sum(part.statistic for part in each)), 2)
    assert both.expected == pytest.approx(0.05 * 1200 + 0.5 * 1000)


def test_pooling_the_shares_would_have_hidden_it():
    """Too many early, too few late: the totals are as expected, the stretches are not."""
    parts = [stretch(0.1, 200, 800), stretch(0.5, 400, 600)]
    assert sum(part.candidate for part in parts) == pytest.approx(sum(part.n * part.share for part in parts))
    assert split_test(parts).is_broken


def test_a_lost_tenth_of_the_candidates_units_is_found():
    random = np.random.default_rng(1)
    candidate = int(random.binomial(10_000, 0.5))
    assert not split_test([stretch(0.5, candidate, 10_000 - candidate)]).is_broken
    assert split_test([stretch(0.5, int(0.9 * candidate), 10_000 - candidate)]).is_broken


def test_false_alarms_are_as_rare_as_promised():
    random = np.random.default_rng(8)
    shares, sizes = (0.05, 0.25, 0.5), (800, 900, 2000)
    p = []
    for _ in range(4000):
        counts = [int(random.binomial(n, share)) for n, share in zip(sizes, shares, strict=True)]
        p.append(split_test([stretch(s, c, n - c) for s, c, n in zip(shares, counts, sizes, strict=True)]).p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.sum(np.array(p) < MISMATCH) <= 12


def test_small_stretches_are_judged_together_and_tiny_data_exactly():
    many = [stretch(0.02, 1, 60) for _ in range(20)]
    assert split_test(many).df == 1
    tiny = split_test([stretch(0.5, 7, 0)])
    assert tiny.p == pytest.approx(oracle.binomtest(7, 7, 0.5).pvalue)
    assert not tiny.is_broken


@pytest.mark.parametrize("parts", [[], [stretch(0.5, 0, 0)], [stretch(1.0, 40, 0), stretch(0.0, 0, 12)]])
def test_without_units_that_chance_divided_there_is_no_test(parts):
    with pytest.raises(InsufficientData):
        split_test(parts)


@given(st.integers(0, 400), st.integers(0, 400), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_swapping_the_sides_and_the_share_changes_nothing(candidate, baseline, share):
    if not candidate + baseline:
        return
    forth, back = split_test([stretch(share, candidate, baseline)]), split_test([stretch(1 - share, baseline, candidate)])
    assert forth.p == pytest.approx(back.p, rel=1e-6)
