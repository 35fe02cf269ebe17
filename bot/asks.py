"""What one person asked for, and what came of it: the two values that the inbox keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from workbench.views.cards import Blocks

LOOKING = frozenset({"release.status", "release.gates", "release.history", "owner.show", "owner.oncall", "owner.gaps"})
"""Acts that change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one person asked for, and where."""

    act: str
    """Of the table of commands, for example `release.start`."""
    arguments: Mapping[str, str]
    user: str
    """Slack id; who that is is looked up when the act is done."""
    channel: str
    decided_on: int | None = None
    """Version of the release, or of the route, that the person or the bot saw; the act is refused on any other."""
    after_entry: int | None = None
    """Newest audit entry before the act was tried; one of the same act and person after it shows that it was done."""

    @property
    def is_looking(self) -> bool:
        """Whether it changes nothing, and may be done as often as one likes."""
        return self.act in LOOKING

    @property
    def is_pinned(self) -> bool:
        """Whether an attempt to do it may have begun."""
        return self.after_entry is not None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        return cls(**stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message."""

    text: str
    """As it is to be read; it is escaped on its way to Slack. Where there are blocks it stands for them in notifications."""
    blocks: Blocks = ()
    mentions: tuple[str, ...] = ()
    """Slack ids of people who have to notice it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it."""

    told: Said
    """To the person alone."""
    announced: Said | None = None
    """To the channel; an act on a release tells its thread instead."""
    release_id: str | None = None
    """The release whose thread has something new."""
    is_refused: bool = False
    is_told: bool = False
    """Whether the person knows already; the channel may still have to hear of it."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        announced = stored["announced"]
        return cls(**{**stored, "told": _said(stored["told"]), "announced": _said(announced) if announced else None})


def _said(stored: Mapping[str, Any]) -> Said:
    return Said(text=stored["text"], blocks=tuple(stored["blocks"]), mentions=tuple(stored.get("mentions", ())))


def refused(reason: str) -> Outcome:
    """What the person is told whose wish was not done."""
    return Outcome(told=Said(text=reason), is_refused=True)
