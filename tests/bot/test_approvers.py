"""A bot that starts says for which apps nobody can approve a release from the chat."""

from __future__ import annotations

import pytest

from bot.approvers import warnings_of
from tests.bot.office import PEOPLE, declare
from tests.release.house import APP


@pytest.mark.parametrize(
    ("gone", "without_slack", "why"),
    [
        (set(), set(), None),
        (set(), {"both"}, None),
        (set(), {"both", "approver"}, "approver, both: no Slack id"),
        ({"both", "approver"}, set(), "nobody has the role approver"),
    ],
)
def test_an_app_whose_approvers_slack_does_not_reach_is_named(ws, gone: set[str], without_slack: set[str], why: str | None):
    people = {name: {**person, "slack": []} if name in without_slack else person for name, person in PEOPLE.items() if name not in gone}
    declare(ws, people={"people": people})
    next_step = "add an approver's Slack id to its people.yaml"
    told = [f"{APP}: nobody can approve its releases in Slack ({why}); {next_step}"] if why else []
    assert list(warnings_of(ws.ownership, ws.versions.apps())) == told
