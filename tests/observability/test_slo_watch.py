"""Objectives asked of a real log: what each indicator counts, window by window, against plain Python over the same rows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, outcome, request, score, spec
from workbench.errors import SpecError, UnknownSubject
from workbench.observability.alarms import AlarmState
from workbench.observability.slo import State
from workbench.observability.slo_watch import Objectives
from workbench.spec.slo import SloSpec

NOW = NOON + timedelta(seconds=30)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FILE = SloSpec.model_validate(
    {
        "owner": "primary",
        "min_events": 5,
        "objectives": [
            {"name": "answers", "indicator": "availability", "target": 0.9},
            {"name": "quick", "indicator": "latency", "under": "1s", "target": 0.5},
            {"name": "first_word", "indicator": "ttft", "under": "200ms", "target": 0.5},
            {"name": "settled", "indicator": "success", "target": 0.5, "workflow": "refund"},
            {"name": "bought", "indicator": "success", "target": 0.5, "workflow": "advice"},
            {"name": "rules", "indicator": "violations", "target": 0.5},
            {"name": "own_words", "indicator": "fallback_rate", "target": 0.5},
            {"name": "found", "indicator": "retrieval_hit_rate", "target": 0.5},
            {"name": "yearly", "indicator": "availability", "target": 0.9, "calendar": "week"},
        ],
    }
)
APP = spec(refund={"rule": "score", "score": "resolved", "at_least": 1}, advice={"rule": "outcome", "outcome": "order", "within": "1d"})


def at(ago, **values):
    return request(ts_start=NOON - ago, **values)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Objectives over a log of 27 days."""
    log = Fixture(tmp_path_factory.mktemp("slo"), {"shop": APP})
    minute = timedelta(minutes=1)
    refunds = [at(n * minute, workflow="refund", latency_ms=100.0) for n in range(1, 11)]
    advised = [
        at(DAY + n * minute, workflow="advice", session_id=f"s{n}", status="ok", latency_ms=None, ttft_ms=150.0 + n) for n in range(60)
    ]
    asking = [at(n * minute, workflow="advice", session_id=f"t{n}", latency_ms=10.0) for n in range(1, 4)]
    others = [
        at(2 * HOUR, status="error", latency_ms=5.0),
        at(2 * HOUR, status="timeout", latency_ms=30_000.0),
        at(2 * HOUR, status="cancelled", latency_ms=9_000.0),
        at(2 * HOUR, status="unknown"),
        at(2 * HOUR, latency_ms=1_000.0, is_fallback=True, violation_rules=["limit"], blocked_rules=[]),
        at(2 * HOUR, latency_ms=999.9, is_fallback=False, violation_rules=[], blocked_rules=[], n_retrievals=1),
        at(2 * HOUR, status="blocked", latency_ms=10.0, violation_rules=[], blocked_rules=["limit"]),
        at(27 * DAY, latency_ms=1.0),
        at(28 * DAY + HOUR, status="error", latency_ms=1.0),
        at(timedelta(0), status="error", latency_ms=1.0),
        at(2 * HOUR, status="error", arm="shadow"),
        request(app="other", ts_start=NOON - HOUR, status="error"),
    ]
    scores = [score(row, "resolved", float(n % 2)) for n, row in enumerate(refunds[:8])] + [score(others[5], "retrieval_hit", 1.0)]
    sold = [outcome("order", minute=-24 * 60 + 30, session_id=f"s{n}") for n in range(20)]
    log.add([*refunds, *advised, *asking, *others], scores=scores, outcomes=sold)
    specs = {"shop": FILE}
    yield Objectives(log.lake, metrics=log.metrics, slo_spec=specs.get, app_spec={"shop": APP}.get, clock=lambda: NOW)
    log.close()


@pytest.fixture(scope="module")
def found(asked):
    return {each.objective.name: each for each in asked.check("shop").judgements}


