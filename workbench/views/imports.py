"""What an import did, as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from workbench.observability.imports import FileReport, ImportReport
from workbench.views.numbers import counted
from workbench.views.page import Column, Page, Section, page_text
from workbench.views.tables import WIDTH

_ROWS = {"scores": "score", "outcomes": "outcome"}
_COLUMNS = ("file", "read", "stored", "there already", "refused")
_BUNDLES = "bundles"
_MOST_LINES = 10
"""Refused records that the next step names."""


def import_text(report: ImportReport, *, width: int = WIDTH) -> str:
    """The counts of each file, why records were refused, what to know, and what to do next."""
    are_described = any(file.bundles for file in report.files)
    titles = (*_COLUMNS, _BUNDLES) if are_described else _COLUMNS
    columns = tuple(Column(title=title, is_number=title not in ("file", _BUNDLES)) for title in titles)
    page = Page(
        sections=(
            Section(title="", columns=columns, rows=tuple(_row(file)[: len(titles)] for file in report.files)),
            *_lines("Refused", [line for file in report.files for line in _refusals(file)]),
            *_lines("Notes", list(dict.fromkeys(note for file in report.files for note in file.notes))),
        ),
        footer=(_total(report), *_next(report)),
    )
    return page_text(page, width=width)


def _total(report: ImportReport) -> str:
    stored = counted(report.stored, _ROWS.get(report.format, "request")) + (" would be stored" if report.is_dry_run else " stored")
    completed = f", {report.completed:,} of them given their bundle" if report.completed else ""
    counts = f"{stored}, {report.n_there:,} there already{completed}, {counted(report.refused, 'record')} refused."
    return f"Dry run: {counts} Nothing was stored." if report.is_dry_run else counts


def _next(report: ImportReport) -> Iterator[str]:
    if report.is_all_refused:
        yield "Next: correct the file or the options as said above, and import it again"
        return
    if report.refused:
        which = " and ".join(_places(file) for file in report.files if file.n_refused)
        them = "that record in a file of its own" if report.refused == 1 else "those records in a file of their own"
        stays = "all others would be stored" if report.is_dry_run else "what is stored stays"
        yield f"Next: correct {which}, and import {them}; {stays}"
    if report.is_dry_run:
        yield "Next: the same without --dry-run"
        return
    for app in report.apps:
        if report.is_all_unread:
            yield "Next: correct the names of the outcomes, or declare what reads them under `kpis` in app.yaml"
        elif report.format in _ROWS:
            yield f"Next: `workbench metrics list --app {shlex.quote(app)}` names what counts them"
        elif app in report.apps_without_bundle:
            yield f"Next: `workbench bundle register DIR`; no bundle of {app} is registered, and a review is of a bundle"
        else:
            yield f"Next: `workbench readiness {shlex.quote(app)}`"


def _row(file: FileReport) -> tuple[str, ...]:
    name = file.file.rpartition("/")[2]
    return (name, f"{file.read:,}", f"{file.stored:,}", f"{file.n_there:,}", f"{file.n_refused:,}", ", ".join(file.bundles))


def _places(file: FileReport) -> str:
    """The refused records of a file, by their lines as far as they are known: `calls.csv:2, 3, 5 and 4 more`."""
    name = file.file.rpartition("/")[2]
    lines = sorted(line for refusals in file.refused.values() for line in refusals.lines)[:_MOST_LINES]
    if not lines:
        return f"what was refused of {name}"
    more = file.n_refused - len(lines)
    return f"{name}:{', '.join(map(str, lines))}" + (f" and {more:,} more" if more else "")


def _refusals(file: FileReport) -> Iterator[str]:
    for reason, refusals in sorted(file.refused.items(), key=lambda item: (-item[1].count, item[0])):
        yield f"{refusals.count:,} × {reason}; the first: {refusals.example}"


def _lines(title: str, lines: list[str]) -> Iterator[Section]:
    if lines:
        yield Section(title=title, lines=tuple(lines))
