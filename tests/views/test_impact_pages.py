"""Business impact as words and figures: what a reader sees, and what nobody may mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.observability.test_impact_periods import START, WEEK, judged, kpi, week
from workbench.errors import UnknownSubject
from workbench.observability.impact_model import Attributed, Crossed, Design, Effect, Finding, Impact, Measured, Reason, Side, Variance
from workbench.observability.impact_periods import kpi_impact
from workbench.stats.estimate import Estimate
from workbench.stats.outliers import Tail
from workbench.stats.split import Stretch, split_test
from workbench.views.impact import effects_page, effects_text, impact_text, target_words
from workbench.views.impact_figures import effect_drawing, impact_document, kpi_drawing, usage_drawing, waterfall_drawing
from workbench.views.page import page_html

MONEY = {"aggregate": "sum", "unit": "EUR", "per": "week", "target": 9000.0}


def found(*, n: int = 12, **more):
    rows = [week(place, sessions=1000 + 30 * place, outcomes=500 + 20 * place, total=10000.0 + 500 * place) for place in range(n)]
    if more.get("aggregate", "rate") == "rate":
        rows = [{**row, "total": float(row["outcomes"])} for row in rows]
    return judged(kpi(within="3d", **more), rows)


def report(*kpis) -> Impact:
    return Impact(app="shop", by="week", kpis=kpis, as_of=START + 12 * WEEK, snapshot=7, where={})


def estimate(value: float, half: float, method: str = "welch t, absolute") -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, level=0.95, method=method, n=900)


def effect(**more) -> Effect:
    stretches = (Stretch(share=0.1, candidate=52, baseline=448), Stretch(share=0.5, candidate=200, baseline=200))
    measured = (
        Measured(way="adjusted", absolute=estimate(2.5, 1), absolute_p=0.001, relative=estimate(0.12, 0.05), relative_p=0.002),
        Measured(way="as observed", absolute=estimate(2.2, 3), absolute_p=0.2, relative=None, relative_p=None),
    )
    values = {
        "app": "shop",
        "kpi": kpi(**MONEY),
        "design": Design.ROUTED,
        "release_id": "shop.2",
        "candidate": Side(name="shop@new", units=252, judged=240, value=20.0, cost_per_outcome=0.02),
        "baseline": Side(name="shop@old", units=648, judged=630, value=17.8, cost_per_outcome=None),
        "finding": Finding(reason=Reason.BETTER, sentence="basket: the absolute effect is an improvement (p 0.0010)."),
        "estimand": "EUR per user",
        "split": split_test(stretches),
        "stretches": stretches,
        "crossed": 3,
        "crossed_rule": Crossed.FIRST_EXPOSURE,
        "open_units": 30,
        "one_sided": 0,
        "nameless": 4,
        "tail": Tail(share_of_units=0.001, n=1, share_of_total=0.2, limit=120.0, largest=4000.0),
        "measured": measured,
        "variance": Variance(days=28, theta=0.4, reduction=0.35, n_with_pre=700, rule="units without one stay as they are"),
        "as_of": datetime(2026, 3, 1, tzinfo=UTC),
        "within": timedelta(days=1),
        "snapshot": 7,
    }
    return Effect(**{**values, **more})


REFUSED = effect(
    measured=(),
    finding=Finding(reason=Reason.SPLIT_MISMATCH, sentence="basket: 90 of 900 units came to the candidate."),
    tail=None,
    variance=None,
)


def test_the_page_says_reason_target_events_and_what_is_open():
    text = impact_text(report(found(target=0.4, target_date="2027-01-01", owner="primary", baseline=0.3)))
    assert "TARGET_REACHED" in text
    assert "Target 40.0 % by 2027-01-01; 30.0 % before the application, primary answers for it." in text
    assert "◔ open" in text
    assert "An open period shows what is known so far and is compared with nothing." in text
    assert "count within 3d of their session's first request" in text
    assert "An event counts for its request, else for the newest request of its session before it" in text


def test_a_partial_week_is_told_from_the_whole_ones_everywhere_alike():
    rows = [week(place, total=9000.0 + 1000 * place) for place in range(3)]
    sums = {**week(0, total=30000.0), "lowest": 1.0}
    begun, asked = (
        kpi_impact(kpi(**MONEY), by="week", rows=rows, overall=sums, attributed=Attributed(), as_of=START + 3 * WEEK, start=start)
        for start in (None, START)
    )
    text = " ".join(impact_text(report(begun)).split())
    assert (text.count("◐ partial"), text.count("● complete")) == (1, 2)
    assert "A partial week is closed, but the log or the window begins within it" in text
    assert (
        "Mean of 2 whole weeks: 10,500 EUR (95 % interval 4,146.90 to 16,853.10 EUR by how they differ; so few weeks leave it wide)."
        in text
    )
    assert "2 whole weeks with data are too few" in text
    assert "3 closed weeks, the first of them partial" in kpi_drawing(begun).subtitle
    text = " ".join(impact_text(report(asked)).split())
    assert "artial" not in text
    assert "Mean of 3 whole weeks: 10,000 EUR" in text


def test_the_anti_pattern_is_in_the_lead_by_its_name():
    rows = [week(n, requests=1000 + 150 * n) for n in range(12)]
    text = impact_text(report(judged(kpi(), rows)))
    assert text.startswith("✕ SOMETHING SPEAKS AGAINST IT")
    assert "Anti-pattern, measuring success by usage instead of business outcomes" in " ".join(text.split())


def test_both_scales_are_named_and_the_deciding_row_comes_first():
    text = effects_text((effect(),))
    assert re.search(r"absolute effect +95 % interval +p +relative effect +95 % interval \(relative\)", text)
    assert text.index("adjusted") < text.index("as observed")
    assert "+2.50 EUR" in text
    assert "+12.0 %" in text
    assert "The first row decides." in text


def test_split_outliers_and_crossed_units_are_named_before_the_numbers():
    text = " ".join(effects_text((effect(),)).split())
    first_number = text.index("+2.50 EUR")
    for words in (
        "Split as declared: 252 of 900 units at the candidate",
        "3 met both bundles and were kept whole on the side that answered them first",
        "30 are open",
        "4 sessions without a unit left out",
        "hold 20.0 % of the value, so each is cut to 120 EUR",
        "35.0 % less variance; 700 units have one; units without one stay as they are",
    ):
        assert -1 < text.index(words) < first_number


def test_a_refused_effect_shows_no_number_anywhere():
    page = effects_page((REFUSED,))
    assert page.banner.tone == "bad"
    text, html = effects_text((REFUSED,)), page_html(page)
    for words in ("absolute effect", "relative effect", "20.0", "17.8"):
        assert words not in text
        assert words not in html
    drawing = effect_drawing(REFUSED)
    assert not drawing.figure.data
    assert "no effect is shown (SPLIT_MISMATCH)" in drawing.finding


def test_the_kpi_figure_has_target_baseline_band_and_hollow_open_periods():
    drawing = kpi_drawing(found(target=0.4, baseline=0.3, target_date="2027-01-01"))
    labels = [annotation.text for annotation in drawing.figure.layout.annotations]
    assert "open" in labels
    assert any(label.startswith("target 40.0 %") for label in labels)
    assert any(label.startswith("before 30.0 %") for label in labels)
    symbols = [trace.marker.symbol for trace in drawing.figure.data if trace.mode == "markers"]
    assert symbols == ["circle-open"]
    assert [trace for trace in drawing.figure.data if trace.fill == "toself"]
    assert len(next(trace for trace in drawing.figure.data if trace.mode == "lines+markers").x) == 11


def test_the_waterfall_starts_at_the_first_ends_at_the_newest_and_adds_up():
    drawing = waterfall_drawing(found(**MONEY))
    bars = drawing.figure.data[0]
    assert list(bars.measure) == ["absolute", "relative", "relative", "relative", "relative", "total"]
    assert sum(bars.y[:-1]) == pytest.approx(bars.y[-1])


def test_usage_and_outcome_both_start_at_nothing():
    drawing = usage_drawing(found())
    assert (drawing.figure.layout.yaxis.rangemode, drawing.figure.layout.yaxis2.rangemode) == ("tozero", "tozero")
    assert len(drawing.figure.data[0].x) == len(drawing.figure.data[1].x) == 11


def test_the_effect_figure_names_both_scales():
    layout = effect_drawing(effect()).figure.layout
    assert layout.xaxis.title.text == "absolute effect, EUR"
    assert layout.xaxis2.title.text == "relative effect, % of the baseline"


@pytest.mark.parametrize("draw", [kpi_drawing, usage_drawing, waterfall_drawing])
def test_what_cannot_be_drawn_says_what_is_missing(draw):
    drawing = draw(judged(kpi(), [], as_of=START))
    assert not drawing.figure.data
    assert "It takes" in drawing.figure.layout.annotations[0].text


def test_the_report_is_one_file_that_fetches_nothing():
    page = impact_document(report(found(target=0.4), found(**MONEY)), (effect(), REFUSED), names={"shop@new": "v2"})
    assert page.count("<!doctype html>") == page.count("window.PlotlyConfig") == 1
    assert page.count('class="wb-figure"') == 8
    assert not re.search(r"<(?:script|img|iframe)[^>]+src=|<link\b|@import", page)
    assert "shop@new (v2)" in page


def test_declared_words_are_shown_not_run():
    hostile = "<script>alert(1)</script>"
    page = impact_document(report(found(description=hostile, unit=hostile, aggregate="mean")), (), names={})
    assert hostile not in page.replace("window.PlotlyConfig", "")


def test_a_kpi_that_nobody_answers_for_says_so():
    assert target_words(kpi()) == "no target, nobody answers for it"
    assert (
        target_words(kpi(**MONEY, baseline=1.0))
        == "target 9,000 EUR per week; 1 EUR per week before the application, nobody answers for it"
    )


def test_one_kpi_is_found_by_name():
    both = report(found())
    assert both.of("solved") is both.kpis[0]
    with pytest.raises(UnknownSubject, match="one of solved"):
        both.of("slved")


def test_an_effect_without_any_traffic_has_words_and_no_section():
    empty = Side(name="a", units=0, judged=0, value=None, cost_per_outcome=None)
    nothing = replace(REFUSED, candidate=empty, baseline=empty, finding=Finding(reason=Reason.NO_TRAFFIC, sentence="nothing"))
    page = effects_page((nothing,))
    assert (page.lead, page.sections, page.banner.tone) == (("nothing",), (), "open")


def test_words_are_printed_without_the_plotting_library():
    code = "import workbench.views.impact, workbench.cli.main, sys; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
