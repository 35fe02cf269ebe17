"""A page for a reader as a value: banner, sentences, tables, footer. Text and HTML are drawn from the same words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Literal

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from workbench.views.tables import WIDTH, Column, aligned, rendered, shown

__all__ = ["Cell", "Chip", "Column", "Page", "Section", "Tone", "document", "page_html", "page_text"]

Tone = Literal["good", "bad", "open", "quiet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A state as word and shape, so that it reads without colour."""

    word: str
    shape: str
    """One character; each word has its own."""
    tone: Tone

    def __str__(self) -> str:
        return f"{self.shape} {self.word}"


Cell = str | Chip
_INDENT = 2
"""Blanks before a table of a section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with lines of prose, a table with a note, and literal text, each of which may be absent."""

    title: str
    lines: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    note: str = ""
    """Under the table: how to read it."""
    literal: str = ""
    """Shown as it is, in fixed width: a text difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a reader sees, from top to bottom."""

    title: str = ""
    banner: Chip | None = None
    lead: tuple[str, ...] = ()
    """Sentences under the banner; the first is the finding."""
    sections: tuple[Section, ...] = ()
    footer: tuple[str, ...] = ()


def page_text(page: Page, *, width: int = WIDTH) -> str:
    """The page for a terminal, without colour codes.

    Args:
        page: the page.
        width: columns; longer prose wraps at words.
    """
    head = "   ".join(part for part in (str(page.banner) if page.banner else "", page.title) if part)
    top = [Text(line) for line in (head, *page.lead) if line]
    blocks = [rendered(*top, width=width)] if top else []
    blocks += [_section_text(section, width) for section in page.sections]
    if page.footer:
        blocks.append(rendered(*(Text(line) for line in page.footer), width=width))
    return shown("\n\n".join(block for block in blocks if block))


def page_html(page: Page) -> str:
    """The page as an HTML fragment with its own style; nothing is fetched, everything is escaped."""
    parts = [f"<style>{_STYLE}</style>", '<section class="wb">']
    if page.title:
        parts.append(f"<h1>{escape(page.title)}</h1>")
    if page.banner:
        parts.append(f'<p class="wb-banner">{_chip_html(page.banner)}</p>')
    parts += [f'<p class="{"wb-finding" if place == 0 else "wb-lead"}">{escape(line)}</p>' for place, line in enumerate(page.lead)]
    for section in page.sections:
        parts += _section_html(section)
    if page.footer:
        parts.append("<footer>" + "<br>".join(escape(line) for line in page.footer) + "</footer>")
    parts.append("</section>")
    return "\n".join(parts)


def document(page: Page, *, head: str = "", after: Iterable[str] = ()) -> str:
    """The page as a whole HTML file that opens anywhere and needs no network.

    Args:
        page: the page.
        head: what figures need to be drawn, as `views.theme` makes it.
        after: HTML fragments below the page: figures, further pages.
    """
    body = "\n".join((page_html(page), *after))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n{head}</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _section_text(section: Section, width: int) -> str:
    """Prose and table fit the width; literal text is never cut or folded."""
    parts: list[RenderableType] = [Text(section.title)] if section.title else []
    parts += [_bullet(line) for line in section.lines]
    if section.rows:
        table = aligned(section.columns, [[str(cell) for cell in row] for row in section.rows], width=width - _INDENT)
        parts += [Padding(part, (0, 0, 0, _INDENT)) for part in (table, *([Text(section.note)] if section.note else []))]
    shown = [rendered(*parts, width=width)] if parts else []
    return "\n".join([*shown, *(f"  {line}".rstrip() for line in section.literal.splitlines())])


def _bullet(line: str) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=3)
    grid.add_column(overflow="fold")
    grid.add_row(Text("  -"), Text(line))
    return grid


def _section_html(section: Section) -> Iterable[str]:
    if section.title:
        yield f"<h2>{escape(section.title)}</h2>"
    if section.lines:
        yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in section.lines) + "</ul>"
    if section.rows:
        heads = "".join(f'<th{_align(column)} scope="col">{escape(column.title)}</th>' for column in section.columns)
        yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
        for row in section.rows:
            cells = (f"<td{_align(column)}>{_cell_html(cell)}</td>" for column, cell in zip(section.columns, row, strict=True))
            yield f"<tr>{''.join(cells)}</tr>"
        yield "</tbody></table>"
        if section.note:
            yield f'<p class="wb-note">{escape(section.note)}</p>'
    if section.literal:
        yield f"<pre>{escape(section.literal)}</pre>"


def _align(column: Column) -> str:
    return ' class="wb-number"' if column.is_number else ""


def _cell_html(cell: Cell) -> str:
    return _chip_html(cell) if isinstance(cell, Chip) else escape(cell)


def _chip_html(chip: Chip) -> str:
    return f'<span class="wb-chip wb-{chip.tone}">{escape(str(chip))}</span>'


_STYLE = """
.wb{font:15px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;max-width:70rem;margin:0 auto;padding:1rem 1.25rem}
.wb h1{font-size:1.35rem;margin:0 0 .5rem}.wb h2{font-size:1.05rem;margin:1.6rem 0 .4rem}
.wb p{margin:.3rem 0}.wb .wb-banner{font-size:1.5rem;font-weight:700}.wb .wb-finding{font-size:1.1rem}
.wb table{border-collapse:collapse;table-layout:auto!important;width:100%;margin:.3rem 0}.wb tr{break-inside:avoid}
.wb table th{text-align:left!important;border-bottom:2px solid #555;padding:.25rem .6rem .25rem 0;font-weight:600;vertical-align:bottom}
.wb table td{text-align:left!important;max-width:none;border-bottom:1px solid #ccc;padding:.3rem .6rem .3rem 0;vertical-align:top}
.wb table th.wb-number,.wb table td.wb-number{text-align:right!important;font-variant-numeric:tabular-nums}
.wb .wb-chip{display:inline-block;white-space:nowrap;border:2px solid;border-radius:.3rem;padding:0 .45rem;font-weight:600;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
.wb .wb-good{color:#00507a;border-color:#0072b2;background:#e3f1fa}.wb .wb-bad{color:#fff;border-color:#b34a00;background:#b34a00}
.wb .wb-open{color:#5c4300;border-color:#b98500;background:#fff4d6;border-style:dashed}
.wb .wb-quiet{color:#444;border-color:#999;background:#f2f2f2;border-style:dotted}
.wb .wb-note{color:#555;font-size:.85rem}
.wb pre{background:#f6f6f6;border:1px solid #ddd;padding:.6rem;overflow-x:auto;font-size:13px}
.wb-figure{max-width:70rem;margin:1rem auto;break-inside:avoid;overflow-x:auto}
.wb footer{margin-top:1.6rem;border-top:1px solid #999;padding-top:.4rem;color:#555;font-size:.85rem}
""".strip()
