"""What all specs share: closed, frozen models, and the small types that people write in YAML."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(text: object) -> timedelta:
    """A positive span written as `250ms`, `30s`, `15m`, `24h`, `7d` or `2w`, as a timedelta.

    Raises:
        ValueError: for anything else; the message shows the allowed forms.
    """
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a duration; write a positive number and a unit: 250ms, 30s, 15m, 24h, 7d or 2w")
    return timedelta(seconds=float(match[1]) * _UNIT_S[match[2]])


def format_duration(span: timedelta) -> str:
    """The shortest text that `parse_duration` reads back: `7d`, `90m`, `250ms`."""
    milliseconds = round(span.total_seconds() * 1000)
    for unit in ("w", "d", "h", "m", "s"):
        size = round(_UNIT_S[unit] * 1000)
        if milliseconds % size == 0 and milliseconds:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d|w)$", "examples": ["30s", "15m", "7d"]}),
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="lower-case letters, digits, _ and -, at most 63")]
Share = Annotated[float, Field(ge=0, le=1, description="a fraction of traffic, 0 to 1")]


class Spec(BaseModel):
    """A document that a person writes. Unknown keys are errors: a misspelt threshold must not pass silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
