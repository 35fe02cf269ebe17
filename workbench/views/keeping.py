"""The log's upkeep and retention as text: what was done, what was declared, what would go."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.observability.keeping import KeepingReport
from workbench.observability.retention import Outdated
from workbench.observability.retention_policy import ALL_APPS, RetentionPolicy
from workbench.views.erasure import erasures_text, upkeep_text
from workbench.views.numbers import counted
from workbench.views.tables import WIDTH, rows_text


def keeping_text(report: KeepingReport, *, width: int = WIDTH) -> str:
    """What a run did."""
    parts = [outdated_text(report.retention, is_done=True, width=width)] if report.retention else []
    parts.append(upkeep_text(report.upkeep))
    parts += [erasures_text(report.erasures, width=width)] if report.erasures else []
    return "\n\n".join(parts)


def retention_text(policy: RetentionPolicy, *, width: int = WIDTH) -> str:
    """What was declared, one line per app."""
    rows = [
        {
            "app": "every other app" if app == ALL_APPS else app,
            "rows": _kept(term.rows_days if term else None),
            "sums": _kept(term.rollups_days if term else None),
            "evidence holds": _kept(term.evidence_days if term else None),
        }
        for app, term in sorted(policy.terms.items(), key=lambda item: (item[0] == ALL_APPS, item[0]))
    ]
    return rows_text(rows, empty="everything is kept for good; `workbench lake retention set 90d --reason …` changes that", width=width)


def outdated_text(outdated: Sequence[Outdated], *, is_done: bool, width: int = WIDTH) -> str:
    """What went, or would go, one line per app."""
    rows = [
        {
            "app": found.app,
            "taken out" if is_done else "would go": ", ".join(f"{n:,} of {table}" for table, n in found.rows.items()),
            "days": f"{found.first} to {found.last}",
            "kept from": found.rows_before.isoformat(),
        }
        for found in outdated
    ]
    return rows_text(rows, empty="nothing is older than declared", width=width)


def _kept(days: int | None) -> str:
    return "for good" if days is None else counted(days, "day")
