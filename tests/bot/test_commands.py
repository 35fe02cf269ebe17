"""One table says what can be asked: the acts do it all, Slack is told of it all, and what it draws Slack takes."""

from __future__ import annotations

import pytest
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block

from bot.acts import Acts
from bot.asks import LOOKING
from bot.blockkit import faults
from bot.board import Board
from bot.buttons import Seal
from bot.commands import COMMANDS, RELEASE, ROLLBACK, help_text
from bot.manifest import SCOPES, manifest
from tests.bot.office import desk, run
from workbench.errors import UsageError
from workbench.ownership.permissions import ACTS

ASKED = {command.act(verb) for command in COMMANDS for verb in command.verbs}


def test_every_act_of_the_table_is_done_and_none_besides(ws):
    assert Acts(ws, Board(ws, Seal(b"k")), actor_of=ws.ownership.actor_of_slack_id).known == ASKED


def test_every_act_that_changes_something_is_a_permission():
    assert ASKED >= LOOKING
    assert set(ACTS) >= ASKED - LOOKING


def test_every_command_has_a_name_that_slack_takes_and_verbs_of_different_names():
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
    for command in COMMANDS:
        assert command.name.isascii()
        assert command.name.islower()
        assert len(command.name) <= 32
        names = [verb.name for verb in command.verbs]
        assert len(set(names)) == len(names)


def test_help_shows_every_form(ws):
    for command in COMMANDS:
        assert all(command.usage(verb) in help_text(command) and verb.help in help_text(command) for verb in command.verbs)

    async def story() -> None:
        async with desk(ws) as at:
            for line in ("/release", "/rollback help", "/owner  "):
                response = await at.type("U1", line)
                assert "How to use" in response.body
            assert at.slack.messages == []

    run(story())


@pytest.mark.parametrize("mode", ["socket", "http"])
def test_the_manifest_names_every_command_and_what_slack_allows(mode):
    made = manifest(mode, url="https://bot.example.org/")
    commands = made["features"]["slash_commands"]
    assert [command["command"] for command in commands] == [f"/{command.name}" for command in COMMANDS]
    assert all(command["should_escape"] for command in commands)
    assert all(len(command["description"]) <= 2000 and len(command["usage_hint"]) <= 1000 for command in commands)
    assert len(made["display_information"]["name"]) <= 35
    assert len(made["display_information"]["description"]) <= 140
    assert set(made["oauth_config"]["scopes"]["bot"]) == set(SCOPES)
    urls = {command.get("url") for command in commands} | {made["settings"]["interactivity"].get("request_url")}
    assert urls == ({None} if mode == "socket" else {"https://bot.example.org/slack/events"})
    assert made["settings"]["socket_mode_enabled"] is (mode == "socket")


@pytest.mark.parametrize("url", ["", "http://bot.example.org", "bot.example.org", "https://"])
def test_a_manifest_for_http_needs_an_address_that_slack_can_reach(url):
    with pytest.raises(UsageError, match="https://"):
        manifest("http", url=url)


def _good() -> list[dict]:
    return [
        {"type": "header", "text": {"type": "plain_text", "text": "x"}},
        {"type": "section", "text": {"type": "mrkdwn", "text": "x"}, "fields": [{"type": "mrkdwn", "text": "x"}]},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}]},
        {"type": "divider"},
        {
            "type": "actions",
            "elements": [
                {"type": "button", "action_id": "a", "text": {"type": "plain_text", "text": "x"}, "value": "v", "style": "danger"}
            ],
        },
    ]


def _with(place: int, **changes) -> list[dict]:
    blocks = _good()
    blocks[place] = {**blocks[place], **changes}
    return blocks


def _button(**changes) -> list[dict]:
    blocks = _good()
    blocks[4]["elements"][0] |= changes
    return blocks


TEXT = {"type": "mrkdwn", "text": "x"}


def test_a_good_message_has_no_fault():
    assert faults(_good()) == []
    assert faults([]) == []


@pytest.mark.parametrize(
    ("blocks", "pointer", "does_the_sdk_see_it"),
    [
        (_with(0, text={"type": "plain_text", "text": "x" * 151}), "/0/text", True),
        (_with(0, text={"type": "mrkdwn", "text": "x"}), "/0/text", False),
        (_with(0, text={"type": "plain_text", "text": ""}), "/0/text", False),
        (_with(1, text={"type": "mrkdwn", "text": "x" * 3001}), "/1/text", True),
        (_with(1, fields=[TEXT] * 11), "/1/fields", True),
        (_with(1, fields=[{"type": "mrkdwn", "text": "x" * 2001}]), "/1/fields/0", False),
        ([{"type": "section"}], "/0", True),
        (_with(2, elements=[TEXT] * 11), "/2/elements", True),
        (_with(2, elements=[]), "/2/elements", False),
        (_with(4, elements=[]), "/4/elements", False),
        (_with(4, elements=_good()[4]["elements"] * 26), "/4/elements", True),
        (_with(4, elements=_good()[4]["elements"] * 2), "/4/elements", False),
        (_button(text={"type": "plain_text", "text": "x" * 76}), "/4/elements/0/text", True),
        (_button(value="x" * 2001), "/4/elements/0/value", True),
        (_button(action_id=""), "/4/elements/0/action_id", False),
        (_button(style="loud"), "/4/elements/0/style", True),
        (_button(type="menu"), "/4/elements/0/type", False),
        (_button(confirm={"title": TEXT, "text": TEXT, "confirm": TEXT}), "/4/elements/0/confirm/deny", False),
        ([{"type": "carousel"}], "/0/type", False),
        ([{"type": "divider"}] * 51, "/", False),
    ],
)
def test_every_broken_rule_is_found_where_it_is_broken(blocks, pointer, does_the_sdk_see_it):
    found = faults(blocks)
    assert found
    assert all(fault.startswith(f"{pointer}:") for fault in found)
    if does_the_sdk_see_it:
        with pytest.raises(SlackObjectFormationError):
            [block.validate_json() or block.to_dict() for block in map(Block.parse, blocks)]


def test_usage_says_what_may_be_left_out():
    assert ROLLBACK.usage(ROLLBACK.verb("")) == '/rollback APP [to BUNDLE] --reason "…" [--dry-run]'
    assert RELEASE.usage(RELEASE.verb("start")) == '/release start APP [BUNDLE] --reason "…"'
