"""Rows to an aligned terminal table: the one shape for every list that is printed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from workbench.spec.base import is_steering

WIDTH = 140
"""Columns of a rendered table where no terminal says otherwise, as in a pipe."""
_GAP = 3
"""Blanks between two columns of a table."""
_FOLDED_FROM = 20
"""A column of text is not made narrower than this."""
_LEADING = 2
"""Most columns that head a row which is told in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading; `is_number` aligns right and keeps each cell on one line."""

    title: str
    is_number: bool = False


def rows_text(rows: Sequence[Mapping[str, Any]], *, empty: str = "nothing", width: int = WIDTH) -> str:
    """Rows of equal keys as a table with those keys as headings; `empty` when there are none."""
    if not rows:
        return empty
    columns = [Column(title=name, is_number=isinstance(value, int | float)) for name, value in rows[0].items()]
    return rendered(aligned(columns, [[cell(value) for value in row.values()] for row in rows], width=width), width=width)


def aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int) -> RenderableType:
    """The rows under their headings; where these have no room side by side, each row in words. Nothing is left out.

    Args:
        columns: the headings.
        rows: one or more, each with a cell for each column.
        width: columns of the terminal.
    """
    columns = [Column(title=shown(column.title, keep=""), is_number=column.is_number) for column in columns]
    rows = [[shown(text, keep="") for text in row] for row in rows]
    below = list(zip(*rows, strict=True))
    natural = [max(map(cell_len, (column.title, *texts))) for column, texts in zip(columns, below, strict=True)]
    least = [_least_width(column, texts) for column, texts in zip(columns, below, strict=True)]
    room = width - _GAP * (len(columns) - 1)
    if sum(least) > room:
        return Group(*(part for row in rows for part in _in_words(columns, row)))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for column, size in zip(columns, _shrunk(natural, least, room), strict=True):
        table.add_column(Text(column.title), justify="right" if column.is_number else "left", overflow="fold", width=size)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _least_width(column: Column, texts: Sequence[str]) -> int:
    """What the column needs so that only text is folded, and only between words."""
    if column.is_number:
        return max(_longest_word(column.title), *map(cell_len, texts))
    return max(max(_longest_word(text), min(cell_len(text), _FOLDED_FROM)) for text in (column.title, *texts))


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _shrunk(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths that fit the room together: the widest column gives way first, none below its least."""
    widths = [max(low, min(width, room)) for width, low in zip(natural, least, strict=True)]
    while sum(widths) > room:
        widths[max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))] -= 1
    return widths


def _in_words(columns: Sequence[Column], row: Sequence[str]) -> Iterator[RenderableType]:
    """One row as its first words and, below them, what the other columns say, each by its name."""
    n_leading = next((i for i, column in enumerate(columns[:_LEADING]) if column.is_number), min(_LEADING, len(columns)))
    named = [f"{column.title} {text}" for column, text in zip(columns, row, strict=True)]
    head, rest = (row[:n_leading], named[n_leading:]) if n_leading else (named[:1], named[1:])
    yield Text("  ".join(text for text in head if text))
    details = " · ".join(words for words, text in zip(rest, row[len(head) :], strict=True) if text)
    if details:
        yield Padding(Text(details), (0, 0, 0, 4))


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


def named(bundle_id: str, names: Mapping[str, str]) -> str:
    """A bundle's id with its name, `support@1a2b3c4d5e6f (v2)`; whatever has no name stays as it is."""
    return f"{bundle_id} ({names[bundle_id]})" if bundle_id in names else bundle_id


def rendered(*parts: RenderableType, width: int = WIDTH) -> str:
    """Rich renderables as plain text, without colour codes or trailing blanks."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False, force_jupyter=False, highlight=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
