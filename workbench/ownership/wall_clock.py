"""From wall-clock time to the one moment it means, also when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from workbench.errors import UsageError
from workbench.spec.base import parse_duration

_MICROSECOND = timedelta(microseconds=1)


def instant_of(local: datetime, zone: ZoneInfo) -> datetime:
    """The moment in UTC at which clocks of the zone show this time; it never goes back when `local` goes on.

    A time that is shown twice (autumn) is its first showing. A time that is skipped (spring) is the moment of the change.

    Args:
        local: wall-clock time without an offset.
        zone: where the clock hangs.
    """
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return first if first <= second else _change_between(second, first, zone)


def moment_of(text: str, zone: ZoneInfo, *, since: datetime) -> datetime:
    """The moment in UTC that somebody means.

    Args:
        text: `2026-10-24T18:00` is wall-clock time of the zone, `2026-10-24T18:00+02:00` says its own offset, and `8h` counts from `since`.
        zone: where the clock hangs.
        since: what a span of time is counted from, aware.

    Raises:
        UsageError: it is none of these.
    """
    try:
        return since.astimezone(UTC) + parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo else instant_of(moment, zone)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f'time "{text}"',
            seen="it cannot be read",
            needed=f"2026-10-24T18:00 (in {zone.key}), 2026-10-24T18:00+02:00, or a span such as 8h",
        ) from error


def _change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The moment within (before, after] from which the zone's later offset holds."""
    offset = after.astimezone(zone).utcoffset()
    while after - before > _MICROSECOND:
        middle = before + (after - before) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
