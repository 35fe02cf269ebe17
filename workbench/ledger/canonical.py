"""Canonical JSON (RFC 8785) and SHA-256 digests: equal values have equal bytes, on every machine and in every version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import rfc8785

from workbench.errors import UsageError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
_MAX_INTEGER = 2**53 - 1


def canonical_json(value: Any) -> bytes:
    """The one UTF-8 text of a JSON value: sorted keys, no spaces, shortest numbers.

    Raises:
        UsageError: names the place of something that JSON does not hold exactly: NaN, infinity, an integer beyond 2^53 - 1, a key
            that is not text, a date, bytes.

    Source: RFC 8785, JSON Canonicalization Scheme.

    >>> canonical_json({"b": 1.0, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    plain = _plain(value, "$")
    try:
        return rfc8785.dumps(plain)
    except rfc8785.CanonicalizationError as error:
        place, fault = _first_fault(plain, "$") or ("$", str(error))
        raise UsageError(
            f"canonical JSON: {place}", seen=fault, needed="a value that JSON holds exactly", next_step="write it as text"
        ) from error


def read_canonical(text: str | bytes) -> Any:
    """The value of canonical JSON. RFC 8785 writes large floats like whole numbers; they are read as floats again.

    Raises:
        ValueError: when it is no JSON.
    """
    return json.loads(text, parse_int=_number)


def _number(digits: str) -> int | float:
    number = int(digits)
    return number if abs(number) <= _MAX_INTEGER else float(digits)


def digest(content: Any) -> str:
    """`sha256:<64 hex>` over bytes as they are, or over the canonical JSON of any other value."""
    raw = content if isinstance(content, bytes) else canonical_json(content)
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _plain(value: Any, place: str) -> Any:
    """The value in plain dicts and lists; texts and numbers of derived types (enums) as their base."""
    if isinstance(value, Mapping):
        return {_key(key, place): _plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
    return str(value) if isinstance(value, str) else value


def _key(key: object, place: str) -> str:
    if not isinstance(key, str):
        raise UsageError(f"canonical JSON: {place}", seen=f"the key {key!r} is not text", needed="text keys", next_step=f'write "{key}"')
    return str(key)


def _first_fault(plain: Any, place: str) -> tuple[str, str] | None:
    """Where the first value is that cannot be written, and what it is."""
    if isinstance(plain, dict):
        pairs = [(f"{place}.{key}", item) for key, item in plain.items()]
    elif isinstance(plain, list):
        pairs = [(f"{place}[{i}]", item) for i, item in enumerate(plain)]
    else:
        try:
            rfc8785.dumps(plain)
        except rfc8785.CanonicalizationError as error:
            return place, str(error) or f"{plain!r} is not a JSON value"
        return None
    return next((fault for where, item in pairs if (fault := _first_fault(item, where))), None)
