"""What the commands share: the options that mean the same everywhere, and printing as text or JSON."""

from __future__ import annotations

from typing import Annotated, Any

import typer

NARROWEST = 40
"""Columns below which a terminal folds what is printed by itself."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def terminal_width() -> int:
    """Columns of the terminal that is printed on; where there is none, as in a pipe or a file, the width that tables always have."""
    import shutil
    import sys

    from workbench.views.tables import WIDTH

    return max(NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns) if sys.stdout.isatty() else WIDTH


def print_json(value: Any) -> None:
    """Print a noun, or a structure of them, as indented JSON."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    typer.echo(orjson.dumps(value, default=_plain, option=options).decode())


def _plain(value: Any) -> Any:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path

    from pydantic import BaseModel

    match value:
        case BaseModel():
            return value.model_dump(mode="json", exclude_none=True)
        case Mapping():
            return dict(value)
        case timedelta():
            return value.total_seconds()
        case set() | frozenset():
            return sorted(value)
        case Path():
            return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
