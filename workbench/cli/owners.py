"""`workbench owner`: who answers, who is on call, and when nobody is."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json

group = typer.Typer(help="Who answers, also at night.", no_args_is_help=True)
App = Annotated[str, typer.Argument(help="The app.")]


@group.command("show")
def show(app: App, as_json: Json = False) -> None:
    """The owner, the escalation path and the people of APP with their roles."""
    from workbench import Workspace
    from workbench.views.owners import owners_text

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        spec, people = ws.ownership.declared(app)
        duty = ws.ownership.on_call(app)
    if as_json:
        print_json({"app": spec, "people": people, "on_call": duty})
    else:
        typer.echo(owners_text(spec, people, duty))


@group.command("oncall")
def oncall(app: App, as_json: Json = False) -> None:
    """Who is on call for APP now."""
    from workbench import Workspace
    from workbench.views.owners import shifts_text

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        duty = ws.ownership.on_call(app)
    if as_json:
        print_json(duty)
    else:
        typer.echo(shifts_text(app, duty))


@group.command("gaps")
def gaps(app: App, days: Annotated[int, typer.Option(min=1, max=366, help="How far ahead to look.")] = 14, as_json: Json = False) -> None:
    """Hours in which somebody must be on call for APP and nobody is, in UTC. Exit 1 when there are any."""
    from workbench import Workspace
    from workbench.views.owners import gaps_text

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        now = ws.clock()
        found = ws.ownership.gaps(app, start=now, until=now + timedelta(days=days))
    if as_json:
        print_json(found)
    else:
        typer.echo(gaps_text(app, found, days=days))
    raise typer.Exit(1 if found else 0)
