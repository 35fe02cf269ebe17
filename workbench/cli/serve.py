"""`workbench serve`: the gateway."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for every address of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8080,
    notice: Annotated[
        float, typer.Option(min=0, help="Seconds after SIGTERM in which requests are still taken, while /readyz sends them elsewhere.")
    ] = 2.0,
    access_log: Annotated[bool, typer.Option(help="One line of JSON per request on stderr.")] = True,
) -> None:
    """Serve the released apps over HTTP, in the form of OpenAI's chat completions, until it is stopped.

    `model` is the app's name; `workbench key create` makes the key. /readyz says whether it may be sent traffic, and why not.
    """
    import logging
    import sys

    from workbench import Workspace
    from workbench.gateway import server
    from workbench.gateway.access import LOGGER, Lines

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line tells them, and each request's would ask
    LOGGER.setLevel(logging.INFO if access_log else logging.WARNING)
    LOGGER.addHandler(Lines(sys.stderr))
    LOGGER.propagate = False
    with Workspace.open(create=False, via="http") as ws:
        server.serve(ws, host=host, port=port, notice_s=notice, on_ready=lambda url: typer.echo(f"gateway on {url}; stop it with Ctrl-C"))
