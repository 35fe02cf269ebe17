"""What is stored instead of personal data and secrets: typed placeholders, stable for one unit.

`<EMAIL:1f3a9c02>` stands for the same address wherever one unit (customer, task, session) used it, so joins inside a unit survive,
and for different ones in different units, so nobody can be followed across them. The digits come from an HMAC under the
workspace's key and cannot be turned back.

Text is redacted before it is written anywhere. Structured content is walked: keys, values, numbers, JSON text inside strings.
A text is searched as its reader sees it (`reading`), so that no odd blank, digit or letter hides anything. Base64, percent-encoding
and JSON's escapes are decoded, and a run whose decoded form holds something is replaced whole.
What is found, and what is not, is said in `detectors`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from workbench.observability.credentials import secret_from
from workbench.observability.detectors import find, names_phone, without_overlaps
from workbench.observability.encodings import Encoded, encoded, escaped
from workbench.observability.reading import reading
from workbench.observability.suspicion import LONG, PERCENT, Found, suspicion
from workbench.spec.folding import Plain

REDACTION_VERSION = "3"
"""Stored with each row; changes whenever the same text would be redacted differently."""

_DEEPEST = 32
_DEEPEST_NESTED_JSON = 3
_SHORTEST_PII_NUMBER = 7
_LONGEST_CACHED = 16_384
_MOST_CACHED = 1024
_LONGEST_KEY = 128
_KEY_STARTS = ("wb_", "sk-", "sk_", "rk_", "gh", "glpat-", "xox", "xapp-", "AKIA", "ASIA", "AIza", "hf_", "npm_", "pypi-", "eyJ", "Bearer ")
_SHORTEST_ENCODED = 16
_PLAIN_ID = re.compile(r"[a-z]{0,4}_?[0-9a-f-]*", re.ASCII)
"""UUIDs, and ids such as ours."""
_PLACEHOLDER = re.compile(r"<(?:EMAIL|PHONE|CARD|IBAN|IP|SSN|SECRET|ENCODED):[0-9a-f]{8}>")


class _Key(NamedTuple):
    """What a key of an object says."""

    name: str
    """The key as it is stored."""
    secret_from: int
    """Values of so many characters and more are secrets under this key; 0 means that none is."""
    hint: str
    """The key where it says that its value is a telephone number, else empty."""


class Redactor:
    """Takes personal data and secrets out of text and JSON values.

    Args:
        key: the workspace's secret, at least 16 bytes. Another key gives other placeholders.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:  # noqa: PLR2004
            raise ValueError("a redaction key has at least 16 bytes")
        self._key = key
        self._clean: dict[str, None] = {}
        self._keys: dict[str, _Key] = {}

    def __reduce__(self) -> tuple[type[Redactor], tuple[bytes]]:
        """So that another process redacts alike; what it carries is as secret as the key."""
        return Redactor, (self._key,)

    def text(self, text: str, unit: str | None) -> str:
        """The text with placeholders; the same object when there is nothing to take out."""
        return self._text(text, unit or "", hint="", nested=0)

    def json(self, value: Any, unit: str | None) -> Any:
        """The JSON value with placeholders in keys, values and JSON text inside strings. The value given is not changed."""
        return self._walk(value, unit or "", hint="", depth=0, nested=0)

    def json_text(self, value: Any, unit: str | None, *, raw: bytes) -> str:
        """The redacted value as JSON text; `raw` is its own JSON text, which is used as it is when nothing has to go."""
        redacted = self._walk(value, unit or "", hint="", depth=0, nested=0)
        return raw.decode() if redacted is value else orjson.dumps(redacted, option=orjson.OPT_SORT_KEYS).decode()

    def identifier(self, value: str) -> str:
        """An id, name or code as it is, or a pseudonym of the whole where it is or holds an address, a number of a person or a key."""
        read = reading(value).text
        found = find(read) if _may_name_somebody(read) else []
        if not found and _may_be_encoded(read):
            found = next(filter(None, (find(run.text) for run in _runs(read, LONG | PERCENT))), [])
        return self._placeholder(found[0].kind, "", value, n=32) if found else value

    def _placeholder(self, kind: str, unit: str, value: str, *, n: int = 8) -> str:
        message = f"{kind}\0{unit}\0{value}".encode("utf-8", "surrogatepass")
        return f"<{kind}:{hmac.digest(self._key, message, 'sha256').hex()[:n]}>"

    def _text(self, text: str, unit: str, *, hint: str, nested: int) -> str:
        if not text or (text in self._clean and not hint):
            return text
        read = reading(text)
        flags = suspicion(read.text.encode("utf-8", "surrogatepass"))
        may_be_json = text[0] in "{[ \r\n\t"
        if not flags and "\\u" not in read.text:
            return self._remembered(text)
        redacted = self._nested_json(text, unit, nested) if may_be_json else None
        if redacted is None:
            redacted = self._flat(text, read, unit, hint, flags)
        return self._remembered(text) if redacted is text and not hint else redacted

    def _remembered(self, text: str) -> str:
        """A clean text, kept because many come again: keys, system prompts, tool descriptions."""
        if len(text) <= _LONGEST_CACHED:
            if len(self._clean) >= _MOST_CACHED:
                self._clean.clear()
            self._clean[text] = None
        return text

    def _flat(self, text: str, read: Plain, unit: str, hint: str, flags: int) -> str:
        found = find(read.text, hint=hint, flags=flags)
        if flags & (LONG | PERCENT) or "\\u" in read.text:
            hidden = [
                Found(run.start, run.end, "ENCODED", read.text[run.start : run.end]) for run in _runs(read.text, flags) if find(run.text)
            ]
            found = without_overlaps(found + hidden)
        if not found:
            return text
        pieces, end = [], 0
        for item in _not_yet_redacted(read.text, found):
            begin, until = read.span(item.start, item.end)
            pieces += [text[end:begin], self._placeholder(item.kind, unit, item.value)]
            end = until
        return "".join([*pieces, text[end:]]) if pieces else text

    def _nested_json(self, text: str, unit: str, nested: int) -> str | None:
        """The redacted JSON text that a string holds, such as a tool call's arguments; None when it is not JSON."""
        if nested >= _DEEPEST_NESTED_JSON or text.lstrip()[:1] not in ("{", "["):
            return None
        try:
            value = orjson.loads(text)
        except (orjson.JSONDecodeError, RecursionError):
            return None
        redacted = self._walk(value, unit, hint="", depth=0, nested=nested + 1)
        if redacted is value and not find(reading(text).text):
            return text
        return orjson.dumps(redacted).decode()

    def _walk(self, value: Any, unit: str, *, hint: str, depth: int, nested: int) -> Any:
        """The value, or a copy where something in it was replaced."""
        if isinstance(value, str):
            return self._text(value, unit, hint=hint, nested=nested)
        if isinstance(value, dict):
            return self._mapping(value, unit, depth, nested)
        if isinstance(value, (list, tuple)):
            if depth >= _DEEPEST:
                return self._flat_dump(value, unit)
            items = [self._walk(item, unit, hint=hint, depth=depth + 1, nested=nested) for item in value]
            return value if all(new is old for new, old in zip(items, value, strict=True)) else items
        if isinstance(value, int) and not isinstance(value, bool) and value >= 10**_SHORTEST_PII_NUMBER:
            digits = str(value)
            redacted = self._text(digits, unit, hint=hint, nested=nested)
            return value if redacted == digits else redacted
        return value

    def _mapping(self, value: dict[str, Any], unit: str, depth: int, nested: int) -> Any:
        if depth >= _DEEPEST:
            return self._flat_dump(value, unit)
        clean, keys = self._clean, self._keys
        changes: dict[str, tuple[str, Any]] = {}
        for key, item in value.items():
            traits = keys.get(key) or self._traits(key, unit)
            if type(item) is str and item in clean and not traits.hint and not traits.secret_from:
                redacted: Any = item
            elif traits.secret_from and _is_secret(item, traits.secret_from):
                redacted = self._placeholder("SECRET", unit, str(item))
            else:
                redacted = self._walk(item, unit, hint=traits.hint, depth=depth + 1, nested=nested)
            if redacted is not item or traits.name != key:
                changes[key] = (traits.name, redacted)
        return _changed(value, changes) if changes else value

    def _traits(self, key: str, unit: str) -> _Key:
        """What a key says about its value; remembered when the key itself is clean."""
        name = self._text(key, unit, hint="", nested=_DEEPEST_NESTED_JSON)
        traits = _Key(name=name, secret_from=secret_from(key), hint=key if names_phone(key) else "")
        if name == key and len(key) <= _LONGEST_KEY:
            if len(self._keys) >= _MOST_CACHED:
                self._keys.clear()
            self._keys[key] = traits
        return traits

    def _flat_dump(self, value: Any, unit: str) -> Any:
        """What lies deeper than anybody nests: redacted as one text, or taken out whole when it goes deeper still."""
        try:
            text = orjson.dumps(value).decode()
        except TypeError:
            return self._placeholder("ENCODED", unit, "nested too deeply")
        read = reading(text)
        redacted = self._flat(text, read, unit, "", suspicion(read.text.encode("utf-8", "surrogatepass")))
        return value if redacted is text else redacted


