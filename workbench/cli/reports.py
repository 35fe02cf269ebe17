"""`workbench report`: the same values as a file for people without a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.readiness import EXIT_OF_VERDICT

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
