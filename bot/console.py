"""The bot in a terminal: the very app that runs in Slack, with Slack played in this process and several people at one keyboard.

It works in the demo's workspace only, because here everybody may choose who they are.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
import readline
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any, Protocol, Self, runtime_checkable

from slack_bolt.request.async_request import AsyncBoltRequest

from bot.app import House
from bot.chat import client_for
from bot.commands import COMMANDS
from bot.fake_slack import TEAM, FakeSlack, Message, message_text
from bot.running import Bot, assembled
from workbench.errors import NotPermitted, UnknownSubject, UsageError, WorkbenchError
from workbench.ownership.model import Actor, Assurance
from workbench.spec.base import format_duration, parse_duration
from workbench.spec.faults import suggestion
from workbench.views.tables import shown
from workbench.workspace import DEMO_PERSON, Workspace

CHANNEL, CHANNEL_NAME = "C000RELEASES", "#releases"
STRANGER = "stranger"
"""Somebody whom nobody declared; they can be played too."""
_STRANGER_ID = "U000STRANGER"
_TOKEN = "xoxb-played"  # noqa: S105 -- of the Slack that is played here
_HELP = """\
as @PERSON           be somebody else, for example as @approver
/release …           any command of the bot; /release help shows them
click LABEL          press the newest button with this label
retry last           send the last command or click once more, as Slack does when it heard no answer
clock +2h            move the clock on
help, quit"""
_WORDS = ("as", "click", "retry last", "clock", "help", "quit")


@runtime_checkable
class Movable(Protocol):
    """A clock that can be moved on."""

    def advance(self, span: timedelta) -> None: ...


class Console:
    """One terminal, at which people take turns.

    Args:
        ws: the demo's workspace.
        slack: Slack, played.
        bot: the bot, which talks to it.
        write: where the transcript goes, line by line.
    """

    def __init__(self, ws: Workspace, slack: FakeSlack, bot: Bot, *, write: Callable[[str], None]) -> None:
        self._ws = ws
        self._slack = slack
        self._bot = bot
        self._write = write
        self._person = DEMO_PERSON
        self._last: dict[str, Any] | None = None
        self._numbers = count(1)
        self._n_shown = 0

    @classmethod
    @asynccontextmanager
    async def opened(cls, ws: Workspace, *, write: Callable[[str], None]) -> AsyncIterator[Self]:
        """A console for the length of the block.

        Raises:
            NotPermitted: the workspace is not the demo's.
        """
        if not ws.is_demo:
            raise NotPermitted(
                "console",
                seen=f"{ws.home} is not a demo workspace",
                needed="one: `workbench demo --home DIR`",
                next_step="in a real one use Slack",
            )
        async with FakeSlack([CHANNEL]) as slack:
            client = client_for(_TOKEN, base_url=slack.base_url)
            async with assembled(ws, House(team=TEAM, token=_TOKEN), client, actor_of=lambda user: _actor(ws, user)) as bot:
                yield cls(ws, slack, bot, write=write)

    async def play(self, lines: Iterable[str]) -> None:
        """Plays a script: lines as they would be typed; those that begin with `#` are told to the reader, empty ones are passed over."""
        for line in lines:
            if line.startswith("#"):
                self._write(f"\n{line}")
            elif line.strip():
                self._write(f"\n@{self._person}: {line.strip()}")
                await self.line(line)

    async def line(self, line: str) -> None:
        """Does what one line says, and writes down what everybody sees of it."""
        try:
            await self._do(line.strip())
        except WorkbenchError as error:
            self._write(f"  {shown(str(error))}")

    @property
    def person(self) -> str:
        """Who is at the keyboard."""
        return self._person

    def completions(self, start: str) -> list[str]:
        """Lines that could be meant by this beginning of one."""
        commands = [f"/{command.name} {verb.name}".strip() for command in COMMANDS for verb in command.verbs]
        people = [f"as @{name}" for name in self._people()]
        clicks = [f"click {label}" for label in self._labels()]
        return [line for line in (*commands, *people, *clicks, *_WORDS) if line.startswith(start)]

    async def _do(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word.startswith("/"):
            await self._send(self._command(word, rest))
            return
        match word:
            case "as":
                self._be(rest.removeprefix("@"))
            case "click":
                await self._send(self._click(rest))
            case "retry" if rest == "last" and self._last is not None:
                await self._send(self._last)
            case "retry":
                raise UsageError(
                    "retry",
                    seen="nothing was sent yet" if rest == "last" else f'"{rest}"',
                    needed="`retry last`, after a command or a click",
                )
            case "clock":
                self._advance(rest)
            case "help":
                self._write(_HELP)
            case _:
                raise UsageError(
                    f'"{word}"', seen=f"the console does not know it{suggestion(word, _WORDS)}", next_step="`help` lists what can be typed"
                )

    def _be(self, name: str) -> None:
        people = self._people()
        if name not in people:
            raise UnknownSubject(f'person "{name}"', seen=f"nobody of this name has a Slack id{suggestion(name, people)}")
        self._person = name

    def _advance(self, text: str) -> None:
        clock: object = self._ws.clock
        if not isinstance(clock, Movable):
            raise UsageError("clock", seen="this workspace's clock is the machine's, which does not move on command")
        try:
            span = parse_duration(text.removeprefix("+"))
        except ValueError as error:
            raise UsageError("clock", seen=str(error), needed="`clock +2h`") from error
        clock.advance(span)
        self._write(f"  it is {format_duration(span)} later")

    def _command(self, name: str, text: str) -> dict[str, Any]:
        """What Slack would send."""
        names = [f"/{command.name}" for command in COMMANDS]
        if name not in names:
            raise UnknownSubject(f'command "{name}"', seen=f"the bot does not know it{suggestion(name, names)}")
        n = next(self._numbers)
        return {
            "command": name,
            "text": self._as_slack_writes(text),
            "user_id": self._slack_id(),
            "team_id": TEAM,
            "channel_id": CHANNEL,
            "trigger_id": f"console.{self._ws.clock().timestamp():.6f}.{n}",
        }

    def _click(self, label: str) -> dict[str, Any]:
        """What Slack would send for the newest button of this label."""
        for message in reversed(self._visible()):
            for button in message.buttons:
                if button["text"]["text"].lower() == label.lower():
                    return self._click_on(message, button)
        raise UnknownSubject(f'button "{label}"', seen=f"@{self._person} sees none of this label{suggestion(label, self._labels())}")

    def _click_on(self, message: Message, button: Mapping[str, Any]) -> dict[str, Any]:
        n = next(self._numbers)
        return {
            "type": "block_actions",
            "user": {"id": self._slack_id(), "team_id": TEAM},
            "team": {"id": TEAM},
            "container": {"type": "message", "message_ts": message.ts, "channel_id": message.channel},
            "actions": [{**button, "action_ts": f"{self._ws.clock().timestamp():.6f}.{n}"}],
        }

    async def _send(self, body: dict[str, Any]) -> None:
        """Delivers it, waits until everything that it caused is done, and shows what can be seen of it."""
        self._last = body
        response = await self._bot.app.async_dispatch(AsyncBoltRequest(mode="socket_mode", body=json.dumps(body)))
        if response.body:
            self._show_answer(json.loads(response.body) if response.body.startswith("{") else {"text": response.body})
        await self._bot.worker.drain()
        for message in self._slack.events[self._n_shown :]:
            self._show(message)
        self._n_shown = len(self._slack.events)

    def _show_answer(self, answer: Mapping[str, Any]) -> None:
        """The words that came with the acknowledgement."""
        user = self._slack_id()
        self._show(Message(channel=CHANNEL, ts="", text=answer["text"], blocks=tuple(answer.get("blocks", ())), only_for=user))

    def _show(self, message: Message) -> None:
        if message.n_edits:
            labels = "".join(f" [{button['text']['text']}]" for button in message.buttons)
            self._write(f"  {_channel(message)}, edited: {message_text(message).partition(chr(10))[0]}{labels}")
            return
        self._write(f"  {self._place(message)}")
        for line in message_text(message).splitlines():
            self._write(f"  | {line}".rstrip())

    def _place(self, message: Message) -> str:
        names = {slack_id: name for name, slack_id in self._people().items()}
        if message.only_for:
            return f"only @{names.get(message.only_for, message.only_for)} sees:"
        if message.channel in names:
            return f"direct message to @{names[message.channel]}:"
        if message.thread:
            return f"{_channel(message)}, in the thread{' and in the channel' if message.is_broadcast else ''}:"
        return f"{_channel(message)}:"

    def _visible(self) -> list[Message]:
        """What the person at the keyboard sees, oldest first."""
        return [message for message in self._slack.messages if message.only_for in (None, self._slack_id())]

    def _labels(self) -> list[str]:
        return [button["text"]["text"] for message in self._visible() for button in message.buttons]

    def _slack_id(self) -> str:
        return self._people()[self._person]

    def _people(self) -> dict[str, str]:
        """Everybody who can be played, with their Slack ids."""
        declared = (self._ws.ownership.people(app) for app in self._ws.versions.apps())
        found = {name: person.slack[0] for people in declared if people for name, person in people.people.items() if person.slack}
        return {**found, STRANGER: _STRANGER_ID}

    def _as_slack_writes(self, text: str) -> str:
        """The text as Slack sends it: three characters as entities, mentions with their ids."""
        people = self._people()

        def mention(found: re.Match[str]) -> str:
            return f"<@{people[found[1]]}|{found[1]}>" if found[1] in people else found[0]

        return re.sub(r"(?<!\S)@(\w+)(?!\S)", mention, html.escape(text, quote=False))


class Keyboard:
    """A console for callers that are not async: each call returns when everything that it caused is done."""

    def __init__(self, console: Console, runner: asyncio.Runner) -> None:
        self.console = console
        self._runner = runner

    def type(self, line: str) -> None:
        """Does what one line says."""
        self._runner.run(self.console.line(line))

    def play(self, lines: Iterable[str]) -> None:
        """Plays a script."""
        self._runner.run(self.console.play(lines))

    def prompt(self) -> None:
        """Asks for lines until the end of input or `quit`; the tabulator completes them."""
        readline.set_completer_delims("")
        readline.set_completer(lambda start, number: dict(enumerate(self.console.completions(start))).get(number))
        readline.parse_and_bind("tab: complete")
        for line in iter(self._asked, None):
            if line:
                self.type(line)

    def _asked(self) -> str | None:
        try:
            line = input(f"\n@{self.console.person}> ").strip()
        except EOFError:
            return None
        return None if line in ("quit", "exit") else line


@contextmanager
def keyboard(ws: Workspace, *, write: Callable[[str], None]) -> Iterator[Keyboard]:
    """The console of a demo workspace for the length of the block.

    Raises:
        NotPermitted: the workspace is not the demo's.
    """
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        console = runner.run(stack.enter_async_context(Console.opened(ws, write=write)))
        try:
            yield Keyboard(console, runner)
        finally:
            runner.run(stack.aclose())


def _actor(ws: Workspace, user: str) -> Actor:
    """Whoever is played: known by the Slack id like anybody, and recorded as played."""
    return replace(ws.ownership.actor_of_slack_id(user), via="console", assurance=Assurance.CONSOLE)


def _channel(message: Message) -> str:
    return CHANNEL_NAME if message.channel == CHANNEL else message.channel
