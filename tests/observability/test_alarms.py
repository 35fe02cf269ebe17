"""Alarms on traffic: what is raised, what is quiet, and what nobody can say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import chi2

from tests.benchmarks.alarms import RATE, Server
from tests.observability.real_data import real
from tests.stats.test_anomaly import WEEK, usual
from workbench.observability.alarms import AlarmState, absent, unusual

START = datetime(2026, 9, 7, tzinfo=UTC)


def hours(n):
    return [START + place * timedelta(hours=1) for place in range(n)]


def judged(series, name="volume", unit="requests"):
    return unusual(name, unit, hours(len(series)), list(series), false_alarms_per_week=1)


def missed(series):
    return absent(hours(len(series)), list(series), false_alarms_per_week=1)


def test_a_rush_is_raised_with_its_hour_and_what_is_usual():
    series = usual()[: 9 * WEEK + 20]
    series[-1] = 900
    alarm = judged(series)
    assert (alarm.state, alarm.reason, alarm.onset) == (AlarmState.RAISED, "above", START + timedelta(hours=9 * WEEK + 19))
    assert alarm.sentence.startswith("900 requests in the hour from Mon 2026-11-09 19:00 UTC is above what is usual then, ")


def test_an_alarm_stays_raised_for_three_hours_and_then_ends():
    series = usual()[: 9 * WEEK + 23]
    series[9 * WEEK + 19] = 900
    assert judged(series[: 9 * WEEK + 22]).state is AlarmState.RAISED
    assert judged(series).state is AlarmState.QUIET


def test_a_usual_hour_is_quiet_and_says_what_is_usual():
    alarm = judged(usual()[: 9 * WEEK + 20])
    assert (alarm.state, alarm.reason) == (AlarmState.QUIET, "usual")
    assert " requests in the hour from Mon 2026-11-09 19:00 UTC, usual is " in alarm.sentence


def test_without_history_nothing_is_quiet():
    for n in (0, 1, 48):
        alarm = judged(usual()[:n])
        assert (alarm.state, alarm.reason) == (AlarmState.INSUFFICIENT, "no_history")
    assert judged([None] * 100).reason == "no_value"


def test_cost_that_nobody_priced_is_not_free():
    series = [*usual()[: 9 * WEEK].tolist(), None]
    assert (judged(series, "cost", "USD").state, judged(series, "cost", "USD").reason) == (AlarmState.INSUFFICIENT, "no_value")


def test_traffic_that_stops_is_missed_before_long():
    series = usual()[: 9 * WEEK + 19]
    alarm = missed([*series, 0])
    assert (alarm.state, alarm.reason, alarm.onset) == (AlarmState.RAISED, "absent", START + timedelta(hours=9 * WEEK + 19))
    assert alarm.sentence.startswith("No request since Mon 2026-11-09 19:00 UTC; about ")
    assert missed([*series, *[0] * 48]).state is AlarmState.RAISED, "an outage of two days is not learnt as usual"


def test_a_night_without_requests_is_not_missed_where_nights_are_empty():
    rng = np.random.default_rng(5)
    series = np.where(np.arange(9 * WEEK) % 24 < 6, 0, rng.poisson(40, 9 * WEEK)).astype(float)
    assert missed([*series, 0, 0, 0]).state is AlarmState.QUIET
    assert missed([*series, *[0] * 12]).state is AlarmState.RAISED


def test_traffic_of_which_nothing_is_known_is_not_quiet():
    assert missed([]).state is AlarmState.INSUFFICIENT
    assert missed([0.0] * 30).state is AlarmState.INSUFFICIENT


@pytest.mark.parametrize("mean", [3.0, 30.0])
def test_empty_hours_of_chance_are_not_missed_more_often_than_declared(mean):
    """Three months of an app with few requests: hours without any come, and are usual."""
    raised = 0
    series = np.random.default_rng(9).poisson(mean / 8, 12 * WEEK).astype(float)
    for place in range(4 * WEEK, 12 * WEEK, 7):
        raised += missed(series[:place]).state is AlarmState.RAISED
    assert raised <= 8


def test_on_real_servers_the_data_do_not_contradict_the_declared_rate():
    """Every third labelled series, with the one setting for all: Poisson's lower bound of the false alarms is at most the declared rate."""
    folder = real("nab", "realAWSCloudwatch")
    seen = [Server.read(path).judged() for path in sorted(folder.glob("*.csv"))[::3]]
    false, weeks = sum(each.false for each in seen), sum(each.weeks for each in seen)
    assert chi2.ppf(0.025, 2 * false) / 2 / weeks <= RATE if false else weeks > 5
    assert sum(each.found for each in seen) >= 3
