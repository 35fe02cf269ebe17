"""`workbench lake`: the log's upkeep, and how long it keeps what it holds."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

group = typer.Typer(help="The log's upkeep.", no_args_is_help=True)
retention = typer.Typer(help="How long the log keeps what it holds.", no_args_is_help=True)
group.add_typer(retention, name="retention")
App = Annotated[str | None, typer.Option("--app", help="Of this app alone; without it of every app that has no term of its own.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit.")]


@group.command("maintain")
def maintain(as_json: Json = False) -> None:
    """Take out what is older than declared, merge small files, give up snapshots that no evidence holds, and go on with erasures.

    A running gateway has this done every few minutes (WORKBENCH_UPKEEP); without one, run it every few minutes to hours. Files that were
    given up stay a quarter of an hour for those who read them.
    """
    from workbench import Workspace
    from workbench.cli.progress import file_progress
    from workbench.views.keeping import keeping_text

    with Workspace.open(create=False) as ws, file_progress(is_quiet=as_json) as progress:
        ws.ownership.require(ws.actor, "log.maintain", None)
        report = ws.keeper.run(ws.actor, progress=progress)
    if as_json:
        print_json(report)
    else:
        typer.echo(keeping_text(report, width=terminal_width()))


@retention.command("show")
def show(as_json: Json = False) -> None:
    """What was declared: how many whole days rows, their sums by the hour, and what evidence rests on are kept."""
    from workbench import Workspace
    from workbench.views.keeping import retention_text

    with Workspace.open(create=False) as ws:
        ws.ownership.require(ws.actor, "view", None)
        policy = ws.retention.policy()
    if as_json:
        print_json(policy.to_json())
    else:
        typer.echo(retention_text(policy, width=terminal_width()))


@retention.command("set")
def set_(
    rows: Annotated[str, typer.Argument(help="How long requests, spans, scores and outcomes are kept: whole days, such as 90d.")],
    reason: Reason,
    app: App = None,
    rollups: Annotated[str | None, typer.Option("--rollups", help="How long their sums by the hour are; at least as long.")] = None,
    evidence: Annotated[
        str | None,
        typer.Option("--evidence", help="How long evidence holds the snapshot that it cites, with the rows of its time; 0d not at all."),
    ] = None,
) -> None:
    """Declare how long the log keeps rows; older ones go with the next run of upkeep, by whole days.

    `workbench lake retention run --dry-run` says which. Erasure wins over retention, and retention over evidence: a record keeps its
    numbers, and may answer UNAVAILABLE(retention) when it is asked again.
    """
    _declare(rows, app=app, rollups=rollups, evidence=evidence, reason=reason)


@retention.command("lift")
def lift(reason: Reason, app: App = None) -> None:
    """Declare that everything is kept for good."""
    _declare(None, app=app, rollups=None, evidence=None, reason=reason)


@retention.command("run")
def run(
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False, as_json: Json = False
) -> None:
    """Take out what is older than declared, now. The files under it go with the runs of upkeep that follow."""
    from workbench import Workspace
    from workbench.views.keeping import outdated_text

    with Workspace.open(create=False) as ws:
        ws.ownership.require(ws.actor, "view" if is_dry_run else "log.maintain", None)
        outdated = ws.retention.outdated() if is_dry_run else ws.retention.apply(ws.actor)
    if as_json:
        print_json(outdated)
    else:
        typer.echo(outdated_text(outdated, is_done=not is_dry_run, width=terminal_width()))


def _declare(rows: str | None, *, app: str | None, rollups: str | None, evidence: str | None, reason: str) -> None:
    from workbench import Workspace
    from workbench.views.keeping import retention_text

    with Workspace.open(create=False) as ws:
        if app is not None:
            ws.require_app(app)
        policy = ws.retention.declare(rows, app=app, rollups=rollups, evidence=evidence, reason=reason)
    typer.echo(retention_text(policy, width=terminal_width()))


@group.command("rollup")
def rollup(
    window: Annotated[str | None, typer.Option(help="Sum the hours of this stretch until now anew, for example 30d.")] = None,
    is_everything: Annotated[bool, typer.Option("--everything", help="Sum all hours anew.")] = False,
    as_json: Json = False,
) -> None:
    """Sum the hours that got rows since they were last summed, so that questions over months are answered from sums.

    `workbench lake maintain` does it too. What is asked meanwhile reads those hours request by request.
    """
    from workbench import Workspace
    from workbench.cli.progress import file_progress
    from workbench.observability.dimensions import parse_window
    from workbench.observability.model import Window

    with Workspace.open(create=False) as ws, file_progress(is_quiet=as_json) as progress:
        ws.ownership.require(ws.actor, "log.maintain", None)
        again = Window() if is_everything else None
        if window is not None:
            again = parse_window(window, now=ws.clock())
        n = ws.upkeep.sum_hours(again=again, progress=progress)
    if as_json:
        print_json({"hours": n})
    else:
        typer.echo(f"summed {n:,} {'hour' if n == 1 else 'hours'} of applications" if n else "every hour is summed already")
