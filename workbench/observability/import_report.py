"""What an import did: per file the records read, stored, found again and refused, with the reason. Values; no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """The records refused for one reason."""

    count: int
    example: str
    """`file:record: sentence` of the first; it never quotes the record."""
    lines: tuple[int, ...] = ()
    """Where the first of them stand, at most `MOST_NAMED`: lines of the file, or records where it has none."""

    def with_one_at(self, line: int) -> Refusals:
        """These, and one more record."""
        lines = self.lines if len(self.lines) >= MOST_NAMED else (*self.lines, line)
        return Refusals(count=self.count + 1, example=self.example, lines=lines)


MOST_NAMED = 10
"""Refused records of one reason of which it is remembered where they stand."""


def stored_already(n_refused: int) -> str:
    """What is said of a file that an earlier run stored as a whole, `n_refused` of its records refused, as far as that is known."""
    refused = f"{n_refused:,} of its records were refused then" if n_refused else "records refused then are not counted again"
    return f"this file is stored already; nothing was read; {refused}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What became of one file. `read` is `stored` + `completed` + `duplicates` + all of `refused`."""

    file: str
    digest: str
    """SHA-256 of the file's bytes, hex."""
    read: int
    """Records read in this run."""
    stored: int
    """Requests that are in the lake because of this run."""
    duplicates: int
    """Records whose request the lake held, or that the file repeats."""
    earlier: int
    """Records that an earlier run of the same file dealt with."""
    completed: int = 0
    """Records whose request the lake held without a bundle, and which has this import's now, as a new revision."""
    refused_earlier: int = 0
    """How many of `earlier` were refused then; counted when the file is stored as a whole by one run."""
    refused: Mapping[str, Refusals] = field(default_factory=dict)
    unread: int = 0
    """Outcomes of this run that no KPI, rule of success or metric of the app reads; they are stored all the same."""
    bundles: tuple[str, ...] = ()
    """Bundles that the file's traffic is stored under, when the file itself describes them."""
    notes: tuple[str, ...] = ()

    @property
    def n_refused(self) -> int:
        """Records refused, in this run or when the file was stored."""
        return sum(refusals.count for refusals in self.refused.values()) + self.refused_earlier

    @property
    def n_there(self) -> int:
        """Records whose request was in the lake before this run."""
        return self.duplicates + self.completed + self.earlier - self.refused_earlier


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did."""

    format: str
    apps: tuple[str, ...]
    """Apps whose requests are in the lake by this run or were there already, sorted."""
    files: tuple[FileReport, ...]
    apps_without_bundle: tuple[str, ...] = ()
    """Those of the apps that no bundle is registered for; a review needs one."""
    is_dry_run: bool = False
    """Nothing was stored: the counts say what an import would do."""

    @property
    def read(self) -> int:
        return sum(report.read for report in self.files)

    @property
    def stored(self) -> int:
        return sum(report.stored for report in self.files)

    @property
    def duplicates(self) -> int:
        return sum(report.duplicates for report in self.files)

    @property
    def completed(self) -> int:
        return sum(report.completed for report in self.files)

    @property
    def earlier(self) -> int:
        return sum(report.earlier for report in self.files)

    @property
    def n_there(self) -> int:
        """Records whose request was in the lake before this run."""
        return sum(report.n_there for report in self.files)

    @property
    def refused(self) -> int:
        """Records refused, in this run or when their file was stored."""
        return sum(report.n_refused for report in self.files)

    @property
    def is_all_unread(self) -> bool:
        """There were outcomes, and nothing reads a single one of them."""
        return 0 < self.stored == sum(report.unread for report in self.files)

    @property
    def is_all_refused(self) -> bool:
        """There were records, and not one of them is in the lake."""
        return self.refused > 0 and not self.stored and not self.n_there

    @property
    def subject(self) -> str:
        """What an audit entry calls this import."""
        return subject_of(self.format, [Path(report.file) for report in self.files])

    def summary(self) -> dict[str, Any]:
        """The counts as JSON, for an audit entry: file names and digests, nothing of their content."""
        return {
            "format": self.format,
            "apps": list(self.apps),
            "files": [
                {
                    "file": Path(report.file).name,
                    "sha256": report.digest,
                    "read": report.read,
                    "stored": report.stored,
                    "duplicates": report.duplicates,
                    "completed": report.completed,
                    "earlier": report.earlier,
                    "refused_earlier": report.refused_earlier,
                    "refused": {reason: refusals.count for reason, refusals in report.refused.items()},
                    "bundles": list(report.bundles),
                }
                for report in self.files
            ],
        }


def subject_of(format_: str, files: Sequence[Path]) -> str:
    """What an audit entry calls an import of these files."""
    return f"{format_}: {files[0].name}" if len(files) == 1 else f"{format_}: {len(files)} files"
