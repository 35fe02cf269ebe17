"""Releases for people: where one stands, what serves, what happens next, and what happened before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workbench.ledger.audit import AuditEntry
from workbench.release.followers import Followers
from workbench.release.model import Approval, BrokenGlass, Kind, Lock, LockKind, Release, ReleaseStatus, State
from workbench.spec.base import format_duration
from workbench.spec.plan import Step
from workbench.views.broken_glass import alone_sections
from workbench.views.numbers import DASH, count_cell, counted, number
from workbench.views.page import Chip, Column, Page, Section, page_text
from workbench.views.release_watch import watch_sections
from workbench.views.tables import WIDTH, shown

STATES: Mapping[State, Chip] = {
    State.DRAFT: Chip(word="DRAFT", shape="○", tone="quiet"),
    State.READY: Chip(word="READY", shape="◔", tone="open"),
    State.APPROVED: Chip(word="APPROVED", shape="◑", tone="open"),
    State.CANARY: Chip(word="CANARY", shape="◕", tone="open"),
    State.HELD: Chip(word="HELD", shape="‖", tone="open"),
    State.PROMOTED: Chip(word="PROMOTED", shape="●", tone="good"),
    State.ROLLED_BACK: Chip(word="ROLLED BACK", shape="↩", tone="bad"),
    State.ABORTED: Chip(word="ABORTED", shape="✕", tone="bad"),
}
WITHOUT_BUNDLE: Mapping[str, str] = {"fallback": "the app's declared fallback", "off": "nothing: the app is off"}
SHORT = 12
"""Hex digits of a digest that are shown."""


def status_text(status: ReleaseStatus, *, width: int = WIDTH) -> str:
    """What serves the app now and where its release stands, for a terminal."""
    return page_text(status_page(status), width=width)


def history_text(app: str, releases: Sequence[Release], alone: Sequence[BrokenGlass] = (), *, width: int = WIDTH) -> str:
    """Every release of the app, for a terminal."""
    return page_text(history_page(app, releases, alone), width=width)


def lock_text(lock: Lock) -> str:
    """Who keeps whom from releasing."""
    what = "holds the lock on releases of" if lock.kind is LockKind.LOCK else "froze releases of"
    return shown(f"{lock.holder} {what} {lock.app} since {lock.since:%Y-%m-%d %H:%M} UTC: {lock.reason}")


def release_text(release: Release) -> str:
    """Where a release stands, for a terminal."""
    return shown(release_sentence(release))


def release_sentence(release: Release) -> str:
    """Where a release stands, or what it did, in one sentence."""
    bundle, before = _named(release.bundle_id, release.names), _named(release.previous_stable, release.names)
    if release.kind is Kind.ROLLBACK:
        return f"{release.release_id}: {release.requested_by} rolled {release.app} back from {before} to {bundle}: {release.reason}"
    if release.kind is Kind.ADOPT:
        return f"{release.release_id}: {release.requested_by} named {bundle} as what serves {release.app}: {release.reason}"
    note = f": {release.note}" if release.note else ""
    return f"{release.release_id}, {bundle}, is {STATES[release.state].word}{_at_step(release)}{note}"


def _at_step(release: Release) -> str:
    step, n = release.present_step, len(release.plan.steps) if release.plan else 0
    if release.is_shadowed and (stage := release.shadow_stage):
        return f" in its shadow stage, its candidate answers copies of {number(stage.share, 'share')} of the units' requests"
    return f" at step {(release.step or 0) + 1} of {n}, its candidate serves {number(step.share, 'share')} of the units" if step else ""


def status_page(status: ReleaseStatus) -> Page:
    """What serves the app now, the steps of its release, who decided what, and what happens next."""
    release = status.release
    if release is None:
        return Page(
            title=f"{status.app}: no release yet",
            lead=("Nothing of this app is released by the workbench.",),
            sections=tuple(_locked(status)),
            footer=(_drawn(status),),
        )
    return Page(
        title=_title(release),
        banner=_banner(release),
        lead=(_finding(status, release), f"{release.requested_by} asked for it: {release.reason}"),
        sections=tuple(
            section
            for section in (
                _serving(status),
                _steps(release, status.units),
                Section(title="What its plan leaves open", lines=status.left_open),
                *watch_sections(status),
                _decisions(status.approvals),
                *alone_sections(status.broken_glass, now=status.at),
                *_locked(status),
                Section(title="What happens next", lines=status.next_steps),
            )
            if section.lines or section.rows
        ),
        footer=(*_provenance(release), _drawn(status)),
    )


def release_page(release: Release) -> Page:
    """A release by itself, for example one that ended before the newest."""
    return Page(
        title=_title(release),
        banner=_banner(release),
        lead=(release_sentence(release), f"{release.requested_by} asked for it: {release.reason}"),
        sections=tuple(section for section in (_steps(release, None),) if section.rows),
        footer=_provenance(release),
    )


def history_page(app: str, releases: Sequence[Release], alone: Sequence[BrokenGlass] = ()) -> Page:
    """Every release of the app, the newest first, with what was let go alone."""
    columns = ("release", "kind", "state", "bundle", "instead of", "asked for (UTC)", "by whom, why, and how it ended")
    rows = tuple(
        (
            release.release_id,
            str(release.kind),
            _banner(release),
            _cell(release.bundle_id, release.names),
            _cell(release.previous_stable, release.names),
            f"{release.requested_at:%Y-%m-%d %H:%M}",
            "; ".join(part for part in (f"{release.requested_by}: {release.reason}", release.note) if part),
        )
        for release in reversed(releases)
    )
    return Page(
        title=f"Releases of {app}",
        lead=() if rows else ("Nothing of this app was released yet.",),
        sections=(Section(title="", columns=tuple(Column(title=title) for title in columns), rows=rows), *alone_sections(alone))
        if rows
        else (),
    )


def transition_line(entry: AuditEntry) -> str:
    """One change of a release, from its audit entry: when, who, what and why."""
    detail = entry.detail
    who = detail.get("person") or entry.actor
    return f"{entry.time:%Y-%m-%d %H:%M} UTC, {who}: {_change(entry.act, detail)}"


def _change(act: str, detail: Mapping[str, Any]) -> str:
    bundle, share = detail.get("bundle") or "no bundle", number(detail.get("share"), "share")
    why = f": {detail['reason']}" if detail.get("reason") else ""
    early = f", early: {detail['early']}" if detail.get("early") else ""
    followed = f", decision {detail['decision']}" if detail.get("decision") else ""
    served = "its bundle serves everybody" if detail.get("to") == State.PROMOTED else f"its candidate serves {share} of the units"
    words = {
        "release.start": f"a release of {bundle}{why}",
        "release.adopt": f"{bundle} serves the app already{why}",
        "release.ready": "ready: its readiness review is GO",
        "release.stop": str(detail.get("reason")),
        "release.approve": f"approved until {str(detail.get('expires_at')).replace('T', ' '):.16} UTC",
        "release.reject": f"rejected{why}",
        "release.break_glass": _broken_words(detail) if act == "release.break_glass" else "",
        "release.reviewed": f"reviewed that it went alone: {str(detail.get('verdict')).replace('_', ' ')}{why}",
        "release.promote": f"promoted, {served}{early}{followed}",
        "release.hold": f"held{why}",
        "release.resume": f"resumed, {served}",
        "release.abort": f"aborted{why}",
        "rollback": f"rolled back{f' to {bundle}' if detail.get('from') is None else ''}{why}",
    }
    return words.get(act, f"{act}{why}")


def _broken_words(detail: Mapping[str, Any]) -> str:
    """A release that went alone, for those who have to hear of it at once."""
    until, due = (str(detail.get(name)).replace("T", " ")[:16] for name in ("expires_at", "review_due_at"))
    told = ", ".join(detail.get("called") or ()) or "nobody is on call and nobody else may approve"
    return (
        f"BROKE THE GLASS: approved alone, without a second person, until {until} UTC: {detail.get('reason')}; "
        f"to be told: {told}; a second person reviews it until {due} UTC"
    )


def _title(release: Release) -> str:
    what = {Kind.RELEASE: "release of", Kind.ADOPT: "in service already:", Kind.ROLLBACK: "rollback to"}[release.kind]
    return f"{release.release_id}: {what} {_named(release.bundle_id, release.names)}"


def _banner(release: Release) -> Chip:
    return STATES[State.ROLLED_BACK if release.kind is Kind.ROLLBACK else release.state]


def _finding(status: ReleaseStatus, release: Release) -> str:
    note = f"; {release.note}" if release.note else ""
    if release.is_serving:
        n = len(release.plan.steps) if release.plan else 0
        if release.is_shadowed:
            candidate = _named(release.bundle_id, release.names)
            share = number(release.shadow_stage.share, "share") if release.shadow_stage else "no"
            return f"{candidate} answers copies of {share} of the units' requests, which nobody hears{note}"
        candidate = _named(status.candidate, status.names)
        return f"{candidate} serves {number(status.share, 'share')} of the units, at step {(release.step or 0) + 1} of {n}{note}"
    return f"{_named(status.stable, status.names)} serves everybody{note}" if status.stable else f"Users get {_nothing(status)}{note}"


def _named(bundle_id: str | None, names: Mapping[str, str]) -> str:
    if bundle_id is None:
        return "no bundle"
    return f"{names[bundle_id]} ({bundle_id})" if bundle_id in names else bundle_id


def _cell(bundle_id: str | None, names: Mapping[str, str]) -> str:
    return DASH if bundle_id is None else _named(bundle_id, names)


def _serving(status: ReleaseStatus) -> Section:
    columns = (Column(title="arm"), Column(title="bundle"), Column(title="share of units", is_number=True))
    rows = [("stable", _named(status.stable, status.names) if status.stable else _nothing(status), number(1 - status.share, "share"))]
    if status.candidate:
        rows.append(("candidate", _named(status.candidate, status.names), number(status.share, "share")))
    return Section(title="Serving now", columns=columns, rows=tuple(rows))


def _nothing(status: ReleaseStatus) -> str:
    return WITHOUT_BUNDLE[status.without_stable] if status.without_stable else "nothing of the workbench"


def _steps(release: Release, units: int | None) -> Section:
    """The plan's steps, with the present one marked."""
    columns = ("", "step", "share of units", "at least", "units needed", "units seen")
    steps = release.plan.steps if release.plan and release.kind is Kind.RELEASE else ()
    rows = _shadow_row(release, units) + tuple(
        (
            _mark(release, place),
            str(place + 1),
            number(step.share, "share"),
            format_duration(step.at_least),
            _units_needed(step),
            count_cell(units) if release.is_serving and place == release.step else "",
        )
        for place, step in enumerate(steps)
    )
    return Section(title="Steps", columns=tuple(Column(title=title, is_number=title not in ("", "step")) for title in columns), rows=rows)


