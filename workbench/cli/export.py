"""`workbench export`: the log for other engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.shared import Json, print_json


def export(
    parquet: Annotated[
        Path, typer.Option("--parquet", metavar="DIR", help="A folder that is not there yet, or is empty, for example log-2026-11-01.")
    ],
    app: Annotated[list[str] | None, typer.Option(help="Only this app; repeat for several.")] = None,
    as_json: Json = False,
) -> None:
    """Write one consistent snapshot of the log as Parquet: requests, spans, scores, outcomes and judgments, in their newest versions.

    DIR/manifest.json names the snapshot and every file with its rows and digest. What was erased is not in it; a folder that was exported
    before an erasure keeps what it had, so export it anew and delete the old one.
    """
    from workbench import Workspace
    from workbench.cli.progress import file_progress
    from workbench.views.tables import rows_text

    with Workspace.open(create=False) as ws, file_progress(is_quiet=as_json) as progress:
        for name in app or ():
            ws.require_app(name)
        ws.logs.flush()
        manifest = ws.exports.parquet(parquet, apps=app or (), progress=progress)
    if as_json:
        print_json(manifest)
        return
    rows = [
        {"table": name, "rows": table.rows, "files": len(table.files), "MB": round(sum(file.n_bytes for file in table.files) / 1e6, 1)}
        for name, table in manifest.tables.items()
    ]
    typer.echo(rows_text(rows))
    typer.echo(f"\nSnapshot {manifest.snapshot} of the log in {parquet}; {manifest.digest}")
