"""How the controller sees a release, for people: arms, evidence against its limits, what happens next, and why something was decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from workbench.readiness.wording import span_words
from workbench.release.futility import forecast
from workbench.release.judge_kinds import LOSSES, Kind, Role
from workbench.release.model import DecisionRecord, Objection, Release, ReleaseStatus, Watch
from workbench.release.plan_clock import SHADOW
from workbench.views.numbers import DASH, count_cell, number
from workbench.views.page import Chip, Column, Page, Section, page_text
from workbench.views.tables import WIDTH

FRESH_S = 10.0
"""Age up to which data are fresh enough to go on."""
UNWATCHED_S = 30.0
"""Age of the newest look after which nobody watches."""
DECISIONS: Mapping[str, Chip] = {
    "PROMOTE": Chip(word="PROMOTE", shape="▲", tone="good"),
    "CONTINUE": Chip(word="CONTINUE", shape="▶", tone="open"),
    "HOLD": Chip(word="HOLD", shape="‖", tone="open"),
    "ROLLBACK": Chip(word="ROLLBACK", shape="↩", tone="bad"),
}
_METRICS = (
    ("metric", False),
    ("role", False),
    ("estimate", True),
    ("interval", True),
    ("harmful above", True),
    ("safe below", True),
    ("harm", True),
    ("safe", True),
    ("n stable", True),
    ("n candidate", True),
)


def watch_sections(status: ReleaseStatus) -> tuple[Section, ...]:
    """What the controller last saw of the release under way; nothing where there is no canary."""
    release, watch = status.release, status.watch
    if release is None or not release.is_serving:
        return ()
    if watch is None:
        return (Section(title="Controller", lines=("No controller has looked at this canary yet: `workbench serve` runs one.",)),)
    return (Section(title="Controller", lines=tuple(_lines(status, release, watch))), *evidence_sections(watch.judgement))


def _lines(status: ReleaseStatus, release: Release, watch: Watch) -> Iterable[str]:
    yield f"{DECISIONS[watch.decision]}: {watch.sentence}"
    looked_s = (status.at - watch.looked_at).total_seconds()
    if looked_s > UNWATCHED_S:
        yield f"Nobody watches: the last look was {span_words(timedelta(seconds=looked_s))} ago. `workbench serve` runs a controller."
    yield _age(watch.data_at, status.at)
    step = release.present_stage
    if step is not None:
        what = "shadow stage" if release.is_shadowed else "step"
        yield f"The {what} has counted {span_words(timedelta(seconds=watch.run_s))} of {span_words(step.at_least)}."
    if release.plan is not None and watch.judgement is not None and watch.step == release.step:
        expected = forecast(release.plan, watch.judgement, step=watch.step, run_s=watch.run_s, canary_s=watch.canary_s)
        if expected is not None:
            yield f"{expected.sentence[:1].upper()}{expected.sentence[1:]}."
    if watch.decision_id:
        yield f"Why: `workbench release explain {watch.decision_id}`."


def _age(data_at: datetime | None, at: datetime) -> str:
    if data_at is None:
        return "The log of this release was not read yet."
    age_s = (at - data_at).total_seconds()
    if age_s < -FRESH_S:
        return f"Its data are dated {-age_s:.0f} s in the future: two clocks differ, and it is held meanwhile."
    age_s = max(0.0, age_s)
    stale = "" if age_s <= FRESH_S else f": it is held while they are older than {FRESH_S:.0f} s"
    return f"Its data are {age_s:.0f} s old{stale}."


def evidence_sections(judgement: Mapping[str, Any] | None) -> tuple[Section, ...]:
    """The arms and each metric's evidence, from a judgement as JSON."""
    if judgement is None:
        return ()
    if judgement.get("kind") == "shadow":
        return (_shadow_section(judgement),)
    limit, safe_limit = judgement["e_harm_limit"], judgement["e_safe_limit"]
    evidence = (
        f"Evidence of harm {_e(judgement['e_harm'])} of {_e(limit)}{_blame(judgement)}; of a broken split {_e(judgement['e_split'])} "
        f"and of missing results {_e(judgement['e_missing'])}, of {_e(judgement['e_split_limit'])}."
    )
    arms = (
        f"Users exposed to the candidate: {judgement['units_candidate']:,}; on the stable bundle: {judgement['units_stable']:,}.",
        evidence,
    )
    rows = tuple(_metric(metric) for metric in judgement["metrics"])
    refused = [f"{metric['name']} {metric['n_refused']:,}" for metric in judgement["metrics"] if metric["n_refused"]]
    table = Section(
        title="Evidence",
        lines=(
            *arms,
            *(
                [f"Refused, as they are no number of this metric, of another currency, or came too late: {', '.join(refused)}."]
                if refused
                else []
            ),
        ),
        columns=tuple(Column(title=title, is_number=is_number) for title, is_number in _METRICS) if rows else (),
        rows=rows,
        note=f"harm: evidence against the first margin (‖ holds); safe: for the second, proven at {_e(safe_limit)}. "
        "It is valid at every look."
        if rows
        else "",
    )
    return (table,)


