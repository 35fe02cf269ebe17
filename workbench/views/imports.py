"""What an import did, as text."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.observability.imports import FileReport, ImportReport
from workbench.views.numbers import counted
from workbench.views.page import Column, Page, Section, page_text
from workbench.views.tables import WIDTH

_COLUMNS = ("file", "read", "stored", "there already", "refused", "bundles")


def import_text(report: ImportReport, *, width: int = WIDTH) -> str:
    """The counts of each file, why records were refused, what to know, and what to do next."""
    rows = tuple(_row(file) for file in report.files)
    total = (
        f"{counted(report.stored, 'request')} stored, {report.duplicates + report.earlier:,} there already, "
        f"{counted(report.refused, 'record')} refused."
    )
    page = Page(
        sections=(
            Section(
                title="", columns=tuple(Column(title=title, is_number=title not in ("file", "bundles")) for title in _COLUMNS), rows=rows
            ),
            *_lines("Refused", [line for file in report.files for line in _refusals(file)]),
            *_lines("Notes", list(dict.fromkeys(note for file in report.files for note in file.notes))),
        ),
        footer=(total, *(f"Next: `workbench readiness {app}`" for app in report.apps)),
    )
    return page_text(page, width=width)


def _row(file: FileReport) -> tuple[str, ...]:
    name = file.file.rpartition("/")[2]
    there = file.duplicates + file.earlier
    return (name, f"{file.read:,}", f"{file.stored:,}", f"{there:,}", f"{file.n_refused:,}", ", ".join(file.bundles))


def _refusals(file: FileReport) -> Iterator[str]:
    for reason, refusals in sorted(file.refused.items(), key=lambda item: (-item[1].count, item[0])):
        yield f"{refusals.count:,} × {reason}; the first: {refusals.example}"


def _lines(title: str, lines: list[str]) -> Iterator[Section]:
    if lines:
        yield Section(title=title, lines=tuple(lines))
