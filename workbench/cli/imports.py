"""`workbench import`: bring recorded traffic into the log lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json


def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help="openai-jsonl, tau2 or csv.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE…")],
    app: Annotated[str | None, typer.Option(help="The app that the traffic belongs to, where the file does not say.")] = None,
    bundle: Annotated[
        str | None, typer.Option(help="The registered bundle that answered, where the file does not say: its id or name.")
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="For csv: the file that maps columns to fields.")] = None,
    zone: Annotated[str | None, typer.Option(help="Time zone of times that carry none, for example Europe/Berlin.")] = None,
    as_json: Json = False,
) -> None:
    """Import log FILEs. Importing the same file again stores nothing; refused records are counted with the reason.

    Exit 1 when every record was refused.
    """
    from workbench import Workspace
    from workbench.cli.progress import file_progress
    from workbench.views.imports import import_text

    with Workspace.open() as ws, file_progress(is_quiet=as_json) as progress:
        report = ws.imports.run(format_, files, app=app, bundle=bundle, mapping=mapping, zone=zone, progress=progress)
    if as_json:
        print_json(report)
    else:
        typer.echo(import_text(report))
    if report.is_all_refused:
        raise typer.Exit(1)
