"""Personal data and secrets in a text, plain or encoded, as redaction finds them before anything is stored. Pure."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from workbench.controls.guards.matches import Match, Rule
from workbench.controls.guards.model import Action
from workbench.observability.credentials import secrets
from workbench.observability.detectors import emails, ibans, ipv6, numbers
from workbench.observability.encodings import encoded
from workbench.observability.reading import reading
from workbench.observability.suspicion import AT, COLONS, DOTTED, IBAN, LONG, NUMBER, PERCENT, WORD, Found, suspicion
from workbench.spec.folding import Plain

SECRET = "secret"  # noqa: S105 - a kind of finding
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_PERCENT_WORD = re.compile(r"[!-~\w]++")
_PEM = "-----BEGIN "
_ACCOUNT = re.compile(r"[A-Za-z]{2}[0-9]{2}")
_COLONS_OF_SHORTEST = 6
"""Colons of the IPv6 address that ends like an IPv4 one."""
_SECRET_FLAGS = LONG | WORD | AT | PERCENT


class Detecting:
    """Finds what the detectors know.

    Args:
        rules: kind, such as `email` or `secret`, to what is ordered for it; other kinds are not looked for.
        guards: ids of the guards that it stands for.
        on_error: as of every matcher.
        timeout_s: as of every matcher.
    """

    def __init__(self, rules: Mapping[str, Rule], *, guards: tuple[str, ...], on_error: Action, timeout_s: float) -> None:
        self.guards = guards
        self.on_error = on_error
        self.timeout_s = timeout_s
        self._rules = {kind.upper(): rule for kind, rule in rules.items()}
        self._is_secrets_only = rules.keys() == {SECRET}

    def find(self, text: str, start: int) -> list[Match]:
        read = reading(text)
        flags = self._flags_of(read.text)
        if not flags and "\\u" not in read.text:
            return []
        found = self._found(read.text, flags, read.position(start))
        return sorted((Match(*read.span(begin, end), rule) for begin, end, rule in found), key=lambda match: match[:2])

    def _flags_of(self, text: str) -> int:
        """What may occur in the text: the same for a stretch of it that holds the whole of something as for all of it."""
        flags = suspicion(text.encode("utf-8", "surrogatepass"))
        if _PEM in text:
            flags |= LONG
        if self._is_secrets_only:
            return flags & _SECRET_FLAGS
        if text.count(":") >= _COLONS_OF_SHORTEST:
            flags |= COLONS
        return flags | IBAN if _ACCOUNT.search(text) else flags

    def _found(self, text: str, flags: int, start: int) -> Iterator[Match]:
        yield from self._plain(text, flags, start)
        if flags & (LONG | PERCENT):
            for begin, end, decoded in _decoded_runs(text[start:], flags):
                yield from (Match(start + begin, start + end, rule) for rule in self._rules_in(decoded))
        if "\\u" in text:
            yield from self._escaped(text, start)

    def _plain(self, text: str, flags: int, start: int = 0) -> Iterator[Match]:
        for found in _everything(text, flags, start, wants_secrets="SECRET" in self._rules):
            rule = self._rules.get(found.kind)
            if rule is not None:
                yield Match(found.start, found.end, rule)

    def _rules_in(self, decoded: str) -> dict[Rule, None]:
        read = reading(decoded).text
        flags = self._flags_of(read)
        return dict.fromkeys(match.rule for match in self._plain(read, flags)) if flags else {}

    def _escaped(self, text: str, start: int) -> Iterator[Match]:
        r"""What is written with JSON's `\u0040` in place of characters."""
        told = _unescaped(text)
        read = told.then(reading(told.text))
        for match in self._plain(read.text, self._flags_of(read.text), read.position(start)):
            begin, end = read.span(match.start, match.end)
            if end - begin != match.end - match.start:
                yield Match(begin, end, match.rule)


def _unescaped(text: str) -> Plain:
    pieces: list[str] = []
    starts, ends = array("l"), array("l")
    done = 0
    for escape in _ESCAPE.finditer(text):
        pieces += [text[done : escape.start()], chr(int(escape[1], 16))]
        starts.extend(range(done, escape.start() + 1))
        ends.extend(range(done + 1, escape.start() + 1))
        ends.append(escape.end())
        done = escape.end()
    starts.extend(range(done, len(text)))
    ends.extend(range(done + 1, len(text) + 1))
    return Plain("".join([*pieces, text[done:]]), starts, ends)


def _everything(text: str, flags: int, start: int, *, wants_secrets: bool) -> Iterator[Found]:
    """What each detector finds from a place on; only what a number means is said by the words before it.

    Stretches of different kinds may overlap, but no part of an account number is a number of its own.
    """
    rest = text[start:]
    found: list[Found] = []
    if wants_secrets and flags & (LONG | WORD | AT):
        found += secrets(rest, flags)
    if flags & AT:
        found += emails(rest)
    if flags & COLONS:
        found += ipv6(rest)
    accounts = ibans(rest) if flags & IBAN else []
    for item in (*found, *accounts):
        yield item._replace(start=item.start + start, end=item.end + start) if start else item
    if flags & (NUMBER | DOTTED):
        for number in numbers(text):
            if number.start >= start and not _is_within(number.start - start, number.end - start, accounts):
                yield number


def _is_within(start: int, end: int, others: Sequence[Found]) -> bool:
    """Whether a stretch is a part of one of the others, which stand in the order of the text."""
    at = bisect_right(others, start, key=attrgetter("start")) - 1
    return at >= 0 and end <= others[at].end


def _decoded_runs(text: str, flags: int) -> Iterator[tuple[int, int, str]]:
    yield from encoded(text, flags & LONG)
    if flags & PERCENT:
        for word in _PERCENT_WORD.finditer(text):
            if "%" in word[0]:
                yield from ((word.start(), word.end(), run.text) for run in encoded(word[0], PERCENT))
