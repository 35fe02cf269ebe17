"""`workbench import`: bring recorded traffic into the log lake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.shared import Json, print_json

if TYPE_CHECKING:
    from workbench import Workspace


def import_(
    format_: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="openai-jsonl, otlp, langfuse, inspect, promptfoo, tau2 or csv; or scores or outcomes, for what happened after answers.",
        ),
    ],
    files: Annotated[list[Path], typer.Argument(metavar="FILE…")],
    app: Annotated[str | None, typer.Option(help="The app that the traffic belongs to, where the file does not say.")] = None,
    bundle: Annotated[
        str | None, typer.Option(help="The registered bundle that answered, where the file does not say: its id or name.")
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="For csv, scores and outcomes: the file that maps columns to fields.")] = None,
    zone: Annotated[str | None, typer.Option(help="Time zone of times that carry none, for example Europe/Berlin.")] = None,
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read, check and count; store nothing, register nothing and write no audit entry.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=0, max=64, help="Processes that read a file; by default one for each core for large files, 0 for none."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Import log FILEs. Importing the same file again stores nothing; refused records are counted with the reason, all others are stored.

    openai-jsonl: chat completions, one JSON object per line, or OpenAI Batch output. csv: any table, with --mapping.

    inspect: logs of Inspect, .eval or .json; one epoch of one sample is one request. tau2: run files of tau2-bench.

    langfuse: exports of its UI, API or blob storage; one trace is one request. Name tables that belong together in one command.

    promptfoo: its results as JSON or JSONL; one answer to one test is one request, each provider and prompt a bundle.

    Exit 1 when a record was refused, now or when the file was stored, also where all others are stored; 0 when none was.
    A run that goes on after a kill knows of those that it read itself.
    """
    from workbench.cli.progress import file_progress
    from workbench.views.imports import import_text

    with _workspace(is_dry_run=is_dry_run) as ws, file_progress(is_quiet=as_json) as progress:
        report = ws.imports.run(
            format_,
            files,
            app=app,
            bundle=bundle,
            mapping=mapping,
            zone=zone,
            progress=progress,
            is_dry_run=is_dry_run,
            workers=workers,
        )
    if as_json:
        print_json(report)
    else:
        typer.echo(import_text(report))
    if report.refused:
        raise typer.Exit(1)


@contextmanager
def _workspace(*, is_dry_run: bool) -> Iterator[Workspace]:
    """The workspace; for a dry run where there is none, one that is gone afterwards."""
    from workbench import Workspace
    from workbench.settings import default_home

    if is_dry_run and not default_home().exists():
        with TemporaryDirectory(prefix="workbench-") as folder, Workspace.open(folder) as ws:
            yield ws
    else:
        with Workspace.open() as ws:
            yield ws
