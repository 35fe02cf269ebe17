"""Text that stands in a text in an encoded form: base64, percent-encoding (also of what was encoded before) and JSON's escapes. Pure."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote_plus

from workbench.observability.credentials import LONG_RUN
from workbench.observability.suspicion import LONG, PERCENT

_LONGEST_DECODED = 1 << 20
_MOST_ENCODINGS = 4
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_ESCAPE = re.compile(r"\\++u([0-9A-Fa-f]{4})")


class Encoded(NamedTuple):
    """What `text[start:end]` says once it is decoded."""

    start: int
    end: int
    text: str


def encoded(text: str, flags: int) -> Iterator[Encoded]:
    """The runs of base64 and the words with percent-encoding that decode to text; `flags` is the text's `suspicion`."""
    if flags & LONG:
        for run in LONG_RUN.finditer(text):
            decoded = None if run[0].isdigit() else _from_base64(run[0])
            if decoded is not None:
                yield Encoded(*run.span(), decoded)
    if flags & PERCENT and _PERCENT.search(text):
        for token in re.finditer(r"\S++", text):
            if _PERCENT.search(token[0]):
                yield from (Encoded(*token.span(), decoded) for decoded in _from_percent(token[0][:_LONGEST_DECODED]))


def escaped(text: str) -> Iterator[Encoded]:
    r"""The words in which characters are written as `\u0040`, however many backslashes stand before the `u`."""
    if "\\u" in text:
        for token in re.finditer(r"\S++", text):
            if _ESCAPE.search(token[0]):
                yield Encoded(*token.span(), _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), token[0][:_LONGEST_DECODED]))


def _from_percent(token: str) -> Iterator[str]:
    """The token, decoded as often as it may have been encoded on its way through several addresses: what comes of each time."""
    for _ in range(_MOST_ENCODINGS):
        decoded = unquote_plus(token)
        if decoded == token:
            return
        yield decoded
        token = decoded


def _from_base64(run: str) -> str | None:
    """The text that a base64 run holds (both alphabets, padded or not); None when it is no text."""
    head = _decoded(run[:64])
    if head is None or not _is_text(head[:48]):
        return None
    whole = _decoded(run[:_LONGEST_DECODED])
    return whole.decode("utf-8", "ignore") if whole is not None else None


def _decoded(run: str) -> bytes | None:
    bare = run.rstrip("=")
    bare = bare[: len(bare) - 1] if len(bare) % 4 == 1 else bare
    try:
        return binascii.a2b_base64(bare.replace("-", "+").replace("_", "/") + "=" * (-len(bare) % 4))
    except binascii.Error:
        return None


def _is_text(start: bytes) -> bool:
    """Whether bytes look like the start of a UTF-8 text; the last character may be cut."""
    text = start.decode("utf-8", "replace")
    return "\ufffd" not in text[:-1] and all(char.isprintable() or char in "\t\r\n" for char in text[:-1])
