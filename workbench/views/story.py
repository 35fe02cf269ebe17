"""How the demo ends: what people did in the chat, what the log and the audit hold of it, and what to open next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import polars as pl

from workbench.ledger.audit import AuditEntry
from workbench.readiness.model import Review
from workbench.release.model import DecisionRecord, Release
from workbench.versions.model import Bundle
from workbench.views.audit import entries_text
from workbench.views.metrics import Described, metrics_text
from workbench.views.numbers import counted, number
from workbench.views.page import Page, Section, page_text
from workbench.views.release import history_text
from workbench.views.review import BANNERS
from workbench.views.tables import WIDTH

QUIET_ACTS = frozenset({"declare", "declare.people"})
"""Acts that the demo's audit list leaves out: the declarations at the start."""


class Story(Protocol):
    """What a view needs to know of the demo's run."""

    @property
    def app(self) -> str: ...
    @property
    def bundles(self) -> Sequence[Bundle]: ...
    @property
    def baseline(self) -> Bundle: ...
    @property
    def reviews(self) -> Sequence[Review]: ...
    @property
    def releases(self) -> Sequence[Release]: ...
    @property
    def transcript(self) -> Sequence[str]: ...
    @property
    def audit(self) -> Sequence[AuditEntry]: ...
    @property
    def moves(self) -> Sequence[DecisionRecord]: ...
    @property
    def by_arm(self) -> pl.DataFrame: ...
    @property
    def n_talks(self) -> int: ...
    @property
    def n_requests(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def faults(self) -> Sequence[str]: ...


def story_text(story: Story, *, metrics: Sequence[Described], home: Path | None, width: int = WIDTH) -> str:
    """The chat, the numbers by arm, the audit, the reviews with their deciding gates, and the next commands.

    Args:
        story: what the run left.
        metrics: those of its numbers by arm, in order.
        home: the workspace, when commands must name it; None when they find it by themselves.
        width: columns of the terminal.
    """
    names = {bundle.bundle_id: bundle.name for bundle in story.bundles}
    acts = [entry for entry in story.audit if entry.act not in QUIET_ACTS]
    inner = width - 2
    page = Page(
        title=f"The shop's assistant `{story.app}`: {counted(len(story.bundles), 'bundle')}, {counted(story.n_talks, 'talk')}, "
        f"{counted(story.n_requests, 'request')}, in {story.seconds:.0f} s",
        sections=(
            Section(title="In the chat", literal="\n".join(story.transcript).strip()),
            Section(title="What the log says of the arms", literal=metrics_text(story.by_arm, metrics=metrics, names=names, width=inner)),
            Section(title="What the audit holds", literal=entries_text(acts, names=names, width=inner)),
            *_moves(story, names),
            Section(title="Releases", literal=history_text(story.app, story.releases, width=inner)),
            *(_section(review, story) for review in story.reviews),
            *((Section(title="Not as told", lines=tuple(story.faults)),) if story.faults else ()),
            Section(title="What to open next", literal="\n".join(_commands(story, home))),
        ),
    )
    return page_text(page, width=width)


def _moves(story: Story, names: Mapping[str, str]) -> tuple[Section, ...]:
    """What the controller did by itself: to which candidate, at which share, with how many users exposed, and why."""
    releases = {release.release_id: release for release in story.releases}
    lines = []
    for move in story.moves:
        release, judgement = releases[move.release_id], move.inputs["judgement"]
        share = release.plan.steps[move.step].share if release.plan and move.step >= 0 else None
        name = names.get(release.bundle_id or "", "?")
        exposed = counted(judgement["units_candidate"], "user") if judgement else "unknown users"
        lines.append(f"{move.decision} {name} at {number(share, 'share')}, {exposed} exposed: {move.sentence} ({move.decision_id})")
    return (Section(title="What the controller did", lines=tuple(lines)),) if lines else ()


def _section(review: Review, story: Story) -> Section:
    n_evidence = len({evidence_id for gate in review.gates for evidence_id in gate.evidence_ids})
    rests = f"Rests on {counted(n_evidence, 'evidence record')} of log snapshot {review.snapshot}."
    return Section(
        title=f"{BANNERS[review.verdict]}   {review.bundle_name} against {story.baseline.name}",
        lines=tuple(line for line in (review.sentence, review.comparison, rests) if line),
    )


def _commands(story: Story, home: Path | None) -> list[str]:
    """The commands that show more, each under what it shows."""
    worst = story.reviews[0].bundle_name if story.reviews else story.baseline.name
    last = story.reviews[-1].bundle_name if story.reviews else story.baseline.name
    app, base = story.app, story.baseline.name
    shown = [
        (f"workbench readiness {app} {worst} --baseline {base}", "the whole review of the bundle that was stopped"),
        (f"workbench release status {app}", "what serves now; `workbench release history` has every attempt"),
        *(
            [
                (
                    f"workbench release explain {story.moves[0].decision_id}",
                    "why the controller did what it did; `replay` makes all of it again",
                )
            ]
            if story.moves
            else []
        ),
        (f"workbench metrics show success_rate latency_p95 --by arm,bundle --app {app}", "the numbers behind it"),
        (f"workbench slo show {app}", "what was promised in service, and how much of the error budget is left"),
        (f"workbench impact {app} --release", "what the new bundle changed in the business"),
        (f"workbench bundle diff {app}@{base} {app}@{worst}", "what changed, with the prompt's text"),
        (f"workbench report readiness {app} --bundle {last} --baseline {base} --html review.html", "a page to send to people"),
        ("workbench-bot console", "the chat, for yourself: `/release help`"),
        ("workbench serve", "the gateway; `workbench key create` makes the key that its callers need"),
        ("workbench lab", "the notebooks: readiness review, release watch, operations, business impact"),
        ("workbench audit verify", "the record of who did what"),
    ]
    place = [f"export WORKBENCH_HOME={shlex.quote(str(home))}"] if home is not None else []
    return [*place, *(line for command, meaning in shown for line in (f"# {meaning}", command))]
