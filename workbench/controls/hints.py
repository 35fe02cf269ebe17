"""How long a provider asks to be left alone, in any of the forms in which providers say it. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_S = 86_400.0
"""A longer hint counts as this one."""
_LONGEST_VALUE = 64
"""Characters of a header that are looked at."""
_MOST_BODY = 16_384
"""Bytes of a body that are searched."""
_EPOCH_S = 1e9
"""A number from here on is a moment, not a span."""
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_SPAN = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h|d)){{1,5}}")
_PLAIN = re.compile(rf"{_NUMBER}")
_DELAY = re.compile(rb'"retry_?delay"\s{0,8}:\s{0,8}"([0-9.]{1,20}(?:ms|s|m|h)?)"', re.IGNORECASE)
_WORDS = re.compile(
    rb"(?:try again|retry) (?:in|after) ((?:[0-9]{1,15}(?:\.[0-9]{1,9})? ?(?:milliseconds?|ms|seconds?|s|minutes?|m|hours?|h)){1,4})\b",
    re.IGNORECASE,
)
_RESET = "x-ratelimit-reset"
_LONG_UNITS = (("milliseconds", "ms"), ("millisecond", "ms"), ("seconds", "s"), ("second", "s"), ("minutes", "m"), ("minute", "m"))


def hint_s(headers: Mapping[str, str], body: bytes = b"", *, now: datetime) -> float | None:
    """Seconds to wait, the shortest that headers and body name; None where they name none.

    A header `x-ratelimit-reset-…` counts only where the `x-ratelimit-remaining-…` of the same name does not say that something is left:
    providers send both with every answer.

    Args:
        headers: of the response; names are compared without case.
        body: of the response, or its beginning.
        now: aware, for dates.
    """
    lowered = {name.lower(): value.strip()[:_LONGEST_VALUE] for name, value in headers.items()}
    named = [seconds for seconds in (*_of_headers(lowered, now), *_of_body(body)) if seconds is not None]
    return min((min(seconds, LONGEST_S) for seconds in named), default=None)


def hint_of_body(body: bytes) -> float | None:
    """Seconds to wait that a body alone names; None where it names none."""
    return min((min(seconds, LONGEST_S) for seconds in _of_body(body) if seconds is not None), default=None)


def span_s(text: str) -> float | None:
    """The seconds of `2`, `2.5`, `250ms`, `3s`, `1m30s`; None for anything else."""
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return float(text)
    if _SPAN.fullmatch(text) is None:
        return None
    return math.fsum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))


def _of_headers(headers: Mapping[str, str], now: datetime) -> Iterator[float | None]:
    finer = span_s(headers.get("retry-after-ms", ""))
    yield None if finer is None else finer / 1000
    coarser = headers.get("retry-after", "")
    seconds = span_s(coarser)
    yield _until(coarser, now) if seconds is None else seconds
    for name, value in headers.items():
        if name.startswith(_RESET) and not _is_left(headers.get(name.replace("-reset", "-remaining", 1))):
            yield _reset_s(value, now)


def _is_left(remaining: str | None) -> bool:
    """Whether the header says that something is left."""
    left = span_s(remaining) if remaining else None
    return left is not None and left > 0


def _reset_s(value: str, now: datetime) -> float | None:
    """A span, or the seconds until a moment of seconds since 1970."""
    seconds = span_s(value)
    return max(0.0, seconds - now.timestamp()) if seconds is not None and seconds >= _EPOCH_S else seconds


def _until(value: str, now: datetime) -> float | None:
    """Seconds until an HTTP date; 0 for one that is past."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    try:
        return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
    except OverflowError:
        return None


def _of_body(body: bytes) -> Iterator[float | None]:
    searched = body[:_MOST_BODY]
    for match in (*_DELAY.finditer(searched), *_WORDS.finditer(searched)):
        text = match[1].decode("ascii").lower().replace(" ", "")
        for long, short in _LONG_UNITS:
            text = text.replace(long, short)
        yield span_s(text.replace("hours", "h").replace("hour", "h"))
