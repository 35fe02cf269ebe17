"""Personal data in every spelling, on every way through guards, tools, models and people, is found in no store afterwards."""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

import pytest

from tests.gateway.guarded import APPS, BARE, Guarded, opened
from tests.gateway.place import processes as gateways
from tests.gateway.scripted import Said, last_text, scripted
from tests.gateway.standin import Got, send
from tests.gateway.stored import decoded_lake, decoded_sqlite, raw_files
from workbench.settings import Settings
from workbench.workspace import Workspace

SPELLED: Mapping[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "percent twice over": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "percent of percent": lambda text: quote(quote(text, safe=""), safe=""),
    "as nobody writes": lambda text: text.replace("@", "\uff20").replace(".", "\u200b&period;"),
    "base64": lambda text: base64.b64encode(f"to {text} now".encode()).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(f"<to {text}?>".encode()).decode().rstrip("="),
    "JSON": lambda text: text.replace("@", "\\u0040"),
    "JSON in JSON": lambda text: json.dumps({"note": json.dumps({"mail": text})}),
}
FILLER = "It is on its way, and it will be there in time. " * 12
LONGEST_KEY = 64
"""Of metadata."""
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")
_RUN = re.compile(r"[A-Za-z0-9+/_-]{16,}")


class Sent:
    """The addresses that were sent, each naming where; none of them is told to the test by the product."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, place: str) -> str:
        name = f"anna.q{len(self.names)}{''.join(char for char in place.lower() if char.isalnum())}"
        self.names.append(name)
        return f"{name}@example.com"


def readings(text: str) -> Iterator[str]:
    """The text, and what it says once it is decoded."""
    yield text
    yield unquote(text)
    yield unquote(unquote(text))
    yield unicodedata.normalize("NFKC", html.unescape(text).replace("\u200b", ""))
    yield _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    for run in set(_RUN.findall(text)):
        bare = run.replace("-", "+").replace("_", "/")
        for start in range(4):
            piece = bare[start : start + (len(bare) - start) // 4 * 4]
            yield base64.b64decode(piece).decode("latin-1")


def found_in(texts: Iterator[str], sent: Sent, *, holds: str, decodes: bool = True) -> list[str]:
    """Names that stand in the texts, in any spelling; what certainly is there is found."""
    everything = "\n".join(texts)
    assert holds in everything, "the search sees what is there"
    read = "\n".join(readings(everything)) if decodes else everything
    return [name for name in sent.names if name in read]


def post(
    url: str, place: Guarded, app: str, path: str = "/v1/chat/completions", *, headers: Mapping[str, str] | None = None, **body: Any
) -> Got:
    named = {"authorization": f"Bearer {place.keys[app]}", "x-workbench-unit": "u-1", **(headers or {})}
    sent = {name: value.encode().decode("latin-1") for name, value in named.items()}
    return send(url, "POST", path, body=json.dumps({"model": app, **body}).encode(), headers=sent)


def user(content: object, **more: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content, **more}]


def comes_in(url: str, place: Guarded, sent: Sent) -> None:
    """Through everything that a caller sends."""
    for app in (*APPS, BARE):
        for how, spell in SPELLED.items():

            def spelled(where: str, how: str = how, spell: Callable[[str], str] = spell, app: str = app) -> str:
                return spell(sent(f"{app}{how}{where}"))

            call = {"id": spelled("id"), "type": "function", "function": {"name": spelled("tool"), "arguments": spelled("arguments")}}
            talk = [
                *user(f"From {spelled('content')}.", name=spelled("name")),
                {"role": "assistant", "content": spelled("said"), "tool_calls": [call]},
                {"role": "tool", "content": spelled("result"), "tool_call_id": call["id"]},
                *user("And now? #fine#"),
            ]
            headers = {
                "x-workbench-session": spelled("session"),
                "x-workbench-workflow": spelled("flow"),
                "x-workbench-unit": spelled("unit"),
            }
            key = spelled("key")
            metadata = {"note": spelled("note"), **({key: "1"} if len(key) <= LONGEST_KEY else {})}
            tools = [{"type": "function", "function": {"name": spelled("offered"), "description": spelled("described")}}]
            got = post(url, place, app, headers=headers, messages=talk, metadata=metadata, tools=tools, user=spelled("user"))
            assert got.status in {200, 400}, got
            post(url, place, app, headers=headers, messages=talk, stream=True)
            post(url, place, app, "/v1/embeddings", input=[spelled("vector"), f"Of {spelled('vectors')}"])
            if app != BARE:
                held = post(url, place, app, headers=headers, messages=user(f"a human please, I am {spelled('held')} #fine#"))
                assert "x-handoff-id" in held.headers, held


def comes_back(url: str, place: Guarded, sent: Sent, script: dict[str, Said]) -> list[Got]:
    """Through everything that a model answers."""
    got = []

    def ask(app: str, said: Said, *, streamed: bool = False) -> None:
        name = f"n{len(script)}"
        script[name] = said
        got.append(post(url, place, app, messages=user(f"Hello. #{name}#"), stream=streamed, tools=OFFERED))

    for app in ("hosted-window", "proxied-window", "proxied-hold-all", BARE):
        for streamed in (False, True):
            for how, spell in SPELLED.items():
                ask(app, Said(text=f"Write to {spell(sent(f'{app}{how}answer'))}, please."), streamed=streamed)
                arguments = json.dumps({"order": spell(sent(f"{app}{how}arguments"))})
                ask(app, Said(calls=[("look_up", arguments)], ids=[spell(sent("id"))]), streamed=streamed)
                ask(app, Said(calls=[(spell(sent(f"{app}{how}tool")), "{}")]), streamed=streamed)
                ask(app, Said(text="Fine.", model=spell(sent("model")), reason=spell(sent("reason"))), streamed=streamed)
            body = json.dumps({"error": {"message": sent("error"), "code": sent("code"), "type": sent("type"), "param": sent("param")}})
            for status in (200, 400, 429, 500):
                ask(app, Said(status=status, body=body.encode()), streamed=streamed)
            ask(app, Said(body=f"<html>{sent('page')}</html>".encode()), streamed=streamed)
    for spell in SPELLED.values():
        word = spell(sent("split"))
        for place_of_cut in range(1, len(word), 1 if spell is str else 11):
            pieces = [FILLER, f"Write to {word[:place_of_cut]}", f"{word[place_of_cut:]}, please. ", FILLER]
            ask("proxied-window", Said(text="x", pieces=pieces), streamed=True)
            ask(BARE, Said(text="x", pieces=pieces), streamed=True)
            ask(BARE, Said(text="x", pieces=pieces[:2], is_cut=True), streamed=True)
    return got


OFFERED = [{"type": "function", "function": {"name": "look_up"}}]


@pytest.mark.slow
def test_personal_data_in_every_spelling_is_found_nowhere(tmp_path):
    sent, script = Sent(), {"fine": Said(text="Fine.")}

    def says(request: Mapping[str, Any]) -> Said:
        if request["messages"][-1]["role"] == "tool":
            return Said(text="Done.")
        return script[last_text(request).split("#")[-2]]

    fine = lambda _request: Said(text="fine")  # noqa: E731
    with scripted(says) as model, scripted(fine) as judge, opened(tmp_path, model, judge) as place:
        with gateways(1, place) as [gateway]:
            comes_in(gateway.url, place, sent)
            comes_back(gateway.url, place, sent, script)
            told = send(gateway.url, "GET", "/metrics").body.decode()
            gateway.kill()
            log = gateway.log.read_text()
        waiting = [item.handoff_id for item in place.ws.handoffs.list()]
        held = [place.ws.handoffs.show(handoff_id).draft for handoff_id in waiting]
        assert len(held) == len(APPS) * len(SPELLED), "people see what they decide on"
        assert all("human please" in json.dumps(draft.as_json()) for draft in held if draft is not None)
        key = place.keys[BARE]
        place.ws.close()
    home = tmp_path / "home"
    found = {
        "metrics": found_in(iter([told]), sent, holds="requests_total"),
        "log": found_in(iter([log]), sent, holds="hosted-window"),
        "spools": found_in((text for path in (home / "spool").glob("*.sqlite") for text in decoded_sqlite(path)), sent, holds="proxied"),
        "files before": found_in(raw_files(home), sent, holds="house-1", decodes=False),
    }
    with Workspace(Settings(home=home)) as ws:
        ws.logs.flush()
        rows = ws.lake.read(lambda lake: lake.execute("SELECT app, request_id FROM lake.requests WHERE is_final").fetchall())
        known = [json.dumps(ws.metrics.request(app, request_id), default=str) for app, request_id in rows[:: max(1, len(rows) // 50)]]
        found["requests"] = found_in(iter(known), sent, holds="proxied")
        found["lake"] = found_in(decoded_lake(ws), sent, holds="proxied-window")
    found["catalogue"] = found_in(decoded_sqlite(home / "lake" / "catalog.sqlite"), sent, holds="parquet")
    found["ledger"] = found_in(decoded_sqlite(home / "ledger.sqlite"), sent, holds="handoff.open")
    found["files after"] = found_in(raw_files(home), sent, holds="SQLite format 3", decodes=False)
    assert {where: names for where, names in found.items() if names} == {}
    assert key not in "".join(raw_files(home))
