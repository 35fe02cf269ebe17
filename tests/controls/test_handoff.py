"""The rules of the handoff: what may follow what, for any item at any moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controls.desk import START, TALK, new
from workbench.controls.handoff import (
    DECISIONS,
    FIRST_PAUSE,
    LEASE,
    LONGEST_PAUSE,
    Handoff,
    HandoffState,
    Kind,
    Mode,
    as_of,
    attempted,
    claimed,
    decided,
    delivered,
    draft_of,
    read_draft,
    released,
)
from workbench.controls.handoff_rows import handoff_of, row_of
from workbench.errors import ConflictError
from workbench.observability.redaction import Redactor
from workbench.observability.sealing import Sealer, canonical_body

S = HandoffState
SEALER = Sealer(Redactor(b"r" * 32), b"u" * 32)


def item(**changes) -> Handoff:
    made = handoff_of(row_of(new(callback="orders"), SEALER, due=timedelta(minutes=30), shown_digest="d"))
    return replace(made, **changes)


def minutes(n: float):
    return START + timedelta(minutes=n)


def approve(handoff: Handoff, person: str = "anna", *, at=START, digest: str = "d") -> Handoff:
    return decided(handoff, S.APPROVED, person, shown_digest=digest, now=at)


def test_a_claim_keeps_others_out_until_its_lease_is_over():
    held = claimed(item(), "anna", now=START)
    assert (held.state, held.claimed_by, held.lease_until) == (S.CLAIMED, "anna", START + LEASE)
    last = START + LEASE - timedelta(microseconds=1)
    for act in (claimed, released):
        with pytest.raises(ConflictError, match="anna holds it until 12:15:00 UTC"):
            act(held, "bert", now=last)
    with pytest.raises(ConflictError, match="anna holds it"):
        approve(held, "bert", at=last)
    assert as_of(held, START + LEASE).state is S.OPEN
    assert claimed(held, "bert", now=START + LEASE).claimed_by == "bert"
    assert approve(held, "bert", at=START + LEASE).decided_by == "bert"


def test_who_holds_an_item_can_hold_it_for_longer_but_never_beyond_its_due_time():
    held = claimed(item(), "anna", now=START)
    assert claimed(held, "anna", now=minutes(10)).lease_until == minutes(25)
    assert claimed(held, "anna", now=minutes(20)).lease_until == minutes(30)


def test_what_is_given_back_is_open_for_anybody():
    assert released(claimed(item(), "anna", now=START), "anna", now=minutes(1)).state is S.OPEN
    assert released(item(), "bert", now=START).state is S.OPEN


def test_a_decision_is_bound_to_what_was_shown():
    with pytest.raises(ConflictError, match="what was shown to decide on is not what it holds"):
        approve(item(), digest="e")
    with pytest.raises(ConflictError, match="what was shown"):
        approve(item(shown_digest=None), digest="")


def test_the_same_decision_again_changes_nothing_and_any_other_is_refused():
    first = approve(item())
    assert approve(first, at=minutes(5)) is first
    assert approve(delivered(first, now=minutes(1)), at=minutes(90)).decided_at == START
    for other in (
        lambda: approve(first, "bert"),
        lambda: approve(first, digest="e"),
        lambda: decided(first, S.REJECTED, "anna", shown_digest="d", now=START),
        lambda: decided(first, S.ANSWERED, "anna", shown_digest="d", answer_digest="a", now=START),
        lambda: claimed(first, "anna", now=START),
        lambda: released(first, "anna", now=START),
    ):
        with pytest.raises(ConflictError, match=r"anna approved it at 2026-11-20 12:00:00 UTC"):
            other()


def test_other_words_than_the_ones_given_first_are_another_decision():
    first = decided(item(), S.ANSWERED, "anna", shown_digest="d", answer_digest="a", now=START)
    assert decided(first, S.ANSWERED, "anna", shown_digest="d", answer_digest="a", now=START) is first
    with pytest.raises(ConflictError, match="anna answered it"):
        decided(first, S.ANSWERED, "anna", shown_digest="d", answer_digest="b", now=START)


def test_silence_is_never_approval():
    due = minutes(30)
    assert as_of(item(), due - timedelta(microseconds=1)).state is S.OPEN
    for waiting in (item(), claimed(item(), "anna", now=minutes(20))):
        seen = as_of(waiting, due)
        assert (seen.state, seen.decision, seen.claimed_by) == (S.EXPIRED, None, None)
        for act in (lambda held: approve(held, at=due), lambda held: claimed(held, "anna", now=due)):
            with pytest.raises(ConflictError, match="nobody decided in time"):
                act(waiting)
        with pytest.raises(ConflictError, match="it is expired"):
            delivered(waiting, now=due)


def test_a_decision_that_nobody_fetched_in_time_is_never_delivered():
    made = approve(item())
    assert delivered(made, now=made.expires_at - timedelta(microseconds=1)).state is S.DELIVERED
    with pytest.raises(ConflictError, match="it is expired"):
        delivered(made, now=made.expires_at)


def test_only_a_decision_is_delivered_and_only_once():
    for state in (S.OPEN, S.CLAIMED):
        with pytest.raises(ConflictError, match="it is open"):
            delivered(item(state=state), now=START)
    with pytest.raises(ConflictError, match="it is delivered"):
        delivered(delivered(approve(item()), now=START), now=START)


def test_a_flagged_item_is_judged_and_never_delivered():
    right = approve(item(mode=Mode.FLAG))
    assert (right.state, right.next_attempt_at, right.is_deliverable) == (S.APPROVED, None, False)
    with pytest.raises(ConflictError, match="it is approved"):
        delivered(right, now=START)
    assert as_of(right, minutes(9999)).state is S.APPROVED
    with pytest.raises(ConflictError, match="its answer was released already"):
        decided(item(mode=Mode.FLAG), S.ANSWERED, "anna", shown_digest="d", answer_digest="a", now=START)


def test_attempts_pause_longer_each_time_and_nobody_else_sends_meanwhile():
    taken, now, pauses = approve(item()), START, []
    for _ in range(12):
        before, taken = now, attempted(taken, now=now)
        with pytest.raises(ConflictError, match="no attempt"):
            attempted(taken, now=taken.next_attempt_at - timedelta(microseconds=1))
        now = taken.next_attempt_at
        pauses.append(now - before)
    assert pauses[:6] == [FIRST_PAUSE * 2**n for n in range(5)] + [LONGEST_PAUSE]
    assert all(a <= b for a, b in pairwise(pauses))
    assert pauses[-1] == LONGEST_PAUSE
    assert taken.attempts == 12


def test_an_item_without_a_callback_is_never_attempted():
    with pytest.raises(ConflictError, match="no attempt"):
        attempted(approve(item(callback=None)), now=START)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20), lambda kids: st.lists(kids, max_size=3)
)


@given(
    content=st.text(max_size=200), more=st.dictionaries(st.text(max_size=8), JSON, max_size=3), proposed=st.none() | st.text(max_size=80)
)
def test_what_is_shown_is_what_was_handed_over(content, more, proposed):
    draft = draft_of(new(messages=(*TALK, {"role": "user", "content": content, "more": more}), proposed=proposed, kind=Kind.TOOL_CALL))
    assert read_draft(canonical_body(draft.as_json())) == draft


@pytest.mark.parametrize(
    "change",
    [
        {"messages": ({"role": "user", "content": "Send it to Lindenweg 8."},)},
        {"proposed": "We send 251 EUR."},
        {"proposed": None},
        {"tool_calls": ({"id": "c1", "function": {"name": "refund", "arguments": '{"eur": 250}'}},)},
        {"signals": ("never_auto", "unsure")},
        {"handoff_id": "h2"},
        {"app": "bank"},
        {"mode": Mode.FLAG},
        {"kind": Kind.TOOL_CALL},
    ],
)
def test_the_digest_covers_everything_that_is_shown(change):
    proofs = {SEALER.proof(canonical_body(draft_of(made).as_json())) for made in (new(), replace(new(), **change))}
    assert len(proofs) == 2


ACTS = st.sampled_from(["claim", "release", "approve", "answer", "reject", "deliver", "attempt", "expire"])
NEXT = {
    S.OPEN: {S.OPEN, S.CLAIMED, S.EXPIRED, *DECISIONS},
    S.CLAIMED: {S.OPEN, S.CLAIMED, S.EXPIRED, *DECISIONS},
    **{state: {state, S.DELIVERED, S.EXPIRED} for state in DECISIONS},
    S.DELIVERED: {S.DELIVERED},
    S.EXPIRED: {S.EXPIRED},
}


@given(
    mode=st.sampled_from(Mode),
    steps=st.lists(st.tuples(ACTS, st.sampled_from(["anna", "bert"]), st.integers(0, 900)), max_size=14),
)
def test_no_order_of_acts_reaches_what_the_rules_forbid(mode, steps):
    handoff, now, deliveries = item(mode=mode), START, 0
    for act, who, wait_min in steps:
        now += timedelta(minutes=wait_min)
        before = handoff
        try:
            handoff = {
                "claim": lambda h=handoff, w=who, t=now: claimed(h, w, now=t),
                "release": lambda h=handoff, w=who, t=now: released(h, w, now=t),
                "approve": lambda h=handoff, w=who, t=now: approve(h, w, at=t),
                "answer": lambda h=handoff, w=who, t=now: decided(h, S.ANSWERED, w, shown_digest="d", answer_digest="a", now=t),
                "reject": lambda h=handoff, w=who, t=now: decided(h, S.REJECTED, w, shown_digest="d", now=t),
                "deliver": lambda h=handoff, t=now: delivered(h, now=t),
                "attempt": lambda h=handoff, t=now: attempted(h, now=t),
                "expire": lambda h=handoff, t=now: as_of(h, t),
            }[act]()
        except ConflictError:
            continue
        deliveries += act == "deliver"
        assert handoff.state in NEXT[before.state], (act, before.state, handoff.state)
        assert (handoff.decision is None) == (handoff.decided_by is None)
        assert handoff.state not in DECISIONS or handoff.decided_at < handoff.due_at
        assert handoff.state is not S.DELIVERED or (handoff.decision in DECISIONS and mode is Mode.HOLD)
        assert before.decision is None or handoff.decision == before.decision, "a decision is made once"
        assert (handoff.claimed_by is not None) == (handoff.state is S.CLAIMED)
    assert deliveries <= 1
