"""Judging a KPI's series: target, baseline, usage beside outcome, and why it changed. Pure: sums in, findings out."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from workbench.observability.impact_model import NEGATIVE, OPEN_ENDED, Answer, Attributed, Reason, Standing, State, answer
from workbench.observability.impact_periods import following, kpi_impact, standing
from workbench.spec.app import Kpi

START = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = timedelta(weeks=1)


def kpi(**more) -> Kpi:
    return Kpi.model_validate({"name": "solved", "outcome": "solved", **more})


def week(number: int, *, sessions: int = 1000, outcomes: int = 500, total: float | None = None, requests: int | None = None) -> dict:
    """The sums of a week in which each unit has one session."""
    total = float(outcomes) if total is None else total
    each = total / outcomes if outcomes else 0.0
    return {
        "period": int((START + number * WEEK).timestamp() * 1e6),
        "units": sessions,
        "units_with_outcome": outcomes,
        "priced_units": 0,
        "sessions": sessions,
        "requests": sessions if requests is None else requests,
        "outcomes": outcomes,
        "total": total,
        "cost": None,
        "paid": 0,
        "priced": 0,
        "session_squares": float(sessions),
        "outcome_sessions": float(outcomes),
        "outcome_squares": float(outcomes),
        "total_outcomes": total,
        "total_squares": total * each * 1.2,
        "lowest": each if outcomes else None,
        "cost_squares": None,
        "cost_paid": None,
        "paid_squares": 0.0,
    }


def judged(declared: Kpi, rows: list[dict], *, as_of: datetime | None = None, start: datetime | None = START):
    end = as_of or START + len(rows) * WEEK
    return kpi_impact(declared, by="week", rows=rows, overall=None, attributed=Attributed(), as_of=end, start=start)


@pytest.mark.parametrize(
    ("more", "outcomes", "reason"),
    [
        ({"target": 0.4}, 500, Reason.TARGET_REACHED),
        ({"target": 0.5}, 500, Reason.TARGET_UNCLEAR),
        ({"target": 0.6, "target_date": "2026-12-31"}, 500, Reason.TARGET_AHEAD),
        ({"target": 0.6}, 500, Reason.TARGET_AHEAD),
        ({"target": 0.6, "target_date": "2026-01-06"}, 500, Reason.TARGET_MISSED),
        ({"target": 0.4, "baseline": 0.6}, 500, Reason.BELOW_BASELINE),
        ({}, 500, Reason.NO_TARGET),
        ({"target": 0.6, "direction": "lower_is_better"}, 500, Reason.TARGET_REACHED),
        ({"target": 0.4, "direction": "lower_is_better", "target_date": "2026-01-06"}, 500, Reason.TARGET_MISSED),
        ({"target": 0.9, "baseline": 0.3, "direction": "lower_is_better"}, 500, Reason.BELOW_BASELINE),
    ],
)
def test_where_a_rate_stands(more, outcomes, reason):
    assert judged(kpi(**more), [week(0, outcomes=outcomes)]).finding.reason is reason


def test_the_target_of_a_sum_is_only_compared_by_its_own_period():
    money = {"aggregate": "sum", "unit": "EUR", "target": 100.0}
    rows = [week(0, total=9000.0)]
    assert judged(kpi(**money, per="week"), rows).finding.reason is Reason.TARGET_REACHED
    other = judged(kpi(**money, per="month"), rows)
    assert (other.finding.reason, other.target) == (Reason.TARGET_UNCLEAR, Standing.UNKNOWN)
    assert "ask by month" in other.finding.sentence


def test_late_outcomes_keep_a_period_open_until_their_window_is_over():
    declared, rows = kpi(within="3d", target=0.4), [week(0), week(1, outcomes=10)]
    before, after = (judged(declared, rows, as_of=START + 2 * WEEK + timedelta(days=days)) for days in (2.9, 3))
    assert [period.state for period in before.periods] == [State.COMPLETE, State.OPEN]
    assert before.finding.reason is Reason.TARGET_REACHED
    assert [period.state for period in after.periods] == [State.COMPLETE, State.COMPLETE]
    assert after.finding.reason is Reason.TARGET_AHEAD


def test_a_week_without_sessions_is_missing_and_joins_no_trend():
    found = judged(kpi(), [week(0), week(3)], as_of=START + 4 * WEEK)
    assert [period.state for period in found.periods] == [State.COMPLETE, State.MISSING, State.MISSING, State.COMPLETE]
    assert [period.value for period in found.periods[1:3]] == [None, None]


def test_rising_usage_with_a_flat_outcome_is_named_as_the_anti_pattern():
    rows = [week(n, sessions=1000 + 120 * n, outcomes=500 + (-1) ** n * 6) for n in range(12)]
    found = judged(kpi(), rows)
    assert found.usage.reason is Reason.USAGE_WITHOUT_OUTCOME
    assert "success by usage instead of business outcomes" in found.usage.sentence
    assert found.usage_trend.low > 0
    assert found.outcome_trend.low <= 0
    assert found.usage.reason in NEGATIVE


def test_more_messages_of_the_same_users_are_usage_not_outcome():
    rows = [week(n, requests=1000 + 150 * n) for n in range(12)]
    assert judged(kpi(), rows).usage.reason is Reason.USAGE_WITHOUT_OUTCOME


def test_rising_usage_that_brings_outcomes_is_not():
    rows = [week(n, sessions=1000 + 120 * n, outcomes=500 + 60 * n) for n in range(12)]
    assert judged(kpi(), rows).usage.reason is Reason.USAGE_WITH_OUTCOME


def test_an_outcome_that_only_varies_too_much_is_unclear_and_no_anti_pattern():
    """It grows as usage does, but so unevenly that its interval holds 0: nothing proves that it is flat."""
    noise = (0.2, 1.9, 0.4, 1.6, 0.3, 2.1, 0.5, 1.2)
    rows = [week(n, sessions=1000 + 60 * n, outcomes=int((300 + 18 * n) * noise[n])) for n in range(8)]
    found = judged(kpi(), rows)
    assert found.usage_trend.low > 0
    assert found.outcome_trend.low <= 0
    assert found.usage.reason is Reason.OUTCOME_UNCLEAR
    assert found.usage.reason not in NEGATIVE


def test_flat_usage_is_not_either():
    rows = [week(n, sessions=1000 + (-1) ** n * 3, outcomes=500 - 20 * n) for n in range(12)]
    assert judged(kpi(), rows).usage.reason is Reason.USAGE_NOT_RISING


def test_where_lower_is_better_the_value_is_judged_not_the_number_of_events():
    rows = [week(n, sessions=1000 + 120 * n, outcomes=(1000 + 120 * n) // 10) for n in range(12)]
    complaints = kpi(direction="lower_is_better")
    assert judged(complaints, rows).usage.reason is Reason.USAGE_WITHOUT_OUTCOME
    falling = [week(n, sessions=1000 + 120 * n, outcomes=int((1000 + 120 * n) * (0.1 - 0.006 * n))) for n in range(12)]
    assert judged(complaints, falling).usage.reason is Reason.USAGE_WITH_OUTCOME


@pytest.mark.parametrize("n", [0, 1, 7])
def test_few_periods_are_too_few_to_tell_usage_from_outcome(n):
    rows = [week(place, sessions=1000 * (place + 1)) for place in range(n)]
    assert judged(kpi(), rows, as_of=START + (n or 1) * WEEK).usage.reason is Reason.FEW_PERIODS


def test_the_week_in_which_the_log_begins_joins_no_trend_and_no_waterfall():
    rows = [week(n, sessions=1000 if n else 5, outcomes=500 if n else 2) for n in range(9)]
    found = judged(kpi(), rows, start=None)
    assert found.usage_trend.n == 8
    assert found.waterfall.start == START + WEEK


def test_the_week_in_which_the_log_begins_is_named_and_is_in_no_sum_that_is_compared():
    """Nine hundred of a part of a week are no tenth of what a week brings: neither below a target per week nor a week's mean."""
    rows = [week(0, sessions=90, outcomes=45, total=900.0), week(1, total=9000.0), week(2, total=11000.0)]
    money = kpi(aggregate="sum", unit="EUR", per="week", target=5000.0, baseline=4000.0)
    begun, asked = (judged(money, rows, start=start) for start in (None, START))
    assert [period.is_partial for period in begun.periods] == [True, False, False]
    assert not any(period.is_partial for period in asked.periods)
    assert [period.target for period in begun.periods] == [Standing.UNKNOWN, Standing.BETTER, Standing.BETTER]
    assert asked.periods[0].target is Standing.WORSE
    assert (begun.overall.value, begun.overall.n, asked.overall.n) == (10000.0, 2, 3)
    assert begun.usage.sentence == (
        "2 whole weeks with data are too few to tell usage from outcome; it takes 8. "
        "The week from 2026-01-05 is not among them: the log or the window begins within it."
    )
    assert asked.usage.sentence == "3 whole weeks with data are too few to tell usage from outcome; it takes 8."
    alone = judged(money, rows[:1], start=None)
    assert (alone.finding.reason, alone.overall) == (Reason.TARGET_UNCLEAR, None)
    assert "begins within this week" in alone.finding.sentence
    one = judged(money, rows[:2], start=None).usage.sentence
    assert one.startswith("1 whole week with data is too few")


