"""How numbers read: each rule by its edge."""

from __future__ import annotations

import pytest

from workbench.views.numbers import DASH, apart, counted, interval, metric_words, number, rate_cell, sized


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (None, "share", DASH),
        (float("nan"), "share", DASH),
        (float("inf"), "ms", DASH),
        (0.85, "share", "85.0 %"),
        (0.0, "share", "0.0 %"),
        (-0.0, "share", "0.0 %"),
        (1.0, "share", "100.0 %"),
        (0.0004, "share", "0.04 %"),
        (0.99996, "share", "99.996 %"),
        (1e-17, "share", "0.0 %"),
        (62_660.0, "ms", "62.7 s"),
        (10_000.0, "ms", "10.0 s"),
        (9_999.4, "ms", "9,999 ms"),
        (250.0, "ms", "250 ms"),
        (1.25, "ms", "1.2 ms"),
        (0.0, "ms", "0 ms"),
        (0.01234, "USD", "$0.0123"),
        (12.5, "USD", "$12.50"),
        (1.79, "ratio", "1.79 times"),
        (1234.0, "tokens", "1,234"),
        (51.46, "EUR", "51.46 EUR"),
        (0.3, "change of share", "+30.0 points"),
        (-0.05, "change of share", "-5.0 points"),
        (0.0, "change of share", "±0.0 points"),
        (-12_000.0, "change of ms", "-12.0 s"),
    ],
)
def test_a_number_reads_by_its_unit(value, unit, words):
    assert number(value, unit) == words


def test_two_numbers_that_differ_read_differently():
    assert apart(0.7996, 0.8, "share") == ("79.96 %", "80.00 %")
    assert apart(0.8, 0.8, "share") == ("80.0 %", "80.0 %")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.804, 0.881, "80.4 to 88.1 %"),
        (None, 0.9, "up to 90.0 %, no lower end"),
        (0.9, None, "from 90.0 %, no upper end"),
        (None, None, DASH),
    ],
)
def test_an_interval_names_the_end_that_it_lacks(low, high, words):
    assert interval(low, high, "share") == words


def test_an_interval_across_seconds_keeps_both_units():
    assert interval(9_000.0, 12_000.0, "ms") == "9,000 ms to 12.0 s"


def test_a_rate_stands_with_its_counts():
    assert rate_cell(12 / 299, 12, 299) == "4.0 % (12/299)"
    assert rate_cell(None, None, 0) == DASH
    assert sized(62_660.0, "ms", 40) == "62.7 s (n 40)"


def test_a_count_has_its_noun_in_the_right_number():
    assert (counted(1, "gate"), counted(2_000, "gate")) == ("1 gate", "2,000 gates")


def test_a_metric_reads_as_people_say_it():
    assert metric_words("latency_p95", {"workflow": "refund"}) == "p95 latency (workflow refund)"
    assert metric_words("success_rate") == "success rate"
