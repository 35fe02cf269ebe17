"""The adjustment by a pre-period: known answers, a regression as oracle, and what it must not do."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import InsufficientData
from workbench.stats.cuped import adjustment, linearised
from workbench.stats.effect import Mean, absolute_effect

GAP = float("nan")


def test_theta_is_the_slope_of_a_regression_within_the_sides():
    random = np.random.default_rng(2)
    pre = [random.gamma(2, 3, size) for size in (500, 300)]
    y = [0.7 * pre[0] + random.normal(0, 1, 500), 0.7 * pre[1] + random.normal(0, 1, 300) + 4]
    found = adjustment(list(zip(y, pre, strict=True)))
    side = np.concatenate([np.zeros(500), np.ones(300)])
    design = np.column_stack([np.concatenate(pre), side, 1 - side])
    slope, *_ = np.linalg.lstsq(design, np.concatenate(y), rcond=None)[0]
    assert found.theta == pytest.approx(slope)


def test_variance_falls_by_the_squared_correlation():
    random = np.random.default_rng(4)
    pre = random.normal(10, 2, 5000)
    y = pre + random.normal(0, 2, 5000)
    found = adjustment([(y, pre)])
    assert found.variance_reduction == pytest.approx(np.corrcoef(y, pre)[0, 1] ** 2)
    assert np.var(found.apply(y, pre)) == pytest.approx((1 - found.variance_reduction) * np.var(y))


def test_the_adjusted_effect_is_narrower_and_covers_the_truth():
    random = np.random.default_rng(7)
    hits = narrower = 0
    for _ in range(200):
        pre = random.gamma(2, 5, 600)
        y = pre + random.normal(0, 2, 600)
        y[:300] += 0.5
        change = adjustment([(y[:300], pre[:300]), (y[300:], pre[300:])])
        sides = [change.apply(y[part], pre[part]) for part in (slice(300), slice(300, 600))]
        adjusted, plain = (absolute_effect(Mean.of_values(a), Mean.of_values(b)).at() for a, b in (sides, (y[:300], y[300:])))
        hits += adjusted.contains(0.5)
        narrower += adjusted.high - adjusted.low < 0.6 * (plain.high - plain.low)
    assert hits >= 184
    assert narrower == 200


def test_a_unit_without_a_pre_period_keeps_its_value():
    found = adjustment([([1.0, 2.0, 3.0, 50.0], [1.0, 2.0, 3.0, GAP])])
    assert found.n_with_pre == 3
    assert found.apply([50.0], [GAP])[0] == 50.0
    assert found.apply([5.0], [found.centre])[0] == 5.0


@pytest.mark.parametrize("pre", [[GAP, GAP, GAP], [2.0, GAP, GAP], [3.0, 3.0, 3.0]])
def test_without_a_past_that_differs_there_is_nothing_to_adjust_by(pre):
    with pytest.raises(InsufficientData):
        adjustment([([1.0, 2.0, 3.0], pre)])


def test_nothing_at_all_is_not_an_adjustment():
    with pytest.raises(InsufficientData):
        adjustment([])


def test_a_linearised_ratio_has_the_ratios_mean_and_error():
    random = np.random.default_rng(9)
    x = random.poisson(2, 400) + 0.0
    y = x * random.gamma(2, 3, 400)
    mean, ratio = Mean.of_values(linearised(y, x)), Mean.of_ratio(y, x)
    assert (mean.value, mean.error) == (pytest.approx(ratio.value), pytest.approx(ratio.error))
    assert list(linearised([1.0, 4.0], [1, 1])) == [1.0, 4.0]


def test_a_ratio_of_nothing_is_refused():
    with pytest.raises(InsufficientData):
        linearised([0.0, 0.0], [0.0, 0.0])
