"""Over HTTP: only what Slack signed not long ago is listened to, and a bot that is killed anywhere loses nothing and does nothing twice."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import aiohttp
import pytest

from bot.fake_slack import FakeSlack, message_text
from tests.bot.office import (
    APPROVER,
    CHANNEL,
    REQUESTER,
    SECRET,
    acts,
    audit,
    click_body,
    command_body,
    form,
    http,
    is_idle,
    office,
    run,
    signed,
    until,
)
from tests.bot.process import PLACES
from tests.forks import Forked
from tests.release.house import APP
from workbench.release.model import State
from workbench.workspace import utc_now

ROOT = Path(__file__).resolve().parents[2]
START = f"/release start {APP} v2 --reason better answers"


class Process:
    """A bot in its own process."""

    def __init__(self, home: Path, slack: FakeSlack, place: str = "") -> None:
        self._command = [sys.executable, "-m", "tests.bot.process", str(home), slack.base_url, place]
        self.url = ""

    async def __aenter__(self):
        with mock.patch.object(subprocess, "Popen", Forked):  # which asyncio calls
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        self.url = await self.line()
        assert self.url.startswith("http"), (await self._process.stderr.read()).decode()
        return self

    async def __aexit__(self, *_):
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        _, self.log = await self._process.communicate()
        assert b"Traceback" not in self.log, self.log.decode()

    async def line(self) -> str:
        return (await self._process.stdout.readline()).decode().strip()

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    @property
    def code(self) -> int | None:
        return self._process.returncode


async def _post(session: aiohttp.ClientSession, url: str, body: dict, **how) -> tuple[int, str]:
    text = form(body)
    async with session.post(url, data=text, headers=signed(text, **how)) as response:
        return response.status, await response.text()


@pytest.fixture
def home(tmp_path) -> Path:
    place = tmp_path / "home"
    with office(place, clock=utc_now):
        pass
    return place


@pytest.mark.slow
def test_only_what_slack_signed_not_long_ago_is_listened_to(home):
    async def story() -> None:
        async with FakeSlack([CHANNEL]) as slack, Process(home, slack) as bot, http() as session:
            body = command_body(REQUESTER, f"/owner oncall {APP}")
            text = form(body)
            good = signed(text)
            refused = {
                "another secret": signed(text, secret="0" * 32),
                "ten minutes ago": signed(text, age_s=600),
                "in ten minutes": signed(text, age_s=-600),
                "another body": signed(text + "x"),
                "no signature": {name: value for name, value in good.items() if name != "X-Slack-Signature"},
                "no time": {name: value for name, value in good.items() if name != "X-Slack-Request-Timestamp"},
                "nothing": {"Content-Type": good["Content-Type"]},
                "time of another moment": {**good, "X-Slack-Request-Timestamp": str(int(time.time()) - 5)},
            }
            for why, headers in refused.items():
                async with session.post(bot.url, data=text, headers=headers) as response:
                    assert response.status == 401, why
            assert slack.calls == []
            async with session.post(bot.url, data=text, headers={**good, "X-Slack-Retry-Num": "1"}) as response:
                assert (response.status, await response.text()) == (200, "")
            await until(lambda: slack.messages)
            origin = bot.url.removesuffix("/slack/events")
            async with session.get(f"{origin}/healthz") as response:
                assert response.status == 200
            for method, path, status in (("GET", "/slack/events", 405), ("POST", "/", 404), ("GET", "/nothing", 404)):
                async with session.request(method, origin + path) as response:
                    assert response.status == status
            async with session.post(bot.url, data=io.BytesIO(b"x" * 2_000_000), headers=good) as response:
                assert response.status == 413
            assert len(slack.messages) == 1
        assert bot.code == 0
        assert SECRET.encode() not in bot.log
        assert b"xoxb" not in bot.log

    run(story())


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_bot_that_is_killed_anywhere_goes_on_where_it_was_and_does_nothing_twice(home, place):
    async def story() -> None:
        async with FakeSlack([CHANNEL]) as slack, http() as session:
            async with Process(home, slack, place) as bot:
                assert await _post(session, bot.url, command_body(REQUESTER, START)) == (
                    200,
                    "The readiness review runs; its verdict comes here.",
                )
                assert await bot.line() == "here"
                await bot.kill()
            n_told = 2 if place == "after the telling" else 1  # telling twice is better than not telling
            async with Process(home, slack):
                await until(lambda: len(_told(slack)) == n_told)
            assert all("is READY" in text for text in _told(slack))
            assert len([message for message in slack.messages if not message.only_for and not message.thread]) == 1

    run(story())
    with office(home, clock=utc_now) as ws:
        assert acts(ws) == [("release.start", "requester"), ("release.ready", "requester")]
        assert is_idle(ws)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        f"/release promote {APP} --early no time",
        f"/release hold {APP} --reason odd",
        f"/release abort {APP} --reason odd",
        f"/rollback {APP} --reason wrong refunds",
        f"/release lock {APP} --reason mine",
        f"/owner override {APP} approver --until 4h --reason swap",
    ],
)
def test_an_act_that_was_done_when_the_bot_was_killed_is_not_done_again(home, line):
    with office(home, clock=utc_now) as ws:
        release = ws.releases.start(APP, "v2", reason="better", actor=ws.ownership.actor_of_slack_id(REQUESTER))
        ws.releases.approve(release.release_id, actor=ws.ownership.actor_of_slack_id(APPROVER))
        before = ws.releases.promote(release.release_id, actor=ws.ownership.actor_of_slack_id(REQUESTER))
        n = len(audit(ws))

    async def story() -> None:
        async with FakeSlack([CHANNEL]) as slack, http() as session:
            async with Process(home, slack, "after the act") as bot:
                await _post(session, bot.url, command_body(REQUESTER, line))
                assert await bot.line() == "here"
                await bot.kill()
            async with Process(home, slack):
                await until(lambda: [message for message in slack.messages if message.only_for == REQUESTER])
                assert [message for message in slack.messages if not message.only_for], "the channel is told as well"

    run(story())
    with office(home, clock=utc_now) as ws:
        assert len(audit(ws)) == n + 1, [entry.act for entry in audit(ws)]
        changed = ws.releases.get(before.release_id)
        is_on_release = line.split()[1] in ("promote", "hold", "abort") or line.startswith("/rollback")
        assert changed.version == before.version + is_on_release


@pytest.mark.slow
def test_deliveries_that_are_repeated_across_a_kill_are_done_once(home):
    async def story() -> None:
        async with FakeSlack([CHANNEL]) as slack, http() as session:
            body = command_body(REQUESTER, START)
            async with Process(home, slack, "in the review") as bot:
                for _ in range(3):
                    assert (await _post(session, bot.url, body))[0] == 200
                assert await bot.line() == "here"
                await bot.kill()
            async with Process(home, slack) as bot:
                for _ in range(3):
                    assert (await _post(session, bot.url, body))[0] == 200
                await until(lambda: any(message.buttons for message in slack.messages))
                message = next(message for message in slack.messages if message.buttons)
                click = click_body(APPROVER, message, dict(message.buttons[0]))
                for _ in range(3):
                    assert (await _post(session, bot.url, click))[0] == 200
                await until(lambda: any(message.only_for == APPROVER for message in slack.messages))

    run(story())
    with office(home, clock=utc_now) as ws:
        assert acts(ws) == [("release.start", "requester"), ("release.ready", "requester"), ("release.approve", "approver")]
        assert ws.releases.get(f"{APP}.2").state is State.APPROVED


def _told(slack: FakeSlack) -> list[str]:
    """What the requester alone sees."""
    return [message_text(message) for message in slack.messages if message.only_for == REQUESTER]
