"""How releases look in the chat: the parent of a thread with its buttons, and a line for each change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from bot.asks import Said
from bot.buttons import Click, Seal
from bot.threads import Change
from workbench.ledger.audit import AuditEntry
from workbench.release.model import Release, ReleaseStatus, State
from workbench.release.states import Act
from workbench.views.cards import Button, headline, page_card
from workbench.views.page import Page
from workbench.views.release import release_page, release_sentence, status_page, transition_line
from workbench.workspace import Workspace

_LOUD = frozenset({State.HELD, State.PROMOTED, State.ROLLED_BACK})
"""States that a whole channel has to hear of; and it has to hear of it when somebody lets a release go alone."""
_CHATS = frozenset({"slack", "console"})


class Board:
    """Draws what the ledger says. Its methods block.

    Args:
        ws: the workspace.
        seal: what the bot's buttons are known by.
    """

    def __init__(self, ws: Workspace, seal: Seal) -> None:
        self._ws = ws
        self._seal = seal

    def parent(self, release_id: str) -> Said:
        """Where the release stands, with buttons while it is open; how it ended, afterwards."""
        release = self._ws.releases.get(release_id)
        if release.is_open:
            return self.status(release.app)
        return _said(release_page(release))

    def changes(self, release_id: str) -> tuple[Change, ...]:
        """What happened to the release, oldest first; what was refused is between the bot and whoever asked."""
        entries = (entry for entry in self._ws.releases.entries(release_id) if "to" in entry.detail)
        return tuple(Change(number=entry.seq, said=self._change(entry), is_broadcast=_is_loud(entry)) for entry in entries)

    def _change(self, entry: AuditEntry) -> Said:
        """A change in words; one that somebody has to notice at once calls them."""
        called = entry.detail.get("called") or ()
        people = self._ws.ownership.people(entry.app) if called and entry.app else None
        ids = [slack_id for name in called if people and name in people.people for slack_id in people.people[name].slack]
        return Said(text=transition_line(entry), mentions=tuple(ids))

    def current(self, *, since: datetime) -> tuple[str, ...]:
        """The releases that are open or ended after that moment, of all apps."""
        histories = map(self._ws.releases.history, self._ws.versions.apps())
        return tuple(each.release_id for history in histories for each in history if each.ended_at is None or each.ended_at >= since)

    def is_from_chat(self, release_id: str) -> bool:
        """Whether the release was asked for in the chat."""
        return self._ws.releases.entries(release_id)[0].via in _CHATS

    def status(self, app: str) -> Said:
        """What serves the app, and where its release stands."""
        status = self._ws.releases.status(app)
        return _said(status_page(status), tuple(self._buttons(status)))

    def sentence(self, release: Release) -> str:
        """Where a release stands, in one sentence."""
        return release_sentence(release)

    def _buttons(self, status: ReleaseStatus) -> Iterator[Button]:
        """What may come next, as far as it needs no words. Whether it may is decided at the click."""
        release = status.release
        if release is None:
            return
        match release.state:
            case State.READY:
                yield self._button(release, "release.approve", "Approve", is_primary=True)
            case State.APPROVED if status.objection is not None:
                yield self._button(release, "release.approve", "Approve again", is_primary=True)
            case State.APPROVED:
                yield self._promotion(release, 0) if release.shadow_stage is None else self._move(release, "Begin its shadow stage")
            case State.CANARY:
                if not status.waits:
                    yield self._promotion(release, 0 if release.step is None else release.step + 1)
                yield self._button(release, "release.hold", "Hold")
            case State.HELD:
                yield self._button(release, "release.resume", "Resume", is_primary=True)

    def _promotion(self, release: Release, step: int) -> Button:
        steps = release.plan.steps if release.plan else ()
        return self._move(release, f"Promote to {steps[step].share * 100:.4g} %" if step < len(steps) else "Promote to stable")

    def _move(self, release: Release, label: str) -> Button:
        return self._button(release, "release.promote", label, is_primary=True, asks=f"{release.release_id}: {label.lower()}")

    def _button(self, release: Release, act: str, label: str, *, is_primary: bool = False, asks: str = "") -> Button:
        value = self._seal.value(Click(act=act, release_id=release.release_id, version=release.version))
        return Button(action=act, label=label, value=value, is_primary=is_primary, asks=asks)


def _said(page: Page, buttons: Sequence[Button] = ()) -> Said:
    """The page as a message; without its footer, which says when it was drawn."""
    shown = replace(page, footer=())
    return Said(text=headline(shown), blocks=page_card(shown, buttons))


def _is_loud(entry: AuditEntry) -> bool:
    return entry.detail["to"] in _LOUD or entry.act == Act.BREAK_GLASS
