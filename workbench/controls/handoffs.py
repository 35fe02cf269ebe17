"""The handoff queue: people decide on what the controls hold back, and the client gets what they decided, once.

Every verb is one transaction of the ledger, with its audit entry. The raw text lies in the vault of the same ledger and is
shown to people only; nothing else here, in the audit or in an error holds any of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from workbench.controls.callbacks import Courier
from workbench.controls.deliveries import Deliveries
from workbench.controls.handoff import (
    LEASE,
    Decision,
    Handoff,
    HandoffResult,
    HandoffState,
    Mode,
    NewHandoff,
    Shown,
    as_of,
    claimed,
    decided,
    draft_of,
    released,
)
from workbench.controls.handoff_rows import ANSWER, SHOWN, by_itself, changes, draft_in, handoff_of, row_of, unknown
from workbench.errors import ConflictError, UsageError
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.handoffs import StoredHandoff, add_handoff, change_handoff, stored_handoff, stored_handoffs
from workbench.ledger.store import Ledger, WriteTransaction
from workbench.ledger.types import utc_text
from workbench.ledger.vault import LONGEST, Vault, no_key
from workbench.observability.sealing import Sealer, canonical_body
from workbench.ownership.service import Ownership
from workbench.spec.app import AppSpec, HandoffRule

LONGEST_ANSWER = 100_000
"""Characters."""
ROUND_S = 1.0
"""Between two rounds of deliveries."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)
Rule = Callable[[Handoff, str, datetime], Handoff]
"""The item after a person's act at a moment."""


