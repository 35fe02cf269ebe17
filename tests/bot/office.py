"""A small company that works from Slack: real workspace, real bot, reviews that say what they are told, and Slack played in process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web.async_client import AsyncWebClient
from sqlalchemy import select

from bot.app import House
from bot.blockkit import faults
from bot.chat import client_for
from bot.fake_slack import TEAM, FakeSlack, Message, message_text
from bot.running import Bot, assembled
from tests.release import house
from tests.release.house import APP, Clock, Units, login
from workbench.errors import UnknownSubject
from workbench.ledger.audit import REVIEW_ACT, AuditEntry, tail
from workbench.ledger.tables import inbox
from workbench.readiness.model import Review
from workbench.settings import Settings
from workbench.workspace import Workspace

T = TypeVar("T")
CHANNEL = "C1"
TOKEN = "xoxb-test"
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
REQUESTER, APPROVER, BOTH, NIGHT, STRANGER = "U1", "U2", "U3", "U4", "U9"
PEOPLE = {
    **house.PEOPLE,
    "night": {"slack": [NIGHT], "contact": "pager", "roles": {}},
    "approver": {"os": ["anna"], "slack": [APPROVER, "U22"], "contact": "pager", "roles": {APP: ["approver"]}},
}
SPECS = {**house.SPECS, "people": {"people": PEOPLE}, "plan": {**house.PLAN, "freeze": []}}
_numbers = count(1)


class Reviewer(house.Reviewer):
    """Remembers its reviews, so that they can be looked at."""

    def review(self, app, bundle=None, *, baseline=None, actor=None) -> Review:
        made = super().review(app, bundle, baseline=baseline, actor=actor)
        _reviews[made.review_id] = made
        return made

    def get(self, review_id: str) -> Review:
        return _reviews[review_id]


_reviews: dict[str, Review] = {}


class Metrics:
    """A log in which candidates have served as many units as it is told."""

    def __init__(self) -> None:
        self.units = Units(n=1000)

    def candidate_units(self, app: str, release_id: str, *, arm: str = "candidate") -> int:
        del arm
        return self.units(app, release_id)

    def has_rows(self, app: str) -> bool:  # noqa: ARG002
        return False


@contextmanager
def office(home: Path, *, clock: Callable[[], datetime] | None = None) -> Iterator[Workspace]:
    """The company's workspace; founded the first time. `readiness` and `metrics` are stand-ins, all else is real."""
    home.mkdir(exist_ok=True)
    with Workspace(Settings(home=home), clock=clock or Clock(), via="slack") as ws:
        ws.__dict__["readiness"] = Reviewer(ws.ledger, ws.versions, ws.clock)
        ws.__dict__["metrics"] = Metrics()
        if not ws.versions.apps():
            _found(ws, home / "shop")
        yield ws


def _found(ws: Workspace, folder: Path) -> None:
    declare(ws, **SPECS)
    for name in ("v1", "v2", "v3"):
        place = folder / "bundles" / name
        spec = {"app": APP, "name": name, "model": {"provider": "local", "name": "m", "version": "1"}, "prompts": {"system": "p.md"}}
        house._write(place / "bundle.yaml", spec)
        (place / "p.md").write_text(f"Answer as {name}.\n", encoding="utf-8")
        ws.versions.register(place, actor=login("chief"))
    ws.releases.adopt(APP, "v1", reason="serves today", actor=login("chief"))


def declare(ws: Workspace, **specs: object) -> None:
    """Declares these files anew."""
    for kind, content in specs.items():
        house._write(ws.home / "shop" / f"{kind}.yaml", content)
    ws.versions.declare(ws.home / "shop", actor=login("chief"))


