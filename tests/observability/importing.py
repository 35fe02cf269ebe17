"""What the tests of importing share: a registry and an audit in memory, an authority, records and files."""

from __future__ import annotations

import json
from pathlib import Path

from tests.observability.lakes import Clock
from workbench.errors import NotPermitted
from workbench.observability.import_report import ImportReport
from workbench.observability.imports import Imports
from workbench.observability.redaction import Redactor
from workbench.ownership.model import Actor, Assurance
from workbench.spec.bundle import BundleSpec, Model
from workbench.versions.manifest import assemble
from workbench.versions.model import RegisteredBundle
from workbench.versions.references import find

PRIMARY = Actor(person="primary", via="cli", assurance=Assurance.LOCAL)
KEY = b"0123456789abcdef"


class Bundles:
    """A registry that keeps bundles in memory."""

    def __init__(self) -> None:
        self.registered: dict[str, RegisteredBundle] = {}

    def register_external(self, spec, files, *, actor=None):
        read = assemble(spec, lambda path, _place: {path: files[path]})
        bundle = read.bundle
        made = RegisteredBundle(bundle=bundle, registered_at=Clock()(), registered_by=actor.person)
        return self.registered.setdefault(bundle.bundle_id, made)

    def get(self, reference, *, app=None):
        return find(reference, [made.bundle for made in self.list(app)], app=app)

    def list(self, app=None):
        return [made for made in self.registered.values() if app in (None, made.bundle.app)]


class Recorded:
    """An audit that keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[tuple[object, tuple[str, ...]]] = []
        self.ended: list[tuple[object, ImportReport]] = []

    def begin(self, author, _format, files):
        self.begun.append((author, tuple(digest for _, digest in files)))

    def is_open(self, digests):
        ended = [file.digest for _, report in self.ended for file in report.files]
        begun = [digest for _, those in self.begun for digest in those]
        return any(begun.count(digest) > ended.count(digest) for digest in digests)

    def end(self, author, report):
        self.ended.append((author, report))


class Allow:
    """Allows importing into the apps given, or into every app."""

    def __init__(self, *apps: str) -> None:
        self.apps = apps
        self.asked: list[tuple[str, str | None]] = []

    def require(self, author, act, app):
        self.asked.append((act, app))
        if self.apps and app not in self.apps:
            raise NotPermitted(f"{act} by {author.person}", seen=f"no role in {app}")


def imports_over(logs, *, authority=None, redaction_key=KEY, versions=None, record=None, **more) -> Imports:
    """`Imports` over a log; what the audit was told is in `.recorded`."""
    recorded = record or Recorded()
    made = Imports(
        logs,
        versions or Bundles(),
        redactor=Redactor(redaction_key),
        unit_key=KEY,
        authority=authority or Allow(),
        author=PRIMARY,
        clock=Clock(),
        record=recorded,
        **more,
    )
    made.recorded = recorded
    return made


def record(number: int, **values):
    base = {"request_id": f"r{number}", "timestamp": "2026-01-01T00:00:00Z", "latency_ms": 100 + number, "app": "shop"}
    base |= {"request": {"model": "m", "user": f"u{number}", "messages": [{"role": "user", "content": "hello"}]}}
    return (
        base
        | {"response": {"model": "m-1", "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}]}}
        | values
    )


def write(folder: Path, *records, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in records))
    return path


def rows(lake, columns="*", table="requests"):
    return lake.read(lambda connection: connection.execute(f"SELECT {columns} FROM lake.{table} ORDER BY ALL").fetchall())


def bundle_named(name: str, versions: Bundles, app: str = "shop", prompt: bytes = b"be kind") -> str:
    """The id of a bundle that was just registered."""
    spec = BundleSpec(app=app, name=name, model=Model(provider="local", name="m"), prompts={"system": "system.md"})
    return versions.register_external(spec, {"system.md": prompt}, actor=PRIMARY).bundle.bundle_id