def _shadow_section(judgement: Mapping[str, Any]) -> Section:
    """The copies beside their requests."""
    columns = ("units with", "compared", "stable", "candidate", "at least", "taken back above")
    rows = tuple(
        (
            rate["name"],
            *(count_cell(rate[name]) for name in ("n", "stable", "shadow")),
            *(_figure(rate[name]) for name in ("shadow_low", "limit")),
        )
        for rate in judgement["rates"]
    )
    left_out = f"; {judgement['n_withheld']:,} copies are left out, as a tool was withheld in them" if judgement["n_withheld"] else ""
    return Section(
        title="Evidence",
        lines=(
            f"Users whose requests the candidate answered as copies: {judgement['units_candidate']:,}, none of whom heard it{left_out}.",
        ),
        columns=tuple(Column(title=title, is_number=place > 0) for place, title in enumerate(columns)) if rows else (),
        rows=rows,
        note=f"The rule: {judgement['rule']} ({judgement['margin']:g})." if rows else "",
    )


def step_words(step: int) -> str:
    """A step as people count them, or the shadow stage before the first."""
    return "shadow" if step == SHADOW else str(step + 1)


def _blame(judgement: Mapping[str, Any]) -> str:
    return f", most of it from {judgement['blame']}" if judgement["blame"] else ""


_OF = {
    Kind.REACHED: "reached, stable/candidate",
    Kind.MOSTLY_REACHED: "missed, candidate/stable; safe: reached, stable/candidate",
    Kind.MISSED: "missed, candidate/stable",
}
"""What a ratio is of, where its name does not say it."""


def _metric(metric: Mapping[str, Any]) -> tuple[str, ...]:
    kind, unit = Kind(metric["kind"]), metric.get("unit")
    of = _OF.get(kind) or (f"loss, {unit}" if unit else "")
    harm, safe = (DASH if kind is Kind.AMOUNT else _e(metric[name]) for name in ("e_harm", "e_safe"))  # of an amount the interval decides
    is_holding = metric["is_harmful"] and metric["role"] == Role.KPI
    return (
        f"{metric['name']} ({of})" if of else metric["name"],
        metric["role"],
        _figure(metric["estimate"]),
        f"{_figure(metric['low'], '-∞' if kind in LOSSES else '0')} to {_figure(metric['high'], '∞')}",
        _figure(metric["harm"]),
        _figure(metric["safe"]),
        f"{harm}{' ‖' if is_holding else ''}",
        f"{safe}{' ✓' if metric['is_safe'] else ''}",
        count_cell(metric["n_stable"]),
        count_cell(metric["n_candidate"]),
    )


def _figure(value: float | str | None, absent: str = DASH) -> str:
    return absent if value is None else f"{float(value):.3g}"


def _e(value: float | str) -> str:
    return f"{float(value):.3g}"


def decisions_text(release_id: str, decisions: Sequence[DecisionRecord], *, width: int = WIDTH) -> str:
    """What the controller decided about a release, for a terminal."""
    return page_text(decisions_page(release_id, decisions), width=width)


