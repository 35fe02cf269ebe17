"""How long a provider asks to be left alone, in every form."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.hints import LONGEST_S, hint_s, span_s

NOW = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 0.25 "}, 0.25),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:00:00 GMT"}, 0.0),
        ({"Retry-After-Ms": "100", "Retry-After": "1"}, 0.1),
        ({"x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-reset-tokens": "1m30s"}, 90.0),
        ({"x-ratelimit-reset-tokens": "250ms"}, 0.25),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 12)}, 12.0),
        ({"x-ratelimit-reset-requests": "8ms", "x-ratelimit-remaining-requests": "59", "retry-after": "20"}, 20.0),
        ({"x-ratelimit-reset-requests": "8s", "x-ratelimit-remaining-requests": "0", "retry-after": "20"}, 8.0),
        ({"retry-after": "99999999"}, LONGEST_S),
        *(({"retry-after": text}, None) for text in ("-1", "nan", "inf", "", "soon", "1e3", "1,5", "Wed, 99 Oct 2026", "٣")),
        ({"retry-after": "9" * 10_000}, None),
    ],
)
def test_headers(headers, seconds):
    assert hint_s(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"error": {"details": [{"retryDelay": "3s"}]}}', 3.0),
        (b'{"retry_delay": "1.5s"}', 1.5),
        (b'{"error": {"message": "Rate limit reached. Please try again in 2.5s."}}', 2.5),
        (b"Please try again in 20 seconds.", 20.0),
        (b"Please retry after 250ms", 0.25),
        (b"Try again in 6m0s.", 360.0),
        (b"try again in 1 minute", 60.0),
        (b"try again in 2 hours", 7200.0),
        (b"try again in a moment", None),
        (b"try again in 5 sheep", None),
        (b"", None),
    ],
)
def test_bodies(body, seconds):
    assert hint_s({}, body, now=NOW) == seconds


def test_the_shortest_of_all_counts():
    assert hint_s({"retry-after": "9", "x-ratelimit-reset-tokens": "4s"}, b'{"retryDelay": "6s"}', now=NOW) == 4.0


_names = st.sampled_from(["retry-after", "Retry-After-MS", "x-ratelimit-reset-tokens", "x-ratelimit-reset", "x-ratelimit-remaining-tokens"])
_values = st.text(max_size=40) | st.from_regex(r"[0-9.]{0,20}(ms|s|m|h|d)?", fullmatch=True)


@given(st.dictionaries(_names, _values), st.binary(max_size=300))
def test_garbage_gives_a_hint_in_bounds_or_none(headers, body):
    seconds = hint_s(headers, body, now=NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_S


@given(st.floats(0, 80_000), st.binary(max_size=50))
def test_a_further_hint_never_makes_it_longer(seconds, noise):
    header = {"retry-after": f"{seconds:.3f}"}
    assert hint_s(header, b"try again in 3s " + noise, now=NOW) <= hint_s(header, now=NOW)


def test_a_long_body_is_read_in_time_that_grows_with_its_length_only():
    body = b"try again in " * 4000 + b"1 ms" * 4000 + b'"retryDelay"' + b" " * 9000
    assert hint_s({}, body, now=NOW) in (None, 0.001)


@given(st.integers(0, 9), st.integers(0, 59), st.integers(0, 999))
def test_spans_add_up(minutes, seconds, milliseconds):
    assert span_s(f"{minutes}m{seconds}s{milliseconds}ms") == pytest.approx(60 * minutes + seconds + milliseconds / 1000)
