"""What the names in a log tell beside what they name: ids for rows, and the provider and version of a model. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from workbench.observability.importers import fields

_PROVIDERS = {
    "gpt": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "claude": "anthropic",
    "gemini": "google",
    "mistral": "mistral",
}
_DATE = re.compile(r"20\d\d-?[01]\d-?[0-3]\d")
_DEEPEST = 16
_SECRET = re.compile(
    r"(api|access|secret|private|client|session|bearer|auth|signing).{0,2}(key|token)|secret|passw|authorization|credential|cookie"
    r"|^(headers?|key|token|auth|env)$",
    re.IGNORECASE,
)
"""Names of settings that may hold a secret; `max_tokens` is none."""


def hashed(*parts: object) -> str:
    """SHA-256 over the parts, hex: the same for the same parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()


def provider_of(model: str) -> str:
    """The provider that a model's name tells: `anthropic/…`, or a known family; else `unknown`."""
    prefix, slash, _ = model.partition("/")
    if slash and prefix:
        return prefix
    family = re.split(r"[-:.]", model.removeprefix("ft:"))[0]
    return _PROVIDERS.get(family, "unknown")


def version_of(model: str) -> str | None:
    """The date in a model's name, which pins it; None where there is none."""
    date = _DATE.search(model)
    return date[0] if date else None


def as_name(text: str, *, otherwise: str) -> str:
    """The text as a name inside a bundle: lower-case letters, digits, `_` and `-`."""
    name = re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")[:50]
    return name if name[:1].isalpha() and name.isascii() else otherwise


def exact(value: Any, *, depth: int = 0) -> Any:
    """A value fit for a bundle: nothing that may be secret; numbers that JSON does not hold exactly as text; what is too deep is a sign."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if abs(value) < fields.MOST else str(value)
    if depth >= _DEEPEST and isinstance(value, (dict, list)):
        return "…"
    if isinstance(value, dict):
        return {key: exact(part, depth=depth + 1) for key, part in value.items() if not _SECRET.search(key)}
    if isinstance(value, list):
        return [exact(part, depth=depth + 1) for part in value]
    return value


def settings_of(record: Mapping[str, Any], *, but: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The settings of a record that are set, without those that decide nothing about an answer and those that may hold a secret."""
    set_: dict[str, Any] = exact({key: value for key, value in record.items() if value is not None and key not in but})
    return set_
