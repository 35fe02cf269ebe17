"""Who is on call, and when is nobody: wall-clock rotas worked out as half-open UTC intervals.

At each tier one person counts at a time: whoever an override names, written last first; else the first layer on duty whose
person counts. Somebody who is away, who is not in people.yaml, or who can be reached by nothing does not count: the stretch
is a gap with that reason.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from workbench.ownership.model import Gap, Shift
from workbench.ownership.wall_clock import instant_of
from workbench.spec.people import PeopleSpec
from workbench.spec.rota import Absence, Hours, Layer, Override, RotaSpec

NOBODY = "nobody scheduled"
ON_CALL_REACH = timedelta(days=15)
OVERRIDE = "override"
"""Stands for the layer of a shift that an override gave."""

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TURN = {"daily": timedelta(days=1), "weekly": timedelta(weeks=1)}
_DAY = timedelta(days=1)


def shifts(rota: RotaSpec, start: datetime, until: datetime, people: PeopleSpec | None = None) -> tuple[Shift, ...]:
    """Who is on duty in the window, by tier and time; neighbouring stretches of one person and layer are one shift.

    Args:
        rota: the rota.
        start: first moment of the window, aware.
        until: end of the window, not included, aware.
        people: when given, unknown and unreachable people do not count, as in `gaps`.
    """
    found = (piece for piece in _pieces(rota, start, until, people) if piece.reason is None and piece.person is not None)
    every = [Shift(person=each.person or "", tier=each.tier, start=each.start, until=each.until, layer=each.layer) for each in found]
    return tuple(_joined_shifts(every))


def gaps(rota: RotaSpec, people: PeopleSpec | None, start: datetime, until: datetime) -> tuple[Gap, ...]:
    """Where somebody must be on call and nobody counts, by tier and time; neighbours of the same reason are one gap.

    Args:
        rota: the rota.
        people: everybody who is declared; without them nobody is known, and all is gap.
        start: first moment of the window, aware.
        until: end of the window, not included, aware.
    """
    known = people if people is not None else PeopleSpec.model_construct(people={})
    found = [
        Gap(start=piece.start, until=piece.until, tier=piece.tier, reason=piece.reason)
        for piece in _pieces(rota, start, until, known)
        if piece.reason is not None and piece.is_required
    ]
    return tuple(_joined_gaps(found))


def on_call(rota: RotaSpec, at: datetime, people: PeopleSpec | None = None) -> tuple[Shift, ...]:
    """The shifts that hold this moment, the tier that is paged first in front; none where nobody is on duty.

    They are followed for `ON_CALL_REACH` to each side, which is more than a turn.
    """
    return tuple(shift for shift in shifts(rota, at - ON_CALL_REACH, at + ON_CALL_REACH, people) if shift.start <= at < shift.until)


def tiers(rota: RotaSpec) -> tuple[int, ...]:
    """The tiers at which somebody must be on call: those of layers and overrides, and always the first."""
    return tuple(sorted({1, *(layer.tier for layer in rota.layers), *(override.tier for override in rota.overrides)}))


def with_overrides(rota: RotaSpec, overrides: Iterable[Override]) -> RotaSpec:
    """The rota with more stand-ins, each counting before all that overlap it and stand earlier."""
    return rota.model_copy(update={"overrides": (*rota.overrides, *overrides)})


def obstacle(rota: RotaSpec, people: PeopleSpec | None, person: str, start: datetime, until: datetime) -> str | None:
    """Why this person would not count somewhere between two aware moments, whatever the rota says of them; None when they would."""
    away = _absences(person, rota.absences, ZoneInfo(rota.zone))
    if any(first < until and start < last for first, last in away):
        return f"{person} is away"
    return _why_not(person, start, {}, people)


def required_hours(rota: RotaSpec, start: datetime, until: datetime) -> tuple[tuple[datetime, datetime], ...]:
    """The stretches of the window in which somebody must be on call, UTC, disjoint and in order."""
    start, until = start.astimezone(UTC), until.astimezone(UTC)
    if rota.required == "24x7":
        return ((start, until),) if start < until else ()
    return tuple(_union(_clipped(_hours(rota.required, ZoneInfo(rota.zone), start, until), start, until)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A stretch of one tier on which nothing changes. `reason` says why nobody counts; `person` is who was meant."""

    start: datetime
    until: datetime
    tier: int
    person: str | None
    layer: str
    reason: str | None
    is_required: bool


