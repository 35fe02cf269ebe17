"""Error budgets against the worked examples of the SRE workbook, chapter 5."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.stats.burn import Events, burn, exceeds, lines, most, time_to_spend, total

DAYS_30 = timedelta(days=30)
counts = st.integers(0, 10_000)


@pytest.mark.parametrize(
    ("rate", "error_rate", "lasts"),
    [(1, 0.001, DAYS_30), (2, 0.002, timedelta(days=15)), (10, 0.01, timedelta(days=3)), (1000, 1.0, timedelta(minutes=43.2))],
)
def test_burn_rates_and_the_time_until_the_budget_is_exhausted_are_those_of_the_workbook(rate, error_rate, lasts):
    seen = burn(Events(good=1e6 * (1 - error_rate), bad=1e6 * error_rate), 0.999).low
    assert seen == pytest.approx(rate)
    assert time_to_spend(DAYS_30, seen, 1) / lasts == pytest.approx(1)


def test_the_four_lines_are_those_of_the_workbook_for_thirty_days():
    seen = [(round(line.burn_rate, 9), line.long, line.short, line.severity) for line in lines(DAYS_30)]
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    assert seen == [
        (14.4, hour, 5 * minute, "page"),
        (6.0, 6 * hour, 30 * minute, "page"),
        (3.0, 24 * hour, 2 * hour, "ticket"),
        (1.0, 72 * hour, 6 * hour, "ticket"),
    ]


def test_each_line_stands_for_its_share_of_the_budget_in_any_window():
    for days in (28, 30, 90):
        window = timedelta(days=days)
        spent = [line.burn_rate * (line.long / window) for line in lines(window)]
        assert spent == pytest.approx([0.02, 0.05, 0.10, max(0.10, 3 / days)])


def test_a_short_window_has_no_line_that_calls_about_a_budget_that_lasts():
    assert min(line.burn_rate for line in lines(timedelta(days=7))) == 1
    assert [line.long for line in lines(timedelta(days=1))] == [timedelta(hours=1), timedelta(hours=6), timedelta(days=1)]


def test_one_failure_of_ten_requests_an_hour_spends_13_9_percent_of_a_months_budget():
    """The workbook's example of low traffic."""
    rate = burn(Events(good=9, bad=1), 0.999).low
    assert rate * (timedelta(hours=1) / DAYS_30) == pytest.approx(0.139, abs=0.0005)


def test_an_outage_at_999_trips_the_first_line_after_less_than_a_minute():
    """Detection time of the workbook: (1 - target) / error rate * window * burn rate."""
    first = lines(DAYS_30)[0]
    detected = next(s for s in range(3600) if exceeds(burn(Events(good=3600 - s, bad=s), 0.999).low, first.burn_rate))
    assert detected == pytest.approx(0.001 * 3600 * 14.4, abs=1)


def test_nothing_burns_faster_than_an_outage():
    assert burn(Events(bad=50), 0.9).low == pytest.approx(most(0.9))
    assert not exceeds(most(0.9), 10)


def test_no_events_have_no_rate_and_undecided_ones_no_lower_one():
    assert (burn(Events(), 0.9).low, burn(Events(), 0.9).high) == (None, None)
    assert burn(Events(undecided=3), 0.9).low is None
    assert burn(Events(undecided=3), 0.9).high == pytest.approx(10)


def test_a_budget_that_is_not_spent_lasts():
    assert time_to_spend(DAYS_30, 0, 0.5) is None
    assert time_to_spend(DAYS_30, 2, -0.5) == timedelta(0)


@given(counts, counts, counts, st.floats(0.01, 0.999))
def test_the_upper_rate_is_never_below_the_lower_one(good, bad, undecided, target):
    rate = burn(Events(good=good, bad=bad, undecided=undecided), target)
    if rate.low is not None:
        assert rate.high >= rate.low * (1 - 1e-12)


@given(st.lists(st.tuples(counts, counts, counts), max_size=8))
def test_a_total_is_the_sum_of_its_parts(parts):
    whole = total(Events(good=g, bad=b, undecided=u) for g, b, u in parts)
    assert (whole.good, whole.bad, whole.undecided) == tuple(sum(part[i] for part in parts) for i in range(3))
    assert whole.all == whole.decided + whole.undecided
