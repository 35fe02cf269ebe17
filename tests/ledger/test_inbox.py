"""The inbox keeps every delivery once, hands it to one worker at a time, and loses none; messages are posted by one hand."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from tests.ledger.writers import open_ledger
from workbench.errors import ConflictError
from workbench.ledger.inbox import Delivery, Inbox
from workbench.ledger.messages import Messages
from workbench.ledger.store import Ledger
from workbench.ledger.tables import inbox as table

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, span: timedelta) -> None:
        self.now += span


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inbox(ledger, clock) -> Inbox:
    return Inbox(ledger, clock=clock)


@pytest.fixture
def messages(ledger, clock) -> Messages:
    return Messages(ledger, clock=clock)


def _delivery(key: str = "a", **intent: str) -> Delivery:
    return Delivery(key=key, intent=intent or {"verb": "owner.show"})


def _row(ledger: Ledger, key: str):
    with ledger.read() as connection:
        return connection.execute(select(table).where(table.c.delivery == key)).one_or_none()


def _is_idle(ledger: Ledger) -> bool:
    with ledger.read() as connection:
        return not connection.execute(select(table).where(table.c.state != "done")).all()


def _shown(messages: Messages, name: str):
    return next((found for found in messages.starting_with(name, since=START) if found.name == name), None)


def _claim(inbox: Inbox, clock: Clock, worker: str = "w1"):
    return inbox.claim(worker, until=clock() + LEASE)


def test_a_repetition_is_not_new_and_carries_the_stored_outcome(inbox, clock):
    assert [receipt.is_new for receipt in inbox.put([_delivery("a"), _delivery("b"), _delivery("a")])] == [True, True, False]
    claim = _claim(inbox, clock)
    assert claim.key == "a"
    inbox.record(claim, {"text": "done"})
    (again,) = inbox.put([_delivery("a")])
    assert (again.is_new, again.outcome) == (False, {"text": "done"})


def test_what_is_put_again_changes_nothing(inbox, clock):
    inbox.put([_delivery("a", verb="owner.show")])
    inbox.put([_delivery("a", verb="rollback")])
    assert _claim(inbox, clock).intent == {"verb": "owner.show"}


def test_the_oldest_is_claimed_first_and_nobody_gets_it_twice(inbox, clock):
    inbox.put([_delivery("b")])
    clock.pass_(timedelta(seconds=1))
    inbox.put([_delivery("a")])
    assert [_claim(inbox, clock).key, _claim(inbox, clock).key, _claim(inbox, clock)] == ["b", "a", None]


def test_a_lease_that_ran_out_is_claimed_again_with_what_was_pinned_and_recorded(inbox, clock):
    inbox.put([_delivery("a")])
    first = _claim(inbox, clock)
    inbox.pin(first, {"verb": "owner.show", "seen": 4})
    inbox.record(first, {"text": "done"})
    assert _claim(inbox, clock) is None
    clock.pass_(LEASE)
    second = _claim(inbox, clock, "w2")
    assert (second.attempts, second.intent, second.outcome) == (2, {"verb": "owner.show", "seen": 4}, {"text": "done"})


def test_a_worker_whose_lease_is_over_can_write_nothing_more(inbox, ledger, clock):
    inbox.put([_delivery("a")])
    first = _claim(inbox, clock)
    clock.pass_(LEASE)
    second = _claim(inbox, clock, "w2")
    for late in (
        lambda: inbox.record(first, {"text": "late"}),
        lambda: inbox.pin(first, {}),
        lambda: inbox.renew(first, until=clock() + LEASE),
        lambda: inbox.postpone(first, until=clock()),
        lambda: inbox.finish(first, {}),
    ):
        with pytest.raises(ConflictError, match="another worker"):
            late()
    inbox.finish(second, {"text": "told"})
    assert _row(ledger, "a").outcome == {"text": "told"}
    assert _is_idle(ledger)


def test_a_renewed_lease_holds(inbox, clock):
    inbox.put([_delivery("a")])
    claim = _claim(inbox, clock)
    clock.pass_(LEASE - timedelta(seconds=1))
    inbox.renew(claim, until=clock() + LEASE)
    clock.pass_(LEASE - timedelta(seconds=1))
    assert _claim(inbox, clock, "w2") is None


def test_what_is_postponed_comes_back_at_its_time(inbox, clock):
    inbox.put([_delivery("a")])
    inbox.postpone(_claim(inbox, clock), until=clock() + timedelta(seconds=5))
    assert _claim(inbox, clock) is None
    clock.pass_(timedelta(seconds=5))
    assert _claim(inbox, clock).attempts == 2


def test_what_is_done_is_kept_for_repetitions_until_it_is_forgotten(inbox, ledger, clock):
    inbox.put([_delivery("a"), _delivery("b")])
    done = _claim(inbox, clock)
    inbox.finish(done, {"text": "done"})
    assert inbox.forget(before=clock()) == 0
    assert inbox.put([_delivery("a")])[0].outcome == {"text": "done"}
    clock.pass_(timedelta(hours=1))
    assert inbox.forget(before=clock()) == 1
    assert _row(ledger, "a") is None
    assert not _is_idle(ledger), "b waits still, and waiting is never forgotten"


def _drain(url: str, worker: str) -> list[str]:
    """The keys that one process claimed and finished."""
    ledger = open_ledger(url)
    inbox, keys = Inbox(ledger, clock=lambda: START), []
    while (claim := inbox.claim(worker, until=START + LEASE)) is not None:
        keys.append(claim.key)
        inbox.finish(claim, {})
    ledger.close()
    return keys


@pytest.mark.slow
def test_processes_share_the_deliveries_and_each_is_worked_on_once(inbox, url):
    inbox.put([_delivery(f"d{i:03}") for i in range(60)])
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(_drain, [url] * 3, ["w1", "w2", "w3"]))
    assert sorted(key for keys in done for key in keys) == [f"d{i:03}" for i in range(60)]


class _Machine(RuleBasedStateMachine):
    """Against a dictionary: no order of puts, claims, deaths and finishes loses a delivery or finishes it twice."""

    keys = Bundle("keys")
    claims = Bundle("claims")
    place: str

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.ledger = Ledger.open(f"sqlite:///{self.place}", clock=self.clock)
        self.inbox = Inbox(self.ledger, clock=self.clock)
        with self.ledger.write() as act:
            act.connection.execute(table.delete())
        self.waiting: set[str] = set()
        self.leased: dict[str, tuple[int, datetime]] = {}
        self.done: set[str] = set()

    @rule(target=keys, key=st.sampled_from("abcdef"))
    def put(self, key):
        known = self.waiting | set(self.leased) | self.done
        (receipt,) = self.inbox.put([_delivery(key)])
        assert receipt.is_new is (key not in known)
        if receipt.is_new:
            self.waiting.add(key)
        return key

    @rule(target=claims)
    def claim(self):
        open_ = self.waiting | {key for key, (_, until) in self.leased.items() if until <= self.clock()}
        claim = self.inbox.claim("w", until=self.clock() + LEASE)
        assert (claim is None) is (not open_)
        if claim is not None:
            assert claim.key in open_
            self.waiting.discard(claim.key)
            self.leased[claim.key] = (claim.attempts, self.clock() + LEASE)
        return claim

    @rule(claim=consumes(claims))
    def finish(self, claim):
        if claim is None:
            return
        is_held = self.leased.get(claim.key, (0, None))[0] == claim.attempts
        if not is_held:
            with pytest.raises(ConflictError):
                self.inbox.finish(claim, {})
            return
        self.inbox.finish(claim, {})
        del self.leased[claim.key]
        self.done.add(claim.key)

    @rule(seconds=st.sampled_from([1, 29, 30]))
    def wait(self, seconds):
        self.clock.pass_(timedelta(seconds=seconds))

    @invariant()
    def idle_means_nothing_is_left(self):
        assert _is_idle(self.ledger) is (not self.waiting and not self.leased)

    def teardown(self):
        self.ledger.close()


def test_no_order_of_events_loses_a_delivery_or_finishes_it_twice(tmp_path):
    _Machine.place = str(tmp_path / "ledger.sqlite")
    run_state_machine_as_test(_Machine)


def test_one_hand_posts_a_message_and_everybody_then_finds_it(messages):
    assert messages.take_turn("release:r1@C1", "C1", patience=LEASE).is_repeat is False
    assert messages.take_turn("release:r1@C1", "C1", patience=LEASE) is None
    assert _shown(messages, "release:r1@C1").is_placed is False
    messages.place("release:r1@C1", channel="C1", ts="17.1", digest="sha256:x")
    assert messages.take_turn("release:r1@C1", "C1", patience=timedelta(0)) is None
    assert _shown(messages, "release:r1@C1").ts == "17.1"


def test_threads_that_ask_at_once_get_one_turn(messages):
    with ThreadPoolExecutor(8) as pool:
        turns = list(pool.map(lambda _: messages.take_turn("x", "C1", patience=LEASE), range(8)))
    assert sum(turn is not None for turn in turns) == 1


def test_a_turn_whose_holder_died_is_given_again_and_says_so(messages, clock):
    messages.take_turn("x", "C1", patience=LEASE)
    clock.pass_(LEASE)
    assert messages.take_turn("x", "C1", patience=LEASE).is_repeat is True
    assert messages.take_turn("x", "C1", patience=LEASE) is None


def test_a_message_that_is_gone_can_be_posted_anew(messages):
    messages.take_turn("x", "C1", patience=LEASE)
    messages.place("x", channel="C1", ts="17.1", digest="")
    messages.drop("x")
    assert _shown(messages, "x") is None
    assert messages.take_turn("x", "C1", patience=LEASE).is_repeat is False


def test_messages_are_found_by_the_start_of_their_names_taken_literally(messages, clock):
    for name in ("release:a@C1", "release:b@C1", "releaseX", "rel%"):
        messages.take_turn(name, "C1", patience=LEASE)
    assert [found.name for found in messages.starting_with("release:", since=START)] == ["release:a@C1", "release:b@C1"]
    assert [found.name for found in messages.starting_with("rel%", since=START)] == ["rel%"]
    clock.pass_(timedelta(hours=1))
    messages.place("release:b@C1", channel="C1", ts="1.2", digest="d")
    assert [found.name for found in messages.starting_with("release:", since=clock())] == ["release:b@C1"]
