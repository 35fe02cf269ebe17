"""What operations look like over time: volume and latency, success by workflow, violations, retrieval, error budgets.

Each figure is drawn from values that the store has already summed: a point is a stretch of time or a group, never a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from workbench.observability.dimensions import GRAINS
from workbench.observability.slo import Judgement, as_asked, span_words
from workbench.observability.slo_watch import Counted
from workbench.stats.burn import Line, burn, total
from workbench.stats.proportion import wilson
from workbench.views.numbers import counted, interval, metric_words, number
from workbench.views.slo import percent, title_of
from workbench.views.theme import (
    BASELINE,
    CANDIDATE,
    DASHES,
    OPEN,
    SERIES,
    SHAPES,
    Drawing,
    add_band,
    add_limit,
    drawn,
    error_bars,
    faded,
    missing,
    new_figure,
    plain,
)

GRAIN_WORDS = {"1m": "minute", "5m": "5 minutes", "15m": "15 minutes", "1h": "hour", "1d": "day", "1w": "week"}
LEAST = 20
"""Observations of a step below which a share or a percentile of it is mostly chance: it is no part of a line, nor of a finding."""
_MEASURED = frozenset({"share", "ms", "score"})
"""Units of metrics that are estimates; a count or a sum is what it is."""
_HOUR = timedelta(hours=1)


def traffic_figure(frame: pl.DataFrame, *, grain: str) -> Drawing:
    """Requests, and how long they took, over time.

    Args:
        frame: `ts`, `volume`, and `latency_p50`, `latency_p95` and `latency_p99` with their details.
        grain: width of a step.
    """
    about = f"requests and latency per {GRAIN_WORDS[grain]}, UTC"
    if frame.is_empty():
        return missing("No request in this stretch of time", "Widen the window, or send traffic first.", subtitle=about)
    steps = regular(frame, grain)
    xs, volume = steps["ts"].to_list(), [int(n or 0) for n in steps["volume"]]
    busiest = max(range(len(volume)), key=volume.__getitem__)
    steps, thin = _without_thin(steps, ("latency_p50", "latency_p95", "latency_p99"))
    finding = f"{_latency_finding(steps)}; {volume[busiest]:,} requests in the busiest {GRAIN_WORDS[grain]}, {moment(xs[busiest], grain)}"
    subtitle = f"{about}; {counted(sum(volume), 'request')}; shaded: 95 % interval of p95{_thin_words(thin, grain)}"
    figure = new_figure(finding, subtitle, height=480).set_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.35, 0.65]
    )
    figure.add_bar(x=_middles(xs, grain), y=volume, width=_bar_ms(grain), marker_color=BASELINE, name="requests", row=1, col=1)
    xs = _middles(xs, grain)
    add_band(figure, xs, _numbers(steps, "latency_p95_low"), _numbers(steps, "latency_p95_high"), color=CANDIDATE, row=2, col=1)
    for name, color, dash in (("latency_p50", BASELINE, "dot"), ("latency_p95", CANDIDATE, "solid"), ("latency_p99", OPEN, "dash")):
        values = _numbers(steps, name)
        figure.add_scatter(
            x=xs,
            y=values,
            mode=_mode(values),
            line={"color": color, "dash": dash},
            marker={"size": 5},
            name=name[-3:],
            showlegend=True,
            row=2,
            col=1,
        )
    figure.update_yaxes(title_text="requests", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="latency, ms", rangemode="tozero", row=2, col=1)
    figure.update_layout(showlegend=True, legend_y=-0.2)
    figure.update_traces(showlegend=False, selector={"type": "bar"})
    return drawn(figure, finding, subtitle)


def _latency_finding(steps: pl.DataFrame) -> str:
    known = steps.filter(pl.col("latency_p95").is_not_null())
    if known.is_empty():
        return f"No step has the {LEAST} requests that a percentile takes"
    values = known["latency_p95"]
    slowest = known.row(int(values.arg_max() or 0), named=True)
    return f"p95 latency {number(values[-1], 'ms')} at the end, {number(slowest['latency_p95'], 'ms')} at its highest"


def _without_thin(steps: pl.DataFrame, metrics: Sequence[str]) -> tuple[pl.DataFrame, int]:
    """The steps with the metrics null where too few observations are under them, and how many steps had any but too few."""
    n = pl.col(f"{metrics[-1]}_n").fill_null(0) if f"{metrics[-1]}_n" in steps.columns else pl.lit(LEAST)
    columns = [f"{metric}{end}" for metric in metrics for end in ("", "_low", "_high") if f"{metric}{end}" in steps.columns]
    thin = steps.filter((n > 0) & (n < LEAST)).height
    return steps.with_columns(pl.when(n >= LEAST).then(pl.col(name)).alias(name) for name in columns), thin


def _thin_words(thin: int, grain: str) -> str:
    steps = GRAIN_WORDS[grain] if thin == 1 else f"{GRAIN_WORDS[grain]}s".replace("ss", "s")
    return f"; {thin:,} {steps} with fewer than {LEAST} observations left out" if thin else ""


def success_figure(frame: pl.DataFrame, *, targets: Mapping[str, float] | None = None) -> Drawing:
    """How often each workflow ends well, with 95 % intervals.

    Args:
        frame: `workflow`, `success_rate` with its details, and `undecided_rate`.
        targets: workflow to the share that an objective asks for.
    """
    about = "share of decided requests that ended well, by workflow; bars: 95 % interval"
    known = frame.filter(pl.col("success_rate").is_not_null()).sort("success_rate", descending=True)
    if known.is_empty():
        return missing(
            "Nobody knows yet how often requests end well", "No request of this stretch of time has a decided success.", subtitle=about
        )
    rows = known.to_dicts()
    names = [str(row["workflow"] or "unassigned") for row in rows]
    last = rows[-1]
    ends = interval(last["success_rate_low"], last["success_rate_high"], "share")
    finding = f"{_words(names[-1])} ends well least often: {number(last['success_rate'], 'share')} ({ends})"
    if len(rows) == 1:
        finding = f"{_words(names[0])} ends well in {number(last['success_rate'], 'share')} of requests ({ends})"
    n = sum(row["success_rate_n"] for row in rows)
    subtitle = f"{about}; {counted(n, 'decided request')}{_undecided(frame)}"
    figure = new_figure(finding, subtitle, height=150 + 44 * len(rows))
    values, low, high = ([row[f"success_rate{end}"] for row in rows] for end in ("", "_low", "_high"))
    labels = [f"{plain(_words(name))}  (n {row['success_rate_n']:,})" for name, row in zip(names, rows, strict=True)]
    figure.add_scatter(
        x=values,
        y=labels,
        mode="markers",
        marker={"size": 10, "color": CANDIDATE},
        error_x=error_bars(values, low, high, color=CANDIDATE),
        hovertemplate="%{x:.1%}<extra></extra>",
    )
    asked = [(label, targets[name]) for label, name in zip(labels, names, strict=True) if targets and name in targets]
    if asked:
        figure.add_scatter(
            x=[share for _, share in asked],
            y=[label for label, _ in asked],
            mode="markers+text",
            text=["target"] * len(asked),
            textposition="top center",
            marker={"symbol": "line-ns-open", "size": 18, "color": BASELINE, "line": {"width": 2}},
            hoverinfo="skip",
        )
    figure.update_xaxes(tickformat=".0%", title_text="share that ended well")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(hovermode="closest")
    return drawn(figure, finding, subtitle)


def _undecided(frame: pl.DataFrame) -> str:
    pairs = [(row["undecided_rate"], row["undecided_rate_n"]) for row in frame.iter_rows(named=True) if row["undecided_rate"] is not None]
    requests = sum(n for _, n in pairs)
    undecided = round(sum(rate * n for rate, n in pairs))
    return f", {undecided:,} of {requests:,} requests are undecided" if undecided else ""


def violations_figure(broken: Mapping[str, int], *, checked: int, unchecked: int = 0) -> Drawing:
    """Which rules were broken towards a user or a tool, with 95 % intervals.

    Args:
        broken: rule to the requests that broke it, most first.
        checked: answers that a guard or a scorer looked at.
        unchecked: answers that nobody looked at; they are not clean.
    """
    about = "share of checked answers that broke the rule and reached a user or a tool; bars: 95 % interval (Wilson)"
    seen = f"{counted(checked, 'checked answer')}" + (f", {unchecked:,} were not checked" if unchecked else "")
    if not checked:
        return missing(
            "Nobody looked whether answers keep the rules",
            "No guard and no scorer checked an answer in this stretch of time.",
            subtitle=about,
        )
    if not broken:
        most = wilson(0, checked).high
        finding = f"No checked answer broke a rule: 0 of {checked:,}; at most {number(most, 'share')} do"
        return missing(finding, "There is nothing to draw, and that is good news.", subtitle=f"{about}; {seen}")
    rules = list(broken)
    shares = [wilson(min(broken[rule], checked), checked) for rule in rules]
    worst = shares[0]
    ends = interval(worst.low, worst.high, "share")
    finding = (
        f"{_words(rules[0])} is broken most: {broken[rules[0]]:,} of {checked:,} checked answers, {number(worst.value, 'share')} ({ends})"
    )
    subtitle = f"{about}; {seen}"
    figure = new_figure(finding, subtitle, height=150 + 44 * len(rules))
    values = [share.value for share in shares]
    bars = error_bars(values, [share.low for share in shares], [share.high for share in shares], color=BASELINE)
    labels = [f"{plain(_words(rule))}  ({broken[rule]:,})" for rule in rules]
    figure.add_bar(x=values, y=labels, orientation="h", marker_color=CANDIDATE, error_x=bars, hovertemplate="%{x:.2%}<extra></extra>")
    figure.update_xaxes(tickformat=".1%", rangemode="tozero", title_text="share of checked answers")
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(hovermode="closest")
    return drawn(figure, finding, subtitle)


def series_figure(frame: pl.DataFrame, metric: str, *, unit: str, grain: str, of: str = "") -> Drawing:
    """One metric over time with its 95 % interval, for example how often searches find what they should.

    Args:
        frame: `ts` and the metric with its details.
        metric: its name.
        unit: its unit.
        grain: width of a step.
        of: what it is cut down to, for example a workflow; empty for all.
    """
    words, about = _of(metric, of), f"{unit} per {GRAIN_WORDS[grain]}, UTC"
    known = frame.filter(pl.col(metric).is_not_null()) if metric in frame.columns else frame
    if known.is_empty():
        return missing(f"Nothing is known of {words}", "No request of this stretch of time says anything about it.", subtitle=about)
    steps, thin = _without_thin(regular(frame, grain), [metric]) if unit in _MEASURED else (regular(frame, grain), 0)
    if steps[metric].is_null().all():
        seen = f"No {GRAIN_WORDS[grain]} has the {LEAST} observations that it takes; all together have {known[f'{metric}_n'].sum():,}."
        return missing(f"Too little is known of {words} to draw it", f"{seen} Choose longer steps.", subtitle=about)
    steps, shade = _with_interval(steps, metric, unit)
    finding, when = _series_words(steps, metric, words=words, unit=unit, grain=grain)
    subtitle = f"{about}; n {known[f'{metric}_n'].sum():,}; {when}{shade}{_thin_words(thin, grain)}"
    figure = new_figure(finding, subtitle)
    band, line = _series_traces(steps, metric, grain=grain)
    figure.add_scatter(**band, fill="toself", fillcolor=faded(CANDIDATE), line={"width": 0}, mode="lines", hoverinfo="skip")
    figure.add_scatter(**line, mode="lines+markers", line={"color": CANDIDATE}, marker={"size": 5}, name=metric_words(metric))
    figure.update_yaxes(**axis_of(unit))
    return drawn(figure, finding, subtitle)


def _of(metric: str, group: str) -> str:
    """The metric as people say it, and what it is cut down to."""
    return f"{metric_words(metric)}, {group.replace('_', ' ')}" if group else metric_words(metric)


def _with_interval(steps: pl.DataFrame, metric: str, unit: str) -> tuple[pl.DataFrame, str]:
    """The steps with an interval where there is one, and what it is: a share that comes without one has that of independent requests."""
    low, high = f"{metric}_low", f"{metric}_high"
    if low in steps.columns:
        return steps, "; shaded: 95 % interval" if steps[low].is_not_null().any() else ""
    if unit != "share":
        return steps, ""
    pairs = zip(_numbers(steps, metric), steps[f"{metric}_n"].to_list(), strict=True)
    found = [None if share is None or not n else wilson(share * n, n) for share, n in pairs]
    ends = [pl.Series(low, [each and each.low for each in found]), pl.Series(high, [each and each.high for each in found])]
    return steps.with_columns(ends), "; shaded: 95 % interval, requests taken as independent"


def _series_words(steps: pl.DataFrame, metric: str, *, words: str, unit: str, grain: str) -> tuple[str, str]:
    """Finding of a metric over time, and when it was lowest and highest."""
    known = steps.filter(pl.col(metric).is_not_null())
    values, times = known[metric].to_list(), known["ts"].to_list()
    low, high = min(range(len(values)), key=values.__getitem__), max(range(len(values)), key=values.__getitem__)
    span = f"between {number(values[low], unit)} and {number(values[high], unit)}"
    when = f"lowest {moment(times[low], grain)}, highest {moment(times[high], grain)}"
    return f"{_capital(words)}: {number(values[-1], unit)} at the end, {span}", when


def _series_traces(steps: pl.DataFrame, metric: str, *, grain: str) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """The coordinates of one metric over time: of its interval, as closed shapes with a gap between each two, and of its line."""
    xs = _middles(steps["ts"].to_list(), grain)
    ends = zip(xs, _numbers(steps, f"{metric}_low"), _numbers(steps, f"{metric}_high"), strict=True)
    band: dict[str, list[Any]] = {"x": [], "y": []}
    run: list[tuple[datetime, float, float]] = []
    for x, low, high in [*ends, (None, None, None)]:
        if x is not None and low is not None and high is not None:
            run.append((x, low, high))
        elif run:
            band["x"] += [point[0] for point in run] + [point[0] for point in reversed(run)] + [None]
            band["y"] += [point[2] for point in run] + [point[1] for point in reversed(run)] + [None]
            run = []
    return band, {"x": xs, "y": _numbers(steps, metric)}


def burn_figure(judgement: Judgement, counted_events: Counted) -> Drawing:
    """How an objective's error budget went, and how fast it burns beside its alert lines.

    Args:
        judgement: how it stands.
        counted_events: its events by hour, over its window and the longest alert line before it.
    """
    objective, start, until = judgement.objective, judgement.start, judgement.until
    about = f"{percent(objective.target)} of events good, {_window_words(judgement)} until {until:%Y-%m-%d %H:%M} UTC"
    finding = f"{title_of(objective)}: {judgement.sentence}"
    if judgement.events.decided == 0:
        return missing(finding, "No event of this window is decided; a window without events keeps no objective.", subtitle=about)
    subtitle = f"{about}; {counted(round(judgement.events.decided), 'decided event')}, {judgement.events.undecided:,.0f} undecided"
    figure = new_figure(finding, subtitle, height=520).set_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.1)
    xs, left = _budget(judgement, counted_events)
    figure.add_scatter(
        x=xs, y=left, mode="lines", line={"color": CANDIDATE, "shape": "hv"}, name="budget left", showlegend=False, row=1, col=1
    )
    add_limit(figure, 0, "spent", end=False)
    for place, each in enumerate(judgement.lines):
        times, rates = _rates(judgement, counted_events, each.line, start, until)
        name = f"{span_words(each.line.long)}: {each.line.severity} at {each.line.burn_rate:.3g}×"
        figure.add_scatter(
            x=times,
            y=rates,
            mode="lines",
            name=name,
            showlegend=True,
            row=2,
            col=1,
            line={"color": SERIES[place % len(SERIES)], "dash": DASHES[place % len(DASHES)]},
        )
    if judgement.lines:
        add_limit(figure, 1, "alert", row=2, end=False)
    figure.update_yaxes(tickformat=".0%", title_text="budget left", row=1, col=1)
    figure.update_yaxes(title_text="burn rate ÷ its alert line", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(range=[xs[0], until])
    figure.update_layout(showlegend=True, legend_y=-0.17)
    return drawn(figure, finding, subtitle)


def _budget(judgement: Judgement, events: Counted) -> tuple[list[datetime], list[float]]:
    """The share of the window's whole budget that was left at the end of each hour."""
    objective = judgement.objective
    whole = total(as_asked(each, objective) for at, each in zip(events.starts, events.events, strict=True) if at >= judgement.start)
    allowed = (1 - objective.target) * whole.decided
    times: list[datetime] = []
    left, bad = [1.0], 0.0
    for at, each in zip(events.starts, events.events, strict=True):
        if judgement.start <= at < judgement.until:
            if not times:
                times.append(at)
            bad += as_asked(each, objective).bad
            times.append(min(at + _HOUR, judgement.until))
            left.append(1 - bad / allowed if allowed else 1.0)
    return times, left