def decisions_page(release_id: str, decisions: Sequence[DecisionRecord]) -> Page:
    """What the controller decided about a release, the newest first."""
    columns = ("decision", "at (UTC)", "step", "what", "reason", "in words")
    rows = tuple(
        (
            each.decision_id,
            f"{each.decided_at:%Y-%m-%d %H:%M:%S}",
            step_words(each.step),
            DECISIONS[each.decision],
            each.reason,
            each.sentence,
        )
        for each in reversed(decisions)
    )
    return Page(
        title=f"Decisions about {release_id}",
        lead=() if rows else ("The controller decided nothing about it.",),
        sections=(Section(title="", columns=tuple(Column(title=title) for title in columns), rows=rows),) if rows else (),
    )


def decision_text(decision: DecisionRecord, *, width: int = WIDTH) -> str:
    """Why something was decided, for a terminal."""
    return page_text(decision_page(decision), width=width)


def decision_page(decision: DecisionRecord) -> Page:
    """Why something was decided, from what was stored with it."""
    inputs = decision.inputs
    judgement = inputs["judgement"]
    lines = [
        f"The release was {inputs['state']} at step {step_words(decision.step)}, version {decision.release_version}.",
        f"The step had counted {_seconds(inputs['run_s'])}, the canary {_seconds(inputs['canary_s'])}.",
        *(f"It waited: {wait}." for wait in inputs["waits"]),
        *(f"In the way: {Objection(**each)}." for each in inputs["objections"]),
        *([f"It could not be judged: {inputs['fault']}."] if inputs["fault"] else []),
        f"What followed: {inputs['act'] or 'nothing was changed'}.",
    ]
    advice = [f"The judge advised {judgement['decision']} ({judgement['reason']}): {judgement['sentence']}."] if judgement else []
    water = judgement["high_water"] if judgement else None
    read = f"the log up to batch {water['batch_id']}, row {water['seq']}" if water else "no row of the log"
    if decision.step == SHADOW:
        read = "counts of its copies, which are not made again"
    whole = "its inputs are as they were stored" if decision.is_whole else "its INPUTS WERE ALTERED after they were stored"
    return Page(
        title=f"{decision.decision_id}: {decision.decision}",
        banner=DECISIONS[decision.decision],
        lead=(f"{decision.sentence} ({decision.reason})", f"Decided at {decision.decided_at:%Y-%m-%d %H:%M:%S} UTC."),
        sections=(Section(title="On what", lines=(*advice, *lines)), *evidence_sections(judgement)),
        footer=(f"It rests on {read}; {whole}.",),
    )


def history_markdown(app: str, releases: Sequence[Release], decisions: Mapping[str, Sequence[DecisionRecord]]) -> str:
    """Every release of the app with what the controller decided, as Markdown."""
    lines = [f"# Releases of {app}", ""]
    for release in reversed(releases):
        share = release.plan.steps[release.step].share if release.plan and release.step is not None else None
        reached = f", reached a share of {number(share, 'share')}" if share is not None else ""
        lines += [f"## {release.release_id}: {release.kind} of {_md(release.bundle_id or 'no bundle')}, {release.state}{reached}", ""]
        lines += [f"{release.requested_by}, {release.requested_at:%Y-%m-%d %H:%M} UTC: {_md(release.reason)}", ""]
        lines += [_md(release.note), ""] if release.note else []
        found = decisions.get(release.release_id, ())
        if found:
            lines += ["| decision | at (UTC) | step | what | why |", "|---|---|---|---|---|"]
            lines += [
                f"| {each.decision_id} | {each.decided_at:%Y-%m-%d %H:%M:%S} | {step_words(each.step)} | {each.decision} "
                f"| {_md(each.sentence)} |"
                for each in found
            ]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _md(text: str) -> str:
    """Words that somebody wrote, which are no Markdown."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in text)


def _seconds(seconds: float) -> str:
    return span_words(timedelta(seconds=seconds))
