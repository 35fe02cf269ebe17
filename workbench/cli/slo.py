"""`workbench slo`: what is promised in service, whether it is kept, and what is unusual."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

group = typer.Typer(help="Is what was promised kept in service?", no_args_is_help=True)
App = Annotated[str, typer.Argument(help="The app.")]
At = Annotated[str, typer.Option("--at", help="As of this moment instead of now: 2026-10-25T09:00+00:00.")]


@group.command("list")
def list_(app: App, as_json: Json = False) -> None:
    """The objectives of APP with their targets, windows, owners and alert lines."""
    from workbench import Workspace
    from workbench.views.slo import terms_text

    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        terms = ws.objectives.terms(app)
    if as_json:
        print_json(terms)
    else:
        typer.echo(terms_text(app, terms, width=terminal_width()))


@group.command("show")
def show(app: App, at: At = "", as_json: Json = False) -> None:
    """How every objective of APP stands: its budget, each alert line, and the alarms on its traffic."""
    _tell(app, at, as_json=as_json, is_full=True)


@group.command("check")
def check(app: App, at: At = "", as_json: Json = False) -> None:
    """As `show`, without the alert lines. Exit 1 when a budget burns or is spent or an alarm is raised, 3 when there is too little data."""
    raise typer.Exit(_tell(app, at, as_json=as_json, is_full=False))


def _tell(app: str, at: str, *, as_json: bool, is_full: bool) -> int:
    """Print how the app stands, and return the exit code that says it."""
    from workbench import Workspace
    from workbench.views.slo import standing_json, standing_text

    moment = _moment(at) if at else None
    with Workspace.open(create=False) as ws:
        ws.require_view(app)
        standing = ws.objectives.check(app, at=moment)
    if as_json:
        print_json(standing_json(standing))
    else:
        typer.echo(standing_text(standing, is_full=is_full, width=terminal_width()))
    return standing.exit_code


def _moment(text: str) -> datetime:
    from workbench.errors import UsageError

    needed = "a day and time with its offset, for example 2026-10-25T09:00+00:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--at {text}", seen="no moment", needed=needed) from error
    if moment.tzinfo is None:
        raise UsageError(f"--at {text}", seen="it has no time zone", needed=needed)
    return moment
