"""A first look at a text: which kinds of personal data and secrets are possible in it at all.

Most texts hold nothing, so the look has to be cheap: a few table look-ups over the bytes, no regular expression. It may suspect too
much, never too little: what `detectors` and `credentials` find is always among the kinds that were suspected.
"""

from __future__ import annotations

from typing import NamedTuple


class Found(NamedTuple):
    """One thing to take out: `text[start:end]`, its kind, and the form that is the same however it was written."""

    start: int
    end: int
    kind: str
    value: str


AT, NUMBER, DOTTED, IBAN, COLONS, LONG, WORD, PERCENT = (1 << bit for bit in range(8))

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CLASSES = bytes.maketrans(_LETTERS + b"123456789", b"a" * 52 + b"0" * 9)
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_RUNS = bytes.maketrans(_LETTERS + b"0123456789+/_-", b"a" * 66)
_COMMON = _LETTERS + b" \t\r\n,;!?'\"-"
_SEPARATORS = b" ()+-./"
_WORDS = (b"secret", b"token", b"bearer", b"authoriz", b"pwd")
_NAMES_OF_KEYS = tuple(f"{kind}{mark}key".encode() for kind in ("api", "access", "private") for mark in ("", "_", "-"))
_LONGER_WORDS = ((b"pass", (b"passw", b"passphrase")), (b"key", _NAMES_OF_KEYS))
_LEAST_DIGITS = 7


def suspicion(raw: bytes) -> int:
    """The kinds that may occur in a UTF-8 text, as a set of bits; 0 means that it is clean."""
    flags = LONG if b"a" * 16 in raw.translate(_RUNS) else 0
    rest = raw.translate(_DIGITS, _COMMON)
    if not rest:
        return flags | WORD if b"bearer" in raw.lower() else flags
    if b"@" in rest:
        flags |= AT
    if b"%" in rest:
        flags |= PERCENT
    if b":" in rest and ((b"::" in rest and b"::" in raw) or rest.count(b":") >= _LEAST_DIGITS):
        flags |= COLONS
    if b"0" in rest:
        flags |= _suspicion_of_numbers(raw, rest)
    lower = raw.lower()
    if _names_a_secret(lower) if b":" in rest or b"=" in rest else b"bearer" in lower:
        flags |= WORD
    return flags


def _suspicion_of_numbers(raw: bytes, rest: bytes) -> int:
    flags = 0
    if b"0.0" in rest and b"0.0.0.0" in rest.replace(b"00", b"0").replace(b"00", b"0"):
        flags |= DOTTED
    if rest.count(b"0") >= _LEAST_DIGITS:
        if b"0" * _LEAST_DIGITS in raw.translate(_DIGITS, _SEPARATORS):
            flags |= NUMBER
        if b"aa00" in raw.translate(_CLASSES):
            flags |= IBAN
    return flags


def _names_a_secret(lower: bytes) -> bool:
    for word in _WORDS:  # a loop and no generator: this is asked of every text
        if word in lower:
            return True
    return any(short in lower and any(word in lower for word in words) for short, words in _LONGER_WORDS)
