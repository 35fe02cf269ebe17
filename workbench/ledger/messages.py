"""Which chat message shows what: so that a restarted bot edits the one that is there, and posts nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from workbench.ledger.store import Ledger
from workbench.ledger.tables import messages

UNKNOWN = ""
"""Stands for the chat's id while nobody knows whether the message was posted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """One message that is shown, or is about to be."""

    name: str
    """What it shows, for example `release:<id>@<channel>`."""
    channel: str
    ts: str
    """The chat's own id of it; `UNKNOWN` while it is being posted."""
    digest: str
    """Of what it says now."""
    changed_at: datetime

    @property
    def is_placed(self) -> bool:
        return self.ts != UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Leave to post one message."""

    name: str
    channel: str
    is_repeat: bool
    """Whoever had the turn before did not say whether they posted it; the new message says so too."""


class Messages:
    """The posted messages of one workspace. Threads and processes may share it."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock

    def starting_with(self, prefix: str, *, since: datetime) -> tuple[Posted, ...]:
        """The messages whose names begin so and that changed since then, by name."""
        wanted = select(messages).where(messages.c.name.startswith(prefix, autoescape=True), messages.c.changed_at >= since)
        with self._ledger.read() as connection:
            return tuple(Posted(**row) for row in connection.execute(wanted.order_by(messages.c.name)).mappings())

    def take_turn(self, name: str, channel: str, *, patience: timedelta) -> Turn | None:
        """Leave to post this message; None when it is posted, or when somebody is about to.

        Args:
            name: of the message.
            channel: where it is to stand.
            patience: after so long, whoever had the turn and placed nothing counts as dead.
        """
        now = self._clock()
        row = {"name": name, "channel": channel, "ts": UNKNOWN, "digest": "", "changed_at": now}
        with self._ledger.write() as act:
            insert = postgresql.insert if act.connection.dialect.name == "postgresql" else sqlite.insert
            if act.connection.execute(insert(messages).values(row).on_conflict_do_nothing().returning(messages.c.name)).first():
                return Turn(name=name, channel=channel, is_repeat=False)
            is_forgotten = messages.update().where(
                messages.c.name == name, messages.c.ts == UNKNOWN, messages.c.changed_at <= now - patience
            )
            is_mine = act.connection.execute(is_forgotten.values(changed_at=now, channel=channel)).rowcount == 1
        return Turn(name=name, channel=channel, is_repeat=True) if is_mine else None

    def place(self, name: str, *, channel: str, ts: str, digest: str) -> None:
        """Notes that the message stands there and what it says, after it was posted or edited."""
        with self._ledger.write() as act:
            values = {"channel": channel, "ts": ts, "digest": digest, "changed_at": self._clock()}
            act.connection.execute(messages.update().where(messages.c.name == name).values(values))

    def drop(self, name: str) -> None:
        """Forgets a message that is not there: it was refused, or somebody deleted it."""
        with self._ledger.write() as act:
            act.connection.execute(messages.delete().where(messages.c.name == name))
