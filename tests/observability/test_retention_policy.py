"""What people may declare about how long things are kept, and what that means on a day."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import UsageError
from workbench.observability.retention_policy import ALL_APPS, RetentionPolicy, Term, parse_app, parse_term

NOW = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)


def test_a_term_says_what_is_kept_and_the_rest_follows_the_rows():
    assert parse_term("90d") == Term(rows_days=90, rollups_days=90, evidence_days=90)
    assert parse_term("12w", rollups="400d", evidence="0d") == Term(rows_days=84, rollups_days=400, evidence_days=0)


@pytest.mark.parametrize(
    ("rows", "rollups", "evidence", "words"),
    [
        ("0d", None, None, "rows"),
        ("36h", None, None, "whole days"),
        ("1h", None, None, "whole days"),
        ("-5d", None, None, "duration"),
        ("ninety", None, None, "duration"),
        ("", None, None, "duration"),
        ("90", None, None, "duration"),
        ("40000d", None, None, "36500"),
        ("9" * 30 + "d", None, None, "too long"),
        ("90d", "89d", None, "at least the 90 days"),
        ("90d", None, "91d", "at most the 90 days"),
        ("90d", "0d", None, "whole days"),
        ("90d", None, "12h", "whole days"),
    ],
)
def test_what_is_no_number_of_whole_days_or_contradicts_itself_is_refused(rows, rollups, evidence, words):
    with pytest.raises(UsageError, match=words):
        parse_term(rows, rollups=rollups, evidence=evidence)


@pytest.mark.parametrize("app", ["", "*", "Shop", "a b", "../x", "x" * 64, "shop'"])
def test_what_is_no_apps_name_is_refused(app):
    with pytest.raises(UsageError, match="no name of an app"):
        parse_app(app)


def test_an_apps_own_term_wins_over_that_of_all_also_where_it_keeps_everything():
    policy = RetentionPolicy().declared(ALL_APPS, parse_term("30d")).declared("bank", None).declared("shop", parse_term("90d"))
    assert [term and term.rows_days for term in map(policy.term, ("bank", "shop", "other"))] == [None, 90, 30]
    assert RetentionPolicy().term("shop") is None
    assert RetentionPolicy().latest(NOW) is None
    assert policy.latest(NOW) == date(2026, 1, 30)


def test_days_are_those_of_utc():
    term = parse_term("1d")
    assert term.rows_before(NOW) == date(2026, 2, 28)
    assert term.rows_before(NOW.astimezone(timezone(timedelta(hours=-8)))) == date(2026, 2, 28)


terms = st.one_of(
    st.none(),
    st.tuples(st.integers(1, 400), st.integers(0, 400), st.integers(0, 400)).map(
        lambda days: Term(rows_days=days[0], rollups_days=days[0] + days[1], evidence_days=min(days[0], days[2]))
    ),
)


@given(st.dictionaries(st.sampled_from([ALL_APPS, "shop", "bank"]), terms))
def test_a_policy_is_what_was_written_down_and_nothing_younger_than_its_term_goes(declared):
    policy = RetentionPolicy.from_json(RetentionPolicy(terms=declared).to_json())
    assert policy == RetentionPolicy(terms=declared)
    for app in ("shop", "bank", "other"):
        term = policy.term(app)
        if term is not None:
            assert NOW.date() - term.rows_before(NOW) == timedelta(days=term.rows_days)
            assert term.rollups_before(NOW) <= term.rows_before(NOW) <= policy.latest(NOW)
            assert policy.evidence_since(app, NOW) >= NOW - timedelta(days=term.rows_days)
