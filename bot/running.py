"""The bot as a whole: put together from a workspace and a Slack client, and run over HTTP or Socket Mode until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.acts import Acts
from bot.app import Desk, House, build_app
from bot.board import Board
from bot.buttons import Seal
from bot.chat import Chat, ChatRefused, client_for
from bot.intake import Intake
from bot.manifest import EVENTS_PATH
from bot.pool import Pool
from bot.threads import Threads
from bot.work import Speaker, Worker
from workbench.errors import UsageError
from workbench.ownership.model import Actor
from workbench.workspace import Workspace

log = logging.getLogger(__name__)
LANES = 4
_STOP_S = 20.0
"""How long the work at hand may take after the bot was told to stop; what is not done then is done after the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """The parts that run."""

    app: AsyncApp
    worker: Worker


@asynccontextmanager
async def assembled(ws: Workspace, house: House, client: AsyncWebClient, *, actor_of: Callable[[str], Actor]) -> AsyncIterator[Bot]:
    """The bot of a workspace, ready to take deliveries; its threads end with the block.

    Args:
        ws: the workspace.
        house: the Slack workspace.
        client: the Web API, with the bot's token.
        actor_of: who has a Slack id.
    """
    seal, chat, pool = Seal(ws.button_key), Chat(client), Pool(LANES + 2, name="work")
    board = Board(ws, seal)
    acts = Acts(ws, board, actor_of=actor_of)
    threads = Threads(chat, board, ws.messages, pool)
    worker = Worker(ws.inbox, acts, Speaker(chat=chat, threads=threads), pool, clock=ws.clock, lanes=LANES)
    intake = Intake(ws.inbox, on_new=worker.wake)
    try:
        desk = Desk(intake=intake, chat=chat, seal=seal, clean=lambda text: ws.redactor.text(text, None))
        yield Bot(app=build_app(house, desk, AsyncWebClient(base_url=client.base_url)), worker=worker)
    finally:
        intake.close()
        pool.close()


async def house_of(client: AsyncWebClient, *, signing_secret: str = "") -> House:
    """The Slack workspace that the client's token is for.

    Raises:
        UsageError: Slack does not take the token.
        ChatDown: Slack does not answer.
    """
    try:
        team = await Chat(client).team()
    except ChatRefused as refusal:
        raise UsageError(
            "SLACK_BOT_TOKEN", seen=f'Slack answered "{refusal.code}"', needed="the bot's token, xoxb-…", next_step="install the app again"
        ) from refusal
    return House(team=team, token=client.token or "", signing_secret=signing_secret)


async def serve_http(bot: Bot, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Takes signed requests over HTTP until SIGINT or SIGTERM.

    Args:
        bot: the bot.
        host: where it listens.
        port: the same; 0 for any that is free.
        on_ready: told the address when it listens.

    Raises:
        UsageError: the address cannot be had.
    """
    site = bot.app.web_app(path=EVENTS_PATH)
    site.router.add_get("/healthz", _healthz)
    site.middlewares.append(_log_refusals)
    runner = web.AppRunner(site, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            seen = error.strerror or str(error)
            raise UsageError(f"address {host}:{port}", seen=seen, next_step="name another with --host and --port") from error
        bound = runner.addresses[0]
        async with _working(bot.worker) as stopped:
            on_ready(f"http://{bound[0]}:{bound[1]}{EVENTS_PATH}")
            await stopped.wait()
            await runner.cleanup()  # takes nothing new while the work at hand is finished
    finally:
        await runner.cleanup()


async def serve_socket(bot: Bot, *, app_token: str, on_ready: Callable[[str], None]) -> None:
    """Takes requests over Socket Mode until SIGINT or SIGTERM.

    Args:
        bot: the bot.
        app_token: the app-level token, `xapp-…`.
        on_ready: told when the connection stands.

    Raises:
        UsageError: Slack does not take the token.
        ChatDown: Slack does not answer.
    """
    try:
        await Chat(client_for(app_token, base_url=bot.app.client.base_url)).try_socket()
    except ChatRefused as refusal:
        needed = "an app-level token, xapp-…, with the scope connections:write"
        raise UsageError("SLACK_APP_TOKEN", seen=f'Slack answered "{refusal.code}"', needed=needed) from refusal
    handler = AsyncSocketModeHandler(bot.app, app_token)
    try:
        await handler.connect_async()  # type: ignore[no-untyped-call]
        async with _working(bot.worker) as stopped:
            on_ready("Socket Mode")
            await stopped.wait()
            await handler.disconnect_async()  # type: ignore[no-untyped-call]
    finally:
        await handler.close_async()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def _working(worker: Worker) -> AsyncIterator[asyncio.Event]:
    """The worker at work; the event that is set when the process is told to stop. What is at hand is finished before the block ends."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    work = asyncio.create_task(worker.run())
    work.add_done_callback(lambda _: stopped.set())
    try:
        yield stopped
    finally:
        worker.stop()
        _, late = await asyncio.wait({work}, timeout=_STOP_S)
        if late:
            log.warning("work at hand was not done in %d s; it goes on after the next start", _STOP_S)
            work.cancel()
            await asyncio.wait({work})
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)
    if not work.cancelled():
        work.result()


@web.middleware
async def _log_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Logs that a request was not taken, and nothing of what it says: it may hold tokens and personal data."""
    response = await handler(request)
    if response.status == web.HTTPUnauthorized.status_code:
        log.warning("a request was refused: Slack did not sign it, or not just now")
    elif response.status >= web.HTTPBadRequest.status_code:
        log.warning("a request was not taken: status %d", response.status)
    return response


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok")
