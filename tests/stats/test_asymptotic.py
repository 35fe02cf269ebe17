"""The asymptotic confidence sequence against its formula written anew, and its coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.stats.asymptotic import Moments, mean_interval, update


def test_the_interval_is_that_of_the_formula():
    values = np.random.default_rng(1).exponential(3.0, 2000)
    interval = mean_interval(update(Moments(), values), alpha=0.05, tuned_for=5000)
    n, rho = 2000, math.sqrt((-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 5000)
    half = np.std(values, ddof=1) * math.sqrt(2 * (n * rho**2 + 1) / (n**2 * rho**2) * math.log(math.sqrt(n * rho**2 + 1) / 0.05))
    assert (interval.low, interval.high) == (pytest.approx(values.mean() - half), pytest.approx(values.mean() + half))


def test_batches_leave_no_trace():
    values = np.random.default_rng(2).normal(size=1000)
    parts = Moments()
    for part in np.array_split(values, 17):
        parts = update(parts, part)
    assert parts == update(Moments(), values)


def test_few_values_have_no_interval():
    few = mean_interval(update(Moments(), np.ones(99)))
    assert (few.estimate, few.low, few.high) == (1.0, None, None)
    assert mean_interval(Moments()).estimate is None


def test_the_mean_of_a_heavy_tail_is_covered_at_all_looks_at_once():
    rng, runs, missed = np.random.default_rng(5), 200, 0
    for _ in range(runs):
        values, state, is_missed = rng.lognormal(0, 1, 4000), Moments(), False
        for part in np.array_split(values, 40):
            state = update(state, part)
            interval = mean_interval(state, fewest=500)
            is_missed |= interval.low is not None and not interval.low <= math.exp(0.5) <= interval.high
        missed += is_missed
    assert missed / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5
