"""A handoff desk: an app, people who may decide and people who may not, a clock moved by hand, and talks with personal data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from workbench.controls.callbacks import Courier, variable
from workbench.controls.handoff import Handoff, Kind, Mode, NewHandoff
from workbench.controls.handoffs import Handoffs
from workbench.ledger.store import Ledger
from workbench.ledger.vault import Vault, VaultKey
from workbench.observability.redaction import Redactor
from workbench.observability.sealing import Sealer
from workbench.ownership.model import Actor, Assurance
from workbench.ownership.service import Ownership
from workbench.spec.app import AppSpec
from workbench.spec.people import PeopleSpec

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = VaultKey(b"k" * 32)
SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
MAIL = "anna.kern@example.org"
TALK = ({"role": "user", "content": f"Send the refund to {MAIL}, Lindenweg 7."},)
PROPOSED = "We send 250 EUR to Lindenweg 7 today."
PEOPLE = {
    "operator": {"os": ["olga"], "roles": {"*": ["operator"]}},
    "approver": {"os": ["anna"], "roles": {"*": ["approver"]}},
    "risk": {"roles": {"*": ["risk_owner"]}},
    "admin": {"roles": {"*": ["admin"]}},
    "viewer": {"roles": {"*": ["viewer"]}},
}


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


def person(name: str, assurance: Assurance = Assurance.VERIFIED) -> Actor:
    return Actor(person=name, via="slack" if assurance is Assurance.VERIFIED else "cli", assurance=assurance)


OPERATOR, APPROVER = person("operator"), person("approver")


@dataclass
class Desk:
    """Handoffs over a ledger, and what they are made of."""

    ledger: Ledger
    clock: Clock
    url: str = ""
    keys: tuple[VaultKey, ...] = (KEY,)
    risk_tier: str = "medium"
    callbacks: Mapping[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=lambda: {variable("shop", "orders"): SECRET})
    judged: list[tuple[Handoff, str]] = field(default_factory=list)

    @property
    def handoffs(self) -> Handoffs:
        """A service of its own each time, as another process would have it."""
        redactor = Redactor(b"r" * 32)
        ownership = Ownership(self.spec, apps=lambda: ("bank", "shop"), clock=self.clock)
        return Handoffs(
            self.ledger,
            ownership,
            Vault(self.keys),
            sealer=Sealer(redactor, b"u" * 32),
            courier=Courier(lambda app: self.spec(app, "app"), self.environ),
            app_spec=lambda app: self.spec(app, "app"),
            author=OPERATOR,
            clock=self.clock,
            clean=lambda words: redactor.text(words, None),
            judged=lambda handoff, author: self.judged.append((handoff, author.person)),
        )

    def spec(self, app: str, kind: str) -> Any:
        if kind == "people":
            return PeopleSpec.model_validate({"people": PEOPLE if app == "shop" else {"banker": {"roles": {"*": ["operator"]}}}})
        rule = {"due": "30m", "callbacks": dict(self.callbacks)}
        return AppSpec.model_validate({"app": app, "title": app, "risk_tier": self.risk_tier, "handoff": rule}) if kind == "app" else None

    def open(self, handoff_id: str = "h1", **changes: Any) -> Handoff:
        return self.handoffs.open(new(handoff_id, **{"created_at": self.clock(), **changes}))

    def shown_digest(self, handoff_id: str = "h1") -> str:
        return self.handoffs.show(handoff_id, OPERATOR).shown_digest or ""

    def state(self, handoff_id: str = "h1") -> str:
        return next(str(item.state) for item in self.handoffs.list(only_waiting=False) if item.handoff_id == handoff_id)


def new(handoff_id: str = "h1", **changes: Any) -> NewHandoff:
    values = {
        "handoff_id": handoff_id,
        "request_id": "req_1",
        "app": "shop",
        "bundle_id": "shop@1a2b3c4d5e6f",
        "unit": "customer-17",
        "session_id": "s-1",
        "workflow": "refund",
        "kind": Kind.ANSWER,
        "mode": Mode.HOLD,
        "signals": ("never_auto",),
        "messages": TALK,
        "proposed": PROPOSED,
        "created_at": START,
    }
    return NewHandoff(**{**values, **changes})
