from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.ownership.cover import summary
from workbench.ownership.model import Gap, Shift
from workbench.ownership.rota import gaps, on_call, required_hours, shifts, tiers
from workbench.ownership.wall_clock import instant_of
from workbench.spec.people import PeopleSpec
from workbench.spec.rota import RotaSpec

BERLIN = ZoneInfo("Europe/Berlin")
ALL_DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
PEOPLE = PeopleSpec.model_validate(
    {"people": {"primary": {"contact": "pager:1"}, "secondary": {"slack": ["U2"]}, "unreachable": {"title": "nobody can call"}}}
)


def rota(**changes: object) -> RotaSpec:
    layer = {"name": "line", "people": ["primary", "secondary"], "first_handoff": "2026-10-05T09:00"}
    return RotaSpec.model_validate({"zone": "Europe/Berlin", "layers": [layer], **changes})


def layer(name: str = "line", people: Sequence[str] = ("primary",), **changes: object) -> dict[str, object]:
    return {"name": name, "people": list(people), "first_handoff": "2026-01-05T09:00", **changes}


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NIGHT = {"days": ALL_DAYS, "start": "18:00", "until": "09:00"}


@pytest.mark.parametrize(("day", "hours"), [("2026-10-24", 16), ("2026-10-23", 15), ("2026-03-28", 14), ("2026-03-27", 15)])
def test_a_night_shift_is_as_long_as_the_night_really_is(day: str, hours: int) -> None:
    night = rota(layers=[layer(hours=[NIGHT])])
    (shift,) = shifts(night, berlin(f"{day}T12:00"), berlin(f"{day}T12:00") + timedelta(hours=24))
    assert shift.start == berlin(f"{day}T18:00")
    assert shift.hours == hours


def test_turns_go_round_at_the_wall_clock_hour_of_the_handoff_also_over_the_clock_change() -> None:
    found = shifts(rota(), berlin("2026-10-05T09:00"), berlin("2026-11-02T09:00"))
    assert [shift.person for shift in found] == ["primary", "secondary", "primary", "secondary"]
    assert [shift.start.astimezone(BERLIN).hour for shift in found] == [9, 9, 9, 9]
    assert [shift.hours for shift in found] == [168, 168, 169, 168]


def test_daily_turns_change_each_day() -> None:
    daily = rota(layers=[layer(people=["primary", "secondary"], turn="daily")])
    found = shifts(daily, berlin("2026-03-28T09:00"), berlin("2026-03-31T09:00"))
    assert [(shift.person, shift.hours) for shift in found] == [("primary", 23), ("secondary", 24), ("primary", 24)]


def test_nobody_is_on_call_before_the_first_handoff() -> None:
    (gap,) = gaps(rota(), PEOPLE, berlin("2026-10-04T09:00"), berlin("2026-10-06T09:00"))
    assert (gap.start, gap.until, gap.reason) == (berlin("2026-10-04T09:00"), berlin("2026-10-05T09:00"), "nobody scheduled")


def test_weekday_cover_leaves_exactly_the_nights_and_the_weekend() -> None:
    office = rota(layers=[layer(hours=[{"days": ALL_DAYS[:5], "start": "09:00", "until": "18:00"}])])
    found = gaps(office, PEOPLE, berlin("2026-10-23T00:00"), berlin("2026-10-27T00:00"))
    assert [(gap.start, gap.until) for gap in found] == [
        (berlin("2026-10-23T00:00"), berlin("2026-10-23T09:00")),
        (berlin("2026-10-23T18:00"), berlin("2026-10-26T09:00")),
        (berlin("2026-10-26T18:00"), berlin("2026-10-27T00:00")),
    ]
    assert found[1].hours == 64


def test_required_hours_limit_what_counts_as_a_gap() -> None:
    office = {"days": ALL_DAYS[:5], "start": "09:00", "until": "18:00"}
    found = gaps(rota(required=[office], layers=[]), PEOPLE, berlin("2026-10-23T00:00"), berlin("2026-10-27T00:00"))
    assert [(gap.start, gap.until) for gap in found] == [
        (berlin("2026-10-23T09:00"), berlin("2026-10-23T18:00")),
        (berlin("2026-10-26T09:00"), berlin("2026-10-26T18:00")),
    ]


