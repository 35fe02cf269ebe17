"""Releases that one person let go alone: whom to tell at once, and what waits for its review."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from workbench.release.model import BrokenGlass
from workbench.spec.people import PeopleSpec
from workbench.views.page import Section
from workbench.views.tables import shown


def alone_sections(glasses: Sequence[BrokenGlass], *, now: datetime | None = None) -> Iterable[Section]:
    """What was let go alone, how it was reviewed, and which reviews are owed; nothing where nothing was.

    Args:
        glasses: what is shown.
        now: against which a review that is owed is overdue.
    """
    if glasses:
        yield Section(title="Let go alone", lines=tuple(_line(glass, now) for glass in glasses))


def called_text(glass: BrokenGlass, people: PeopleSpec | None) -> str:
    """Whom whoever broke the glass has to reach now, and how."""
    known = people.people if people else {}
    ways = [f"{name} ({known[name].contact or 'no contact'})" if name in known else name for name in glass.called]
    who = ", ".join(ways) or "nobody: no one is on call, and no one else may approve"
    due = f"{glass.review_due_at:%Y-%m-%d %H:%M}"
    return shown(f"{glass.release_id} goes alone; tell at once: {who}. A second person reviews it until {due} UTC.")


def _line(glass: BrokenGlass, now: datetime | None) -> str:
    said = f"{glass.release_id}: {glass.person} let it go alone at {glass.broken_at:%Y-%m-%d %H:%M} UTC: {glass.reason}"
    if glass.verdict is not None:
        return f"{said}; {str(glass.verdict).replace('_', ' ')}, says {glass.reviewed_by}: {glass.review_reason}"
    late = "overdue since" if now is not None and glass.is_overdue(now) else "due at"
    due = f"{glass.review_due_at:%Y-%m-%d %H:%M}"
    return f"{said}; not reviewed yet: a second person's review is {late} {due} UTC (`workbench release reviewed`)"
