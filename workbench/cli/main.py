"""The `workbench` command: the groups, and the one place where an error becomes words and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from workbench import __version__
from workbench.cli import (
    apps,
    audit,
    bundles,
    demo,
    doctor,
    erasing,
    export,
    feedback,
    handoffs,
    impact,
    imports,
    keys,
    lab,
    lake,
    metrics,
    owners,
    readiness,
    releases,
    reports,
    retrieval,
    serve,
    slo,
)
from workbench.cli.interruption import is_stopped, never_lost
from workbench.cli.slips import explain
from workbench.errors import NotPermitted, WorkbenchError

EXIT_UNEXPECTED = 70
"""A fault that nobody foresaw; never 1, which a pipeline reads as a verdict."""
EXIT_STOPPED = 130
EXIT_READER_LEFT = 141
"""Whoever read the output closed it early; a shell gives the same for any command."""


class _Commands(TyperGroup):
    """The commands, with exit codes of their own for what the command-line library would end with 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _let_go(sys.stdout)
            raise typer.Exit(EXIT_READER_LEFT) from None
        except BaseException as error:
            if not is_stopped(error):
                explain(error)
                raise
            _say("workbench: stopped")
            raise typer.Exit(EXIT_STOPPED) from None


app = typer.Typer(
    name="workbench",
    cls=_Commands,
    help="May this AI application go live, and what if it goes wrong? Answers with evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit: 0 done or GO, 1 a negative verdict or a refused record, 2 wrong use or configuration, 3 not enough evidence, "
    "70 an unexpected fault, 130 stopped.",
)
app.command("demo")(demo.demo)
app.command("init")(apps.init)
app.command("doctor")(doctor.doctor)
app.command("lab")(lab.lab)
app.command("import")(imports.import_)
app.command("export")(export.export)
app.command("erase")(erasing.erase)
app.command("serve")(serve.serve)
app.command("readiness")(readiness.readiness)
app.command("impact")(impact.impact)
app.command("rollback")(releases.rollback)
app.add_typer(apps.group, name="app")
app.add_typer(bundles.group, name="bundle")
app.add_typer(releases.group, name="release")
app.add_typer(metrics.group, name="metrics")
app.add_typer(feedback.group, name="feedback")
app.add_typer(slo.group, name="slo")
app.add_typer(retrieval.group, name="retrieval")
app.add_typer(owners.group, name="owner")
app.add_typer(handoffs.group, name="handoff")
app.add_typer(keys.group, name="key")
app.add_typer(lake.group, name="lake")
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
    """Run the command line; every failure is one message on stderr and an exit code of its kind."""
    try:
        with never_lost():
            app()
    except WorkbenchError as error:
        sys.exit(_failed(f"{error}{_hint(error)}", error.exit_code))
    except KeyboardInterrupt:
        sys.exit(_failed("stopped", EXIT_STOPPED))
    except Exception as error:  # noqa: BLE001 - the edge: what nobody foresaw must not end with the exit code of a verdict
        sys.exit(_unexpected(error))


def _hint(error: WorkbenchError) -> str:
    """What a refusal in the demo's workspace most likely comes from; nothing for any other error."""
    from workbench import Workspace

    if not isinstance(error, NotPermitted):
        return ""
    try:
        with Workspace.open(create=False) as ws:
            home, is_demo = ws.home, ws.is_demo
    except WorkbenchError:
        return ""
    own = "for an app of your own: export WORKBENCH_HOME=$PWD/my-workspace"
    return f"; {home} is the demo's workspace, whose people are the demo's; {own}" if is_demo else ""


def _unexpected(error: Exception) -> int:
    import traceback

    if os.environ.get("WORKBENCH_DEBUG", "") not in ("", "0"):
        _say(traceback.format_exc())
    words = " ".join(str(error).split())
    hint = "run it again with WORKBENCH_DEBUG=1 for the traceback"
    return _failed(f"{type(error).__name__}{f': {words}' if words else ''}; {hint}", EXIT_UNEXPECTED)


def _failed(message: str, code: int) -> int:
    """The exit code, after the message is said."""
    from workbench.views.tables import shown

    _say(f"workbench: {shown(message)}")
    _let_go(sys.stdout)
    return code


def _say(text: str) -> None:
    """Print on stderr, where that is possible: the exit code matters more."""
    try:
        typer.echo(text, err=True)
    except OSError:
        _let_go(sys.stderr)


def _let_go(stream: TextIO) -> None:
    """Write out what is left; where that fails drop it, because the interpreter would try once more at its end and change the exit code."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
