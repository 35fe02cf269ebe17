"""A small company that releases: an app, its people, three bundles, a clock, and readiness reviews that say what they are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Never

import pytest
import yaml

from workbench.errors import ReleaseRefused, StoreError
from workbench.ledger.audit import REVIEW_ACT, AuditEntry, tail
from workbench.ledger.canonical import digest
from workbench.ledger.releases import StoredRelease, releases_of
from workbench.ledger.routes import StoredRoute, stored_route
from workbench.ledger.store import Ledger
from workbench.ownership.model import Actor, Assurance, Identity
from workbench.ownership.service import Ownership
from workbench.readiness.model import GateResult, Review, ReviewVerdict, Verdict
from workbench.release.model import Release
from workbench.release.ports import ReleaseLog
from workbench.release.service import Releases
from workbench.spec.gates import Family
from workbench.versions.declarations import REVIEWED
from workbench.versions.service import Versions

APP = "shop"
START = datetime(2026, 10, 5, 9, 0, tzinfo=UTC)
"""A Monday."""
PLAN = {
    "steps": [
        {"share": 0.05, "at_least": "30m", "min_units": 100},
        {"share": 0.25, "at_least": "1h"},
        {"share": 1.0, "at_least": "1h", "min_units": 500},
    ],
    "rollback": {"target": "last_good", "criteria": [{"metric": "failure_rate", "ratio": 1.2}]},
    "freeze": [{"days": ["sat", "sun"], "reason": "nobody is at work"}],
}
PEOPLE = {
    "requester": {"os": ["rita"], "slack": ["U1"], "contact": "pager", "roles": {APP: ["operator"]}},
    "approver": {"os": ["anna"], "slack": ["U2"], "contact": "pager", "roles": {APP: ["approver"]}},
    "both": {"os": ["bo"], "slack": ["U3"], "contact": "pager", "roles": {APP: ["operator", "approver"]}},
    "chief": {"os": ["chief"], "contact": "pager", "roles": {APP: ["admin"]}},
    "night": {"os": ["nina"], "contact": "pager", "roles": {}},
    "viewer": {"os": ["vera"], "roles": {APP: ["viewer"]}},
}
SPECS: Mapping[str, Mapping[str, object]] = {
    "app": {
        "app": APP,
        "title": "Shop",
        "risk_tier": "medium",
        "owner": "chief",
        "fallback": {"kind": "canned", "text": "Please call."},
    },
    "people": {"people": PEOPLE},
    "plan": PLAN,
    "rota": {
        "zone": "Europe/Berlin",
        "layers": [{"name": "line", "people": ["night"], "first_handoff": "2026-01-05T09:00"}],
    },
}


def person(name: str) -> Actor:
    """Somebody by name, as the demo's console knows them."""
    return Actor(person=name, via="console", assurance=Assurance.CONSOLE)


def refused(code: str, act, *args, **named) -> ReleaseRefused:
    """The refusal of an act by the rules, whose stable code is checked."""
    with pytest.raises(ReleaseRefused) as caught:
        act(*args, **named)
    assert caught.value.reason == code, caught.value
    return caught.value


def login(name: str) -> Actor:
    """Somebody by a login of the machine."""
    return Actor(person=f"os:{name}", via="cli", assurance=Assurance.LOCAL, identity=Identity(edge="os", value=name))


def slack(slack_id: str) -> Actor:
    """Somebody by a Slack id."""
    return Actor(person=f"slack:{slack_id}", via="slack", assurance=Assurance.VERIFIED, identity=Identity(edge="slack", value=slack_id))


