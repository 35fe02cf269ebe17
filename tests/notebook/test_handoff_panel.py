"""The panel decides by the verbs of the queue, on what is on the screen and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.controls.desk import MAIL, PROPOSED, Clock, new
from tests.controls.tiny import write_bundle
from workbench import notebook
from workbench.controls.handoff import HandoffState, Mode
from workbench.errors import UnknownSubject
from workbench.ledger.audit import tail
from workbench.notebook.display import FORMS
from workbench.ownership.model import Actor, Assurance
from workbench.workspace import Workspace


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 11, 20, 12, tzinfo=UTC))


@pytest.fixture
def ws(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("WORKBENCH_VAULT_KEY", "0f" * 32)
    folder = tmp_path / "app"
    folder.mkdir()
    bundle = write_bundle(folder, "v1")
    people = {"owner": {"os": ["owner"], "roles": {"*": ["admin", "operator"]}}, "other": {"roles": {"*": ["approver"]}}}
    (folder / "people.yaml").write_text(yaml.safe_dump({"people": people}))
    actor = Actor(person="owner", via="notebook", assurance=Assurance.LOCAL)
    with Workspace.open(tmp_path / "home", clock=clock, actor=actor, via="notebook") as opened:
        opened.versions.register(bundle)
        yield opened


def open_item(ws: Workspace, handoff_id: str = "h1", **changes) -> None:
    ws.handoffs.open(new(handoff_id, app="support", created_at=ws.clock(), **changes))


def views(ws: Workspace) -> int:
    with ws.ledger.read() as connection:
        return [entry.act for entry in tail(connection, 100)].count("handoff.view")


def result(ws: Workspace, handoff_id: str = "h1"):
    return ws.handoffs.result(handoff_id, "support")


def test_an_item_is_shown_when_it_is_asked_for_and_then_approved(ws):
    open_item(ws)
    panel = notebook.handoffs(ws, "support")
    assert "h1" in panel.queue.value
    assert MAIL not in panel.queue.value + panel.item.value + repr(panel)
    assert (panel.approve.disabled, panel.edit.disabled, panel.reject.disabled, views(ws)) == (True, True, True, 0)
    panel.show.click()
    assert MAIL in panel.item.value
    assert (panel.approve.disabled, views(ws)) == (False, 1)
    panel.claim.click()
    assert "is CLAIMED by owner" in panel.said.value
    assert MAIL in panel.item.value, "what is on the screen stays"
    panel.approve.click()
    assert "is APPROVED by owner" in panel.said.value
    assert (panel.item.value, panel.choice.options, panel.approve.disabled, panel.claim.disabled) == ("", (), True, True)
    assert result(ws).answer == PROPOSED


def test_an_answer_or_a_reason_is_typed(ws):
    open_item(ws, "h1")
    open_item(ws, "h2")
    panel = notebook.handoffs(ws)
    panel.show.click()
    panel.answer.value = "We call you."
    panel.edit.click()
    assert panel.answer.value == ""
    panel.show.click()
    panel.reject.click()
    assert "needed: why it is rejected" in panel.said.value
    panel.reason.value = "not our customer"
    panel.reject.click()
    assert (result(ws, "h1").answer, result(ws, "h2").decision) == ("We call you.", HandoffState.REJECTED)


def test_choosing_another_item_takes_the_first_one_off_the_screen(ws):
    open_item(ws, "h1")
    open_item(ws, "h2")
    panel = notebook.handoffs(ws)
    panel.show.click()
    panel.choice.value = "h2"
    assert (panel.item.value, panel.approve.disabled) == ("", True)


def test_a_refusal_is_told_and_nothing_is_done(ws, clock):
    open_item(ws)
    panel = notebook.handoffs(ws)
    panel.show.click()
    ws.handoffs.claim("h1", Actor(person="other", via="slack", assurance=Assurance.VERIFIED))
    panel.approve.click()
    assert "other holds it until" in panel.said.value
    clock.now += timedelta(hours=1)
    panel.approve.click()
    assert "nobody decided in time" in panel.said.value
    panel.refresh.click()
    assert (panel.choice.options, panel.item.value) == ((), "")
    assert result(ws).decision is None


def test_refreshing_brings_new_items_and_keeps_the_one_on_the_screen(ws):
    open_item(ws, "h2")
    panel = notebook.handoffs(ws)
    panel.show.click()
    before = panel.item.value
    open_item(ws, "h1")
    panel.refresh.click()
    assert (panel.choice.options, panel.choice.value, panel.item.value) == (("h1", "h2"), "h2", before)
    panel.approve.click()
    assert result(ws, "h2").decision is HandoffState.APPROVED


def test_a_flagged_item_is_judged_not_answered(ws):
    open_item(ws, mode=Mode.FLAG)
    panel = notebook.handoffs(ws)
    panel.show.click()
    assert (panel.approve.disabled, panel.edit.disabled, panel.reject.disabled) == (False, True, False)


def test_what_somebody_wrote_stays_text(ws):
    evil = "<script>alert(1)</script>"
    open_item(ws, messages=({"role": "user", "content": evil},), proposed=evil, signals=(evil,), workflow=evil)
    panel = notebook.handoffs(ws)
    panel.show.click()
    assert "<script" not in panel.queue.value + panel.item.value
    assert "&lt;script" in panel.item.value


def test_a_notebook_shows_the_widgets_and_other_readers_the_queue(ws):
    open_item(ws)
    shown = notebook.handoffs(ws)._repr_mimebundle_()
    data = shown[0] if isinstance(shown, tuple) else shown
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "1 item waits for a person." in data["text/plain"]


def test_an_item_that_a_cell_ends_with_is_a_page(ws):
    open_item(ws)
    shown = ws.handoffs.show("h1")
    page = FORMS[type(shown)](shown)
    assert PROPOSED in page["text/plain"]
    assert PROPOSED in page["text/html"]


def test_an_unknown_app_has_no_panel(ws):
    with pytest.raises(UnknownSubject):
        notebook.handoffs(ws, "shop")
