"""Where a streamed answer leaves: what the guards let pass goes out at once, the rest after the record of the call's end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from workbench.controls.clock import Clock
from workbench.controls.events import Choice, Event, Finished, TextPart, ToolPart, events_of_choice
from workbench.controls.guards.model import Checked, Finding
from workbench.controls.guards.window import settled
from workbench.controls.guards.withheld import Withheld
from workbench.controls.model import Answer, Head, StreamBroken
from workbench.errors import RequestRefused

MOST_WAITING = 64
"""Pieces that wait for a caller who reads slowly; then the model waits, too."""
Piece = TextPart | ToolPart | Finished


class Way:
    """The text of one choice, from what is said to what may leave.

    Args:
        withheld: holds back what the guards have not seen whole.
    """

    def __init__(self, withheld: Withheld) -> None:
        self._withheld = withheld
        self._said: list[str] = []
        self._passed: list[str] = []

    @property
    def before(self) -> str:
        """What might leave before the whole was known."""
        return "".join(self._passed)

    @property
    def found(self) -> tuple[Finding, ...]:
        """What the guards say of the part that left."""
        return self._withheld.found

    def feed(self, text: str) -> str:
        """What may leave now that this was said, too."""
        self._said.append(text)
        passed = self._withheld.feed(text)
        self._passed.append(passed)
        return passed

    async def settle(self, content: str, *, clock: Clock) -> Checked:
        """What may leave of the whole text, with what might leave before.

        Raises:
            StreamBroken: the whole does not begin with what was said.
        """
        said = "".join(self._said)
        if not content.startswith(said):
            raise StreamBroken("bad_reply", "The answer does not begin with what was streamed of it.")
        self.feed(content[len(said) :])
        rest = await self._withheld.finish(clock=clock)
        return replace(rest, text=self.before + rest.text)


class Outlet:
    """Takes what is said and gives what may leave. One task says, another one reads.

    Args:
        withhold: begins the way of one choice through the output guards.
        may_leave: whether the guards of the input let anything leave; asked before each piece.
        head: what is known of the answer when its first content leaves.
    """

    def __init__(self, withhold: Callable[[], Withheld], *, may_leave: Callable[[], Awaitable[bool]], head: Callable[[], Head]) -> None:
        self._withhold = withhold
        self._may_leave = may_leave
        self._make_head = head
        self._ways: dict[int, Way] = {}
        self._left: dict[int, list[str]] = {}
        self._waiting: deque[Piece] = deque()
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()
        self._is_closed = False
        self.head: Head | None = None
        """None until something leaves."""

    @property
    def is_open(self) -> bool:
        """Whether anything has left."""
        return self.head is not None

    @property
    def left(self) -> tuple[Choice, ...]:
        """What has left, each answer at its number: none complete, and so without a last word that may be half of what nobody may store."""
        return tuple(Choice(content=settled("".join(self._left.get(number, ())))) for number in range(max(self._left, default=0) + 1))

    @property
    def found(self) -> tuple[Finding, ...]:
        """What the guards say of what has left, where no more comes."""
        return tuple(finding for way in self._ways.values() for finding in way.found)

    def way(self, number: int) -> Way:
        """The way of one choice."""
        if number not in self._ways:
            self._ways[number] = Way(self._withhold())
        return self._ways[number]

    def forget(self) -> None:
        """Drop what was said of an answer that failed before anything of it left: something else is said in its place."""
        self._ways.clear()

    async def say(self, event: Event) -> None:
        """Take a piece of the answer. Tool calls and the end are held until the whole is known."""
        if isinstance(event, TextPart) and event.text and await self._may_leave():
            await self._release(self.way(event.choice).feed(event.text), event.choice)

    async def end(self, choices: Sequence[Choice]) -> None:
        """Let the rest go, after the record of the end was committed."""
        for number, choice in enumerate(choices):
            already = sum(map(len, self._left.get(number, ())))
            await self._release((choice.content or "")[already:], number)
            for event in events_of_choice(choice, number):
                if not isinstance(event, TextPart):
                    await self._put(event)

    def close(self) -> None:
        """Tell whoever reads that nothing more comes."""
        self._is_closed = True
        self._filled.set()

    async def read(self) -> Piece | None:
        """The next piece that may leave, with the text of the same choice that waits behind it; None at the end."""
        while not self._waiting:
            if self._is_closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        piece = self._waiting.popleft()
        self._emptied.set()
        return self._with_more(piece) if isinstance(piece, TextPart) else piece

    def _with_more(self, piece: TextPart) -> TextPart:
        texts = [piece.text]
        while self._waiting and isinstance(following := self._waiting[0], TextPart) and following.choice == piece.choice:
            texts.append(following.text)
            self._waiting.popleft()
        return piece if len(texts) == 1 else TextPart(text="".join(texts), choice=piece.choice)

    async def _release(self, text: str, number: int) -> None:
        if text:
            self._left.setdefault(number, []).append(text)
            await self._put(TextPart(text=text, choice=number))

    async def _put(self, piece: Piece) -> None:
        if self.head is None:
            self.head = self._make_head()
        while len(self._waiting) >= MOST_WAITING:
            self._emptied.clear()
            await self._emptied.wait()
        self._waiting.append(piece)
        self._filled.set()


class AnswerStream:
    """A streamed answer: its pieces in order, each released by the guards, and the whole at the end.

    Args:
        outlet: gives the pieces.
        task: makes the answer, and closes the outlet when it ends.
    """

    def __init__(self, outlet: Outlet, task: asyncio.Task[Answer]) -> None:
        self._outlet = outlet
        self._task = task
        self._first: Piece | None = None

    @property
    def head(self) -> Head:
        """What was known when the first content left."""
        if self._outlet.head is None:
            raise LookupError("nothing has left yet")
        return self._outlet.head

    @property
    def answer(self) -> Answer:
        """The whole answer, once the pieces are at their end."""
        return self._task.result()

    async def opened(self) -> None:
        """Return when the first content may leave.

        Raises:
            RequestRefused: nothing was answered.
        """
        self._first = await self._outlet.read()
        if self._first is None:
            await self._task

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> Piece:
        """The next piece.

        Raises:
            StreamBroken: the answer cannot be finished.
        """
        piece, self._first = self._first or await self._outlet.read(), None
        if piece is not None:
            return piece
        try:
            await self._task
        except RequestRefused as refusal:
            raise StreamBroken(refusal.code, str(refusal)) from refusal
        raise StopAsyncIteration
