"""Texts as they are compared: one form for all spellings of the same letters, and the way back to where they stood. Pure.

Compatibility forms become plain ones (NFKC: full-width letters, ligatures), what nobody sees is left out (zero-width characters,
soft hyphens, selectors). Letters of other scripts that look alike stay different letters.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from dataclasses import dataclass
from functools import lru_cache

_HIDDEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000e0000-\U000e0fff"
)
_SURROGATES = "\ud800-\udfff"
_ODD = re.compile(f"[{_HIDDEN}{_SURROGATES}]")
_ALL_HIDDEN = re.compile(f"[{_HIDDEN}]+")
_ASCII = re.compile(r"[\x00-\x7f]+")
_MOST_CACHED = 8192
_LONGEST_CLUSTER = 32
"""A letter with more marks than that is taken as several, so that putting marks in order stays cheap."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A text in plain form, and where each of its characters stood."""

    text: str
    starts: array[int] | None
    """Of the original characters, by position in `text`; None where each stands where it stood."""
    ends: array[int] | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where a stretch of the plain text, at least one character long, stood in the original."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]

    def then(self, second: Plain) -> Plain:
        """The second form of this plain text, with the places in the original."""
        if self.starts is None or self.ends is None:
            return second
        if second.starts is None or second.ends is None:
            return Plain(second.text, self.starts, self.ends)
        starts = array("l", [self.starts[start] for start in second.starts])
        return Plain(second.text, starts, array("l", [self.ends[end - 1] for end in second.ends]))

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
    strange = [char for char in set(text) if not char.isascii()]
    if any(map(extends, strange)):
        return _by_clusters(text)
    shown = {ord(char): _cluster_shown(char) for char in strange}
    if all(len(char) == 1 for char in shown.values()):
        return Plain(text.translate(shown), None, None)
    sizes = [len(shown.get(ord(char), char)) for char in text]
    starts = array("l", [place for place, size in enumerate(sizes) for _ in range(size)])
    return Plain(text.translate(shown), starts, array("l", [start + 1 for start in starts]))


def _by_clusters(text: str) -> Plain:
    """The plain form of a text in which characters belong to the ones before them."""
    pieces: list[str] = []
    starts, ends = array("l"), array("l")
    position, n = 0, len(text)
    while position < n:
        end = _end_of_ascii(text, position)
        if end > position:
            pieces.append(text[position:end])
            starts.extend(range(position, end))
            ends.extend(range(position + 1, end + 1))
            position = end
            continue
        end = position + 1
        while end < n and end - position < _LONGEST_CLUSTER and extends(text[end]):
            end += 1
        cluster = text[position:end]
        shown = _cluster_shown(cluster)
        pieces.append(shown)
        if shown == cluster:
            starts.extend(range(position, end))
            ends.extend(range(position + 1, end + 1))
        else:
            starts.extend([position] * len(shown))
            ends.extend([end] * len(shown))
        position = end
    return Plain("".join(pieces), starts, ends)


def _end_of_ascii(text: str, position: int) -> int:
    """Where the stretch of ASCII from here ends, without a last letter that marks follow; the place itself where there is none."""
    run = _ASCII.match(text, position)
    if run is None:
        return position
    end = run.end()
    return end - 1 if end < len(text) and extends(text[end]) else end


@lru_cache(maxsize=_MOST_CACHED)
def _cluster_shown(cluster: str) -> str:
    """A letter with its marks in plain form."""
    return cluster if cluster.isascii() else unicodedata.normalize("NFKC", _ODD.sub(_shown, cluster))


@lru_cache(maxsize=_MOST_CACHED)
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
