"""Rows of the ledger and texts of the vault as the nouns of the handoff. Pure, but for the transaction that they are read in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

from workbench.controls.handoff import Draft, Handoff, HandoffResult, HandoffState, Kind, Mode, NewHandoff, read_draft
from workbench.errors import IntegrityError, UnknownSubject
from workbench.ledger.handoffs import StoredHandoff
from workbench.ledger.vault import LONGEST, Texts
from workbench.observability.sealing import Sealer
from workbench.ownership.model import Actor, Assurance

TO_FETCH = timedelta(hours=24)
"""After its due time, for as long a decision waits for its client."""
SHOWN, ANSWER = "shown", "answer"
"""The kinds of text of an item."""
Proof = Callable[[bytes], str]
"""The digest of a text under the workspace's key."""
_NAMES = tuple(item.name for item in fields(Handoff))


def handoff_of(row: StoredHandoff) -> Handoff:
    """The item of a row."""
    values = {name: getattr(row, name) for name in _NAMES}
    typed = {
        "kind": Kind(row.kind),
        "mode": Mode(row.mode),
        "state": HandoffState(row.state),
        "signals": tuple(row.signals),
        "decision": None if row.decision is None else HandoffState(row.decision),
    }
    return Handoff(**{**values, **typed})


def changes(before: Handoff, after: Handoff) -> dict[str, Any]:
    """The columns that a rule changed."""
    return {name: new for name in _NAMES if (new := getattr(after, name)) != getattr(before, name)}


def row_of(new: NewHandoff, sealer: Sealer, *, due: timedelta, shown_digest: str | None) -> StoredHandoff:
    """The row of a new item, in which no name holds anybody's data.

    Args:
        new: as it came in.
        sealer: hashes the unit, and takes personal data out of names.
        due: how long people have.
        shown_digest: of the text that is kept; None where none is.
    """

    def plain(name: str) -> str:
        return sealer.redactor.identifier(name).replace("\0", "\ufffd")  # PostgreSQL stores no NUL

    return StoredHandoff(
        handoff_id=new.handoff_id,
        app=new.app,
        request_id=plain(new.request_id),
        bundle_id=new.bundle_id,
        unit_hash=None if new.unit is None else sealer.unit_hash(new.unit),
        session_id=None if new.session_id is None else plain(new.session_id),
        workflow=plain(new.workflow),
        kind=new.kind,
        mode=new.mode,
        signals=[plain(signal) for signal in new.signals],
        state=HandoffState.OPEN,
        claimed_by=None,
        lease_until=None,
        created_at=new.created_at,
        due_at=new.created_at + due,
        expires_at=new.created_at + min(due + TO_FETCH, LONGEST),
        shown_digest=shown_digest,
        decision=None,
        answer_digest=None,
        decided_by=None,
        decided_at=None,
        callback=new.callback if new.mode is Mode.HOLD else None,
        attempts=0,
        next_attempt_at=None,
        fault=None,
        delivered_at=None,
        version=1,
    )


def draft_in(texts: Texts, handoff: Handoff, proof: Proof) -> Draft | None:
    """What people are shown of an item; None where no text is kept.

    Raises:
        StoreError: its key is not given here.
        IntegrityError: it is not what was handed over.
    """
    raw = texts.get(handoff.handoff_id, SHOWN)
    if raw is None:
        return None
    if proof(raw) != handoff.shown_digest:
        raise IntegrityError(f"handoff {handoff.handoff_id}", seen="its text has another digest", needed="the one that was handed over")
    return read_draft(raw)


def result_in(texts: Texts, handoff: Handoff, proof: Proof) -> HandoffResult:
    """What the client may know of an item as it stands; raises as `draft_in` does."""
    result = HandoffResult(handoff_id=handoff.handoff_id, state=handoff.state, decision=handoff.decision)
    if handoff.mode is Mode.FLAG or handoff.state is HandoffState.EXPIRED:
        return result
    if handoff.decision is HandoffState.ANSWERED:
        raw = texts.get(handoff.handoff_id, ANSWER)
        if raw is not None and proof(raw) != handoff.answer_digest:
            raise IntegrityError(f"handoff {handoff.handoff_id}", seen="its answer has another digest", needed="the one that was given")
        return result if raw is None else replace(result, answer=raw.decode())
    draft = draft_in(texts, handoff, proof) if handoff.decision is HandoffState.APPROVED else None
    return result if draft is None else replace(result, answer=draft.proposed, tool_calls=draft.tool_calls)


def unknown(handoff_id: str) -> UnknownSubject:
    """There is no such item, or none of this app: both read alike."""
    return UnknownSubject(f"handoff {handoff_id[:128]}", seen="there is none of this id", next_step="`workbench handoff list` shows them")


def by_itself(via: str) -> Actor:
    """The author of what no person does; no person can have this name."""
    return Actor(person="workbench:handoffs", via=via, assurance=Assurance.VERIFIED)
