"""Business impact for people: the same words in the terminal, in a file and in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from workbench.observability.impact_effect import TAIL_MATTERS, p_words
from workbench.observability.impact_model import (
    ATTRIBUTION,
    Answer,
    Attributed,
    Crossed,
    Design,
    Effect,
    Impact,
    KpiImpact,
    Measured,
    Period,
    Reason,
    Standing,
    State,
    answer,
)
from workbench.spec.app import Kpi
from workbench.spec.base import format_duration
from workbench.stats.estimate import Estimate
from workbench.stats.trend import FEWEST
from workbench.views.numbers import CHANGE_OF, DASH, counted, interval, number
from workbench.views.page import Cell, Chip, Column, Page, Section, page_html, page_text
from workbench.views.tables import WIDTH, named

MOST_PERIODS = 14
"""Rows of a table of periods; older ones are in the figure and in --json."""
STATES: Mapping[State, Chip] = {
    State.COMPLETE: Chip(word="complete", shape="●", tone="quiet"),
    State.OPEN: Chip(word="open", shape="◔", tone="open"),
    State.MISSING: Chip(word="no data", shape="○", tone="open"),
}
PARTIAL = Chip(word="partial", shape="◐", tone="quiet")
"""A period that is complete, but for its beginning."""
STANDINGS: Mapping[Standing, Chip | str] = {
    Standing.BETTER: Chip(word="reached", shape="●", tone="good"),
    Standing.WORSE: Chip(word="short", shape="✕", tone="bad"),
    Standing.UNCLEAR: Chip(word="unclear", shape="◔", tone="open"),
    Standing.UNKNOWN: DASH,
}
BANNERS: Mapping[Answer, Chip] = {
    Answer.NO: Chip(word="SOMETHING SPEAKS AGAINST IT", shape="✕", tone="bad"),
    Answer.NOT_ENOUGH_EVIDENCE: Chip(word="NOT ENOUGH EVIDENCE", shape="○", tone="open"),
    Answer.YES: Chip(word="NOTHING SPEAKS AGAINST IT", shape="●", tone="good"),
}
_CROSSED = {
    Crossed.FIRST_EXPOSURE: "kept whole on the side that answered them first",
    Crossed.EXCLUDE: "left out",
}


def impact_text(impact: Impact, *, width: int = WIDTH) -> str:
    """The report for a terminal."""
    return page_text(impact_page(impact), width=width)


def impact_page(impact: Impact) -> Page:
    """Each KPI by period, with what decided."""
    return Page(
        title=f"Business impact of {impact.app}, by {impact.by}",
        banner=BANNERS[answer(impact.reasons)],
        lead=tuple(_lead(impact.kpis)),
        sections=tuple(kpi_section(found) for found in impact.kpis),
        footer=(*_footer(impact), ATTRIBUTION + "."),
    )


def in_short(page: Page, *, width: int = WIDTH) -> str:
    """The page's title, banner and findings alone, for a terminal."""
    return page_text(replace(page, sections=(), footer=()), width=width)


def kpi_page(found: KpiImpact) -> Page:
    """One KPI alone."""
    return Page(lead=(found.finding.sentence,), sections=(kpi_section(found),))


def kpi_section(found: KpiImpact) -> Section:
    """One KPI: where it stands, what usage did beside it, and its newest periods."""
    kpi = found.kpi
    hidden = len(found.periods) - MOST_PERIODS
    older = f" {counted(hidden, 'older period')} not shown." if hidden > 0 else ""
    return Section(
        title=f"{kpi.name}: {kpi.description or kpi.outcome}",
        lines=tuple(_kpi_lines(found)),
        columns=(
            Column(title=f"{found.by} from"),
            Column(title="value", is_number=True),
            Column(title="95 % interval", is_number=True),
            Column(title="n", is_number=True),
            Column(title="requests", is_number=True),
            Column(title="outcomes", is_number=True),
            Column(title="USD per outcome", is_number=True),
            Column(title="state"),
            Column(title="target"),
        ),
        rows=tuple(_period_row(kpi, period) for period in found.periods[-MOST_PERIODS:]),
        note=f"An open period shows what is known so far and is compared with nothing.{_partial(found)}{older}" if found.periods else "",
    )


