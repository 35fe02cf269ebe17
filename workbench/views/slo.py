"""Objectives, burn rates and alarms as a page: the same words in the terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from workbench.observability.alarms import Alarm, AlarmState
from workbench.observability.slo import Judgement, LineJudgement, Standing, State, Terms, span_words, worst
from workbench.spec.base import format_duration
from workbench.spec.slo import Objective
from workbench.stats.burn import Line, most
from workbench.views.numbers import DASH, counted, number
from workbench.views.page import Chip, Column, Page, Section, page_text
from workbench.views.tables import WIDTH

CHIPS: Mapping[State, Chip] = {
    State.BURNING_FAST: Chip(word="BURNING FAST", shape="✕", tone="bad"),
    State.BURNING_SLOW: Chip(word="BURNING SLOW", shape="▲", tone="bad"),
    State.SPENT: Chip(word="SPENT", shape="!", tone="bad"),
    State.NO_DATA: Chip(word="NO DATA", shape="○", tone="open"),
    State.INSUFFICIENT: Chip(word="INSUFFICIENT", shape="◔", tone="open"),
    State.OK: Chip(word="OK", shape="●", tone="good"),
}
_ALARMS: Mapping[AlarmState, Chip] = {
    AlarmState.RAISED: Chip(word="RAISED", shape="✕", tone="bad"),
    AlarmState.INSUFFICIENT: Chip(word="INSUFFICIENT", shape="◔", tone="open"),
    AlarmState.QUIET: Chip(word="QUIET", shape="●", tone="good"),
}
_TITLES = {"volume": "Unusual volume", "cost": "Unusual cost", "traffic_absent": "Traffic is absent"}
_SEVERITIES = ("page", "ticket")


def standing_text(standing: Standing, *, is_full: bool = True, width: int = WIDTH) -> str:
    """How an app stands, for a terminal."""
    return page_text(standing_page(standing, is_full=is_full), width=width)


def standing_page(standing: Standing, *, is_full: bool = True) -> Page:
    """The objectives, worst news first, then alarms; with `is_full` each alert line too."""
    sections = [_objectives_section(standing.judgements), _alarms_section(standing.alarms)]
    if is_full:
        sections[1:1] = [_lines_section(judgement) for judgement in standing.judgements]
    return Page(
        title=f"{standing.app}: objectives in service",
        banner=_banner(standing),
        lead=(_finding(standing),),
        sections=tuple(sections),
        footer=(
            f"As of {standing.at:%Y-%m-%d %H:%M} UTC. An undecided event is never a good one; a window without events keeps no objective.",
        ),
    )


def terms_text(app: str, terms: Sequence[Terms], *, width: int = WIDTH) -> str:
    """What an app promises, for a terminal."""
    return page_text(terms_page(app, terms), width=width)


def terms_page(app: str, terms: Sequence[Terms]) -> Page:
    """What an app promises: each objective with its target, window, owner and alert lines."""
    columns = ("objective", "good is", "target", "window", "owner", "least events", "called at", "ticket at")
    rows = tuple(
        (
            title_of(each.objective),
            good_words(each.objective),
            percent(each.objective.target),
            each.objective.calendar or span_words(each.objective.span),
            each.owner or DASH,
            f"{each.min_events:,}",
            *(", ".join(_line_words(each, severity)) or DASH for severity in _SEVERITIES),
        )
        for each in terms
    )
    note = next((_line_note(line) for each in terms for line in each.lines), "")
    table = Section(
        title="", columns=tuple(Column(title=name, is_number=name in {"target", "least events"}) for name in columns), rows=rows, note=note
    )
    return Page(title=f"{app}: objectives", sections=(table, *_unreachable_section(terms)))


def standing_json(standing: Standing) -> dict[str, Any]:
    """The same for a program; `exit_code` is what `slo check` ends with."""
    return {
        "app": standing.app,
        "at": standing.at,
        "state": standing.state,
        "exit_code": standing.exit_code,
        "objectives": [_judgement_json(judgement) for judgement in standing.judgements],
        "alarms": standing.alarms,
    }


def title_of(objective: Objective) -> str:
    """What people call it."""
    return objective.title or objective.name.replace("_", " ")


def good_words(objective: Objective) -> str:
    """When an event of the objective is good."""
    words = {
        "success": "a request that succeeds",
        "availability": "no error and no timeout",
        "latency": f"an answer under {format_duration(objective.under)}" if objective.under else "",
        "ttft": f"a first token under {format_duration(objective.under)}" if objective.under else "",
        "violations": "no rule broken",
    }.get(objective.indicator, f"by {objective.indicator}")
    return f"{words}, {objective.workflow}" if objective.workflow else words


def percent(share: float) -> str:
    """`99.5 %`: a target with the digits that it was written with."""
    return f"{share * 100:.6g} %"


def _line_note(line: Line) -> str:
    long, short = span_words(line.long), span_words(line.short)
    return (
        f"{line.burn_rate:.3g}× over {long} & {short} is a burn rate: over the last {long}, and still in the last {short}, the error "
        f"budget was consumed {line.burn_rate:.3g} times as fast as would spend it exactly in its window."
    )


def chip_of(judgement: Judgement) -> Chip:
    """The state; that there is no data now, where there was some before."""
    is_silent = judgement.state is State.NO_DATA and judgement.events.decided > 0
    return replace(CHIPS[State.NO_DATA], word="NO DATA NOW") if is_silent else CHIPS[judgement.state]


def _banner(standing: Standing) -> Chip:
    decisive = _decisive(standing.judgements)
    return chip_of(decisive[0]) if decisive else CHIPS[standing.state]


def _decisive(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The first of those that stand worst, and those of which the same is said."""
    state = worst(each.state for each in judgements)
    first = next((each for each in judgements if each.state is state), None)
    return [each for each in judgements if first is not None and _words(each) == _words(first)]


