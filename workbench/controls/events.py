"""What a model says, piece by piece. Every dialect becomes these events before any guard looks at it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """More of the answer's text."""

    text: str
    choice: int = 0
    """From 0; others only where the caller asked for several answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPart:
    """More of a tool call; its first part names the tool."""

    index: int
    """Which call of the choice, from 0."""
    call_id: str | None = None
    name: str | None = None
    arguments: str = ""
    """A stretch of the arguments' JSON text."""
    choice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The choice is complete. A stream that ends without it is truncated."""

    reason: str
    choice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the provider says of the call: `model`, token counts, `cost_usd`; what it does not say is left out."""

    details: Mapping[str, Any]


Event = TextPart | ToolPart | Finished | Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One tool call, whole."""

    call_id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer of the model."""

    content: str | None
    """None where it only calls tools."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    """None where the answer was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a model said, whole."""

    choices: tuple[Choice, ...]
    """At least one."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """As of `Usage`."""

    @property
    def is_complete(self) -> bool:
        """Whether every choice came to its end."""
        return all(choice.finish_reason is not None for choice in self.choices)


@dataclass(slots=True)
class _Call:
    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Gathered:
    text: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    reason: str | None = None


class Assembly:
    """Puts events together to what they say."""

    def __init__(self) -> None:
        self._choices: dict[int, _Gathered] = {}
        self._details: dict[str, Any] = {}

    def add(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, Usage):
            self._details |= event.details
            return
        gathered = self._choices.get(event.choice)
        if gathered is None:
            gathered = self._choices[event.choice] = _Gathered()
        if isinstance(event, TextPart):
            gathered.text.append(event.text)
        elif isinstance(event, Finished):
            gathered.reason = event.reason
        else:
            call = gathered.calls.setdefault(event.index, _Call())
            call.call_id = call.call_id or event.call_id or ""
            call.name += event.name or ""
            call.arguments.append(event.arguments)

    def completion(self) -> Completion:
        """What was said so far."""
        ordered = [self._choices[number] for number in sorted(self._choices)] or [_Gathered()]
        return Completion(choices=tuple(_choice(gathered) for gathered in ordered), details=dict(self._details))


def events_of(completion: Completion) -> Iterator[Event]:
    """The events that say the same."""
    for number, choice in enumerate(completion.choices):
        yield from events_of_choice(choice, number)
    if completion.details:
        yield Usage(details=completion.details)


def events_of_choice(choice: Choice, number: int) -> Iterator[TextPart | ToolPart | Finished]:
    """The events that say one choice."""
    if choice.content:
        yield TextPart(text=choice.content, choice=number)
    for index, call in enumerate(choice.tool_calls):
        yield ToolPart(index=index, call_id=call.call_id, name=call.name, arguments=call.arguments, choice=number)
    if choice.finish_reason is not None:
        yield Finished(reason=choice.finish_reason, choice=number)


def joined(events: Sequence[Event]) -> Iterator[Event]:
    """The same, with texts of one choice that follow each other in one piece: what came together goes on together."""
    texts: list[str] = []
    for place, event in enumerate(events):
        if not isinstance(event, TextPart):
            yield event
            continue
        texts.append(event.text)
        following = events[place + 1] if place + 1 < len(events) else None
        if not isinstance(following, TextPart) or following.choice != event.choice:
            yield event if len(texts) == 1 else TextPart(text="".join(texts), choice=event.choice)
            texts = []


def assembled(events: Iterable[Event]) -> Completion:
    """What the events say."""
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    return assembly.completion()


def _choice(gathered: _Gathered) -> Choice:
    calls = tuple(
        ToolCall(call_id=call.call_id, name=call.name, arguments="".join(call.arguments)) for _, call in sorted(gathered.calls.items())
    )
    content = "".join(gathered.text)
    return Choice(content=content if content or not calls else None, tool_calls=calls, finish_reason=gathered.reason)
