"""How a release went: evidence against its limits, each metric's interval, users exposed. Drawn from the judgements along its way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from workbench.release.judge_kinds import BY_MISSES, LOSSES, Decision, Kind, Role
from workbench.release.judge_model import Judgement, MetricJudgement
from workbench.release.model import DecisionRecord, Release
from workbench.release.replaying import Replay
from workbench.release.tracing import Point
from workbench.views.numbers import counted, number
from workbench.views.page import Page, document, page_html
from workbench.views.release import release_page
from workbench.views.release_watch import DECISIONS, decisions_page
from workbench.views.replay import replay_page
from workbench.views.theme import (
    BAD,
    BASELINE,
    CANDIDATE,
    DASHES,
    INK,
    SERIES,
    Drawing,
    add_band,
    add_limit,
    drawn,
    fragment,
    missing,
    new_figure,
    script,
)

_WHAT = {
    Kind.EVENT: "candidate/stable ratio of the units it happened to",
    Kind.LATENCY: "candidate/stable ratio of the units that waited longer than stable used to",
    Kind.SCORE: "how much the candidate loses against stable",
    Kind.AMOUNT: "how much the candidate loses against stable",
    Kind.REACHED: "stable/candidate ratio of the units that reached it",
    **dict.fromkeys(BY_MISSES, "candidate/stable ratio of the units that missed it"),
    Kind.BUDGET: "rate of the candidate",
}
_LEAST_E, _MOST_E = 1e-3, 1e6
"""Evidence at the edges of the figure: what is beyond lies on them."""


def evidence_figure(points: Sequence[Point], decisions: Sequence[DecisionRecord] = ()) -> Drawing:
    """The evidence of harm against its limit, and of each metric's safety against its own, on the way.

    Args:
        points: oldest first.
        decisions: of the controller, whose acts are marked.
    """
    about = "e-values, logarithmic; they hold at every look; UTC"
    if not points:
        return _nothing(about)
    last, xs = points[-1].judgement, [point.at for point in points]
    harm = [point.judgement.e_harm for point in points]
    finding = _harm_finding(last, max(harm))
    figure = new_figure(finding, about, height=520).set_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1)
    figure.add_scatter(x=xs, y=_logged(harm), mode="lines", line={"color": BAD, "width": 2}, name="all, weighted", row=1, col=1)
    deciding = [metric for metric in last.metrics if metric.role in (Role.CRITICAL, Role.GUARDRAIL)]
    for place, metric in enumerate(deciding):
        line = {"color": SERIES[place % len(SERIES)], "dash": DASHES[place % len(DASHES)], "width": 1.5}
        for row, values in ((1, _of(points, metric.name, "e_harm")), (2, _of(points, metric.name, "e_safe"))):
            figure.add_scatter(
                x=xs,
                y=_logged(values),
                mode="lines",
                line=line,
                name=metric.name,
                legendgroup=metric.name,
                showlegend=row == 1,
                row=row,
                col=1,
            )
    add_limit(figure, math.log10(last.e_harm_limit), "taken back", color=BAD, row=1)
    add_limit(figure, math.log10(last.e_safe_limit), "proven", row=2)
    ticks = list(range(round(math.log10(_LEAST_E)), round(math.log10(_MOST_E)) + 1))
    figure.update_yaxes(
        tickvals=ticks[::3], ticktext=[f"{10.0**tick:,.15g}" for tick in ticks[::3]], range=[ticks[0] - 0.2, ticks[-1] + 0.2]
    )
    figure.update_yaxes(title_text="of harm", row=1, col=1)
    figure.update_yaxes(title_text="of safety", row=2, col=1)
    _mark(figure, decisions)
    figure.update_layout(showlegend=True, legend_y=-0.15)
    return drawn(figure, finding, about)


def _harm_finding(last: Judgement, highest: float) -> str:
    limit = f"its limit of {last.e_harm_limit:.3g}"
    if last.decision is Decision.ROLLBACK:
        return f"The evidence of harm passed {limit}, most of it from {last.blame}"
    where = "stayed below" if highest > last.e_harm_limit / 4 else "never came near"
    return f"The evidence of harm {where} {limit}: {highest:.3g} at its highest"


def interval_figure(points: Sequence[Point], name: str) -> Drawing:
    """One metric's estimate with its confidence sequence on the way, between what is harmful and what is safe.

    Args:
        points: oldest first.
        name: of a metric that the judge follows.
    """
    metric = next((each for each in points[-1].judgement.metrics if each.name == name), None) if points else None
    if metric is None:
        return _nothing(name)
    what = f"{_WHAT[metric.kind]}, {metric.unit}" if metric.unit else _WHAT[metric.kind]
    about = f"{name}: {what}; shaded: its interval, which holds at every look at once; UTC"
    xs, values = [point.at for point in points], _of(points, name, "estimate")
    if metric.estimate is None:
        return missing(f"Nothing is known of {name} yet", "It takes values of both arms.", subtitle=about)
    finding = _interval_finding(metric)
    figure = new_figure(finding, about)
    add_band(figure, xs, _of(points, name, "low"), _of(points, name, "high"), color=CANDIDATE)
    figure.add_scatter(x=xs, y=values, mode="lines", line={"color": CANDIDATE, "width": 2}, connectgaps=False, showlegend=False)
    known = [value for value in values if value is not None]
    has_safe = metric.safe != metric.harm and metric.kind is not Kind.MOSTLY_REACHED  # whose safe margin is of those that reached it
    top = 1.5 * max(metric.safe if has_safe else 0.0, metric.harm, metric.high or 0.0, *known)
    if metric.kind not in LOSSES:
        figure.update_yaxes(range=[0, top])
    add_limit(figure, metric.harm, "harmful above", color=BAD)
    if has_safe:
        add_limit(figure, metric.safe, "safe below", color=INK)
    return drawn(figure, finding, about)


def _interval_finding(metric: MetricJudgement) -> str:
    ends = f"{_ratio(metric.low, '-∞' if metric.kind in LOSSES else '0')} to {_ratio(metric.high, '∞')}"
    if metric.is_harmful and metric.low is not None and metric.low <= metric.harm:
        when = "by those that reached it, or of late" if metric.kind is Kind.MOSTLY_REACHED else "of late"
        return f"{metric.name} is harmful {when}; over all steps it is {_ratio(metric.estimate)} ({ends})"
    state = "harmful" if metric.is_harmful else "shown to be safe" if metric.is_safe else "neither shown to be safe nor harmful"
    return f"{metric.name} is {state}: {_ratio(metric.estimate)} ({ends})"


def _ratio(value: float | None, absent: str = "?") -> str:
    """A value for people; infinite where stable had nothing of it."""
    return absent if value is None else f"{value:.3g}" if math.isfinite(value) else "∞"


def exposure_figure(points: Sequence[Point], decisions: Sequence[DecisionRecord] = ()) -> Drawing:
    """How many users each arm had served on the way."""
    about = "different users since the release began, by arm; UTC"
    if not points:
        return _nothing(about)
    last = points[-1].judgement
    share = last.units_candidate / (last.units_candidate + last.units_stable) if last.units_candidate + last.units_stable else None
    finding = f"The candidate served {counted(last.units_candidate, 'user')}, {number(share, 'share')} of all"
    figure = new_figure(finding, about)
    xs = [point.at for point in points]
    arms = (("stable", BASELINE, "dot", "units_stable"), ("candidate", CANDIDATE, "solid", "units_candidate"))
    for name, color, dash, field in arms:
        ys = [getattr(point.judgement, field) for point in points]
        figure.add_scatter(x=xs, y=ys, mode="lines", line={"color": color, "dash": dash, "shape": "hv"}, name=name, showlegend=True)
    figure.update_yaxes(rangemode="tozero", title_text="users")
    figure.update_layout(showlegend=True)
    _mark(figure, decisions)
    return drawn(figure, finding, about)


def release_document(release: Release, replay: Replay, points: Sequence[Point]) -> str:
    """The whole report of a release as one HTML file with its figures, which fetches nothing.

    Args:
        release: whose report it is.
        replay: its decisions, made again from the log.
        points: the judgements on its way.
    """
    records = [each.decision for each in replay.decisions]
    drawings = [evidence_figure(points, records), exposure_figure(points, records)]
    drawings += [interval_figure(points, name) for name in _names(points)]
    figures = [fragment(drawing, number=place) for place, drawing in enumerate(drawings, start=1)] if points else []
    pages: Iterable[Page] = (decisions_page(release.release_id, records), replay_page(replay))
    return document(release_page(release), head=script(), after=(*figures, *map(page_html, pages)))


def _names(points: Sequence[Point]) -> tuple[str, ...]:
    return tuple(metric.name for metric in points[-1].judgement.metrics) if points else ()


def _nothing(about: str) -> Drawing:
    return missing(
        "Nothing of this release was judged", "It takes a canary, its requests, and a controller that looked at it.", subtitle=about
    )


def _of(points: Sequence[Point], name: str, field: str) -> list[float | None]:
    """One metric's values on the way; None where there is none."""
    return [_field(point.judgement, name, field) for point in points]


def _field(judgement: Judgement, name: str, field: str) -> float | None:
    metric = next((each for each in judgement.metrics if each.name == name), None)
    value = getattr(metric, field) if metric is not None else None
    return value if value is None or math.isfinite(value) else None


def _logged(values: Iterable[float | None]) -> list[float | None]:
    """Decimal logarithms within the edges of the figure."""
    return [None if value is None else math.log10(min(max(value, _LEAST_E), _MOST_E)) for value in values]


def _mark(figure: object, decisions: Sequence[DecisionRecord]) -> None:
    """A line where the controller did something."""
    for each in decisions:
        if each.inputs["act"]:
            chip = DECISIONS[each.decision]
            _line(figure, each.decided_at, f"{chip.shape} {chip.word.lower()}")


def _line(figure: object, at: datetime, label: str) -> None:
    figure.add_shape(  # type: ignore[attr-defined]
        type="line", x0=at, x1=at, y0=0, y1=1, yref="paper", line={"width": 1, "dash": "dot", "color": INK}
    )
    figure.add_annotation(  # type: ignore[attr-defined]
        x=at, y=1, yref="paper", text=label, showarrow=False, xanchor="left", yanchor="bottom", font={"size": 11}
    )
