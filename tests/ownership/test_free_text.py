"""What people write to explain an act is stored without personal data, whichever edge it came by."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.versions.folders import write_app, write_yaml
from workbench.errors import UsageError
from workbench.spec.login import login_of_process
from workbench.workspace import Workspace

EMAIL, CARD, PHONE = "erika.mustermann@example.org", "4111 1111 1111 1111", "+49 151 23456789"
SAID = f"asked by {EMAIL}, paid with {CARD}, call {PHONE}"
SECRETS = [text.encode() for text in (EMAIL, CARD, CARD.replace(" ", ""), PHONE, PHONE.replace(" ", ""))]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with an app, its people and its rota."""
    roles = ["operator", "approver", "admin", "risk_owner"]
    app = write_app(tmp_path / "support")
    write_yaml(app / "app.yaml", {"app": "support", "title": "Support", "risk_tier": "low", "owner": "lead"})
    write_yaml(app / "people.yaml", {"people": {"lead": {"os": [login_of_process()], "contact": "pager", "roles": {"support": roles}}}})
    hours = [{"days": DAYS, "start": "09:00", "until": "05:00"}]
    layer = {"name": "day", "people": ["lead"], "first_handoff": "2026-01-05T09:00", "hours": hours}
    write_yaml(app / "rota.yaml", {"zone": "UTC", "layers": [layer]})
    with Workspace.open(tmp_path / "home", create=True) as ws:
        ws.versions.register(app / "bundles" / "v1")
    return tmp_path / "home"


def test_no_reason_or_label_brings_personal_data_into_the_ledger(home: Path):
    with Workspace.open(home) as ws:
        bundle = ws.versions.list("support")[0].bundle.bundle_id
        ws.releases.lock("support", SAID)
        ws.releases.unlock("support", SAID)
        ws.releases.freeze("support", SAID)
        ws.releases.unfreeze("support", SAID)
        ws.releases.adopt("support", bundle, reason=SAID)
        made = ws.keys.create("support", person="lead", label=SAID)
        ws.keys.revoke(made.key.key_id, reason=SAID)
        shift = ws.ownership.override("support", "lead", until=ws.clock() + timedelta(hours=1), reason=SAID, actor=ws.actor)
        seen = f"{made.key.label} {shift.reason} {ws.releases.history('support')[0].reason}"
    stored = b"".join(path.read_bytes() for path in home.glob("ledger*"))
    assert b"asked by <" in stored
    assert [secret for secret in SECRETS if secret in stored or secret.decode() in seen] == []


def test_a_reason_is_measured_as_it_was_said(home: Path):
    with Workspace.open(home) as ws, pytest.raises(UsageError, match="characters"):
        ws.releases.lock("support", "x" * 5000)
