"""A body as a JSON object, read with care: it comes from somewhere else. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from workbench.gateway.problem import bad_request

DEEPEST = 100
"""Levels of lists and objects. Whatever walks a request later may do so by recursion."""
MOST_IGNORED = 20
"""Names that are told to have no effect."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)


def json_object(body: bytes) -> dict[str, Any]:
    """The object that the body holds. Of a key that comes twice the last counts, and only that is passed on.

    NaN, numbers beyond a double, invalid UTF-8 and halves of surrogate pairs are no JSON.

    Raises:
        Problem: it is no JSON, no object, or too deep.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_request("The body is not JSON.", code="invalid_json") from None  # the original holds what the caller sent
    if type(found) is not dict:
        raise bad_request("The body should be a JSON object.")
    if body.count(b"{") + body.count(b"[") > DEEPEST and _is_deep(found):
        raise bad_request(f"The body nests deeper than {DEEPEST} levels.", code="too_deep")
    return found


def text_of(asked: Mapping[str, Any], name: str) -> str:
    """A field that has to be text.

    Raises:
        Problem: it is none.
    """
    value = asked.get(name)
    if type(value) is not str:
        raise bad_request(f"{name}: text is needed.", param=name)
    return value


def given(asked: Mapping[str, Any], *, besides: Collection[str]) -> list[str]:
    """The names of fields with a value, besides the known ones. A name that no header can carry is left out."""
    return [name for name, value in asked.items() if name not in besides and value is not None and _PLAIN_NAME.fullmatch(name)]


def _is_deep(found: Any) -> bool:
    level = [found]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in (outer.values() if type(outer) is dict else outer) if type(inner) in {dict, list}]
        if not level:
            return False
    return True
