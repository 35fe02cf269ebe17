"""A card says what its page says, whatever is in it, in the size that Slack takes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.blockkit import faults
from workbench.views.cards import Button, escaped, headline, literal_card, page_card
from workbench.views.page import Chip, Column, Page, Section

GOOD = Chip(word="READY", shape="◔", tone="open")
BUTTON = Button(action="release.approve", label="Approve", value="shop.2:1:x", is_primary=True, asks="Sure?")

text = st.text(max_size=60) | st.sampled_from(["", " ", "<&>" * 200, "```" * 200])
lines = st.lists(text, max_size=8).map(tuple)
sections = st.builds(
    Section,
    title=text,
    lines=lines,
    columns=st.just((Column(title="a"), Column(title="b", is_number=True))),
    rows=st.lists(st.tuples(text, text | st.just(GOOD)), max_size=8).map(tuple),
    literal=text,
)
pages = st.builds(
    Page,
    title=text.filter(str.strip),
    banner=st.none() | st.just(GOOD),
    lead=lines,
    sections=st.lists(sections, max_size=3).map(tuple),
    footer=lines,
)


def _texts(blocks) -> str:
    parts = []
    for block in blocks:
        parts += (
            [block["text"]["text"]]
            if "text" in block
            else [element["text"] for element in block.get("elements", ()) if block["type"] == "context"]
        )
    return "\n".join(parts)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(pages)
def test_any_page_is_a_message_that_slack_takes(page):
    assert faults(page_card(page, (BUTTON,))) == []
    assert len(headline(page)) <= 500


@given(text)
def test_nothing_in_a_text_mentions_links_or_closes_a_fence(words):
    card = literal_card(words)
    shown = card[0]["text"]["text"]
    inside = shown.removeprefix("```\n").removesuffix("\n```")
    assert "```" not in inside
    assert "<" not in inside
    assert ">" not in inside
    assert escaped(words).count("&") == sum(words.count(each) for each in "&<>")


def test_a_mention_in_somebody_s_words_stays_words():
    page = Page(title="x", lead=("because <!channel> & <@U1> said *so*",))
    assert "because &lt;!channel&gt; &amp; &lt;@U1&gt; said *so*" in _texts(page_card(page))


def test_a_page_in_its_order_with_its_buttons_last():
    page = Page(
        title="shop.2",
        banner=GOOD,
        lead=("The finding.",),
        sections=(
            Section(
                title="Steps", columns=(Column(title="step"), Column(title="share", is_number=True)), rows=(("1", "5 %"), ("22", "100 %"))
            ),
            Section(title="Next", lines=("wait", "promote")),
        ),
        footer=("As of noon.",),
    )
    card = page_card(page, (BUTTON,))
    assert [block["type"] for block in card] == ["header", "section", "section", "section", "context", "actions"]
    assert _texts(card) == (
        "◔ READY   shop.2\nThe finding.\n*Steps*\n```\nstep  share\n1       5 %\n22    100 %\n```\n*Next*\n• wait\n• promote\nAs of noon."
    )
    assert card[-1]["elements"][0]["confirm"]["text"]["text"] == "Sure?"
    assert headline(page) == "◔ READY   shop.2: The finding."


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_lines_without_room_are_counted(n):
    page = Page(title="x", sections=(Section(title="Gates", lines=tuple(f"gate number {i}: {'words ' * 20}" for i in range(n))),))
    shown = _texts(page_card(page))
    kept = sum(line.startswith("• gate") for line in shown.splitlines())
    assert kept == n or f"… and {n - kept:,} more lines" in shown
    assert kept > 5
