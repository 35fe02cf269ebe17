"""Who stands in for a stretch of time, and what that changes: duty, gaps, permissions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from workbench.errors import NotPermitted, UnknownSubject, UsageError, WorkbenchError
from workbench.ledger.audit import tail, verify
from workbench.ledger.store import Ledger
from workbench.ownership.model import Actor, Assurance, Gap
from workbench.ownership.service import Ownership
from workbench.ownership.wall_clock import moment_of
from workbench.spec.app import AppSpec
from workbench.spec.people import PeopleSpec
from workbench.spec.rota import RotaSpec

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 10, 5, 7, 0, tzinfo=UTC)
"""A Monday, 09:00 in Berlin."""
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
PEOPLE = {
    "lead": {"contact": "pager", "roles": {"shop": ["operator"]}},
    "primary": {"contact": "pager", "roles": {"shop": ["viewer"]}},
    "secondary": {"slack": ["U2"], "roles": {"shop": ["viewer"]}},
    "unreachable": {},
}
ROTA = {
    "zone": "Europe/Berlin",
    "layers": [
        {
            "name": "day",
            "people": ["primary"],
            "first_handoff": "2026-01-05T09:00",
            "hours": [{"days": DAYS, "start": "09:00", "until": "05:00"}],
        }
    ],
    "absences": [{"person": "secondary", "first_day": "2026-10-20", "last_day": "2026-10-21"}],
}


@pytest.fixture
def specs() -> dict[tuple[str, str], object]:
    return {
        ("shop", "app"): AppSpec(app="shop", title="Shop", risk_tier="low"),
        ("shop", "people"): PeopleSpec.model_validate({"people": PEOPLE}),
        ("shop", "rota"): RotaSpec.model_validate(ROTA),
    }


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", clock=lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def ownership(specs, ledger) -> Ownership:
    return Ownership(lambda app, kind: specs.get((app, kind)), apps=lambda: ("shop",), clock=lambda: NOW, ledger=ledger)


def actor(name: str) -> Actor:
    return Actor(person=name, via="cli", assurance=Assurance.LOCAL)


def stand_in(ownership: Ownership, person: str = "secondary", *, by: str = "lead", start: float = 0, hours: float = 2, **more):
    first = NOW + timedelta(hours=start)
    return ownership.override(
        "shop", person, start=first, until=first + timedelta(hours=hours), reason="a dentist", actor=actor(by), **more
    )


def on_duty(ownership: Ownership, hours: float) -> list[str]:
    return [shift.person for shift in ownership.on_call("shop", NOW + timedelta(hours=hours))]


def test_whoever_stands_in_is_on_call_and_whoever_is_relieved_is_not(ownership: Ownership):
    assert on_duty(ownership, 1) == ["primary"]
    stand_in(ownership, start=1, hours=2)
    assert [on_duty(ownership, hours) for hours in (0.9, 1, 2.9, 3)] == [["primary"], ["secondary"], ["secondary"], ["primary"]]


def test_whoever_stands_in_may_do_what_on_call_may(ownership: Ownership):
    assert not ownership.may(actor("secondary"), "rollback", "shop").allowed
    stand_in(ownership)
    assert ownership.may(actor("secondary"), "rollback", "shop").reason == "on_call"
    assert not ownership.may(actor("primary"), "rollback", "shop").allowed


def test_a_gap_is_filled_exactly_as_far_as_it_is_covered(ownership: Ownership):
    night = datetime(2026, 10, 6, 5, 0, tzinfo=BERLIN).astimezone(UTC)
    window = {"start": NOW, "until": NOW + timedelta(days=1)}
    assert ownership.gaps("shop", **window) == (Gap(start=night, until=night + timedelta(hours=4), tier=1, reason="nobody scheduled"),)
    ownership.override("shop", "secondary", start=night, until=night + timedelta(hours=3), reason="early", actor=actor("lead"))
    (gap,) = ownership.gaps("shop", **window)
    assert (gap.start, gap.hours) == (night + timedelta(hours=3), 1)
    assert ownership.cover("shop", **window).uncovered_hours == 1


def test_a_night_shift_over_the_october_change_is_sixteen_hours_long(ownership: Ownership):
    start, until = moment_of("2026-10-24T18:00", BERLIN, since=NOW), moment_of("2026-10-25T09:00", BERLIN, since=NOW)
    made = ownership.override("shop", "secondary", start=start, until=until, reason="the night of the change", actor=actor("lead"))
    assert made.until - made.start == timedelta(hours=16)
    (shift,) = ownership.on_call("shop", start + timedelta(hours=15.9))
    assert (shift.person, shift.hours) == ("secondary", 16)


def test_of_two_that_overlap_the_later_declared_counts(ownership: Ownership):
    stand_in(ownership, "secondary", hours=4)
    stand_in(ownership, "lead", start=1, hours=1)
    assert [on_duty(ownership, hours) for hours in (0, 1, 2)] == [["secondary"], ["lead"], ["secondary"]]
    assert [made.person for made in ownership.stand_ins("shop")] == ["secondary", "lead"]


def test_nobody_changes_afterwards_who_was_on_call(ownership: Ownership):
    made = stand_in(ownership, start=-5, hours=6)
    assert (made.start, made.until) == (NOW, NOW + timedelta(hours=1))
    assert on_duty(ownership, -1) == [], "the gap before it stays one"


def test_it_stands_in_the_audit_with_its_reason(ownership: Ownership, ledger: Ledger):
    stand_in(ownership)
    with ledger.read() as connection:
        (entry,) = tail(connection, 5)
        assert verify(connection).is_whole
    assert (entry.act, entry.actor, entry.subject) == ("owner.override", "lead", "shop/rota")
    assert entry.detail == {
        "person": "secondary",
        "tier": 1,
        "start": "2026-10-05T07:00:00.000000+00:00",
        "until": "2026-10-05T09:00:00.000000+00:00",
        "reason": "a dentist",
    }


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"by": "primary"}, NotPermitted, "needs the role"),
        ({"by": "stranger"}, NotPermitted, "stranger is not in people.yaml"),
        ({"person": "secondry"}, UnknownSubject, 'did you mean "secondary"'),
        ({"person": "unreachable"}, UsageError, "unreachable has no contact and no Slack id"),
        ({"start": 15 * 24, "hours": 2}, UsageError, "secondary is away"),
        ({"start": 15 * 24 - 10, "hours": 24}, UsageError, "secondary is away"),
        ({"tier": 2}, UnknownSubject, "the rota has no such tier; needed: one of 1"),
        ({"hours": 0}, UsageError, "it ends 2026-10-05 07:00 UTC; needed: an end after 2026-10-05 07:00 UTC"),
        ({"start": -3, "hours": 2}, UsageError, "it ends 2026-10-05 06:00 UTC"),
        ({"hours": 24 * 31 + 1}, UsageError, "at most 31 days; change rota.yaml"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(ownership: Ownership, change, error: type[WorkbenchError], says: str):
    with pytest.raises(error) as caught:
        stand_in(ownership, **change)
    assert says in str(caught.value)
    assert ownership.stand_ins("shop") == ()


def test_without_a_reason_or_a_rota_nobody_stands_in(ownership: Ownership, specs):
    with pytest.raises(UsageError, match="no reason is given"):
        ownership.override("shop", "secondary", until=NOW + timedelta(hours=1), reason="  ", actor=actor("lead"))
    del specs["shop", "rota"]
    with pytest.raises(UnknownSubject, match="rota of shop: none is declared"):
        stand_in(ownership)


def test_a_stand_in_who_can_no_longer_be_reached_is_a_gap(ownership: Ownership, specs):
    stand_in(ownership, hours=2)
    specs["shop", "people"] = PeopleSpec.model_validate({"people": {**PEOPLE, "secondary": {}}})
    (gap, *_) = ownership.gaps("shop", start=NOW, until=NOW + timedelta(hours=5))
    assert (gap.hours, gap.reason) == (2, "secondary has no contact and no Slack id")


def test_what_is_over_is_not_listed(ownership: Ownership, specs, ledger: Ledger):
    stand_in(ownership, hours=2)
    later = Ownership(
        lambda app, kind: specs.get((app, kind)), apps=lambda: ("shop",), clock=lambda: NOW + timedelta(hours=2), ledger=ledger
    )
    assert later.stand_ins("shop") == ()
    assert [shift.person for shift in later.on_call("shop", NOW + timedelta(hours=1))] == ["secondary"], "but it is remembered"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("8h", NOW + timedelta(hours=8)),
        ("2026-10-24T18:00", datetime(2026, 10, 24, 16, 0, tzinfo=UTC)),
        ("2026-10-25 18:00", datetime(2026, 10, 25, 17, 0, tzinfo=UTC)),
        ("2026-10-24T18:00+00:00", datetime(2026, 10, 24, 18, 0, tzinfo=UTC)),
        ("2026-03-29T02:30", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        ("2026-10-25T02:30", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_meant_on_the_rotas_clock_unless_it_says_otherwise(text: str, moment: datetime):
    assert moment_of(text, BERLIN, since=NOW) == moment


@pytest.mark.parametrize("text", ["", "noon", "8", "-8h", "0h", "2026-13-01T00:00", "9999999999w", "2026-10-24T18:00+25:00"])
def test_what_is_no_time_is_said_with_an_example(text: str):
    with pytest.raises(UsageError, match=r"it cannot be read; needed: 2026-10-24T18:00 \(in Europe/Berlin\)"):
        moment_of(text, BERLIN, since=NOW)
