"""The `workbench-bot` command: run the bot in Slack, play it in a terminal, or print the manifest from which Slack makes the app."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from workbench.errors import UsageError, WorkbenchError

EXIT_UNEXPECTED = 70
EXIT_STOPPED = 130
_TOKENS = {
    "SLACK_BOT_TOKEN": "the bot's token, xoxb-…, from Slack's page “Install App”",
    "SLACK_SIGNING_SECRET": "the signing secret from Slack's page “Basic Information”",
    "SLACK_APP_TOKEN": "an app-level token, xapp-…, with the scope connections:write, from Slack's page “Basic Information”",
}
Mode = Literal["http", "socket"]

app = typer.Typer(
    name="workbench-bot",
    help="Releases, rollbacks and on-call duty from Slack.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("run")
def run(
    mode: Annotated[
        Mode | None, typer.Option(help="How Slack reaches the bot; by default socket where SLACK_APP_TOKEN is set, else http.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where http mode listens; Slack reaches it through your proxy, which ends TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The same.")] = 3000,
    api_url: Annotated[str, typer.Option(envvar="SLACK_API_URL", help="Slack's Web API; GovSlack has its own.")] = "https://slack.com/api/",
) -> None:
    """Run the bot until it is told to stop, with SLACK_BOT_TOKEN and SLACK_APP_TOKEN or SLACK_SIGNING_SECRET of the environment."""
    from bot.approvers import warnings_of
    from bot.chat import client_for
    from bot.running import assembled, house_of, serve_http, serve_socket
    from workbench.views.tables import shown
    from workbench.workspace import Workspace

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("slack_bolt", "slack_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below that they log what is sent and received
    chosen: Mode = mode or ("socket" if os.environ.get("SLACK_APP_TOKEN") else "http")
    client, proof = (
        client_for(_secret("SLACK_BOT_TOKEN"), base_url=api_url),
        _secret("SLACK_APP_TOKEN" if chosen == "socket" else "SLACK_SIGNING_SECRET"),
    )

    async def serve(ws: Workspace) -> None:
        house = await house_of(client, signing_secret=proof if chosen == "http" else "")
        async with assembled(ws, house, client, actor_of=ws.ownership.actor_of_slack_id) as bot:
            if chosen == "http":
                await serve_http(bot, host=host, port=port, on_ready=_say_ready)
            else:
                await serve_socket(bot, app_token=proof, on_ready=_say_ready)

    with Workspace.open(create=False, via="slack") as ws:
        for warning in warnings_of(ws.ownership, ws.versions.apps()):
            typer.echo(f"workbench-bot: warning: {shown(warning)}", err=True)
        asyncio.run(serve(ws))


@app.command("console")
def console(
    script: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Lines to play, one after the other, instead of asking for them.")
    ] = None,
) -> None:
    """Play the bot in the demo's workspace: the same app, with Slack played in this process. `help` lists what can be typed."""
    from bot.console import keyboard
    from bot.movable_clock import MovableClock
    from workbench.workspace import Workspace

    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    with Workspace.open(create=False, clock=MovableClock(), via="console") as ws, keyboard(ws, write=typer.echo) as opened:
        if script is None:
            opened.type("help")
            opened.prompt()
        else:
            opened.play(script.read_text(encoding="utf-8").splitlines())


@app.command("manifest")
def manifest_(
    mode: Annotated[Mode, typer.Option(help="How Slack will reach the bot.")] = "socket",
    url: Annotated[str, typer.Option(help="The bot's address from outside, for http mode: https://bot.example.org")] = "",
) -> None:
    """Print the manifest: paste it at “Create New App → From a manifest”."""
    from bot.manifest import manifest

    typer.echo(json.dumps(manifest(mode, url=url), indent=2))


def main() -> None:
    """Run the command line; every failure is one message on stderr and an exit code of its kind."""
    try:
        app()
    except WorkbenchError as error:
        sys.exit(_failed(str(error), error.exit_code))
    except KeyboardInterrupt:
        sys.exit(_failed("stopped", EXIT_STOPPED))
    except Exception as error:  # the edge: what nobody foresaw must not end with the exit code of a verdict
        if os.environ.get("WORKBENCH_DEBUG", "") not in ("", "0"):
            raise
        words = " ".join(str(error).split())
        sys.exit(_failed(f"{type(error).__name__}: {words}; run it again with WORKBENCH_DEBUG=1 for the traceback", EXIT_UNEXPECTED))


def _failed(message: str, code: int) -> int:
    """The exit code, after the message is said."""
    from workbench.views.tables import shown

    typer.echo(f"workbench-bot: {shown(message)}", err=True)
    return code


def _secret(name: str) -> str:
    """A token from the environment, which is taken out of it: no library reads it again, and no child process inherits it.

    Raises:
        UsageError: it is not set.
    """
    value = os.environ.pop(name, "").strip()
    if not value:
        raise UsageError(
            name, seen="it is not set", needed=_TOKENS[name], next_step="export it, or try the bot without Slack: `workbench-bot console`"
        )
    return value


def _say_ready(place: str) -> None:
    typer.echo(f"workbench-bot: ready, {place}", err=True)
