"""From wall-clock time to the one moment it means, also when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

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
