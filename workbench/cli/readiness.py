"""`workbench readiness`: may this bundle go live?"""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

EXIT_OF_VERDICT = {"GO": 0, "NO_GO": 1, "NOT_ENOUGH_EVIDENCE": 3}


def readiness(
    app: Annotated[str, typer.Argument(help="The app.")],
    bundle: Annotated[str | None, typer.Argument(help="The bundle; by default the newest.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The bundle to compare with; by default the only other one that has traffic.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Review APP's BUNDLE: the verdict, the gate that decided, and what would change it. Exit 0 GO, 1 NO_GO, 3 not enough evidence."""
    from workbench import Workspace
    from workbench.views.review import review_text

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        review = ws.readiness.review(app, bundle, baseline=baseline)
    if as_json:
        print_json(review)
    else:
        typer.echo(review_text(review, width=terminal_width()))
    raise typer.Exit(EXIT_OF_VERDICT[review.verdict])
