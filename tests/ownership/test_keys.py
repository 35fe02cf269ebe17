"""API keys: shown once, stored as a digest, bound to one person and one app."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConflictError, NotPermitted, UnknownSubject, UsageError
from workbench.ledger.audit import tail, verify
from workbench.ledger.store import Ledger
from workbench.ownership.keys import Keys, KeySnapshot
from workbench.ownership.model import Actor, Assurance
from workbench.ownership.service import Ownership
from workbench.spec.app import AppSpec
from workbench.spec.people import PeopleSpec
from workbench.views.keys import keys_text, new_key_text

ADMIN = Actor(person="admin", via="cli", assurance=Assurance.LOCAL)
OPERATOR = Actor(person="operator", via="cli", assurance=Assurance.LOCAL)
PEOPLE = {"people": {"admin": {"roles": {"*": ["admin"]}}, "operator": {"roles": {"*": ["operator"]}}}}
SPECS = {
    ("support", "people"): PeopleSpec.model_validate(PEOPLE),
    ("bank", "people"): PeopleSpec.model_validate(PEOPLE),
    ("support", "app"): AppSpec(app="support", title="Support", risk_tier="medium"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(place: Path) -> Iterator[Ledger]:
    ticks = iter(range(1000))
    opened = Ledger.open(f"sqlite:///{place}", clock=lambda: datetime(2026, 3, 1, 9, tzinfo=UTC) + timedelta(seconds=next(ticks)))
    yield opened
    opened.close()


@pytest.fixture
def keys(ledger: Ledger) -> Keys:
    ticks = iter(range(1000))

    def clock() -> datetime:
        return datetime(2026, 3, 1, 10, tzinfo=UTC) + timedelta(seconds=next(ticks))

    ownership = Ownership(lambda app, kind: SPECS.get((app, kind)), apps=lambda: ("bank", "support"), clock=clock)
    return Keys(ledger, ownership, author=ADMIN, clock=clock)


def test_a_new_key_opens_its_app_in_its_persons_name(keys: Keys):
    made = keys.create("support", person="operator", label="shop server 1")
    assert re.fullmatch(r"wb_[0-9a-f]{12}_[0-9a-f]{64}", made.text)
    holder = keys.snapshot().holder(made.text)
    assert holder == made.key
    assert (holder.app, holder.person, holder.label, holder.created_by) == ("support", "operator", "shop server 1", "admin")


def test_what_is_stored_is_the_sha256_of_the_whole_key(keys: Keys, place: Path):
    made = keys.create("support", person="operator")
    rows = sqlite3.connect(place).execute("SELECT key_id, digest FROM api_keys").fetchall()
    assert rows == [(made.key.key_id, "sha256:" + sha256(made.text.encode()).hexdigest())]


def test_the_key_stands_nowhere_in_the_store_the_audit_or_a_repr(keys: Keys, ledger: Ledger, place: Path):
    made = keys.create("support", person="operator", label="shop")
    keys.revoke(made.text, reason="was found in a mail")
    secret = made.text.rpartition("_")[2]
    with ledger.read() as connection:
        entries = tail(connection, 10)
    ledger.close()
    stored = b"".join(path.read_bytes() for path in place.parent.iterdir())
    assert secret.encode() not in stored
    assert secret not in repr(made) + repr(entries) + keys_text(keys.list())
    assert secret in new_key_text(made), "the oracle sees secrets where they are"


def test_two_keys_never_share_anything(keys: Keys):
    made = [keys.create("support", person="operator") for _ in range(20)]
    assert len({part for new in made for part in new.text.split("_")[1:]}) == 40


def test_a_revoked_key_opens_nothing_and_others_still_do(keys: Keys):
    first, second = (keys.create("support", person="operator") for _ in range(2))
    before = keys.snapshot()
    revoked = keys.revoke(first.key.key_id, reason="server was sold")
    assert revoked.is_revoked
    assert revoked.revoked_by == "admin"
    after = keys.snapshot()
    assert (after.holder(first.text), after.holder(second.text)) == (None, second.key)
    assert before.holder(first.text) == first.key, "a snapshot is one moment"
    assert [key.is_revoked for key in keys.list("support")] == [True, False]


def test_every_act_is_in_the_audit_with_who_and_why(keys: Keys, ledger: Ledger):
    made = keys.create("support", person="operator", label="shop")
    keys.revoke(made.key.key_id, reason="server was sold")
    with ledger.read() as connection:
        entries = tail(connection, 10)
        assert verify(connection).is_whole
    assert [(entry.act, entry.actor, entry.app, entry.subject) for entry in entries] == [
        ("key.create", "admin", "support", made.key.key_id),
        ("key.revoke", "admin", "support", made.key.key_id),
    ]
    assert [entry.detail for entry in entries] == [
        {"person": "operator", "label": "shop"},
        {"person": "operator", "reason": "server was sold"},
    ]


@pytest.mark.parametrize("change", ["", " ", "\n", "0", "é"])
def test_one_character_more_is_another_key(keys: Keys, change: str):
    made = keys.create("support", person="operator")
    snapshot = keys.snapshot()
    known = change == ""
    assert (snapshot.holder(made.text + change) is not None) is known
    assert (snapshot.holder(change + made.text) is not None) is known


@given(text=st.text() | st.from_regex(r"wb_[0-9a-f]{12}_[0-9a-f]{64}", fullmatch=True))
def test_nothing_that_was_not_handed_out_opens_anything(text: str):
    assert KeySnapshot().holder(text) is None


def test_the_secret_of_one_key_does_not_open_another(keys: Keys):
    first, second = (keys.create("support", person="operator").text for _ in range(2))
    mixed = f"{first[:15]}_{second.rpartition('_')[2]}"
    assert keys.snapshot().holder(mixed) is None


def test_upper_case_is_another_key(keys: Keys):
    made = keys.create("support", person="operator")
    assert keys.snapshot().holder(made.text.upper()) is None


def test_only_an_administrator_of_the_app_makes_and_revokes(keys: Keys):
    made = keys.create("support", person="operator")
    with pytest.raises(NotPermitted, match=r"key\.create for support: needs the role admin"):
        keys.create("support", person="operator", actor=OPERATOR)
    with pytest.raises(NotPermitted, match=r"key\.revoke for support: needs the role admin"):
        keys.revoke(made.key.key_id, actor=OPERATOR)
    assert keys.list() == (made.key,)


def test_a_key_needs_a_person_who_is_declared_for_the_app(keys: Keys):
    with pytest.raises(UnknownSubject, match='did you mean "operator"'):
        keys.create("support", person="operater")
    with pytest.raises(UnknownSubject, match=r"people of shop.*declares none"):
        keys.create("shop", person="operator")
    assert keys.list() == ()


def test_a_revoked_key_is_not_revoked_again(keys: Keys):
    made = keys.create("support", person="operator")
    keys.revoke(made.key.key_id)
    with pytest.raises(ConflictError, match=r"admin revoked it at 2026-03-01"):
        keys.revoke(made.key.key_id)


def test_an_unknown_id_is_named_and_what_may_be_a_secret_is_not(keys: Keys):
    with pytest.raises(UnknownSubject, match="key 0123456789ab"):
        keys.revoke("0123456789ab")
    with pytest.raises(UsageError) as refused:
        keys.revoke("wb_0123456789ab_half-a-secret")
    assert "half-a-secret" not in str(refused.value)


def test_a_label_has_an_end(keys: Keys):
    keys.create("support", person="operator", label="x" * 100)
    with pytest.raises(UsageError, match="101 characters"):
        keys.create("support", person="operator", label="x" * 101)


def test_the_list_shows_no_control_characters_of_a_label(keys: Keys):
    keys.create("support", person="operator", label="shop\x1b[2J\nsecond line")
    text = keys_text(keys.list())
    assert "\x1b" not in text
    assert "shop\\x1b[2J\\nsecond line" in text


def test_a_list_is_of_one_app_or_of_all(keys: Keys):
    made = [keys.create(app, person="operator").key for app in ("support", "bank")]
    assert keys.list() == tuple(made)
    assert [keys.list(app) for app in ("support", "bank", "shop")] == [(made[0],), (made[1],), ()]
