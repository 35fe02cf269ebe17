"""The demo's clock jumps over waits, never past the present, and its story never needs a weekend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from workbench.demo.timeline import LENGTH, StoryClock, story_start

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


def test_it_starts_where_it_is_told_and_runs_with_the_machine() -> None:
    moments = [NOW]
    clock = StoryClock(NOW - timedelta(hours=5), now=lambda: moments[0])
    assert clock() == NOW - timedelta(hours=5)
    moments[0] += timedelta(seconds=3)
    assert clock() == NOW - timedelta(hours=5) + timedelta(seconds=3)


def test_it_never_jumps_past_the_present() -> None:
    clock = StoryClock(NOW - timedelta(hours=5), now=lambda: NOW)
    clock.advance(timedelta(hours=2))
    assert clock() == NOW - timedelta(hours=3)
    clock.advance(timedelta(days=2))
    assert clock() == NOW


@given(st.datetimes(min_value=datetime(2025, 1, 1), max_value=datetime(2031, 1, 1), timezones=st.just(UTC)))
def test_a_story_fits_before_the_present_and_outside_weekends(now: datetime) -> None:
    start = story_start(now)
    assert start + LENGTH <= now
    assert now - start <= LENGTH + timedelta(days=3)
    assert all((start + LENGTH * part / 50).weekday() < 5 for part in range(51))
