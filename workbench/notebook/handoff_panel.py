"""The handoff queue as a panel: look at an item, claim it, decide on what is on the screen. The same verbs as the command line."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from workbench.controls.handoff import Handoff, Mode, Shown
from workbench.errors import WorkbenchError
from workbench.views.handoffs import handoff_text, queue_html, queue_page, shown_html
from workbench.views.page import page_text
from workbench.views.tables import shown
from workbench.workspace import Workspace


class HandoffPanel:
    """Widgets over the queue of one app, or of every app that whoever acts here may look at.

    An item is shown when it is asked for, because the audit keeps who looked; a decision is bound to the item on the screen.

    Args:
        ws: the workspace.
        app: only this app.
    """

    def __init__(self, ws: Workspace, app: str | None = None) -> None:
        if app is not None:
            ws.require_view(app)
        self._ws = ws
        self._app = app
        self._shown: Shown | None = None
        self.queue, self.item, self.said = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.choice = widgets.Dropdown(description="Handoff")
        self.answer = widgets.Textarea(placeholder="An answer in your own words", layout={"width": "40rem"})
        self.reason = widgets.Text(placeholder="Why it is rejected", layout={"width": "40rem"})
        self.refresh = _button("Refresh", self.reload)
        self.show = _button("Show", self._show)
        self.claim = _button("Claim", lambda: self._act(self._ws.handoffs.claim(self._id)))
        self.give_back = _button("Give back", lambda: self._act(self._ws.handoffs.release(self._id)))
        self.approve = _button("Approve", lambda: self._act(self._ws.handoffs.approve(self._id, self._digest)))
        self.edit = _button("Answer instead", lambda: self._act(self._ws.handoffs.edit(self._id, self._digest, self.answer.value)))
        self.reject = _button("Reject", lambda: self._act(self._ws.handoffs.reject(self._id, self._digest, self.reason.value)))
        for button in (self.refresh, self.show, self.claim, self.give_back, self.approve, self.edit, self.reject):
            button.on_click(self._told)
        self.choice.observe(lambda _change: self._clear(), names="value")
        self.box = widgets.VBox(
            [
                self.queue,
                widgets.HBox([self.choice, self.show, self.refresh]),
                self.item,
                widgets.HBox([self.claim, self.give_back, self.approve]),
                widgets.HBox([self.answer, self.edit]),
                widgets.HBox([self.reason, self.reject]),
                self.said,
            ]
        )
        self.reload()

    def __repr__(self) -> str:
        return page_text(queue_page(self._waiting(), now=self._ws.clock()))

    def _repr_mimebundle_(self, **about: Any) -> Any:
        """How a notebook shows it; a reader without widgets sees the queue as text."""
        bundle = self.box._repr_mimebundle_(**about)
        return {**bundle, "text/plain": repr(self)} if isinstance(bundle, dict) else bundle

    def reload(self) -> None:
        """Read the queue anew; the item on the screen stays while it waits."""
        waiting = self._waiting()
        self.queue.value = queue_html(waiting, now=self._ws.clock())
        names, chosen, on_screen = tuple(handoff.handoff_id for handoff in waiting), self.choice.value, (self._shown, self.item.value)
        if self.choice.options != names:
            self.choice.options = names
        self.choice.value = chosen if chosen in names else next(iter(names), None)
        if chosen in names:
            self._shown, self.item.value = on_screen
        self._enable()

    def _waiting(self) -> tuple[Handoff, ...]:
        apps = (self._app,) if self._app is not None else self._ws.visible_apps()
        return tuple(handoff for handoff in self._ws.handoffs.list(self._app) if handoff.app in apps)

    @property
    def _id(self) -> str:
        return str(self.choice.value)

    @property
    def _digest(self) -> str:
        """Of the item on the screen."""
        return (self._shown.shown_digest if self._shown else None) or ""

    def _show(self) -> None:
        self._shown = self._ws.handoffs.show(self._id)
        self.item.value = shown_html(self._shown, now=self._ws.clock())
        self._enable()

    def _act(self, done: Handoff) -> None:
        self.said.value = f"<p>{escape(handoff_text(done))}</p>"
        if not done.is_waiting:
            self.answer.value = self.reason.value = ""
        self.reload()

    def _clear(self) -> None:
        """Another item was chosen: nothing of the one before may be decided on."""
        self._shown, self.item.value = None, ""
        self._enable()

    def _enable(self) -> None:
        is_chosen = self.choice.value is not None
        has_text = is_chosen and self._shown is not None and self._shown.draft is not None
        for button in (self.show, self.claim, self.give_back):
            button.disabled = not is_chosen
        for button in (self.approve, self.reject):
            button.disabled = not has_text
        self.edit.disabled = not has_text or (self._shown is not None and self._shown.handoff.mode is Mode.FLAG)

    def _told(self, button: Any) -> None:
        """Do what a button says; what the workbench refuses is told below."""
        self.said.value = ""
        try:
            button.verb()
        except WorkbenchError as error:
            self.said.value = f"<p><b>{escape(shown(str(error), keep=''))}</b></p>"


def _button(label: str, verb: Callable[[], None]) -> Any:
    button = widgets.Button(description=label)
    button.verb = verb
    return button
