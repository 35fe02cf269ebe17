"""Durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from workbench.spec.base import Text, format_duration, is_steering, parse_duration


@given(st.integers(min_value=1, max_value=10**12).map(lambda ms: timedelta(milliseconds=ms)))
def test_what_is_written_is_read_back(span: timedelta):
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize(("text", "ms"), [("250ms", 250), ("0.5s", 500), ("1.5h", 5_400_000), ("2w", 1_209_600_000), (" 15 m ", 900_000)])
def test_the_units_are_these(text: str, ms: int):
    assert parse_duration(text) == timedelta(milliseconds=ms)


@pytest.mark.parametrize("text", ["0s", "0.4ms", "1.0004s", "-1s", "5", "1 year", "", "9999999999w", 5, None, True])
def test_anything_else_is_refused(text: object):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\r", "\x7f", "\x9b", "\u061c", "\u200f", "\u2028", "\u202e", "\u2066"])
def test_words_that_would_steer_the_screen_are_refused_by_their_place(character: str):
    with pytest.raises(ValidationError, match=rf"character 3 is U\+{ord(character):04X}"):
        TypeAdapter(Text).validate_python(f"v1{character}v2")


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"])))
def test_every_letter_mark_number_and_sign_may_stand_in_words(text: str):
    assert not any(map(is_steering, text + "\t\n"))
