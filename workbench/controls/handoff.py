"""Human handoff: an answer or a tool call that a person decides on, and the rules of what may follow what. Pure.

    open ⇄ claimed ──→ approved | answered | rejected ──→ delivered
      └───────┴── due, undecided ──→ expired ←── not fetched in time ──┘

A claim is a lease: one that runs out is as good as none. A decision is bound to the digest of exactly what was shown, and to nothing else;
the same decision by the same person, made again, changes nothing. Silence is never approval: what nobody decided in time is expired,
and what is expired is never delivered. An item in mode `flag` was released already: it is judged right or wrong, and never delivered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson

from workbench.controls.model import Message
from workbench.errors import ConflictError

LEASE = timedelta(minutes=15)
"""How long a claim holds."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=15)
"""Between two attempts to deliver by a callback: doubled from the first to the longest. An attempt takes less than the first."""


class Kind(StrEnum):
    """What a person decides on."""

    ANSWER = "answer"
    TOOL_CALL = "tool_call"
    """A call of a tool that needs approval."""


class Mode(StrEnum):
    """What happened to it until then."""

    HOLD = "hold"
    """Withheld; the client has a holding text."""
    FLAG = "flag"
    """Released, and marked for a look."""


class HandoffState(StrEnum):
    """Where an item stands."""

    OPEN = "open"
    CLAIMED = "claimed"
    APPROVED = "approved"
    """As it was proposed; of a flagged item: it was right."""
    ANSWERED = "answered"
    """In a person's own words."""
    REJECTED = "rejected"
    """There will be no answer; of a flagged item: it was wrong."""
    DELIVERED = "delivered"
    EXPIRED = "expired"