@dataclass(frozen=True, slots=True)
class _Duty:
    """A person's stretch in one layer or override."""

    start: datetime
    until: datetime
    person: str
    layer: str


class _Track:
    """Duties of one layer in order of time: they never overlap, so the one at a moment is found by bisection."""

    def __init__(self, duties: Iterable[_Duty]) -> None:
        self.duties = sorted(duties, key=lambda duty: duty.start)
        self._starts = [duty.start for duty in self.duties]

    def at(self, moment: datetime) -> _Duty | None:
        index = bisect.bisect_right(self._starts, moment) - 1
        return self.duties[index] if index >= 0 and moment < self.duties[index].until else None


def _pieces(rota: RotaSpec, start: datetime, until: datetime, people: PeopleSpec | None) -> Iterator[_Piece]:
    """Each tier of the window cut at every moment at which anything changes."""
    start, until = start.astimezone(UTC), until.astimezone(UTC)
    if start >= until:
        return
    zone = ZoneInfo(rota.zone)
    absences = {name: _absences(name, rota.absences, zone) for name in {absence.person for absence in rota.absences}}
    required = _Track(_Duty(first, last, "", "") for first, last in required_hours(rota, start, until))
    for tier in tiers(rota):
        overrides = [
            _Track([_Duty(each.start.astimezone(UTC), each.until.astimezone(UTC), each.person, OVERRIDE)])
            for each in reversed(rota.overrides)
            if each.tier == tier
        ]
        layers = [_Track(_layer(layer, zone, start, until)) for layer in rota.layers if layer.tier == tier]
        moments = _moments([*overrides, *layers, required], absences, start, until)
        for first, last in itertools.pairwise(moments):
            duty, reason = _who(first, overrides, layers, absences, people)
            yield _Piece(
                start=first,
                until=last,
                tier=tier,
                person=duty.person if duty else None,
                layer=duty.layer if duty else "",
                reason=reason,
                is_required=required.at(first) is not None,
            )


def _who(
    at: datetime,
    overrides: Sequence[_Track],
    layers: Sequence[_Track],
    absences: Mapping[str, Sequence[tuple[datetime, datetime]]],
    people: PeopleSpec | None,
) -> tuple[_Duty | None, str | None]:
    """Whose turn it is, and why that person does not count (None when they do).

    An override stands even where its person does not count: whoever it relieved believes to be off.
    """
    relieved = [duty for track in overrides if (duty := track.at(at)) is not None]
    meant = relieved[:1] or [duty for track in layers if (duty := track.at(at)) is not None]
    reasons = [_why_not(duty.person, at, absences, people) for duty in meant]
    if not meant:
        return None, NOBODY
    return next(((duty, None) for duty, reason in zip(meant, reasons, strict=True) if reason is None), (meant[0], reasons[0]))


def _why_not(
    person: str, at: datetime, absences: Mapping[str, Sequence[tuple[datetime, datetime]]], people: PeopleSpec | None
) -> str | None:
    if any(first <= at < last for first, last in absences.get(person, ())):
        return f"{person} is away"
    if people is None:
        return None
    known = people.people.get(person)
    if known is None:
        return f"{person} is not in people.yaml"
    return None if known.contact or known.slack else f"{person} has no contact and no Slack id"


