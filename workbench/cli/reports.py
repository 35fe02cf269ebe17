"""`workbench report`: the same values as a file for people without a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.impact import EXIT_OF_ANSWER, By, Kpi, Pair, Span, Unrouted, bundle_names, effects_of
from workbench.cli.readiness import EXIT_OF_VERDICT
from workbench.cli.shared import terminal_width

group = typer.Typer(help="Self-contained files to send to people.", no_args_is_help=True)


@group.callback()
def _reports() -> None:
    """Self-contained files to send to people."""


@group.command("readiness")
def readiness(
    app: Annotated[str, typer.Argument(help="The app.")],
    html: Annotated[Path, typer.Option("--html", help="File to write.")],
    bundle: Annotated[str | None, typer.Option(help="The bundle; by default the newest.")] = None,
    baseline: Annotated[str | None, typer.Option(help="The bundle to compare with.")] = None,
) -> None:
    """Review APP and write the page: the words of `workbench readiness`, in one HTML file that fetches nothing.

    The file is written whatever the verdict. Exit 0 GO, 1 NO_GO, 3 not enough evidence.
    """
    from workbench import Workspace
    from workbench.cli.writing import write_file
    from workbench.views.review import review_page

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        review = ws.readiness.review(app, bundle, baseline=baseline)
    write_file(html, review_page(review))
    typer.echo(f"{review.sentence}\nwrote {html}")
    raise typer.Exit(EXIT_OF_VERDICT[review.verdict])


@group.command("release")
def release(
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="The release's id, or the app for its open release.")],
    html: Annotated[Path, typer.Option("--html", help="File to write.")],
) -> None:
    """How RELEASE went: evidence, intervals, users exposed, decisions, and all of them made again from the log, in one HTML file.

    The file is written whatever comes out of that. Exit 1 when a decision comes out differently, 3 when rows are gone.
    """
    from workbench import Workspace
    from workbench.cli.releases import EXIT_OF_REPLAY
    from workbench.cli.writing import write_file
    from workbench.views.release import release_text
    from workbench.views.release_figures import release_document
    from workbench.views.replay import halves_line

    with Workspace.open(create=False) as ws:
        found = ws.releases.get(release)
        ws.require_view(found.app)
        again, points = ws.releases.replay(found.release_id), ws.releases.trace(found.release_id)
    write_file(html, release_document(found, again, points))
    typer.echo(f"{release_text(found)}\n{halves_line(again.halves)}\nwrote {html}")
    raise typer.Exit(EXIT_OF_REPLAY[again.found])


@group.command("impact")
def impact(
    app: Annotated[str, typer.Argument(help="The app.")],
    html: Annotated[Path, typer.Option("--html", help="File to write.")],
    kpi: Kpi = None,
    by: By = "week",
    window: Span = None,
    compare: Pair = None,
    unrouted: Unrouted = False,
) -> None:
    """APP's KPIs with their figures, and what the newest release (or A against B) changed: one HTML file that fetches nothing.

    The file is written whatever the answer. The exit code is that of `workbench impact` with the same options: the KPIs decide it, with
    --compare what A changed. That is said first.
    """
    from workbench import Workspace
    from workbench.cli.writing import write_file
    from workbench.observability.impact_model import answer
    from workbench.views.impact import effects_page, impact_page, in_short
    from workbench.views.impact_figures import impact_document

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        report = ws.impact.report(app, kpi=kpi, by=by, window=window)
        effects = effects_of(ws, app, kpi, compare, is_unrouted=unrouted, window=window)
        names = bundle_names(ws)
    write_file(html, impact_document(report, effects, names=names))
    said = [in_short(page, width=terminal_width()) for page in (impact_page(report), effects_page(effects, names=names))]
    decides, beside = said if compare is None else said[::-1]
    typer.echo(f"{decides}\n\nBeside it, with no part in the exit code:\n{beside}\n\nwrote {html}")
    raise typer.Exit(EXIT_OF_ANSWER[answer(report.reasons if compare is None else {effect.finding.reason for effect in effects})])
