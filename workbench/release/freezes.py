"""When nobody releases, and when only one person does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from workbench.release.model import Lock, LockKind, Objection
from workbench.spec.plan import FreezeWindow, PlanSpec

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def freeze_now(locks: Sequence[Lock], plan: PlanSpec | None, *, now: datetime) -> str | None:
    """Why nobody may release at this moment; None when nothing is frozen.

    Args:
        locks: on the app's releases.
        plan: of the app; its freeze days are days in UTC.
        now: the present, aware.
    """
    by_hand = next((lock for lock in locks if lock.kind is LockKind.FREEZE), None)
    if by_hand:
        return f"{by_hand.holder} froze releases at {by_hand.since:%Y-%m-%d %H:%M} UTC: {by_hand.reason}"
    today = now.astimezone(UTC).date()
    window = next((window for window in plan.freeze if _holds(window, today)), None) if plan else None
    if window is None:
        return None
    if window.first is not None and window.last is not None:
        return f"the plan has no releases from {window.first} to {window.last} (UTC): {window.reason}"
    return f"the plan has no releases on {_DAYS[today.weekday()]} (UTC): {window.reason}"


def _holds(window: FreezeWindow, today: date) -> bool:
    """Whether the day is one of the window's."""
    is_within = (window.first is None or window.first <= today) and (window.last is None or today <= window.last)
    return is_within and (not window.days or _DAYS[today.weekday()] in window.days)


def lock_of(locks: Sequence[Lock]) -> Lock | None:
    """The lock that lets only its holder release; None when there is none."""
    return next((lock for lock in locks if lock.kind is LockKind.LOCK), None)


def objection_to_release(person: str, locks: Sequence[Lock], plan: PlanSpec | None, *, now: datetime) -> Objection | None:
    """Why this person may not release now; None when they may."""
    frozen = freeze_now(locks, plan, now=now)
    if frozen:
        return Objection(reason="frozen", seen=frozen, next_step="wait for its end; a rollback is possible at any time")
    return objection_to_lock(person, locks)


def objection_to_lock(person: str, locks: Sequence[Lock]) -> Objection | None:
    """Why somebody else's lock stops this person; None when there is none."""
    lock = lock_of(locks)
    if lock is None or lock.holder == person:
        return None
    seen = f"{lock.holder} holds the lock since {lock.since:%Y-%m-%d %H:%M} UTC: {lock.reason}"
    return Objection(reason="locked", seen=seen, next_step=f"ask {lock.holder} to unlock, or take the lock over with a reason")
