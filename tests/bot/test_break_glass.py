"""A release that goes alone is told to the channel, with the people who have to know called by name, wherever it was done."""

from __future__ import annotations

import pytest

from bot.fake_slack import message_text
from tests.bot.office import APPROVER, BOTH, CHANNEL, NIGHT, REQUESTER, acts, desk, run
from tests.release.house import APP, login

RELEASE = f"{APP}.2"
START = f"/release start {APP} v2 --reason better answers"
WHO = [NIGHT, APPROVER, "U22", BOTH]
"""On call, then the approvers; one of them has two ids."""


def _called(at) -> list:
    return [message for message in at.slack.messages if "BROKE THE GLASS" in message.text]


@pytest.mark.parametrize("is_typed", [True, False])
def test_it_is_announced_once_to_the_whole_channel_with_everybody_who_has_to_know(ws, is_typed: bool):
    async def story() -> None:
        async with desk(ws) as at:
            at.times = 2 if is_typed else 1
            await at.type(REQUESTER, START)
            if is_typed:
                await at.type(REQUESTER, f"/release approve {RELEASE} --break-glass --reason refunds &amp; prices are wrong")
            else:
                ws.releases.break_glass(RELEASE, reason="refunds & prices are wrong", actor=login("rita"))
            for _ in range(2):
                await at.bot.worker.drain()
            (message,) = _called(at)
            (parent,) = at.parents
            assert (message.channel, message.thread) == (CHANNEL, parent.ts)
            assert message.is_broadcast
            assert message.text.endswith(" ".join(f"<@{slack_id}>" for slack_id in WHO))
            assert "refunds &amp; prices are wrong" in message.text
            assert "Let go alone" in message_text(parent)
            assert [act for act, _ in acts(ws)].count("release.break_glass") == 1

    run(story())


def test_a_thread_that_begins_after_it_still_calls_them(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            await at.type(REQUESTER, f"/release abort {RELEASE} --reason not this one")
            started = ws.releases.start(APP, "v3", reason="better", actor=login("rita"))
            ws.releases.break_glass(started.release_id, reason="refunds are wrong", actor=login("rita"))
            for _ in range(3):
                await at.bot.worker.drain()
            assert len(_called(at)) == 1

    run(story())


def test_its_review_is_asked_for_and_told_in_the_chat(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            await at.type(REQUESTER, f"/release approve {RELEASE} --break-glass")
            assert "reason: it is empty" in at.told(REQUESTER)
            await at.type(NIGHT, f"/release approve {RELEASE} --break-glass --reason refunds are wrong")
            await at.type(NIGHT, f"/release reviewed {RELEASE} justified --reason I say so")
            assert "release.reviewed" in at.told(NIGHT)
            await at.type(APPROVER, f"/release reviewed {RELEASE} not-justified --reason it could have waited")
            assert any("reviewed that it went alone: not justified: it could have waited" in line for line in at.channel)
            assert not ws.releases.broken_glass(APP)[0].is_open
            await at.type(APPROVER, f"/release history {APP}")
            assert "not justified" in at.told(APPROVER)

    run(story())
