"""The vault: raw text that people must see, sealed with a key that lies outside of the workspace, for at most 72 hours.

It is a table of the ledger, so that an item and its text are one transaction. A text is sealed with AES-256-GCM (NIST SP 800-38D) under a
random nonce; item, kind and end are its associated data, so that no row opens in the place of another, and none lives longer than
it was given. Without a key the vault holds nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, select

from workbench.errors import IntegrityError, StoreError, UsageError
from workbench.ledger.canonical import canonical_json
from workbench.ledger.tables import vault
from workbench.ledger.types import utc_text

LONGEST = timedelta(hours=72)
"""No text is kept longer."""
KEY, KEY_FILE = "WORKBENCH_VAULT_KEY", "WORKBENCH_VAULT_KEY_FILE"
_FORM = "64 hexadecimal digits, as `openssl rand -hex 32` prints them"
_KEY_TEXT = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_NONCE_BYTES = 12
_LARGEST_FILE = 1 << 16


@dataclass(frozen=True, slots=True)
class VaultKey:
    """A key of 256 bits. Its id says which one it is, and nothing of what it is."""

    secret: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        return sha256(b"workbench vault key\0" + self.secret).hexdigest()[:16]


def keys_from(text: str, path: str, *, home: Path) -> tuple[VaultKey, ...]:
    """The keys of the vault: the first seals, all of them open. None of them when neither setting is given.

    Args:
        text: `WORKBENCH_VAULT_KEY`, one key.
        path: `WORKBENCH_VAULT_KEY_FILE`, a file with a key per line.
        home: the workspace, in which the file must not lie.

    Raises:
        UsageError: both are given, the file lies in the workspace or cannot be read, or something in it is no key. No key is quoted.
    """
    if text.strip() and path.strip():
        raise UsageError(KEY, seen=f"{KEY_FILE} is set, too", needed="one of them", next_step="unset the other one")
    if text.strip():
        return (_key(text.strip(), KEY),)
    return _keys_in(Path(path.strip()), home) if path.strip() else ()


def _keys_in(path: Path, home: Path) -> tuple[VaultKey, ...]:
    try:
        place = path.resolve(strict=True)
        if place.is_relative_to(home.resolve()):
            raise UsageError(
                KEY_FILE,
                seen=f"{path} lies in the workspace, beside what it opens",
                needed="a file outside of it",
                next_step="move it, and make a new key if the workspace was ever copied with it",
            )
        with place.open("rb") as file:
            content = file.read(_LARGEST_FILE)
    except OSError as error:
        raise UsageError(KEY_FILE, seen=f"{path}: {error.strerror or error}", needed="a file with a key per line") from None
    lines = [(n, line.strip()) for n, line in enumerate(content.decode("latin-1").splitlines(), 1) if line.strip()]
    if not lines:
        raise UsageError(KEY_FILE, seen=f"{path} is empty", needed=f"a key per line: {_FORM}")
    return tuple(dict.fromkeys(_key(line, f"{KEY_FILE}: {path}, line {n}") for n, line in lines))


def _key(text: str, subject: str) -> VaultKey:
    if _KEY_TEXT.fullmatch(text) is None:
        raise UsageError(subject, seen=f"{len(text)} characters that are no key", needed=_FORM)
    return VaultKey(bytes.fromhex(text))


class Vault:
    """Opens onto a transaction of the ledger.

    Args:
        keys: the first seals, all of them open; without one nothing is held.
    """

    def __init__(self, keys: Sequence[VaultKey]) -> None:
        self._keys = tuple(keys)

    @property
    def can_hold(self) -> bool:
        """Whether there is a key to seal with."""
        return bool(self._keys)

    def at(self, connection: Connection, now: datetime) -> Texts:
        """The texts as one transaction sees them at one moment."""
        return Texts(self._keys, connection, now)


class Texts:
    """The texts of the vault in one transaction, at one moment."""

    def __init__(self, keys: tuple[VaultKey, ...], connection: Connection, now: datetime) -> None:
        self._keys = keys
        self._connection = connection
        self._now = now

    def put(self, item_id: str, kind: str, text: bytes, *, unit_hash: str | None, expires_at: datetime) -> None:
        """Seals a text and stores it.

        Raises:
            UsageError: there is no key, or the text would be kept for more than 72 hours.
            ConflictError: there is a text of that kind already.
        """
        if not self._keys:
            raise no_key()
        if not self._now < expires_at <= self._now + LONGEST:
            hours = LONGEST.total_seconds() / 3600
            raise UsageError(
                _subject(item_id, kind), seen=f"to be kept until {utc_text(expires_at)}", needed=f"at most {hours:g} h from now"
            )
        key, nonce = self._keys[0], secrets.token_bytes(_NONCE_BYTES)
        row = {
            "item_id": item_id,
            "kind": kind,
            "unit_hash": unit_hash,
            "key_id": key.key_id,
            "nonce": nonce,
            "sealed": AESGCM(key.secret).encrypt(nonce, text, _bound(item_id, kind, expires_at)),
            "expires_at": expires_at,
        }
        self._connection.execute(vault.insert().values(row))

    def get(self, item_id: str, kind: str) -> bytes | None:
        """The text; None where there is none, or where its time is over.

        Raises:
            StoreError: it is sealed with a key that is not given here.
            IntegrityError: it is not what was sealed in this place.
        """
        is_it = (vault.c.item_id == item_id, vault.c.kind == kind)
        row = self._connection.execute(vault.select().where(*is_it)).one_or_none()
        if row is None or row.expires_at <= self._now:
            return None
        key = next((key for key in self._keys if key.key_id == row.key_id), None)
        if key is None:
            raise StoreError(
                _subject(item_id, kind),
                seen=f"it is sealed with the key {row.key_id}, which is not given here",
                needed="that key",
                next_step=f"put it into the file that {KEY_FILE} names, below the new one",
            )
        try:
            return AESGCM(key.secret).decrypt(row.nonce, row.sealed, _bound(item_id, kind, row.expires_at))
        except (InvalidTag, ValueError):
            raise IntegrityError(
                _subject(item_id, kind),
                seen="it is not what was sealed here: it was altered, cut or moved",
                needed="the text as it was sealed",
                next_step="find out who could write to the ledger",
            ) from None

    def forget_expired(self) -> int:
        """Deletes the texts whose time is over; how many that were."""
        return self._connection.execute(vault.delete().where(vault.c.expires_at <= self._now)).rowcount

    def forget_item(self, item_id: str) -> int:
        """Deletes the texts of one item; how many that were."""
        return self._connection.execute(vault.delete().where(vault.c.item_id == item_id)).rowcount


def is_any_expired(connection: Connection, *, now: datetime) -> bool:
    """Whether there is a text whose time is over."""
    return connection.execute(select(vault.c.item_id).where(vault.c.expires_at <= now).limit(1)).first() is not None


def erase_unit(connection: Connection, unit_hash: str) -> int:
    """Deletes the texts of one unit; how many that were."""
    return connection.execute(vault.delete().where(vault.c.unit_hash == unit_hash)).rowcount


def no_key() -> UsageError:
    """What is said where something would have to be held and there is no key."""
    return UsageError("vault", seen="no key is given, so nothing can be held", needed=f"{KEY_FILE} or {KEY}", next_step=_FORM)


def _bound(item_id: str, kind: str, expires_at: datetime) -> bytes:
    return canonical_json([item_id, kind, utc_text(expires_at)])


def _subject(item_id: str, kind: str) -> str:
    return f"vault {item_id}/{kind}"
