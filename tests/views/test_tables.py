"""Tables in a terminal: what is logged or declared never steers it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from workbench.spec.base import is_steering
from workbench.views.page import Column, Page, Section, page_html, page_text
from workbench.views.tables import cell, named, rows_text, shown

WORDS = st.lists(st.text("abcdefghijkl", min_size=1, max_size=12), max_size=12).map(" ".join)
ROWS = st.integers(1, 5).flatmap(
    lambda n: st.lists(st.fixed_dictionaries({f"{'head' * (i + 1)}{i}": WORDS | st.integers(0, 10**9) for i in range(n)}), min_size=1)
)
BUNDLE = {
    "bundle": "support@4ba8815e44ac",
    "name": "v2",
    "registered": datetime(2026, 3, 2, 12, tzinfo=UTC),
    "by": "primary",
    "not pinned": 0,
    "note": "what people wrote about it, in many words",
}


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


@given(ROWS, st.integers(40, 200))
def test_at_every_width_all_lines_fit_and_nothing_is_left_out(rows: list[dict[str, object]], width: int):
    text = rows_text(rows, width=width)
    assert max(map(cell_len, text.splitlines()), default=0) <= width
    wanted = Counter("".join(str(value) for row in rows for value in row.values()))
    missing = wanted - Counter(text)
    missing.pop(" ", None)
    assert not missing


@given(ROWS, st.integers(40, 200))
def test_at_every_width_numbers_and_words_stay_whole(rows: list[dict[str, object]], width: int):
    seen = set(rows_text(rows, width=width).split())
    assert {word for row in rows for value in row.values() for word in str(value).split()} <= seen


@given(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=300), st.integers(40, 200))
def test_one_long_word_is_folded_and_not_cut(word: str, width: int):
    text = rows_text([{"name": word, "n": 1}], width=width)
    assert max(map(cell_len, text.splitlines()), default=0) <= width
    assert not Counter(word) - Counter(text)


def test_text_gives_way_first_and_then_each_row_is_told_in_words():
    assert rows_text([BUNDLE], width=110).splitlines() == [
        "bundle                 name   registered                by        not pinned   note",
        "─" * 110,
        "support@4ba8815e44ac   v2     2026-03-02 12:00:00 UTC   primary            0   what people wrote about it, in",
        "                                                                               many words",
    ]
    assert rows_text([BUNDLE], width=80).splitlines() == [
        "support@4ba8815e44ac  v2",
        "    registered 2026-03-02 12:00:00 UTC · by primary · not pinned 0 · note what",
        "    people wrote about it, in many words",
    ]


def test_a_row_that_begins_with_a_number_names_it():
    row = {"seq": 12, **{f"a longer heading {n}": "some words" for n in range(4)}}
    assert rows_text([row], width=40).splitlines()[:2] == ["seq 12", "    a longer heading 0 some words · a"]


def test_a_note_stands_under_its_table_in_text_and_html():
    section = Section(title="Gates", columns=(Column(title="gate"),), rows=(("latency",),), note="How to read <it>.")
    assert page_text(Page(sections=(section,))).splitlines()[-2:] == ["  latency", "  How to read <it>."]
    assert '<p class="wb-note">How to read &lt;it&gt;.</p>' in page_html(Page(sections=(section,)))


def test_a_bundle_is_shown_with_its_name_where_it_has_one():
    assert named("support@4ba8815e44ac", {"support@4ba8815e44ac": "v2"}) == "support@4ba8815e44ac (v2)"
    assert named("support/people", {"support@4ba8815e44ac": "v2"}) == "support/people"


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
