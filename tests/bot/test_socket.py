"""Over Socket Mode: a real websocket to a Slack that is played; repeated envelopes, and a connection that Slack ends in mid-work."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from bot.fake_slack import FakeSlack
from bot.running import serve_socket
from tests.bot.office import APPROVER, CHANNEL, REQUESTER, Desk, acts, click_body, command_body, desk, run, until
from tests.release.house import APP
from workbench.errors import UsageError

START = f"/release start {APP} v2 --reason better answers"
APP_TOKEN = "xapp-test"


class SocketSlack(FakeSlack):
    """Slack with its websockets."""

    def __init__(self) -> None:
        self.connections: list[web.WebSocketResponse] = []
        self.acknowledged: dict[str, Any] = {}
        self._envelopes = count(1)
        super().__init__([CHANNEL])

    def web_app(self) -> web.Application:
        app = super().web_app()
        app.router.add_get("/link", self._link)
        return app

    def answer(self, method, arguments, request) -> dict[str, Any]:
        if method != "apps.connections.open":
            return super().answer(method, arguments, request)
        if request.headers["Authorization"] != f"Bearer {APP_TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        return {"ok": True, "url": f"{self.origin.replace('http', 'ws')}/link"}

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections.append(socket)
        await socket.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}})
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                reply = json.loads(message.data)
                self.acknowledged[reply["envelope_id"]] = reply.get("payload")
        return socket

    async def send(self, body: dict[str, Any], *, kind: str = "slash_commands") -> Any:
        """Delivers an envelope over the newest connection; what it is acknowledged with."""
        name = f"e{next(self._envelopes)}"
        await until(lambda: self.connections and not self.connections[-1].closed)
        await self.connections[-1].send_json({"type": kind, "envelope_id": name, "payload": body, "accepts_response_payload": True})
        await until(lambda: name in self.acknowledged)
        return self.acknowledged[name]


@asynccontextmanager
async def connected(ws, slack: SocketSlack) -> AsyncIterator[Desk]:
    """The bot, connected to the socket of this Slack."""
    async with desk(ws, slack=slack) as at:
        ready = asyncio.Event()
        task = asyncio.create_task(serve_socket(at.bot, app_token=APP_TOKEN, on_ready=lambda _: ready.set()))
        await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        yield at
        os.kill(os.getpid(), signal.SIGTERM)
        await task


@pytest.mark.slow
def test_a_release_over_a_socket_with_every_envelope_twice_and_a_connection_that_ends(ws):
    async def story() -> None:
        slack = SocketSlack()
        async with connected(ws, slack) as at:
            body = command_body(REQUESTER, START)
            assert await slack.send(body) == {"text": "The readiness review runs; its verdict comes here."}
            await slack.connections[-1].send_json({"type": "disconnect", "reason": "refresh_requested"})
            await until(lambda: len(slack.connections) > 1)
            await slack.send(body)
            await until(lambda: at.parents)
            click = click_body(APPROVER, *at.button("Approve"))
            for _ in range(2):
                assert await slack.send(click, kind="interactive") is None
            await until(lambda: any(message.only_for == APPROVER for message in slack.messages))
            answer = await slack.send(command_body(REQUESTER, "/release aprove shop"))
            assert 'did you mean "approve"' in answer["text"]

    run(story())
    assert acts(ws) == [("release.start", "requester"), ("release.ready", "requester"), ("release.approve", "approver")]


def test_an_app_token_that_slack_does_not_take_is_said_clearly(ws):
    async def story() -> None:
        async with desk(ws, slack=SocketSlack()) as at:
            await serve_socket(at.bot, app_token="xapp-other", on_ready=lambda _: None)

    with pytest.raises(UsageError, match='SLACK_APP_TOKEN: Slack answered "invalid_auth"'):
        run(story())
