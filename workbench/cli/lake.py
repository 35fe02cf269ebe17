"""`workbench lake`: the log's upkeep."""

from __future__ import annotations

import typer

from workbench.cli.shared import Json, print_json

group = typer.Typer(help="The log's upkeep.", no_args_is_help=True)


@group.command("maintain")
def maintain(as_json: Json = False) -> None:
    """Merge small files, give up snapshots that no evidence cites, remove what was given up earlier, and go on with erasures.

    Run it every few minutes to hours, one at a time. Files that were given up stay a quarter of an hour for those who read them.
    """
    from workbench import Workspace
    from workbench.cli.progress import file_progress
    from workbench.views.erasure import erasures_text, upkeep_text

    with Workspace.open(create=False) as ws, file_progress(is_quiet=as_json) as progress:
        ws.ownership.require(ws.actor, "log.maintain", None)
        report = ws.upkeep.run(progress=progress)
        erasures = ws.erasure.finish(progress=progress)
    if as_json:
        print_json({"upkeep": report, "erasures": erasures})
        return
    typer.echo(upkeep_text(report))
    if erasures:
        typer.echo(f"\n{erasures_text(erasures)}")
