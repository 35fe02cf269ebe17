"""The Bolt app: what Slack sends is stored, then acknowledged. Everything else happens elsewhere."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.response import BoltResponse
from slack_sdk.web.async_client import AsyncWebClient

from bot import deliveries
from bot.asks import Outcome, Said
from bot.buttons import Seal
from bot.chat import Chat, ChatDown, ChatRefused, content
from bot.commands import COMMANDS, Command, help_text
from bot.intake import Intake
from workbench.errors import WorkbenchError
from workbench.views.cards import literal_card

log = logging.getLogger(__name__)
_ANY_BUTTON = re.compile(r"^[a-z]+(\.[a-z]+)?$")
_NOTHING_DONE = "Nothing was done."

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The Slack workspace that the bot lives in."""

    team: str
    """Its id; people of any other are refused."""
    token: str
    """The bot's own."""
    signing_secret: str = ""
    """Of requests over HTTP; Socket Mode needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the listeners need to take a delivery in."""

    intake: Intake
    """Where deliveries go."""
    chat: Chat
    """How a person is told that a click went wrong."""
    seal: Seal
    """What the bot's buttons are known by."""
    clean: Callable[[str], str]
    """Takes personal data and secrets out of somebody's words."""


def build_app(house: House, desk: Desk, client: AsyncWebClient) -> AsyncApp:
    """The app with its listeners.

    Args:
        house: where it lives.
        desk: what its listeners need.
        client: the Web API, as far as Bolt itself speaks.
    """

    async def authorize() -> AuthorizeResult:
        return AuthorizeResult(enterprise_id=None, team_id=house.team, bot_token=house.token)

    quiet = logging.getLogger("bot.bolt")
    quiet.setLevel(logging.ERROR)  # below that Bolt logs whole bodies, also of requests that nobody signed
    app = AsyncApp(client=client, signing_secret=house.signing_secret, authorize=authorize, name="workbench-bot", logger=quiet)
    for command in COMMANDS:
        app.command(f"/{command.name}")(_command_listener(command, house, desk))
    app.action(_ANY_BUTTON)(_click_listener(house, desk))
    app.error(_on_fault)
    return app


def _command_listener(command: Command, house: House, desk: Desk) -> Callable[..., Awaitable[None]]:
    while_working = {command.act(verb): verb.while_working for verb in command.verbs}

    async def on_command(ack: AsyncAck, body: Body) -> None:
        try:
            delivery = deliveries.of_command(body, command, team=house.team, clean=desk.clean)
            if delivery is None:
                await _answer(ack, Said(text=f"How to use /{command.name}", blocks=literal_card(help_text(command))))
                return
            receipt = await desk.intake.put(delivery)
        except WorkbenchError as error:
            await _answer(ack, Said(text=f"{error}\n{_NOTHING_DONE}"))
            return
        log.info("%s by %s, %s", delivery.intent["act"], delivery.intent["user"], "new" if receipt.is_new else "repeated")
        if receipt.outcome is not None:
            await _answer(ack, Outcome.from_json(receipt.outcome).told)
            return
        await ack(while_working[delivery.intent["act"]])

    return on_command


def _click_listener(house: House, desk: Desk) -> Callable[..., Awaitable[None]]:
    async def on_click(ack: AsyncAck, body: Body) -> None:
        said = None
        try:
            delivery = deliveries.of_click(body, desk.seal, team=house.team)
            receipt = await desk.intake.put(delivery)
            log.info("%s by %s, %s", delivery.intent["act"], delivery.intent["user"], "new" if receipt.is_new else "repeated")
            said = Outcome.from_json(receipt.outcome).told if receipt.outcome else None
        except WorkbenchError as error:
            said = Said(text=f"{error}\n{_NOTHING_DONE}")
        await ack()
        if said is not None:
            await _tell(desk.chat, body, said)

    return on_click


async def _answer(ack: AsyncAck, said: Said) -> None:
    """Acknowledges a command with words that only its author sees."""
    await ack(**content(said), response_type="ephemeral")


async def _tell(chat: Chat, body: Body, said: Said) -> None:
    """Tells whoever pressed a button; Slack shows nothing of what a click is acknowledged with."""
    user, channel = (body.get("user") or {}).get("id"), (body.get("container") or {}).get("channel_id")
    if not user or not channel:
        return
    try:
        await chat.tell(user, channel, said)
    except (ChatRefused, ChatDown) as error:
        log.warning("%s: %s could not be told: %s", error, user, said.text)


async def _on_fault(error: Exception) -> BoltResponse:
    """The error gate: the person gets an id, the log the rest."""
    fault = secrets.token_hex(4)
    log.error("fault %s", fault, exc_info=error)
    return BoltResponse(status=200, body={"response_type": "ephemeral", "text": f"An unexpected fault; look up {fault} in the bot's log."})
