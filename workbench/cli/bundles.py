"""`workbench bundle`: register, list, show and compare versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

group = typer.Typer(help="Versions of everything that decides an assistant's behaviour.", no_args_is_help=True)
Reference = Annotated[str, typer.Argument(help="app@digest, at least 8 hex digits of it, or app@name.")]


@group.command("register")
def register(folder: Annotated[Path, typer.Argument(help="Folder with bundle.yaml.")], as_json: Json = False) -> None:
    """Register the bundle in FOLDER, and what its app folder declares. The same content twice is the same bundle."""
    from workbench import Workspace
    from workbench.views.bundles import registered_text

    with Workspace.open() as ws:
        registered = ws.versions.register(folder)
    if as_json:
        print_json(registered)
    else:
        typer.echo(registered_text(registered))


@group.command("list")
def list_(app: Annotated[str | None, typer.Argument(help="Only this app.")] = None, as_json: Json = False) -> None:
    """Registered bundles, oldest first, of the apps that you may look at."""
    from workbench import Workspace
    from workbench.views.bundles import bundles_text

    with Workspace.open(create=False) as ws:
        apps = (app,) if app is not None else ws.visible_apps() or ws.versions.apps()
        ws.require_view(*apps)
        bundles = [known for known in ws.versions.list(app) if known.bundle.app in apps]
    if as_json:
        print_json(bundles)
    else:
        typer.echo(bundles_text(bundles, width=terminal_width()))


@group.command("show")
def show(bundle: Reference, as_json: Json = False) -> None:
    """One bundle: its parts, their digests, and what is not pinned."""
    from workbench import Workspace
    from workbench.views.bundles import bundle_text

    with Workspace.open(create=False) as ws:
        found = ws.versions.get(bundle)
        ws.require_view(found.app)
    if as_json:
        print_json(found)
    else:
        typer.echo(bundle_text(found, width=terminal_width()))


@group.command("diff")
def diff(
    old: Reference,
    new: Reference,
    stat: Annotated[bool, typer.Option("--stat", help="One line for each part that changed.")] = False,
    part: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this part, for example prompts; repeat for several.")] = None,
    as_json: Json = False,
) -> None:
    """Which parts changed from OLD to NEW, with the text of prompts, policy and code."""
    from dataclasses import replace

    from workbench import Workspace
    from workbench.versions.difference import checked_parts
    from workbench.views.bundles import diff_stat, diff_stat_text, diff_text

    parts = checked_parts(part or ())
    with Workspace.open(create=False) as ws:
        ws.require_view(*{ws.versions.get(reference).app for reference in (old, new)})
        difference = ws.versions.diff(old, new)
    if as_json:
        chosen = tuple(change for change in difference.parts if not parts or change.name in parts)
        print_json(diff_stat(difference, parts=parts) if stat else replace(difference, parts=chosen))
    else:
        typer.echo((diff_stat_text if stat else diff_text)(difference, parts=parts, width=terminal_width()))
