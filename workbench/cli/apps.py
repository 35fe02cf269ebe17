"""`workbench init` and `workbench app`: write a starter app, declare an app, look at what is declared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

group = typer.Typer(help="Declare applications and look at what is declared.", no_args_is_help=True)


def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    name: Annotated[str, typer.Option("--app", help="Name of the app; by default the folder's name.")] = "",
) -> None:
    """Write a commented starter app that passes its own checks."""
    from workbench.spec.starter import write_starter

    app = name or folder.resolve().name.lower().replace(" ", "-")
    written = write_starter(folder, app)
    for path in written:
        typer.echo(f"  {path}")
    typer.echo(
        f"\nWrote {len(written)} files. Next: edit them, then\n  workbench bundle register {folder}/bundles/v1\n  workbench readiness {app}"
    )


@group.command("check")
def check(folder: Annotated[Path, typer.Argument(help="Folder with app.yaml.")]) -> None:
    """Check an app folder's files and its bundles without storing anything; all faults at once."""
    from workbench.cli.app_check import check_folder

    for line in check_folder(folder):
        typer.echo(line)


@group.command("register")
def register(folder: Annotated[Path, typer.Argument(help="Folder with app.yaml.")]) -> None:
    """Store what the folder declares; unchanged files are left alone."""
    from workbench import Workspace

    with Workspace.open() as ws:
        changed = [declaration for declaration in ws.versions.declare(folder) if declaration.is_new]
    for declaration in changed:
        typer.echo(f"declared {declaration.app}/{declaration.kind}.yaml  {declaration.digest[:19]}")
    if not changed:
        typer.echo("nothing changed")


@group.command("list")
def list_(as_json: Json = False) -> None:
    """The apps of this workspace."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        rows = [
            {"app": app, "title": spec.title if (spec := ws.app_spec(app)) else None, "bundles": len(ws.versions.list(app))}
            for app in ws.versions.apps()
        ]
    if as_json:
        print_json(rows)
    else:
        from workbench.views.tables import rows_text

        none = "no apps yet; `workbench bundle register DIR` or `workbench import` brings the first"
        typer.echo(rows_text(rows, empty=none, width=terminal_width()))