def _runs(text: str, flags: int) -> Iterator[Encoded]:
    """What stands in the text in an encoded form, as its reader would see it."""
    for run in (*encoded(text, flags), *escaped(text)):
        yield run._replace(text=reading(run.text).text)


def _may_name_somebody(value: str) -> bool:
    """A cheap look at an identifier; most are UUIDs, hashes or short words."""
    return "@" in value or value[:1] in "+(0" or value.startswith(_KEY_STARTS) or value.count(".") >= 3 or ":" in value or value.isdigit()  # noqa: PLR2004 - IPv4


def _may_be_encoded(value: str) -> bool:
    """As cheap a look for an identifier that holds another text."""
    return "%" in value or "\\u" in value or (len(value) >= _SHORTEST_ENCODED and _PLAIN_ID.fullmatch(value) is None)


def _changed(value: dict[str, Any], changes: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """A copy with other names and values for some keys, in the same order. Keys that become the same are told apart by a mark."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name, redacted = changes.get(key, (key, item))
        while name in result:
            name += "'"
        result[name] = redacted
    return result


def _not_yet_redacted(text: str, found: list[Found]) -> list[Found]:
    """What was found outside of the placeholders that the text already has."""
    placeholders = [match.span() for match in _PLACEHOLDER.finditer(text)] if "<" in text else []
    if not placeholders:
        return found
    kept, index = [], 0
    for item in found:
        while index < len(placeholders) and placeholders[index][1] <= item.start:
            index += 1
        if index == len(placeholders) or not (placeholders[index][0] <= item.start and item.end <= placeholders[index][1]):
            kept.append(item)
    return kept


def _is_secret(item: object, least: int) -> bool:
    if isinstance(item, bool) or not isinstance(item, (str, int)):
        return False
    text = str(item)
    return len(text) >= least and _PLACEHOLDER.fullmatch(text) is None
