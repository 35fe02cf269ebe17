"""The fault matrix: every way in which a model fails, through a real gateway, as its client and its log tell of it.

Each kind of failure has an app of its own. The candidate, which serves every unit, asks a provider that fails; the stable bundle asks one
that does not, and must never be asked in the candidate's place. What no provider at an address can cause (`broken`, `throttled`, `busy`,
`unfit`) is not here; the tests of asking have it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest

from tests.versions.folders import write_yaml
from workbench.controls.addresses import variable
from workbench.controls.failures import FailureKind as K
from workbench.demo.faulty import Act, Play, Seen, begun, chunk, fault, head, playing_to, refusal, streamed, whole
from workbench.gateway.server import running
from workbench.ledger.routes import StoredRoute, add_route
from workbench.settings import Settings
from workbench.spec.login import login_of_process
from workbench.workspace import Workspace

ANSWER = "Your parcel is on its way."
CANNED = "We cannot answer right now."
BEGUN = "Your parcel left our house at noon. " * 12
"""More than the guards hold back, so that part of it has left when the rest fails."""
NEVER = "This is the stable bundle."
WAITS_MS, WORKS_MS = 4000, 20_000
"""Deadline of a cell that is left waiting, and of one that is not: only the machine can make that late."""
GRACE_MS = 100
"""What a request may take beyond its deadline."""
_PATIENT = {"connect": "10s", "headers": "10s", "first_token": "10s", "gap": "10s"}
_IMPATIENT = {**_PATIENT, "headers": "1500ms", "first_token": "1500ms", "gap": "1500ms"}
_CODES = {
    K.TRANSIENT: "server_error",
    K.RATE_LIMITED: "rate_limit_exceeded",
    K.QUOTA: "insufficient_quota",
    K.CREDENTIAL: "invalid_api_key",
    K.NO_MODEL: "model_not_found",
    K.CONTEXT_LENGTH: "context_length_exceeded",
    K.CONTENT_FILTER: "content_filter",
    K.BAD_REQUEST: "invalid_request_error",
}
_BEFORE = (K.CONNECT, K.SILENT, K.FIRST_TOKEN, K.GARBAGE, *_CODES, K.DEADLINE, K.BREAKER_OPEN)
_WORDS_BEGUN = (K.CONNECT, K.SLOW, K.GARBAGE, *_CODES, K.DEADLINE)
_BODY_BEGUN = (K.CONNECT, K.SILENT, K.GARBAGE, *_CODES)
WAITING = (K.SILENT, K.FIRST_TOKEN, K.SLOW, K.DEADLINE)
"""What is only told by time."""
_REPEATED = (K.CONNECT, K.TRANSIENT, K.GARBAGE, K.RATE_LIMITED)
"""What the same provider may be asked again after; three times in all. Written down here once more, and not read from the controls."""
_NOT_TURNED = (K.CONTENT_FILTER, K.BAD_REQUEST)
"""What nobody else may be asked after."""


class Cell(NamedTuple):
    """One square of the matrix."""

    kind: K
    is_streamed: bool
    is_begun: bool
    """Whether the provider fails after the first word of a stream, or after the first byte of a body."""
    spare: str
    """Who else may be asked: `none`, a `sibling`, or a `larger` model."""

    @property
    def app(self) -> str:
        return f"{self.kind.replace('_', '-')}-{self.spare}"

    @property
    def deadline_ms(self) -> int:
        return WAITS_MS if self.kind in WAITING else WORKS_MS

    @property
    def is_cut(self) -> bool:
        """Whether part of the answer has left when it fails."""
        return self.is_streamed and self.is_begun

    @property
    def asks(self) -> tuple[int, int]:
        """How often the provider that fails, and the spare one, may be asked."""
        if self.is_cut:
            return 1, 0
        has_spare = self.spare == "larger" or (self.spare == "sibling" and self.kind not in (*_NOT_TURNED, K.CONTEXT_LENGTH))
        if self.kind is K.BREAKER_OPEN:  # a lone target is probed
            return (0, 1) if has_spare else (1, 0)
        return 3 if self.kind in _REPEATED else 1, int(has_spare)

    @property
    def is_served(self) -> bool:
        """Whether the spare provider answers."""
        return self.asks[1] == 1 and self.kind is not K.DEADLINE


def cells() -> list[Cell]:
    """All squares: of a kind at a place only where a provider can fail like that there."""
    spares, either = ("none", "sibling"), (False, True)
    places = [*product(_BEFORE, either, [False], spares), *product(_WORDS_BEGUN, [True], [True], spares)]
    places += [*product(_BODY_BEGUN, [False], [True], spares), *product([K.CONTEXT_LENGTH], either, either, ["larger"])]
    return [Cell(*place) for place in places]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of one cell."""

    cell: Cell
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    """What the client could put together of the answer."""
    finish_reason: str | None = None
    is_done: bool = False
    """Whether the client was told that this is all: by the last word of a stream, or a whole body."""
    error: str | None = None
    """Code of the error that it was told."""
    took_ms: float = 0.0
    """On the client's clock, to the last byte."""
    machine_ms: float = 0.0
    """The longest that the gateway took meanwhile for a request that asks for nothing: nothing can be quicker on this machine now."""
    asked: tuple[int, int, int] = (0, 0, 0)
    """How often the failing, the spare and the stable bundle's provider were asked, as they count it."""
    candidate: str = ""
    rows: Sequence[Mapping[str, Any]] = ()
    """What the log has of the request: START and END."""
    spans: Sequence[Mapping[str, Any]] = ()

    @property
    def end(self) -> Mapping[str, Any]:
        return self.rows[-1]

    @property
    def output(self) -> str | None:
        """The text that was answered, as the log says."""
        return json.loads(self.end["output"])["content"] if self.end["output"] else None

    @property
    def late_ms(self) -> float:
        """How long it took beyond its deadline, of which the machine's own time is taken off; below 0 when it was in time."""
        return max(self.took_ms, self.end["latency_ms"]) - self.cell.deadline_ms - self.machine_ms

    @property
    def is_half_shown_as_whole(self) -> bool:
        """Whether client or log take for an answer what is none, or not what the other one has."""
        is_told_whole = self.is_done or self.finish_reason is not None
        is_logged_whole = self.end["status"] == "ok" or self.end["finish_reason"] is not None
        return (
            (is_told_whole and self.text not in (ANSWER, CANNED))
            or (is_told_whole and self.error is not None)
            or (is_logged_whole and self.output != ANSWER)
            or not self._is_logged_as_read
        )

    @property
    def _is_logged_as_read(self) -> bool:
        """Whether the log has what the client got; of half an answer at most the last word may be missing, and nothing be added."""
        output = self.output or ""
        return output == self.text or (self.cell.is_cut and self.text.startswith(output) and len(self.text[len(output) :].split()) <= 1)

    @property
    def is_asked_too_often(self) -> bool:
        """Whether somebody was asked whom the table of failures leaves alone."""
        return self.asked[0] > self.cell.asks[0] or self.asked[1] > self.cell.asks[1]

    @property
    def is_served_by_stable(self) -> bool:
        """Whether the stable bundle had anything to do with it."""
        named = {(row["bundle"], row["arm"]) for row in self.rows}
        if "x-workbench-bundle" in self.headers:  # a refusal names none
            named.add((self.headers["x-workbench-bundle"], self.headers["x-workbench-arm"]))
        return bool(self.asked[2]) or named != {(self.candidate, "candidate")} or NEVER in self.text

    @property
    def is_unended(self) -> bool:
        """Whether the log has anything else than one START and one END."""
        return [(row["revision"], row["is_final"]) for row in self.rows] != [(0, False), (1, True)] or self.end["status"] == "unknown"


