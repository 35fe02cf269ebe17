"""`workbench key`: make, list and revoke the keys that applications show the gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json, terminal_width

group = typer.Typer(help="Keys with which applications call the gateway.", no_args_is_help=True)
App = Annotated[str, typer.Argument(help="The app that the key opens.")]


@group.command("create")
def create(
    app: App,
    person: Annotated[str, typer.Option("--person", help="Who answers for it; a person of the app's people.yaml.")],
    label: Annotated[str, typer.Option("--label", help="What it is for, for example the server that uses it.")] = "",
    as_json: Json = False,
) -> None:
    """Make a key to APP. It is shown once and stored nowhere."""
    from workbench import Workspace
    from workbench.views.keys import new_key_text

    with Workspace.open(create=False) as ws:
        ws.require_app(app)
        made = ws.keys.create(app, person=person, label=label)
    if as_json:
        print_json(made)
    else:
        typer.echo(new_key_text(made))


@group.command("list")
def list_(app: Annotated[str | None, typer.Argument(help="Only this app.")] = None, as_json: Json = False) -> None:
    """The keys of the apps that you may look at, oldest first; revoked ones too, the keys themselves never."""
    from workbench import Workspace
    from workbench.views.keys import keys_text

    with Workspace.open(create=False) as ws:
        apps = (app,) if app is not None else ws.visible_apps() or ws.versions.apps()
        ws.require_view(*apps)
        keys = [key for key in ws.keys.list(app) if key.app in apps]
    if as_json:
        print_json(keys)
    else:
        typer.echo(keys_text(keys, width=terminal_width()))


@group.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="Its id; a whole key that was found somewhere serves as well.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit.")] = "",
    as_json: Json = False,
) -> None:
    """Revoke KEY: running gateways refuse it within two seconds."""
    from workbench import Workspace
    from workbench.views.keys import revoked_text

    with Workspace.open(create=False) as ws:
        revoked = ws.keys.revoke(key, reason=reason)
    if as_json:
        print_json(revoked)
    else:
        typer.echo(revoked_text(revoked))
