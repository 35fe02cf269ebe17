"""Whether a target is asked after it failed, against a second breaker that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workbench.controls.breaker import Breaker, State
from workbench.controls.failures import Counts


def used(breaker, outcomes, *, now_s=0.0):
    """The breaker after calls that ended so, one after the other; those that do not pass are left out."""
    for counts in outcomes:
        permit = breaker.admit(now_s)
        if permit is not None:
            breaker.settle(permit, now_s, counts)
    return breaker


FAILED, WORKED = Counts.FULL, None


def test_it_begins_closed():
    assert Breaker().state(0.0) is State.CLOSED
    assert Breaker().admit(0.0).is_probe is False


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([FAILED] * 4, State.CLOSED),
        ([FAILED] * 5, State.OPEN),
        ([Counts.HALF] * 9, State.CLOSED),
        ([Counts.HALF] * 10, State.OPEN),
        ([FAILED, WORKED] * 4 + [FAILED], State.CLOSED),
        ([FAILED, WORKED] * 5, State.OPEN),
        ([WORKED] * 6 + [FAILED] * 4, State.CLOSED),
        ([FAILED, FAILED, WORKED] * 3 + [FAILED], State.OPEN),
        ([Counts.RATE] * 50, State.CLOSED),
        ([Counts.NONE] * 50, State.CLOSED),
        ([Counts.OPEN_NOW], State.OPEN),
    ],
)
def test_half_of_ten_calls_or_five_in_a_row_open_it(outcomes, state):
    assert used(Breaker(), outcomes).state(0.0) is state


def test_what_is_older_than_the_window_does_not_count():
    breaker = used(Breaker(), [FAILED, FAILED, WORKED] * 3, now_s=0.0)
    assert used(breaker, [FAILED], now_s=31.0).state(31.0) is State.CLOSED


def test_it_stays_open_for_five_seconds_doubled_up_to_a_minute():
    breaker, now_s, spans = used(Breaker(), [FAILED] * 5), 0.0, []
    for _ in range(6):
        spans.append(breaker.closed_for_s(now_s))
        now_s += spans[-1]
        assert breaker.admit(now_s - 0.001) is None
        used(breaker, [FAILED], now_s=now_s)
    assert spans == pytest.approx([5, 10, 20, 40, 60, 60])


def test_jitter_lengthens_it():
    breaker = Breaker()
    breaker.settle(breaker.admit(0.0), 0.0, Counts.OPEN_NOW, fraction=0.5)
    assert breaker.closed_for_s(0.0) == pytest.approx(5.5)


def test_one_probe_then_three_close_it_and_the_next_time_begins_with_five_seconds():
    breaker = used(Breaker(), [FAILED] * 5)
    first = breaker.admit(5.0)
    assert (first.is_probe, breaker.admit(5.0)) == (True, None)
    breaker.settle(first, 5.0, WORKED)
    three = [breaker.admit(5.0) for _ in range(3)]
    assert breaker.admit(5.0) is None
    for permit in three:
        assert breaker.state(5.0) is State.HALF_OPEN
        breaker.settle(permit, 5.0, WORKED)
    assert breaker.state(5.0) is State.CLOSED
    assert used(breaker, [FAILED] * 5, now_s=6.0).closed_for_s(6.0) == 5.0


def test_a_probe_whose_caller_left_counts_as_neither():
    breaker = used(Breaker(), [FAILED] * 5)
    breaker.withdraw(breaker.admit(5.0))
    assert breaker.state(5.0) is State.HALF_OPEN
    assert breaker.admit(5.0).is_probe


def test_an_answer_from_before_it_opened_says_nothing():
    breaker = Breaker()
    late = breaker.admit(0.0)
    used(breaker, [FAILED] * 5)
    breaker.settle(late, 0.0, WORKED)
    assert breaker.state(0.0) is State.OPEN
    breaker.withdraw(late)
    assert breaker.admit(5.0).is_probe


def test_a_lone_target_is_probed_rather_than_left_alone():
    breaker = used(Breaker(), [FAILED] * 5)
    probe = breaker.admit(0.1, is_lone=True)
    assert probe.is_probe
    assert breaker.admit(0.1, is_lone=True) is None
    breaker.settle(probe, 0.1, FAILED)
    assert breaker.admit(0.2) is None
    assert breaker.admit(0.2, is_lone=True).is_probe


class Life(RuleBasedStateMachine):
    """Any order of calls, answers and departures."""

    def __init__(self):
        super().__init__()
        self.breaker = Breaker()
        self.now_s = 0.0
        self.open_permits = []
        self.opened_at = None

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds):
        self.now_s += seconds

    @rule(is_lone=st.booleans())
    def somebody_asks(self, is_lone):
        before = self.breaker.state(self.now_s)
        permit = self.breaker.admit(self.now_s, is_lone=is_lone)
        if permit is not None:
            self.open_permits.append(permit)
            assert before is not State.OPEN or is_lone
            assert permit.is_probe is (before is not State.CLOSED)
        else:
            assert before is not State.CLOSED

    @precondition(lambda self: self.open_permits)
    @rule(data=st.data(), counts=st.none() | st.sampled_from(list(Counts)), fraction=st.floats(0, 0.99))
    def an_answer_comes(self, data, counts, fraction):
        permit = self.open_permits.pop(data.draw(st.integers(0, len(self.open_permits) - 1)))
        before, is_now = self.breaker.state(self.now_s), permit.period == self.breaker._period
        self.breaker.settle(permit, self.now_s, counts, fraction=fraction)
        if not is_now or counts in (None, Counts.NONE, Counts.RATE):
            assert before is State.OPEN or self.breaker.state(self.now_s) is not State.OPEN
        if is_now and ((permit.is_probe and counts in (Counts.HALF, Counts.FULL)) or counts is Counts.OPEN_NOW):
            assert 5.0 <= self.breaker.closed_for_s(self.now_s) <= 72.0

    @precondition(lambda self: self.open_permits)
    @rule(data=st.data())
    def a_caller_leaves(self, data):
        permit = self.open_permits.pop(data.draw(st.integers(0, len(self.open_permits) - 1)))
        before = self.breaker.state(self.now_s)
        self.breaker.withdraw(permit)
        assert self.breaker.state(self.now_s) is before

    @invariant()
    def few_probes_are_on_their_way(self):
        probes = [permit for permit in self.open_permits if permit.is_probe and permit.period == self.breaker._period]
        assert len(probes) == self.breaker._on_their_way
        assert len(probes) <= 3

    @invariant()
    def it_is_never_closed_for_longer_than_said(self):
        assert 0 <= self.breaker.closed_for_s(self.now_s) <= 72.0

    def teardown(self):
        """Whatever happened, a target that works again is asked again."""
        for permit in self.open_permits:
            self.breaker.withdraw(permit)
        self.now_s += 72.0
        used(self.breaker, [WORKED] * 4, now_s=self.now_s)
        assert self.breaker.state(self.now_s) is State.CLOSED


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
