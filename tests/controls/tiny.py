"""A tiny hosted app, a model that says what it is told, and a log that remembers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from workbench.controls.providers import Providers
from workbench.controls.service import Controls
from workbench.ledger.routes import StoredRoute, add_route, change_route, stored_route
from workbench.observability.rows import rows_of
from workbench.observability.sealing import Sealer
from workbench.versions.model import Bundle
from workbench.workspace import Workspace

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ASK = [{"role": "user", "content": "Where is my order?"}]
FALLBACK = "Nobody can answer now."
AGENT = b"""
import json


async def answer(messages, host):
    model, talk = host.bundle.part("model"), list(messages)
    while True:
        response = await host.complete({"model": model["name"], "messages": talk, "user": host.unit})
        choice = response["choices"][0]
        if not choice["message"].get("tool_calls"):
            return {"content": choice["message"]["content"], "finish_reason": choice["finish_reason"]}
        talk.append(choice["message"])
        for call in choice["message"]["tool_calls"]:
            name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
            result = await host.call_tool(name, arguments, call_id=call["id"])
            talk.append({"role": "tool", "tool_call_id": call["id"], "name": name, "content": json.dumps(result)})
"""
APP = {
    "app": "support",
    "title": "Support",
    "risk_tier": "low",
    "serving": "hosted",
    "tools": "tests.controls.tiny:open_tools",
    "fallback": {"kind": "canned", "text": FALLBACK},
}


def spec(name: str, **parts: Any) -> dict[str, Any]:
    """The `bundle.yaml` of a bundle, with parts replaced."""
    return {
        "app": "support",
        "name": name,
        "model": {"provider": "scripted", "name": "small", "version": "1.0", "params": {}},
        "orchestration": {"entry": "agent:answer", "code": ["agent.py"], "tools": [{"name": "look_up", "side_effect": "read"}]},
        "controls": {"timeout": "8s", "retries": 1, "fallback": [{"kind": "canned", "text": "Please try again later."}]},
        **parts,
    }


def write_bundle(folder: Path, name: str, *, agent: bytes = AGENT, app: Mapping[str, Any] = APP, **parts: Any) -> Path:
    """An app folder with this bundle; returns the bundle's folder."""
    (folder / "app.yaml").write_text(yaml.safe_dump(dict(app)))
    bundle = folder / "bundles" / name
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "agent.py").write_bytes(agent)
    (bundle / "bundle.yaml").write_text(yaml.safe_dump(spec(name, **parts)))
    return bundle


def register(ws: Workspace, name: str, **changes: Any) -> Bundle:
    """A registered bundle of that name."""
    folder = ws.home.parent / "app"
    folder.mkdir(exist_ok=True)
    return ws.versions.register(write_bundle(folder, name, **changes)).bundle


def put_route(ws: Workspace, app: str = "support", **values: Any) -> int:
    """Make or change the app's route; returns its version."""
    with ws.ledger.write() as act:
        seen = stored_route(act.connection, app)
        if seen is not None:
            change_route(act, seen, at=NOW, values=values)
            return seen.version + 1
        route = {"stable": None, "candidate": None, "share": 0.0, "salt": "salt", "release_id": None, "without_stable": "fallback"}
        add_route(act, StoredRoute(app=app, version=1, changed_at=NOW, **{**route, **values}))
        return 1


def said(content: str | None = "It is on its way.", *, tool: tuple[str, dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """A chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if tool is not None:
        call = {"id": "call_1", "type": "function", "function": {"name": tool[0], "arguments": json.dumps(tool[1])}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {
        "model": "small-1.0",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 5},
        **changes,
    }


@dataclass
class Model:
    """A provider that answers by a function of the request, and remembers what it was asked."""

    reply: Callable[[Mapping[str, Any]], Any] = lambda _request: said()
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    def __call__(self, clock: Any) -> Model:
        self.clock = clock
        return self

    async def complete(self, request: Mapping[str, Any], *, attempt: int = 1) -> Mapping[str, Any]:
        self.asked.append({**request, "attempt": attempt})
        answer = self.reply(request)
        return await answer if hasattr(answer, "__await__") else answer


class Desk:
    """The tool of the tiny app."""

    def __init__(self, context: Any) -> None:
        self.context = context

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        assert name == "look_up"
        return {"unit": self.context.unit, "signed_in": self.context.metadata.get("signed_in"), "asked": dict(arguments)}


def open_tools(context: Any) -> Desk:
    return Desk(context)


class Tape:
    """A log in memory that checks rows as the real one does. `faults` are raised by the next submits; `is_stuck` lets none end."""

    def __init__(self) -> None:
        self.batches: list[Mapping[str, Sequence[Mapping[str, Any]]]] = []
        self.faults: list[Exception | None] = []
        self.is_stuck = False
        self.pending: list[Future[None]] = []
        self.pressure = 0.0

    def submit(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Future[None]:
        rows_of(rows)
        future: Future[None] = Future()
        fault = self.faults.pop(0) if self.faults else None
        if self.is_stuck:
            self.pending.append(future)
        elif fault is not None:
            future.set_exception(fault)
        else:
            self.batches.append(rows)
            future.set_result(None)
        return future

    def rows(self, table: str = "requests") -> list[Mapping[str, Any]]:
        return [row for batch in self.batches for row in batch.get(table, ())]

    def last(self) -> Mapping[str, Any]:
        """The newest row of a request."""
        return self.rows()[-1]


def controls_of(ws: Workspace, model: Any, *, log: Any = None, **changes: Any) -> Controls:
    """Controls over the workspace's ledger, with this model behind every bundle."""
    about = {
        "sealer": Sealer(ws.redactor, ws.unit_key),
        "providers": Providers({}, installed=lambda _name: model),
        "desk": ws.handoffs,
        "app_spec": ws.app_spec,
        "clock": lambda: NOW,
        "interval_s": 0.02,
        **changes,
    }
    return Controls(ws.ledger, ws.versions, log or ws.logs, **about)


@contextmanager
def serving(ws: Workspace, model: Any, **changes: Any) -> Iterator[Controls]:
    """Started controls, closed afterwards."""
    controls = controls_of(ws, model, **changes)
    try:
        controls.start()
        yield controls
    finally:
        controls.close()
