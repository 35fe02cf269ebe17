"""Pages as Slack cards: Block Kit as plain JSON, escaped, and cut to what Slack takes. No I/O, and nothing of Slack's libraries.

A card says what its page says in the terminal and in a notebook. What there is no room for is counted, never dropped in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.readiness.model import GateResult, Review, Verdict
from workbench.views.numbers import counted
from workbench.views.page import Page, Section
from workbench.views.review import BANNERS, CHIPS, change_section, footer_of, title_of
from workbench.views.tables import shown

_LONGEST_TEXT = 3000
"""Characters that Slack takes in one text."""
_LONGEST_HEADER = 150
_LONGEST_LINE = 500
_LONGEST_CELL = 40
_LONGEST_CONTEXT = 1000
_ROOM_FOR_REST = 40
_FENCE = "```"

Blocks = tuple[dict[str, Any], ...]
"""Slack's Block Kit, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A button under a card."""

    action: str
    """The act that it stands for."""
    label: str
    value: str
    """What comes back with the click."""
    is_primary: bool = False
    asks: str = ""
    """What is asked before the click counts; empty asks nothing."""


def page_card(page: Page, buttons: Sequence[Button] = ()) -> Blocks:
    """The page as blocks, with buttons under it."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(title, _LONGEST_HEADER)}} for title in _titles(page)
    ]
    blocks += [_section(text) for text in (_lines(page.lead), *map(_section_text, page.sections)) if text.strip()]
    blocks += [{"type": "context", "elements": [_text(text)]} for text in (_lines(page.footer, longest=_LONGEST_CONTEXT),) if text.strip()]
    if buttons:
        blocks.append({"type": "actions", "elements": [_button(button) for button in buttons]})
    return tuple(blocks)


def headline(page: Page) -> str:
    """What stands for the card in a notification: banner, title and finding."""
    return _cut(": ".join([*_titles(page), *page.lead[:1]]), _LONGEST_LINE)


def literal_card(text: str) -> Blocks:
    """Text in fixed width, as a terminal shows it."""
    return (_section(_literal(text)),)


def review_page(review: Review) -> Page:
    """A readiness review in short: the verdict, the gates that do not pass, and what would change it."""
    open_gates = [gate for gate in review.gates if gate.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE)]
    return Page(
        title=title_of(review),
        banner=BANNERS[review.verdict],
        lead=(review.sentence, *((review.comparison,) if review.comparison else ())),
        sections=(Section(title="Gates", lines=(*map(_gate_line, open_gates), _gate_counts(review.gates))), change_section(review)),
        footer=footer_of(review)[:1],
    )


def escaped(text: str) -> str:
    """The text as Slack shows it literally: it mentions nobody, links nowhere, and nothing in it steers the screen."""
    return shown(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _titles(page: Page) -> tuple[str, ...]:
    title = "   ".join(part for part in (str(page.banner) if page.banner else "", shown(page.title, keep="")) if part)
    return (title,) if title else ()


def _section_text(section: Section) -> str:
    """Title, lines as bullets, and what is aligned in fixed width, in one text of the size that Slack takes."""
    head = [f"*{escaped(_cut(section.title, _LONGEST_HEADER))}*"] if section.title else []
    bullets = [f"• {line}" for line in section.lines] + ([section.note] if section.note else [])
    fixed = section.literal or _table(section)
    room = _LONGEST_TEXT - sum(map(len, head)) - 2
    text = _lines(bullets, longest=room // 2 if fixed else room)
    return "\n".join([*head, *([text] if text else []), *([_literal(fixed, longest=room - len(text))] if fixed else [])])


def _table(section: Section) -> str:
    """The rows under their headings, aligned; long cells are cut, because a line that is folded is aligned with nothing."""
    if not section.rows:
        return ""
    cells = (tuple(_cut(shown(str(cell), keep=""), _LONGEST_CELL) for cell in row) for row in section.rows)
    rows = [tuple(column.title for column in section.columns), *cells]
    widths = [max(len(row[place]) for row in rows) for place in range(len(section.columns))]
    aligned = (
        (
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, width, column in zip(row, widths, section.columns, strict=True)
        )
        for row in rows
    )
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def _literal(text: str, *, longest: int = _LONGEST_TEXT) -> str:
    """The text between fences, which it cannot close itself."""
    inside = _lines(text.replace(_FENCE, "'''").splitlines(), longest=longest - 2 * len(_FENCE) - 2)
    return f"{_FENCE}\n{inside}\n{_FENCE}"


def _lines(lines: Sequence[str], *, longest: int = _LONGEST_TEXT) -> str:
    """The lines escaped, as many as there is room for, and how many more there are."""
    ready = [escaped(_cut(line, _LONGEST_LINE)) for line in lines]
    if sum(len(line) + 1 for line in ready) <= longest:
        return "\n".join(ready)
    kept = list(_fitting(ready, longest - _ROOM_FOR_REST))
    return "\n".join([*kept, f"… and {counted(len(ready) - len(kept), 'more line')}"])


def _fitting(lines: Sequence[str], longest: int) -> Iterator[str]:
    used = 0
    for line in lines:
        used += len(line) + 1
        if used > longest:
            return
        yield line


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _gate_line(gate: GateResult) -> str:
    shown_only = "" if gate.is_blocking else " (shown only)"
    return f"{CHIPS[gate.verdict]}  {gate.title}{shown_only}: {gate.sentence}"


def _gate_counts(gates: Sequence[GateResult]) -> str:
    found = Counter(gate.verdict for gate in gates)
    return ", ".join(f"{found[verdict]} {CHIPS[verdict].word}" for verdict in CHIPS if found[verdict]) or "no gate applies"


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _text(text)}


def _text(text: str) -> dict[str, Any]:
    """Text in Slack's markup in which names and addresses stay as they are written."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _button(button: Button) -> dict[str, Any]:
    drawn: dict[str, Any] = {
        "type": "button",
        "action_id": button.action,
        "text": {"type": "plain_text", "text": button.label},
        "value": button.value,
    }
    if button.is_primary:
        drawn["style"] = "primary"
    if button.asks:
        words = {"title": "Are you sure?", "text": button.asks, "confirm": button.label[:30], "deny": "No"}
        drawn["confirm"] = {name: {"type": "plain_text", "text": text} for name, text in words.items()}
    return drawn
