"""Apps under guard: hosted and proxied, each holding everything and each with a window, with one rule of every kind; and their tools."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.scripted import Scripted
from tests.versions.folders import write_app, write_yaml
from workbench.settings import Settings
from workbench.spec.login import login_of_process
from workbench.workspace import Workspace

VAULT_KEY = "5e" * 32
REFUND = {"type": "object", "properties": {"amount": {"type": "number"}, "note": {"type": "string"}}, "additionalProperties": False}
TOOLS = [
    {"name": "look_up", "side_effect": "read"},
    {"name": "refund", "side_effect": "write", "parameters": REFUND},
    {"name": "close_account", "side_effect": "write"},
    {"name": "wipe", "side_effect": "write"},
    {"name": "unasked", "side_effect": "read"},
]
GUARDS: Mapping[str, Any] = {
    "tools": {
        "refund": {
            "arguments": [{"id": "small_refund", "field": "amount", "op": "<=", "value": 50, "sentence": "At most 50."}],
            "most_per_request": 1,
        },
        "close_account": {"needs_approval": True},
        "wipe": {"allow": False},
    },
    "personal_data": [
        {"stages": ["input"], "detectors": ["iban"]},
        {"stages": ["input"], "detectors": ["email"], "action": "redact"},
    ],
    "topics": [
        {"id": "weapons", "stages": ["input"], "phrases": ["pipe bomb"], "sentence": "Not about weapons."},
        {"id": "rivals", "stages": ["output"], "phrases": ["Acme Rival"], "sentence": "Not about others."},
    ],
    "prompt_size": {"most_characters": 2000},
    "judges": [
        {
            "id": "manners",
            "stages": ["input"],
            "provider": "judge",
            "model": "judge-1",
            "prompt": "judge",
            "labels": {"fine": "allow", "rude": "block"},
        }
    ],
    "handoff": {"holding_text": "A colleague looks at this.", "asked_for_person": {"phrases": ["a human please"]}},
    "refusal": "We do not speak of this.",
}
AGENT = b'''"""Asks the model, and calls the tools that it wants side by side, until it only speaks."""

import asyncio
import json


async def answer(messages, host):
    talk = list(messages)
    while True:
        request = {"model": host.bundle.part("model")["name"], "messages": talk, "user": host.unit}
        choice = (await host.complete(request, aloud=True))["choices"][0]
        calls = choice["message"].get("tool_calls") or []
        if not calls:
            return {"content": choice["message"]["content"], "finish_reason": choice["finish_reason"]}
        talk.append(choice["message"])
        wanted = [(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"] or "{}")) for call in calls]
        results = await asyncio.gather(*(host.call_tool(name, arguments, call_id=call_id) for call_id, name, arguments in wanted))
        for (call_id, _, _), result in zip(wanted, results):
            talk.append({"role": "tool", "tool_call_id": call_id, "content": json.dumps(result)})
'''
MODES, POLICIES = ("hosted", "proxied"), ("hold_all", "window")
APPS = {f"{mode}-{policy.replace('_', '-')}": (mode, policy) for mode in MODES for policy in POLICIES}
EXTERNAL = "external"
BARE = "bare"
"""A proxied app whose guards look at no answer."""
CALLED: list[tuple[str, Mapping[str, Any]]] = []
"""What reached the hosted apps' tools, in order."""


class Toolbox:
    """Whatever is called runs, and says so."""

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        CALLED.append((name, arguments))
        return {"done": name, "with": dict(arguments)}


def open_tools(_context: object) -> Toolbox:
    return Toolbox()


def register(ws: Workspace, folder: Path, app: str, *, mode: str, guards: Mapping[str, Any], **parts: Any) -> str:
    """The id of the app's only bundle, in service."""
    entry = {"entry": "assistant.agent:answer", "code": ["../../assistant"]} if mode == "hosted" else {}
    spec = {
        "app": app,
        "name": "v1",
        "model": {"provider": "house", "name": "house-1", "version": "1", "params": {}},
        "prompts": {"judge": "judge.md"},
        "orchestration": {**entry, "tools": TOOLS},
        "retrieval": {"embedding": {"provider": "house", "name": "vec-1", "version": "1"}},
        "policy": {"guards": "guards.yaml"},
        "controls": {"timeout": "20s", "retries": 0, "fallback": [{"kind": "canned", "text": "Not now."}]},
        **parts,
    }
    files = {"bundles/v1/judge.md": b"Say fine or rude.\n", "assistant/__init__.py": b"", "assistant/agent.py": AGENT}
    place = write_app(folder / app, spec=spec, files=files)
    write_yaml(place / "bundles" / "v1" / "guards.yaml", dict(guards))
    tools = {"tools": f"{__name__}:open_tools"} if mode == "hosted" else {}
    write_yaml(place / "app.yaml", {"app": app, "title": app, "risk_tier": "medium", "serving": mode, "owner": "primary", **tools})
    roles = {"primary": ["admin", "operator", "approver"], "service": ["viewer"]}
    people = {name: {"os": [login_of_process()] if name == "primary" else [], "roles": {app: of}} for name, of in roles.items()}
    write_yaml(place / "people.yaml", {"people": people})
    bundle_id = ws.versions.register(place / "bundles" / "v1").bundle.bundle_id
    ws.releases.adopt(app, bundle_id, reason="it serves already")
    return bundle_id


@dataclass(frozen=True)
class Guarded:
    """A workspace with these apps in service."""

    ws: Workspace
    model: Scripted
    judge: Scripted
    keys: Mapping[str, str]
    """App to API key."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of a process that works on it."""
        settings = self.ws.settings
        own = {"WORKBENCH_HOME": str(self.ws.home), "WORKBENCH_VAULT_KEY": settings.vault_key.get_secret_value()}
        urls = {"WORKBENCH_PROVIDER_HOUSE_URL": self.model.url, "WORKBENCH_PROVIDER_JUDGE_URL": self.judge.url}
        return {**os.environ, **own, **urls}


@contextmanager
def opened(folder: Path, model: Scripted, judge: Scripted, *, vault_key: str = VAULT_KEY) -> Iterator[Guarded]:
    """The workspace, whose providers are these."""
    home = folder / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as environment, Workspace(Settings(home=home, vault_key=vault_key)) as ws:
        environment.setenv("WORKBENCH_PROVIDER_HOUSE_URL", model.url)
        environment.setenv("WORKBENCH_PROVIDER_JUDGE_URL", judge.url)
        for app, (mode, policy) in APPS.items():
            register(ws, folder / "apps", app, mode=mode, guards={**GUARDS, "streaming": policy})
        register(ws, folder / "apps", EXTERNAL, mode="external", guards=GUARDS)
        register(ws, folder / "apps", BARE, mode="proxied", guards={"secrets": []})
        keys = {app: ws.keys.create(app, person="service", label="tests").text for app in (*APPS, EXTERNAL, BARE)}
        yield Guarded(ws, model, judge, keys)