@pytest.mark.parametrize(
    ("name", "good", "bad", "undecided"),
    [
        # 10 refunds, 60 advised, 3 asking, the 27 days old one, and of the others: ok twice, blocked; error and timeout are bad
        ("answers", 77, 2, 1),
        # under a second: 10 + 3 + 1 + 999.9 ms + blocked; bad: exactly a second, the timeout; the 60 say no time, one status is unknown
        ("quick", 16, 2, 61),
        ("first_word", 50, 10, 0),
        ("settled", 4, 4, 2),
        # orders came to 19 of the 59 whose day was over when the window ended; of the others nobody asks yet
        ("bought", 19, 40, 0),
        ("rules", 1, 1, 78),
        ("own_words", 1, 1, 79),
        ("found", 1, 0, 0),
    ],
)
def test_what_each_indicator_counts(found, name, good, bad, undecided):
    seen = found[name].events
    assert (seen.good, seen.bad, seen.undecided) == (good, bad, undecided)


def test_the_newest_minute_is_not_over_and_does_not_count_yet(asked):
    later = {each.objective.name: each for each in asked.check("shop", at=NOW + timedelta(minutes=1)).judgements}
    assert later["answers"].events.bad == 3


def test_windows_of_lines_hold_their_own_events(found):
    answers = found["answers"]
    assert [(each.line.long, each.long.decided) for each in answers.lines] == [(HOUR, 13), (6 * HOUR, 18), (DAY, 19), (3 * DAY, 78)]
    assert [each.short.decided for each in answers.lines] == [8, 13, 18, 18]


def test_an_objective_that_waits_for_an_event_looks_at_requests_whose_wait_is_over(found):
    assert found["bought"].until == NOON - DAY
    assert found["answers"].until == NOON


def test_a_calendar_week_begins_on_monday(found):
    assert found["yearly"].start.weekday() == 0
    assert found["yearly"].events.decided == 78


def test_a_window_without_requests_is_no_data(asked):
    before = asked.check("shop", at=NOW - 400 * DAY)
    assert {each.state for each in before.judgements} == {State.NO_DATA}
    assert (before.raised, before.exit_code) == ((), 3)


def test_a_young_log_has_no_history_to_raise_alarms_by(tmp_path, asked):
    log = Fixture(tmp_path)
    log.add([request()])
    alarms = Objectives(log.lake, metrics=log.metrics, slo_spec=lambda _: FILE, app_spec=lambda _: None, clock=lambda: NOON + HOUR).alarms(
        "shop"
    )
    log.close()
    assert [(alarm.name, alarm.state) for alarm in alarms if alarm.state is not AlarmState.QUIET] == [
        ("volume", AlarmState.INSUFFICIENT),
        ("cost", AlarmState.INSUFFICIENT),
    ]


def test_an_app_without_slo_yaml_says_what_to_do(asked):
    with pytest.raises(UnknownSubject, match=r"objectives of other: no slo.yaml is declared; write slo.yaml beside app.yaml"):
        asked.check("other")


def test_an_indicator_that_nobody_defines_is_refused(asked, tmp_path):
    wrong = SloSpec.model_validate({"objectives": [{"name": "a", "indicator": "latncy", "target": 0.9}]})
    broken = Objectives(asked._lake, metrics=asked._metrics, slo_spec=lambda _: wrong, app_spec=lambda _: None, clock=lambda: NOW)
    with pytest.raises(SpecError, match=r'no indicator and no rate is called latncy; did you mean "latency"'):
        broken.check("shop")


def test_nothing_was_ever_logged(tmp_path):
    log = Fixture(tmp_path)
    standing = Objectives(log.lake, metrics=log.metrics, slo_spec=lambda _: FILE, app_spec=lambda _: None, clock=lambda: NOW).check("shop")
    log.close()
    assert standing.state is State.NO_DATA
    assert {alarm.state for alarm in standing.alarms} == {AlarmState.INSUFFICIENT}


def test_the_history_holds_the_same_events_hour_by_hour(asked, found):
    history = asked.history("shop")
    start, until = found["answers"].start, found["answers"].until
    assert history["answers"].between(start, until) == found["answers"].events