Decision = HandoffState
"""One of `DECISIONS`."""
DECISIONS = frozenset({HandoffState.APPROVED, HandoffState.ANSWERED, HandoffState.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHandoff:
    """What the controls hand over, as it came in: nothing of it is redacted."""

    handoff_id: str
    request_id: str
    app: str
    bundle_id: str | None
    unit: str | None
    session_id: str | None
    workflow: str
    kind: Kind
    mode: Mode
    signals: tuple[str, ...]
    """Codes of why a person is asked, for example `never_auto`."""
    messages: Sequence[Message]
    """The talk, oldest first."""
    proposed: str | None
    """The answer that was withheld or released; None for a tool call without one."""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """In OpenAI's form."""
    created_at: datetime
    due_s: float | None = None
    """Seconds until it expires undecided; by default what the app declares."""
    callback: str | None = None
    """Name of a callback that the app declares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Exactly what people are shown; the digest that a decision is bound to covers all of it."""

    handoff_id: str
    app: str
    bundle_id: str | None
    workflow: str = field(repr=False)
    kind: Kind
    mode: Mode
    signals: tuple[str, ...] = field(repr=False)
    messages: tuple[Message, ...] = field(repr=False)
    proposed: str | None = field(repr=False)
    tool_calls: tuple[Mapping[str, Any], ...] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The draft as a JSON value."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff:
    """An item of the queue as everybody who may look at the app may see it: no text of the talk."""

    handoff_id: str
    app: str
    request_id: str
    bundle_id: str | None
    session_id: str | None
    workflow: str
    kind: Kind
    mode: Mode
    signals: tuple[str, ...]
    state: HandoffState
    claimed_by: str | None
    lease_until: datetime | None
    created_at: datetime
    due_at: datetime
    """Undecided until then, it expires."""
    expires_at: datetime
    """Then its text is gone, delivered or not."""
    shown_digest: str | None
    """HMAC of what people are shown; None where no text is kept."""
    decision: Decision | None
    answer_digest: str | None
    decided_by: str | None
    decided_at: datetime | None
    callback: str | None
    attempts: int
    next_attempt_at: datetime | None
    fault: str | None
    """Why the last attempt to deliver it failed."""
    delivered_at: datetime | None
    version: int

    @property
    def is_waiting(self) -> bool:
        """Whether a person has yet to decide."""
        return self.state in (HandoffState.OPEN, HandoffState.CLAIMED)

    @property
    def is_deliverable(self) -> bool:
        """Whether its decision has yet to reach the client."""
        return self.mode is Mode.HOLD and self.state in DECISIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An item with its text, for the person who decides."""

    handoff: Handoff
    draft: Draft | None
    """None where no text is kept: without a key, and when its time is over."""
    answer: str | None = field(repr=False)
    """What was answered in its place, where somebody did."""

    @property
    def shown_digest(self) -> str | None:
        """What a decision about it is bound to."""
        return self.handoff.shown_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffResult:
    """What the client gets that waits for an item."""

    handoff_id: str
    state: HandoffState
    decision: Decision | None
    """None until a person decided."""
    answer: str | None = field(default=None, repr=False)
    """Where it was approved or answered and its text is still kept."""
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """The approved ones."""

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.decision is not None or self.state is HandoffState.EXPIRED


def draft_of(new: NewHandoff) -> Draft:
    """What people are shown of it."""
    return Draft(
        handoff_id=new.handoff_id,
        app=new.app,
        bundle_id=new.bundle_id,
        workflow=new.workflow,
        kind=new.kind,
        mode=new.mode,
        signals=new.signals,
        messages=tuple(new.messages),
        proposed=new.proposed,
        tool_calls=tuple(new.tool_calls),
    )


def read_draft(raw: bytes) -> Draft:
    """The draft of its own JSON text."""
    values = orjson.loads(raw)
    lists = {name: tuple(values[name]) for name in ("signals", "messages", "tool_calls")}
    return Draft(**{**values, **lists, "kind": Kind(values["kind"]), "mode": Mode(values["mode"])})


def as_of(handoff: Handoff, now: datetime) -> Handoff:
    """The item as it stands at a moment: a lease that ran out is none, what is overdue is expired."""
    if (handoff.is_waiting and handoff.due_at <= now) or (handoff.is_deliverable and handoff.expires_at <= now):
        return replace(handoff, state=HandoffState.EXPIRED, claimed_by=None, lease_until=None, next_attempt_at=None)
    if handoff.state is HandoffState.CLAIMED and (handoff.lease_until is None or handoff.lease_until <= now):
        return replace(handoff, state=HandoffState.OPEN, claimed_by=None, lease_until=None)
    return handoff


def claimed(handoff: Handoff, person: str, *, now: datetime, lease: timedelta = LEASE) -> Handoff:
    """The item, claimed by the person from now on; who holds it already holds it for longer.

    Raises:
        ConflictError: somebody else holds it, or nobody can decide on it any more.
    """
    _require_free(as_of(handoff, now), person)
    return replace(handoff, state=HandoffState.CLAIMED, claimed_by=person, lease_until=min(now + lease, handoff.due_at))


def released(handoff: Handoff, person: str, *, now: datetime) -> Handoff:
    """The item, open again; nothing changes where it is.

    Raises:
        ConflictError: somebody else holds it, or nobody can decide on it any more.
    """
    _require_free(as_of(handoff, now), person)
    return replace(handoff, state=HandoffState.OPEN, claimed_by=None, lease_until=None)


def decided(
    handoff: Handoff, decision: Decision, person: str, *, shown_digest: str, answer_digest: str | None = None, now: datetime
) -> Handoff:
    """The item with the person's decision. It need not be claimed before, but nobody else may hold it.

    Args:
        handoff: as it is stored.
        decision: one of `DECISIONS`.
        person: who decides.
        shown_digest: of what they were shown.
        answer_digest: of their own words, where they answer.
        now: the moment.

    Returns:
        The same object where this very decision was made before.

    Raises:
        ConflictError: something else was decided, its time is over, somebody else holds it, or they were shown something else.
    """
    given = (decision, person, shown_digest, answer_digest)
    if handoff.decision is not None and given == (handoff.decision, handoff.decided_by, handoff.shown_digest, handoff.answer_digest):
        return handoff
    _require_free(as_of(handoff, now), person)
    if handoff.shown_digest is None or shown_digest != handoff.shown_digest:
        raise _refused(handoff, "what was shown to decide on is not what it holds", next_step="look at it again, then decide")
    if decision is HandoffState.ANSWERED and handoff.mode is Mode.FLAG:
        raise _refused(handoff, "its answer was released already", next_step="approve it when it was right, reject it when it was wrong")
    return replace(
        handoff,
        state=decision,
        claimed_by=None,
        lease_until=None,
        decision=decision,
        answer_digest=answer_digest,
        decided_by=person,
        decided_at=now,
        next_attempt_at=now if handoff.mode is Mode.HOLD and handoff.callback is not None else None,
    )


def delivered(handoff: Handoff, *, now: datetime) -> Handoff:
    """The item, its decision told to the client.

    Raises:
        ConflictError: nobody decided, it was told before, or its time is over.
    """
    seen = as_of(handoff, now)
    if not seen.is_deliverable:
        raise _refused(handoff, f"it is {seen.state}", needed="a decision that the client does not know yet")
    return replace(handoff, state=HandoffState.DELIVERED, delivered_at=now, next_attempt_at=None, fault=None)


def attempted(handoff: Handoff, *, now: datetime) -> Handoff:
    """The item, taken by whoever delivers it now; everybody else leaves it alone until the next attempt is due.

    Raises:
        ConflictError: it is not due, or there is nothing to deliver any more.
    """
    seen = as_of(handoff, now)
    if not seen.is_deliverable or seen.next_attempt_at is None or now < seen.next_attempt_at:
        raise _refused(handoff, "no attempt to deliver it is due")
    pause: timedelta = min(FIRST_PAUSE * 2 ** min(handoff.attempts, 10), LONGEST_PAUSE)
    return replace(handoff, attempts=handoff.attempts + 1, next_attempt_at=now + pause)


def _require_free(seen: Handoff, person: str) -> None:
    """Return when the person may decide on the item as it stands.

    Raises:
        ConflictError: otherwise.
    """
    if seen.decision is not None:
        raise _refused(seen, f"{seen.decided_by} {seen.decision} it at {seen.decided_at:%Y-%m-%d %H:%M:%S} UTC")
    if seen.state is HandoffState.EXPIRED:
        raise _refused(seen, f"it expired at {seen.due_at:%Y-%m-%d %H:%M:%S} UTC: nobody decided in time")
    if seen.claimed_by not in (None, person):
        lease = f"until {seen.lease_until:%H:%M:%S} UTC"
        raise _refused(seen, f"{seen.claimed_by} holds it {lease}", next_step="leave it to them, or wait")


def _refused(handoff: Handoff, seen: str, *, needed: str = "", next_step: str = "") -> ConflictError:
    return ConflictError(f"handoff {handoff.handoff_id}", seen=seen, needed=needed, next_step=next_step)