def test_weeks_without_an_outcome_are_enough_weeks_and_nothing_to_grow_from():
    rows = [week(n, outcomes=0) for n in range(9)]
    found = judged(kpi(), rows).usage
    assert found.reason is Reason.FEW_PERIODS
    assert found.sentence == "In most of the 9 whole weeks there is nothing to grow from, so usage cannot be told from outcome."


def test_a_partial_week_of_a_rate_is_a_share_like_any_other():
    found = judged(kpi(target=0.4), [week(0, sessions=300, outcomes=150), week(1)], start=None)
    assert [(period.is_partial, period.target) for period in found.periods] == [(True, Standing.BETTER), (False, Standing.BETTER)]


def test_an_interval_of_values_that_are_none_below_0_is_not_below_0_either():
    """The t interval of two weeks' totals by hand: 10,000 +- 12.7062 * 1,000 = -2,706 to 22,706, cut where no total can be."""
    money, rows = kpi(aggregate="sum", unit="EUR", per="week"), [week(n, total=total) for n, total in enumerate((9000.0, 11000.0))]

    def overall(lowest: float | None):
        sums = {**week(0, total=20000.0), "lowest": lowest}
        return kpi_impact(money, by="week", rows=rows, overall=sums, attributed=Attributed(), as_of=START + 2 * WEEK, start=START).overall

    assert (overall(0.0).low, overall(0.0).high) == (0.0, pytest.approx(22706.2, abs=0.05))
    for lowest in (-5.0, None):
        assert overall(lowest).low == pytest.approx(-2706.2, abs=0.05), "refunds can be more than what comes in"
    two = {**week(0, sessions=2, outcomes=2, total=100.0), "total_squares": 6000.0}
    for aggregate in ("sum", "mean"):
        ends = [judged(kpi(aggregate=aggregate, unit="EUR"), [{**two, "lowest": lowest}]).periods[0].low for lowest in (40.0, -40.0)]
        assert ends[0] == max(0.0, ends[1])
    assert ends[1] < 0


