"""What people type on telephones is understood, and what cannot be understood is refused with the way to say it."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.commands import COMMANDS, OWNER, RELEASE, ROLLBACK, Kind
from bot.grammar import Word, read, slack_id, split
from workbench.errors import UsageError
from workbench.spec.base import is_steering


def _read(command, text: str) -> tuple[str, dict[str, str]]:
    request = read(command, text)
    return request.act, dict(request.arguments)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('support --reason "wrong refunds"', "wrong refunds"),
        ("support --reason “wrong refunds”", "wrong refunds"),
        ("support —reason „wrong refunds“", "wrong refunds"),
        ("support –reason wrong refunds", "wrong refunds"),
        ("support --reason=wrong refunds", "wrong refunds"),
        ("support  --reason   wrong\u00a0refunds ", "wrong refunds"),
        ("support --reason 'wrong refunds'", "wrong refunds"),
        ("support --reason it's the customers' money", "it's the customers' money"),
        ("support --reason it’s wrong", "it's wrong"),
        ('support --reason 5" screens break', '5" screens break'),
        ("support --reason costs &lt; 5 &amp; rising", "costs < 5 & rising"),
        ("support --reason see <https://example.org/a?b=1&amp;c=2|the page>", "see the page"),
        ("support --reason see <https://example.org>", "see https://example.org"),
        ("support --reason ask <@U012|anna>", "ask <@U012>"),
        ("support --reason in <#C012|general>", "in general"),
        ("support --reason quoted '--dry-run' stays", "quoted --dry-run stays"),
        ("support --reason two\nlines", "two lines"),
        ("support --reason -- dashes -- alone", "-- dashes -- alone"),
        ("support --reason a\u202eb\x1b[31m", "a b [31m"),
    ],
)
def test_a_reason_is_read_however_it_is_written(text, reason):
    assert _read(ROLLBACK, text) == ("rollback", {"app": "support", "reason": reason})


@pytest.mark.parametrize(
    ("command", "text", "act", "arguments"),
    [
        (RELEASE, "start support v2 --reason go", "release.start", {"app": "support", "bundle": "v2", "reason": "go"}),
        (RELEASE, "START support --reason go", "release.start", {"app": "support", "reason": "go"}),
        (RELEASE, "promote support.3 --early it is quiet", "release.promote", {"release": "support.3", "early": "it is quiet"}),
        (RELEASE, "unlock support --steal", "release.unlock", {"app": "support", "steal": "yes"}),
        (ROLLBACK, "support to last-good --reason x", "rollback", {"app": "support", "bundle": "last-good", "reason": "x"}),
        (
            ROLLBACK,
            "support to <mailto:support@v1.example|support@v1> --reason x",
            "rollback",
            {"app": "support", "bundle": "support@v1", "reason": "x"},
        ),
        (ROLLBACK, "--reason first why --dry-run support", "rollback", {"app": "support", "reason": "first why", "dry-run": "yes"}),
        (OWNER, "gaps support --days 30", "owner.gaps", {"app": "support", "days": "30"}),
        (
            OWNER,
            "override support <@U012> --until 4h --tier 2 --reason swap",
            "owner.override",
            {"app": "support", "person": "<@U012>", "until": "4h", "tier": "2", "reason": "swap"},
        ),
    ],
)
def test_each_form_is_read_as_its_act(command, text, act, arguments):
    assert _read(command, text) == (act, arguments)


@pytest.mark.parametrize("text", ["", "  ", "help", "Help start"])
def test_nothing_and_help_ask_for_help(text):
    assert all(read(command, text) is None for command in COMMANDS)


@pytest.mark.parametrize(
    ("command", "text", "says"),
    [
        (RELEASE, "aprove support", 'did you mean "approve"'),
        (RELEASE, "frobnicate support", "there are: start, status"),
        (RELEASE, "start", "app, reason is missing"),
        (RELEASE, "start support", "reason is missing"),
        (RELEASE, "start support v2 v3 --reason x", '"v3" is one word too many'),
        (RELEASE, "start support --reson x", 'did you mean "--reason"'),
        (RELEASE, "start support --reason", "--reason has no value"),
        (RELEASE, 'start support --reason ""', "--reason has no value"),
        (RELEASE, "start support --reason a --reason b", "stands there twice"),
        (RELEASE, f"start support --reason {'x' * 1001}", "1,000 are allowed"),
        (RELEASE, "lock support --reason x --steal=no", "--steal takes no value"),
        (ROLLBACK, "support v1 --reason x", 'where "to BUNDLE" is expected'),
        (ROLLBACK, "support to", 'nothing stands after "to"'),
        (ROLLBACK, "--reason x", "app is missing"),
        (OWNER, "override support night --until 4 h --reason x", '"h" is one word too many'),
    ],
)
def test_what_is_not_understood_names_what_is_wrong_and_how_to_say_it(command, text, says):
    with pytest.raises(UsageError, match=r"usage: `/|see `/") as refusal:
        read(command, text)
    assert says in str(refusal.value)


def test_only_a_mention_is_a_slack_id():
    assert slack_id("<@U012AB3CD>") == "U012AB3CD"
    assert [slack_id(text) for text in ("@anna", "U012", "<@anna>", "<!subteam^S1>", "<@U1> ", "")] == [None] * 6


@pytest.mark.parametrize(("command", "verb"), [(command, verb) for command in COMMANDS for verb in command.verbs])
def test_the_usage_that_is_shown_is_understood(command, verb):
    example = verb.usage.replace("[", "").replace("]", "").replace('"…"', "words of mine")
    act, arguments = _read(command, example)
    assert act == command.act(verb)
    assert set(arguments) == {each.name for each in (*verb.arguments, *verb.options)}


plain = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Cf", "Zl", "Zp", "Zs")), min_size=1, max_size=12)


@given(st.lists(plain, min_size=1, max_size=6))
def test_what_slack_encodes_comes_back_as_it_was_typed(words):
    words = [word for word in words if not set(word) & set("\"'“”„‟«»″‘’‚‛′–—―<>|\u200b\u2060\ufeff")]
    typed = " ".join(words)
    assert [word.text for word in split(html.escape(typed, quote=False))] == words


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text):
    for command in COMMANDS:
        try:
            request = read(command, text)
        except UsageError:
            continue
        if request is not None:
            verb = next(verb for verb in command.verbs if command.act(verb) == request.act)
            assert set(verb.required) <= {name for name, value in request.arguments.items() if value}
            assert set(request.arguments) <= {each.name for each in (*verb.arguments, *verb.options)}


@given(st.text(max_size=60))
def test_no_word_keeps_what_would_steer_a_screen(text):
    for word in split(text):
        assert not any(is_steering(character) for character in word.text)


def test_quoted_words_are_one_word_and_no_option():
    assert list(split("a 'b c' \"--d\" e")) == [Word("a"), Word("b c", is_quoted=True), Word("--d", is_quoted=True), Word("e")]


def test_only_flags_stand_without_a_value():
    flags = {option.name for command in COMMANDS for verb in command.verbs for option in verb.options if option.kind is Kind.FLAG}
    assert flags == {"steal", "dry-run", "break-glass"}
