"""What a notebook imports: open a workspace, show the nouns. `open` makes IPython display reviews, bundles and differences as pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import UsageError

if TYPE_CHECKING:
    from workbench.notebook.handoff_panel import HandoffPanel
    from workbench.notebook.operations_page import Operations
    from workbench.notebook.release_page import ReleaseWatch
    from workbench.observability.impact_model import Effect, KpiImpact
    from workbench.readiness.model import Review
    from workbench.versions.model import BundleDiff
    from workbench.views.page import Page
    from workbench.views.theme import Drawing
    from workbench.workspace import Workspace

__all__ = ["changes", "handoffs", "impact_figure", "open", "operations", "part", "releases"]


def open(home: str | Path | None = None) -> Workspace:  # noqa: A001  # `notebook.open()` reads as what it does
    """The workspace in `home`, else in `$WORKBENCH_HOME`, else in `./.workbench`; it must exist.

    Raises:
        UnknownSubject: there is no workspace.
    """
    from workbench.notebook.display import register  # noqa: PLC0415  # importing this module stays fast
    from workbench.workspace import Workspace  # noqa: PLC0415

    register()
    return Workspace.open(home, create=False, via="notebook")


def part(review: Review, name: str) -> Page:
    """One part of a review's page: verdict, comparison, measured, declared, change, anti-patterns or provenance.

    Raises:
        UsageError: there is no such part.
    """
    from workbench.views.review import PARTS, part_of  # noqa: PLC0415

    if name not in PARTS:
        raise UsageError(f"part {name!r}", seen="a review has no such part", needed=f"one of {', '.join(PARTS)}")
    return part_of(review, name)


def changes(ws: Workspace, review: Review) -> BundleDiff | Page:
    """What differs between the reviewed bundle and its baseline; a sentence where there is nothing to compare with."""
    from workbench.views.page import Page  # noqa: PLC0415

    if review.baseline_id is None:
        return Page(lead=("There is no baseline to compare with.",))
    if review.baseline_id not in {known.bundle.bundle_id for known in ws.versions.list(review.app)}:
        return Page(lead=(f"The log names the baseline {review.baseline_id}, but it was never registered, so its parts are unknown.",))
    return ws.versions.diff(review.baseline_id, review.bundle_id)


def handoffs(ws: Workspace, app: str | None = None) -> HandoffPanel:
    """The handoff queue of one app, or of every app that you may look at, with buttons to decide.

    Raises:
        UnknownSubject: nobody registered the app.
        NotPermitted: you may not look at it.
    """
    from workbench.notebook.handoff_panel import HandoffPanel  # noqa: PLC0415

    return HandoffPanel(ws, app)


def operations(ws: Workspace, app: str, *, window: str = "28d", grain: str | None = None) -> Operations:
    """The figures of one app over a stretch of time, which ends now, or with the newest request where that is earlier.

    Args:
        ws: the workspace.
        app: the application.
        window: how long a stretch, for example `7d`.
        grain: width of a step; by default hours up to two weeks of traffic, else days.

    Raises:
        UnknownSubject: nobody registered the app.
        UsageError: the window is no stretch of time.
        NotPermitted: you may not look at it.
    """
    from workbench.notebook.operations_page import Operations  # noqa: PLC0415

    return Operations(ws, app, window=window, grain=grain)


def releases(ws: Workspace, app: str, release: str | None = None) -> ReleaseWatch:
    """The releases of one app, and one of them closely: by default the one under way, else the newest that was watched.

    Raises:
        UnknownSubject: there is no such app or release.
        NotPermitted: you may not look at it.
    """
    from workbench.notebook.release_page import ReleaseWatch  # noqa: PLC0415

    return ReleaseWatch(ws, app, release)


def impact_figure(noun: KpiImpact | Effect, name: str = "effect") -> Drawing:
    """A figure of business impact: `kpi`, `usage` or `waterfall` of a KPI, `effect` of an effect.

    Raises:
        UsageError: there is no such figure.
    """
    from workbench.notebook import figures  # noqa: PLC0415  # the plotting library takes half a second

    return figures.impact_figure(noun, name)