def _play(cell: Cell) -> Play:
    """What the provider that fails does with each request."""
    if cell.kind is K.BREAKER_OPEN:
        return refusal(401, code="invalid_api_key")
    if cell.is_cut:
        return _after_words(cell.kind)
    if cell.is_begun:
        return (head(), *_after_half(cell.kind))
    return (Act.HOLD,) if cell.kind is K.DEADLINE else fault(cell.kind, is_streamed=cell.is_streamed)


def _after_words(kind: K) -> Play:
    if kind is K.CONNECT:
        return (*begun(BEGUN), 0.05, Act.RESET)
    if kind is K.DEADLINE:
        return (*begun(BEGUN), *(step for _ in range(100) for step in (0.1, chunk(content="and "))))
    return (*begun(BEGUN), *fault(kind, is_begun=True)[len(begun("")) :])


def _after_half(kind: K) -> Play:
    half = orjson.dumps({"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": BEGUN}}]})[:-20]
    acts: Mapping[K, Play] = {K.CONNECT: (half, 0.05, Act.RESET), K.SILENT: (half, Act.HOLD), K.GARBAGE: (half,)}
    return acts[kind] if kind in acts else (orjson.dumps({"error": {"code": _CODES[kind], "message": "No."}}),)


class _Providers:
    """Every provider of every cell, behind one address: `/<number of the cell>/<name>/v1`."""

    def __init__(self, wanted: Sequence[Cell]) -> None:
        self._cells = wanted
        self._asked: Counter[tuple[int, str]] = Counter()

    def choose(self, seen: Seen) -> Play:
        _, number, name, *_ = seen.path.split("/")
        cell = self._cells[int(number)]
        self._asked[int(number), name] += 1
        if name == "broken":
            return _play(cell)
        if name == "spare" and cell.kind is K.DEADLINE:
            return (Act.HOLD,)
        said = ANSWER if name == "spare" else NEVER
        return streamed(said) if seen.body.get("stream") else whole(said)

    def forget(self, number: int) -> None:
        self._asked -= Counter({place: n for place, n in self._asked.items() if place[0] == number})

    def asked(self, number: int) -> tuple[int, int, int]:
        broken, spare, stable = (self._asked[number, name] for name in _NAMES)
        return broken, spare, stable


