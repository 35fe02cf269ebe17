"""What a login of the machine may not decide at high risk can be asked for in the chat."""

from __future__ import annotations

import pytest

from bot.commands import COMMANDS, RELEASE
from bot.grammar import read
from workbench.ownership.permissions import DECIDING_ACTS

NOWHERE_YET = {"waiver.approve", "handoff.decide"}
OPTION_OF = {"rollback.to": "rollback", "release.break_glass": "release.approve"}


def test_every_deciding_act_has_its_words_in_the_chat():
    known = {command.act(verb) for command in COMMANDS for verb in command.verbs}
    assert {OPTION_OF.get(act, act) for act in DECIDING_ACTS - NOWHERE_YET} <= known


@pytest.mark.parametrize(
    ("text", "act", "arguments"),
    [
        ("freeze support --reason a big sale", "release.freeze", {"app": "support", "reason": "a big sale"}),
        ("unfreeze support", "release.unfreeze", {"app": "support"}),
        (
            "approve support.2 --break-glass --reason wrong refunds",
            "release.approve",
            {"release": "support.2", "break-glass": "yes", "reason": "wrong refunds"},
        ),
        (
            "reviewed support.2 justified --reason they were wrong",
            "release.reviewed",
            {"release": "support.2", "verdict": "justified", "reason": "they were wrong"},
        ),
        ("adopt support v1 --reason serves already", "release.adopt", {"app": "support", "bundle": "v1", "reason": "serves already"}),
    ],
)
def test_they_are_understood(text: str, act: str, arguments: dict[str, str]):
    asked = read(RELEASE, text)
    assert asked is not None
    assert (asked.act, {name: value for name, value in asked.arguments.items() if value}) == (act, arguments)
