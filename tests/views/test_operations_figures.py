"""The figures of operations: findings that the data bear out, intervals drawn, and honest pages where there is nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from tests.observability.test_slo import terms
from workbench.observability.slo import judge
from workbench.observability.slo_watch import Counted
from workbench.stats.burn import Events
from workbench.stats.proportion import wilson
from workbench.views.live import live, redraw
from workbench.views.operations_figures import (
    burn_figure,
    regular,
    series_figure,
    success_figure,
    traffic_figure,
    violations_figure,
)
from workbench.views.theme import CONFIG, mime_bundle

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hours(*places):
    return pl.Series("ts", [NOON + place * HOUR for place in places], dtype=pl.Datetime("us", "UTC"))


def traffic(*places, p95=(900.0, 2000.0, 1200.0), volume=(10, 30, 20)):
    n = len(places)
    return pl.DataFrame(
        [
            hours(*places),
            pl.Series("volume", volume[:n]),
            *(pl.Series(f"latency_p{q}", [v * q / 95 for v in p95[:n]]) for q in (50, 99)),
            pl.Series("latency_p95", p95[:n]),
            pl.Series("latency_p95_low", [v - 100 for v in p95[:n]]),
            pl.Series("latency_p95_high", [None, *(v + 100 for v in p95[1:n])], dtype=pl.Float64),
        ]
    )


def rates(metric="success_rate", *, workflows=("refund", "advice"), values=(0.9, 0.75), n=(100, 80)):
    return pl.DataFrame(
        {
            "workflow": workflows,
            metric: values,
            f"{metric}_n": n,
            f"{metric}_low": [v - 0.05 for v in values],
            f"{metric}_high": [v + 0.05 for v in values],
            "undecided_rate": [0.1] * len(values),
            "undecided_rate_n": [round(each / 0.9) for each in n],
        }
    )


def marks(drawing, kind="scatter"):
    return [trace for trace in drawing.figure.data if trace.type == kind]


def test_traffic_says_its_slowest_and_its_busiest_hour():
    drawing = traffic_figure(traffic(0, 1, 2), grain="1h")
    assert drawing.finding == (
        "p95 latency 1,200 ms at the end, 2,000 ms at its highest; 30 requests in the busiest hour, Fri 20 Nov 13:00"
    )
    assert "60 requests" in drawing.subtitle


def test_an_hour_without_requests_is_an_empty_bar_and_a_gap_in_the_line():
    drawing = traffic_figure(traffic(0, 3), grain="1h")
    (bars,) = marks(drawing, "bar")
    assert list(bars.y) == [10, 0, 0, 30]
    p95 = next(trace for trace in marks(drawing) if trace.name == "p95")
    assert list(p95.y) == [900.0, None, None, 2000.0]
    assert not p95.connectgaps


def test_the_interval_is_drawn_only_where_both_ends_are_known():
    drawing = traffic_figure(traffic(0, 1, 2), grain="1h")
    band = next(trace for trace in marks(drawing) if trace.fill == "toself")
    assert sorted(band.y) == [1100.0, 1300.0, 1900.0, 2100.0]


@pytest.mark.parametrize(
    "drawing",
    [
        traffic_figure(traffic(0).clear(), grain="1h"),
        success_figure(rates().clear()),
        violations_figure({}, checked=0),
        series_figure(pl.DataFrame([hours()]), "retrieval_hit_rate", unit="share", grain="1h"),
    ],
    ids=["traffic", "success", "violations", "series"],
)
def test_without_data_a_figure_says_what_is_missing_and_draws_nothing(drawing):
    assert not drawing.figure.data
    assert len(drawing.figure.layout.annotations) == 1
    assert drawing.finding.startswith(("No", "Nobody", "Nothing"))


def test_success_names_the_workflow_that_does_worst_with_its_interval():
    drawing = success_figure(rates(), targets={"refund": 0.85})
    assert drawing.finding == "Advice ends well least often: 75.0 % (70.0 to 80.0 %)"
    assert drawing.subtitle.endswith("180 decided requests, 20 of 200 requests are undecided")
    dots, target = marks(drawing)
    assert [round(end, 6) for end in dots.error_x.array] == [0.05, 0.05]
    assert list(target.x) == [0.85]


def test_a_rule_is_counted_among_what_was_checked():
    drawing = violations_figure({"limit": 12, "tone": 1}, checked=400, unchecked=30)
    assert drawing.finding == "Limit is broken most: 12 of 400 checked answers, 3.0 % (1.7 to 5.2 %)"
    assert drawing.subtitle.endswith("400 checked answers, 30 were not checked")
    assert list(marks(drawing, "bar")[0].x) == [0.03, 0.0025]


def test_no_violation_is_good_news_with_its_limit():
    drawing = violations_figure({}, checked=300)
    assert drawing.finding == "No checked answer broke a rule: 0 of 300; at most 1.3 % do"


def test_what_people_declared_is_shown_letter_by_letter():
    drawing = violations_figure({"<b>x</b>": 3}, checked=10)
    assert "<b>" not in str(marks(drawing, "bar")[0].y)


def series(values, low=None, high=None, n_each=None):
    n = len(values)
    frame = {"ts": hours(*range(n)), "retrieval_hit_rate": values, "retrieval_hit_rate_n": n_each or [30] * n}
    ends = {"retrieval_hit_rate_low": low or [None] * n, "retrieval_hit_rate_high": high or [None] * n}
    return pl.DataFrame(frame | ends, schema_overrides=dict.fromkeys(["retrieval_hit_rate", *ends], pl.Float64))


def test_a_series_says_its_end_and_its_extremes():
    drawing = series_figure(
        series([0.8, 0.9, 0.85], [0.7, 0.8, 0.7], [0.9, 1.0, 0.9]), "retrieval_hit_rate", unit="share", grain="1h", of="refund"
    )
    assert drawing.finding == "Retrieval hit rate, refund: 85.0 % at the end, between 80.0 % and 90.0 %"
    assert drawing.subtitle == "share per hour, UTC; n 90; lowest Fri 20 Nov 12:00, highest Fri 20 Nov 13:00; shaded: 95 % interval"


def test_steps_with_few_observations_are_no_part_of_a_line_or_a_finding():
    drawing = series_figure(series([0.8, 0.0, 0.7], n_each=[50, 2, 40]), "retrieval_hit_rate", unit="share", grain="1h")
    assert drawing.finding == "Retrieval hit rate: 70.0 % at the end, between 70.0 % and 80.0 %"
    assert drawing.subtitle.endswith("; 1 hour with fewer than 20 observations left out")
    assert list(marks(drawing)[1].y) == [0.8, None, 0.7]
    nothing = series_figure(series([0.8, 0.0], n_each=[5, 2]), "retrieval_hit_rate", unit="share", grain="1h")
    assert nothing.finding == "Too little is known of retrieval hit rate to draw it"
    assert "all together have 7" in nothing.subtitle


def test_a_share_without_an_interval_by_units_has_that_of_independent_requests():
    frame = series([0.8, 0.9]).drop("retrieval_hit_rate_low", "retrieval_hit_rate_high")
    drawing = series_figure(frame, "retrieval_hit_rate", unit="share", grain="1h")
    assert drawing.subtitle.endswith("shaded: 95 % interval, requests taken as independent")
    assert list(marks(drawing)[0].y)[:2] == pytest.approx([wilson(24, 30).high, wilson(27, 30).high])


def test_a_count_is_what_it_is_however_small():
    frame = pl.DataFrame({"ts": hours(0, 1), "volume": [3, 1], "volume_n": [3, 1]})
    assert series_figure(frame, "volume", unit="requests", grain="1h").finding == "Volume: 1 at the end, between 1 and 3"


def test_a_band_is_interrupted_where_an_end_is_missing():
    band, line = marks(
        series_figure(series([0.8, 0.9, 0.7], [0.7, None, 0.6], [0.9, None, 0.8]), "retrieval_hit_rate", unit="share", grain="1h")
    )
    assert list(band.y) == [0.9, 0.7, None, 0.8, 0.6, None]
    assert list(line.y) == [0.8, 0.9, 0.7]


def counted(bad_in_hour, *, hours_before=48):
    starts = tuple(NOON - place * HOUR for place in range(hours_before, 0, -1))
    return Counted(starts=starts, events=tuple(Events(good=100 - bad_in_hour.get(at, 1), bad=bad_in_hour.get(at, 1)) for at in starts))


def burnt(bad_in_hour, **objective):
    events = counted(bad_in_hour)
    asked = terms(target=0.97, window="1d", alerts=[{"burn_rate": 2, "long": "3h", "short": "1h", "severity": "page"}], **objective)
    return burn_figure(judge(asked, NOON, events.between), events)


def test_the_budget_goes_from_all_to_what_the_judgement_says_is_left():
    drawing = burnt({NOON - 5 * HOUR: 21})
    left = next(trace for trace in marks(drawing) if trace.name == "budget left")
    assert left.y[0] == 1
    assert left.y[-1] == pytest.approx(1 - (23 + 21) / 72)
    assert list(left.y) == sorted(left.y, reverse=True)
    assert drawing.finding.startswith("answers: 39 % of the error budget is left")


def test_burn_rates_stand_in_times_of_their_line():
    drawing = burnt({NOON - 5 * HOUR: 31})
    rate = next(trace for trace in marks(drawing) if trace.name == "3h: page at 2×")
    by_hour = dict(zip(rate.x, rate.y, strict=True))
    assert by_hour[NOON - 4 * HOUR] == pytest.approx((31 + 1 + 1) / 300 / 0.03 / 2)
    assert by_hour[NOON] == pytest.approx(0.01 / 0.03 / 2)


def test_a_window_without_events_draws_no_budget():
    nothing = Counted(starts=(), events=())
    drawing = burn_figure(judge(terms(), NOON, nothing.between), nothing)
    assert not drawing.figure.data
    assert "no traffic is not a kept objective" in drawing.finding


def test_no_figure_can_be_uploaded_and_none_holds_a_row_per_request():
    for drawing in (burnt({}), traffic_figure(traffic(0, 1, 2), grain="1h")):
        bundle = mime_bundle(drawing)["application/vnd.plotly.v1+json"]
        assert (bundle["config"]["showSendToCloud"], bundle["config"]["plotlyServerURL"]) == (False, "")
        assert sum(len(trace["x"]) for trace in bundle["data"] if isinstance(trace["x"], list)) < 500


def test_a_live_figure_is_whole_from_the_start_and_cannot_be_uploaded():
    drawing = series_figure(series([0.8, 0.9]), "retrieval_hit_rate", unit="share", grain="1h")
    widget = live(drawing)
    assert widget._config.items() >= CONFIG.items()
    assert widget._widget_layout["title"]["text"] == drawing.finding


def test_a_live_figure_follows_to_another_one_and_to_nothing_and_back():
    first = series_figure(series([0.8, 0.9], [0.7, 0.8], [0.9, 1.0]), "retrieval_hit_rate", unit="share", grain="1h")
    none = series_figure(series([None, None]), "retrieval_hit_rate", unit="share", grain="1h")
    widget = live(first)
    redraw(widget, none)
    assert [len(trace.x) for trace in widget.data] == [0, 0]
    assert widget.layout.title.text.startswith("Nothing is known")
    assert len(widget.layout.annotations) == 1
    redraw(widget, first)
    assert list(widget.data[1].y) == [0.8, 0.9]
    assert (widget.layout.title.text, len(widget.layout.annotations)) == (first.figure.layout.title.text, 0)


def test_a_regular_series_has_a_row_for_each_step():
    assert regular(traffic(0, 5), "1h").height == 6
    assert regular(traffic(0).clear(), "1h").is_empty()