def _shadow_row(release: Release, units: int | None) -> tuple[tuple[str, ...], ...]:
    """The stage before the first step, where the plan has one."""
    stage = release.shadow_stage
    if stage is None:
        return ()
    is_over = release.step is not None or release.state is State.PROMOTED
    mark = "✓" if is_over else "▶" if release.is_shadowed else {State.ROLLED_BACK: "↩"}.get(release.state, "·")
    seen = count_cell(units) if release.is_shadowed else ""
    share = f"{number(stage.share, 'share')} copied"
    return ((mark, "shadow", share, format_duration(stage.at_least), count_cell(stage.min_units), seen),)


def _mark(release: Release, place: int) -> str:
    """Done, present or to come; a canary that ended marks the step at which it did."""
    if release.step is None or place > release.step:
        return "·"
    if place < release.step or release.state is State.PROMOTED:
        return "✓"
    return {State.ROLLED_BACK: "↩", State.ABORTED: "✕"}.get(release.state, "▶")


def _units_needed(step: Step) -> str:
    return count_cell(step.min_units) if step.min_units else DASH


_DECIDED = {(True, False): "approved", (True, True): "broke the glass and alone approved", (False, False): "rejected"}


def _decisions(approvals: Iterable[Approval]) -> Section:
    lines = (
        f"{approval.person} {_DECIDED[approval.is_approved, approval.is_alone]} it at {approval.decided_at:%Y-%m-%d %H:%M} UTC"
        + (f", for use until {approval.expires_at:%H:%M} UTC" if approval.is_approved else "")
        for approval in approvals
    )
    return Section(title="Approval", lines=tuple(lines))


