"""How long the log keeps what it holds, as it was declared, and from which day on that is.

Rows go by whole days, in UTC, as the tables are partitioned. What was declared for an app holds for it, what was declared for all apps for
the others; where nothing was declared, everything is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from workbench.errors import UsageError
from workbench.spec.base import parse_duration

LONGEST_DAYS = 36_500
ALL_APPS = "*"
"""Stands for every app for which nothing of its own was declared."""
_DAY = timedelta(days=1)
_APP = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """How many days each kind of thing is kept; 1 or more, but evidence may hold nothing back."""

    rows_days: int
    """Of requests, spans, scores and outcomes: those of so many whole days before today."""
    rollups_days: int
    """Of the sums by the hour; at least as long as the rows."""
    evidence_days: int
    """How long what evidence rests on is kept for asking again, counted from when it was collected; at most as long as the rows. Meanwhile
    the snapshot that it cites still shows the rows of its time."""

    def rows_before(self, now: datetime) -> date:
        """The first day whose rows are kept."""
        return now.astimezone(UTC).date() - timedelta(days=self.rows_days)

    def rollups_before(self, now: datetime) -> date:
        """The first day whose sums are kept."""
        return now.astimezone(UTC).date() - timedelta(days=self.rollups_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """What was declared: app, or `*`, to its term; None says that everything of it is kept."""

    terms: Mapping[str, Term | None] = field(default_factory=dict)

    def term(self, app: str) -> Term | None:
        """What holds for an app; None where everything of it is kept."""
        return self.terms[app] if app in self.terms else self.terms.get(ALL_APPS)

    def declared(self, app: str, term: Term | None) -> RetentionPolicy:
        """The policy after this declaration."""
        return replace(self, terms={**self.terms, app: term})

    def latest(self, now: datetime) -> date | None:
        """The first day of which every app's rows are kept; None where nothing ever goes."""
        return max((term.rows_before(now) for term in self.terms.values() if term is not None), default=None)

    def evidence_since(self, app: str, now: datetime) -> datetime | None:
        """From when on evidence holds its snapshot; None for always."""
        term = self.term(app)
        return None if term is None else now - timedelta(days=term.evidence_days)

    def to_json(self) -> dict[str, Any]:
        return {app: None if term is None else asdict(term) for app, term in sorted(self.terms.items())}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RetentionPolicy:
        return cls(terms={app: None if term is None else Term(**term) for app, term in content.items()})


def parse_term(rows: str, *, rollups: str | None = None, evidence: str | None = None) -> Term:
    """The term that people wrote, such as `90d`, `400d` and `30d`.

    Args:
        rows: how long rows are kept.
        rollups: how long sums are; as long as the rows where it is None.
        evidence: how long evidence holds its snapshot; as long as the rows where it is None, not at all for `0d`.

    Raises:
        UsageError: one of them is no number of whole days, or they contradict each other.
    """
    rows_days = _days("rows", rows)
    term = Term(
        rows_days=rows_days,
        rollups_days=rows_days if rollups is None else _days("roll-ups", rollups),
        evidence_days=rows_days if evidence is None else _days("evidence", evidence, least=0),
    )
    if term.rollups_days < term.rows_days:
        raise UsageError(
            "retention: roll-ups", seen=f"{term.rollups_days} days", needed=f"at least the {rows_days} days of the rows that they sum"
        )
    if term.evidence_days > term.rows_days:
        raise UsageError("retention: evidence", seen=f"{term.evidence_days} days", needed=f"at most the {rows_days} days of the rows")
    return term


def parse_app(app: str | None) -> str:
    """The key of an app in the policy, or of all apps.

    Raises:
        UsageError: it is no app's name.
    """
    if app is None:
        return ALL_APPS
    if not _APP.fullmatch(app):
        raise UsageError(f"retention: app {app[:80]!r}", seen="no name of an app", needed="lower-case letters, digits, _ and -")
    return app


def _days(what: str, text: str, *, least: int = 1) -> int:
    if least == 0 and re.fullmatch(r"\s*0\s*[dw]\s*", text):
        return 0
    try:
        span = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"retention: {what}", seen=str(error), needed="whole days, for example 90d") from error
    if span % _DAY or not least <= span // _DAY <= LONGEST_DAYS:
        needed = f"whole days from {least} to {LONGEST_DAYS}, for example 90d"
        raise UsageError(f"retention: {what}", seen=repr(text), needed=needed)
    return span // _DAY