_NAMES = ("broken", "spare", "stable")


def _registered(ws: Workspace, folder: Path, cell: Cell) -> tuple[str, str]:
    """The cell's app, with its candidate on every unit; the candidate's id and a key."""
    app, place = cell.app, folder / cell.app
    write_yaml(place / "app.yaml", {"app": app, "title": "Support", "risk_tier": "low", "owner": "primary", "serving": "proxied"})
    write_yaml(place / "people.yaml", {"people": {"primary": {"os": [login_of_process()], "roles": {app: ["admin", "operator"]}}}})
    larger = {"kind": "model", "name": "large-1", "version": "1", "capabilities": {"context_tokens": 100_000}}
    spares = {"none": [], "sibling": [{"kind": "sibling"}], "larger": [larger]}
    links = [*({**link, "provider": f"{app}-spare"} for link in spares[cell.spare]), {"kind": "canned", "text": CANNED}]
    ids = []
    for name, fallback in (("stable", []), ("broken", links)):
        limits = _IMPATIENT if cell.kind in WAITING else _PATIENT
        spec = {
            "app": app,
            "name": name,
            "model": {"provider": f"{app}-{name}", "name": "small-1", "version": "1"},
            "orchestration": {},
            "controls": {"timeout": "60s", "retries": 2, "limits": limits, "fallback": fallback},
        }
        write_yaml(place / "bundles" / name / "bundle.yaml", spec)
        ids.append(ws.versions.register(place / "bundles" / name).bundle.bundle_id)
    with ws.ledger.write() as act:
        canary = {"stable": ids[0], "candidate": ids[1], "share": 1.0, "salt": "salt", "release_id": f"{app}.1"}
        add_route(act, StoredRoute(app=app, version=1, changed_at=ws.clock(), without_stable="off", **canary))
    return ids[1], ws.keys.create(app, person="primary", label="matrix").text


async def _asked(session: aiohttp.ClientSession, key: str, outcome: Outcome) -> None:
    """Ask, and note what the client sees."""
    cell = outcome.cell
    body = {"model": cell.app, "user": "u-1", "stream": cell.is_streamed, "messages": [{"role": "user", "content": "Where is it?"}]}
    headers = {"authorization": f"Bearer {key}", "x-deadline-ms": str(cell.deadline_ms)}
    began_s = time.monotonic()
    async with session.post("/v1/chat/completions", json=body, headers=headers) as response:
        said = await response.read()
        outcome.took_ms = (time.monotonic() - began_s) * 1000
        outcome.status = response.status
        outcome.headers = {name.lower(): value for name, value in response.headers.items()}
    if response.content_type == "text/event-stream":
        _read_events(said, outcome)
    else:
        _read_body(json.loads(said), outcome)


def _read_events(said: bytes, outcome: Outcome) -> None:
    for event in said.decode().removesuffix("\n\n").split("\n\n"):
        data = event.removeprefix("data: ")
        told = {} if data == "[DONE]" else json.loads(data)
        outcome.is_done |= data == "[DONE]"
        outcome.error = told["error"]["code"] if "error" in told else outcome.error
        for choice in told.get("choices", ()):
            outcome.text += choice["delta"].get("content") or ""
            outcome.finish_reason = choice["finish_reason"] or outcome.finish_reason


def _read_body(told: Mapping[str, Any], outcome: Outcome) -> None:
    if "error" in told:
        outcome.error = told["error"]["code"]
        return
    [choice] = told["choices"]
    outcome.text, outcome.finish_reason, outcome.is_done = choice["message"]["content"], choice["finish_reason"], True


