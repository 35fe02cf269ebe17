"""API keys: what an application shows the gateway. Each is bound to one person, who answers for it, and to one app.

A key reads `wb_<key id>_<secret>`. It is shown once, when it is made; stored is its SHA-256, which for 256 random bits nobody can turn
back. The key id is public: it stands in lists, in the audit and in the gateway's log.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from workbench.errors import ConflictError, UnknownSubject, UsageError
from workbench.ledger.authority import Author
from workbench.ledger.keys import StoredKey, add_key, revoke_key, stored_key, stored_keys
from workbench.ledger.store import Ledger
from workbench.ownership.service import Ownership
from workbench.spec.faults import suggestion

LONGEST_LABEL = 100
"""Characters."""
_ID_BYTES, _SECRET_BYTES = 6, 32
_KEY = re.compile(rf"wb_([0-9a-f]{{{2 * _ID_BYTES}}})_[0-9a-f]{{{2 * _SECRET_BYTES}}}", re.ASCII)
_KEY_ID = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}", re.ASCII)
_NO_DIGEST = "sha256:" + "-" * 64
"""Compared with where there is no such key, so that the time taken does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as everybody may see it."""

    key_id: str
    app: str
    """The only app that it opens."""
    person: str
    """Who answers for what is sent with it; a person of the app's people.yaml."""
    label: str
    """What it is for, for example the name of a server."""
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    revoked_by: str | None = None

    @property
    def is_revoked(self) -> bool:
        return self.revoked_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key at the only moment at which its text is known."""

    key: ApiKey
    text: str = field(repr=False)
    """`wb_…`; whoever has it acts as the app."""


class KeySnapshot:
    """The keys that counted when they were read. Looking one up reads memory only."""

    def __init__(self, keys: Iterable[StoredKey] = ()) -> None:
        usable = [key for key in keys if key.revoked_at is None]
        self._keys: Mapping[str, ApiKey] = {key.key_id: _seen(key) for key in usable}
        self._digests: Mapping[str, str] = {key.key_id: key.digest for key in usable}

    def __len__(self) -> int:
        return len(self._keys)

    def holder(self, text: str) -> ApiKey | None:
        """The key whose text this is; None for one that is unknown, revoked or malformed."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        key_id = match[1]
        is_it = hmac.compare_digest(_digest(text), self._digests.get(key_id, _NO_DIGEST))
        return self._keys.get(key_id) if is_it else None


