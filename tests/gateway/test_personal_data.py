"""Personal data that is sent in is found nowhere: not in any table at any snapshot, spool page, file, log or error.

Everything that is stored is decoded before it is searched; the search is shown to find what is there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.gateway.place import APP, Place, put_in_canary
from tests.gateway.place import processes as gateways
from tests.gateway.standin import Got, ask, send
from tests.gateway.stored import decoded_lake, decoded_sqlite, raw_files
from workbench.settings import Settings
from workbench.workspace import Workspace


def address(place: str) -> str:
    """A mail address that names where it was put in."""
    return f"anna.{place}@example.com"


TEXT = {
    "IBAN": "DE89370400440532013000",
    "card": "4111 1111 1111 1111",
    "phone": "+49 30 90182017",
    "token": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "mail": address("content"),
}
"""What stands in plain words in a message."""
HIDDEN = {"in base64": address("base64"), "in percent": address("percent"), "in JSON": address("json")}
NAMES = ["unit", "safety", "user", "session", "metasession", "flow", "metaflow"]
ELSEWHERE = [
    *["name", "argument", "result", "metadata", "metakey", "extra", "model", "role", "broken", "path", "query", "agent", "key", "header"],
    *["answer", "upstream", "garbage", "fault", "late"],
]
PLAIN_NAME = "customer-4711-of-the-shop"
"""A unit that no detector could know: units are stored as their hash alone."""
SENT = [*TEXT.values(), *HIDDEN.values(), *map(address, [*NAMES, *ELSEWHERE]), PLAIN_NAME]


def say(content: object, **more: object) -> dict[str, object]:
    return {"model": APP, "messages": [{"role": "user", "content": content}], **more}


def talk(url: str, place: Place) -> list[Got]:
    """Every way in which personal data can come in; returns what was refused."""
    key = place.key
    hidden = {
        "in base64": base64.b64encode(f"write to {HIDDEN['in base64']} please".encode()).decode(),
        "in percent": quote(f"write to {HIDDEN['in percent']} please", safe=""),
        "in JSON": json.dumps({"note": json.dumps({"contact": HIDDEN["in JSON"]})}),
    }
    call = {"id": "call_1", "type": "function", "function": {"name": "order", "arguments": json.dumps({"mail": address("argument")})}}
    answered = [
        ask(url, say(" and ".join(TEXT.values())), key=key),
        ask(url, say([{"type": "text", "text": text} for text in hidden.values()]), key=key),
        ask(url, say(f"My key is {key}, is that right?"), key=key),
        ask(url, say("Hello.", user=PLAIN_NAME), key=key),
        ask(url, say("Hello.", user=address("user"), safety_identifier=address("safety")), key=key, x_workbench_unit=address("unit")),
        ask(url, say("Hello.", user=address("user")), key=key, x_workbench_session=address("session")),
        ask(url, say("Hello.", safety_identifier=address("safety")), key=key, x_workbench_workflow=address("flow")),
        ask(url, say("Hello.", metadata={"session_id": address("metasession"), "workflow": address("metaflow")}), key=key),
        ask(url, say("Hello.", metadata={"note": address("metadata"), address("metakey"): "1"}, x_contact=address("extra")), key=key),
        ask(url, say("Hello."), key=key, user_agent=address("agent"), x_contact=address("header")),
        ask(
            url,
            {
                "model": APP,
                "messages": [
                    {"role": "user", "content": "Hello.", "name": address("name")},
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "content": address("result"), "tool_call_id": "call_1"},
                    {"role": "user", "content": "And now?"},
                ],
            },
            key=key,
        ),
        ask(url, say(f"break down with {address('fault')}"), key=key),
    ]
    place.model.status = 500
    answered.append(ask(url, say(f"echo {address('upstream')}"), key=key))
    place.model.status, place.model.body = 200, f"<html>{address('garbage')}</html>".encode()
    answered.append(ask(url, say(f"echo {address('garbage')}"), key=key))
    place.model.body = None
    assert {got.status for got in answered} == {200}
    bearer = {"authorization": f"Bearer {key}"}
    return [
        ask(url, {**say("Hello."), "model": address("model")}, key=key),
        ask(url, {"model": APP, "messages": [{"role": address("role"), "content": "x"}]}, key=key),
        ask(url, f'{{"model": "{APP}", "messages": "{address("broken")}'.encode(), key=key),
        ask(url, say(address("late"), user=address("user")), key=key, x_deadline_ms="0"),
        ask(url, say("Hello."), key=f"wb_{address('key')}"),
        ask(url, say("Hello."), key=key, x_deadline_ms=address("header")),
        send(url, "GET", f"/v1/{address('path')}?q={address('query')}", headers=bearer),
        send(url, "GET", f"/v1/models/{address('path')}", headers=bearer),
    ]


def assert_clean(texts: Iterator[str], where: str, place: Place, *, holds: str) -> None:
    """Nothing that was sent, nor the key, stands in the texts; what certainly is there is found."""
    everything = "\n".join(texts)
    assert holds in everything, f"the search of {where} sees what is there"
    found = [sent for sent in [*SENT, place.key] if sent in everything or quote(sent, safe="") in everything]
    assert found == [], f"in {where}"


@pytest.mark.slow
def test_personal_data_sent_in_is_found_nowhere(place: Place):
    put_in_canary(place.ws, place.v2, 0.5)
    place.model.say = lambda asked: f"{address('answer')} {asked}"
    with gateways(1, place) as [gateway]:
        refused = talk(gateway.url, place)
        said = ask(gateway.url, say("Hello."), key=place.key)
        gateway.kill()
        log = gateway.log.read_text()
    assert address("answer") in said.body.decode(), "the answer that leaves is the raw one"
    assert {got.status for got in refused} == {400, 401, 404, 504}
    told = (json.dumps(dict(got.headers)) + got.body.decode() for got in refused)
    assert_clean(told, "refusals", place, holds="deadline_passed")
    assert_clean(iter([log]), "the gateway's log", place, holds=place.v2)
    place.ws.close()  # a file of SQLite is not read beside its own library in one process

    home = place.ws.home
    spools = (text for path in (home / "spool").glob("*.sqlite") for text in decoded_sqlite(path))
    assert_clean(spools, "spools", place, holds=said.headers["x-request-id"])
    assert_clean(raw_files(home), "files before the flush", place, holds="house-1")
    with Workspace(Settings(home=home)) as ws:
        ws.logs.flush()
        assert_clean(decoded_lake(ws), "the lake", place, holds=said.headers["x-request-id"])
    assert_clean(decoded_sqlite(home / "lake" / "catalog.sqlite"), "the lake's catalogue", place, holds="parquet")
    assert_clean(decoded_sqlite(home / "ledger.sqlite"), "the ledger", place, holds=place.v1)
    assert_clean(raw_files(home), "files after the flush", place, holds="SQLite format 3")
