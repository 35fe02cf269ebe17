"""Which part of a window is read from daily sums, which from hourly sums and which from the requests themselves. Pure.

Whole days come from days, what is left of whole hours from hours. From the requests come the pieces of hours at the window's ends, and
hours that got rows after they were summed (`unsummed_hours`). Together they cover every request once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from workbench.observability.flusher import timestamp
from workbench.observability.model import Window
from workbench.observability.rollup import TOTALS, hour_sql, hour_start, hourly_sql, naive_sql, utc_sql
from workbench.observability.tables import REQUESTS_DAILY, at_snapshot, latest_sql

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_MOST_NAMED_DAYS = 100
"""More days than this are named by the first and the last of them."""
ROLLED_COLUMNS = tuple(column.name for column in REQUESTS_DAILY.columns if column.name != "day")
_OF_HOURS = {total: f"{own} AS {total}" for own, total in TOTALS.items()}
"""What an hourly row has instead: its own histograms, which sum up to the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsummed:
    """A day of an app of which hours are read from the requests."""

    app: str
    day: date
    n: int
    """Rows that came since the hours were summed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Half-open; a missing end is open."""

    start: datetime | None
    until: datetime | None

    @property
    def is_empty(self) -> bool:
        return self.start is not None and self.until is not None and self.start >= self.until

    def sql(self, time: str, *, as_sql: Callable[[datetime], str] = naive_sql) -> str:
        """The condition that a time is in it: one without a zone, where its ends are not written otherwise."""
        ends = ((">=", self.start), ("<", self.until))
        return " AND ".join(f"{time} {sign} {as_sql(at)}" for sign, at in ends if at is not None) or "true"

    def sql_of_days(self, day: str) -> str:
        """The condition that a day has a part in it."""
        ends = ((">=", self.start), ("<=", self.until))
        return " AND ".join(f"{day} {sign} {_date(at.astimezone(UTC).date())}" for sign, at in ends if at is not None) or "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """How a window is read."""

    days: _Stretch
    """Whole days."""
    hours: _Stretch
    """Whole hours, those of the days among them."""
    ends: tuple[_Stretch, ...]
    """Pieces of hours."""
    unsummed: tuple[Unsummed, ...]


def cover(window: Window, unsummed: Sequence[Unsummed], *, by_hour: bool) -> Cover:
    """How the window is read.

    Args:
        window: half-open.
        unsummed: the days in it with hours that are not summed.
        by_hour: whether the answer tells the hours of a day apart, so that daily sums do not help.
    """
    start, until = window.start, window.until
    first = None if start is None else _up(start, _HOUR)
    last = None if until is None else hour_start(until)
    if first is not None and last is not None and first > last:
        return Cover(days=_NOTHING, hours=_NOTHING, ends=(_Stretch(start=start, until=until),), unsummed=())
    pieces = (_Stretch(start=start, until=first), _Stretch(start=last, until=until))
    ends = tuple(piece for piece in pieces if piece.start is not None and piece.until is not None and not piece.is_empty)
    hours = _Stretch(start=first, until=last)
    days = _Stretch(start=None if first is None else _up(first, _DAY), until=None if last is None else _day_start(last))
    return Cover(days=_NOTHING if by_hour or days.is_empty else days, hours=hours, ends=ends, unsummed=tuple(unsummed))


def stored_sql(covered: Cover, snapshot: int) -> str:
    """The SELECT of the stored sums: `start_s`, seconds since 1970, and `ROLLED_COLUMNS`."""
    parts = []
    if not covered.days.is_empty:
        but = f" AND NOT {is_noted_day(snapshot)}" if covered.unsummed else ""
        parts.append(_days(f"{at_snapshot('requests_daily', snapshot)} WHERE {covered.days.sql('day')}{but}"))
    if hourly := _hours_beside_days(covered, snapshot):
        but = f" AND NOT {_is_noted(utc_sql('hour'), snapshot)}" if covered.unsummed else ""
        parts.append(_hours(f"{at_snapshot('requests_hourly', snapshot)} WHERE {hourly}{but}"))
    return " UNION ALL ".join(parts) if parts else _days(f"{at_snapshot('requests_daily', snapshot)} WHERE false")


def fresh_sql(covered: Cover, of_apps: str, snapshot: int) -> str:
    """The SELECT of the sums that are made now, from requests, in the same columns; empty where there are none.

    `of_apps` is the condition on a row's app.
    """

    def began_in(stretch: _Stretch) -> str:  # the column as it is, by which a file gives only such rows
        return stretch.sql("ts_start", as_sql=timestamp)

    noted = [f"{began_in(covered.hours)} AND {_is_noted(hour_sql('ts_start'), snapshot)}"] if covered.unsummed else []
    asked, read = ([began_in(stretch) for stretch in stretches] + noted for stretches in (covered.ends, map(_widened, covered.ends)))
    if not asked:
        return ""
    within = f"{of_apps} AND {_named(_days_of(covered))} AND {_any(read)}"
    latest = latest_sql(f"(SELECT * FROM {at_snapshot('requests', snapshot)} WHERE {within}) AS revisions")
    return _hours(f"({hourly_sql(f'(SELECT * FROM ({latest}) AS latest WHERE {_any(asked)}) AS asked')}) AS fresh")


def began_about(window: Window) -> str:
    """The condition on a row of requests that a revision of its request may have begun in the window: by days, with one to either side.

    Of a trace that is told to two gateways in pieces, each may take its first piece for the beginning, until it is settled.
    """
    ends = ((">=", window.start, "- 1"), ("<=", window.until, "+ 1"))
    return " AND ".join(f"day {sign} {_date(at.astimezone(UTC).date())} {more}" for sign, at, more in ends if at is not None) or "true"


def _is_noted(hour: str, snapshot: int) -> str:
    """The condition on a row of that hour that it is not summed."""
    return f"((app, {hour}) IN (SELECT app, {utc_sql('hour')} FROM {at_snapshot('unsummed_hours', snapshot)}))"


def is_noted_day(snapshot: int) -> str:
    """The condition on a daily row that some hour of it is not summed."""
    return f"((app, day) IN (SELECT app, CAST({utc_sql('hour')} AS DATE) FROM {at_snapshot('unsummed_hours', snapshot)}))"


_NOTHING = _Stretch(start=datetime(1970, 1, 1, tzinfo=UTC), until=datetime(1970, 1, 1, tzinfo=UTC))


def _days(source: str) -> str:
    return f"SELECT epoch_us(day) // 1000000 AS start_s, {', '.join(ROLLED_COLUMNS)} FROM {source}"


def _hours(source: str) -> str:
    columns = (_OF_HOURS.get(name, name) for name in ROLLED_COLUMNS)
    return f"SELECT epoch_us(hour) // 1000000 AS start_s, {', '.join(columns)} FROM {source}"


def _hours_beside_days(covered: Cover, snapshot: int) -> str:
    """The condition on an hourly row that no daily row speaks for it; empty where that is so for none.

    It names days, by which files and parts of them are left alone.
    """
    hour = utc_sql("hour")
    if covered.hours.is_empty:
        return ""
    if covered.days.is_empty:
        return f"{covered.hours.sql_of_days('day')} AND {covered.hours.sql(hour)}"
    around = (
        _Stretch(start=covered.hours.start, until=covered.days.start),
        _Stretch(start=covered.days.until, until=covered.hours.until),
    )
    stretches = [stretch for stretch in around if stretch.start and stretch.until and not stretch.is_empty]
    beside = [stretch.sql(hour) for stretch in stretches]
    days = {stretch.start.astimezone(UTC).date() for stretch in stretches if stretch.start}
    if covered.unsummed:
        beside.append(f"{covered.hours.sql(hour)} AND {is_noted_day(snapshot)}")
        days |= {unsummed.day for unsummed in covered.unsummed}
    return f"{_named(sorted(days))} AND {_any(beside)}" if beside else ""


def _days_of(covered: Cover) -> list[date]:
    """The days that requests are read from."""
    within_hours = {end.start.astimezone(UTC).date() for end in covered.ends if end.start is not None}
    return sorted(within_hours | {unsummed.day for unsummed in covered.unsummed})


def _named(days: Sequence[date]) -> str:
    """The condition on `day` by which files of other days are left alone."""
    if len(days) > _MOST_NAMED_DAYS:
        return f"day BETWEEN {_date(days[0])} AND {_date(days[-1])}"
    return f"day IN ({', '.join(_date(day) for day in days)})"


def _date(day: date) -> str:
    return f"DATE '{day}'"


def _any(conditions: Sequence[str]) -> str:
    return "(" + " OR ".join(f"({condition})" for condition in conditions) + ")"


def _day_start(at: datetime) -> datetime:
    return hour_start(at).replace(hour=0)


def _widened(stretch: _Stretch) -> _Stretch:
    """The whole hours of a stretch with two ends: a revision keeps its request's hour, but may say another time in it."""
    start, until = stretch.start, stretch.until
    return _Stretch(start=start and hour_start(start), until=until and _up(until, _HOUR))


def _up(at: datetime, width: timedelta) -> datetime:
    """The next whole hour or day, itself where it is one."""
    down = hour_start(at) if width == _HOUR else _day_start(at)
    return down if down == at else down + width
