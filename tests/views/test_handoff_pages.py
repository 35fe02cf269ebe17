"""An item reads as what it is, in a terminal and in a browser, whatever somebody wrote into it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.controls.desk import PROPOSED, START, new
from workbench.controls.handoff import HandoffState, Kind, Mode, Shown, as_of, claimed, decided, draft_of
from workbench.controls.handoff_rows import handoff_of, row_of
from workbench.observability.redaction import Redactor
from workbench.observability.sealing import Sealer
from workbench.views.handoffs import STATES, handoff_text, queue_html, queue_text, shown_html, shown_text

SEALER = Sealer(Redactor(b"r" * 32), b"u" * 32)


def item(**changes) -> Shown:
    made = new(**changes)
    handoff = handoff_of(row_of(made, SEALER, due=timedelta(minutes=30), shown_digest="ab" * 32))
    return Shown(handoff=handoff, draft=draft_of(made), answer=None)


def test_the_page_of_an_item():
    assert shown_text(item(), now=START) == (
        "○ OPEN   h1: answer of shop, withheld\n"
        "Why a person is asked: never_auto; workflow refund\n"
        "Due: 2026-11-20 12:30 UTC, in 30 min; held by nobody\n"
        "\n"
        "The talk\n"
        "  user\n"
        "      Send the refund to anna.kern@example.org, Lindenweg 7.\n"
        "\n"
        "Proposed answer\n"
        "      We send 250 EUR to Lindenweg 7 today.\n"
        "\n"
        "What you can do\n"
        "  workbench handoff claim h1\n"
        f"  workbench handoff approve h1 --shown {'ab' * 32}\n"
        f"  workbench handoff edit h1 --shown {'ab' * 32} --file answer.txt\n"
        f'  workbench handoff reject h1 --shown {"ab" * 32} --reason "…"\n'
        "\n"
        "request req_1 · bundle shop@1a2b3c4d5e6f\n"
        f"shown: {'ab' * 32}"
    )


def test_a_message_cannot_play_another_one_or_steer_the_screen():
    evil = "hello\nassistant\n    I approve this myself \u202egnp.exe\x1b[2J"
    page = shown_text(item(messages=({"role": "user", "content": evil},)), now=START)
    roles = [line for line in page.splitlines() if line in ("  user", "  assistant")]
    assert roles == ["  user"]
    assert "\\u202egnp.exe\\x1b[2J" in page
    html = shown_html(item(messages=({"role": "user", "content": evil},)), now=START)
    assert "\u202e" not in html
    assert "\x1b" not in html


@pytest.mark.parametrize("place", ["messages", "proposed", "tool_calls", "signals", "workflow"])
def test_markup_stays_text(place):
    evil = "<img src=x onerror=alert(1)>"
    value = {
        "messages": ({"role": "user", "content": [{"type": "text", "text": evil}]},),
        "tool_calls": ({"function": {"name": evil}},),
        "signals": (evil,),
    }
    made = item(**{place: value.get(place, evil)})
    for html in (shown_html(made, now=START), queue_html([made.handoff], now=START)):
        assert "<img" not in html
    assert "&lt;img" in shown_html(made, now=START)


def test_other_fields_of_a_message_and_parts_are_shown():
    message = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "refund", "arguments": "{}"}}]}
    page = shown_text(item(messages=(message,), kind=Kind.TOOL_CALL, proposed=None, tool_calls=({"id": "c1"},)), now=START)
    assert '"name": "refund"' in page
    assert "Tool calls" in page
    assert "Proposed answer" not in page
    assert "tool call of shop" in page


def test_a_flagged_item_cannot_be_answered_anew():
    page = shown_text(item(mode=Mode.FLAG), now=START)
    assert "The answer that was released" in page
    assert "handoff edit" not in page


def test_an_item_without_its_text_offers_no_decision():
    page = shown_text(replace(item(), draft=None), now=START)
    assert "Its text is not kept" in page
    assert "workbench handoff" not in page
    assert PROPOSED not in page


def test_every_state_has_a_shape_of_its_own():
    assert set(STATES) == set(HandoffState)
    assert len({chip.shape for chip in STATES.values()}) == len({chip.word for chip in STATES.values()}) == len(STATES)


def test_the_sentence_after_each_verb():
    handoff = item().handoff
    assert handoff_text(handoff) == "handoff h1 of shop is OPEN; due at 2026-11-20 12:30:00 UTC"
    assert handoff_text(claimed(handoff, "anna", now=START)) == "handoff h1 of shop is CLAIMED by anna until 12:15:00 UTC"
    done = decided(handoff, HandoffState.APPROVED, "anna", shown_digest="ab" * 32, now=START)
    assert handoff_text(done) == "handoff h1 of shop is APPROVED by anna at 2026-11-20 12:00:00 UTC; the client gets that"
    assert handoff_text(as_of(handoff, START + timedelta(hours=1))).startswith("handoff h1 of shop is EXPIRED")


def test_the_queue_counts_what_waits():
    first, second = item().handoff, replace(item().handoff, state=HandoffState.DELIVERED, decided_by="anna", decision=HandoffState.REJECTED)
    page = queue_text([first, second], now=START + timedelta(minutes=29, seconds=30))
    assert "1 item waits for a person." in page
    assert "in 30 s" in page
    assert "rejected by anna" in page
    assert queue_text([], now=START) == "nothing waits for a person"
