"""How the demo ends: what happened, on which evidence, and what to open next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from workbench.readiness.model import Review
from workbench.versions.model import Bundle
from workbench.views.numbers import counted
from workbench.views.page import Page, Section, page_text
from workbench.views.review import BANNERS
from workbench.views.tables import WIDTH


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
    def n_talks(self) -> int: ...
    @property
    def n_requests(self) -> int: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def faults(self) -> Sequence[str]: ...


def story_text(story: Story, *, home: Path | None, width: int = WIDTH) -> str:
    """The reviews with their deciding gates, and the next commands.

    Args:
        story: what the run left.
        home: the workspace, when commands must name it; None when they find it by themselves.
        width: columns of the terminal.
    """
    page = Page(
        title=f"The shop's assistant `{story.app}`: {counted(len(story.bundles), 'bundle')}, {counted(story.n_talks, 'talk')}, "
        f"{counted(story.n_requests, 'request')}, {story.n_rows:,} log rows, in {story.seconds:.0f} s",
        sections=(
            *(_section(review, story) for review in story.reviews),
            *((Section(title="Not as told", lines=tuple(story.faults)),) if story.faults else ()),
            Section(title="What to open next", literal="\n".join(_commands(story, home))),
        ),
    )
    return page_text(page, width=width)


def _section(review: Review, story: Story) -> Section:
    n_evidence = len({evidence_id for gate in review.gates for evidence_id in gate.evidence_ids})
    rests = f"Rests on {counted(n_evidence, 'evidence record')} of log snapshot {review.snapshot}."
    return Section(
        title=f"{BANNERS[review.verdict]}   {review.bundle_name} against {story.baseline.name}",
        lines=tuple(line for line in (review.sentence, review.comparison, rests) if line),
    )


def _commands(story: Story, home: Path | None) -> list[str]:
    """The commands that show more, each under what it shows."""
    first = story.reviews[0].bundle_name if story.reviews else story.baseline.name
    worst = story.reviews[1].bundle_name if len(story.reviews) > 1 else first
    app, base = story.app, story.baseline.name
    shown = [
        (f"workbench readiness {app} {worst} --baseline {base}", "the whole review of the bundle that failed"),
        (f"workbench metrics show success_rate latency_p95 violation_rate --by bundle --app {app}", "the numbers behind it"),
        (f"workbench bundle diff {app}@{base} {app}@{worst}", "what changed, with the prompt's text"),
        (f"workbench report readiness {app} --bundle {first} --baseline {base} --html review.html", "a page to send to people"),
        ("workbench lab", "the notebook 01_readiness_review.ipynb"),
        ("workbench audit verify", "the record of who did what"),
    ]
    place = [f"export WORKBENCH_HOME={shlex.quote(str(home))}"] if home is not None else []
    return [*place, *(line for command, meaning in shown for line in (f"# {meaning}", command))]
