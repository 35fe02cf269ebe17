"""Topics that a text may not touch: their phrases, word by word in whatever spelling, and their patterns. Pure.

A phrase is found as whole words, whatever stands between its letters: `k.i.l.l`, `KILL` and `kill` are one. Scripts that put no space
between words have no whole words: there each character is one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from workbench.controls.guards.matches import Match, Rule
from workbench.controls.guards.model import Action
from workbench.spec.folding import Plain, plain
from workbench.spec.patterns import compiled

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0dff\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W_]|[{_MARKS}])+")
_ASCII_WORDS = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()})


class Phrases:
    """Phrases to find.

    Args:
        phrases: each with what is told when it is found.
    """

    def __init__(self, phrases: Iterable[tuple[str, Rule]]) -> None:
        self._rules: dict[str, list[Rule]] = {}
        for phrase, rule in phrases:
            self._rules.setdefault("".join(_folded(word[0]) for word in _WORD.finditer(plain(phrase).text)), []).append(rule)
        self._starts = frozenset(phrase[:n] for phrase in self._rules for n in range(1, len(phrase) + 1))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def find(self, text: Plain, start: int = 0) -> Iterator[Match]:
        """The phrases in the text, with the places of the original that begin at `start` or after it."""
        if text.text.isascii() and self._starts.isdisjoint(text.text.lower().translate(_ASCII_WORDS).split()):
            return
        words = [(word.start(), word.end(), _folded(word[0])) for word in _WORD.finditer(text.text, text.position(start))]
        for i, (begin, _, said) in enumerate(words):
            j, so_far = i, said
            while so_far in self._starts:
                for rule in self._rules.get(so_far, ()):
                    yield Match(*text.span(begin, words[j][1]), rule)
                j += 1
                if j == len(words):
                    break
                so_far += words[j][2]


class Topics:
    """Topics to find.

    Args:
        phrases: each with its rule.
        patterns: each with its rule.
        guards: ids of the topics.
        on_error: as of every matcher.
        timeout_s: as of every matcher.
    """

    def __init__(
        self,
        phrases: Sequence[tuple[str, Rule]],
        patterns: Sequence[tuple[str, Rule]],
        *,
        guards: tuple[str, ...],
        on_error: Action,
        timeout_s: float,
    ) -> None:
        self.guards = guards
        self.on_error = on_error
        self.timeout_s = timeout_s
        self._phrases = Phrases(phrases)
        self._patterns: Mapping[Rule, list[Any]] = _by_rule(patterns)
        self._any = _one_of([pattern for pattern, _ in patterns])

    def find(self, text: str, start: int) -> list[Match]:
        read = plain(text)
        matches = list(self._phrases.find(read, start)) if self._phrases else []
        if self._patterns and (self._any is None or self._any.search(read.text) is not None):
            position = read.position(start)
            matches += [
                Match(*read.span(*found.span()), rule)
                for rule, patterns in self._patterns.items()
                for pattern in patterns
                for found in pattern.finditer(read.text, position)
                if found.end() > found.start()
            ]
        return sorted(matches, key=lambda match: match[:2]) if len(matches) > 1 else matches


def _folded(word: str) -> str:
    folded = word.casefold()
    return folded if folded.isascii() else unicodedata.normalize("NFKC", folded)


def _by_rule(patterns: Iterable[tuple[str, Rule]]) -> Mapping[Rule, list[Any]]:
    found: dict[Rule, list[Any]] = {}
    for pattern, rule in patterns:
        found.setdefault(rule, []).append(compiled(pattern))
    return found


def _one_of(patterns: Sequence[str]) -> Any | None:
    """All patterns as one, for a first look; None where there is none or they are too large together."""
    try:
        return compiled("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None
    except ValueError:
        return None
