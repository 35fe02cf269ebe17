"""`workbench audit`: the hash-chained record of who did what."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

group = typer.Typer(help="Who did what, in a chain that shows tampering.", no_args_is_help=True)


@group.command("verify")
def verify_(
    head: Annotated[
        str | None, typer.Option(help="SEQ:DIGEST as printed by an earlier report; proves that nothing was cut off since.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every entry against the chain. Exit 1 and the first broken entry's number when something was altered, removed or cut off."""
    from workbench import Workspace
    from workbench.ledger.audit import Head, verify
    from workbench.views.audit import chain_text

    expected = None if head is None else Head.parse(head)
    with Workspace.open(create=False) as ws, ws.ledger.read() as connection:
        ws.ownership.require(ws.actor, "audit.verify", None)
        report = verify(connection, expected=expected)
    if as_json:
        print_json(report)
    else:
        typer.echo(chain_text(report))
    raise typer.Exit(0 if report.is_whole else 1)


@group.command("tail")
def tail_(n: Annotated[int, typer.Option("-n", min=1, max=1_000_000, help="How many entries.")] = 20, as_json: Json = False) -> None:
    """The newest entries, oldest of them first."""
    from workbench import Workspace
    from workbench.ledger.audit import tail
    from workbench.views.audit import entries_text

    with Workspace.open(create=False) as ws, ws.ledger.read() as connection:
        ws.ownership.require(ws.actor, "audit.verify", None)
        entries = tail(connection, n)
        names = {known.bundle.bundle_id: known.bundle.name for known in ws.versions.list()}
    if as_json:
        print_json(entries)
    else:
        typer.echo(entries_text(entries, names=names, width=terminal_width()))


@group.command("unfinished")
def unfinished_(
    n: Annotated[int, typer.Option("-n", min=1, max=1_000_000, help="How many requests, the newest.")] = 50, as_json: Json = False
) -> None:
    """The requests that began and never ended, because their process died: their status is unknown. The oldest of them first."""
    from workbench import Workspace
    from workbench.views.tables import rows_text

    with Workspace.open(create=False) as ws:
        ws.ownership.require(ws.actor, "audit.verify", None)
        found = ws.logs.unfinished()[-n:]
    if as_json:
        print_json(found)
    elif found:
        rows = [
            {"request": one.request_id, "app": one.app, "bundle": one.bundle or "-", "began": f"{one.ts_start:%Y-%m-%d %H:%M:%S} UTC"}
            for one in found
        ]
        typer.echo(rows_text(rows, width=terminal_width()))
    else:
        typer.echo("none: every request that is in the log has ended, or its process still runs")


@group.command("evidence")
def evidence_(review: Annotated[str, typer.Argument(help="The review's id, or its beginning.")], as_json: Json = False) -> None:
    """Ask the log again what REVIEW rests on.

    Exit 1 when it says something else; 3 when a record cannot be made again: its snapshot is erased or expired, or it counted sessions by
    rules of another version, which give something else here.
    """
    from workbench import Workspace
    from workbench.views.erasure import evidence_text

    with Workspace.open(create=False) as ws:
        asked = ws.readiness.get(review)
        ws.require_view(asked.app)
        cited = dict.fromkeys(evidence_id for gate in asked.gates for evidence_id in gate.evidence_ids)
        answers = {evidence_id: ws.readiness.verify(evidence_id) for evidence_id in cited}
    if as_json:
        print_json(answers)
    else:
        typer.echo(evidence_text(answers, width=terminal_width()))
    found = set(answers.values())
    raise typer.Exit(0 if found <= {"SAME"} else 1 if "DIFFERENT" in found else 3)