class Keys:
    """Makes, lists and revokes keys; each act leaves its audit entry, never the key.

    Args:
        ledger: where the keys are.
        ownership: who may, and who may answer for a key.
        author: who acts by default.
        clock: the time, aware.
        clean: takes personal data out of labels and reasons before they are stored.
    """

    def __init__(
        self,
        ledger: Ledger,
        ownership: Ownership,
        *,
        author: Author,
        clock: Callable[[], datetime],
        clean: Callable[[str], str] = str,
    ) -> None:
        self._ledger = ledger
        self._ownership = ownership
        self._author = author
        self._clock = clock
        self._clean = clean

    def create(self, app: str, *, person: str, label: str = "", actor: Author | None = None) -> NewKey:
        """A new key to one app, in the name of a person of its people.yaml.

        Args:
            app: the app that it opens.
            person: who answers for it.
            label: what it is for; at most 100 characters.
            actor: who makes it; the workspace's author otherwise.

        Raises:
            NotPermitted: the actor may not make keys for the app.
            UnknownSubject: the app declares no such person.
            UsageError: the label is too long.
        """
        author = actor or self._author
        self._ownership.require(author, "key.create", app)
        self._require_person(app, person)
        if len(label) > LONGEST_LABEL:
            raise UsageError("label of the key", seen=f"{len(label)} characters", needed=f"at most {LONGEST_LABEL}")
        stored, text = _new_key(app, person=person, label=self._clean(label.strip()), at=self._clock(), by=author.person)
        with self._ledger.write() as act:
            add_key(act, stored)
            act.audit(author, "key.create", app=app, subject=stored.key_id, detail={"person": person, "label": stored.label})
        return NewKey(key=_seen(stored), text=text)

    def revoke(self, key: str, *, reason: str = "", actor: Author | None = None) -> ApiKey:
        """The key, revoked: every gateway refuses it within seconds.

        Args:
            key: its id; a whole key that was found somewhere serves as well.
            reason: why, for the audit.
            actor: who revokes it; the workspace's author otherwise.

        Raises:
            UnknownSubject: there is no such key.
            NotPermitted: the actor may not revoke keys of its app.
            ConflictError: it is revoked already.
        """
        author, key_id = actor or self._author, _id_in(key)
        with self._ledger.read() as connection:
            seen = stored_key(connection, key_id)
        if seen is None:
            raise UnknownSubject(f"key {key_id}", seen="there is none of this id", next_step="`workbench key list` shows them")
        self._ownership.require(author, "key.revoke", seen.app)
        if seen.revoked_at is not None:
            raise ConflictError(f"key {key_id}", seen=f"{seen.revoked_by} revoked it at {seen.revoked_at:%Y-%m-%d %H:%M:%S} UTC")
        with self._ledger.write() as act:
            revoke_key(act, seen, at=self._clock(), by=author.person)
            act.audit(author, "key.revoke", app=seen.app, subject=key_id, detail={"person": seen.person, "reason": self._clean(reason)})
            revoked = stored_key(act.connection, key_id)
        return _seen(revoked or seen)

    def list(self, app: str | None = None) -> tuple[ApiKey, ...]:
        """All keys, or those of one app, oldest first; revoked ones too."""
        with self._ledger.read() as connection:
            return tuple(_seen(key) for key in stored_keys(connection, app=app))

    def snapshot(self) -> KeySnapshot:
        """The keys that count now.

        Raises:
            StoreError: the ledger cannot be read.
        """
        with self._ledger.read() as connection:
            return KeySnapshot(stored_keys(connection))

    def _require_person(self, app: str, person: str) -> None:
        people = self._ownership.people(app)
        if people is None:
            next_step = "declare people.yaml: `workbench app register DIR`"
            raise UnknownSubject(f"people of {app}", seen="the app declares none", needed="the person of the key", next_step=next_step)
        if person not in people.people:
            seen = f"not in people.yaml of {app}{suggestion(person, people.people)}"
            raise UnknownSubject(f'person "{person}"', seen=seen, next_step="name one of them, or add the person")


def _new_key(app: str, *, person: str, label: str, at: datetime, by: str) -> tuple[StoredKey, str]:
    """The row of a key that nobody can guess, and the key."""
    key_id = secrets.token_hex(_ID_BYTES)
    text = f"wb_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
    stored = StoredKey(
        key_id=key_id,
        digest=_digest(text),
        app=app,
        person=person,
        label=label,
        created_at=at,
        created_by=by,
        revoked_at=None,
        revoked_by=None,
        version=1,
    )
    return stored, text


def _digest(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def _id_in(key: str) -> str:
    """The id that is meant. What is neither id nor key is not repeated: it may be a secret.

    Raises:
        UsageError: it is neither.
    """
    whole = _KEY.fullmatch(key)
    if whole is not None:
        return whole[1]
    if _KEY_ID.fullmatch(key) is None:
        needed = f"a key id of {2 * _ID_BYTES} hexadecimal digits"
        raise UsageError(
            "key", seen="this is neither the id of a key nor a key", needed=needed, next_step="`workbench key list` shows them"
        )
    return key


def _seen(stored: StoredKey) -> ApiKey:
    return ApiKey(
        key_id=stored.key_id,
        app=stored.app,
        person=stored.person,
        label=stored.label,
        created_at=stored.created_at,
        created_by=stored.created_by,
        revoked_at=stored.revoked_at,
        revoked_by=stored.revoked_by,
    )
