"""How an objective is judged: literal counts in, states out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.observability.alarms import Alarm, AlarmState
from workbench.observability.slo import NEGATIVE, Standing, State, Terms, judge, window_start, worst
from workbench.spec.slo import SloSpec
from workbench.stats.burn import Events

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
QUIET = Events(good=100_000, bad=10)


def terms(*, file=None, **objective):
    about = {"name": "answers", "indicator": "availability", "target": 0.999, "window": "30d", **objective}
    spec = SloSpec.model_validate({"owner": "primary", "objectives": [about], **(file or {})})
    return Terms.of(spec, spec.objectives[0])


def judged(by_span, *, asked=None, usual=QUIET):
    """The judgement when windows of these lengths hold these events, and all others the usual ones."""
    return judge(asked or terms(), NOW, lambda start, until: by_span.get(until - start, usual))


def line_of(judgement, long):
    return next(each for each in judgement.lines if each.line.long == long)


@pytest.mark.parametrize(
    ("long", "short", "bad_of_100000", "state"),
    [
        (HOUR, 5 * MINUTE, 1441, State.BURNING_FAST),
        (6 * HOUR, 30 * MINUTE, 601, State.BURNING_FAST),
        (DAY, 2 * HOUR, 301, State.BURNING_SLOW),
        (3 * DAY, 6 * HOUR, 101, State.BURNING_SLOW),
    ],
)
def test_each_line_of_the_workbook_fires_just_above_its_rate_and_not_at_it(long, short, bad_of_100000, state):
    above = Events(good=100_000 - bad_of_100000, bad=bad_of_100000)
    at = Events(good=100_001 - bad_of_100000, bad=bad_of_100000 - 1)
    assert judged({long: above, short: above}).state is state
    assert judged({long: above, short: above}).reason == "burning"
    assert judged({long: at, short: at}).state is State.OK
    over = judged({long: above, short: at})
    assert (over.state, line_of(over, long).reason) == (State.OK, "over")


def test_what_was_good_is_said_with_its_budget():
    found = judged({})
    assert found.sentence == "90 % of the error budget is left: 99.99 % of 100,010 events in the last 30d were good, the target is 99.9 %."
    assert (found.owner, found.budget_left, found.reason) == ("primary", pytest.approx(0.9, abs=1e-3), "within_budget")


def test_a_page_says_how_fast_over_which_windows_and_on_how_many_events():
    burning = Events(good=800, bad=200)
    seen = "The budget burns 200 times too fast over 1h (200 of 1,000 decided events were bad)"
    assert judged({HOUR: burning, 5 * MINUTE: burning}).sentence == f"{seen}, and 200 times in the last 5m; the line is 14.4 times."


def test_no_traffic_is_not_a_kept_objective():
    nothing = judged({}, usual=Events())
    assert (nothing.state, nothing.reason, nothing.good_share, nothing.budget_left) == (State.NO_DATA, "no_events", None, None)
    silent = judged({HOUR: Events(), 5 * MINUTE: Events()})
    assert (silent.state, silent.sentence) == (
        State.NO_DATA,
        "There was no event in the last 1h, so nothing shows how fast the budget burns now.",
    )


def test_what_the_whole_window_says_stands_beside_the_line_that_decided():
    burning, spent = Events(good=800, bad=200), Events(good=99_000, bad=3_390)
    found = judged({30 * DAY: spent, HOUR: burning, 5 * MINUTE: burning})
    assert (found.state, found.sentence.startswith("The budget burns 200 times")) == (State.BURNING_FAST, True)
    assert found.budget_sentence.startswith("The error budget is spent 33.1")
    assert judged({}).budget_sentence == judged({}).sentence


def test_of_too_few_events_in_all_it_is_said_so_and_not_that_the_last_hour_had_none():
    three = judged({30 * DAY: Events(good=3)}, usual=Events())
    assert (three.state, three.budget_sentence) == (State.NO_DATA, "Too little to judge: 3 decided events in the last 30d, 50 are needed.")
    assert judged({}, usual=Events()).sentence == "There was no event in the last 30d; no traffic is not a kept objective."


def test_silence_in_the_short_window_does_not_end_an_alert():
    burning = Events(good=80, bad=20)
    found = judged({HOUR: burning, 5 * MINUTE: Events()})
    assert (found.state, found.reason) == (State.BURNING_FAST, "burning_unseen")


def test_few_events_call_nobody_and_are_not_all_right():
    one_of_ten = Events(good=9, bad=1)
    found = judged({HOUR: one_of_ten, 5 * MINUTE: one_of_ten})
    assert (found.state, found.reason) == (State.INSUFFICIENT, "few_events")
    assert "1 of 10 decided events in the last 1h were bad; 50 events are needed" in found.sentence
    assert judged({HOUR: Events(good=10), 5 * MINUTE: Events(good=1)}).state is State.OK


def test_few_events_in_the_whole_window_judge_nothing():
    found = judged({}, usual=Events(good=49))
    assert (found.state, found.sentence) == (
        State.INSUFFICIENT,
        "Too little to judge: 49 decided events in the last 30d, 50 are needed.",
    )


def test_undecided_events_are_never_good():
    half_known = Events(good=500, undecided=500)
    found = judged({HOUR: half_known, 5 * MINUTE: half_known})
    assert (found.state, found.reason) == (State.INSUFFICIENT, "undecided")
    assert "500 of 1,000 events in the last 1h are undecided" in found.sentence
    strict = judged({HOUR: half_known, 5 * MINUTE: half_known}, asked=terms(undecided="bad"))
    assert strict.state is State.BURNING_FAST


def test_undecided_events_that_cannot_turn_the_answer_do_no_harm():
    assert judged({HOUR: Events(good=1000, undecided=5), 5 * MINUTE: Events(good=100)}).state is State.OK


def test_a_whole_window_that_undecided_events_could_spend_is_not_all_right():
    found = judged({30 * DAY: Events(good=10_000, undecided=20)})
    assert (found.state, found.reason) == (State.INSUFFICIENT, "undecided")


@pytest.mark.parametrize("bad", [101, 500, 100_000])
def test_a_fully_burnt_budget_is_spent(bad):
    found = judged({30 * DAY: Events(good=100_000 - bad, bad=bad)})
    assert (found.state, found.reason) == (State.SPENT, "budget_spent")
    assert found.budget_left < 0
    assert judged({30 * DAY: Events(good=99_900, bad=100)}).state is State.OK, "spent exactly is not more than spent"


def test_burning_is_worse_than_spent_and_everything_is_worse_than_ok():
    burning = Events(good=800, bad=200)
    found = judged({30 * DAY: Events(bad=1000), HOUR: burning, 5 * MINUTE: burning})
    assert found.state is State.BURNING_FAST
    assert worst([State.OK, State.INSUFFICIENT]) is State.INSUFFICIENT
    assert worst([]) is State.NO_DATA


def test_lines_above_the_rate_of_an_outage_are_named():
    found = judged({}, asked=terms(target=0.9), usual=Events(good=1000))
    assert [round(line.burn_rate, 1) for line in found.unreachable] == [14.4]
    assert not judged({}, asked=terms(target=0.99)).unreachable


def test_own_lines_replace_those_of_the_file_which_replace_those_of_the_workbook():
    own = {"burn_rate": 2, "long": "2h", "short": "10m", "severity": "ticket"}
    assert [line.long for line in terms(alerts=[own]).lines] == [2 * HOUR]
    assert [line.long for line in terms(file={"alerts": [own]}).lines] == [2 * HOUR]
    assert terms(file={"alerts": [own]}, alerts=[]).lines == ()


def test_the_windows_of_an_answer_that_comes_late_end_earlier():
    asked = terms(settles_after="7d")
    seen = []
    judge(asked, NOW, lambda start, until: seen.append((start, until)) or QUIET)
    assert {until for _, until in seen} == {NOW - 7 * DAY}


@pytest.mark.parametrize(
    ("calendar", "now", "start"),
    [
        ("week", datetime(2026, 11, 20, 12, tzinfo=UTC), datetime(2026, 11, 16, tzinfo=UTC)),
        ("week", datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 9, tzinfo=UTC)),
        ("month", datetime(2026, 11, 20, 12, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
        ("month", datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
        ("quarter", datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)),
    ],
)
def test_calendar_windows_begin_on_their_first_day(calendar, now, start):
    assert window_start(calendar, now) == start


events = st.builds(Events, good=st.integers(0, 400), bad=st.integers(0, 60), undecided=st.integers(0, 40))
lakes = st.lists(st.tuples(st.integers(0, 30 * 24 * 60), events), min_size=1, max_size=12)


def counting(rows):
    def count(start, until):
        held = [each for ago, each in rows if start <= NOW - ago * MINUTE < until]
        return Events(good=sum(e.good for e in held), bad=sum(e.bad for e in held), undecided=sum(e.undecided for e in held))

    return count


ASKED = terms(target=0.95)


@given(lakes, st.data())
def test_less_that_is_known_never_makes_it_all_right(rows, data):
    """Failures that become unknown, and events whose share stays while their number falls, never turn anything into OK."""
    before = judge(ASKED, NOW, counting(rows)).state
    if before is State.OK:
        return
    hidden = [(ago, replace(e, bad=e.bad - k, undecided=e.undecided + k)) for ago, e in rows for k in [data.draw(st.integers(0, e.bad))]]
    good_hidden = [(ago, replace(e, good=0, undecided=e.undecided + e.good)) for ago, e in rows]
    thinner = [(ago, Events(good=e.good / 7, bad=e.bad / 7, undecided=e.undecided / 7)) for ago, e in rows]
    for less in (hidden, good_hidden, thinner, []):
        assert judge(ASKED, NOW, counting(less)).state is not State.OK


@given(lakes)
def test_a_line_fires_only_on_enough_events_that_burn_in_both_windows(rows):
    for each in judge(ASKED, NOW, counting(rows)).lines:
        if each.is_firing:
            assert each.long.decided >= ASKED.min_events
            assert each.long_burn.low > each.line.burn_rate
            assert each.short_burn.low is None or each.short_burn.low > each.line.burn_rate


@given(lakes)
def test_a_budget_that_is_spent_is_never_all_right(rows):
    found = judge(ASKED, NOW, counting(rows))
    if found.budget_left is not None and found.budget_left < -1e-6:
        assert found.state is not State.OK
    if found.state in NEGATIVE:
        assert found.sentence.endswith(".")


def alarm(state):
    return Alarm(
        name="volume",
        state=state,
        reason="",
        sentence="",
        hour=None,
        value=None,
        expected=None,
        low=None,
        high=None,
        false_alarms_per_week=1,
        onset=None,
    )


@pytest.mark.parametrize(
    ("by_span", "alarms", "code"),
    [
        ({}, [], 0),
        ({}, [AlarmState.QUIET, AlarmState.INSUFFICIENT], 0),
        ({}, [AlarmState.RAISED], 1),
        ({30 * DAY: Events(bad=1000)}, [], 1),
        ({HOUR: Events()}, [], 3),
        ({HOUR: Events(bad=1), 5 * MINUTE: Events(bad=1)}, [AlarmState.RAISED], 1),
    ],
)
def test_the_exit_code_is_1_for_a_negative_verdict_and_3_where_too_little_is_known(by_span, alarms, code):
    assert Standing(app="shop", at=NOW, judgements=(judged(by_span),), alarms=tuple(map(alarm, alarms))).exit_code == code
