"""`workbench erase`: forget a unit."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width


def erase(
    unit: Annotated[
        str | None,
        typer.Option("--unit", help="The unit, as applications name it; - reads it from standard input, so that no shell keeps it."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit.")] = "",
    is_finish: Annotated[bool, typer.Option("--finish", help="Go on with all erasures that are not done.")] = False,
    is_pending: Annotated[bool, typer.Option("--pending", help="Show the erasures that are not done; change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove everything of a unit from the log, in all its snapshots, from spools and from the ledger.

    Nobody who asks from now on sees its rows. Snapshots that somebody may be reading are given up a quarter of an hour later, and the files
    under them another quarter later, by `workbench erase --finish` or `workbench lake maintain`. Evidence that cites those snapshots keeps
    its numbers, but can no longer be asked again.
    """
    from workbench import Workspace
    from workbench.cli.progress import file_progress
    from workbench.errors import UsageError
    from workbench.views.erasure import erasure_text, erasures_text

    if sum((unit is not None, is_finish, is_pending)) != 1:
        raise UsageError("workbench erase", seen="not exactly one of them", needed="--unit, --finish or --pending")
    with Workspace.open(create=False) as ws, file_progress(is_quiet=as_json) as progress:
        if unit is not None:
            report = ws.erasure.erase(_read(unit), reason=reason, progress=progress)
        elif is_finish:
            reports = ws.erasure.finish(progress=progress)
        else:
            ws.ownership.require(ws.actor, "view", None)
            reports = ws.erasure.pending()
    if as_json:
        print_json(report if unit is not None else reports)
    elif unit is not None:
        typer.echo(erasure_text(report, width=terminal_width()))
    else:
        typer.echo(erasures_text(reports, width=terminal_width()))


def _read(unit: str) -> str:
    """The unit; with `-` the first line of standard input."""
    if unit != "-":
        return unit
    return typer.get_text_stream("stdin").readline().rstrip("\r\n")
