"""What calls leave in the real log: each counted once, and nothing in it that names a person."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sqlite3
import threading
from contextlib import closing, suppress

import duckdb
import pytest

from tests.controls.tiny import ASK, Model, put_route, register, said, serving
from workbench.controls.model import Answer
from workbench.demo.clock import VirtualClock
from workbench.errors import RequestRefused

MAIL = "maria.schmidt@example.com"
PHONE = "+49 151 23456789"
CARD = "4111 1111 1111 1111"
IBAN = "DE89 3704 0044 0532 0130 00"
KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz012345"
CODED = base64.b64encode(f"write to {MAIL} please".encode()).decode()
PERSONAL = (MAIL, PHONE, CARD, IBAN, KEY, CODED, "maria.schmidt", "23456789", "4111 1111", "0532 0130", MAIL.replace("@", "%40"))


def every_table_at_every_snapshot(ws) -> str:
    """All that the lake holds or ever held, as text."""

    def read(connection):
        texts = []
        snapshots = [row[0] for row in connection.execute("SELECT snapshot_id FROM lake.snapshots()").fetchall()]
        tables = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'").fetchall()]
        for snapshot in snapshots[1:]:
            for table in tables:
                with suppress(duckdb.CatalogException):  # the table is younger than the snapshot
                    texts.append(
                        repr(connection.execute(f"SELECT * FROM lake.{table} AT (VERSION => {snapshot})").to_arrow_table().to_pylist())
                    )
        return "\n".join(texts)

    return ws.lake.read(read)


def spool_rows(ws) -> str:
    """The rows that wait in spools, decoded."""
    texts = []
    for spool in (ws.home / "spool").glob("*.sqlite"):
        with closing(sqlite3.connect(spool)) as connection:
            texts += [payload.decode() for (payload,) in connection.execute("SELECT payload FROM rows")]
    return "\n".join(texts)


def test_personal_data_sent_in_is_found_nowhere(ws, caplog, capfd):
    """In content, tool arguments and results, names, metadata, ids, a failing tool and a failing bundle; the answer itself is raw."""
    text = f"I am {MAIL}, call {PHONE}, card {CARD}, iban {IBAN}, key {KEY}, {CODED}, {MAIL.replace('@', '%40')}"
    agent = b"""
import json


async def answer(messages, host):
    told = messages[-1]["name"]
    host.record("retrieval", "search", query=messages[-1]["content"], retrieved=[{"doc_id": told, "score": 1.0, "rank": 1}])
    host.record("guard", "policy", rule_id=told, action=told, tool=told)
    response = await host.complete({"model": "small", "messages": list(messages)})
    call = response["choices"][0]["message"]["tool_calls"][0]
    result = await host.call_tool(call["function"]["name"], json.loads(call["function"]["arguments"]), call_id=call["id"])
    if "broken" in host.unit:
        raise ValueError(messages[-1]["content"])
    return {"content": f"You are {messages[-1]['content']} {result}", "case_number": told, "blocked_rules": [told]}
