"""What a rollback takes back and what it restores, from what was in service before. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench.ledger.releases import StoredRelease
from workbench.release.model import SERVING, Kind, Objection, State

LAST_GOOD, FALLBACK, OFF = "last-good", "fallback", "off"
PLANNED_LAST_GOOD = "last_good"
"""How a plan writes it."""
IsWhole = Callable[[str], bool]
"""Whether a bundle's parts resolve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a rollback does."""

    is_swap: bool
    """Whether another bundle, or none, takes the place of the stable one; False only ends the canary under way."""
    bundle_id: str | None
    """What serves afterwards; None for the app's fallback or nothing."""
    without_bundle: str | None = None
    """`fallback` or `off` where somebody said which; None leaves it to the plan."""
    is_chosen: bool
    """Whether somebody chose it although the rules would restore something else, which takes a role."""


def promoted(history: Sequence[StoredRelease]) -> tuple[str, ...]:
    """Every bundle that was in service for everybody, the one that came last first, each once."""
    found = (release.bundle_id for release in reversed(history) if release.state == State.PROMOTED and release.bundle_id)
    return tuple(dict.fromkeys(found))


def rolled_back(history: Sequence[StoredRelease]) -> frozenset[str]:
    """Every bundle that was ever taken back, from a canary or from service."""
    canaries = {release.bundle_id for release in history if release.state == State.ROLLED_BACK}
    replaced = {release.previous_stable for release in history if release.kind == Kind.ROLLBACK}
    return frozenset(bundle for bundle in canaries | replaced if bundle)


def last_good(history: Sequence[StoredRelease], *, stable: str | None, is_whole: IsWhole) -> str | None:
    """The last promoted bundle that was never rolled back and whose parts still resolve; None when there is none.

    Args:
        history: the app's releases, oldest first.
        stable: what is in service, which is to be replaced.
        is_whole: whether a bundle's parts resolve.
    """
    bad = rolled_back(history)
    return next((bundle for bundle in promoted(history) if bundle != stable and bundle not in bad and is_whole(bundle)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorable:
    """What a rollback restores, should it be needed, and whether that is there."""

    bundle_id: str | None
    """None for the app's fallback or nothing."""
    words: str
    """For the end of "it restores …"."""
    fault: str
    """Why it cannot be restored; empty when it can."""


def restorable(history: Sequence[StoredRelease], *, stable: str | None, planned: str, is_whole: IsWhole) -> Restorable:
    """What would come back if what is new turned out to be bad: in a canary what is stable, else what was in service before.

    Where nothing was, what serves is what the next canary goes back to. Otherwise than `target_of` it is never refused: it says what is
    there for a rollback, not whether one is due.

    Args:
        history: the app's releases, oldest first.
        stable: the bundle in service; None where there is none.
        planned: the target of the app's plan: `last_good`, `fallback` or `off`.
        is_whole: whether a bundle's parts resolve.
    """
    in_canary = bool(history) and history[-1].state in SERVING
    if stable is None:
        return Restorable(bundle_id=None, words="what users got before any bundle", fault="")
    if not in_canary and planned != PLANNED_LAST_GOOD:
        words = "nothing: it switches the app off" if planned == OFF else "the app's declared fallback"
        return Restorable(bundle_id=None, words=words, fault="")
    bad = rolled_back(history)
    before = () if in_canary else tuple(bundle for bundle in promoted(history) if bundle != stable and bundle not in bad)
    bundle = next(filter(is_whole, before), before[0] if before else stable)
    is_there = is_whole(bundle)
    words = f"{bundle}, which serves now" if bundle == stable else bundle
    return Restorable(bundle_id=bundle, words=words, fault="" if is_there else f"the stored parts of {bundle} are gone or altered")


def target_of(
    history: Sequence[StoredRelease], *, stable: str | None, to: str | None, planned: str, is_whole: IsWhole
) -> Target | Objection:
    """What a rollback does now, or why there is nothing that it could do.

    Without a named target a canary is ended, or the latest promotion undone, also while a release waits that serves nobody yet: a
    rollback that is asked for twice never goes back twice, and the only bundle is never taken out of service by accident.

    Args:
        history: the app's releases, oldest first.
        stable: the bundle in service; None where there is none.
        to: `last-good`, `fallback`, `off`, or the id of a bundle; None leaves it to the plan.
        planned: the target of the app's plan: `last_good`, `fallback` or `off`.
        is_whole: whether a bundle's parts resolve.
    """
    in_canary = bool(history) and history[-1].state in SERVING
    if in_canary and to in (None, LAST_GOOD, stable):
        return Target(is_swap=False, bundle_id=stable, is_chosen=False)
    if stable is None and not in_canary and to in (None, FALLBACK, OFF):
        return Objection(reason="nothing_serves", seen="no bundle is in service", needed="a bundle that was promoted before, by its id")
    good = last_good(history, stable=stable, is_whole=is_whole)
    if to is None:
        return _undone(history, stable, good, planned)
    if to in (FALLBACK, OFF):
        is_chosen = good is not None or (in_canary and stable is not None)
        return Target(is_swap=True, bundle_id=None, without_bundle=to, is_chosen=is_chosen)
    return _named(history, to, stable, good, is_whole)


def _undone(history: Sequence[StoredRelease], stable: str | None, good: str | None, planned: str) -> Target | Objection:
    """The latest promotion undone, where nothing was taken back since."""
    latest = _latest_change(history)
    if latest is None or latest.state != State.PROMOTED or latest.kind == Kind.ROLLBACK:
        when = f" at {latest.ended_at:%Y-%m-%d %H:%M} UTC" if latest and latest.ended_at else ""
        return Objection(
            reason="rolled_back_already",
            seen=f"the latest change was taken back{when}, and {stable} serves",
            needed=f"a target, if that is bad too: {LAST_GOOD}{f' ({good})' if good else ''}, a bundle by its id, {FALLBACK} or {OFF}",
        )
    if planned != PLANNED_LAST_GOOD:
        return Target(is_swap=True, bundle_id=None, without_bundle=planned, is_chosen=False)
    return _no_last_good(stable) if good is None else Target(is_swap=True, bundle_id=good, is_chosen=False)


def _no_last_good(stable: str | None) -> Objection:
    return Objection(
        reason="no_last_good",
        seen="no promoted bundle is left that was never rolled back and whose parts resolve",
        next_step=f"to take {stable} out of service all the same, roll back to {FALLBACK} or {OFF}",
    )


def _named(history: Sequence[StoredRelease], to: str, stable: str | None, good: str | None, is_whole: IsWhole) -> Target | Objection:
    if to == LAST_GOOD and good is None:
        return _no_last_good(stable)
    bundle = good if to == LAST_GOOD and good is not None else to
    if bundle not in promoted(history):
        seen = f"{bundle} was never promoted, so no gate let it serve everybody"
        return Objection(reason="never_promoted", seen=seen, needed="a bundle that was promoted before", next_step="start a release of it")
    if bundle == stable:
        return Objection(reason="serves_already", seen=f"{bundle} is in service", needed="another bundle")
    if not is_whole(bundle):
        return Objection(
            reason="not_whole", seen=f"the stored parts of {bundle} are gone or altered", needed="a bundle whose parts resolve"
        )
    return Target(is_swap=True, bundle_id=bundle, is_chosen=bundle != good)


def _latest_change(history: Sequence[StoredRelease]) -> StoredRelease | None:
    """The release that last put a bundle into service or was rolled back; None before the first. One that was given up changed nothing."""
    return next((release for release in reversed(history) if release.state in (State.PROMOTED, State.ROLLED_BACK)), None)
