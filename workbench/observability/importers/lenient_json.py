"""JSON as evaluation tools write it: `NaN` and `Infinity` are no JSON, and mean that there is no number. They are read as null."""

from __future__ import annotations

import re
from typing import Any

import orjson

_STRING_OR_CONSTANT = re.compile(rb'"(?:[^"\\]|\\.)*"|-?Infinity|NaN', re.DOTALL)


def loads(content: bytes) -> Any:
    """The value that the bytes hold.

    Raises:
        orjson.JSONDecodeError: when they are no JSON in spite of that.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        if b"NaN" not in content and b"Infinity" not in content:
            raise
        return orjson.loads(_STRING_OR_CONSTANT.sub(_without_constant, content))


def _without_constant(found: re.Match[bytes]) -> bytes:
    text = found[0]
    return text if text[:1] == b'"' else b"null"
