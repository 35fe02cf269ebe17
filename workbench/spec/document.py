"""One YAML file as plain values, with the line of each: YAML 1.2's core schema, so that what looks like text is text.

Only `true` and `false` are booleans, `09:00` is text and not the number 540, `no` is not false, and a day is not turned into
a timestamp before the spec asks for one. Numbers are finite and within the range that JSON keeps exactly.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

Path = tuple[str | int, ...]
"""Keys and indexes from the top of a document to one value."""

MAX_VALUES = 50_000
"""Values in one document, aliases written out: an alias bomb is refused long before it fills the memory."""
MAX_DEPTH = 40
MAX_INTEGER = 2**53 - 1
"""Whole numbers beyond this are not kept exactly by JSON (RFC 8785)."""

_PREFIX = "tag:yaml.org,2002:"
_PLAIN = "plain"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong, as the reader is told: `line` counts from 1, None where there is no line to show."""

    line: int | None
    column: int | None = None
    path: Path = ()
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value stands. `text` is a scalar as written, None for lists and mappings; `key_line` is the line of its key."""

    line: int
    key_line: int
    text: str | None
    is_plain: bool


@dataclass(slots=True, kw_only=True)
class Document:
    """A file's values, where each of them stands, and the faults seen so far."""

    value: Any = None
    places: dict[Path, Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line_of(self, path: Path, *, is_key: bool = False) -> int:
        """Line of the value (or of its key); that of the nearest parent which stands in the file otherwise."""
        if path not in self.places:
            return self.line_of(path[:-1], is_key=True) if path else 1
        place = self.places[path]
        return place.key_line if is_key or place.text is None else place.line


class _Composer(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's reader up to the node graph: nothing is ever constructed from a tag."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0

    def resolve(self, kind: type[yaml.Node], value: str, implicit: Any) -> str:  # noqa: ARG002  # PyYAML's signature
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _PREFIX + "str"
        return _PREFIX + ("seq" if kind is yaml.SequenceNode else "map")

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep", self.get_mark())
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def read_document(text: str) -> Document:
    """The values of one YAML text; whatever is wrong with its form stands in `faults`."""
    document = Document()
    try:
        root = _Composer(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        document.faults.append(Fault(line=line, column=column, text=_in_plain_words(error)))
        return document
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.faults.append(
            Fault(line=line, text=f"holds the control character U+{int(error.character):04X}, which YAML does not allow")
        )
        return document
    if root is not None:
        document.value = _Reading(document).value_of(root, path=(), key_line=root.start_mark.line + 1, above=())
    return document


class _Reading:
    """The walk from nodes to values; it notes faults and goes on, so that one run shows all of them."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._n = 0

    def value_of(self, node: yaml.Node, *, path: Path, key_line: int, above: tuple[yaml.Node, ...]) -> Any:
        self._n += 1
        is_scalar = isinstance(node, yaml.ScalarNode)
        self._document.places[path] = Place(
            line=node.start_mark.line + 1,
            key_line=key_line,
            text=node.value if is_scalar else None,
            is_plain=is_scalar and node.tag == _PLAIN,
        )
        if self._n > MAX_VALUES:
            if self._n == MAX_VALUES + 1:
                self._fault(node, (), f"holds more than {MAX_VALUES:,} values once its aliases (*name) are written out")
            return None
        if any(node is parent for parent in above):
            return self._fault(node, path, "an alias (*name) that contains itself")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in {_PREFIX + "seq", _PREFIX + "map"}:
            return self._fault(node, path, f"the tag {_short_tag(node.tag)} is not allowed; leave it out")
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value_of(item, path=(*path, index), key_line=item.start_mark.line + 1, above=(*above, node))
                for index, item in enumerate(node.value)
                if self._n <= MAX_VALUES
            ]
        return self._mapping(node, path, above)

    def _mapping(self, node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(key_node, path, "a list or mapping stands where a key is needed; put text with { or [ in quotes")
            elif key_node.value == "<<" and key_node.tag == _PLAIN:
                self._fault(key_node, path, "merge keys (<<) are not supported; write the keys out")
            elif key_node.value in values:
                self._fault(
                    key_node,
                    path,
                    f'the key "{shorten(key_node.value)}" stands here for the second time, first in line {lines[key_node.value]}',
                )
            elif self._n <= MAX_VALUES:
                lines[key_node.value] = line
                values[key_node.value] = self.value_of(value_node, path=(*path, key_node.value), key_line=line, above=(*above, node))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if node.tag == _PREFIX + "str":
            return node.value
        if node.tag != _PLAIN:
            return self._fault(node, path, f"the tag {_short_tag(node.tag)} is not allowed; leave it out")
        value = _plain_value(node.value)
        if isinstance(value, float) and not math.isfinite(value):
            return self._fault(
                node, path, f"{shorten(node.value)} is not a number that can be kept exactly; put it in quotes if it is text"
            )
        return value

    def _fault(self, node: yaml.Node, path: Path, text: str) -> None:
        mark = node.start_mark
        self._document.faults.append(Fault(line=mark.line + 1, column=mark.column + 1, path=path, text=text))


def _plain_value(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar stands for; a number that is not finite or far too long is NaN."""
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text[0] in "tT"
    if _NOT_FINITE.fullmatch(text):
        return math.nan
    if _INTEGER.fullmatch(text):
        number = math.inf if len(text) > _MAX_DIGITS else int(text, 0 if text[:2] in {"0o", "0x"} else 10)
        return number if abs(number) <= MAX_INTEGER else math.nan
    return float(text) if _FLOAT.fullmatch(text) else text


def shorten(text: str, width: int = 60) -> str:
    """The text in one line of at most `width` characters, control characters escaped."""
    flat = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text[: width + 1])
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _short_tag(tag: str) -> str:
    return shorten(tag.replace(_PREFIX, "!!"))


_WORDS: tuple[tuple[str, str], ...] = (
    ("'\\t'", "a tab where YAML wants spaces; indent with spaces"),
    ("mapping values are not allowed", 'a ": " in unquoted text, or a line that is indented too far; put text that holds ": " in quotes'),
    ("could not find expected ':'", "a key without its ':' (or text that goes on in the next line without being indented)"),
    ("expected <block end>", "this line's indentation does not fit the lines above"),
    ("found undefined alias", "the * begins an alias that nothing defines; put text that begins with * in quotes"),
    ("found duplicate anchor", "the & begins an anchor that is defined twice; put text that begins with & in quotes"),
    ("but found another document", "a second document begins (---); a file holds one"),
    ("while scanning a quoted scalar", "a quote that is opened here is never closed"),
    ("that cannot start any token", "text may not begin with this character; put it in quotes"),
    ("<stream end>", "a list or mapping in brackets that is never closed"),
    ("expected ',' or", "a list or mapping in brackets that is never closed, or lacks a comma"),
)


def _in_plain_words(error: yaml.MarkedYAMLError) -> str:
    said = "; ".join(part for part in (error.context, error.problem) if part)
    return next((f"not valid YAML: {words}" for sign, words in _WORDS if sign in said), f"not valid YAML: {shorten(said, 160)}")
