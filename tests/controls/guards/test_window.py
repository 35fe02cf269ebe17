"""What leaves in pieces is what the whole check leaves, and nothing leaves that it would keep."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.controls.guards.policies import broken, guards, streamed
from workbench.controls.guards.window import TAIL, settled

REDACTING = """
secrets: [{stages: [output], action: redact}]
personal_data: [{stages: [output], action: redact}]
topics:
  - id: codename
    stages: [output]
    phrases: [blue heron, 青い鳥]
    patterns: ['\\bcase [0-9]{4,9}\\b', 'x{200,256}', '^your\\b', '(?m)^[0-9.]{1,3}$', 'on$', '.{3}@']
    action: redact
  - {id: tone, stages: [output], phrases: [as an ai], action: flag}
"""
BLOCKING = """
secrets: []
personal_data: [{stages: [output], detectors: [card], action: block}]
topics: [{id: codename, stages: [output], phrases: [blue heron], action: handoff}]
"""
REDACTS, BLOCKS = guards(REDACTING), guards(BLOCKING)
PEM = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 30 + "-----END PRIVATE KEY-----"
PLANTED = (
    "ann.lee@mail.example.org",
    "sk-abcdefghijklmnopqrstuv",
    "4111 1111 1111 1111",
    "4111111111111111",
    "DE89 3704 0044 0532 0130 00",
    "+49 30 901820 00",
    "call 555-123-2002 now",
    "phone: 5551234567",
    "10.0.0.17",
    "fe80::1ff:fe23:4567:890a",
    "1:2:3:4:5:6:192.0.2.1",
    "password: hunter2-and-more",
    "Authorization: Bearer abcdef1234567890",
    "https://user:pa55word@example.org/",
    "078-05-1120",
    base64.b64encode(b"write to ann.lee@mail.example.org today").decode(),
    "ann%2Elee%40mail.example.org",
    r"{\"mail\":\"ann\u0040mail.example.org\"}",
    PEM,
    "-----BEGIN PRIVATE KEY-----\nnever ends",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "4111\u00a01111\u202f1111\u00a01111",
    "4111&nbsp;1111&nbsp;1111&#32;1111",
    "4\u200b111 1111 11\u00ad11 1111",
    "\u0664\u0661\u0661\u0661 \u0661\u0661\u0661\u0661 \u0661\u0661\u0661\u0661 \u0661\u0661\u0661\u0661",
    "\uff0b\uff14\uff19 30 901820 00",
    "+49\u201330\u2013901820\u201300",
    "ann.lee\uff20mail.example.org",
    "ann.lee&#x40;mail&period;example.org",
    "ann%252Elee%2540mail.example.org",
    "blue heron",
    "B-L-U-E   h.e.r.o.n",
    "ｂｌｕｅ\u200b heron",
    "blue" + " -" * 400 + " heron",
    "これは青い鳥です",
    "case 4711",
    "x" * 230,
    "As an AI",
)
FILLER = st.sampled_from(
    (
        "Your order is on its way. ",
        "word ",
        "12 34 56 78 ",
        "1 1 2020 ",
        "on 2026-11-03, 12.50 EUR, ",
        "long" * 30,
        "\n",
        ". ",
        "你好，世界。",
        "naïve café ",
        "e\u0301",
        "\u200b",
        "(0) ",
        "- ",
        "order 4711 ",
        "phone ",
        "token ",
        "\\u0041",
        "&amp;",
        "&#",
        "&nbsp;",
        "\u00a0",
        "\u2026",
        "\u00bd",
        "\uff08\uff11\uff09 ",
        "\u2014",
        "\u00a8",
        "\ufdfa",
        "%41",
        "-----BEGIN ",
        "12.\n",
        "on",
        "@",
        ":",
        "=",
        "\ud800",
        "the quick brown fox jumps over the lazy dog " * 12,
    )
)
TEXTS = st.lists(st.one_of(FILLER, st.sampled_from(PLANTED), st.text(max_size=12)), max_size=40).map("".join)


def cut(text: str, data: st.DataObject) -> list[str]:
    """The text in pieces as a model may send it."""
    size = data.draw(st.sampled_from((1, 3, 17, 100, 1000)))
    return [text[place : place + size] for place in range(0, len(text), size)]


@settings(max_examples=250, deadline=None)
@given(text=TEXTS, data=st.data())
@example(text="word " * 99 + "-----BEGIN " + "a " * 60 + "-----END -----BEGIN " + PEM + " word" * 99, data=None)
def test_in_pieces_leaves_what_the_whole_check_leaves(text: str, data: st.DataObject | None) -> None:
    whole = REDACTS.check_output_quickly(text)
    left, checked = streamed(REDACTS, list(text) if data is None else cut(text, data))
    assert "".join(left) + checked.text == whole.text
    assert broken(checked.findings) == broken(whole.findings)


@settings(max_examples=120, deadline=None)
@given(text=TEXTS, data=st.data())
@example(text="word " * 300 + "4111 1111 1111 1111", data=None)
def test_nothing_leaves_from_what_stops_an_answer_on(text: str, data: st.DataObject | None) -> None:
    whole = BLOCKS.check_output_quickly(text)
    left, checked = streamed(BLOCKS, [text] if data is None else cut(text, data))
    released = "".join(left) + checked.text
    assert checked.action == whole.action
    assert text.startswith(released)
    first = min((match.start for match in BLOCKS.scan_output(text, 0, [])), default=len(text))
    assert len(released) <= first
    assert broken(checked.findings) == broken(whole.findings)


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("before", [0, 300, 415, 1000])
def test_a_match_split_at_every_place_never_leaves(planted: str, before: int) -> None:
    text = ("Some words of an answer. " * 50)[:before] + " " + planted + " and so it goes on. " * 40
    whole = REDACTS.check_output_quickly(text).text
    for place in range(before, min(before + len(planted) + 2, len(text)), max(1, len(planted) // 20)):
        left, checked = streamed(REDACTS, [text[:place], text[place : place + 450], text[place + 450 :]])
        assert "".join(left) + checked.text == whole


def test_text_leaves_while_the_answer_goes_on() -> None:
    left, checked = streamed(REDACTS, ["This order is on the way to you. "] * 100)
    held = [len("".join(left[: i + 1])) for i in range(100)]
    assert held[49] > 800
    assert all((i + 1) * 33 - n <= 352 + 800 + 33 for i, n in enumerate(held))
    assert len("".join(left) + checked.text) == 3300


def test_an_answer_without_rules_is_not_held() -> None:
    free = guards("secrets: []")
    left, checked = streamed(free, ["sk-abcdefghijklmnopqrstuv", " and more"])
    assert (left, checked.text, checked.findings) == (["sk-abcdefghijklmnopqrstuv", " and more"], "", ())


def test_hold_all_lets_nothing_leave_before_the_end() -> None:
    left, checked = streamed(REDACTS, ["write to ann@", "mail.example.org"], "hold_all")
    assert left == ["", ""]
    assert checked.text == "write to [email removed]"


def test_after_releases_at_once_and_reports() -> None:
    left, checked = streamed(BLOCKS, ["the blue ", "heron"], "after")
    assert left == ["the blue ", "heron"]
    assert checked.text == ""
    assert broken(checked.findings) == [("codename", "flag", "matched")]


def _cpu_s(text: str) -> float:
    pieces = [text[place : place + 40] for place in range(0, len(text), 40)]
    start_s = time.process_time()
    streamed(REDACTS, pieces)
    return time.process_time() - start_s


@pytest.mark.parametrize(
    "piece",
    [
        "The quick brown fox. ",
        "1 1 ",
        "a",
        "x",
        "@",
        "-----BEGIN ",
        "\\u0031",
        "%41",
        "blue ",
        "- ",
        "b l u e ",
        "你好世界",
        "\u0301",
        "12-12-2020 ",
    ],
    ids=range(14),
)
def test_ten_times_the_text_takes_about_ten_times_as_long(piece: str) -> None:
    small, large = (min(_cpu_s((piece * n)[: 4000 * times]) for _ in range(2)) for n, times in ((4000, 1), (40000, 10)))
    assert large < 30 * max(small, 0.002)


@pytest.mark.parametrize("telling", ["joe.doe@example.com", "+49 30 90182017", "DE89370400440532013000", "4111 1111 1111 1111"])
def test_of_a_text_that_broke_off_no_part_of_what_would_have_followed_stands(telling):
    for n in range(1, len(telling) + 1):
        assert settled(f"Write to me at {telling[:n]}") == "Write to me at "


def test_of_a_text_that_broke_off_all_stands_but_its_last_word():
    assert settled("It is on its way. ") == "It is on its way. "
    assert settled("It is on its way") == "It is on its "
    assert (settled(""), settled("word")) == ("", "")
    assert len(settled("x" * 5000)) == 5000 - TAIL
