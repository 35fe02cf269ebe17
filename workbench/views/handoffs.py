"""The handoff queue for people: what waits, one item with its talk, and what was decided.

What a customer or a model wrote is shown as literal text, indented, with everything visible that would steer the screen or turn the
direction of text: nobody can write a message that reads as something else than it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from workbench.controls.handoff import Draft, Handoff, HandoffState, Kind, Mode, Shown
from workbench.controls.model import Message
from workbench.views.numbers import DASH
from workbench.views.page import Chip, Column, Page, Section, page_html, page_text
from workbench.views.tables import WIDTH, shown

STATES: Mapping[HandoffState, Chip] = {
    HandoffState.OPEN: Chip(word="OPEN", shape="○", tone="open"),
    HandoffState.CLAIMED: Chip(word="CLAIMED", shape="◐", tone="open"),
    HandoffState.APPROVED: Chip(word="APPROVED", shape="●", tone="good"),
    HandoffState.ANSWERED: Chip(word="ANSWERED", shape="◆", tone="good"),
    HandoffState.REJECTED: Chip(word="REJECTED", shape="✕", tone="bad"),
    HandoffState.DELIVERED: Chip(word="DELIVERED", shape="→", tone="quiet"),
    HandoffState.EXPIRED: Chip(word="EXPIRED", shape="⌛", tone="bad"),
}
_KINDS: Mapping[Kind, str] = {Kind.ANSWER: "answer", Kind.TOOL_CALL: "tool call"}
_MODES: Mapping[Mode, str] = {Mode.HOLD: "withheld", Mode.FLAG: "released, to be judged"}
_INDENT = "    "


def queue_text(handoffs: Sequence[Handoff], *, now: datetime, width: int = WIDTH) -> str:
    """The items, one line each, for a terminal."""
    return page_text(queue_page(handoffs, now=now), width=width) if handoffs else "nothing waits for a person"


def queue_html(handoffs: Sequence[Handoff], *, now: datetime) -> str:
    """The items as an HTML fragment."""
    return page_html(queue_page(handoffs, now=now))


def shown_text(item: Shown, *, now: datetime | None = None, width: int = WIDTH) -> str:
    """An item with its talk, for a terminal."""
    return page_text(shown_page(item, now=now), width=width)


def shown_html(item: Shown, *, now: datetime | None = None) -> str:
    """An item with its talk as an HTML fragment."""
    return page_html(shown_page(item, now=now, has_commands=False))


def handoff_text(handoff: Handoff) -> str:
    """Where an item stands after a verb, in one sentence."""
    return shown(handoff_sentence(handoff))


def queue_page(handoffs: Sequence[Handoff], *, now: datetime) -> Page:
    """The items in the order given."""
    titles = ("handoff", "app", "state", "what", "why", "workflow", "due", "who")
    rows = tuple(
        (
            handoff.handoff_id,
            handoff.app,
            STATES[handoff.state],
            f"{_KINDS[handoff.kind]}, {_MODES[handoff.mode]}",
            shown(", ".join(handoff.signals), keep="") or DASH,
            shown(handoff.workflow, keep=""),
            _due(handoff, now),
            _who(handoff),
        )
        for handoff in handoffs
    )
    n = sum(handoff.is_waiting for handoff in handoffs)
    lead = (f"{n} {'item waits' if n == 1 else 'items wait'} for a person.",)
    section = Section(title="", columns=tuple(Column(title=title) for title in titles), rows=rows)
    return Page(title="Handoffs", lead=lead, sections=(section,) if rows else ())


def shown_page(item: Shown, *, now: datetime | None = None, has_commands: bool = True) -> Page:
    """An item: why a person is asked, the talk, what is proposed, and what can be done.

    Args:
        item: as it was shown by the queue.
        now: the moment, for how long there is; None where that is not known.
        has_commands: whether the commands that decide on it are printed below.
    """
    handoff, draft = item.handoff, item.draft
    about = (
        f"Why a person is asked: {shown(', '.join(handoff.signals), keep='') or DASH}; workflow {shown(handoff.workflow, keep='')}",
        f"Due: {_due(handoff, now)}; {_who(handoff)}",
    )
    parts = list(_texts(draft, item.answer)) if draft is not None else [Section(title="Its text is not kept (any more)")]
    if has_commands and draft is not None and handoff.is_waiting:
        parts.append(Section(title="What you can do", literal="\n".join(_commands(handoff))))
    return Page(
        title=f"{handoff.handoff_id}: {_KINDS[handoff.kind]} of {handoff.app}, {_MODES[handoff.mode]}",
        banner=STATES[handoff.state],
        lead=(*about, *((f"The last attempt to deliver it failed: {shown(handoff.fault, keep='')}",) if handoff.fault else ())),
        sections=tuple(parts),
        footer=(
            f"request {shown(handoff.request_id, keep='')} · bundle {handoff.bundle_id or DASH}",
            f"shown: {handoff.shown_digest or DASH}",
        ),
    )


def handoff_sentence(handoff: Handoff) -> str:
    """Where an item stands, or what was decided."""
    chip = STATES[handoff.decision or handoff.state].word
    subject = f"handoff {handoff.handoff_id} of {handoff.app} is {chip}"
    if handoff.decision is not None:
        told = "; the client gets that" if handoff.is_deliverable else ""
        return f"{subject} by {handoff.decided_by} at {handoff.decided_at:%Y-%m-%d %H:%M:%S} UTC{told}"
    if handoff.state is HandoffState.CLAIMED:
        return f"{subject} by {handoff.claimed_by} until {handoff.lease_until:%H:%M:%S} UTC"
    return f"{subject}; due at {handoff.due_at:%Y-%m-%d %H:%M:%S} UTC"


def _texts(draft: Draft, answer: str | None) -> Iterator[Section]:
    yield Section(title="The talk", literal="\n".join(line for message in draft.messages for line in _message(message)))
    if draft.proposed is not None:
        title = "Proposed answer" if draft.mode is Mode.HOLD else "The answer that was released"
        yield Section(title=title, literal=_indented(draft.proposed))
    if draft.tool_calls:
        yield Section(title="Tool calls", literal="\n".join(_indented(_json(call)) for call in draft.tool_calls))
    if answer is not None:
        yield Section(title="What was answered instead", literal=_indented(answer))


def _message(message: Message) -> Iterator[str]:
    """The role at the margin, everything else indented: a message cannot play another one."""
    yield shown(str(message.get("role", "?")), keep="")
    content = message.get("content")
    if content is not None:
        yield _indented(content if isinstance(content, str) else _json(content))
    more = {name: value for name, value in message.items() if name not in ("role", "content")}
    if more:
        yield _indented(_json(more))


def _indented(text: str) -> str:
    return "\n".join(f"{_INDENT}{line}" for line in shown(text).split("\n"))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _due(handoff: Handoff, now: datetime | None) -> str:
    at = f"{handoff.due_at:%Y-%m-%d %H:%M} UTC"
    if now is None or not handoff.is_waiting:
        return at
    minutes, seconds = divmod(int(max(handoff.due_at - now, timedelta()).total_seconds()), 60)
    left = f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min" if minutes else f"{seconds} s"  # noqa: PLR2004 - of an hour
    return f"{at}, in {left}"


def _who(handoff: Handoff) -> str:
    if handoff.decided_by is not None:
        return f"{handoff.decision} by {handoff.decided_by}"
    return f"held by {handoff.claimed_by} until {handoff.lease_until:%H:%M} UTC" if handoff.claimed_by else "held by nobody"


def _commands(handoff: Handoff) -> Iterator[str]:
    name, digest = handoff.handoff_id, handoff.shown_digest
    yield f"workbench handoff claim {name}"
    yield f"workbench handoff approve {name} --shown {digest}"
    if handoff.mode is Mode.HOLD:
        yield f"workbench handoff edit {name} --shown {digest} --file answer.txt"
    yield f'workbench handoff reject {name} --shown {digest} --reason "…"'
