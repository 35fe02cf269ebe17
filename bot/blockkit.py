"""Is it a message that Slack takes? The rules of Block Kit for what the bot draws, as JSON pointers to what breaks them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MOST_BLOCKS = 50
LONGEST_SECTION = 3000
LONGEST_HEADER = 150
_LONGEST_FIELD = 2000
_MOST_FIELDS = 10
_MOST_CONTEXT = 10
_MOST_ACTIONS = 25
_LONGEST_BUTTON = 75
_LONGEST_VALUE = 2000
_LONGEST_CONFIRM = {"title": 100, "text": 300, "confirm": 30, "deny": 30}

Block = Mapping[str, Any]


def faults(blocks: Sequence[Block]) -> list[str]:
    """What is wrong, as `/2/text: longer than 3,000 characters`; empty for a message that Slack takes.

    Source: docs.slack.dev, Block Kit reference; only the blocks that are listed in `_RULES`.
    """
    found = [f"/: {len(blocks)} blocks; {MOST_BLOCKS} are allowed"] if len(blocks) > MOST_BLOCKS else []
    for place, block in enumerate(blocks):
        rule = _RULES.get(block.get("type", ""))
        found += [f"/{place}/type: {block.get('type')!r} is no block that this bot draws"] if rule is None else rule(block, f"/{place}")
    return found


def _header(block: Block, at: str) -> Iterator[str]:
    yield from _text(block.get("text"), f"{at}/text", longest=LONGEST_HEADER, types=("plain_text",))


def _section(block: Block, at: str) -> Iterator[str]:
    if "text" not in block and not block.get("fields"):
        yield f"{at}: neither text nor fields"
    if "text" in block:
        yield from _text(block["text"], f"{at}/text", longest=LONGEST_SECTION)
    fields = block.get("fields", ())
    if len(fields) > _MOST_FIELDS:
        yield f"{at}/fields: {len(fields)} fields; {_MOST_FIELDS} are allowed"
    for place, field in enumerate(fields):
        yield from _text(field, f"{at}/fields/{place}", longest=_LONGEST_FIELD)


def _context(block: Block, at: str) -> Iterator[str]:
    elements = block.get("elements", ())
    if not 1 <= len(elements) <= _MOST_CONTEXT:
        yield f"{at}/elements: {len(elements)} elements; 1 to {_MOST_CONTEXT} are allowed"
    for place, element in enumerate(elements):
        yield from _text(element, f"{at}/elements/{place}", longest=LONGEST_SECTION)


def _actions(block: Block, at: str) -> Iterator[str]:
    elements = block.get("elements", ())
    if not 1 <= len(elements) <= _MOST_ACTIONS:
        yield f"{at}/elements: {len(elements)} elements; 1 to {_MOST_ACTIONS} are allowed"
    twice = [name for name, n in Counter(element.get("action_id") for element in elements).items() if n > 1]
    if twice:
        yield f"{at}/elements: action_id {twice[0]!r} stands there twice"
    for place, element in enumerate(elements):
        yield from _button(element, f"{at}/elements/{place}")


def _button(element: Block, at: str) -> Iterator[str]:
    if element.get("type") != "button":
        yield f"{at}/type: {element.get('type')!r} is no button"
    yield from _text(element.get("text"), f"{at}/text", longest=_LONGEST_BUTTON, types=("plain_text",))
    if not element.get("action_id"):
        yield f"{at}/action_id: missing"
    if len(element.get("value", "")) > _LONGEST_VALUE:
        yield f"{at}/value: longer than {_LONGEST_VALUE:,} characters"
    if element.get("style", "primary") not in ("primary", "danger"):
        yield f"{at}/style: {element['style']!r} is neither primary nor danger"
    for name, longest in _LONGEST_CONFIRM.items() if "confirm" in element else ():
        yield from _text(element["confirm"].get(name), f"{at}/confirm/{name}", longest=longest)


def _text(text: Any, at: str, *, longest: int, types: Sequence[str] = ("mrkdwn", "plain_text")) -> Iterator[str]:
    if not isinstance(text, Mapping) or text.get("type") not in types:
        yield f"{at}: not a text of type {' or '.join(types)}"
    elif not text.get("text", "").strip():
        yield f"{at}: empty"
    elif len(text["text"]) > longest:
        yield f"{at}: longer than {longest:,} characters"


def _divider(_block: Block, _at: str) -> Iterator[str]:
    return iter(())


_RULES: Mapping[str, Callable[[Block, str], Iterator[str]]] = {
    "header": _header,
    "section": _section,
    "context": _context,
    "actions": _actions,
    "divider": _divider,
}
