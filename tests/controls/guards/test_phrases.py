"""Phrases are found as words, in whatever spelling, and patterns in linear time."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.controls.guards.policies import guards
from workbench.controls.guards.matches import Rule
from workbench.controls.guards.model import Action
from workbench.controls.guards.phrases import Phrases
from workbench.spec.folding import folded, plain

XSTEST = Path(__file__).parents[4] / "shared" / "realdata" / "xstest" / "xstest_prompts.csv"
RULE = Rule(rule_id="t", action=Action.BLOCK)
PHRASES = Phrases([(phrase, RULE) for phrase in ("kill myself", "rape", "Straße", "café", "爆弾", "c4")])


def found(text: str) -> list[str]:
    return [text[match.start : match.end] for match in PHRASES.find(plain(text))]


@pytest.mark.parametrize(
    ("text", "stretch"),
    [
        ("I want to kill myself.", "kill myself"),
        ("KILL MYSELF", "KILL MYSELF"),
        ("kill-myself!", "kill-myself"),
        ("killmyself", "killmyself"),
        ("k i l l  m y s e l f", "k i l l  m y s e l f"),
        ("k.i.l.l...my_self", "k.i.l.l...my_self"),
        ("ｋｉｌｌ　ｍｙｓｅｌｆ", "ｋｉｌｌ　ｍｙｓｅｌｆ"),
        ("ki\u200bll my\u00adself", "ki\u200bll my\u00adself"),
        ("kill\nmyself", "kill\nmyself"),
        ("die STRASSE hier", "STRASSE"),
        ("cafe\u0301 noir", "cafe\u0301"),
        ("CAFÉ", "CAFÉ"),
        ("これは爆弾です", "爆弾"),
        ("some C-4 here", "C-4"),
    ],
)
def test_a_phrase_is_found_in_every_spelling(text: str, stretch: str) -> None:
    assert found(text) == [stretch]


@pytest.mark.parametrize(
    "text", ["skill myselfie", "a grape", "trap expert", "the rapeseed", "cafes", "cafe", "kіll myself", "爆 発弾", "ac4", ""]
)
def test_letters_of_other_words_are_no_phrase(text: str) -> None:
    assert found(text) == []


@given(st.text(max_size=60), st.sampled_from(["kill myself", "rape", "爆弾"]), st.text(max_size=60))
def test_a_phrase_among_any_text_is_found(before: str, phrase: str, after: str) -> None:
    assert any(folded(phrase) == folded(stretch) for stretch in found(f"{before} {phrase} {after}"))


@given(st.text(max_size=80))
def test_what_is_found_says_the_phrase(text: str) -> None:
    for stretch in found(text):
        assert folded(stretch) in {folded(phrase) for phrase in ("kill myself", "rape", "Straße", "café", "爆弾", "c4")}


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_the_plain_form_knows_where_each_character_stood(text: str) -> None:
    read = plain(text)
    if read.starts is None:
        assert [plain(char).text for char in text] == list(read.text)
        return
    assert len(read.starts) == len(read.ends) == len(read.text)
    assert list(read.starts) == sorted(read.starts)
    assert all(0 <= start < end <= len(text) for start, end in zip(read.starts, read.ends, strict=True))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a|a){1,100}b", "a" * 50_000),
        ("(a{0,9}){0,9}b", "a" * 50_000),
        ("(x[^y]{0,90}){0,2}y", "x" * 50_000),
        ("\\b(\\w{1,40} ){1,6}zzz", "word " * 10_000),
    ],
    ids=range(4),
)
def test_a_pattern_that_drives_others_mad_takes_linear_time(pattern: str, text: str) -> None:
    policy = guards(f"topics: [{{id: t, stages: [output], patterns: ['{pattern}'], action: redact}}]")
    start_s = time.process_time()
    assert policy.check_output_quickly(text).text == text
    assert time.process_time() - start_s < 3


def test_patterns_see_the_plain_form_and_the_words_around() -> None:
    policy = guards("topics: [{id: t, stages: [output], patterns: ['\\bproject [a-z]{3,9}\\b', '^draft'], action: redact}]")
    said = policy.check_output_quickly("Draft: ＰＲＯＪＥＣＴ he\u200bron, subproject heron, a draft").text
    assert said == "[removed]: [removed], subproject heron, a draft"


@pytest.mark.skipif(not XSTEST.is_file(), reason="the XSTest prompts are not on this machine: shared/realdata/xstest")
def test_on_real_prompts_a_phrase_stops_its_own_words_and_no_others() -> None:
    rows = list(csv.DictReader(XSTEST.read_text(encoding="utf-8").splitlines()))
    policy = Phrases([("kill a python process", RULE), ("make a bomb", RULE)])
    hits = [row["prompt"].lower() for row in rows if next(policy.find(plain(row["prompt"])), None) is not None]
    assert hits == [
        row["prompt"].lower() for row in rows if any(words in row["prompt"].lower() for words in ("kill a python process", "make a bomb"))
    ]
    assert len(hits) > 0