def _words(judgement: Judgement) -> str:
    """What decided, and how the budget of the whole window stands where that is something else."""
    return " ".join(dict.fromkeys((judgement.sentence, judgement.budget_sentence)))


def _said(judgements: Sequence[Judgement]) -> str:
    """Of objectives of which the same is said: `answers, latency: There was no event …`."""
    return f"{', '.join(title_of(each.objective) for each in judgements)}: {_words(judgements[0])}"


def _finding(standing: Standing) -> str:
    alarm = next(iter(standing.raised), None)
    decisive = _decisive(standing.judgements)
    words = _said(decisive) if decisive else "Nothing is promised."
    if standing.state is State.OK:
        words = f"{counted(len(standing.judgements), 'objective')} kept."
    return f"{words} {alarm.sentence}" if alarm else words


def _objectives_section(judgements: Sequence[Judgement]) -> Section:
    columns = ("state", "objective", "good", "target", "budget left", "events", "undecided", "window", "owner")
    numbers = {"good", "target", "budget left", "events", "undecided"}
    rows = tuple(
        (
            chip_of(each),
            title_of(each.objective),
            number(each.good_share, "share"),
            percent(each.objective.target),
            budget_words(each.budget_left),
            f"{each.events.decided:,.0f}",
            f"{each.events.undecided:,.0f}",
            each.objective.calendar or span_words(each.objective.span),
            each.owner or DASH,
        )
        for each in judgements
    )
    decisive = _decisive(judgements)
    others: dict[str, list[Judgement]] = {}
    for each in judgements:
        if each.state is not State.OK and each not in decisive:
            others.setdefault(_words(each), []).append(each)
    lines = tuple(map(_said, others.values()))
    return Section(
        title="Objectives", lines=lines, columns=tuple(Column(title=name, is_number=name in numbers) for name in columns), rows=rows
    )


def budget_words(left: float | None) -> str:
    """The share of the error budget that is left; where more than all of it was consumed, how much.

    >>> budget_words(0.67), budget_words(-0.65)
    ('67 %', 'none: 165 % consumed')
    """
    if left is not None and left < 0:
        return f"none: {(1 - left) * 100:.0f} % consumed"
    return DASH if left is None else f"{left * 100:.0f} %"


def _lines_section(judgement: Judgement) -> Section:
    columns = ("state", "line", "windows", "burns", "events", "burns now", "events now", "then")
    numbers = {"line", "burns", "events", "burns now", "events now"}
    return Section(
        title=f"{title_of(judgement.objective)}: alert lines",
        lines=tuple(_unreachable(judgement)),
        columns=tuple(Column(title=name, is_number=name in numbers) for name in columns),
        rows=tuple(_line_row(each) for each in judgement.lines),
    )


def _line_row(each: LineJudgement) -> tuple[Chip | str, ...]:
    return (
        CHIPS[each.state],
        f"{each.line.burn_rate:.3g}×",
        f"{span_words(each.line.long)} & {span_words(each.line.short)}",
        _rate(each.long_burn.low),
        f"{each.long.decided:,.0f}",
        _rate(each.short_burn.low),
        f"{each.short.decided:,.0f}",
        each.line.severity,
    )


def _unreachable(judgement: Judgement) -> Iterator[str]:
    if judgement.unreachable:
        lines = ", ".join(f"{line.burn_rate:.3g}×" for line in judgement.unreachable)
        yield (
            f"Never fires: {lines}. With a target of {percent(judgement.objective.target)} even an outage burns only "
            f"{most(judgement.objective.target):.3g} times; declare `alerts` in slo.yaml."
        )


def _unreachable_section(terms: Sequence[Terms]) -> Iterator[Section]:
    found = [
        f"{title_of(each.objective)}: an outage burns {most(each.objective.target):.3g} times, so no line above that ever fires."
        for each in terms
        if any(line.burn_rate >= most(each.objective.target) for line in each.lines)
    ]
    if found:
        yield Section(title="Lines that never fire", lines=tuple(found))


def _rate(rate: float | None) -> str:
    return DASH if rate is None else f"{rate:.2f}×"


def _line_words(each: Terms, severity: str) -> Iterator[str]:
    for line in each.lines:
        if line.severity == severity:
            yield f"{line.burn_rate:.3g}× over {span_words(line.long)} & {span_words(line.short)}"


def _alarms_section(alarms: Sequence[Alarm]) -> Section:
    rows = tuple((_ALARMS[alarm.state], _TITLES[alarm.name], alarm.sentence) for alarm in alarms)
    rates = sorted({alarm.false_alarms_per_week for alarm in alarms})
    note = f"Of each of them at most {rates[0]:g} a week may be chance." if rates else ""
    return Section(
        title="Alarms on traffic", columns=(Column(title="state"), Column(title="alarm"), Column(title="seen")), rows=rows, note=note
    )


def _judgement_json(judgement: Judgement) -> dict[str, Any]:
    return {
        "name": judgement.objective.name,
        "title": title_of(judgement.objective),
        "state": judgement.state,
        "reason": judgement.reason,
        "sentence": judgement.sentence,
        "budget_sentence": judgement.budget_sentence,
        "owner": judgement.owner,
        "target": judgement.objective.target,
        "start": judgement.start,
        "until": judgement.until,
        "min_events": judgement.min_events,
        "good_share": judgement.good_share,
        "budget_left": judgement.budget_left,
        "events": judgement.events,
        "lines": judgement.lines,
    }
