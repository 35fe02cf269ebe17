"""A unit that asked through a gateway, in every way, and is erased: nothing of it is left anywhere, and of others everything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from tests.gateway.guarded import APPS, BARE, Guarded, opened
from tests.gateway.place import ROOT
from tests.gateway.place import processes as gateways
from tests.gateway.scripted import Said, last_text, scripted
from tests.gateway.standin import send
from tests.gateway.stored import decoded_lake, decoded_sqlite, raw_files
from workbench.observability.sealing import Sealer
from workbench.observability.upkeep import Upkeep
from workbench.settings import Settings
from workbench.workspace import Workspace

ERASED, KEPT = "customer-quitte", "customer-birne"
MARKS = {ERASED: "Quittenmus", KEPT: "Birnenmus"}
HOLDS = "a human please"


def says(request: Mapping[str, Any]) -> Said:
    """Repeats what was asked."""
    return Said(text=f"You said: {last_text(request)}")


def asks(url: str, place: Guarded, unit: str) -> list[str]:
    """Everything that a unit can ask; the ids of its requests and handoffs."""
    ids = []
    for app in (*APPS, BARE):
        headers = {"authorization": f"Bearer {place.keys[app]}", "x-workbench-unit": unit, "x-workbench-session": f"s-{MARKS[unit]}"}
        user = [{"role": "user", "content": f"{MARKS[unit]}, please"}]
        held = [{"role": "user", "content": f"{HOLDS}, {MARKS[unit]}"}]
        chat, embeddings = "/v1/chat/completions", "/v1/embeddings"
        for path, body in (
            (chat, {"messages": user, "metadata": {"note": MARKS[unit]}}),
            (chat, {"messages": user, "stream": True}),
            (chat, {"messages": held}),
            (embeddings, {"input": MARKS[unit]}),
        ):
            got = send(url, "POST", path, body=json.dumps({"model": app, **body}).encode(), headers=headers)
            assert got.status == 200, got
            ids += [got.headers[name] for name in ("x-request-id", "x-handoff-id") if name in got.headers]
    return ids


def rows_of(ws: Workspace, unit_hash: str) -> list[str]:
    """The unit's requests with their spans."""
    own = f"SELECT request_id FROM lake.requests WHERE unit_hash = '{unit_hash}'"
    sql = " UNION ALL ".join(
        f"SELECT to_json(t)::VARCHAR AS text FROM lake.{table} t WHERE request_id IN ({own})" for table in ("requests", "spans")
    )
    return ws.lake.read(lambda lake: [text for (text,) in lake.execute(f"{sql} ORDER BY text").fetchall()])


@pytest.mark.slow
def test_nothing_of_an_erased_unit_is_left_and_others_are_untouched(tmp_path):
    fine = lambda _request: Said(text="fine")  # noqa: E731
    with scripted(says) as model, scripted(fine) as judge, opened(tmp_path, model, judge) as place:
        with gateways(1, place) as [gateway]:
            ids = {unit: asks(gateway.url, place, unit) for unit in (ERASED, KEPT)}
            gateway.kill()
        place.ws.logs.flush(everything=True)
        home, settings, variables = place.ws.home, place.ws.settings, dict(place.variables)
        hash_of = Sealer(place.ws.redactor, place.ws.unit_key).unit_hash
        hashes = {unit: hash_of(unit) for unit in (ERASED, KEPT)}
        before = rows_of(place.ws, hashes[KEPT])
        assert len(rows_of(place.ws, hashes[ERASED])) == len(before) > len(ids[KEPT])
        place.ws.close()
    assert MARKS[ERASED] in "".join(decoded_sqlite(home / "lake" / "catalog.sqlite")), "the search sees what is there"
    command = [sys.executable, "-m", "workbench", "erase", "--unit", "-", "--reason", f"asked by {ERASED}"]
    subprocess.run(command, env=variables, cwd=ROOT, input=f"{ERASED}\n", text=True, check=True, capture_output=True)
    with Workspace(Settings(home=home, vault_key=settings.vault_key)) as ws:
        ws.__dict__["upkeep"] = Upkeep(ws.lake, cited=frozenset, grace=timedelta(0), orphan_age=timedelta(0))
        for _ in range(4):
            done = ws.erasure.finish()
        assert done == (), "nothing is pending"
        assert rows_of(ws, hashes[KEPT]) == before
        assert rows_of(ws, hashes[ERASED]) == []
        left = [text for text in decoded_lake(ws) if hashes[ERASED] in text]
        assert left, "that the unit was erased is known, so that no row of before comes back"
        assert all('"erasure_id"' in text for text in left)
        assert not [text for text in decoded_lake(ws) if any(name in text for name in ids[ERASED])]
        waiting = ws.handoffs.list()
        assert {item.handoff_id for item in waiting} == {name for name in ids[KEPT] if name.startswith("ho_")}
        shown = ws.handoffs.show(waiting[0].handoff_id)
        assert shown.draft is not None
        assert MARKS[KEPT] in json.dumps(shown.draft.as_json())
        ws.handoffs.approve(waiting[0].handoff_id, shown.shown_digest or "")
    catalogue, ledger = list(decoded_sqlite(home / "lake" / "catalog.sqlite")), list(decoded_sqlite(home / "ledger.sqlite"))
    spools = [text for path in (home / "spool").glob("*.sqlite") for text in decoded_sqlite(path)]
    bytes_of_all = "".join(raw_files(home))
    assert MARKS[KEPT] in "".join(catalogue)
    for mark in (ERASED, MARKS[ERASED]):
        assert mark not in "".join([*catalogue, *ledger, *spools])
        assert mark not in bytes_of_all
    acts = [text for text in ledger if any(name in text for name in [*ids[ERASED], hashes[ERASED]])]
    assert acts, "the audit keeps that it was done"
    assert all(" sha256:" in text and (" handoff.open " in text or " erase" in text) for text in acts), acts[:3]