def test_a_kpi_that_counts_activity_stands_for_no_outcome():
    found = judged(kpi(kind="usage"), [week(n) for n in range(12)])
    assert (found.usage.reason, found.usage_trend) == (Reason.USAGE_KPI, None)


def test_the_waterfall_adds_up_exactly_by_its_factors():
    rows = [week(0, sessions=800, outcomes=300, total=6000.0), week(1, sessions=1000, outcomes=450, total=12000.0)]
    found = judged(kpi(aggregate="sum", unit="EUR", per="week"), rows).waterfall
    assert (found.before, found.after) == (6000.0, 12000.0)
    assert list(found.parts) == ["units", "sessions per unit", "outcomes per session", "value per outcome"]
    assert found.before + math.fsum(found.parts.values()) == pytest.approx(found.after, abs=1e-6)
    assert found.parts["sessions per unit"] == 0
    assert math.prod(found.factors_after.values()) == pytest.approx(found.after)


def test_one_period_has_no_waterfall():
    assert judged(kpi(), [week(0)]).waterfall is None
    assert judged(kpi(), [week(0), week(1, outcomes=0)]).waterfall is None


def test_the_interval_decides_and_never_the_value_alone():
    assert standing(0.7, 0.6, 0.8, 0.65, higher=True) is Standing.UNCLEAR
    assert standing(0.7, 0.65, 0.8, 0.65, higher=True) is Standing.BETTER
    assert standing(0.5, 0.4, 0.6, 0.65, higher=True) is Standing.WORSE
    assert standing(0.5, 0.4, 0.6, 0.65, higher=False) is Standing.BETTER
    assert standing(0.7, None, None, 0.1, higher=True) is Standing.UNCLEAR
    assert standing(None, None, None, 0.1, higher=True) is Standing.UNKNOWN
    assert standing(0.7, 0.6, 0.8, None, higher=True) is Standing.UNKNOWN


def test_a_year_of_months_follows_the_calendar():
    at, seen = datetime(2026, 11, 1, tzinfo=UTC), []
    for _ in range(4):
        at = following(at, "month")
        seen.append((at.year, at.month))
    assert seen == [(2026, 12), (2027, 1), (2027, 2), (2027, 3)]


def test_the_worst_reason_is_the_answer_and_no_reason_is_no_answer():
    assert answer([]) is Answer.NOT_ENOUGH_EVIDENCE
    assert answer([Reason.TARGET_REACHED]) is Answer.YES
    assert answer([Reason.TARGET_REACHED, Reason.WINDOW_OPEN]) is Answer.NOT_ENOUGH_EVIDENCE
    assert answer([Reason.WINDOW_OPEN, Reason.WORSE]) is Answer.NO
    assert not NEGATIVE & OPEN_ENDED
