"""One look for all figures: what they say, what they never do, and what they do with words of other people."""

from __future__ import annotations

import itertools
import json
import re

import plotly.io as pio
import pytest

from workbench.views import theme

HOSTILE = 'a <a href="https://example.com">click</a> & <b>b</b>'


def sample() -> theme.Drawing:
    figure = theme.new_figure("Failures fell by a third", "share of requests, 95 % interval, n 1,204")
    theme.add_band(figure, [1, 2, 3, 4], [1.0, 2.0, None, 3.0], [2.0, 3.0, None, 4.0], color=theme.CANDIDATE)
    theme.add_limit(figure, 3.5, "limit 3.5")
    return theme.drawn(figure, "Failures fell by a third", "share of requests, 95 % interval, n 1,204")


def test_the_template_is_registered_and_the_figure_wears_it():
    assert theme.NAME in pio.templates
    assert sample().figure.layout.template.layout.paper_bgcolor == "#ffffff"


def test_title_says_the_finding_and_the_line_under_it_unit_and_n():
    layout = sample().figure.layout
    assert (layout.title.text, layout.title.subtitle.text) == ("Failures fell by a third", "share of requests, 95 % interval, n 1,204")


def test_a_long_finding_is_folded_and_has_room():
    short, long = theme.new_figure("short", "x"), theme.new_figure("a finding of many words " * 8, "x")
    assert "<br>" in long.layout.title.text
    assert long.layout.margin.t > short.layout.margin.t


def test_nothing_can_be_sent_and_nothing_is_fetched():
    assert theme.CONFIG["showSendToCloud"] is False
    assert theme.mime_bundle(sample())["application/vnd.plotly.v1+json"]["config"]["showSendToCloud"] is False
    page = theme.fragment(sample(), number=1)
    assert 'showSendToCloud": false' in page
    assert not re.search(r"https?://", page)
    assert not re.search(r"<script[^>]+src=|<link", page + theme.script()[:200])


def test_the_same_figure_on_the_same_place_has_the_same_bytes():
    assert theme.fragment(sample(), number=3) == theme.fragment(sample(), number=3)


def test_words_of_other_people_stay_words():
    figure = theme.new_figure(HOSTILE, HOSTILE)
    theme.add_limit(figure, 1, HOSTILE)
    drawing = theme.drawn(figure, HOSTILE, HOSTILE)
    texts = [figure.layout.title.text, figure.layout.title.subtitle.text, figure.layout.annotations[0].text]
    for text in texts:
        assert "<a" not in text
        assert "<b>" not in text
    page = theme.fragment(drawing, number=1)
    assert "<a href" not in page
    assert "</script><" not in theme.fragment(theme.drawn(figure, "</script><script>", ""), number=1).replace("</script>\n", "")


def test_a_band_is_interrupted_where_an_end_is_missing():
    bands = [trace for trace in sample().figure.data if trace.fill == "toself"]
    assert [list(band.x) for band in bands] == [[1, 2, 2, 1], [4, 4]]


def test_a_figure_without_data_says_what_is_missing():
    drawing = theme.missing("Nothing is known of the KPI", "It takes a complete week.", subtitle="share")
    assert [annotation.text for annotation in drawing.figure.layout.annotations] == ["It takes a complete week."]
    assert not drawing.figure.data
    assert repr(drawing) == "Nothing is known of the KPI\nshare It takes a complete week."


def test_error_bars_have_no_length_where_an_end_is_missing():
    bars = theme.error_bars([1.0, 2.0], [0.5, None], [2.0, None], color=theme.BASELINE)
    assert (bars["array"], bars["arrayminus"]) == ([1.0, None], [0.5, None])


def test_a_notebook_gets_plain_json_and_the_words():
    bundle = theme.mime_bundle(sample())
    assert json.loads(json.dumps(bundle)) == bundle
    assert bundle["text/plain"].startswith("Failures fell by a third")


def luminance(color: str) -> float:
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", [theme.BASELINE, theme.CANDIDATE, theme.BAD, theme.INK])
def test_the_colours_that_mean_something_are_legible_on_paper(color):
    assert 1.05 / (luminance(color) + 0.05) >= 4.5


def test_series_differ_also_without_colour():
    marks = list(zip(theme.DASHES, theme.SHAPES, strict=True))
    assert len(set(marks)) == len(marks) == len(theme.SERIES)
    assert len(set(theme.SERIES)) == len(theme.SERIES)


def simulated(color: str) -> tuple[float, ...]:
    """As somebody without red cones or green cones tells it from others: by luminance and by blue against the rest."""
    return luminance(color), int(color[5:7], 16) / 255


def test_baseline_candidate_and_worse_are_told_apart_by_the_colour_blind():
    for first, second in itertools.combinations((theme.BASELINE, theme.CANDIDATE, theme.BAD), 2):
        a, b = simulated(first), simulated(second)
        assert max(abs(x - y) for x, y in zip(a, b, strict=True)) > 0.2
