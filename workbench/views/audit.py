"""The audit chain as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.ledger.audit import AuditEntry, ChainReport
from workbench.views.tables import WIDTH, named, rows_text

DIGEST_SHOWN = 19
"""`sha256:` and 12 hex digits."""


def entries_text(entries: Sequence[AuditEntry], *, names: Mapping[str, str] | None = None, width: int = WIDTH) -> str:
    """One line per act: number, time, who, by which edge, what, on what.

    Args:
        entries: in the order to show.
        names: bundle id to name; a bundle that an act is on is shown with it.
        width: columns of the terminal.
    """
    rows = [
        {
            "seq": entry.seq,
            "time": entry.time,
            "actor": entry.actor,
            "via": f"{entry.via} ({entry.assurance})",
            "act": entry.act,
            "app": entry.app,
            "subject": named(entry.subject, names or {}),
            "digest": entry.digest[:DIGEST_SHOWN],
        }
        for entry in entries
    ]
    return rows_text(rows, empty="the audit is empty", width=width)


def chain_text(report: ChainReport) -> str:
    """What `audit verify` found, with the head to keep for a later check."""
    if not report.is_whole:
        return f"BROKEN at entry {report.broken_at}: {report.reason}"
    if report.n == 0:
        return "the audit is empty"
    keep = "Keep the head: `workbench audit verify --head …` later proves that nothing was cut off since. Reviews print theirs."
    return f"whole: {report.n} entries; head {report.head}\n{keep}"
