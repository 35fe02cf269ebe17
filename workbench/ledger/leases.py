"""The rows under leases: which process leads, by a token that fences off whoever led before. No wall clock decides anything here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, and_, select

from workbench.errors import ConflictError
from workbench.ledger.store import WriteTransaction
from workbench.ledger.tables import leases


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A row of `leases`."""

    name: str
    holder: str
    """Empty where it was given back."""
    token: int
    """Grows with every holder."""
    beat: int
    """Grows while its holder lives."""


def stored_lease(connection: Connection, name: str) -> Lease | None:
    """The lease of this name; None before anybody took it."""
    row = connection.execute(select(leases).where(leases.c.name == name)).mappings().one_or_none()
    return Lease(**row) if row else None


def take_lease(act: WriteTransaction, name: str, holder: str, seen: Lease | None) -> Lease:
    """The lease in another hand, with the next token.

    Raises:
        ConflictError: it is not as it was seen any more.
    """
    if seen is None:
        taken = Lease(name=name, holder=holder, token=1, beat=0)
        act.connection.execute(leases.insert().values(name=name, holder=holder, token=1, beat=0))
        return taken
    return _changed(act, seen, replace(seen, holder=holder, token=seen.token + 1, beat=0))


def beat(act: WriteTransaction, held: Lease) -> Lease:
    """The lease one beat on.

    Raises:
        ConflictError: somebody else took it.
    """
    return _changed(act, held, replace(held, beat=held.beat + 1))


def give_back(act: WriteTransaction, held: Lease) -> Lease:
    """The lease in nobody's hand, so that the next one takes it at once.

    Raises:
        ConflictError: somebody else took it.
    """
    return _changed(act, held, replace(held, holder=""))


def require_lease(connection: Connection, held: Lease) -> None:
    """Return when the lease is still held under this token. Asked inside a write transaction it stays true until its end.

    Raises:
        ConflictError: otherwise.
    """
    now = stored_lease(connection, held.name)
    if now is None or (now.token, now.holder) != (held.token, held.holder):
        raise _lost(held)


def _changed(act: WriteTransaction, seen: Lease, wanted: Lease) -> Lease:
    is_as_seen = and_(leases.c.name == seen.name, leases.c.token == seen.token, leases.c.beat == seen.beat, leases.c.holder == seen.holder)
    values = {"holder": wanted.holder, "token": wanted.token, "beat": wanted.beat}
    if act.connection.execute(leases.update().where(is_as_seen).values(values)).rowcount != 1:
        raise _lost(seen)
    return wanted


def _lost(held: Lease) -> ConflictError:
    return ConflictError(
        f"lease {held.name}",
        seen="another process holds it by now",
        needed=f"token {held.token}",
        next_step="leave it to that process",
    )
