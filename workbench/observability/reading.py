"""A text as its reader sees it: the one spelling in which personal data and secrets are looked for. Pure, linear in the length.

Over the plain form of `spec.folding` (full-width letters, odd blanks, what nobody sees) it reads HTML's character references
(`&#64;`, `&nbsp;`), and every script's digits and dashes as the ASCII ones. What is found there is mapped back to where it stood.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from functools import cache
from html.entities import html5

from workbench.spec.folding import Plain, plain

_REFERENCE = re.compile(
    r"&(?:#0{0,16}(?P<decimal>[1-9][0-9]{0,6})|#[xX]0{0,16}(?P<hex>[1-9A-Fa-f][0-9A-Fa-f]{0,5})|(?P<name>[A-Za-z]{2,24}));?"
)
DASHES = "\u2010-\u2015\u2212\u2043\ufe58\ufe63"
"""Every dash that is read as a hyphen, as a part of a class of a regular expression."""
_FIGURES = re.compile(rf"[^\D0-9]|[{DASHES}]")
_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def reading(text: str) -> Plain:
    """The text as it is read; the same text where it is spelled in the usual way."""
    if "&" not in text and text.isascii():
        return Plain(text, None, None)
    resolved = _resolved(text)
    shown = plain(resolved.text)
    figures = shown.text if shown.text.isascii() else _FIGURES.sub(_figure, shown.text)
    return resolved.then(Plain(figures, shown.starts, shown.ends))


def _resolved(text: str) -> Plain:
    """The text with its character references as the characters that they mean, where those can matter."""
    pieces: list[str] = []
    starts, ends = array("l"), array("l")
    done = 0
    for reference in _REFERENCE.finditer(text) if "&" in text else ():
        meant = _meaning(reference)
        if meant is None:
            continue
        pieces += [text[done : reference.start()], meant]
        starts.extend(range(done, reference.start()))
        ends.extend(range(done + 1, reference.start() + 1))
        starts.extend([reference.start()] * len(meant))
        ends.extend([reference.end()] * len(meant))
        done = reference.end()
    if not done:
        return Plain(text, None, None)
    starts.extend(range(done, len(text)))
    ends.extend(range(done + 1, len(text) + 1))
    return Plain("".join([*pieces, text[done:]]), starts, ends)


def _meaning(reference: re.Match[str]) -> str | None:
    """What a reference stands for; None where it is none."""
    if reference["name"]:
        return _names().get(reference["name"]) if reference[0].endswith(";") else None
    code = int(reference["decimal"]) if reference["decimal"] else int(reference["hex"], 16)
    return chr(code) if code <= _LAST_CHARACTER and code not in _SURROGATES else None


@cache
def _names() -> dict[str, str]:
    """The named references that stand for what ASCII has, or for nothing that is seen; other letters are no part of what is looked for."""
    known = {name.rstrip(";"): meant for name, meant in html5.items() if name.endswith(";")}
    return {name: meant for name, meant in known.items() if _FIGURES.sub(_figure, plain(meant).text).isascii()}


def _figure(match: re.Match[str]) -> str:
    return str(unicodedata.decimal(match[0], "-"))
