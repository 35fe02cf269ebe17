"""How objectives stand, in words: nothing is said twice, and no state contradicts the numbers beside it."""

from __future__ import annotations

from datetime import timedelta

from tests.observability.test_slo import NOW, Events, judged, terms
from workbench.observability.alarms import absent
from workbench.observability.slo import Standing, Terms
from workbench.spec.slo import SloSpec
from workbench.views.slo import budget_words, standing_text, terms_text

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def standing(*judgements, alarms=()):
    return Standing(app="shop", at=NOW, judgements=judgements, alarms=alarms)


def said(*judgements):
    return " ".join(standing_text(standing(*judgements), is_full=False).split())


def test_an_hour_of_silence_is_no_data_now_beside_the_numbers_of_the_window():
    text = said(judged({30 * DAY: Events(good=5_941, bad=2)}, usual=Events()))
    assert text.startswith(
        "○ NO DATA NOW shop: objectives in service answers: There was no event in the last 1h, so nothing shows how fast"
    )
    assert "66 % of the error budget is left: 99.97 % of 5,943 events in the last 30d were good, the target is 99.9 %." in text
    assert "NO DATA NOW answers" in text


def test_what_is_the_same_of_several_objectives_is_said_once():
    few = {30 * DAY: Events(good=3)}
    three = [judged(few, asked=terms(name=name), usual=Events()) for name in ("answers", "success", "latency")]
    text = said(*three)
    assert (
        "answers, success, latency: There was no event in the last 1h, so nothing shows how fast the budget burns now. Too little" in text
    )
    assert (text.count("There was no event"), text.count("3 decided events in the last 30d, 50 are needed")) == (1, 1)


def test_a_burning_budget_that_is_spent_says_both():
    burning = Events(good=800, bad=200)
    text = said(judged({30 * DAY: Events(good=99_000, bad=339), HOUR: burning, timedelta(minutes=5): burning}))
    assert "BURNING FAST answers" in text
    assert "The error budget is spent 3.41 times" in text
    assert "none: 341 % consumed" in text


def test_a_budget_is_left_or_more_than_consumed():
    assert (budget_words(0.67), budget_words(0.0), budget_words(-2.39), budget_words(None)) == ("67 %", "0 %", "none: 339 % consumed", "–")


def test_the_burn_rate_that_is_explained_is_one_of_the_table():
    spec = SloSpec.model_validate({"objectives": [{"name": "answers", "indicator": "availability", "target": 0.99, "window": "28d"}]})
    text = " ".join(terms_text("shop", [Terms.of(spec, spec.objectives[0])]).split())
    assert "13.4× over 1h & 5m is a burn rate" in text
    assert "consumed 13.4 times as fast as would spend it exactly in its window" in text
    assert "14.4" not in text


def test_an_hour_without_a_request_says_how_many_usually_come_and_how_many_may_be_missing_by_chance():
    hours = [NOW - HOUR * back for back in range(24 * 40, 0, -1)]
    quiet = absent(hours, [1.0] * (len(hours) - 1) + [0.0], false_alarms_per_week=1)
    assert "; about 1 usually come in that time, and up to 10 missing ones may be chance." in quiet.sentence
