"""The arguments of a tool call: strict JSON, one meaning only, and what has to hold for them. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from workbench.controls.guards.model import Action
from workbench.spec.document import MAX_DEPTH, MAX_INTEGER
from workbench.spec.folding import folded

LONGEST = 256 << 10
"""Characters of one call's arguments."""
_ABSENT = object()


class BadArguments(Exception):
    """The arguments are not JSON that everybody reads alike. The text says why, and quotes nothing of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What has to hold for one argument."""

    rule_id: str
    path: tuple[str, ...]
    op: str
    value: Any
    """With `matches` the compiled pattern."""
    action: Action
    sentence: str

    def is_met(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the argument is there and fulfils the condition."""
        value: Any = arguments
        for step in self.path:
            value = value.get(step, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        return value is not _ABSENT and OPERATORS[self.op](value, self.value)


def read_arguments(text: str) -> dict[str, Any]:
    """The arguments that the text holds; no text at all means none.

    Raises:
        BadArguments: it is no JSON object, or one that two readers may take differently.
    """
    if not text.strip():
        return {}
    if len(text) > LONGEST:
        raise BadArguments(f"they are longer than {LONGEST} characters")
    if _depth(text) > MAX_DEPTH:
        raise BadArguments(f"they are nested more than {MAX_DEPTH} levels deep")
    try:
        orjson.loads(text)  # refuses halves of surrogate pairs, which cannot be sent on
        value = json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)
    except BadArguments:
        raise
    except (ValueError, RecursionError) as error:
        raise BadArguments("they are not valid JSON") from error
    if not isinstance(value, dict):
        raise BadArguments("they are not a JSON object")
    return value


def strings_in(arguments: Any) -> list[str]:
    """Every key and text of the arguments, in their order."""
    found: list[str] = []
    waiting = [arguments]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, Mapping):
            waiting += [part for pair in reversed(list(value.items())) for part in reversed(pair)]
        elif isinstance(value, list):
            waiting += reversed(value)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_same(argument: Any, value: Any) -> bool:
    """Whether both are equal and of one kind: true is not 1, and "1" is neither."""
    return argument == value and (_is_number(argument) == _is_number(value)) and isinstance(argument, str) == isinstance(value, str)


def _is_spelled(argument: Any, value: Any) -> bool:
    """Whether the argument says the value, however it is spelled; a list or object says what stands in it."""
    if isinstance(argument, Mapping):
        return any(_is_spelled(item, value) for pair in argument.items() for item in pair)
    if isinstance(argument, list):
        return any(_is_spelled(item, value) for item in argument)
    if isinstance(argument, str) or isinstance(value, str):
        left, right = str(argument), str(value)
        return left == right or (folded(left) == folded(right) != "")
    return _is_same(argument, value)


def _holds(argument: Any, value: Any) -> bool:
    if isinstance(argument, str):
        return isinstance(value, str) and value in argument
    return isinstance(argument, list) and any(_is_same(item, value) for item in argument)


def _depth(text: str) -> int:
    """How deep the brackets outside of strings are nested."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    deepest = depth = 0
    is_text = is_escaped = False
    for char in text:
        if is_text:
            is_text, is_escaped = is_escaped or char != '"', char == "\\" and not is_escaped
        elif char == '"':
            is_text = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadArguments("a key stands in them twice")
    return found


def _integer(text: str) -> int:
    number = int(text) if len(text) <= 20 else MAX_INTEGER + 1  # noqa: PLR2004 - far beyond
    if abs(number) > MAX_INTEGER:
        raise BadArguments("they hold a whole number that not every reader keeps exactly")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadArguments("they hold a number that is too large")
    return number


def _constant(_text: str) -> None:
    raise BadArguments("they hold a number that JSON does not have")


OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<=": lambda argument, value: _is_number(argument) and argument <= value,
    "<": lambda argument, value: _is_number(argument) and argument < value,
    ">=": lambda argument, value: _is_number(argument) and argument >= value,
    ">": lambda argument, value: _is_number(argument) and argument > value,
    "==": _is_same,
    "!=": lambda argument, value: not _is_spelled(argument, value),
    "in": lambda argument, values: any(_is_same(argument, value) for value in values),
    "not_in": lambda argument, values: not any(_is_spelled(argument, value) for value in values),
    "matches": lambda argument, pattern: isinstance(argument, str) and pattern.fullmatch(argument) is not None,
    "contains": _holds,
}
"""What decides whether `argument op value` holds.

What is forbidden (`!=`, `not_in`) is compared in one form for all spellings of a text, what is allowed exactly as it is written.
"""