def run(work: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result; it fails when anything goes on for longer than a minute."""
    return asyncio.run(asyncio.wait_for(work, 60))


class Desk:
    """Sends what Slack would send, and reads what people see."""

    def __init__(self, ws: Workspace, slack: FakeSlack, bot: Bot) -> None:
        self.ws = ws
        self.slack = slack
        self.bot = bot
        self.last: dict[str, Any] = {}
        self.times = 1
        """How often each delivery arrives."""

    async def type(self, user: str, line: str, /, **changes: Any) -> BoltResponse:
        """The answer to a slash command, after everything that it caused is done."""
        return await self.deliver(command_body(user, line, **changes))

    async def click(self, user: str, label: str, /, **changes: Any) -> BoltResponse:
        """Presses the newest button of this label."""
        message, button = self.button(label)
        return await self.deliver(click_body(user, message, button, **changes))

    def button(self, label: str) -> tuple[Message, dict[str, Any]]:
        for message in reversed(self.slack.messages):
            for button in message.buttons:
                if button["text"]["text"].startswith(label):
                    return message, dict(button)
        raise UnknownSubject(f"button {label}", seen="nobody sees it")

    async def deliver(self, body: dict[str, Any]) -> BoltResponse:
        self.last = body
        for _ in range(self.times):
            response = await self.bot.app.async_dispatch(AsyncBoltRequest(mode="socket_mode", body=json.dumps(body)))
            await self.bot.worker.drain()
        return response

    def told(self, user: str) -> str:
        """What the person was told last, for their eyes only."""
        return message_text(next(message for message in reversed(self.slack.messages) if message.only_for == user))

    @property
    def channel(self) -> list[str]:
        """What everybody sees in the channel now, replies included."""
        return [message_text(message) for message in self.slack.messages if message.channel == CHANNEL and not message.only_for]

    @property
    def parents(self) -> list[Message]:
        return [message for message in self.slack.messages if message.channel == CHANNEL and not message.only_for and not message.thread]

    def replies(self, parent: Message) -> list[str]:
        return [message_text(message) for message in self.slack.messages if message.thread == parent.ts]


@asynccontextmanager
async def desk(ws: Workspace, *, slack: FakeSlack | None = None, client: AsyncWebClient | None = None) -> AsyncIterator[Desk]:
    """The bot of the workspace, with Slack around it."""
    async with slack or FakeSlack([CHANNEL]) as around:
        talks = client or client_for(TOKEN, base_url=around.base_url)
        home = House(team=TEAM, token=TOKEN, signing_secret=SECRET)
        async with assembled(ws, home, talks, actor_of=ws.ownership.actor_of_slack_id) as bot:
            yield Desk(ws, around, bot)
        for message in around.events:
            assert faults(message.blocks) == []


def command_body(user: str, line: str, /, **changes: Any) -> dict[str, Any]:
    """A slash command as Slack sends it; the line is written as Slack writes it, with entities and mentions."""
    name, _, text = line.partition(" ")
    body = {
        "command": name,
        "text": text,
        "user_id": user,
        "team_id": TEAM,
        "channel_id": CHANNEL,
        "trigger_id": f"13345224609.{next(_numbers)}",
        "api_app_id": "A1",
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


def click_body(user: str, message: Message, button: dict[str, Any], /, **changes: Any) -> dict[str, Any]:
    """A pressed button as Slack sends it."""
    body = {
        "type": "block_actions",
        "user": {"id": user, "team_id": TEAM},
        "team": {"id": TEAM},
        "container": {"type": "message", "message_ts": message.ts, "channel_id": message.channel},
        "actions": [{**button, "action_ts": f"1700000000.{next(_numbers)}"}],
    }
    return body | changes


def audit(ws: Workspace) -> tuple[AuditEntry, ...]:
    """What happened after the company was founded."""
    with ws.ledger.read() as connection:
        entries = tail(connection, 1000)
    founded = next(entry.seq for entry in entries if entry.act == "release.adopt")
    return tuple(entry for entry in entries if entry.seq > founded and entry.act != REVIEW_ACT)


def acts(ws: Workspace) -> list[tuple[str, str]]:
    """Who did what, refusals left out."""
    return [(entry.act, entry.actor) for entry in audit(ws) if entry.act != "release.refused"]


def is_idle(ws: Workspace) -> bool:
    """Whether every delivery is done."""
    with ws.ledger.read() as connection:
        return not connection.execute(select(inbox).where(inbox.c.state != "done")).all()


@asynccontextmanager
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the bot's own server."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


def signed(body: str, *, secret: str = SECRET, age_s: float = 0) -> dict[str, str]:
    """The headers with which Slack sends this body."""
    stamp = str(int(time.time() - age_s))
    signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body)
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": signature,
    }


def form(body: dict[str, Any]) -> str:
    """A command or a click as Slack writes it over HTTP."""
    return urlencode(body) if "command" in body else urlencode({"payload": json.dumps(body)})


async def until(is_so: Callable[[], Any]) -> None:
    """Returns when it is so; the other side rings no bell."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
