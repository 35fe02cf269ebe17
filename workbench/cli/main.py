"""The `workbench` command: the groups, and the one place where an error becomes words and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from workbench import __version__
from workbench.cli import apps, audit, bundles, demo, doctor, imports, lab, metrics, owners, readiness, reports
from workbench.errors import WorkbenchError

app = typer.Typer(
    name="workbench",
    help="May this AI application go live, and what if it goes wrong? Answers with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit: 0 done or GO, 1 a negative verdict, 2 wrong use or configuration, 3 not enough evidence.",
)
app.command("demo")(demo.demo)
app.command("init")(apps.init)
app.command("doctor")(doctor.doctor)
app.command("lab")(lab.lab)
app.command("import")(imports.import_)
app.command("readiness")(readiness.readiness)
app.add_typer(apps.group, name="app")
app.add_typer(bundles.group, name="bundle")
app.add_typer(metrics.group, name="metrics")
app.add_typer(owners.group, name="owner")
app.add_typer(audit.group, name="audit")
app.add_typer(reports.group, name="report")


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    person: Annotated[str, typer.Option("--as", metavar="PERSON", help="Act as this person; in the demo's workspace only.")] = "",
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,  # noqa: ARG001 - its callback reads it
) -> None:
    """Every command works on the workspace in $WORKBENCH_HOME, else in ./.workbench."""
    if person:
        os.environ["WORKBENCH_PERSON"] = person


def main() -> None:
    """Run the command line; expected failures are one message on stderr and the exit code of their kind."""
    try:
        app()
    except WorkbenchError as error:
        typer.echo(f"workbench: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