async def _run(url: str, keys: Mapping[str, str], numbered: Mapping[int, Outcome], providers: _Providers) -> None:
    """Ask all of these at once; beside them somebody asks again and again whether the gateway is alive."""
    alive: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            began_s = time.monotonic()
            async with session.get("/healthz") as response:
                await response.read()
            alive.append((began_s, time.monotonic()))
            await asyncio.sleep(0.01)

    async def one(number: int, outcome: Outcome) -> None:
        if outcome.cell.kind is K.BREAKER_OPEN:
            await _asked(session, keys[outcome.cell.app], Outcome(cell=outcome.cell))
            providers.forget(number)
        began_s = time.monotonic()
        await _asked(session, keys[outcome.cell.app], outcome)
        await asyncio.sleep(0)
        outcome.machine_ms = max([(till_s - since_s) * 1000 for since_s, till_s in alive if till_s > began_s], default=0.0)

    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(one(number, outcome) for number, outcome in numbered.items()))
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def run_matrix(folder: Path, wanted: Sequence[Cell]) -> list[Outcome]:
    """Every cell, asked through a gateway. Streamed or not, begun or not: each has a gateway of its own, which knows of no failures yet."""
    providers = _Providers(wanted)
    outcomes = [Outcome(cell=cell) for cell in wanted]
    (folder / "home").mkdir()
    settings, apps = Settings(home=folder / "home", ledger=""), {cell.app: cell for cell in wanted}
    with playing_to(providers.choose) as stage, pytest.MonkeyPatch.context() as environment:
        for app, name in product(apps, _NAMES):  # a name is enough to register, an address is not asked
            environment.setenv(variable(f"{app}-{name}", "URL"), stage.url)
        with Workspace(settings) as ws:
            registered = {app: _registered(ws, folder / "apps", cell) for app, cell in apps.items()}
        keys = {app: key for app, (_, key) in registered.items()}
        for how in product((False, True), (False, True)):
            numbered = {number: outcome for number, outcome in enumerate(outcomes) if outcome.cell[1:3] == how}
            for (number, outcome), name in product(numbered.items(), _NAMES):
                address = f"{stage.url.removesuffix('/v1')}/{number}/{name}/v1"
                environment.setenv(variable(f"{outcome.cell.app}-{name}", "URL"), address)
            with Workspace(settings) as ws, running(ws) as url:
                asyncio.run(_run(url, keys, numbered, providers))
        with Workspace(settings) as ws:
            _read_log(ws, outcomes)
    for number, outcome in enumerate(outcomes):
        outcome.candidate = registered[outcome.cell.app][0]
        outcome.asked = providers.asked(number)
    return outcomes


def _read_log(ws: Workspace, outcomes: Sequence[Outcome]) -> None:
    ws.logs.flush()
    tables = ("requests", "spans")
    requests, spans = (ws.lake.read(lambda lake, name=name: lake.sql(f"FROM lake.{name} ORDER BY seq").pl()).to_dicts() for name in tables)
    for outcome in outcomes:
        request_id = outcome.headers["x-request-id"]
        outcome.rows = [row for row in requests if row["request_id"] == request_id]
        outcome.spans = [span for span in spans if span["request_id"] == request_id]


_COLUMNS = (
    ("failure", "asked", "fails", "spare"),
    ("http", "client reads", "ends with", "retry"),
    ("log", "error_type", "fallback", "attempts"),
    ("asked", "ms", "of"),
)


def _line(outcome: Outcome) -> tuple[tuple[str, ...], ...]:
    cell, end = outcome.cell, outcome.end
    texts = {ANSWER: "the answer", CANNED: "the canned text", "": "nothing"}
    last = [outcome.finish_reason, "[DONE]" if outcome.is_done and cell.is_streamed else None, outcome.error and f"error {outcome.error}"]
    hints = [f"{name}: {outcome.headers[name]}" for name in ("retry-after", "x-should-retry") if name in outcome.headers]
    return (
        (str(cell.kind), "streamed" if cell.is_streamed else "whole", "after" if cell.is_begun else "before", cell.spare),
        (str(outcome.status), texts.get(outcome.text, "a part"), " ".join(filter(None, last)), ", ".join(hints) or "-"),
        (end["status"], end["error_type"] or "-", "yes" if end["is_fallback"] else "no", str(end["attempts"])),
        (f"{outcome.asked[0]} + {outcome.asked[1]}", f"{outcome.took_ms:,.0f}", f"{cell.deadline_ms:,}"),
    )


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The matrix for people, a line for each cell: what fails, what the client saw, what the log says, who was asked and how long."""
    lines = [_COLUMNS, *(_line(outcome) for outcome in sorted(outcomes, key=lambda outcome: tuple(map(str, outcome.cell))))]
    flat = [[text for group in line for text in group] for line in lines]
    widths = [max(map(len, column)) for column in zip(*flat, strict=True)]
    for line in lines:
        wide = iter(widths)
        yield " | ".join("  ".join(text.ljust(next(wide)) for text in group) for group in line).rstrip()