def test_midnight_to_midnight_is_the_whole_day() -> None:
    whole = rota(layers=[layer(hours=[{"days": ALL_DAYS, "start": "00:00", "until": "00:00"}])])
    assert gaps(whole, PEOPLE, utc("2026-03-20"), utc("2026-04-05")) == ()


def test_a_rota_without_layers_is_one_gap() -> None:
    assert gaps(rota(layers=[]), PEOPLE, utc("2026-10-01"), utc("2026-10-15")) == (
        Gap(start=utc("2026-10-01"), until=utc("2026-10-15"), tier=1, reason="nobody scheduled"),
    )


@pytest.mark.parametrize(
    ("person", "reason"),
    [("stranger", "stranger is not in people.yaml"), ("unreachable", "unreachable has no contact and no Slack id")],
)
def test_somebody_who_cannot_be_called_is_a_gap_with_that_reason(person: str, reason: str) -> None:
    found = gaps(rota(layers=[layer(people=[person])]), PEOPLE, utc("2026-10-01"), utc("2026-10-15"))
    assert [(gap.hours, gap.reason) for gap in found] == [(336, reason)]


def test_without_people_nobody_is_known() -> None:
    (gap, *_) = gaps(rota(), None, berlin("2026-10-05T09:00"), berlin("2026-10-06T09:00"))
    assert gap.reason == "primary is not in people.yaml"


def test_an_absence_is_a_gap_from_midnight_to_midnight_of_the_zone() -> None:
    away = rota(layers=[layer()], absences=[{"person": "primary", "first_day": "2026-10-25", "last_day": "2026-10-25"}])
    (gap,) = gaps(away, PEOPLE, utc("2026-10-20"), utc("2026-10-30"))
    assert (gap.start, gap.until, gap.reason) == (berlin("2026-10-25T00:00"), berlin("2026-10-26T00:00"), "primary is away")
    assert gap.hours == 25


def test_an_override_fills_an_absence_and_wins_over_the_layer() -> None:
    stand_in = {"person": "secondary", "start": "2026-10-24T18:00+02:00", "until": "2026-10-26T09:00+01:00"}
    away = {"person": "primary", "first_day": "2026-10-25", "last_day": "2026-10-25"}
    covered = rota(layers=[layer()], overrides=[stand_in], absences=[away])
    assert gaps(covered, PEOPLE, utc("2026-10-20"), utc("2026-10-30")) == ()
    found = shifts(covered, utc("2026-10-20"), utc("2026-10-30"))
    assert [(shift.person, shift.layer) for shift in found] == [("primary", "line"), ("secondary", "override"), ("primary", "line")]
    assert found[1].start == berlin("2026-10-24T18:00")


def test_an_override_by_somebody_away_leaves_a_gap_because_the_relieved_person_is_off() -> None:
    stand_in = {"person": "secondary", "start": "2026-10-25T00:00Z", "until": "2026-10-26T00:00Z"}
    away = {"person": "secondary", "first_day": "2026-10-20", "last_day": "2026-10-30"}
    (gap,) = gaps(rota(layers=[layer()], overrides=[stand_in], absences=[away]), PEOPLE, utc("2026-10-20"), utc("2026-10-30"))
    assert (gap.start, gap.until, gap.reason) == (utc("2026-10-25"), utc("2026-10-26"), "secondary is away")


def test_of_two_overrides_the_last_one_written_counts() -> None:
    whole = {"person": "secondary", "start": "2026-10-24T00:00Z", "until": "2026-10-26T00:00Z"}
    part = {"person": "primary", "start": "2026-10-25T00:00Z", "until": "2026-10-25T12:00Z"}
    found = shifts(rota(overrides=[whole, part]), utc("2026-10-24"), utc("2026-10-26"))
    assert [(shift.person, shift.start.day, shift.start.hour) for shift in found] == [
        ("secondary", 24, 0),
        ("primary", 25, 0),
        ("secondary", 25, 12),
    ]


