"""Who answers, as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from workbench.ownership.model import Gap, Shift, StandIn
from workbench.spec.app import AppSpec
from workbench.spec.base import is_steering
from workbench.spec.people import PeopleSpec
from workbench.views.owners import gaps_text, owners_text, shifts_text, stand_in_text

NIGHT = datetime(2026, 10, 5, 22, tzinfo=UTC)
APP = AppSpec.model_validate(
    {"app": "shop", "title": "Shop", "risk_tier": "low", "owner": "primary", "escalation": [{"to": "secondary", "within": "15m"}]}
)
PEOPLE = PeopleSpec.model_validate(
    {"people": {"primary": {"title": "Lead\x1b[2J", "roles": {"shop": ["admin", "operator"]}}, "secondary": {}}}
)
SHIFT = Shift(person="primary", tier=1, start=NIGHT, until=NIGHT + timedelta(hours=10), layer="line")


def test_owner_duty_escalation_and_roles_stand_together():
    text = owners_text(APP, PEOPLE, [SHIFT])
    assert "shop: owned by primary" in text
    assert "shop: tier 1 is primary until 2026-10-06 08:00 UTC" in text
    assert "1. secondary within 15m" in text
    assert "admin, operator" in text
    assert not any(map(is_steering, text))


def test_what_is_not_declared_is_said():
    text = owners_text(AppSpec(app="shop", title="Shop", risk_tier="low"), None, [])
    for words in ("owned by nobody", "nobody is on call now", "escalation: none declared", "people.yaml is not declared"):
        assert words in text


def test_gaps_are_listed_with_their_sum():
    gaps = [Gap(start=NIGHT, until=NIGHT + timedelta(hours=hours), tier=1, reason="nobody scheduled") for hours in (2, 3)]
    assert "shop: 5.0 uncovered hours in the next 14 days" in gaps_text("shop", gaps, days=14)
    assert gaps_text("shop", [], days=14) == "shop: no gap in the next 14 days"
    assert shifts_text("shop", []) == "shop: nobody is on call now"


def test_times_stand_in_utc_and_on_the_rotas_clock_on_both_sides_of_its_change():
    berlin, change = ZoneInfo("Europe/Berlin"), datetime(2026, 10, 24, 16, tzinfo=UTC)
    gap = Gap(start=change, until=change + timedelta(hours=16), tier=1, reason="nobody scheduled")
    text = gaps_text("shop", [gap], days=14, zone=berlin)
    for words in ("Sat 2026-10-24 16:00", "Sun 2026-10-25 08:00", "in Europe/Berlin", "Sat 18:00 CEST – Sun 09:00 CET", "16.0"):
        assert words in text, words
    assert "until 2026-10-06 08:00 UTC (Tue 10:00 CEST)" in shifts_text("shop", [SHIFT], zone=berlin)
    assert "UTC (" not in shifts_text("shop", [SHIFT], zone=ZoneInfo("UTC"))


def test_a_stand_in_is_told_with_why_and_by_whom():
    stand_in = StandIn(
        app="shop",
        person="secondary",
        tier=2,
        start=NIGHT,
        until=NIGHT + timedelta(hours=8),
        reason="a dentist\x1b[2J",
        declared_by="primary",
        declared_at=NIGHT,
    )
    text = stand_in_text(stand_in)
    assert text.startswith("shop: secondary stands in at tier 2 from 2026-10-05 22:00 UTC until 2026-10-06 06:00 UTC; primary: a dentist")
    assert not any(map(is_steering, text))
    assert "secondary stands in" in owners_text(APP, PEOPLE, [SHIFT], stand_ins=[stand_in])
