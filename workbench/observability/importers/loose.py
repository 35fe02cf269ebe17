"""A field of a description that may be anything: what is not of the wanted type is as good as absent.

For what a file says about itself (settings, names), where a strange value must not cost its records; the records are read by `fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object; empty where there is none."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def mappings(record: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    value = record.get(key)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """Text that says something."""
    return value if isinstance(value, str) and value.strip() else None
