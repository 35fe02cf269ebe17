"""What all specs share: closed, frozen models, and the small types that people write in YAML."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)")
_UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_STEERING = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories: control characters, halves of pairs, line and paragraph separators."""
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Invisible characters that turn the direction of the text around them."""
_FIRST_YEAR, _LAST_YEAR = "1970", "2199"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})?"


def parse_duration(text: object) -> timedelta:
    """Read a positive span such as `250ms`, `30s`, `15m`, `24h`, `7d` or `2w`.

    Raises:
        ValueError: for anything else; the message shows the allowed forms.
    """
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a duration; write a positive number and a unit: 250ms, 30s, 15m, 24h, 7d or 2w")
    milliseconds = Decimal(match[1]) * Decimal(str(_UNIT_S[match[2]])) * 1000
    if milliseconds != milliseconds.to_integral_value():
        raise ValueError(f"{text!r} is finer than a millisecond, which is the smallest duration")
    try:
        return timedelta(milliseconds=int(milliseconds))
    except OverflowError as error:
        raise ValueError(f"{text!r} is too long for a duration") from error


def format_duration(span: timedelta) -> str:
    """Write the shortest text that `parse_duration` reads back: `7d`, `90m`, `250ms`."""
    milliseconds = round(span.total_seconds() * 1000)
    for unit in ("w", "d", "h", "m", "s"):
        size = round(_UNIT_S[unit] * 1000)
        if milliseconds % size == 0 and milliseconds:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def _written_as(kind: str, pattern: str, *already: type) -> BeforeValidator:
    """Admit text of one form only: pydantic alone would read a number as seconds since 1970 or since midnight."""
    form = re.compile(pattern)

    def check(value: object) -> object:
        if isinstance(value, already):
            return value
        text = value.strip() if isinstance(value, str) else ""
        if form.fullmatch(text):
            if kind != "time_parsing" and not _FIRST_YEAR <= text[:4] <= _LAST_YEAR:
                raise ValueError(f"{text} is not within the years {_FIRST_YEAR} to {_LAST_YEAR}")
            return text
        raise PydanticCustomError(kind, "not of the form that is needed")

    return BeforeValidator(check)


def is_steering(character: str) -> bool:
    """Whether the character steers what shows it: a control or format character, half of a pair, or a break that is no line end."""
    return character not in "\t\n" and (unicodedata.category(character) in _STEERING or character in _BIDI)


def _readable(text: str) -> str:
    """The text, when all of it is to be seen.

    Raises:
        ValueError: where a character would steer a terminal or turn the order of what follows.
    """
    for place, character in enumerate(text, 1):
        if is_steering(character):
            raise ValueError(
                f"character {place} is U+{ord(character):04X}, which steers a terminal or the direction of text; write visible text"
            )
    return text


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "a boolean is not a number")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d|w)$", "examples": ["30s", "15m", "7d"]}),
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="lower-case letters, digits, _ and -, at most 63")]
_IS_NUMBER = BeforeValidator(_no_boolean)  # stands last in each type: pydantic turns limits before it into schema, after it not
Number = Annotated[float, _IS_NUMBER]
NotNegative = Annotated[float, Field(ge=0), _IS_NUMBER]
Ratio = Annotated[float, Field(ge=1), _IS_NUMBER]
"""A tolerated ratio: 1 tolerates nothing."""
Share = Annotated[float, Field(ge=0, le=1, description="a fraction of traffic, 0 to 1"), _IS_NUMBER]
PositiveShare = Annotated[float, Field(gt=0, le=1, description="a fraction of traffic, above 0 and at most 1"), _IS_NUMBER]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_readable)]
"""Words that are really there: a declaration of blanks declares nothing, and one that turns the screen around says something else."""
Day = Annotated[
    date,
    _written_as("date_parsing", _DAY, date),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-10-31"]}),
]
TimeOfDay = Annotated[
    time,
    _written_as("time_parsing", _TIME, time),
    PlainSerializer(lambda value: value.isoformat("auto" if value.second else "minutes"), return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$", "examples": ["09:00", "18:30"]}),
]
"""Wall-clock time; midnight is 00:00."""
LocalMoment = Annotated[
    datetime,
    _written_as("datetime_parsing", rf"{_DAY}[T ]{_TIME}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?", datetime),
    WithJsonSchema({"type": "string", "pattern": rf"^{_DAY}[T ]{_TIME}$", "examples": ["2026-10-05T09:00"]}),
]
"""A day and wall-clock time in a zone that is named elsewhere."""
Instant = Annotated[
    AwareDatetime,
    _written_as("datetime_parsing", rf"{_DAY}[T ]{_TIME}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?", datetime),
    WithJsonSchema(
        {"type": "string", "pattern": rf"^{_DAY}[T ]{_TIME}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})$", "examples": ["2026-10-24T18:00+02:00"]}
    ),
]
"""A moment with its offset from UTC."""


def twice(names: list[str]) -> list[str]:
    """Return the names that stand in the list more than once, sorted."""
    return sorted({name for name in names if names.count(name) > 1})


class Spec(BaseModel):
    """A document that a person writes. Unknown keys are errors: a misspelt threshold must not pass silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
