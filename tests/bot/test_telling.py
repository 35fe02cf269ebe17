"""What the channel shows is what the ledger says: after a restart, failures of Slack, a deleted message, and changes made elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta

import pytest
from slack_bolt.request.async_request import AsyncBoltRequest

from bot import chat, work
from bot.acts import Acts
from bot.board import Board
from bot.fake_slack import Failure, FakeSlack, message_text
from tests.bot.office import APPROVER, BOTH, CHANNEL, NIGHT, REQUESTER, Desk, acts, command_body, desk, form, is_idle, run, signed, until
from tests.release.house import APP, login
from workbench.errors import StoreError
from workbench.ledger.inbox import Delivery, Inbox
from workbench.release.model import State

RELEASE = f"{APP}.2"
START = f"/release start {APP} v2 --reason better answers"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch) -> None:
    """Slack's client waits for no second attempt."""
    monkeypatch.setattr(chat, "_MOST_RETRIES", 1)
    monkeypatch.setattr(
        "slack_sdk.http_retry.builtin_interval_calculators.BackoffRetryIntervalCalculator.calculate_sleep_duration", lambda *_: 0
    )


def _kept(slack: FakeSlack) -> list[str]:
    return [message_text(message) for message in slack.messages if not message.only_for]


def test_a_change_made_in_a_terminal_is_shown_in_the_thread(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            ws.releases.approve(RELEASE, actor=login("anna"))
            await at.bot.worker.drain()
            (parent,) = at.parents
            assert message_text(parent).startswith("◑ APPROVED")
            assert [button["text"]["text"] for button in parent.buttons] == ["Promote to 5 %"]
            assert len(at.replies(parent)) == 1
            assert "approver: approved until" in at.replies(parent)[0]

    run(story())


def test_a_release_started_in_a_terminal_has_its_thread_where_the_app_had_its_last_one(ws):
    async def story() -> None:
        async with desk(ws) as at:
            ws.releases.start(APP, "v3", reason="before anybody spoke of the app", actor=login("rita"))
            await at.bot.worker.drain()
            assert at.channel == [], "nobody knows yet where"
            await at.type(BOTH, f"/release abort {APP} --reason not this one")
            started = ws.releases.start(APP, "v2", reason="better answers", actor=login("rita"))
            for _ in range(2):
                await at.bot.worker.drain()
            first, second = at.parents
            assert first.channel == second.channel == CHANNEL
            assert message_text(second).startswith("◔ READY")
            assert started.release_id in message_text(second)
            assert at.replies(second) == []
            await at.click(APPROVER, "Approve")
            assert ws.releases.get(started.release_id).state is State.APPROVED

    run(story())


def test_a_rollback_in_a_terminal_is_told_where_the_app_had_its_last_thread(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            await at.click(APPROVER, "Approve")
            while (release := ws.releases.get(RELEASE)).is_open:
                ws.releases.promote(RELEASE, early="no time", expected_version=release.version, actor=login("rita"))
            taken_back = ws.releases.rollback(APP, reason="wrong refunds", actor=login("chief"))
            await at.bot.worker.drain()
            assert len(at.parents) == 2
            assert taken_back.release_id in message_text(at.parents[-1])

    run(story())


def test_a_restarted_bot_edits_the_message_that_is_there(ws):
    async def story() -> None:
        async with FakeSlack([CHANNEL]) as slack:
            for line in (START, f"/release abort {APP} --reason not today"):
                async with desk(ws, slack=_Open(slack)) as at:
                    await at.type(REQUESTER, line)
            assert [message.n_edits for message in at.parents] == [1]
            assert message_text(at.parents[0]).startswith("✕ ABORTED")

    run(story())


class _Open:
    """A Slack that stays when a bot goes."""

    def __init__(self, slack: FakeSlack) -> None:
        self.slack = slack

    async def __aenter__(self) -> FakeSlack:
        return self.slack

    async def __aexit__(self, *_: object) -> None:
        return None


def test_nothing_is_posted_or_edited_again_when_nothing_changed(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            await at.click(APPROVER, "Approve")
            n = len(at.slack.events)
            for _ in range(3):
                await at.bot.worker.drain()
            assert len(at.slack.events) == n

    run(story())


def test_a_parent_that_somebody_deleted_is_posted_anew_with_what_it_said(ws):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            at.slack.delete(at.parents[0].ts)
            ws.releases.approve(RELEASE, actor=login("anna"))
            await at.bot.worker.drain()
            (parent,) = at.parents
            assert message_text(parent).startswith("◑ APPROVED")
            await at.click(REQUESTER, "Promote to 5 %")
            assert len(at.replies(parent)) == 1, "what came before the new parent is told by it"

    run(story())


@pytest.mark.parametrize("failure", [Failure(status=500, is_done=True), Failure(error="internal_error", is_done=True), Failure(status=500)])
def test_a_post_of_which_nobody_knows_is_repeated_later_and_says_so(ws, clock, failure):
    async def story() -> None:
        async with desk(ws) as at:
            at.slack.fail("chat.postMessage", *[failure] * 2)
            await at.type(REQUESTER, START)
            clock.forward(seconds=30)
            await at.bot.worker.drain()
            clock.forward(minutes=2)
            await at.bot.worker.drain()
            assert "Posted again" in _kept(at.slack)[-1]
            assert "is READY" in at.told(REQUESTER)
            await at.bot.worker.drain()
            assert sum("Posted again" in text for text in _kept(at.slack)) == 1
            await at.click(APPROVER, "Approve")

    run(story())
    assert acts(ws) == [("release.start", "requester"), ("release.ready", "requester"), ("release.approve", "approver")]


def test_a_busy_slack_is_waited_for_as_long_as_it_asks(ws):
    async def story() -> None:
        async with desk(ws) as at:
            at.slack.fail("chat.postMessage", Failure(error="ratelimited", status=429, retry_after_s=0))
            await at.type(REQUESTER, START)
            assert len(at.parents) == 1
            assert "Posted again" not in at.channel[0]

    run(story())


def test_an_answer_that_slack_did_not_take_is_told_later(ws, clock):
    async def story() -> None:
        async with desk(ws) as at:
            at.slack.fail("chat.postEphemeral", *[Failure(status=500)] * 2)
            await at.type(REQUESTER, f"/owner oncall {APP}")
            assert at.slack.messages == []
            assert not is_idle(ws)
            clock.forward(minutes=1)
            await at.bot.worker.drain()
            assert "tier 1 is night" in at.told(REQUESTER)
            assert is_idle(ws)

    run(story())


def test_an_answer_that_can_never_be_told_is_given_up(ws, clock, caplog):
    async def story() -> None:
        async with desk(ws) as at:
            at.slack.fail("chat.postEphemeral", *[Failure(status=500)] * 99)
            await at.type(REQUESTER, f"/owner oncall {APP}")
            for _ in range(12):
                clock.forward(minutes=2)
                await at.bot.worker.drain()
            assert is_idle(ws)

    run(story())
    assert "nobody was told" in caplog.text


def test_what_cannot_be_stored_is_not_done_and_the_asker_hears_so(ws, monkeypatch):
    def full(_self, _deliveries):
        raise StoreError("ledger", seen="the disk is full", next_step="free space")

    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            monkeypatch.setattr(Inbox, "put", full)
            response = await at.type(NIGHT, f"/rollback {APP} --reason bad")
            assert "the disk is full" in response.body
            assert "Nothing was done" in response.body
            await at.click(APPROVER, "Approve")
            assert "the disk is full" in at.told(APPROVER)

    run(story())
    assert ws.releases.get(RELEASE).state is State.READY


def test_an_unexpected_fault_is_told_by_its_number_and_stands_in_the_log(ws, monkeypatch, caplog):
    monkeypatch.setattr(Acts, "do", lambda *_, **__: 1 / 0)

    async def story() -> str:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            return at.told(REQUESTER)

    told = run(story())
    assert "ZeroDivisionError" not in told
    number = told.partition("look up ")[2].partition(" ")[0]
    assert f"fault {number}" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert is_idle(ws)


def test_a_fault_in_the_intake_is_told_by_its_number_too(ws, monkeypatch, caplog):
    monkeypatch.setattr(Inbox, "put", lambda *_: 1 / 0)
    logging.getLogger("slack_bolt").setLevel(logging.CRITICAL)

    async def story() -> str:
        async with desk(ws) as at:
            return (await at.type(REQUESTER, START)).body

    number = run(story()).partition("look up ")[2].partition(" ")[0]
    assert f"fault {number}" in caplog.text


def test_what_was_asked_for_while_the_bot_was_away_for_long_is_not_done_any_more(ws, clock):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            for user, minutes in ((APPROVER, 14), (BOTH, 16)):
                body = {**command_body(user, f"/release approve {APP}" if user == APPROVER else f"/release promote {APP}")}
                await at.bot.app.async_dispatch(AsyncBoltRequest(mode="socket_mode", body=json.dumps(body)))
                clock.forward(minutes=minutes)
                await at.bot.worker.drain()
            assert "is APPROVED" in at.told(APPROVER)
            assert "ask again if it is still wanted" in at.told(BOTH)

    run(story())
    assert ws.releases.get(RELEASE).state is State.APPROVED


def test_a_delivery_at_which_the_bot_died_again_and_again_is_given_up(ws, clock):
    ws.inbox.put([Delivery(key="poison", intent={"act": "owner.show", "arguments": {"app": APP}, "user": REQUESTER, "channel": CHANNEL})])
    for _ in range(8):
        ws.inbox.claim("dead", until=clock())

    async def story() -> None:
        async with desk(ws) as at:
            await at.bot.worker.drain()
            assert "given up, because the bot stopped 8 times" in at.told(REQUESTER)

    run(story())


def test_fifty_deliveries_at_once_are_all_stored_in_a_few_transactions(ws, monkeypatch):
    put, batches = Inbox.put, []

    def counted(self, deliveries):
        batches.append(len(deliveries))
        return put(self, deliveries)

    monkeypatch.setattr(Inbox, "put", counted)

    async def story() -> None:
        async with desk(ws) as at:
            bodies = [json.dumps(command_body(REQUESTER, f"/owner oncall {APP}")) for _ in range(50)]
            answers = await asyncio.gather(*(at.bot.app.async_dispatch(AsyncBoltRequest(mode="socket_mode", body=body)) for body in bodies))
            assert {answer.status for answer in answers} == {200}
            await at.bot.worker.drain()
            assert len(at.slack.messages) == 50

    run(story())
    assert sum(batches) == 50
    assert len(batches) < 25


def test_two_bots_on_one_workspace_do_each_thing_once(ws):
    async def story() -> None:
        async with FakeSlack([CHANNEL]) as slack, desk(ws, slack=_Open(slack)) as one, desk(ws, slack=_Open(slack)) as other:
            tasks = [asyncio.create_task(each.bot.worker.run()) for each in (one, other)]
            await _dispatched(one, START)
            await until(lambda: is_idle(ws))
            await asyncio.gather(
                *(_dispatched(each, f"/release abort {APP} --reason not today") for each in (one, other) for _ in range(5))
            )
            await until(lambda: is_idle(ws))
            for each in (one, other):
                each.bot.worker.stop()
            await asyncio.gather(*tasks)
            assert len(one.parents) == 1
            assert len(one.replies(one.parents[0])) == 1

    run(story())
    assert acts(ws) == [("release.start", "requester"), ("release.ready", "requester"), ("release.abort", "requester")]


async def _dispatched(at: Desk, line: str) -> None:
    await at.bot.app.async_dispatch(AsyncBoltRequest(mode="socket_mode", body=json.dumps(command_body(REQUESTER, line))))


def test_a_worker_that_is_stopped_finishes_what_is_at_hand(ws, monkeypatch):
    begun, do = asyncio.Event(), Acts.do

    def slow(self, ask, *, at):
        loop.call_soon_threadsafe(begun.set)
        import time

        time.sleep(0.3)
        return do(self, ask, at=at)

    monkeypatch.setattr(Acts, "do", slow)

    async def story() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        async with desk(ws) as at:
            task = asyncio.create_task(at.bot.worker.run())
            await _dispatched(at, START)
            await begun.wait()
            at.bot.worker.stop()
            await task
            assert "is READY" in at.told(REQUESTER)

    loop = None
    run(story())
    assert is_idle(ws)


def test_a_long_act_keeps_its_lease(ws, monkeypatch):
    monkeypatch.setattr(work, "LEASE", timedelta(seconds=0.3))
    renewed, renew = [], Inbox.renew

    def counted(self, claim, *, until):
        renewed.append(claim.key)
        renew(self, claim, until=until)

    monkeypatch.setattr(Inbox, "renew", counted)
    do = Acts.do

    def slow(self, ask, *, at):
        while len(renewed) < 3:
            pass
        return do(self, ask, at=at)

    monkeypatch.setattr(Acts, "do", slow)

    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, f"/owner oncall {APP}")
            assert "tier 1 is night" in at.told(REQUESTER)

    run(story())


def _broken(*_) -> None:
    raise ZeroDivisionError("a drawing")


@pytest.mark.parametrize("method", ["parent", "changes"])
def test_the_person_is_told_once_though_the_thread_cannot_be_drawn_and_it_is_given_up(ws, clock, monkeypatch, caplog, method):
    monkeypatch.setattr(Board, method, _broken)

    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            assert not is_idle(ws)
            for _ in range(work._MOST_ATTEMPTS):
                clock.forward(minutes=2)
                await at.bot.worker.drain()
            assert is_idle(ws)
            (told,) = at.slack.messages
            assert told.only_for == REQUESTER
            assert "is READY" in message_text(told)

    run(story())
    assert acts(ws) == [("release.start", "requester"), ("release.ready", "requester")]
    assert "release.start: given up" in caplog.text


def test_a_drawing_that_failed_once_is_posted_for_the_first_time(ws, clock, monkeypatch):
    async def story() -> None:
        async with desk(ws) as at:
            with monkeypatch.context() as broken:
                broken.setattr(Board, "parent", _broken)
                await at.type(REQUESTER, START)
            clock.forward(minutes=3)
            await at.bot.worker.drain()
            (posted,) = at.channel
            assert "Posted again" not in posted
            assert len([message for message in at.slack.messages if message.only_for]) == 1

    run(story())


def test_a_delivery_that_cannot_be_read_is_given_up(ws, clock, caplog):
    ws.inbox.put([Delivery(key="strange", intent={"act": "owner.show", "of": "another version"})])

    async def story() -> None:
        async with desk(ws) as at:
            for _ in range(work._MOST_ATTEMPTS):
                await at.bot.worker.drain()
                assert not ws.inbox.claim("nobody", until=clock())
                clock.forward(minutes=2)

    run(story())
    assert is_idle(ws)
    assert "owner.show: given up" in caplog.text


def test_a_thread_that_was_quiet_for_weeks_is_looked_after_until_long_after_its_end(ws, clock):
    async def story() -> None:
        async with desk(ws) as at:
            await at.type(REQUESTER, START)
            clock.forward(days=20)
            ws.releases.abort(RELEASE, reason="too old", actor=login("anna"))
            clock.forward(days=6)
            await at.bot.worker.drain()
            assert message_text(at.parents[0]).startswith("✕ ABORTED")
            n = len(at.slack.calls)
            at.slack.delete(at.parents[0].ts)
            clock.forward(days=2)
            await at.bot.worker.drain()
            assert len(at.slack.calls) == n

    run(story())


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
@pytest.mark.parametrize("how", [{"secret": "0" * 32}, {"age_s": 600}])
def test_a_request_that_slack_did_not_sign_just_now_leaves_nothing_of_itself_in_the_log(ws, caplog, level, how):
    caplog.set_level(level)
    body = form(command_body(REQUESTER, "/release start shop v2 --reason for ada@example.org", token="legacy-token"))

    async def story() -> int:
        async with desk(ws) as at:
            return (await at.bot.app.async_dispatch(AsyncBoltRequest(body=body, headers=signed(body, **how)))).status

    assert run(story()) == 401
    assert "legacy-token" not in caplog.text
    assert "ada" not in caplog.text
