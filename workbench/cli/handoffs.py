"""`workbench handoff`: answers and tool calls that wait for a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

if TYPE_CHECKING:
    from workbench.controls.handoff import Handoff

group = typer.Typer(help="Answers and tool calls that wait for a person.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="HANDOFF", help="Its id, as `workbench handoff list` prints it.")]
Digest = Annotated[str, typer.Option("--shown", metavar="DIGEST", help="What you were shown, as `workbench handoff show` prints it.")]


@group.command("list")
def list_(
    app: Annotated[str | None, typer.Argument(help="Only this app.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is decided or expired.")] = False,
    as_json: Json = False,
) -> None:
    """What waits for a person, in the apps that you may look at; first what is due first."""
    from workbench import Workspace
    from workbench.views.handoffs import queue_text

    with Workspace.open(create=False) as ws:
        apps = (app,) if app is not None else ws.visible_apps() or ws.versions.apps()
        ws.require_view(*apps)
        found, now = [item for item in ws.handoffs.list(app, only_waiting=not everything) if item.app in apps], ws.clock()
    if as_json:
        print_json(found)
    else:
        typer.echo(queue_text(found, now=now, width=terminal_width()))


@group.command("show")
def show(handoff: Id, as_json: Json = False) -> None:
    """HANDOFF with its talk, for those who may read what customers wrote. The audit keeps who looked."""
    from workbench import Workspace
    from workbench.views.handoffs import shown_text

    with Workspace.open(create=False) as ws:
        item, now = ws.handoffs.show(handoff), ws.clock()
    if as_json:
        print_json(item)
    else:
        typer.echo(shown_text(item, now=now, width=terminal_width()))


@group.command("claim")
def claim(handoff: Id, as_json: Json = False) -> None:
    """Hold HANDOFF for a quarter of an hour, so that nobody else decides on it meanwhile."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.handoffs.claim(handoff)
    _say(done, as_json=as_json)


@group.command("release")
def release(handoff: Id, as_json: Json = False) -> None:
    """Give HANDOFF back to the queue."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.handoffs.release(handoff)
    _say(done, as_json=as_json)


@group.command("approve")
def approve(handoff: Id, digest: Digest, as_json: Json = False) -> None:
    """Let HANDOFF go to the client as it was shown; one that was released already was right."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.handoffs.approve(handoff, digest)
    _say(done, as_json=as_json)


@group.command("edit")
def edit(
    handoff: Id,
    digest: Digest,
    text: Annotated[str | None, typer.Option("--text", help="The answer.")] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="The answer in a file; - reads the standard input.")] = None,
    as_json: Json = False,
) -> None:
    """Answer HANDOFF in your own words; the client gets them instead of what was proposed."""
    from workbench import Workspace

    words = _words(text, file)
    with Workspace.open(create=False) as ws:
        done = ws.handoffs.edit(handoff, digest, words)
    _say(done, as_json=as_json)


@group.command("reject")
def reject(
    handoff: Id,
    digest: Digest,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the audit.")],
    as_json: Json = False,
) -> None:
    """Give the client of HANDOFF no answer; one that was released already was wrong."""
    from workbench import Workspace

    with Workspace.open(create=False) as ws:
        done = ws.handoffs.reject(handoff, digest, reason)
    _say(done, as_json=as_json)


def _words(text: str | None, file: Path | None) -> str:
    """The answer, from wherever it is.

    Raises:
        UsageError: it is in no place, in both, or cannot be read.
    """
    from workbench.errors import UsageError

    if (text is None) == (file is None):
        raise UsageError("answer", seen="it is given twice" if text is not None else "there is none", needed="one of --text and --file")
    if file is None:
        return text or ""
    try:
        raw = typer.get_binary_stream("stdin").read() if str(file) == "-" else file.read_bytes()
        return raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"file {file}", seen=why, needed="a text") from error


def _say(handoff: Handoff, *, as_json: bool) -> None:
    from workbench.views.handoffs import handoff_text

    if as_json:
        print_json(handoff)
    else:
        typer.echo(handoff_text(handoff))
