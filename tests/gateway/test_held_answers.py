"""An answer that a person has to decide on: the client waits for it, nobody else sees it, and silence is never a yes."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.guarded import APPS, CALLED, Guarded, opened
from tests.gateway.scripted import Said, last_text, scripted
from tests.gateway.standin import Got, send
from tests.gateway.stored import decoded_lake, decoded_sqlite
from workbench.errors import ConflictError, StoreError
from workbench.gateway.server import running
from workbench.ledger.store import Ledger

HOLDING = "A colleague looks at this."
WITHHELD = "The blue bicycle is yours for nothing"
TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
ASKS = "a human please, about the blue bicycle"
ADDRESS = "anna.withheld@example.com"


def says(request: Mapping[str, Any]) -> Said:
    asked = last_text(request)
    if "close my account" in asked and request["messages"][-1]["role"] != "tool":
        return Said(text=None, calls=[("close_account", json.dumps({"why": WITHHELD}))])
    return Said(text=f"{WITHHELD}, {TOKEN}, {asked}" if "secret" in asked else f"{WITHHELD}.")


@pytest.fixture(scope="module")
def vault_key(request) -> Mapping[str, str]:
    return getattr(request, "param", {})


@pytest.fixture(scope="module")
def place(tmp_path_factory, vault_key: Mapping[str, str]) -> Iterator[tuple[Guarded, str]]:
    folder: Path = tmp_path_factory.mktemp("held")
    fine = lambda _request: Said(text="fine")  # noqa: E731
    with (
        scripted(says) as model,
        scripted(fine) as judge,
        opened(folder, model, judge, **vault_key) as guarded,
        running(guarded.ws) as url,
    ):
        yield guarded, url


NO_KEY = {"vault_key": ""}


def post(place: tuple[Guarded, str], app: str, text: str = ASKS, *, streamed: bool = False) -> Got:
    guarded, url = place
    tools = [{"type": "function", "function": {"name": "close_account"}}]
    body = {"model": app, "messages": [{"role": "user", "content": text}], "stream": streamed, "tools": tools}
    headers = {"authorization": f"Bearer {guarded.keys[app]}", "x-workbench-unit": "u-1"}
    return send(url, "POST", "/v1/chat/completions", body=json.dumps(body).encode(), headers=headers)


def get(place: tuple[Guarded, str], app: str, path: str) -> Got:
    guarded, url = place
    return send(url, "GET", path, headers={"authorization": f"Bearer {guarded.keys[app]}"})


def text_of(got: Got, *, streamed: bool) -> str:
    if not streamed:
        return str(got.json["choices"][0]["message"]["content"])
    *chunks, done = got.body.decode().removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    deltas = [json.loads(chunk.removeprefix("data: "))["choices"][0]["delta"] for chunk in chunks]
    return "".join(delta.get("content") or "" for delta in deltas)


def held(place: tuple[Guarded, str], app: str = "proxied-window") -> str:
    """The id of a held answer."""
    return post(place, app).headers["x-handoff-id"]


def last_end(guarded: Guarded) -> tuple[Any, ...]:
    """Status, error, handoff and output of the request that ended last."""
    guarded.ws.logs.flush()
    sql = "SELECT status, error_type, handoff_id, output FROM lake.requests WHERE is_final ORDER BY seq DESC LIMIT 1"
    found = guarded.ws.lake.read(lambda lake: lake.execute(sql).fetchone())
    assert found is not None
    return found


def n_texts(guarded: Guarded) -> int:
    """Texts in the vault."""
    with contextlib.closing(sqlite3.connect(guarded.ws.home / "ledger.sqlite")) as connection:
        return int(connection.execute("SELECT count(*) FROM vault").fetchone()[0])


def shown_of(guarded: Guarded, handoff_id: str) -> str:
    """All that people are shown."""
    draft = guarded.ws.handoffs.show(handoff_id).draft
    assert draft is not None
    return json.dumps(draft.as_json())


@pytest.mark.parametrize("asks", [ASKS, "close my account"])
def test_of_a_held_answer_nothing_leaves_and_nothing_is_logged(place, asks: str):
    guarded, url = place
    n_before = n_texts(guarded)
    CALLED.clear()
    for app in APPS:
        for streamed in (False, True):
            got = post(place, app, asks, streamed=streamed)
            assert (got.status, text_of(got, streamed=streamed)) == (200, HOLDING)
            status, error_type, handoff_id, output = last_end(guarded)
            assert (status, error_type, handoff_id) == ("handed_off", None, got.headers["x-handoff-id"])
            assert json.loads(output) == {"content": HOLDING}
            waiting = get(place, app, f"/v1/handoffs/{handoff_id}")
            assert (waiting.json["state"], waiting.json["answer"], waiting.json["is_final"]) == ("open", None, False)
            known = get(place, app, f"/v1/requests/{got.headers['x-request-id']}")
            assert (known.json["status"], known.json["handoff_id"]) == ("handed_off", handoff_id)
            told = [got, waiting, known, send(url, "GET", "/metrics")]
            assert not [each for each in told if "bicycle" in each.body.decode() + str(each.headers)]
            assert WITHHELD in shown_of(guarded, handoff_id)
    assert CALLED == []
    assert n_texts(guarded) == n_before + len(APPS) * 2
    for texts in (decoded_lake(guarded.ws), decoded_sqlite(guarded.ws.home / "ledger.sqlite")):
        assert not [text for text in texts if WITHHELD in text]


def test_only_a_decision_lets_an_answer_go_and_it_is_the_one_that_was_shown(place):
    guarded, _ = place
    handoffs, app = guarded.ws.handoffs, "hosted-window"
    approved, edited, rejected = held(place, app), held(place, app), held(place, app)
    digests = {each: handoffs.show(each).shown_digest for each in (approved, edited, rejected)}
    with pytest.raises(ConflictError):
        handoffs.approve(approved, "0" * 64)
    assert get(place, app, f"/v1/handoffs/{approved}").json["answer"] is None
    handoffs.approve(approved, digests[approved])
    handoffs.edit(edited, digests[edited], "Come by on Monday.")
    handoffs.reject(rejected, digests[rejected], "not ours")
    found = [get(place, app, f"/v1/handoffs/{each}").json for each in (approved, edited, rejected)]
    assert [(each["answer"], each["is_final"]) for each in found] == [(f"{WITHHELD}.", True), ("Come by on Monday.", True), (None, True)]
    assert get(place, "proxied-window", f"/v1/handoffs/{approved}").status == 404, "another app's key"


def test_what_nobody_decides_in_time_is_never_delivered(place):
    guarded, _ = place
    handoffs, app = guarded.ws.handoffs, "proxied-window"
    handoff_id = held(place)
    digest = handoffs.show(handoff_id).shown_digest
    handoffs.expire(guarded.ws.clock() + timedelta(hours=2))
    found = get(place, app, f"/v1/handoffs/{handoff_id}").json
    assert (found["state"], found["answer"], found["is_final"]) == ("expired", None, True)
    with pytest.raises(ConflictError):
        handoffs.approve(handoff_id, digest)
    assert get(place, app, f"/v1/handoffs/{handoff_id}").json["answer"] is None
    handoffs.expire(guarded.ws.clock() + timedelta(hours=80))
    assert n_texts(guarded) == 0


@pytest.mark.parametrize("vault_key", [NO_KEY], indirect=True)
def test_without_a_key_of_the_vault_nothing_is_held_and_the_vault_is_empty(place):
    guarded, _ = place
    CALLED.clear()
    for app, (mode, _) in APPS.items():
        for streamed in (False, True):
            flagged = post(place, app, streamed=streamed)
            assert text_of(flagged, streamed=streamed) == f"{WITHHELD}."
            assert last_end(guarded)[:3] == ("ok", None, flagged.headers["x-handoff-id"])
            unapproved = post(place, app, "close my account", streamed=streamed)
            said = text_of(unapproved, streamed=streamed)
            assert said == (f"{WITHHELD}." if mode == "hosted" else "We do not speak of this.")
            assert "close_account" not in unapproved.body.decode()
    assert CALLED == []
    assert n_texts(guarded) == 0


def test_a_queue_out_of_reach_neither_releases_nor_loses_the_answer(place, monkeypatch):
    guarded, _ = place
    for app in APPS:
        for streamed in (False, True):
            with monkeypatch.context() as broken:
                broken.setattr(Ledger, "write", away)
                got = post(place, app, streamed=streamed)
            assert (got.status, got.error["code"], got.headers["retry-after"]) == (503, "handoff_unavailable", "1")
            assert "bicycle" not in got.body.decode()
            status, error_type, handoff_id, output = last_end(guarded)
            assert (status, error_type, handoff_id, output) == ("error", "handoff_unavailable", None, None)
            again = post(place, app, streamed=streamed)
            assert text_of(again, streamed=streamed) == HOLDING


def away(*_: object, **__: object) -> Any:
    raise StoreError("ledger", seen="it does not answer")


def test_what_guards_take_from_an_answer_nobody_is_shown_and_nobody_can_let_go(place):
    guarded, _ = place
    handoffs = guarded.ws.handoffs
    for app in APPS:
        for streamed in (False, True):
            handoff_id = post(place, app, f"{ASKS}, secret", streamed=streamed).headers["x-handoff-id"]
            shown = handoffs.show(handoff_id)
            assert WITHHELD in shown_of(guarded, handoff_id)
            assert TOKEN not in shown_of(guarded, handoff_id)
            handoffs.approve(handoff_id, shown.shown_digest)
            answer = get(place, app, f"/v1/handoffs/{handoff_id}").json["answer"]
            assert answer.startswith(f"{WITHHELD}, [secret removed], ")
