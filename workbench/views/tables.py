"""Rows to an aligned terminal table: the one shape for every list that is printed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from workbench.spec.base import is_steering

WIDTH = 140
"""Columns of a rendered table; terminals wrap what is longer."""


def rows_text(rows: Sequence[Mapping[str, Any]], *, empty: str = "nothing") -> str:
    """Rows of equal keys as a table with those keys as headings; `empty` when there are none."""
    if not rows:
        return empty
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name, value in rows[0].items():
        is_number = isinstance(value, int | float)
        table.add_column(Text(shown(name, keep="")), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row.values()))
    return rendered(table)


def shown(text: str, *, keep: str = "\t\n") -> str:
    """The text, safe for a terminal: what would steer it or turn the direction of text stands there as an escape.

    Args:
        text: logged, declared or typed by anybody.
        keep: control characters that may stay; none in a table's cell, where a line end would look like another row.
    """
    return "".join(
        character if character in keep or not (is_steering(character) or character in "\t\n") else ascii(character)[1:-1]
        for character in text
    )


def cell(value: Any) -> str:
    """A value as it stands in a table: missing is a dash, times are UTC to the second, and nothing in it steers the terminal."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return shown(str(value), keep="")


def rendered(*parts: RenderableType, width: int = WIDTH) -> str:
    """Rich renderables as plain text, without colour codes or trailing blanks."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False, force_jupyter=False, highlight=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