class Handoffs:
    """What waits for a person. Threads and processes share it.

    Args:
        ledger: where the queue and the vault are.
        ownership: who may look and decide.
        vault: seals and opens the texts.
        sealer: hashes units, proves texts, and takes personal data out of names.
        courier: sends decisions to callbacks.
        app_spec: the declaration of an app, or None for an app that nobody declared.
        author: who acts by default.
        clock: the time, aware.
        clean: takes personal data out of reasons before they are stored.
        judged: told of each flagged item that somebody found right or wrong, after that is stored.
        lease: how long a claim holds.
    """

    def __init__(
        self,
        ledger: Ledger,
        ownership: Ownership,
        vault: Vault,
        *,
        sealer: Sealer,
        courier: Courier,
        app_spec: Callable[[str], AppSpec | None],
        author: Author,
        clock: Callable[[], datetime],
        clean: Callable[[str], str] = str,
        judged: Callable[[Handoff, Author], None] | None = None,
        lease: timedelta = LEASE,
    ) -> None:
        self._ledger = ledger
        self._ownership = ownership
        self._vault = vault
        self._sealer = sealer
        self._courier = courier
        self._app_spec = app_spec
        self._author = author
        self._clock = clock
        self._clean = clean
        self._judged = judged
        self._lease = lease
        self._deliveries = Deliveries(ledger, vault, proof=sealer.proof, courier=courier, clock=clock)

    def can_hold(self, app: str) -> bool:  # noqa: ARG002 - one vault holds the texts of all apps
        """Whether an answer of the app can be withheld for a person; never without a key of the vault."""
        return self._vault.can_hold

    def holding_text(self, app: str) -> str:
        """What a client of the app gets while an answer waits for a person."""
        spec = self._app_spec(app)
        return ((spec.handoff if spec else None) or HandoffRule()).holding

    def open(self, new: NewHandoff) -> Handoff:
        """The item, in the queue from now on. One short transaction; its text is in the vault, where there is a key.

        Raises:
            UsageError: it cannot be held without a key, its id or due time is none, or the app declares no such callback.
            RecordRefused: its text is nothing that can be stored.
            ConflictError: there is an item of that id.
        """
        if new.mode is Mode.HOLD and not self._vault.can_hold:
            raise no_key()
        due = self._checked_due(new)
        raw = canonical_body(draft_of(new).as_json()) if self._vault.can_hold else None
        row = row_of(new, self._sealer, due=due, shown_digest=None if raw is None else self._sealer.proof(raw))
        detail: dict[str, JSON] = {
            "request_id": row.request_id,
            "bundle": row.bundle_id,
            "kind": row.kind,
            "mode": row.mode,
            "signals": list(row.signals),
            "due_at": utc_text(row.due_at),
        }
        with self._ledger.write() as act:
            texts = self._vault.at(act.connection, new.created_at)
            texts.forget_expired()
            add_handoff(act, row)
            if raw is not None:
                texts.put(row.handoff_id, SHOWN, raw, unit_hash=row.unit_hash, expires_at=row.expires_at)
            act.audit(by_itself("controls"), "handoff.open", app=row.app, subject=row.handoff_id, detail=detail)
        return handoff_of(row)

    def list(self, app: str | None = None, *, only_waiting: bool = True) -> tuple[Handoff, ...]:
        """The items that wait for a person, or all of them, of one app or of all; those first that are due first."""
        now = self._clock()
        with self._ledger.read() as connection:
            found = stored_handoffs(connection, app=app, only_waiting=only_waiting)
        seen = (as_of(handoff_of(row), now) for row in found)
        return tuple(handoff for handoff in seen if handoff.is_waiting or not only_waiting)

    def show(self, handoff_id: str, actor: Author | None = None) -> Shown:
        """The item with its text; the audit keeps who looked.

        Raises:
            UnknownSubject: there is no such item.
            NotPermitted: the actor may not read what the app's customers wrote.
            IntegrityError: the text is not what was sealed.
        """
        author, _ = self._permitted(handoff_id, "handoff.view", actor)
        with self._ledger.write() as act:
            now = self._clock()
            texts = self._vault.at(act.connection, now)
            texts.forget_expired()
            row = _stored(act, handoff_id)
            handoff = handoff_of(row)
            draft = draft_in(texts, handoff, self._sealer.proof)
            answer = texts.get(handoff_id, ANSWER)
            act.audit(author, "handoff.view", app=row.app, subject=handoff_id, detail={"has_text": draft is not None})
        return Shown(handoff=as_of(handoff, now), draft=draft, answer=None if answer is None else answer.decode())

    def claim(self, handoff_id: str, actor: Author | None = None) -> Handoff:
        """The item, held by the actor until the lease ends; nobody else decides on it meanwhile.

        Raises:
            UnknownSubject: there is no such item.
            NotPermitted: the actor may not decide for the app, or not by this edge.
            ConflictError: somebody else holds it, or nobody can decide on it any more.
        """
        return self._acted(handoff_id, actor, "handoff.claim", lambda seen, who, now: claimed(seen, who, now=now, lease=self._lease))

    def release(self, handoff_id: str, actor: Author | None = None) -> Handoff:
        """The item, given back; raises as `claim` does."""
        return self._acted(handoff_id, actor, "handoff.release", lambda seen, who, now: released(seen, who, now=now))

    def approve(self, handoff_id: str, shown_digest: str, actor: Author | None = None) -> Handoff:
        """The item, approved as it was shown: the client gets what was proposed. A flagged one was right.

        Args:
            handoff_id: the item.
            shown_digest: of what the actor was shown.
            actor: who decides; the workspace's author otherwise.

        Raises:
            UnknownSubject: there is no such item.
            NotPermitted: the actor may not decide for the app, or not by this edge.
            ConflictError: they were shown something else, somebody else holds it or decided first, or its time is over.
        """
        return self._decided(handoff_id, actor, "handoff.approve", HandoffState.APPROVED, shown_digest)

    def edit(self, handoff_id: str, shown_digest: str, text: str, actor: Author | None = None) -> Handoff:
        """The item, answered in the actor's own words, which the client gets instead; raises as `approve` does.

        Raises:
            UsageError: there are no words, or too many.
        """
        if not text.strip() or len(text) > LONGEST_ANSWER:
            raise UsageError("answer", seen=f"{len(text.strip())} characters", needed=f"1 to {LONGEST_ANSWER}")
        return self._decided(handoff_id, actor, "handoff.edit", HandoffState.ANSWERED, shown_digest, answer=text)

    def reject(self, handoff_id: str, shown_digest: str, reason: str, actor: Author | None = None) -> Handoff:
        """The item, rejected: the client gets no answer. A flagged one was wrong. Raises as `approve` does.

        Raises:
            UsageError: there is no reason.
        """
        words = self._clean(" ".join(reason.split()))
        if not words:
            raise UsageError("reason", seen="there is none", needed="why it is rejected")
        return self._decided(handoff_id, actor, "handoff.reject", HandoffState.REJECTED, shown_digest, detail={"reason": words})

    def result(self, handoff_id: str, app: str) -> HandoffResult:
        """What the client gets now: the state, and once it was approved or answered the answer. Asking is what delivers it.

        Raises:
            UnknownSubject: the app has no such item.
        """
        return self._deliveries.result(handoff_id, app, via="poll")

    async def answered(self, handoff_id: str, *, within_s: float, app: str | None = None) -> HandoffResult:
        """`result` as soon as it is final, or as it is when the time is over."""
        return await self._deliveries.answered(handoff_id, within_s=within_s, app=app)

    def expire(self, now: datetime | None = None) -> int:
        """Marks what nobody decided or fetched in time, and deletes every text whose time is over; how many items were marked."""
        return self._deliveries.expire(now or self._clock())

    def deliver(self) -> int:
        """Tells decisions to the callbacks that are due; how many arrived."""
        return self._deliveries.deliver()

    def start(self, *, every_s: float = ROUND_S) -> None:
        """Begin to expire and to deliver on a thread of its own; the first call does."""
        self._deliveries.start(every_s=every_s)

    def close(self) -> None:
        """End the thread after the round it is in."""
        self._deliveries.close()

    def _checked_due(self, new: NewHandoff) -> timedelta:
        """How long people have.

        Raises:
            UsageError: the item's id, due time or callback is none.
        """
        if not _ID.fullmatch(new.handoff_id):
            raise UsageError("handoff", seen="its id is none", needed="1 to 128 letters, digits and _ . : -")
        spec = self._app_spec(new.app)
        rule = (spec.handoff if spec else None) or HandoffRule()
        due_s = rule.due.total_seconds() if new.due_s is None else new.due_s
        if not 0 < due_s <= LONGEST.total_seconds():
            needed = f"more than 0 s, at most {LONGEST.total_seconds():.0f} s"
            raise UsageError(f"handoff {new.handoff_id}", seen=f"due in {due_s:g} s", needed=needed)
        if new.callback is not None:
            self._courier.url(new.app, new.callback)
        return timedelta(seconds=due_s)

    def _permitted(self, handoff_id: str, act: str, actor: Author | None) -> tuple[Author, str]:
        """Who acts, and how the app of the item names them.

        Raises:
            UnknownSubject: there is no such item.
            NotPermitted: they may not.
        """
        author = self._ownership.actor(actor or self._author)
        with self._ledger.read() as connection:
            row = stored_handoff(connection, handoff_id)
        if row is None:
            raise unknown(handoff_id)
        self._ownership.require(author, act, row.app)
        return author, self._ownership.person_in(row.app, author)

    def _acted(self, handoff_id: str, actor: Author | None, name: str, rule: Rule) -> Handoff:
        """The item after a verb that needs none of its text."""
        author, person = self._permitted(handoff_id, "handoff.decide", actor)
        with self._ledger.write() as act:
            row = _stored(act, handoff_id)
            after = _changed(act, row, rule(handoff_of(row), person, self._clock()))
            act.audit(author, name, app=row.app, subject=handoff_id, detail={"person": person})
        return after

    def _decided(
        self,
        handoff_id: str,
        actor: Author | None,
        name: str,
        decision: Decision,
        shown_digest: str,
        *,
        answer: str | None = None,
        detail: Mapping[str, JSON] | None = None,
    ) -> Handoff:
        """The item after a decision; nothing changes where this very decision was made before."""
        author, person = self._permitted(handoff_id, "handoff.decide", actor)
        raw = None if answer is None else answer.encode()
        answer_digest = None if raw is None else self._sealer.proof(raw)
        with self._ledger.write() as act:
            row, now = _stored(act, handoff_id), self._clock()
            before = handoff_of(row)
            after = decided(before, decision, person, shown_digest=shown_digest, answer_digest=answer_digest, now=now)
            if after is before:
                return before
            texts = self._vault.at(act.connection, now)
            if draft_in(texts, before, self._sealer.proof) is None:
                raise ConflictError(f"handoff {handoff_id}", seen="its text is gone", needed="what was decided on")
            if raw is not None:
                texts.put(handoff_id, ANSWER, raw, unit_hash=row.unit_hash, expires_at=row.expires_at)
            after = _changed(act, row, after)
            bound: dict[str, JSON] = {"person": person, "shown_digest": shown_digest, **(detail or {})}
            act.audit(author, name, app=row.app, subject=handoff_id, detail=bound)
        if self._judged is not None and after.mode is Mode.FLAG:
            self._judged(after, author)
        return after


def _stored(act: WriteTransaction, handoff_id: str) -> StoredHandoff:
    row = stored_handoff(act.connection, handoff_id)
    if row is None:
        raise unknown(handoff_id)
    return row


def _changed(act: WriteTransaction, row: StoredHandoff, after: Handoff) -> Handoff:
    """The item as it is stored after a rule changed it."""
    change_handoff(act, row, changes(handoff_of(row), after))
    return replace(after, version=row.version + 1)