"""
    put_route(ws, stable=register(ws, "v1", agent=agent).bundle_id)
    model = Model(lambda _: said(tool=("look_up", {"mail": MAIL, "phone": PHONE, "note": text, MAIL: "x"})))
    messages = [{"role": "user", "name": MAIL, "content": text}]
    about = {"session": MAIL, "workflow": MAIL, "metadata": {"signed_in": MAIL, "note": text}}
    with caplog.at_level(logging.DEBUG), serving(ws, model) as controls:
        answer = controls.handle_blocking("support", messages, unit=MAIL, request_id=f"req {MAIL}", **about)
        broken = controls.handle_blocking("support", messages, unit=f"broken {PHONE}", **about)
        refusals = []
        for wrong in ({"deadline_s": -1, "unit": MAIL}, {"workflow": MAIL * 30}):
            with pytest.raises(RequestRefused) as refused:
                controls.handle_blocking("support", messages, **{**about, **wrong})
            refusals.append(str(refused.value))
        waiting = spool_rows(ws)
        ws.logs.flush()
    assert MAIL in answer.content
    assert broken.is_fallback
    stored = every_table_at_every_snapshot(ws)
    assert stored.count("<EMAIL:") > 10
    assert waiting.count("<EMAIL:") > 10
    out = "".join(capfd.readouterr())
    for name, place in {"lake": stored, "spool": waiting, "log": caplog.text, "errors": " ".join(refusals), "output": out}.items():
        found = [word for word in PERSONAL if word in place]
        assert found == [], f"{found} in the {name}"


def test_every_call_counts_once_and_one_that_died_counts_as_unknown(released, monkeypatch):
    """Three answers, one refusal, one call whose process died before its END."""
    started = threading.Event()

    async def hang(_request):
        started.set()
        await asyncio.sleep(60)

    model = Model()
    with serving(released, model) as controls:
        answers = [controls.handle_blocking("support", ASK, unit=f"u{n}") for n in range(3)]
        with pytest.raises(RequestRefused):
            controls.handle_blocking("support", ASK, deadline_s=0)
        model.reply = hang
        monkeypatch.setattr(controls._journal, "leave", lambda _: None)  # a killed process leaves nothing more

        async def die():
            task = asyncio.create_task(controls.handle("support", ASK, unit="u9"))
            await asyncio.to_thread(started.wait, 10)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        asyncio.run(die())
    assert all(isinstance(answer, Answer) for answer in answers)
    released.logs.flush()
    assert released.metrics.value("volume", app="support", where={}).n == 5
    by_status = released.metrics.query(["volume", "latency_p50"], by=["status"], app="support")
    assert dict(zip(by_status["status"], by_status["volume"], strict=True)) == {"ok": 3, "timeout": 1, "unknown": 1}
    unfinished = by_status.filter(by_status["status"] == "unknown")
    assert unfinished["latency_p50"].to_list() == [None]
    decided = released.metrics.query(["undecided_rate"], by=["status"], app="support")
    assert dict(zip(decided["status"], decided["undecided_rate"], strict=True))["unknown"] == 1.0

    for _ in range(2):
        rolled = released.metrics.query(["volume", "latency_p50"], by=["status"], app="support", exact=False)
        assert rolled["volume"].to_list() == by_status["volume"].to_list(), "a call counts once, summed or not"
        released.upkeep.sum_hours()


def test_an_end_in_a_later_flush_replaces_its_start(released):
    model, go_on = Model(), threading.Event()

    async def slow(_request):
        await asyncio.to_thread(go_on.wait, 10)
        return said()

    model.reply = slow

    def volumes() -> dict[str, int]:
        frame = released.metrics.query(["volume"], by=["status"], app="support")
        return dict(zip(frame["status"], frame["volume"], strict=True))

    async def flush_between(controls):
        task = asyncio.create_task(controls.handle("support", ASK, unit="u1"))
        while not model.asked:  # noqa: ASYNC110 - a few milliseconds
            await asyncio.sleep(0.001)
        await asyncio.to_thread(released.logs.flush)
        before = await asyncio.to_thread(volumes)
        go_on.set()
        await task
        await asyncio.to_thread(released.logs.flush)
        return before, await asyncio.to_thread(volumes)

    with serving(released, model, turn_clock=VirtualClock) as controls:
        before, after = asyncio.run(flush_between(controls))
    assert (before, after) == ({"unknown": 1}, {"ok": 1})


def test_the_answer_that_leaves_is_proven_by_what_is_stored(released):
    """The HMAC stands over the raw body, so whoever holds the key can prove it."""
    from workbench.observability.sealing import Sealer, canonical_body

    with serving(released, Model(lambda _: said(f"write to {MAIL}"))) as controls:
        answer = controls.handle_blocking("support", ASK, unit="u1")
    released.logs.flush()
    (row,) = released.lake.read(lambda c: c.execute("SELECT output, output_hmac FROM lake.requests WHERE is_final").fetchall())
    assert MAIL not in row[0]
    assert row[1] == Sealer(released.redactor, released.unit_key).proof(canonical_body({"content": answer.content}))
    assert json.loads(row[0])["content"].startswith("write to <EMAIL:")
