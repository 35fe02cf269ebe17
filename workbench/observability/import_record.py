"""What the audit says about an import: that it begins, before its first row is stored, and what it did, after its last.

A run that was killed leaves a beginning without an end, so that no row is in the lake of which the audit does not speak. The next run of
the same file writes the end, whether or not there was anything left to store.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from workbench.ledger.audit import AuditEntry, entries_of
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.store import Ledger
from workbench.observability.import_report import ImportReport, subject_of

IMPORT_BEGUN = "log.import.begin"
IMPORTED = "log.import"


class ImportRecord:
    """The audit entries of imports."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def begin(self, author: Author, format_: str, files: Sequence[tuple[Path, str]]) -> None:
        """Write that an import begins.

        Args:
            files: each with the SHA-256 of its bytes, hex.
        """
        detail: dict[str, JSON] = {"format": format_, "files": [{"file": path.name, "sha256": digest} for path, digest in files]}
        with self._ledger.write() as act:
            act.audit(author, IMPORT_BEGUN, app=None, subject=subject_of(format_, [path for path, _ in files]), detail=detail)

    def is_open(self, digests: Collection[str]) -> bool:
        """Whether an import of one of the files began and its end was never written."""
        with self._ledger.read() as connection:
            begun = _newest(entries_of(connection, IMPORT_BEGUN, app=None))
            ended = _newest(entries_of(connection, IMPORTED, app=None))
        return any(begun.get(digest, 0) > ended.get(digest, 0) for digest in digests)

    def end(self, author: Author, report: ImportReport) -> None:
        """Write what an import did."""
        with self._ledger.write() as act:
            act.audit(author, IMPORTED, app=None, subject=report.subject, detail=report.summary())


def _newest(entries: Sequence[AuditEntry]) -> dict[str, int]:
    """Digest of a file to the number of the last of the entries that names it."""
    return {file["sha256"]: entry.seq for entry in entries for file in entry.detail["files"]}