@dataclass
class Clock:
    """The time, moved by hand."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass
class Reviewer:
    """Reviews that say what they are told, recorded as real ones are."""

    ledger: Ledger
    versions: Versions
    clock: Clock
    verdict: ReviewVerdict = ReviewVerdict.GO
    evidence: int = 0
    """Another number is other evidence, and so another review."""
    baselines: list[str | None] = field(default_factory=list)
    failure: BaseException | None = None

    def review(self, app, bundle=None, *, baseline=None, actor=None) -> Review:
        if self.failure is not None:
            raise self.failure
        found = self.versions.get(getattr(bundle, "bundle_id", bundle), app=app)
        self.baselines.append(baseline)
        specs = tuple((kind, value) for kind in REVIEWED if (value := self.versions.declaration_digest(app, kind)) is not None)
        is_go = self.verdict is ReviewVerdict.GO
        gates = tuple(
            GateResult(
                gate_id=name,
                title=name.title(),
                family=Family.QUALITY,
                is_blocking=True,
                verdict=Verdict.PASS if is_go else Verdict.FAIL,
                reason="told",
                sentence=f"{name} is {'good' if is_go else 'bad'}.",
            )
            for name in ("success", "speed")
        )
        review = Review(
            review_id=digest([found.digest, [list(pair) for pair in specs], self.verdict, self.evidence]),
            app=app,
            bundle_id=found.bundle_id,
            bundle_name=found.name,
            baseline_id=baseline,
            verdict=self.verdict,
            deciding=() if is_go else ("success", "speed"),
            sentence=f"{self.verdict}: as told.",
            comparison="",
            gates=gates,
            findings=(),
            unpinned=(),
            not_enforced=(),
            spec_digests=specs,
            snapshot=None,
            reviewed_at=self.clock(),
            reviewed_by=actor.person,
        )
        with self.ledger.write() as act:
            detail = {"review_id": review.review_id, "verdict": str(review.verdict)}
            act.audit(actor, REVIEW_ACT, app=app, subject=found.bundle_id, detail=detail)
        return review


@dataclass
class Units:
    """How many units a candidate has served."""

    n: int = 0
    is_readable: bool = True

    def __call__(self, _app: str, _release_id: str, *, arm: str = "candidate") -> int:
        del arm
        if not self.is_readable:
            raise StoreError("lake", seen="it cannot be read")
        return self.n


class NoLog:
    """The log of a company that has none."""

    def reader(self, app: str, release_id: str, *_metrics: object) -> Never:
        raise StoreError(f"log of {app}", seen=f"nothing of {release_id} can be read")

    def times(self, first: int, last: int) -> Never:
        raise StoreError("log", seen=f"nothing of batches {first} to {last} can be read")


class House:
    """Everything of the company, over one ledger."""

    def __init__(
        self,
        ledger: Ledger,
        folder: Path,
        clock: Clock,
        *,
        specs: Mapping[str, object] = SPECS,
        names: Iterable[str] = ("v1", "v2", "v3"),
        registrars: Mapping[str, str] = MappingProxyType({}),
        log: ReleaseLog | None = None,
    ) -> None:
        self.ledger = ledger
        self.folder = folder
        self.clock = clock
        self.ownership = Ownership(self._declaration, apps=self._apps, clock=clock, ledger=ledger, is_demo=True)
        self.versions = Versions(ledger, authority=self.ownership, author=login("chief"), clock=clock)
        self.reviewer = Reviewer(ledger, self.versions, clock)
        self.units = Units()
        self.releases = Releases(
            ledger,
            self.versions,
            self.ownership,
            reviewer=lambda: self.reviewer,
            units=self.units,
            log=log or NoLog(),
            author=person("requester"),
            clock=clock,
        )
        self.declare(**specs)
        self.bundles = {name: self.bundle(name, by=person(registrars.get(name, "chief"))) for name in names}

    def declare(self, **specs: object) -> None:
        """The app folder with these files in it, declared by whoever runs the machine."""
        for kind, content in specs.items():
            _write(self.folder / f"{kind}.yaml", content)
        self.versions.declare(self.folder, actor=login("chief"))

    def bundle(self, name: str, *, by: Actor | None = None) -> str:
        """Id of a bundle of this name, registered."""
        folder = self.folder / "bundles" / name
        _write(
            folder / "bundle.yaml",
            {"app": APP, "name": name, "model": {"provider": "local", "name": "m", "version": "1"}, "prompts": {"system": "p.md"}},
        )
        (folder / "p.md").write_text(f"Answer as {name}.\n", encoding="utf-8")
        return self.versions.register(folder, actor=by or login("chief")).bundle.bundle_id

    @property
    def route(self) -> StoredRoute | None:
        with self.ledger.read() as connection:
            return stored_route(connection, APP)

    def releases_stored(self) -> tuple[StoredRelease, ...]:
        with self.ledger.read() as connection:
            return releases_of(connection, APP)

    def audit(self, n: int = 1000) -> tuple[AuditEntry, ...]:
        with self.ledger.read() as connection:
            return tail(connection, n)

    def acts(self, *, since: int = 0) -> list[str]:
        """The names of the acts in the audit, registrations left out."""
        return [
            entry.act
            for entry in self.audit()
            if entry.seq > since and entry.act not in ("declare", "declare.people", "bundle.register", REVIEW_ACT)
        ]

    def ready(self, name: str = "v2") -> Release:
        """A release that waits for its approval."""
        return self.releases.start(APP, name, reason="better answers", actor=person("requester"))

    def canary(self, name: str = "v2") -> Release:
        """A release at the first step of its canary."""
        release = self.ready(name)
        self.releases.approve(release.release_id, actor=person("approver"))
        return self.releases.promote(release.release_id, actor=person("requester"))

    def promoted(self, name: str = "v2") -> Release:
        """A release whose bundle is in service."""
        release = self.canary(name)
        while release.is_open:
            release = self.releases.promote(release.release_id, early="the test has no time", actor=person("requester"))
        return release

    def _declaration(self, app, kind):
        return self.versions.declaration(app, kind)

    def _apps(self):
        return self.versions.apps()


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
