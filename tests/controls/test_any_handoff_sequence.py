"""Whatever people, clients, clocks and couriers do, in whatever order: the queue does what a small model of it says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.controls.desk import APPROVER, OPERATOR, PROPOSED, Clock, Desk
from workbench.controls.callbacks import Courier
from workbench.controls.handoff import Mode
from workbench.errors import ConflictError, UnknownSubject
from workbench.ledger.audit import tail, verify
from workbench.ledger.store import Ledger

IDS = st.sampled_from(["h1", "h2"])
PEOPLE = st.sampled_from([OPERATOR, APPROVER])
OWN = "In my own words."


class Machine(RuleBasedStateMachine):
    """The model: what was decided by whom, and what the client got; everything else follows from the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.ledger = Ledger.open(f"sqlite:///{Path(self.folder.name) / 'ledger.sqlite'}", clock=self.clock)
        self.desk = Desk(self.ledger, self.clock, callbacks={"orders": "http://127.0.0.1:1/"})
        self.handoffs = self.desk.handoffs
        self.modes: dict[str, Mode] = {}
        self.due = {}
        self.digests: dict[str, str] = {}
        self.decisions: dict[str, tuple[str, str]] = {}
        self.told: dict[str, int] = {}

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    @rule(handoff_id=IDS, mode=st.sampled_from(Mode))
    def open(self, handoff_id, mode):
        if handoff_id in self.modes:
            return
        opened = self.desk.open(handoff_id, mode=mode, callback="orders")
        self.modes[handoff_id], self.due[handoff_id] = mode, opened.due_at
        self.digests[handoff_id] = opened.shown_digest

    @rule(handoff_id=IDS, who=PEOPLE, verb=st.sampled_from(["claim", "release"]))
    def hold(self, handoff_id, who, verb):
        try:
            done = getattr(self.handoffs, verb)(handoff_id, who)
        except (ConflictError, UnknownSubject):
            return
        assert handoff_id not in self.decisions
        assert self.clock.now < self.due[handoff_id]
        assert done.claimed_by == (who.person if verb == "claim" else None)

    @rule(handoff_id=IDS, who=PEOPLE, verb=st.sampled_from(["approve", "edit", "reject"]), is_right=st.sampled_from([True, True, False]))
    def decide(self, handoff_id, who, verb, is_right):
        digest = self.digests.get(handoff_id, "0" * 64) if is_right else "1" * 64
        words = {"approve": (), "edit": (OWN,), "reject": ("no",)}[verb]
        made = ({"approve": "approved", "edit": "answered", "reject": "rejected"}[verb], who.person)
        held_by = next((item.claimed_by for item in self.handoffs.list() if item.handoff_id == handoff_id), None)
        try:
            done = getattr(self.handoffs, verb)(handoff_id, digest, *words, actor=who)
        except (ConflictError, UnknownSubject):
            is_free = handoff_id in self.modes and self.clock.now < self.due[handoff_id] and held_by in (None, who.person)
            is_possible = (
                is_free and is_right and handoff_id not in self.decisions and not (verb == "edit" and self.modes[handoff_id] is Mode.FLAG)
            )
            assert not is_possible, "a decision that the rules allow was refused"
            return
        assert is_right
        assert self.decisions.setdefault(handoff_id, made) == made, "a decision is made once"
        assert (str(done.decision), done.decided_by) == made
        assert done.decided_at < self.due[handoff_id]

    @rule(handoff_id=IDS)
    def fetch(self, handoff_id):
        try:
            result = self.handoffs.result(handoff_id, "shop")
        except UnknownSubject:
            assert handoff_id not in self.modes
            return
        kind = self.decisions.get(handoff_id, (None, ""))[0]
        is_told = result.state == "delivered"
        assert result.decision == kind
        expected = {"approved": PROPOSED, "answered": OWN}.get(kind) if is_told else None
        assert result.answer in (expected, None)
        assert not is_told or self.modes[handoff_id] is Mode.HOLD

    @rule(arrives=st.booleans())
    def send(self, arrives):
        def post(_self, letters, *, at):
            for letter in letters:
                assert letter.handoff_id in self.decisions
            return tuple(None if arrives else "it answered 500" for _ in letters)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Courier, "post", post)
            self.handoffs.deliver()

    @rule()
    def sweep(self):
        self.handoffs.expire()

    @rule(minutes=st.sampled_from([1, 14, 15, 31, 24 * 60]))
    def wait(self, minutes):
        self.clock.forward(minutes=minutes)

    @invariant()
    def nothing_is_told_twice_or_undecided(self):
        with self.ledger.read() as connection:
            entries = tail(connection, 10_000)
            assert verify(connection).is_whole
        told = [entry.subject for entry in entries if entry.act == "handoff.deliver"]
        assert len(told) == len(set(told))
        assert set(told) <= {name for name in self.decisions if self.modes[name] is Mode.HOLD}
        expired = {entry.subject for entry in entries if entry.act == "handoff.expire"}
        assert not expired & set(told), "what is expired is never delivered"
        decided = [entry.subject for entry in entries if entry.act in ("handoff.approve", "handoff.edit", "handoff.reject")]
        assert sorted(decided) == sorted(self.decisions)


@pytest.mark.slow
def test_no_order_of_verbs_decides_twice_delivers_twice_or_delivers_what_nobody_decided():
    run_state_machine_as_test(Machine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None))
