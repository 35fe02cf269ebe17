"""One thread for each release: its parent says where the release stands and is edited, a reply tells each change.

Nothing is posted because something happened, but because what stands in the channel is not what the ledger says. So a change that was made
in a terminal is shown too, and one that was made before a crash is shown after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from bot.asks import Said
from bot.chat import Chat, ChatRefused
from bot.pool import Pool
from workbench.errors import WorkbenchError
from workbench.ledger.canonical import digest
from workbench.ledger.messages import Messages, Posted, Turn

log = logging.getLogger(__name__)
PATIENCE = timedelta(minutes=2)
"""After so long a bot that was about to post counts as dead; longer than the client tries."""
_AGAIN = "Posted again: it is not known whether this was posted before."
_KEPT = timedelta(days=7)
"""How long after its release ended a thread is looked after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a release, for its thread."""

    number: int
    """Of its audit entry."""
    said: Said
    is_broadcast: bool
    """Whether the whole channel has to see it."""


class Board(Protocol):
    """What threads show."""

    def parent(self, release_id: str) -> Said:
        """Where the release stands, with the buttons for what may come next."""

    def changes(self, release_id: str) -> Sequence[Change]:
        """What happened to the release, oldest first."""

    def current(self, *, since: datetime) -> Sequence[str]:
        """The releases that are open or ended after that moment."""

    def is_from_chat(self, release_id: str) -> bool:
        """Whether the release was asked for in the chat, where whoever asked for it has its thread begun."""


class Threads:
    """The threads of one Slack workspace."""

    def __init__(self, chat: Chat, board: Board, messages: Messages, pool: Pool) -> None:
        self._chat = chat
        self._board = board
        self._messages = messages
        self._pool = pool
        self._one_at_a_time = asyncio.Lock()
        self._behind: set[str] = set()

    async def show(self, release_id: str, *, channel: str | None = None) -> None:
        """Brings every thread of the release up to date; where there is none yet, one begins in `channel`.

        Raises:
            ChatDown: Slack does not answer; what is missing is posted the next time.
            ChatRefused: Slack does not take a message there.
        """
        async with self._one_at_a_time:
            posted = await self._posted(f"{_name(release_id)}@")
            parents = [message for name, message in posted.items() if "#" not in name]
            if not parents and channel is not None:
                await self._begin(release_id, channel)
            for parent in parents:
                await self._renew(release_id, parent, posted)

    async def show_all(self, *, now: datetime) -> None:
        """Brings the threads of all releases up to date that are open or ended not long ago. What is refused is logged once.

        A release that was asked for elsewhere, after the newest one of its app that has a thread, gets one in the same channel.
        """
        channels = {_release_in(name): message.channel for name, message in (await self._posted(_name(""))).items()}
        for release_id in await self._pool.call(self._board.current, since=now - _KEPT):
            channel = None if release_id in channels else await self._channel_for(release_id, channels)
            if release_id not in channels and channel is None:
                continue
            try:
                await self.show(release_id, channel=channel)
                self._behind.discard(release_id)
            except WorkbenchError as error:
                level = logging.DEBUG if release_id in self._behind else logging.WARNING
                log.log(level, "the thread of %s is not up to date: %s", release_id, error)
                self._behind.add(release_id)

    async def _channel_for(self, release_id: str, channels: Mapping[str, str]) -> str | None:
        """Where the thread of a release belongs that has none; None where nobody would look for it, or whoever asked for it begins it."""
        app, number = _place_of(release_id)
        newest = max((shown for shown in channels if _place_of(shown)[0] == app), key=_place_of, default=None)
        if newest is None or number < _place_of(newest)[1] or await self._pool.call(self._board.is_from_chat, release_id):
            return None
        return channels[newest]

    async def announce(self, name: str, channel: str, said: Said) -> None:
        """Posts a message of this name, unless it was posted already."""
        async with self._one_at_a_time:
            turn = await self._turn(name, channel)
            if turn is not None:
                await self._post(turn, said)

    async def _begin(self, release_id: str, channel: str) -> None:
        """Posts the parent. What happened before is told by it, but what calls somebody is still said in a reply.

        It is drawn before the turn is taken, so that a fault leaves no turn behind.
        """
        name = f"{_name(release_id)}@{channel}"
        changes = await self._pool.call(self._board.changes, release_id)
        said = await self._pool.call(self._board.parent, release_id)
        turn = await self._turn(name, channel)
        if turn is None:
            return
        ts = await self._post(turn, said)
        for change in changes:
            if not change.said.mentions and await self._turn(f"{name}#{change.number}", channel):
                await self._place(f"{name}#{change.number}", channel, ts, change.said)

    async def _renew(self, release_id: str, parent: Posted, posted: Mapping[str, Posted]) -> None:
        """Edits the parent where it says something else, and adds the replies that are missing."""
        if not parent.is_placed:
            await self._begin(release_id, parent.channel)
            return
        said = await self._pool.call(self._board.parent, release_id)
        if _digest(said) != parent.digest:
            if not await self._chat.edit(parent.channel, parent.ts, said):
                await self._pool.call(self._messages.drop, parent.name)
                await self._begin(release_id, parent.channel)
                return
            await self._place(parent.name, parent.channel, parent.ts, said)
        for change in await self._pool.call(self._board.changes, release_id):
            name = f"{parent.name}#{change.number}"
            known = posted.get(name)
            if known is not None and known.is_placed:
                continue
            turn = await self._turn(name, parent.channel)
            if turn is not None:
                await self._post(turn, change.said, thread=parent.ts, is_broadcast=change.is_broadcast)

    async def _posted(self, prefix: str) -> dict[str, Posted]:
        """Every message whose name begins so, by name."""
        found = await self._pool.call(self._messages.starting_with, prefix, since=datetime.fromtimestamp(0, tz=UTC))
        return {message.name: message for message in found}

    async def _turn(self, name: str, channel: str) -> Turn | None:
        return await self._pool.call(self._messages.take_turn, name, channel, patience=PATIENCE)

    async def _post(self, turn: Turn, said: Said, *, thread: str | None = None, is_broadcast: bool = False) -> str:
        """Posts, and keeps where; a message that Slack refused was not posted, and its turn is given back."""
        shown = _marked(said) if turn.is_repeat else said
        try:
            ts = await self._chat.post(turn.channel, shown, thread=thread, is_broadcast=is_broadcast)
        except ChatRefused:
            await self._pool.call(self._messages.drop, turn.name)
            raise
        await self._place(turn.name, turn.channel, ts, said)
        return ts

    async def _place(self, name: str, channel: str, ts: str, said: Said) -> None:
        await self._pool.call(self._messages.place, name, channel=channel, ts=ts, digest=_digest(said))


def _name(release_id: str) -> str:
    return f"release:{release_id}"


def _release_in(name: str) -> str:
    return name.removeprefix(_name("")).partition("@")[0]


def _place_of(release_id: str) -> tuple[str, int]:
    """Its app, and its place among the app's releases."""
    app, _, number = release_id.rpartition(".")
    return app, int(number)


def _digest(said: Said) -> str:
    return digest({"text": said.text, "blocks": said.blocks})


def _marked(said: Said) -> Said:
    """The message with a line that says that it may stand there twice."""
    note = {"type": "context", "elements": [{"type": "mrkdwn", "text": _AGAIN}]}
    return replace(said, blocks=(*said.blocks, note)) if said.blocks else replace(said, text=f"{said.text}\n{_AGAIN}")
