"""`workbench demo`: the shop's assistant, its customers, and people who release it from the chat."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def demo(
    home: Annotated[
        Path | None,
        typer.Option(help="Workspace to (re)build; by default $WORKBENCH_HOME, else ./.workbench. Only a demo workspace is replaced."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the customers.")] = 7,
) -> None:
    """Run the demo shop: customers at the gateway, releases from the chat, and what log and audit hold of it."""
    from workbench.cli.progress import file_progress
    from workbench.cli.shared import terminal_width
    from workbench.demo.place import fresh_workspace
    from workbench.demo.story import METRICS, run_story
    from workbench.observability.catalogue import CATALOGUE
    from workbench.settings import default_home
    from workbench.views.story import story_text

    place = (home or default_home()).absolute()
    with fresh_workspace(place) as ws, file_progress() as progress:
        result = run_story(ws, seed=seed, progress=progress)
    elsewhere = [name for name in ("WORKBENCH_LEDGER", "WORKBENCH_CATALOG", "WORKBENCH_DATA") if os.environ.get(name)]
    if elsewhere:
        typer.echo(f"{', '.join(elsewhere)}: the demo did not use it; unset it before you look at the demo's workspace", err=True)
    typer.echo(
        story_text(
            result, metrics=[CATALOGUE[name] for name in METRICS], home=None if place == default_home() else place, width=terminal_width()
        )
    )
    raise typer.Exit(0 if result.is_as_told else 1)