def effects_text(effects: Sequence[Effect], *, names: Mapping[str, str] | None = None, width: int = WIDTH) -> str:
    """The effects for a terminal."""
    return page_text(effects_page(effects, names=names), width=width)


def effects_page(effects: Sequence[Effect], *, names: Mapping[str, str] | None = None) -> Page:
    """What the candidate changed, KPI by KPI.

    Args:
        effects: of the same two bundles.
        names: bundle id to name.
    """
    first = effects[0]
    sides = " against ".join(named(side.name, names or {}) for side in (first.candidate, first.baseline))
    how = f"release {first.release_id}" if first.release_id else "no release" if first.design is Design.UNROUTED else "shares as reported"
    return Page(
        title=f"{first.app}: {sides} ({how})",
        banner=BANNERS[answer(effect.finding.reason for effect in effects)],
        lead=tuple(effect.finding.sentence for effect in effects),
        sections=tuple(effect_section(effect, names=names) for effect in effects if effect.candidate.units or effect.baseline.units),
        footer=(*_effect_footer(first), ATTRIBUTION + "."),
    )


def effect_section(effect: Effect, *, names: Mapping[str, str] | None = None) -> Section:
    """One KPI's effect: what it rests on, then the numbers, each with its scale on it."""
    return Section(
        title=f"{effect.kpi.name}: {effect.estimand}",
        lines=tuple(_effect_lines(effect, names or {})),
        columns=(
            Column(title="looked at"),
            Column(title="absolute effect", is_number=True),
            Column(title="95 % interval", is_number=True),
            Column(title="p", is_number=True),
            Column(title="relative effect", is_number=True),
            Column(title="95 % interval (relative)", is_number=True),
            Column(title="p (relative)", is_number=True),
        ),
        rows=tuple(_measured_row(effect, measured) for measured in effect.measured),
        note="The first row decides. Absolute: candidate less baseline. Relative: that as a share of the baseline, by the delta method."
        if effect.measured
        else "",
    )


def impact_bundle(impact: Impact) -> dict[str, str]:
    """The report as a notebook shows it."""
    page = impact_page(impact)
    return {"text/plain": page_text(page), "text/html": page_html(page)}


def kpi_bundle(found: KpiImpact) -> dict[str, str]:
    """One KPI as a notebook shows it."""
    page = kpi_page(found)
    return {"text/plain": page_text(page), "text/html": page_html(page)}


def effect_bundle(effect: Effect) -> dict[str, str]:
    """One effect as a notebook shows it."""
    page = effects_page((effect,))
    return {"text/plain": page_text(page), "text/html": page_html(page)}


def unit_of(kpi: Kpi) -> str:
    """The unit of the KPI's value, as `number` knows it."""
    return "share" if kpi.aggregate == "rate" else kpi.unit


def span(low: float | None, high: float | None, unit: str) -> str:
    """Both ends of an interval with the unit once: `49.3 to 65.7 EUR`."""
    if low is None or high is None or unit.removeprefix(CHANGE_OF) in {"share", "USD", "usd"}:
        return interval(low, high, unit)
    bare = unit[: len(unit) - len(unit.removeprefix(CHANGE_OF))]
    return f"{number(low, bare)} to {number(high, unit)}"


def percent(value: float | None) -> str:
    """`+3.2 %`, of a relative effect; a dash when there is none."""
    return DASH if value is None else f"{100 * value:+.1f} %"


