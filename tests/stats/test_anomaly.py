"""Unusual values: a declared rate of false alarms on series that are only chance, and what a rise or a fall looks like."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.stats.anomaly import LEAST_POOL, onsets, steps
from workbench.stats.proportion import wilson

PER_DAY = 24
WEEK = 7 * PER_DAY
BUSY = np.array([1, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 12, 11, 11, 11, 12, 12, 13, 14, 15, 14, 10, 6, 3]) / 8


def weekly(weeks: int, mean: float) -> np.ndarray:
    """What is expected at each hour: busy evenings, calm weekends."""
    day = np.tile(BUSY, 7) * np.repeat([1, 1.1, 1, 1, 0.9, 0.6, 0.5], PER_DAY)
    return mean * np.tile(day, weeks)


def poisson(mean):
    return lambda rng, weeks: rng.poisson(weekly(weeks, mean))


def overdispersed(mean, shape):
    return lambda rng, weeks: rng.poisson(weekly(weeks, mean) * rng.gamma(shape, 1 / shape, weeks * WEEK))


def growing(rng, weeks):
    return rng.poisson(weekly(weeks, 100) * 1.05 ** (np.arange(weeks * WEEK) / WEEK))


def wandering(rng, weeks):
    """A level that moves slowly by itself, as demand does."""
    level = np.zeros(weeks * WEEK)
    for t in range(1, level.size):
        level[t] = 0.98 * level[t - 1] + rng.normal(0, 0.03)
    return rng.poisson(weekly(weeks, 100) * np.exp(level))


def heavy(rng, weeks):
    """Costs: few large ones make the sum."""
    return np.array([rng.lognormal(-6, 1.0, n).sum() for n in rng.poisson(weekly(weeks, 20))])


NULLS = {
    "poisson 100": poisson(100),
    "poisson 3": poisson(3),
    "poisson 0.2": poisson(0.2),
    "overdispersed 50": overdispersed(50, 5),
    "growing 5 % a week": growing,
    "wandering level": wandering,
    "heavy costs": heavy,
}


@pytest.mark.parametrize("rate", [1.0, 0.25])
@pytest.mark.parametrize("name", NULLS)
def test_on_chance_alone_alarms_keep_to_the_declared_rate(name, rate):
    """Wilson's lower bound of alarms per judged hour is at most the declared rate: the data do not contradict it."""
    flagged = judged = 0
    for seed in range(6):
        series = NULLS[name](np.random.default_rng(seed), 12).tolist()
        found = list(steps(series, per_day=PER_DAY, false_alarms_per_week=rate))[4 * WEEK :]
        judged += sum(step.is_judged for step in found)
        flagged += len(onsets([step.is_unusual for step in found], patience=3))
    assert judged > 6 * 7 * WEEK
    assert wilson(flagged, judged).low * WEEK <= rate, (flagged, judged / WEEK)


def usual(weeks=10, mean=100.0, seed=3):
    return np.random.default_rng(seed).poisson(weekly(weeks, mean)).astype(float)


def flagged_at(series, places):
    found = list(steps(series.tolist(), per_day=PER_DAY, false_alarms_per_week=1))
    return [found[place].is_unusual for place in places]


@pytest.mark.parametrize("factor", [3, 0.2, 0])
def test_a_busy_hour_that_triples_or_almost_stops_is_unusual(factor):
    series = usual()
    place = 9 * WEEK + 19
    series[place] = round(series[place] * factor)
    assert flagged_at(series, [place]) == [True]


def test_a_quiet_night_is_usual_and_a_busy_one_is_not():
    series = usual()
    night = 9 * WEEK + 3
    assert flagged_at(series, [night]) == [False]
    series[night] = series[night + 16]
    assert flagged_at(series, [night]) == [True]


def test_an_incident_neither_hides_the_next_one_nor_is_learnt_in_a_day():
    series = usual(weeks=12)
    first, second = 8 * WEEK + 10, 9 * WEEK + 10
    series[first : first + 8] *= 20
    series[second : second + 8] *= 3
    assert flagged_at(series, [first + 7, second, second + 1]) == [True, True, True]


def test_hours_after_an_incident_are_usual_again():
    series = usual(weeks=12)
    first = 8 * WEEK + 10
    series[first : first + 5] *= 20
    assert sum(flagged_at(series, range(first + 6, first + 3 * PER_DAY))) <= 2


def test_nothing_is_said_before_there_is_something_to_compare_with():
    found = list(steps(usual(weeks=2).tolist(), per_day=PER_DAY, false_alarms_per_week=1))
    assert all(step.expected is None for step in found[: 3 * PER_DAY])
    assert not any(step.is_judged for step in found[: 3 * PER_DAY + LEAST_POOL])
    assert all(step.is_judged for step in found[3 * PER_DAY + LEAST_POOL :])


def test_what_was_not_observed_is_not_zero():
    series = usual().tolist()
    series[9 * WEEK + 19] = None
    found = list(steps(series, per_day=PER_DAY, false_alarms_per_week=1))
    assert not found[9 * WEEK + 19].is_unusual
    assert not found[9 * WEEK + 19].is_judged


@pytest.mark.parametrize("values", [[-1.0], [math.nan], [math.inf]])
def test_values_that_cannot_be_are_refused(values):
    with pytest.raises(ValueError, match="not negative, and finite"):
        list(steps(values, per_day=PER_DAY, false_alarms_per_week=1))


@pytest.mark.parametrize("rate", [0, -1, 24])
def test_a_rate_that_nobody_can_keep_is_refused(rate):
    with pytest.raises(ValueError, match="false alarms per week"):
        list(steps([1.0], per_day=PER_DAY, false_alarms_per_week=rate))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.none() | st.floats(0, 1e6), min_size=1, max_size=200), st.integers(0, 199))
def test_a_value_is_judged_by_those_before_it_alone(values, cut):
    """Online: what comes later changes nothing that was said."""
    whole = list(steps(values, per_day=4, false_alarms_per_week=1))
    assert list(steps(values[:cut], per_day=4, false_alarms_per_week=1)) == whole[:cut]


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_alarms_begin_where_nothing_was_unusual_for_a_while(flags, patience):
    found = onsets(flags, patience=patience)
    assert all(flags[place] and not any(flags[max(0, place - patience) : place]) for place in found)
    assert bool(found) == any(flags)
