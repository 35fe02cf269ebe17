"""The vault's texts are opaque without their key, stay where they were put, and end when they were told to."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.ledger.writers import raw
from workbench.errors import ConflictError, IntegrityError, StoreError, UsageError
from workbench.ledger.canonical import canonical_json
from workbench.ledger.store import Ledger
from workbench.ledger.types import utc_text
from workbench.ledger.vault import LONGEST, Vault, VaultKey, erase_unit, is_any_expired, keys_from

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
END = NOW + timedelta(hours=1)
TEXT = b"My parcel for Lindenweg 7 has not come."
OLD, NEW = VaultKey(b"o" * 32), VaultKey(b"n" * 32)


def put(ledger: Ledger, item: str = "h1", kind: str = "shown", text: bytes = TEXT, *, vault=None, unit="u1", end=END, now=NOW) -> None:
    with ledger.write() as act:
        (vault or Vault([OLD])).at(act.connection, now).put(item, kind, text, unit_hash=unit, expires_at=end)


def get(ledger: Ledger, item: str = "h1", kind: str = "shown", *, vault=None, now=NOW) -> bytes | None:
    with ledger.read() as connection:
        return (vault or Vault([OLD])).at(connection, now).get(item, kind)


def test_texts_come_back_to_the_byte_and_kinds_are_apart(ledger):
    given = {"shown": TEXT, "answer": b"It comes today.", "empty": b"", "raw": bytes(range(256)), "large": b"\0\xff" * 500_000}
    for kind, text in given.items():
        put(ledger, kind=kind, text=text)
    assert {kind: get(ledger, kind=kind) for kind in given} == given
    assert get(ledger, "h2") is None


def test_the_decoded_file_holds_none_of_the_words_and_the_oracle_would_see_them(tmp_path: Path):
    place = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(f"sqlite:///{place}", clock=lambda: NOW)
    put(ledger)
    with ledger.write() as act:
        act.connection.exec_driver_sql("INSERT INTO settings (name, value) VALUES ('oracle', 'Kastanienallee')")
    with closing(sqlite3.connect(place)) as connection:
        dumped = "\n".join(connection.iterdump())
    (sealed,) = re.findall(r"INSERT INTO \"vault\" VALUES\('h1','shown','u1','[0-9a-f]{16}',X'[0-9A-F]{24}',X'([0-9A-F]+)'", dumped)
    ledger.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir()) + dumped.encode() + bytes.fromhex(sealed)
    assert b"Kastanienallee" in everything
    for word in TEXT.split():
        if len(word) > 3:
            assert word not in everything, word
            assert word.hex().upper().encode() not in everything, word


def test_it_is_aes_256_gcm_bound_to_item_kind_and_end(ledger, url):
    """An independent opening, from the columns alone."""
    put(ledger)
    ((nonce, sealed, expires_at),) = raw(url, "SELECT nonce, sealed, expires_at FROM vault")
    end = expires_at if isinstance(expires_at, str) else utc_text(expires_at)
    assert len(nonce) == 12
    assert AESGCM(OLD.secret).decrypt(bytes(nonce), bytes(sealed), canonical_json(["h1", "shown", end])) == TEXT


def test_the_same_text_is_sealed_differently_each_time(ledger, url):
    put(ledger, "h1")
    put(ledger, "h2")
    rows = raw(url, "SELECT nonce, sealed FROM vault")
    assert len({bytes(value) for row in rows for value in row}) == 4


def test_another_key_opens_nothing_and_the_message_names_the_id_only(ledger):
    put(ledger)
    with pytest.raises(StoreError, match=rf"vault h1/shown: it is sealed with the key {OLD.key_id}, which is not given here") as refused:
        get(ledger, vault=Vault([NEW]))
    assert OLD.secret.hex() not in str(refused.value) + repr(OLD)


def test_a_rotated_key_still_opens_what_it_sealed_and_the_new_one_seals(ledger, url):
    put(ledger, "h1")
    rotated = Vault([NEW, OLD])
    put(ledger, "h2", vault=rotated)
    assert (get(ledger, "h1", vault=rotated), get(ledger, "h2", vault=rotated)) == (TEXT, TEXT)
    assert raw(url, "SELECT item_id, key_id FROM vault ORDER BY item_id") == [("h1", OLD.key_id), ("h2", NEW.key_id)]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vault SET sealed = substr(sealed, 1, length(sealed) - 1) WHERE item_id = 'h1'",
        "UPDATE vault SET sealed = substr(sealed, 1, 3) WHERE item_id = 'h1'",
        "UPDATE vault SET nonce = substr(nonce, 1, 3) WHERE item_id = 'h1'",
        "UPDATE vault SET nonce = (SELECT nonce FROM vault WHERE item_id = 'h2') WHERE item_id = 'h1'",
        "UPDATE vault SET sealed = (SELECT sealed FROM vault WHERE item_id = 'h2'), nonce = (SELECT nonce FROM vault WHERE item_id = 'h2')",
        "UPDATE vault SET kind = CASE WHEN kind = 'shown' THEN 'answer' ELSE 'shown' END WHERE item_id = 'h1'",
        f"UPDATE vault SET expires_at = '{utc_text(END + timedelta(days=900))}'",
    ],
)
def test_what_was_cut_swapped_or_given_more_time_is_refused(ledger, url, damage):
    put(ledger, "h1")
    put(ledger, "h2", text=b"Another talk.")
    raw(url, damage)
    kind = "answer" if "kind" in damage else "shown"
    with pytest.raises(IntegrityError, match="altered, cut or moved"):
        get(ledger, kind=kind)


def test_after_its_end_a_text_is_not_read_and_then_deleted(ledger, url):
    put(ledger, "h1")
    put(ledger, "h2", end=END + timedelta(hours=1))
    assert get(ledger, now=END - timedelta(microseconds=1)) == TEXT
    assert get(ledger, now=END) is None
    with ledger.read() as connection:
        assert not is_any_expired(connection, now=END - timedelta(microseconds=1))
        assert is_any_expired(connection, now=END)
    with ledger.write() as act:
        assert Vault([]).at(act.connection, END).forget_expired() == 1
    assert raw(url, "SELECT item_id FROM vault") == [("h2",)]


@pytest.mark.parametrize("end", [NOW, NOW - timedelta(seconds=1), NOW + LONGEST + timedelta(microseconds=1)])
def test_nothing_is_kept_for_longer_than_72_hours_or_for_no_time(ledger, end):
    with pytest.raises(UsageError, match="at most 72 h"):
        put(ledger, end=end)
    put(ledger, end=NOW + LONGEST)


def test_without_a_key_nothing_is_held(ledger):
    assert not Vault([]).can_hold
    with pytest.raises(UsageError, match=r"no key is given.*WORKBENCH_VAULT_KEY_FILE"):
        put(ledger, vault=Vault([]))


def test_a_text_is_put_once(ledger):
    put(ledger)
    with pytest.raises(ConflictError):
        put(ledger)


def test_a_unit_is_erased_and_others_stay(ledger):
    put(ledger, "h1", unit="u1")
    put(ledger, "h1", kind="answer", unit="u1")
    put(ledger, "h2", unit="u2")
    with ledger.write() as act:
        assert erase_unit(act.connection, "u1") == 2
    assert (get(ledger, "h1"), get(ledger, "h2")) == (None, TEXT)


def test_a_deleted_text_is_overwritten_in_the_file(tmp_path: Path):
    place = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(f"sqlite:///{place}", clock=lambda: NOW)
    put(ledger)
    with ledger.read() as connection:
        sealed = bytes(connection.exec_driver_sql("SELECT sealed FROM vault").scalar())
    with ledger.write() as act:
        erase_unit(act.connection, "u1")
    ledger.close()  # the last connection that closes merges the log beside the file
    assert sealed not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


# --- where the key comes from ------------------------------------------------------------------------------------------

HEX, OTHER = "0f" * 32, "1e" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def key_file(place: Path, *lines: str) -> str:
    place.write_text("\n".join(lines))
    return str(place)


def test_a_key_is_given_by_the_environment_or_by_a_file_with_several(tmp_path, home):
    assert keys_from("", "", home=home) == ()
    assert keys_from(f" {HEX}\n", "", home=home) == (VaultKey(bytes.fromhex(HEX)),)
    several = keys_from("", key_file(tmp_path / "keys", OTHER.upper(), "", HEX, HEX), home=home)
    assert several == (VaultKey(bytes.fromhex(OTHER)), VaultKey(bytes.fromhex(HEX)))


@pytest.mark.parametrize("where", ["home/keys", "home/deep/keys", "link/keys", "home/../home/keys"])
def test_a_file_in_the_workspace_is_refused_by_whatever_path(tmp_path, home, where):
    (home / "deep").mkdir()
    (tmp_path / "link").symlink_to(home)
    path = key_file(tmp_path / where, HEX)
    with pytest.raises(UsageError, match="lies in the workspace"):
        keys_from("", path, home=home)


def test_a_link_outside_to_a_file_in_the_workspace_is_refused(tmp_path, home):
    key_file(home / "keys", HEX)
    (tmp_path / "keys").symlink_to(home / "keys")
    with pytest.raises(UsageError, match="lies in the workspace"):
        keys_from("", str(tmp_path / "keys"), home=home)


@pytest.mark.parametrize("bad", [HEX[:-1], HEX + "0", HEX[:-1] + "g", "Geheim" * 6, HEX[:32] + " " + HEX[32:], "é" * 64])
def test_a_malformed_key_is_refused_and_not_quoted(tmp_path, home, bad):
    for text, path in ((bad, ""), ("", key_file(tmp_path / "keys", HEX, bad))):
        with pytest.raises(UsageError, match="64 hexadecimal digits") as refused:
            keys_from(text, path, home=home)
        assert bad[:12] not in str(refused.value)
        assert HEX[:12] not in str(refused.value)
        if path:
            assert "line 2" in str(refused.value)


def test_both_settings_an_empty_file_a_folder_or_no_file_are_refused(tmp_path, home):
    for text, path in ((HEX, key_file(tmp_path / "keys", HEX)), ("", key_file(tmp_path / "empty")), ("", str(tmp_path)), ("", "/no/such")):
        with pytest.raises(UsageError):
            keys_from(text, path, home=home)
