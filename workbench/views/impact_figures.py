"""Business impact as figures: a KPI over time, usage beside outcome, why the outcome changed, and an effect on both scales."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from workbench.observability.impact_effect import p_words
from workbench.observability.impact_model import Effect, Impact, KpiImpact, Reason, State
from workbench.stats.estimate import Estimate
from workbench.stats.trend import FEWEST
from workbench.views import theme
from workbench.views.impact import effects_page, impact_page, unit_of
from workbench.views.numbers import counted, number
from workbench.views.page import Page, document, page_html
from workbench.views.theme import BAD, BASELINE, CANDIDATE, OPEN, Drawing


def kpi_drawing(found: KpiImpact) -> Drawing:
    """The KPI by period against its target and baseline, with intervals; open periods stand apart and join no line."""
    kpi, unit = found.kpi, unit_of(found.kpi)
    known = [period for period in found.periods if period.value is not None]
    n = sum(period.n for period in found.complete)
    subtitle = f"{_unit_words(found)} by {found.by}, 95 % interval, n {n:,} in {counted(len(found.complete), f'closed {found.by}')}"
    if any(period.is_partial for period in found.complete):
        subtitle += ", the first of them partial"
    if any(period.state is State.OPEN for period in known):
        subtitle += "; hollow: open, events may still come"
    if not known:
        return theme.missing(
            found.finding.sentence, f"It takes events “{kpi.outcome}” that belong to sessions in the log.", subtitle=subtitle
        )
    figure = theme.new_figure(found.finding.sentence, subtitle)
    _draw_complete(figure, found)
    _draw_open(figure, found)
    _draw_bar(figure, kpi.baseline, f"before {number(kpi.baseline, unit)}", BASELINE)
    due = f" by {kpi.target_date}" if kpi.target_date else ""
    _draw_bar(figure, kpi.target, f"target {number(kpi.target, unit)}{due}", theme.INK)
    figure.update_yaxes(**_axis(unit))
    return theme.drawn(figure, found.finding.sentence, subtitle)


def usage_drawing(found: KpiImpact) -> Drawing:
    """Usage above, outcome below, over the same time, each from 0: growth of the one without the other is seen at once."""
    kpi, whole = found.kpi, found.whole
    subtitle = f"Whole {found.by}s: requests above, {_outcome_words(found)} below; {_trend_words(found)}"
    if not whole:
        return theme.missing(found.usage.sentence, f"It takes whole {found.by}s; {FEWEST} of them for a trend.", subtitle=subtitle)
    figure = theme.new_figure(found.usage.sentence, subtitle, height=440)
    lower = kpi.direction == "lower_is_better"
    x = [period.start for period in whole]
    outcome = [period.value if lower else period.total for period in whole]
    hint = "%{x|%Y-%m-%d}: %{y:,}<extra></extra>"
    figure.add_bar(x=x, y=[period.requests for period in whole], marker_color=BASELINE, hovertemplate=hint)
    figure.add_bar(x=x, y=outcome, marker_color=_outcome_color(found), hovertemplate=hint, xaxis="x2", yaxis="y2")
    figure.update_layout(
        xaxis={"showticklabels": False, "anchor": "y"},
        xaxis2={"anchor": "y2", "matches": "x"},
        yaxis={"domain": [0.56, 1], "rangemode": "tozero", "title": {"text": "requests"}},
        yaxis2={"domain": [0, 0.44], "rangemode": "tozero", "title": {"text": theme.plain(_outcome_words(found))}},
        hovermode="closest",
    )
    return theme.drawn(figure, found.usage.sentence, subtitle)


def waterfall_drawing(found: KpiImpact) -> Drawing:
    """From the total outcome of the first whole period to that of the newest, by what each factor brought; the steps add up exactly."""
    fall = found.waterfall
    subject = _outcome_words(found)
    if fall is None:
        needed = f"It takes two whole {found.by}s with outcomes, besides the one in which the log begins."
        return theme.missing(f"Why {found.kpi.name} changed cannot be told yet", needed, subtitle=subject)
    change = fall.after - fall.before
    largest = max(fall.parts, key=lambda name: abs(fall.parts[name]))
    finding = f"{found.kpi.name}: {_signed(change)} from the first whole {found.by} to the newest, most of it by {largest}"
    subtitle = f"{subject} per {found.by}; parts by Shapley's rule, which add up exactly"
    figure = theme.new_figure(finding, subtitle)
    names = [f"{found.by} of {fall.start:%Y-%m-%d}", *fall.parts, f"{found.by} of {fall.until:%Y-%m-%d}"]
    values = [fall.before, *fall.parts.values(), fall.after]
    factors = [f"{_short(fall.factors_before[name])} to {_short(fall.factors_after[name])}" for name in fall.parts]
    labels = [_short(fall.before), *map(_signed, fall.parts.values()), _short(fall.after)]
    figure.add_trace(
        go.Waterfall(
            x=[f"{_stacked(name)}<br>{below}" for name, below in zip(names, ["", *factors, ""], strict=True)],
            y=values,
            measure=["absolute", *["relative"] * len(fall.parts), "total"],
            text=labels,
            textposition="outside",
            cliponaxis=False,
            connector={"line": {"color": BASELINE, "width": 1, "dash": "dot"}},
            increasing={"marker": {"color": CANDIDATE}},
            decreasing={"marker": {"color": BAD}},
            totals={"marker": {"color": BASELINE}},
            hoverinfo="skip",
        )
    )
    figure.update_yaxes(rangemode="tozero", title_text=theme.plain(subject))
    figure.update_xaxes(tickangle=0, tickfont={"size": 11})
    return theme.drawn(figure, finding, subtitle)


def effect_drawing(effect: Effect) -> Drawing:
    """The effect on both scales side by side, each named, in every way it was looked at; where it is refused, why."""
    subtitle = (
        f"candidate {effect.candidate.name}, baseline {effect.baseline.name}; {effect.estimand}; 95 % intervals, "
        f"n {effect.candidate.judged:,} and {effect.baseline.judged:,} units"
    )
    if not effect.measured:
        return theme.missing(f"{effect.kpi.name}: no effect is shown ({effect.finding.reason})", effect.finding.sentence, subtitle=subtitle)
    figure = theme.new_figure(effect.finding.sentence, subtitle, height=210 + 55 * len(effect.measured))
    ways = [measured.way for measured in effect.measured][::-1]
    scale = 100 if unit_of(effect.kpi) == "share" else 1
    unit = "percentage points" if scale != 1 else effect.kpi.unit
    _forest(figure, ways, [(m.absolute, m.absolute_p) for m in effect.measured][::-1], scale, "")
    _forest(figure, ways, [(m.relative, m.relative_p) for m in effect.measured][::-1], 100, "2")
    figure.update_layout(
        xaxis={"domain": [0, 0.46], "title": {"text": f"absolute effect, {theme.plain(unit)}"}, "showgrid": True},
        xaxis2={"domain": [0.54, 1], "title": {"text": "relative effect, % of the baseline"}, "showgrid": True, "anchor": "y2"},
        yaxis={"range": [-0.6, len(ways) - 0.3]},
        yaxis2={"anchor": "x2", "matches": "y", "showticklabels": False},
        hovermode="closest",
    )
    return theme.drawn(figure, effect.finding.sentence, subtitle)


def impact_document(impact: Impact, effects: Sequence[Effect], *, names: dict[str, str]) -> str:
    """The whole report as one HTML file with its figures, which fetches nothing.

    Args:
        impact: the KPIs.
        effects: what the newest release, or two named bundles, changed; may be empty.
        names: bundle id to name.
    """
    page, parts, place = impact_page(impact), [], itertools.count(1)
    for found, section in zip(impact.kpis, page.sections, strict=True):
        parts.append(page_html(Page(sections=(section,))))
        parts += [theme.fragment(draw(found), number=next(place)) for draw in (kpi_drawing, usage_drawing, waterfall_drawing)]
    if effects:
        parts.append(page_html(effects_page(effects, names=names)))
        parts += [theme.fragment(effect_drawing(effect), number=next(place)) for effect in effects]
    parts.append(page_html(Page(footer=page.footer)))
    return document(replace(page, sections=(), footer=()), head=theme.script(), after=parts)


def _draw_complete(figure: go.Figure, found: KpiImpact) -> None:
    """Complete periods: line, markers and band; interrupted where nothing is known."""
    shown = [period for period in found.periods if period.state is not State.OPEN]
    x = [period.start for period in shown]
    theme.add_band(figure, x, [period.low for period in shown], [period.high for period in shown], color=CANDIDATE)
    figure.add_scatter(
        x=x,
        y=[period.value for period in shown],
        mode="lines+markers",
        line={"color": CANDIDATE, "width": 2},
        marker={"size": 8},
        connectgaps=False,
        customdata=[period.n for period in shown],
        hovertemplate="%{y:.4g}, n %{customdata:,}<extra></extra>",
    )


def _draw_open(figure: go.Figure, found: KpiImpact) -> None:
    """Open periods: hollow marks on a shaded ground that says what they are."""
    shown = [period for period in found.periods if period.state is State.OPEN]
    if not shown:
        return
    half = (shown[0].until - shown[0].start) / 2
    figure.add_vrect(
        x0=shown[0].start - half,
        x1=shown[-1].start + half,
        fillcolor=theme.faded(OPEN, 0.13),
        line={"color": OPEN, "width": 1, "dash": "dot"},
        layer="below",
        annotation={"text": "open", "font": {"size": 11, "color": "#5c4300"}},
        annotation_position="top left",
    )
    with_value = [period for period in shown if period.value is not None]
    figure.add_scatter(
        x=[period.start for period in with_value],
        y=[period.value for period in with_value],
        mode="markers",
        marker={"symbol": "circle-open", "size": 9, "color": OPEN, "line": {"width": 2}},
        customdata=[period.n for period in with_value],
        hovertemplate="%{y:.4g} so far, n %{customdata:,}<extra></extra>",
    )


def _draw_bar(figure: go.Figure, value: float | None, label: str, color: str) -> None:
    if value is not None:
        theme.add_limit(figure, value, label, color=color)


def _forest(
    figure: go.Figure, ways: Sequence[str], found: Sequence[tuple[Estimate | None, float | None]], scale: float, panel: str
) -> None:
    """One panel: a mark and its interval for each way, around a line at no effect."""
    shown = [
        (way, estimate, p) for way, (estimate, p) in zip(ways, found, strict=True) if estimate is not None and estimate.low is not None
    ]
    values = [scale * estimate.value for _, estimate, _ in shown]
    low, high = ([scale * end for _, e, _ in shown if (end := getattr(e, side)) is not None] for side in ("low", "high"))
    figure.add_scatter(
        x=values,
        y=[theme.plain(way) for way, _, _ in shown],
        mode="markers+text",
        text=[f"{value:+.3g}" + (f", {p_words(p)}" if p is not None else "") for value, (_, _, p) in zip(values, shown, strict=True)],
        textposition="top center",
        textfont={"size": 11},
        marker={"size": 10, "color": CANDIDATE, "symbol": "square"},
        error_x=theme.error_bars(values, low, high, color=CANDIDATE),
        hoverinfo="skip",
        xaxis=f"x{panel}",
        yaxis=f"y{panel}",
    )
    figure.add_shape(
        type="line", x0=0, x1=0, y0=0, y1=1, xref=f"x{panel}", yref=f"y{panel} domain", line={"dash": "dash", "color": theme.INK}
    )


def _axis(unit: str) -> dict[str, Any]:
    return {"tickformat": ".0%"} if unit == "share" else {"title_text": theme.plain(unit), "separatethousands": True}


def _unit_words(found: KpiImpact) -> str:
    return {"rate": "share of sessions", "mean": f"mean {found.kpi.unit} per event", "sum": f"total {found.kpi.unit}"}[found.kpi.aggregate]


def _outcome_words(found: KpiImpact) -> str:
    """What the outcome is, beside usage."""
    if found.kpi.direction == "lower_is_better":
        return f"{_unit_words(found)} (lower is better)"
    return "sessions with the outcome" if found.kpi.aggregate == "rate" else f"total {found.kpi.unit}"


def _outcome_color(found: KpiImpact) -> str:
    return BAD if found.usage.reason is Reason.USAGE_WITHOUT_OUTCOME else CANDIDATE


def _trend_words(found: KpiImpact) -> str:
    if found.usage_trend is None or found.outcome_trend is None:
        return f"no trend below {FEWEST} whole {found.by}s"
    return f"trend per {found.by} {100 * found.usage_trend.value:+.1f} % and {100 * found.outcome_trend.value:+.1f} %"


def _stacked(name: str) -> str:
    """A name in short lines, under its bar."""
    return "<br>".join(theme.plain(line) for line in textwrap.wrap(name, 12, break_on_hyphens=False))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"  # noqa: PLR2004 - enough digits to add up by eye


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '-' if value < 0 else '±'}{_short(abs(value))}"