def _locked(status: ReleaseStatus) -> Iterable[Section]:
    lines = [lock_text(status.lock)] if status.lock else []
    lines += [status.freeze] if status.freeze else []
    return (Section(title="Locks", lines=tuple(lines)),) if lines else ()


def _provenance(release: Release) -> tuple[str, ...]:
    review = f"review {_short(release.review_id)}, plan {_short(release.plan_digest)}; " if release.review_id else ""
    return (f"Asked for at {release.requested_at:%Y-%m-%d %H:%M} UTC; {review}version {release.version}.",)


def _drawn(status: ReleaseStatus) -> str:
    route = f"route version {status.route_version}" if status.route_version is not None else "no route yet"
    good = f"; a rollback of what is stable restores {_named(status.last_good, status.names)}" if status.last_good else ""
    return f"As of {status.at:%Y-%m-%d %H:%M} UTC; {route}{_followed(status.followers)}{good}."


def _followed(followers: Followers | None) -> str:
    """How many gateways serve by the route, for people who have to know whether what they see is what users get."""
    if followers is None or not (followers.live or followers.silent):
        return ""
    silent = f", {len(followers.silent)} not heard of" if followers.silent else ""
    return f", by which {len(followers.current)} of {counted(len(followers.live), 'gateway')} serve{silent}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT]
