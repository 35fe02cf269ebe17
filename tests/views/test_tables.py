"""Tables in a terminal: what is logged or declared never steers it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.spec.base import is_steering
from workbench.views.page import Page, page_text
from workbench.views.tables import cell, rows_text, shown


@given(st.text(st.characters()))
def test_whatever_is_in_it_nothing_steers_and_it_can_be_printed(text: str):
    safe = shown(text)
    assert not any(map(is_steering, safe))
    assert safe.encode().decode() == safe


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"])))
def test_readable_text_stays_as_it_is(text: str):
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("v1\u202egnp", r"v1\u202egnp"),
        ("a\rb", r"a\rb"),
        ("\x9b1m", r"\x9b1m"),
        ("\ud800", r"\ud800"),
        ("a\nb\tc", "a\nb\tc"),
    ],
)
def test_a_steering_character_stands_there_as_its_escape(text: str, safe: str):
    assert shown(text) == safe


def test_a_line_end_in_a_cell_makes_no_second_row():
    text = rows_text([{"bundle": "v1\nv2  GO", "n\x1b": 3}])
    assert r"v1\nv2  GO" in text
    assert len(text.splitlines()) == 3
    assert r"n\x1b" in text


def test_missing_is_a_dash_and_time_is_utc():
    assert cell(None) == "–"
    assert cell(datetime(2026, 3, 2, 12, tzinfo=UTC)) == "2026-03-02 12:00:00 UTC"


def test_no_rows_are_words():
    assert rows_text([], empty="no bundles yet") == "no bundles yet"


def test_a_page_shows_what_would_steer_a_terminal_as_escapes():
    text = page_text(Page(title="a\x1b[31mb\u202ec"))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"a\x1b[31mb\u202ec" in text