def percent_interval(estimate: Estimate | None) -> str:
    """`-0.4 to +7.1 %`."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return DASH
    return f"{100 * estimate.low:+.1f} to {100 * estimate.high:+.1f} %"


def target_words(kpi: Kpi) -> str:
    """`target 65.0 % by 2028-06-30 (primary), 48.0 % before the application`."""
    unit = unit_of(kpi)
    due = f" by {kpi.target_date}" if kpi.target_date else ""
    owner = f", {kpi.owner} answers for it" if kpi.owner else ", nobody answers for it"
    target = f"target {number(kpi.target, unit)}{due}" if kpi.target is not None else "no target"
    per = f" per {kpi.per}" if kpi.aggregate == "sum" else ""
    before = f"; {number(kpi.baseline, unit)}{per} before the application" if kpi.baseline is not None else ""
    return f"{target}{per if kpi.target is not None else ''}{before}{owner}"


def _lead(found: Iterable[KpiImpact]) -> Iterable[str]:
    for each in found:
        yield each.finding.sentence
        if each.usage.reason in {Reason.USAGE_WITHOUT_OUTCOME, Reason.USAGE_ONLY}:
            yield f"Anti-pattern, measuring success by usage instead of business outcomes: {each.usage.sentence}"


def _partial(found: KpiImpact) -> str:
    """What a partial period among those that are shown is."""
    if not any(period.state is State.COMPLETE and period.is_partial for period in found.periods[-MOST_PERIODS:]):
        return ""
    return f" A partial {found.by} is closed, but the log or the window begins within it: sums are not compared by it, and no trend has it."


def _kpi_lines(found: KpiImpact) -> Iterable[str]:
    kpi, unit = found.kpi, unit_of(found.kpi)
    yield f"{found.finding.reason}: {found.finding.sentence}"
    yield target_words(kpi)[0].upper() + target_words(kpi)[1:] + "."
    if found.overall is not None:
        e = found.overall
        ends = f"95 % interval {span(e.low, e.high, unit)}"
        if kpi.aggregate == "sum":
            few = f"; so few {found.by}s leave it wide" if e.low is not None and e.n < FEWEST else ""
            yield f"Mean of {counted(int(e.n), f'whole {found.by}')}: {number(e.value, unit)} ({ends} by how they differ{few})."
        else:
            yield f"Over all closed {found.by}s: {number(e.value, unit)} ({ends}, n {e.n:,.0f})."
    yield f"{found.usage.reason}: {found.usage.sentence}"
    cost = found.cost_per_outcome
    if cost is not None:
        priced = found.priced_share or 0.0
        share = f", of the {number(priced, 'share')} of sessions that are priced" if priced < 1 else ""
        yield f"Cost per successful outcome: {number(cost.value, 'USD')} ({interval(cost.low, cost.high, 'USD')}{share})."
    else:
        yield "Cost per successful outcome: not known; no complete period has a priced session and an outcome."
    yield _events(found.attributed, kpi)


def _events(found: Attributed, kpi: Kpi) -> str:
    begins = "their session's first request" if kpi.aggregate == "rate" else "their request"
    within = (
        f"within {format_duration(kpi.within)} of {begins}"
        if kpi.within
        else "at any time after it (no `within` is declared, so one may still change a closed period)"
    )
    parts = [(found.by_request, "by request"), (found.by_session, "by session"), (found.by_unit, "by unit")]
    ways = ", ".join(f"{n:,} {way}" for n, way in parts if n) or "none"
    lost = [
        (found.too_late, "came later"),
        (found.before, "came before their unit's first request"),
        (found.nobodys, "belong to nobody in the log"),
    ]
    rest = "".join(f"; {n:,} {why}" for n, why in lost if n)
    return f"Events “{kpi.outcome}” count {within}: {ways}{rest}."


def _period_row(kpi: Kpi, period: Period) -> tuple[Cell, ...]:
    unit = unit_of(kpi)
    return (
        f"{period.start:%Y-%m-%d}",
        number(period.value, unit),
        span(period.low, period.high, unit) if period.value is not None else DASH,
        f"{period.n:,}",
        f"{period.requests:,}",
        f"{period.outcomes:,}",
        number(period.cost_per_outcome, "USD") if period.state is State.COMPLETE else DASH,
        PARTIAL if period.state is State.COMPLETE and period.is_partial else STATES[period.state],
        STANDINGS[period.target],
    )


def _footer(impact: Impact) -> Iterable[str]:
    if impact.as_of is None:
        yield "The log holds nothing of this app yet."
        return
    chosen = [f"{name} is {' or '.join(values)}" for name, values in impact.where.items()]
    where = f", where {'; '.join(chosen)}" if chosen else ""
    yield f"The log is known until {impact.as_of:%Y-%m-%d %H:%M} UTC (snapshot {impact.snapshot}){where}."


def _effect_lines(effect: Effect, names: Mapping[str, str]) -> Iterable[str]:
    yield f"{effect.finding.reason}: {effect.finding.sentence}"
    yield _split_words(effect)
    yield _units_words(effect, names)
    if effect.tail is not None:
        t = effect.tail
        cut = f", so each is cut to {number(t.limit, effect.kpi.unit)}" if t.share_of_total >= TAIL_MATTERS and t.largest > t.limit else ""
        yield (
            f"Outliers: the top {100 * t.share_of_units:g} % ({counted(t.n, 'unit')}) hold {100 * t.share_of_total:.1f} % of the value"
            f"{cut}; "
            f"the largest is {number(t.largest, effect.kpi.unit)}."
        )
    if effect.variance is not None:
        v = effect.variance
        gain = f"theta {v.theta:.3g}, {100 * v.reduction:.1f} % less variance; " if v.theta is not None and v.reduction is not None else ""
        yield f"Pre-period of {v.days:g} days: {gain}{v.n_with_pre:,} units have one; {v.rule}."
    for side in (effect.candidate, effect.baseline):
        if side.cost_per_outcome is not None:
            yield f"Cost per successful outcome, {named(side.name, names)}: {number(side.cost_per_outcome, 'USD')}."


def _split_words(effect: Effect) -> str:
    if effect.design is Design.UNROUTED:
        return (
            "Split: no route divided these units, so there is no declared share to test; differences may have other causes than the bundle."
        )
    if effect.split is None:
        return "Split: no stretch has a share between 0 and 1, so there is nothing to test."
    s = effect.split
    shares = "; ".join(f"{100 * t.share:g} %: {t.candidate:,} of {t.n:,}" for t in effect.stretches)
    word = "broken" if s.is_broken else "as declared"
    return (
        f"Split {word}: {s.observed:,} of {s.n:,} units at the candidate, {s.expected:,.1f} expected ({p_words(s.p)}). By share: {shares}."
    )


def _units_words(effect: Effect, names: Mapping[str, str]) -> str:
    sides = "; ".join(f"{named(side.name, names)} {side.judged:,} of {side.units:,}" for side in (effect.candidate, effect.baseline))
    notes = [
        (effect.crossed, f"met both bundles and were {_CROSSED[effect.crossed_rule]}"),
        (effect.open_units, "are open: an event may still come"),
        (effect.one_sided, "stand where the other side has too few to compare with"),
    ]
    words = "".join(f"; {n:,} {why}" for n, why in notes if n)
    nameless = f"; {counted(effect.nameless, 'session')} without a unit left out" if effect.nameless else ""
    return f"Units that count: {sides}{words}{nameless}."


def _measured_row(effect: Effect, measured: Measured) -> tuple[Cell, ...]:
    unit, a, r = CHANGE_OF + unit_of(effect.kpi), measured.absolute, measured.relative
    return (
        measured.way,
        number(a.value, unit),
        span(a.low, a.high, unit),
        p_words(measured.absolute_p).removeprefix("p "),
        percent(r.value if r else None),
        percent_interval(r),
        p_words(measured.relative_p).removeprefix("p ") if measured.relative_p is not None else DASH,
    )


def _effect_footer(effect: Effect) -> Iterable[str]:
    if effect.as_of is not None:
        yield f"The log is known until {effect.as_of:%Y-%m-%d %H:%M} UTC (snapshot {effect.snapshot})."
