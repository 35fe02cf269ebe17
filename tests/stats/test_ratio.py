"""Ratios and differences that cover whatever the two sides have to do with each other."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import InsufficientData
from workbench.stats.estimate import Estimate
from workbench.stats.quantile import quantile
from workbench.stats.ratio import conservative_difference, conservative_ratio, level_of_each


def estimate(value, low, high, level=0.975):
    return Estimate(value=value, low=low, high=high, level=level, method="t", n=10)


def test_the_ends_are_the_far_corners():
    ratio = conservative_ratio(estimate(20, 15, 30), estimate(10, 8, 12))
    assert (ratio.value, ratio.low, ratio.high, ratio.level) == (2.0, 15 / 12, 30 / 8, 0.95)
    difference = conservative_difference(estimate(20, 15, 30), estimate(10, 8, 12))
    assert (difference.value, difference.low, difference.high) == (10, 3, 22)


def test_an_unbounded_side_leaves_the_combination_unbounded():
    ratio = conservative_ratio(estimate(20, 15, None), estimate(10, 8, None))
    assert (ratio.low, ratio.high) == (None, None)
    assert conservative_ratio(estimate(20, 15, 30), estimate(10, 0, 12)).high is None


@pytest.mark.parametrize("baseline", [0.0, -1.0])
def test_without_a_positive_baseline_there_is_no_ratio(baseline):
    with pytest.raises(InsufficientData, match="positive baseline"):
        conservative_ratio(estimate(1, 0, 2), estimate(baseline, baseline - 1, baseline + 1))


def test_a_ratio_of_equal_medians_covers_one():
    generator, level, hits = np.random.default_rng(3), level_of_each(0.95), 0
    for _ in range(400):
        sides = [quantile(np.exp(generator.standard_normal(120)), 0.5, level=level) for _ in range(2)]
        hits += conservative_ratio(*sides).contains(1.0)
    assert hits / 400 >= 0.95