def _rates(
    judgement: Judgement, events: Counted, line: Line, start: datetime, until: datetime
) -> tuple[list[datetime], list[float | None]]:
    """The burn rate over a line's long window at the end of each hour, in times of what the line takes; None without a decided event."""
    first = max(start, events.starts[0]) if events.starts else start
    hours = [first + place * _HOUR for place in range(1, int((until - first) / _HOUR) + 1)]
    rates = [burn(as_asked(events.between(hour - line.long, hour), judgement.objective), judgement.objective.target).low for hour in hours]
    return hours, [None if rate is None else rate / line.burn_rate for rate in rates]


def _window_words(judgement: Judgement) -> str:
    return f"this {judgement.objective.calendar}" if judgement.objective.calendar else span_words(judgement.objective.span)


def regular(frame: pl.DataFrame, grain: str) -> pl.DataFrame:
    """The frame with a row for each step between its first and its last; what a step without requests holds is null, never guessed."""
    if frame.is_empty():
        return frame
    starts = frame["ts"].sort()
    every = pl.datetime_range(starts[0], starts[-1], GRAINS[grain], time_unit="us", eager=True).alias("ts")
    return pl.DataFrame([every]).join(frame, on="ts", how="left", maintain_order="left")


def moment(at: datetime, grain: str) -> str:
    """A step of time in words: its day, and its clock where steps are shorter."""
    return f"{at:%a %d %b}" if GRAINS[grain] >= timedelta(days=1) else f"{at:%a %d %b %H:%M}"


def axis_of(unit: str) -> dict[str, Any]:
    """How the axis of a unit looks."""
    return {"title_text": "share", "tickformat": ".0%"} if unit == "share" else {"title_text": unit, "rangemode": "tozero"}


def _middles(starts: Sequence[datetime], grain: str) -> list[datetime]:
    return [start + GRAINS[grain] / 2 for start in starts]


def _bar_ms(grain: str) -> float:
    return GRAINS[grain] / timedelta(milliseconds=1) * 0.9


def _numbers(frame: pl.DataFrame, name: str) -> list[float | None]:
    return frame[name].cast(pl.Float64).to_list() if name in frame.columns else [None] * frame.height


def _mode(values: Sequence[float | None]) -> str:
    """Lines, with marks where a point stands alone and no line would show it."""
    return "lines+markers" if len(values) <= len(SHAPES) * 10 else "lines"


def _words(name: str) -> str:
    return _capital(name.replace("_", " "))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
