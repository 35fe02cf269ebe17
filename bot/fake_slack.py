"""Slack's Web API, played in process on loopback: channels, threads, messages for one person alone, and direct messages.

It serves the console and the tests. It is as strict as Slack where the bot could break a rule, and it can be told to fail.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from aiohttp import web

from bot.blockkit import faults

TEAM = "T000DEMO"
BOT_USER = "U000BOT"
_BOLD_LINE = re.compile(r"^\*(.*)\*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as it stands now."""

    channel: str
    """A channel, or the user id whose direct messages it is in."""
    ts: str
    text: str
    blocks: tuple[Mapping[str, Any], ...] = ()
    thread: str | None = None
    """The `ts` of the message that it answers."""
    is_broadcast: bool = False
    """Whether a reply shows in the channel too."""
    only_for: str | None = None
    """The only user who sees it."""
    n_edits: int = 0

    @property
    def buttons(self) -> tuple[Mapping[str, Any], ...]:
        """The buttons on it, in their order."""
        return tuple(element for block in self.blocks if block["type"] == "actions" for element in block["elements"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How the next call of a method goes wrong."""

    error: str = ""
    """Slack's word; empty for a failure below its API."""
    status: int = 200
    retry_after_s: int | None = None
    is_done: bool = False
    """Whether the call took effect although its answer is an error."""


class FakeSlack:
    """One Slack workspace, as long as the `async with` block lasts.

    Args:
        channels: ids of the channels that the bot is in; users are reachable directly in any case.
    """

    def __init__(self, channels: Sequence[str] = ("C000RELEASES",)) -> None:
        self.channels = set(channels)
        self.messages: list[Message] = []
        """Everything that was posted, in order, as it stands after edits."""
        self.events: list[Message] = []
        """Every post and edit, in order, as it stood then."""
        self.calls: list[str] = []
        """The methods that were called, in order."""
        self._failures: dict[str, deque[Failure]] = defaultdict(deque)
        self._first_second = int(time.time())  # so that a later Slack has no message of the same `ts`
        self._n = 0
        self._runner = web.AppRunner(self.web_app(), access_log=None)

    def web_app(self) -> web.Application:
        """The server's routes."""
        app = web.Application()
        app.router.add_route("*", "/api/{method}", self._handle)
        return app

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:<port>`."""
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """Where a client finds the API."""
        return f"{self.origin}/api/"

    def fail(self, method: str, *failures: Failure) -> None:
        """Lets the next calls of a method go wrong, in this order."""
        self._failures[method].extend(failures)

    def find(self, ts: str) -> Message | None:
        """The message as it stands now; None when it was never there or was deleted."""
        return next((message for message in self.messages if message.ts == ts), None)

    def delete(self, ts: str) -> None:
        """Deletes a message, as a person could."""
        self.messages = [message for message in self.messages if message.ts != ts]

    async def _handle(self, request: web.Request) -> web.Response:
        method, arguments = request.match_info["method"], await _arguments(request)
        self.calls.append(method)
        failure = self._failures[method].popleft() if self._failures[method] else None
        if failure and not failure.is_done:
            return _failed(failure)
        answer = self.answer(method, arguments, request)
        return _failed(failure) if failure else web.json_response(answer)

    def answer(self, method: str, arguments: Mapping[str, Any], request: web.Request) -> dict[str, Any]:
        """What the method answers; tests add methods here."""
        if not request.headers.get("Authorization", "").startswith("Bearer xoxb-"):
            return {"ok": False, "error": "invalid_auth"}
        match method:
            case "auth.test":
                return {"ok": True, "team_id": TEAM, "user_id": BOT_USER, "bot_id": "B000BOT"}
            case "chat.postMessage" | "chat.postEphemeral":
                return self._post(arguments, is_ephemeral=method == "chat.postEphemeral")
            case "chat.update":
                return self._update(arguments)
        return {"ok": False, "error": "unknown_method"}

    def _post(self, arguments: Mapping[str, Any], *, is_ephemeral: bool) -> dict[str, Any]:
        channel = arguments.get("channel", "")
        error = self._objection(arguments)
        if channel not in self.channels and (is_ephemeral or not channel.startswith("U")):
            error = "channel_not_found"
        if arguments.get("thread_ts") and self.find(arguments["thread_ts"]) is None:
            error = "thread_not_found"
        if error:
            return {"ok": False, "error": error}
        self._n += 1
        message = Message(
            channel=channel,
            ts=f"{self._first_second + self._n}.{self._n:06}",
            text=arguments["text"],
            blocks=tuple(arguments.get("blocks", ())),
            thread=arguments.get("thread_ts"),
            is_broadcast=bool(arguments.get("reply_broadcast")),
            only_for=arguments["user"] if is_ephemeral else None,
        )
        self.messages.append(message)
        self.events.append(message)
        return {"ok": True, "message_ts" if is_ephemeral else "ts": message.ts, "channel": channel}

    def _update(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        message = self.find(arguments.get("ts", ""))
        if message is None or message.channel != arguments.get("channel") or message.only_for:
            return {"ok": False, "error": "message_not_found"}
        error = self._objection(arguments)
        if error:
            return {"ok": False, "error": error}
        edited = replace(message, text=arguments["text"], blocks=tuple(arguments.get("blocks", ())), n_edits=message.n_edits + 1)
        self.messages[self.messages.index(message)] = edited
        self.events.append(edited)
        return {"ok": True, "ts": message.ts, "channel": message.channel}

    @staticmethod
    def _objection(arguments: Mapping[str, Any]) -> str:
        """Slack's word for what is wrong with a message; stricter than Slack in that every message needs a text."""
        if not arguments.get("text"):
            return "no_text"
        return "invalid_blocks" if faults(arguments.get("blocks", ())) else ""


def message_text(message: Message) -> str:
    """What a person reads: the blocks as text, else the text; buttons in brackets, without the marks of bold and fixed width."""
    lines = [line for block in message.blocks for line in _block_lines(block)] or message.text.splitlines()
    plain = (_BOLD_LINE.sub(r"\1", line) for line in lines if line != "```")
    return "\n".join(html.unescape(line).rstrip() for line in plain)


def _block_lines(block: Mapping[str, Any]) -> Iterator[str]:
    match block["type"]:
        case "header":
            yield block["text"]["text"]
        case "section":
            yield from (line for text in (block.get("text"), *block.get("fields", ())) if text for line in text["text"].splitlines())
        case "context":
            yield from (line for element in block["elements"] for line in element["text"].splitlines())
        case "actions":
            yield " ".join(f"[{element['text']['text']}]" for element in block["elements"])
        case "divider":
            yield "---"


async def _arguments(request: web.Request) -> dict[str, Any]:
    """The arguments of a call, however they are sent: in the address, as a form or as JSON."""
    given: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        return given | dict(await request.json())
    given |= dict(await request.post())
    return given | {name: json.loads(given[name]) for name in ("blocks",) if name in given}


def _failed(failure: Failure) -> web.Response:
    headers = {"Retry-After": str(failure.retry_after_s)} if failure.retry_after_s is not None else {}
    if not failure.error:
        return web.Response(status=failure.status, headers=headers, text="<html>")
    return web.json_response({"ok": False, "error": failure.error}, status=failure.status, headers=headers)