def test_another_layer_of_the_tier_steps_in_for_somebody_who_does_not_count() -> None:
    two = rota(layers=[layer("first", ["unreachable"]), layer("spare", ["secondary"])])
    assert gaps(two, PEOPLE, utc("2026-10-01"), utc("2026-10-15")) == ()
    assert {shift.layer for shift in shifts(two, utc("2026-10-01"), utc("2026-10-15"), PEOPLE)} == {"spare"}


def test_each_tier_has_its_own_gaps() -> None:
    two = rota(layers=[layer(), layer("second", ["stranger"], tier=2)])
    assert tiers(two) == (1, 2)
    assert {gap.tier for gap in gaps(two, PEOPLE, utc("2026-10-01"), utc("2026-10-15"))} == {2}


def test_on_call_is_the_whole_shift_around_the_moment() -> None:
    (shift,) = on_call(rota(), berlin("2026-10-07T03:00"))
    assert shift == Shift(person="primary", tier=1, start=berlin("2026-10-05T09:00"), until=berlin("2026-10-12T09:00"), layer="line")
    handoff = berlin("2026-10-12T09:00")
    assert [each.person for each in on_call(rota(), handoff)] == ["secondary"], "at the handoff the new person answers"
    assert on_call(rota(layers=[layer(people=["unreachable"])]), handoff, PEOPLE) == ()


def test_an_empty_or_reversed_window_holds_nothing() -> None:
    assert shifts(rota(), utc("2026-10-10"), utc("2026-10-10")) == ()
    assert gaps(rota(layers=[]), PEOPLE, utc("2026-10-10"), utc("2026-10-09")) == ()


def test_the_summary_counts_hours_and_names_who_carries_most() -> None:
    spec = rota(
        layers=[layer(people=["primary"], hours=[{"days": ALL_DAYS[:5], "start": "09:00", "until": "09:00"}]), layer("two", tier=2)],
        overrides=[{"person": "secondary", "start": "2026-10-07T00:00Z", "until": "2026-10-08T00:00Z"}],
    )
    cover = summary(spec, PEOPLE, berlin("2026-10-05T09:00"), berlin("2026-10-19T09:00"))
    assert cover.uncovered_hours == 96
    assert (cover.longest.hours, cover.next.start) == (48, berlin("2026-10-10T09:00"))
    assert (cover.busiest, cover.single_person_share) == ("primary", pytest.approx(216 / 240))
    assert cover.doubled_hours == 216


def test_a_window_with_nobody_has_no_share_instead_of_zero() -> None:
    cover = summary(rota(layers=[]), PEOPLE, utc("2026-10-01"), utc("2026-10-02"))
    assert (cover.busiest, cover.single_person_share, cover.uncovered_hours) == (None, None, 24)


class TestWallClock:
    def test_a_time_shown_twice_is_its_first_showing(self) -> None:
        assert instant_of(datetime(2026, 10, 25, 2, 30), BERLIN) == utc("2026-10-25T00:30")

    def test_a_skipped_time_is_the_moment_of_the_change(self) -> None:
        assert instant_of(datetime(2026, 3, 29, 2, 30), BERLIN) == utc("2026-03-29T01:00")
        assert instant_of(datetime(2011, 12, 30, 12, 0), ZoneInfo("Pacific/Apia")) == utc("2011-12-30T10:00")

    @given(
        first=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
        on=st.timedeltas(timedelta(0), timedelta(hours=30)),
        zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
    )
    def test_it_never_goes_back(self, first: datetime, on: timedelta, zone: str) -> None:
        assert instant_of(first, ZoneInfo(zone)) <= instant_of(first + on, ZoneInfo(zone))


