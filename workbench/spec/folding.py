"""Texts as they are compared: one form for all spellings of the same letters, and the way back to where they stood. Pure.

Compatibility forms become plain ones (NFKC: full-width letters, ligatures), what nobody sees is left out (zero-width characters,
soft hyphens, selectors). Letters of other scripts that look alike stay different letters.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from dataclasses import dataclass

_HIDDEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000e0000-\U000e0fff"
)
_SURROGATES = "\ud800-\udfff"
_ODD = re.compile(f"[{_HIDDEN}{_SURROGATES}]")
_ALL_HIDDEN = re.compile(f"[{_HIDDEN}]+")
_LONGEST_CLUSTER = 32
"""A letter with more marks than that is taken as several, so that putting marks in order stays cheap."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A text in plain form, and where each of its characters stood."""

    text: str
    starts: array[int] | None
    """Of the original characters, by position in `text`; None where both are the same text."""
    ends: array[int] | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where a stretch of the plain text, at least one character long, stood in the original."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]

    def position(self, original: int) -> int:
        """The first character of the plain text that stood at this place of the original or after it."""
        if self.starts is None:
            return original
        low, high = 0, len(self.starts)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.starts[middle] < original else (low, middle)
        return low


def plain(text: str) -> Plain:
    """The text in plain form; letters keep their case."""
    if text.isascii() or (unicodedata.is_normalized("NFKC", text) and _ODD.search(text) is None):
        return Plain(text, None, None)
    pieces: list[str] = []
    starts, ends = array("l"), array("l")
    position, n = 0, len(text)
    while position < n:
        end = position + 1
        while end < n and end - position < _LONGEST_CLUSTER and extends(text[end]):
            end += 1
        cluster = text[position:end]
        shown = cluster if cluster.isascii() else unicodedata.normalize("NFKC", _ODD.sub(_shown, cluster))
        pieces.append(shown)
        if shown == cluster:
            starts.extend(range(position, end))
            ends.extend(range(position + 1, end + 1))
        else:
            starts.extend([position] * len(shown))
            ends.extend([end] * len(shown))
        position = end
    return Plain("".join(pieces), starts, ends)


def extends(char: str) -> bool:
    """Whether a character belongs to the one before it, or is not to be seen: no text is cut in front of it."""
    return not char.isascii() and (
        unicodedata.category(char)[0] == "M" or "\u1160" <= char <= "\u11ff" or _ALL_HIDDEN.fullmatch(char) is not None
    )


def folded(text: str) -> str:
    """A text's letters and digits in one form for all cases, widths and separators: `Look-Up` and `look_up` are both `lookup`."""
    cased = unicodedata.normalize("NFKC", plain(text).text.casefold()).casefold()
    return "".join(char for char in cased if char.isalnum() or unicodedata.category(char)[0] == "M")


def _shown(match: re.Match[str]) -> str:
    return "\ufffd" if "\ud800" <= match[0] <= "\udfff" else ""
