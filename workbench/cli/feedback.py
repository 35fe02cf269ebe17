"""`workbench feedback`: tell the log what happened after an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json

group = typer.Typer(
    help="What happened after an answer: judgements of it, and business events. Files come by `workbench import`.", no_args_is_help=True
)
_Id = Annotated[str | None, typer.Option("--id", help="Names the event: told again under this name it counts once, as it was told last.")]
_At = Annotated[str | None, typer.Option(help="When it happened, with its offset, for example 2026-11-01T09:30:00Z; by default now.")]


@group.command("score")
def score(
    app: Annotated[str, typer.Argument()],
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id, as the header x-request-id and the log have it.")],
    name: Annotated[str, typer.Argument(help="Name of the score, for example helpful.")],
    value: Annotated[float | None, typer.Option(help="A number.")] = None,
    label: Annotated[str | None, typer.Option(help="A word, instead of a number or beside it.")] = None,
    comment: Annotated[str | None, typer.Option(help="Why; personal data in it is replaced before it is stored.")] = None,
    source: Annotated[str, typer.Option(help="Who judged: rule, judge, human or user.")] = "human",
    event_id: _Id = None,
    at: _At = None,
    as_json: Json = False,
) -> None:
    """A judgement of one REQUEST of APP."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        told = ws.feedback.score(
            app,
            request_id,
            name,
            value=value,
            label=label,
            comment=comment,
            source=source,
            scorer=f"person:{ws.actor.person}",
            id=event_id,
            at=at,
        )
        notes = ws.feedback.notes(app, request_id=request_id)
    _say(told, "score", notes, as_json=as_json)


@group.command("outcome")
def outcome(
    app: Annotated[str, typer.Argument()],
    kpi: Annotated[str, typer.Argument(help="Name of the event, as `outcome` of a KPI in app.yaml has it.")],
    value: Annotated[float | None, typer.Option(help="What it is worth, in the KPI's unit.")] = None,
    currency: Annotated[str | None, typer.Option(help="Of the value, for example EUR.")] = None,
    request: Annotated[str | None, typer.Option(help="The request that it followed.")] = None,
    session: Annotated[str | None, typer.Option(help="The session that it followed.")] = None,
    unit: Annotated[str | None, typer.Option(help="Whose event it is, named as requests name their unit; only its hash is stored.")] = None,
    event_id: _Id = None,
    at: _At = None,
    as_json: Json = False,
) -> None:
    """A business event of APP that followed a request, a session, or a customer's use."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        told = ws.feedback.outcome(
            app, kpi, value=value, currency=currency, request_id=request, session_id=session, unit=unit, source="cli", id=event_id, at=at
        )
        notes = ws.feedback.notes(app, request_id=request, kpi=kpi)
    _say(told, "outcome", notes, as_json=as_json)


def _say(event_id: str, what: str, notes: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"id": event_id, "notes": notes})
        return
    typer.echo(f"{what} {event_id} is in the log; told again with --id {event_id} it replaces this one")
    for note in notes:
        typer.echo(f"Note: {note}")
