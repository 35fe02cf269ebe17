"""Who answers, as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workbench.ownership.model import Gap, Shift
from workbench.spec.app import AppSpec
from workbench.spec.base import is_steering
from workbench.spec.people import PeopleSpec
from workbench.views.owners import gaps_text, owners_text, shifts_text

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