def _layer(layer: Layer, zone: ZoneInfo, start: datetime, until: datetime) -> Iterator[_Duty]:
    """The layer's turns in the window, cut down to its hours."""
    hours = list(_union(_hours(layer.hours, zone, start, until))) if layer.hours else None
    for first, last, person in _turns(layer, zone, start, until):
        if hours is None:
            yield _Duty(first, last, person, layer.name)
            continue
        for begin, end in _clipped(hours, first, last):
            yield _Duty(begin, end, person, layer.name)


def _turns(layer: Layer, zone: ZoneInfo, start: datetime, until: datetime) -> Iterator[tuple[datetime, datetime, str]]:
    """The turns that touch the window; handoffs recur in wall-clock time, so a turn over a clock change is an hour longer or shorter."""
    length = _TURN[layer.turn]
    index = max(0, (start.astimezone(zone).replace(tzinfo=None) - layer.first_handoff) // length - 1)
    while True:
        handoff = layer.first_handoff + index * length
        first, last = instant_of(handoff, zone), instant_of(handoff + length, zone)
        if first >= until:
            return
        if last > start:
            yield first, last, layer.people[index % len(layer.people)]
        index += 1


def _hours(hours: Sequence[Hours], zone: ZoneInfo, start: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The weekly stretches that touch the window, in UTC."""
    day = start.astimezone(zone).date() - 2 * _DAY
    last_day = until.astimezone(zone).date() + _DAY
    while day <= last_day:
        for each in hours:
            if _WEEKDAYS[day.weekday()] in each.days:
                end_day = day + _DAY if each.until <= each.start else day
                first, last = _instant(day, each.start, zone), _instant(end_day, each.until, zone)
                if first < last:
                    yield first, last
        day += _DAY


def _absences(person: str, absences: Sequence[Absence], zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    return [
        (_instant(absence.first_day, time.min, zone), _instant(absence.last_day + _DAY, time.min, zone))
        for absence in absences
        if absence.person == person
    ]


def _instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    return instant_of(datetime.combine(day, at), zone)


def _clipped(stretches: Iterable[tuple[datetime, datetime]], start: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    for first, last in stretches:
        begin, end = max(first, start), min(last, until)
        if begin < end:
            yield begin, end


def _union(stretches: Iterable[tuple[datetime, datetime]]) -> Iterator[tuple[datetime, datetime]]:
    """The same moments as disjoint stretches in order; touching ones become one."""
    current: tuple[datetime, datetime] | None = None
    for first, last in sorted(stretches):
        if current is None or first > current[1]:
            if current is not None:
                yield current
            current = first, last
        else:
            current = current[0], max(current[1], last)
    if current is not None:
        yield current


def _moments(
    tracks: Sequence[_Track], absences: Mapping[str, Sequence[tuple[datetime, datetime]]], start: datetime, until: datetime
) -> list[datetime]:
    """Every moment of the window at which anybody's duty, absence or the need for it begins or ends."""
    ends = {start, until}
    ends.update(moment for track in tracks for duty in track.duties for moment in (duty.start, duty.until))
    ends.update(moment for away in absences.values() for stretch in away for moment in stretch)
    return sorted(moment for moment in ends if start <= moment <= until)


def _joined_shifts(found: Iterable[Shift]) -> Iterator[Shift]:
    current: Shift | None = None
    for shift in found:
        if current and (current.tier, current.person, current.layer, current.until) == (shift.tier, shift.person, shift.layer, shift.start):
            current = Shift(person=shift.person, tier=shift.tier, start=current.start, until=shift.until, layer=shift.layer)
            continue
        if current:
            yield current
        current = shift
    if current:
        yield current


def _joined_gaps(found: Iterable[Gap]) -> Iterator[Gap]:
    current: Gap | None = None
    for gap in found:
        if current and (current.tier, current.reason, current.until) == (gap.tier, gap.reason, gap.start):
            current = Gap(start=current.start, until=gap.until, tier=gap.tier, reason=gap.reason)
            continue
        if current:
            yield current
        current = gap
    if current:
        yield current
