"""Regular expressions that people write down: RE2's syntax, so that no text takes more than linear time, and matches of limited length."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

from workbench.spec.document import shorten

LONGEST_PATTERN = 1000
"""Characters of a pattern."""
LONGEST_MATCH = 256
"""Characters that a match may have, so that a stream is held back by no more than that."""
_MEMORY = 4 << 20
"""Bytes that RE2 may take for one pattern; more is refused when it is compiled, or slower when it runs."""
_TOKEN = re.compile(
    r"""
      \\Q(?P<quoted>.*?)(?:\\E|\Z)
    | (?P<nothing>\\[AzbB] | [\^$] | \(\?[imsU\-]+\))
    | (?P<open>\((?:\?(?:P?<\w+>|[imsU\-]*:))?)
    | (?P<close>\))
    | (?P<bar>\|)
    | (?:(?P<sign>[*+?]) | \{(?P<low>[0-9]+)(?P<comma>,(?P<high>[0-9]*))?\})\??
    | (?P<one>\\(?:[pP](?:\{[^}]*\}|.) | x(?:\{[^}]*\}|..) | [0-7]{1,3} | .)
            | \[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]
            | .)
    """,
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=512)
def compiled(pattern: str) -> Any:
    """The pattern, ready to search; letters match in either case unless it says `(?-i)`.

    Raises:
        ValueError: RE2 refuses it.
    """
    import re2  # noqa: PLC0415 - a native library, loaded where a pattern is used

    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = _MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(_words(error)) from error


def fault_of(pattern: str) -> str | None:
    """What is wrong with a pattern, in one sentence; None where it can be used."""
    if len(pattern) > LONGEST_PATTERN:
        return f"a pattern has at most {LONGEST_PATTERN} characters, this one {len(pattern)}; make several of it"
    try:
        found = compiled(pattern)
    except (ValueError, UnicodeEncodeError) as error:
        return f"RE2 does not accept {shorten(pattern)!r}: {error}"
    if r"\C" in pattern:
        return r"\C matches a part of a character; write . for any character"
    if found.search("") is not None:
        return f"{shorten(pattern)!r} matches the empty text, so it would be found everywhere"
    most = longest_match(pattern)
    if most > LONGEST_MATCH:
        length = "without an end" if most == math.inf else f"of {most:.0f} characters"
        return f"{shorten(pattern)!r} may match text {length}, at most {LONGEST_MATCH} are possible; write {{0,40}} in place of * and +"
    return None


def longest_match(pattern: str) -> float:
    """Characters of the longest text that a pattern can match; infinite where there is no limit. RE2 has to accept the pattern."""
    groups: list[list[float]] = [[0.0, 0.0, 0.0]]  # the longest branch so far, this branch without its last piece, its last piece
    for token in _TOKEN.finditer(pattern):
        best, before, last = groups[-1]
        if token["open"]:
            groups[-1] = [best, before + last, 0.0]
            groups.append([0.0, 0.0, 0.0])
        elif token["close"]:
            groups.pop()
            groups[-1][2] = max(best, before + last)
        elif token["bar"]:
            groups[-1] = [max(best, before + last), 0.0, 0.0]
        elif token["sign"] or token["low"]:
            groups[-1][2] = _times(last, token)
        else:
            quoted = token["quoted"] or ""
            length = float(len(quoted)) if quoted else 0.0 if token["nothing"] or token["one"] is None else 1.0
            groups[-1] = [best, before + last + max(0.0, length - 1), min(length, 1.0)]
    best, before, last = groups[0]
    return max(best, before + last)


def _times(last: float, token: re.Match[str]) -> float:
    """The length of a piece that is repeated."""
    if token["sign"]:
        most = 1.0 if token["sign"] == "?" else math.inf
    else:
        most = float(token["low"]) if token["comma"] is None else float(token["high"] or math.inf)
    return last * most if last and most else 0.0


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
