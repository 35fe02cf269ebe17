"""`workbench doctor`: is this installation and workspace sound?"""

from __future__ import annotations

import typer

from workbench.cli.shared import Json, print_json, terminal_width


def doctor(as_json: Json = False) -> None:
    """Check the installation and the workspace; one line per check, exit 1 when one fails."""
    from workbench.cli.checks import run_checks
    from workbench.views.tables import rows_text

    rows = run_checks()
    if as_json:
        print_json(rows)
    else:
        typer.echo(rows_text(rows, width=terminal_width()))
    raise typer.Exit(0 if all(row["state"] != "broken" for row in rows) else 1)