TIMES = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30]))
HOURS = st.fixed_dictionaries({"days": st.lists(st.sampled_from(ALL_DAYS), min_size=1, unique=True), "start": TIMES, "until": TIMES})
NAMES = st.sampled_from(["primary", "secondary", "unreachable", "stranger"])
DAYS = st.dates(date(2026, 3, 20), date(2026, 4, 6)) | st.dates(date(2026, 10, 18), date(2026, 11, 2))
MOMENTS = st.builds(lambda day, at: datetime.combine(day, at, UTC), DAYS, TIMES)


@st.composite
def rotas(draw: st.DrawFn) -> RotaSpec:
    layers = [
        {
            "name": f"layer{index}",
            "tier": draw(st.integers(1, 2)),
            "people": draw(st.lists(NAMES, min_size=1, max_size=3)),
            "turn": draw(st.sampled_from(["daily", "weekly"])),
            "first_handoff": datetime.combine(draw(DAYS), draw(TIMES)),
            "hours": draw(st.lists(HOURS, max_size=2)),
        }
        for index in range(draw(st.integers(0, 3)))
    ]
    overrides = [
        {"person": draw(NAMES), "tier": draw(st.integers(1, 2)), "start": start, "until": start + timedelta(hours=draw(st.integers(1, 90)))}
        for start in draw(st.lists(MOMENTS, max_size=2))
    ]
    absences = [
        {"person": draw(NAMES), "first_day": day, "last_day": day + timedelta(days=draw(st.integers(0, 4)))}
        for day in draw(st.lists(DAYS, max_size=2))
    ]
    required = draw(st.just("24x7") | st.lists(HOURS, min_size=1, max_size=2))
    zone = draw(st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata"]))
    return RotaSpec.model_validate({"zone": zone, "required": required, "layers": layers, "overrides": overrides, "absences": absences})


def within(stretches: Sequence[tuple[datetime, datetime]], bounds: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    return [
        (max(start, first), min(until, last))
        for start, until in stretches
        for first, last in bounds
        if max(start, first) < min(until, last)
    ]


@settings(max_examples=150, deadline=None)
@given(spec=rotas(), start=MOMENTS, length=st.integers(1, 24 * 14), people=st.just(PEOPLE) | st.none())
def test_shifts_and_gaps_of_a_tier_partition_the_required_hours_exactly(
    spec: RotaSpec, start: datetime, length: int, people: PeopleSpec | None
) -> None:
    until = start + timedelta(hours=length)
    required = required_hours(spec, start, until)
    known = people or PeopleSpec.model_construct(people={})
    duty, found = shifts(spec, start, until, known), gaps(spec, people, start, until)
    for tier in tiers(spec):
        pieces = within([(shift.start, shift.until) for shift in duty if shift.tier == tier], required)
        pieces += [(gap.start, gap.until) for gap in found if gap.tier == tier]
        pieces.sort()
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(pieces)), "they overlap"
        assert sum((last - first for first, last in pieces), timedelta()) == sum((last - first for first, last in required), timedelta())


@settings(max_examples=60, deadline=None)
@given(spec=rotas(), start=MOMENTS, length=st.integers(1, 24 * 7), cut=st.floats(0, 1))
def test_a_window_cut_in_two_holds_the_same_hours(spec: RotaSpec, start: datetime, length: int, cut: float) -> None:
    until, middle = start + timedelta(hours=length), start + timedelta(hours=round(length * cut))

    def hours(first: datetime, last: datetime) -> float:
        return sum(gap.hours for gap in gaps(spec, PEOPLE, first, last))

    assert hours(start, middle) + hours(middle, until) == pytest.approx(hours(start, until))


@settings(max_examples=60, deadline=None)
@given(spec=rotas(), at=MOMENTS)
def test_whoever_is_on_call_has_a_shift_then_and_nobody_else(spec: RotaSpec, at: datetime) -> None:
    there = {(shift.tier, shift.person) for shift in shifts(spec, at, at + timedelta(minutes=1), PEOPLE) if shift.start <= at}
    assert {(shift.tier, shift.person) for shift in on_call(spec, at, PEOPLE)} == there
