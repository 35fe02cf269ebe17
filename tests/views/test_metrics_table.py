"""Metric frames as tables: exact text on a small frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from workbench.observability.catalogue import CATALOGUE
from workbench.observability.model import Window
from workbench.views.metrics import catalogue_rows, metrics_text

FRAME = pl.DataFrame(
    {
        "bundle": ["support@000000000000", "support@111111111111", None],
        "volume": [300, 40, 0],
        "volume_n": [300, 40, 0],
        "volume_count": [300, 40, 0],
        "failure_rate": [12 / 299, 0.15, None],
        "failure_rate_n": [299, 40, 0],
        "failure_rate_count": [12, 6, None],
        "failure_rate_low": [0.02, 0.07, None],
        "failure_rate_high": [0.07, 0.29, None],
        "latency_p95": [850.0, 62_660.0, None],
        "latency_p95_n": [300, 40, 0],
    }
)
METRICS = [CATALOGUE[name] for name in ("volume", "failure_rate", "latency_p95")]


def test_rates_stand_with_their_counts_and_latencies_in_their_unit():
    assert metrics_text(FRAME, metrics=METRICS).splitlines()[2:] == [
        "  support@000000000000      300   4.0 % (12/299)   850 ms (n 300)",
        "  support@111111111111       40    15.0 % (6/40)    62.7 s (n 40)",
        "  –                           0                –                –",
    ]


def test_a_bundle_is_shown_with_its_name_beside_its_id():
    text = metrics_text(FRAME, metrics=METRICS, names={"support@111111111111": "v2", "-": "v9"})
    assert "support@111111111111 (v2)" in text
    assert "support@000000000000  " in text


def test_a_series_shows_its_time_in_utc():
    series = pl.DataFrame({"ts": [datetime(2026, 3, 1, 9, tzinfo=UTC)], "volume": [3], "volume_n": [3]})
    assert "2026-03-01 09:00" in metrics_text(series, metrics=METRICS[:1])


def test_a_series_says_which_of_its_steps_have_no_request_and_how_many_follow_each_other():
    starts = [datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (4, 5, 5, 8, 10)]
    series = pl.DataFrame({"arm": ["stable", "stable", "none", "none", "stable"], "ts": starts, "volume": [3, 1, 2, 5, 1]})
    text = metrics_text(series, metrics=METRICS[:1], grain="1h")
    assert text.splitlines()[-1] == "  no request in 3 of 7 steps: 2026-03-01 06:00 (2), 2026-03-01 09:00 (1)"
    assert "no request in" not in metrics_text(series.head(2), metrics=METRICS[:1], grain="1h")
    window = Window(start=datetime(2026, 3, 1, 1, 30, tzinfo=UTC), until=datetime(2026, 3, 1, 13, 30, tzinfo=UTC))
    text = metrics_text(series.tail(1), metrics=METRICS[:1], grain="1h", window=window)
    assert text.splitlines()[-1] == "  no request in 10 of 11 steps: 2026-03-01 02:00 (8), 2026-03-01 11:00 (2)", "whole steps only"
    many = pl.DataFrame({"ts": [starts[0] + timedelta(days=2 * day) for day in range(9)], "volume": [1] * 9})
    assert metrics_text(many, metrics=METRICS[:1], grain="1d").endswith(" and 2 more times")


def test_no_rows_say_what_to_do():
    assert metrics_text(FRAME.clear(), metrics=METRICS).startswith("No requests match. Widen the window")
    assert metrics_text(FRAME.clear(), metrics=METRICS, grain="1h", why_empty="Known are a, b.") == "No requests match. Known are a, b."


def test_the_catalogue_has_a_row_per_metric():
    rows = catalogue_rows(CATALOGUE.values())
    assert [row["metric"] for row in rows] == list(CATALOGUE)
    assert all(row["meaning"] and row["formula"] for row in rows)
