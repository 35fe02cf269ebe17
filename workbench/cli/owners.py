"""`workbench owner`: who answers, who is on call, and when nobody is."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

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
        duty, stand_ins, zone = ws.ownership.on_call(app), ws.ownership.stand_ins(app), ws.ownership.zone(app)
    if as_json:
        print_json({"app": spec, "people": people, "on_call": duty, "stand_ins": stand_ins})
    else:
        typer.echo(owners_text(spec, people, duty, stand_ins=stand_ins, zone=zone, width=terminal_width()))


@group.command("oncall")
def oncall(app: App, as_json: Json = False) -> None:
    """Who is on call for APP now."""
    from workbench import Workspace
    from workbench.views.owners import shifts_text

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        duty, zone = ws.ownership.on_call(app), ws.ownership.zone(app)
    if as_json:
        print_json(duty)
    else:
        typer.echo(shifts_text(app, duty, zone=zone))


@group.command("gaps")
def gaps(app: App, days: Annotated[int, typer.Option(min=1, max=366, help="How far ahead to look.")] = 14, as_json: Json = False) -> None:
    """Hours in which somebody must be on call for APP and nobody is, in UTC and on the rota's clock. Exit 1 when there are any."""
    from workbench import Workspace
    from workbench.views.owners import gaps_text

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        now = ws.clock()
        found, zone = ws.ownership.gaps(app, start=now, until=now + timedelta(days=days)), ws.ownership.zone(app)
    if as_json:
        print_json(found)
    else:
        typer.echo(gaps_text(app, found, days=days, zone=zone, width=terminal_width()))
    raise typer.Exit(1 if found else 0)


@group.command("override")
def override(
    app: App,
    person: Annotated[str, typer.Argument(help="Who stands in.")],
    until: Annotated[str, typer.Option("--until", help="End: 2026-10-25T09:00 on the rota's clock, with an offset, or a span such as 8h.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the audit.")],
    start: Annotated[str | None, typer.Option("--from", help="Start, by default now; a span counts from now.")] = None,
    tier: Annotated[int, typer.Option(min=1, help="1 is called first.")] = 1,
    as_json: Json = False,
) -> None:
    """Put PERSON on call for APP for one stretch of time, whatever the rota says. A span as end counts from the start."""
    from workbench import Workspace
    from workbench.ownership.wall_clock import moment_of
    from workbench.views.owners import stand_in_text

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        zone, now = ws.ownership.zone(app), ws.clock()
        first = moment_of(start, zone, since=now) if start else now
        last = moment_of(until, zone, since=first)
        done = ws.ownership.override(app, person, start=first, until=last, tier=tier, reason=reason, actor=ws.actor)
    if as_json:
        print_json(done)
    else:
        typer.echo(stand_in_text(done, zone=zone))
