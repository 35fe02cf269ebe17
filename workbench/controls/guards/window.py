"""Text on its way out: what may leave now, and what is held until it is clear that no rule is broken in it. Pure.

A piece leaves once it was checked together with what follows it. It ends where nothing that a rule looks for can begin before and end
after: in front of a word, outside of a row of numbers, and so far from the end of what is known that no match reaches it. So what leaves in
pieces is, put together, what the check of the whole text leaves; and each character is checked a bounded number of times.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Sequence

from workbench.controls.guards.matches import Match
from workbench.observability.reading import reading
from workbench.observability.suspicion import WORD, suspicion
from workbench.spec.folding import Plain, extends

TAIL = 352
"""Characters without which nothing is decided: the longest pattern has 256, the longest address with a password in it 326."""
_TAIL_LETTERS = 260
"""Letters and digits among them: a phrase has 256, and is found whatever signs stand between them."""
CONTEXT = 64
"""Characters before a piece that may say what a number in it is."""
_MARK = 800
"""Characters, about 200 tokens, after which is checked what can be checked."""
_SENTENCE = 240
"""Characters after which the end of a sentence is as good a mark."""
_ENDS = re.compile(r"[.!?…。！？\n]")
_LETTERS = (string.ascii_letters + string.digits).encode()
_OF_NUMBERS = frozenset("0123456789+()./x -")
_BEGINS_NUMBER = frozenset("0123456789+(")
_OF_ESCAPES = _OF_NUMBERS | frozenset("\\uABCDEFabcdef")
_ESCAPED_LENGTH = 6
"""Characters of one escaped as `\\u0040`."""

Scan = Callable[[str, int], list[Match]]
"""What matches in a text from a place on; what stands before is context."""


class Window:
    """The part of a text that has not left.

    Args:
        scan: finds what rules look for.
    """

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._context = ""
        self._held = ""
        self._new: list[str] = []
        self._n_new = 0
        self._mark = TAIL + CONTEXT
        self._ends_sentence = False

    def add(self, text: str) -> tuple[str, list[Match]]:
        """What is decided now: text, and what was found in it, with places in this text."""
        self._new.append(text)
        self._n_new += len(text)
        if self._n_new < self._mark:
            return "", []
        self._ends_sentence = self._ends_sentence or _ENDS.search(text) is not None
        if not self._ends_sentence and self._n_new < max(_MARK, self._mark):
            return "", []
        return self._decided(is_last=False)

    def end(self) -> tuple[str, list[Match]]:
        """The rest, as of `add`."""
        return self._decided(is_last=True)

    def _decided(self, *, is_last: bool) -> tuple[str, list[Match]]:
        self._held += "".join(self._new)
        self._new, self._n_new, self._ends_sentence = [], 0, False
        offset = len(self._context)
        known = self._context + self._held
        matches = [Match(start - offset, end - offset, rule) for start, end, rule in self._scan(known, offset)]
        cut = len(self._held) if is_last else cut_of(self._held, matches)
        left, self._held = self._held[:cut], self._held[cut:]
        self._context = (self._context + left)[-CONTEXT:]
        self._mark = max(_SENTENCE, len(self._held) // 2)  # what is held for long is not checked again and again
        return left, [match for match in matches if match.start < cut]


def cut_of(text: str, matches: Sequence[Match]) -> int:
    """How much of a text is decided, whatever follows: nothing that matches, or may yet, begins before and ends after this place."""
    read = reading(text)
    spans = _merged([(read.position(match.start), read.position(match.end)) for match in matches])
    has_escapes = "\\u" in read.text
    cut = _before_tail(read.text, times=_ESCAPED_LENGTH if has_escapes else 1)
    of_numbers = _OF_ESCAPES if has_escapes else _OF_NUMBERS
    while cut > 0:
        place = cut
        while spans and spans[-1][0] >= cut:
            spans.pop()
        if spans and spans[-1][1] > cut:
            cut = spans[-1][0]
        cut = _before_numbers(read.text, _before_word(read.text, _before_names(read.text, cut)), of_numbers)
        cut = _before_sign(read, cut)
        if cut == place:
            break
    return _standing(read, text, cut)


def settled(text: str) -> str:
    """What of a text that broke off stands whatever would have followed: not the word or the row of numbers at its end."""
    read = reading(text)
    end = len(read.text)
    cut = _before_sign(read, max(_before_numbers(read.text, _before_word(read.text, end), _OF_NUMBERS), end - TAIL, 0))
    return text[: _standing(read, text, cut)]


def _standing(read: Plain, text: str, cut: int) -> int:
    """Where a place of the text as it is read stands in the text itself."""
    if cut <= 0:
        return 0
    if cut == len(read.text):
        return len(text)
    return cut if read.starts is None else read.starts[cut]


def _before_sign(read: Plain, place: int) -> int:
    """The place, or the beginning of the sign that is read as several characters and in which it lies."""
    if read.starts is not None:
        while 0 < place < len(read.starts) and read.starts[place] == read.starts[place - 1]:
            place -= 1
    return place


def _before_tail(text: str, *, times: int) -> int:
    """The last place after which enough follows; 0 where that is nowhere."""
    tail = text[-TAIL * times :]
    if tail.isascii() and len(tail) - len(tail.encode().translate(None, _LETTERS)) >= _TAIL_LETTERS * times:  # the usual case, quickly
        return len(text) - len(tail)
    place, n, n_letters = len(text), TAIL * times, _TAIL_LETTERS * times
    while place > 0 and (n > 0 or n_letters > 0):
        place -= 1
        if not extends(text[place]):
            n -= 1
            n_letters -= text[place].isalnum()
    return place


def _before_names(text: str, place: int) -> int:
    """The place, or one so far before it that no word such as `password` stands in front and makes a secret of what follows."""
    while place > 0:
        before = text[max(0, place - CONTEXT) : place] + ":"
        if not suspicion(before.casefold().encode("utf-8", "surrogatepass")) & WORD:
            return place
        place -= CONTEXT
    return 0


def _before_word(text: str, place: int) -> int:
    """The place, or the beginning of the word that it lies in."""
    while place > 0 and not (_parts(text[place - 1]) and (place == len(text) or not extends(text[place]))):
        place -= 1
    return place


def _parts(char: str) -> bool:
    """Whether a character stands between words: white space, or a sign that is not on the keyboard of an address or key."""
    return char.isspace() or (not char.isascii() and unicodedata.category(char)[0] in "PSZ")


def _before_numbers(text: str, place: int, of_numbers: frozenset[str]) -> int:
    """The place, or the beginning of the row of numbers that it may lie in."""
    start = first = place
    if place < len(text) and text[place] not in of_numbers:
        return place
    while start > 0 and text[start - 1] in of_numbers:
        start -= 1
        if text[start] in _BEGINS_NUMBER or of_numbers is _OF_ESCAPES:
            first = start
    return first


def _merged(stretches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The stretches that these cover, from left to right."""
    spans: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if spans and start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    return spans
