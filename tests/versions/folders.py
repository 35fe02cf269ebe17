"""App folders for tests, and who may touch them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from workbench.errors import NotPermitted

APP = {"app": "support", "title": "Support assistant", "risk_tier": "medium", "owner": "primary"}
PEOPLE = {"people": {"primary": {"os": ["primary"], "roles": {"*": ["admin"]}}}}
SPEC = {
    "app": "support",
    "name": "v1",
    "model": {"provider": "local", "name": "shopkeeper", "version": "1.4.2", "params": {"temperature": 0.2, "stop": ["\n\n"]}},
    "prompts": {"system": "prompts/system.md", "handoff": "prompts/handoff.md"},
    "orchestration": {
        "entry": "assistant.agent:answer",
        "code": ["../../assistant"],
        "tools": [
            {"name": "order_status", "side_effect": "read", "parameters": {"type": "object"}},
            {"name": "refund", "side_effect": "write"},
        ],
        "limits": {"max_turns": 6},
    },
    "retrieval": {
        "sources": [{"name": "articles", "file": "../../articles.jsonl"}],
        "index": {"file": "index.bin"},
        "top_k": 4,
        "embedding": {"provider": "local", "name": "words", "version": "2"},
    },
    "policy": {"rules": "policy.yaml", "thresholds": {"refund_eur": 50}},
    "controls": {"timeout": "8s", "retries": 2, "fallback": [{"kind": "canned"}]},
    "environment": {"lock": "../../environment.lock"},
}
FILES = {
    "bundles/v1/prompts/system.md": b"You help customers of a shop.\nBe kind.\nBe brief.\n",
    "bundles/v1/prompts/handoff.md": b"A person takes over.\n",
    "bundles/v1/index.bin": b"\x00\x01\x02\xff" * 8,
    "bundles/v1/policy.yaml": b"rules: []\n",
    "assistant/__init__.py": b"",
    "assistant/agent.py": b"def answer():\n    return 'yes'\n",
    "assistant/tools/orders.py": b"ORDERS = {}\n",
    "articles.jsonl": b'{"id": 1}\n',
    "environment.lock": b"numpy==2.2\n",
}
PART_OF = {
    "bundles/v1/prompts/system.md": "prompts",
    "bundles/v1/prompts/handoff.md": "prompts",
    "bundles/v1/index.bin": "retrieval",
    "bundles/v1/policy.yaml": "policy",
    "assistant/__init__.py": "orchestration",
    "assistant/agent.py": "orchestration",
    "assistant/tools/orders.py": "orchestration",
    "articles.jsonl": "retrieval",
    "environment.lock": "environment",
}


@dataclass(frozen=True)
class Person:
    person: str = "primary"
    via: str = "cli"
    assurance: str = "local"


@dataclass
class Gatekeeper:
    """Allows everything but the acts in `denied`, and remembers what was asked."""

    denied: set[str] = field(default_factory=set)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def require(self, author, act: str, app: str | None) -> None:
        self.asked.append((act, app))
        if act in self.denied:
            raise NotPermitted(f"act {act}", seen=f"{author.person} may not")

    def require_declaration(self, author, app: str, kind: str, _old, _new) -> None:
        self.require(author, "declare.people" if kind == "people" else "declare", app)


def write_app(folder: Path, *, spec: dict | None = None, files: dict[str, bytes] | None = None) -> Path:
    for name, content in (FILES if files is None else files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_yaml(folder / "app.yaml", APP)
    write_yaml(folder / "people.yaml", PEOPLE)
    write_yaml(folder / "bundles/v1/bundle.yaml", spec or SPEC)
    return folder


def write_yaml(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")
