"""The queue over a real ledger: people decide once, on what they were shown; nothing stored beside the vault holds a word of it."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from tests.controls.desk import APPROVER, KEY, MAIL, OPERATOR, PROPOSED, START, TALK, Clock, Desk, new, person
from tests.postgres import new_database, running_postgres
from workbench.controls.handoff import HandoffState, Kind, Mode, draft_of
from workbench.errors import ConflictError, IntegrityError, NotPermitted, StoreError, UnknownSubject, UsageError, WorkbenchError
from workbench.ledger.audit import tail, verify
from workbench.ledger.handoffs import erase_unit
from workbench.ledger.store import Ledger
from workbench.ledger.vault import VaultKey
from workbench.observability.sealing import canonical_body
from workbench.ownership.model import Assurance

S = HandoffState
WORDS = ("refund to", "Lindenweg", MAIL, "250 EUR")
OWN_WORDS = "A colleague calls you at Lindenweg 7."


@pytest.fixture(scope="module")
def postgres_server(tmp_path_factory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


def desk_at(url: str) -> Iterator[Desk]:
    clock = Clock()
    ledger = Ledger.open(url, clock=clock)
    yield Desk(ledger, clock, url)
    ledger.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(f"sqlite:///{tmp_path}/ledger.sqlite")


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request, tmp_path) -> Iterator[Desk]:
    """The desk on a ledger that other processes can open too."""
    is_file = request.param == "sqlite"
    yield from desk_at(f"sqlite:///{tmp_path}/ledger.sqlite" if is_file else new_database(request.getfixturevalue("postgres_server")))


def acts(desk: Desk) -> list[tuple[str, str]]:
    with desk.ledger.read() as connection:
        assert verify(connection).is_whole
        return [(entry.act, entry.actor) for entry in tail(connection, 1000)]


def test_an_item_goes_from_its_request_to_the_client_as_it_was_proposed(shared: Desk):
    desk, handoffs = shared, shared.handoffs
    opened = desk.open()
    assert opened == handoffs.list()[0]
    assert (opened.due_at, opened.expires_at) == (START + timedelta(minutes=30), START + timedelta(hours=24, minutes=30))
    assert handoffs.result("h1", "shop").state is S.OPEN
    handoffs.claim("h1")
    shown = handoffs.show("h1")
    assert (shown.draft.messages, shown.draft.proposed, shown.draft.signals) == (TALK, PROPOSED, ("never_auto",))
    approved = handoffs.approve("h1", shown.shown_digest)
    assert (approved.state, approved.decided_by) == (S.APPROVED, "operator")
    result = handoffs.result("h1", "shop")
    assert (result.state, result.decision, result.answer, result.is_final) == (S.DELIVERED, S.APPROVED, PROPOSED, True)
    assert handoffs.result("h1", "shop") == result, "a client that asks again gets the same"
    system = "workbench:handoffs"
    assert acts(desk) == [
        ("handoff.open", system),
        ("handoff.claim", "operator"),
        ("handoff.view", "operator"),
        ("handoff.approve", "operator"),
        ("handoff.deliver", system),
    ]


def test_a_person_answers_in_their_own_words(shared: Desk):
    shared.open()
    shared.handoffs.edit("h1", shared.shown_digest(), OWN_WORDS, APPROVER)
    result = shared.handoffs.result("h1", "shop")
    assert (result.decision, result.answer, result.tool_calls) == (S.ANSWERED, OWN_WORDS, ())
    assert shared.handoffs.show("h1").answer == OWN_WORDS


def test_a_rejected_item_gives_no_answer_and_its_reason_is_stored_without_personal_data(desk: Desk):
    desk.open()
    desk.handoffs.reject("h1", desk.shown_digest(), f"  {MAIL} is\n not the customer ")
    result = desk.handoffs.result("h1", "shop")
    assert (result.state, result.decision, result.answer) == (S.DELIVERED, S.REJECTED, None)
    with desk.ledger.read() as connection:
        (entry,) = [entry for entry in tail(connection, 10) if entry.act == "handoff.reject"]
    assert MAIL not in entry.detail["reason"]
    assert entry.detail["reason"].endswith("is not the customer")


def test_an_approved_tool_call_comes_back_as_it_was_asked_for(desk: Desk):
    call = {"id": "c1", "type": "function", "function": {"name": "refund", "arguments": '{"eur": 250}'}}
    desk.open(kind=Kind.TOOL_CALL, proposed=None, tool_calls=(call,))
    assert desk.handoffs.result("h1", "shop").tool_calls == ()
    desk.handoffs.approve("h1", desk.shown_digest())
    assert desk.handoffs.result("h1", "shop").tool_calls == (call,)


def test_a_rejected_tool_call_does_not_come_back(desk: Desk):
    desk.open(kind=Kind.TOOL_CALL, proposed=None, tool_calls=({"id": "c1"},))
    desk.handoffs.reject("h1", desk.shown_digest(), "too much")
    assert desk.handoffs.result("h1", "shop").tool_calls == ()


def test_a_flagged_answer_is_judged_once_and_who_wired_it_is_told(desk: Desk):
    desk.open("h1", mode=Mode.FLAG)
    desk.open("h2", mode=Mode.FLAG)
    for _ in range(2):
        desk.handoffs.approve("h1", desk.shown_digest("h1"))
        desk.handoffs.reject("h2", desk.shown_digest("h2"), "wrong amount")
    assert [(item.handoff_id, item.decision, who) for item, who in desk.judged] == [
        ("h1", S.APPROVED, "operator"),
        ("h2", S.REJECTED, "operator"),
    ]
    result = desk.handoffs.result("h1", "shop")
    assert (result.state, result.decision, result.answer, result.is_final) == (S.APPROVED, S.APPROVED, None, True)
    desk.open("h3", mode=Mode.FLAG)
    digest = desk.shown_digest("h3")
    with pytest.raises(ConflictError, match="released already"):
        desk.handoffs.edit("h3", digest, OWN_WORDS)


def test_approving_after_somebody_edited_or_on_another_digest_is_refused(desk: Desk):
    desk.open()
    digest = desk.shown_digest()
    with pytest.raises(ConflictError, match="what was shown"):
        desk.handoffs.approve("h1", digest[:-1] + ("0" if digest[-1] != "0" else "1"))
    desk.handoffs.edit("h1", digest, OWN_WORDS, APPROVER)
    with pytest.raises(ConflictError, match="approver answered it"):
        desk.handoffs.approve("h1", digest)
    assert desk.handoffs.result("h1", "shop").answer == OWN_WORDS


def test_a_decision_made_twice_is_one_and_leaves_one_entry(desk: Desk):
    desk.open()
    digest = desk.shown_digest()
    first = desk.handoffs.approve("h1", digest)
    assert desk.handoffs.approve("h1", digest) == first
    with pytest.raises(ConflictError, match="operator approved it"):
        desk.handoffs.approve("h1", digest, APPROVER)
    assert [act for act, _ in acts(desk)].count("handoff.approve") == 1


def test_what_nobody_decides_in_time_expires_and_its_text_is_gone(shared: Desk):
    desk = shared
    desk.open()
    digest = desk.shown_digest()
    desk.clock.forward(minutes=30)
    assert desk.handoffs.list() == ()
    result = desk.handoffs.result("h1", "shop")
    assert (result.state, result.decision, result.answer, result.is_final) == (S.EXPIRED, None, None, True)
    with pytest.raises(ConflictError, match="nobody decided in time"):
        desk.handoffs.approve("h1", digest)
    assert desk.handoffs.expire() == 0, "asking took it away already"
    assert desk.state() == "expired"
    assert desk.handoffs.show("h1").draft is None
    with desk.ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM vault").scalar() == 0
    assert [act for act, _ in acts(desk)].count("handoff.deliver") == 0


def test_a_decision_that_nobody_fetched_expires_too(desk: Desk):
    desk.open()
    desk.handoffs.approve("h1", desk.shown_digest())
    desk.clock.forward(hours=24, minutes=30)
    assert (desk.handoffs.expire(), desk.handoffs.expire()) == (1, 0)
    assert desk.handoffs.result("h1", "shop").answer is None
    assert ("handoff.deliver", "workbench:handoffs") not in acts(desk)


def test_a_fetched_answer_can_be_fetched_again_until_its_text_is_gone(desk: Desk):
    desk.open(due_s=72 * 3600)
    desk.handoffs.approve("h1", desk.shown_digest())
    assert desk.handoffs.result("h1", "shop").answer == PROPOSED
    desk.clock.forward(hours=72)
    assert desk.handoffs.expire() == 0
    result = desk.handoffs.result("h1", "shop")
    assert (result.state, result.answer) == (S.DELIVERED, None)
    with desk.ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM vault").scalar() == 0


def test_a_lease_that_lapses_opens_the_item_for_others(desk: Desk):
    desk.open()
    assert desk.handoffs.claim("h1").claimed_by == "operator"
    with pytest.raises(ConflictError, match="operator holds it until 12:15:00 UTC"):
        desk.handoffs.claim("h1", APPROVER)
    desk.clock.forward(minutes=15)
    assert desk.state() == "open"
    assert desk.handoffs.claim("h1", APPROVER).claimed_by == "approver"


def test_any_text_can_be_handed_over(shared: Desk):
    odd = "a\0b\u202e\U0001f600'\";--"
    shared.open(
        messages=({"role": "user", "content": odd},), proposed=odd, workflow=odd, session_id=odd, request_id=odd, signals=(odd,), unit=odd
    )
    assert shared.handoffs.show("h1").draft.proposed == odd
    shared.handoffs.edit("h1", shared.shown_digest(), odd)
    assert shared.handoffs.result("h1", "shop").answer == odd
    shared.handoffs.list(only_waiting=False)


def test_many_items_expire_in_rounds(desk: Desk):
    for i in range(45):
        desk.open(f"h{i}")
    desk.clock.forward(minutes=30)
    assert desk.handoffs.expire() == 45


# --- who may -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "may_view", "may_decide"),
    [("operator", True, True), ("approver", True, True), ("risk", True, False), ("admin", False, False), ("viewer", False, False)],
)
def test_roles_decide_who_reads_and_who_decides(desk: Desk, who, may_view, may_decide):
    desk.open()
    digest = desk.shown_digest()

    def is_allowed(act) -> bool:
        try:
            act()
        except NotPermitted:
            return False
        return True

    assert is_allowed(lambda: desk.handoffs.show("h1", person(who))) is may_view
    assert is_allowed(lambda: desk.handoffs.claim("h1", person(who))) is may_decide
    assert is_allowed(lambda: desk.handoffs.release("h1", person(who))) is may_decide
    assert is_allowed(lambda: desk.handoffs.approve("h1", digest, person(who))) is may_decide


@pytest.mark.parametrize(("tier", "is_allowed"), [("low", True), ("medium", True), ("high", False)])
def test_at_high_risk_a_login_of_the_machine_decides_nothing(desk: Desk, tier, is_allowed):
    desk.risk_tier = tier
    desk.open()
    digest = desk.shown_digest()
    local = person("operator", Assurance.LOCAL)
    assert desk.handoffs.show("h1", local).draft is not None
    decide = (
        lambda: desk.handoffs.claim("h1", local),
        lambda: desk.handoffs.edit("h1", digest, OWN_WORDS, local),
    )
    for act in decide:
        if is_allowed:
            act()
        else:
            with pytest.raises(NotPermitted, match="takes a verified identity"):
                act()
    assert desk.state() == ("answered" if is_allowed else "open")


def test_a_role_in_another_app_decides_nothing_here(desk: Desk):
    desk.open(app="bank")
    for act in (desk.handoffs.show, desk.handoffs.claim):
        with pytest.raises(NotPermitted, match=r"operator is not in people\.yaml for bank"):
            act("h1", OPERATOR)


def test_another_app_and_a_guess_get_the_same_words(desk: Desk):
    desk.open()
    told = []
    for handoff_id, app in (("h1", "bank"), ("h2", "shop")):
        with pytest.raises(UnknownSubject) as refused:
            desk.handoffs.result(handoff_id, app)
        told.append(str(refused.value).replace(handoff_id, "ID"))
    assert told[0] == told[1]


# --- what is stored, and what is not -----------------------------------------------------------------------------------


def test_nothing_stored_or_said_holds_a_word_of_the_talk(desk: Desk, tmp_path: Path, caplog):
    desk.open(request_id=MAIL, session_id=MAIL, workflow=MAIL, signals=(MAIL,), unit=MAIL)
    handoffs, digest = desk.handoffs, desk.shown_digest()
    handoffs.claim("h1")
    handoffs.edit("h1", digest, OWN_WORDS)
    shown, result = handoffs.show("h1"), handoffs.result("h1", "shop")
    with desk.ledger.read() as connection:
        entries = tail(connection, 100)
    said = [repr(entries), caplog.text, repr(handoffs.list(only_waiting=False)), repr(shown), repr(shown.draft), repr(result)]
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as raw:
        said += list(raw.iterdump())
    desk.ledger.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir()) + "\n".join(said).encode()
    assert digest.encode() in stored, "the oracle sees what is there"
    for word in (*WORDS, "calls you"):
        assert word.encode() not in stored, word
        assert word.encode().hex().upper().encode() not in stored, word


def test_the_digest_of_what_was_shown_cannot_be_guessed_without_the_workspace_key(desk: Desk):
    """A bare hash of a short talk could be tried out."""
    opened = desk.open()
    assert opened.shown_digest != sha256(canonical_body(draft_of(new()).as_json())).hexdigest()


def test_without_a_key_nothing_is_held_and_a_flag_keeps_no_text(desk: Desk):
    desk.keys = ()
    assert not desk.handoffs.can_hold("shop")
    with pytest.raises(UsageError, match="no key is given, so nothing can be held"):
        desk.open()
    assert desk.handoffs.list(only_waiting=False) == ()
    flagged = desk.open(mode=Mode.FLAG)
    assert flagged.shown_digest is None
    assert desk.handoffs.show("h1").draft is None
    with pytest.raises(ConflictError):
        desk.handoffs.approve("h1", "")


def test_a_key_that_is_gone_shows_and_delivers_nothing_and_a_rotated_one_does(desk: Desk):
    desk.open()
    desk.handoffs.approve("h1", desk.shown_digest())
    new_key = VaultKey(b"n" * 32)
    desk.keys = (new_key,)
    for act in (lambda: desk.handoffs.show("h1"), lambda: desk.handoffs.result("h1", "shop")):
        with pytest.raises(StoreError, match="not given here"):
            act()
    assert desk.state() == "approved", "what could not be read was not delivered"
    desk.keys = (new_key, KEY)
    assert desk.handoffs.result("h1", "shop").answer == PROPOSED


def test_a_text_from_another_item_is_refused(desk: Desk):
    desk.open("h1")
    desk.open("h2", proposed="Nothing is sent.")
    with desk.ledger.write() as act:
        for column in ("nonce", "sealed"):
            act.connection.exec_driver_sql(
                f"UPDATE vault SET {column} = (SELECT {column} FROM vault WHERE item_id = 'h2') WHERE item_id = 'h1'"
            )
    with pytest.raises(IntegrityError, match="altered, cut or moved"):
        desk.handoffs.show("h1")


def test_an_altered_digest_is_refused_before_it_is_shown_or_decided_on(desk: Desk):
    desk.open()
    with desk.ledger.write() as act:
        act.connection.exec_driver_sql("UPDATE handoffs SET shown_digest = 'd'")
    for verb in (lambda: desk.handoffs.show("h1"), lambda: desk.handoffs.approve("h1", "d")):
        with pytest.raises(IntegrityError, match="another digest"):
            verb()


def test_erasing_a_unit_leaves_nothing_of_it_and_everything_of_others(shared: Desk):
    desk = shared
    desk.open("h1")
    desk.handoffs.edit("h1", desk.shown_digest("h1"), OWN_WORDS)
    desk.open("h2", unit="customer-18")
    desk.open("h3", unit=None)
    with desk.ledger.write() as act:
        unit_hash = act.connection.exec_driver_sql("SELECT unit_hash FROM handoffs WHERE handoff_id = 'h1'").scalar()
        assert erase_unit(act.connection, unit_hash) == 3
        left = act.connection.exec_driver_sql("SELECT item_id FROM vault ORDER BY item_id").scalars().all()
    assert left == ["h2", "h3"]
    assert [item.handoff_id for item in desk.handoffs.list()] == ["h2", "h3"]
    with pytest.raises(UnknownSubject):
        desk.handoffs.result("h1", "shop")


@pytest.mark.parametrize(
    "change",
    [
        {"handoff_id": ""},
        {"handoff_id": "a b"},
        {"handoff_id": "x" * 129},
        {"due_s": 0},
        {"due_s": -1},
        {"due_s": 72 * 3600 + 1},
        {"due_s": float("nan")},
        {"due_s": float("inf")},
        {"callback": "orders"},
    ],
)
def test_an_item_that_is_none_is_refused_and_leaves_nothing(desk: Desk, change):
    with pytest.raises(UsageError):
        desk.open(**{"handoff_id": "h1", **change})
    assert acts(desk) == []


def test_an_id_is_used_once(desk: Desk):
    desk.open()
    with pytest.raises(ConflictError):
        desk.open()
    assert acts(desk) == [("handoff.open", "workbench:handoffs")]


@pytest.mark.parametrize("text", ["", "  \n", "x" * 100_001])
def test_an_answer_has_words_and_an_end(desk: Desk, text):
    desk.open()
    with pytest.raises(UsageError):
        desk.handoffs.edit("h1", desk.shown_digest(), text)
    with pytest.raises(UsageError):
        desk.handoffs.reject("h1", desk.shown_digest(), " ")


# --- at once -----------------------------------------------------------------------------------------------------------


def test_threads_that_claim_at_once_get_one_claim(desk: Desk):
    desk.open()
    barrier = threading.Barrier(6)

    def claim(n: int) -> bool:
        barrier.wait()
        try:
            desk.handoffs.claim("h1", OPERATOR if n % 2 else APPROVER)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(claim, range(6)))
    holder = desk.handoffs.list()[0].claimed_by
    assert {n % 2 for n, is_won in enumerate(won) if is_won} == {1 if holder == "operator" else 0}, "all winners are the same person"


def _race(url: str, name: str) -> list[str]:
    """What one person of a process of their own got of twenty items: who claims decides."""
    clock = Clock()
    desk = Desk(Ledger.open(url, clock=clock), clock)
    won = []
    for i in range(20):
        try:
            desk.handoffs.claim(f"h{i}", person(name))
            desk.handoffs.edit(f"h{i}", desk.shown_digest(f"h{i}"), name, person(name))
            won.append(f"h{i}")
        except ConflictError:
            continue
    desk.ledger.close()
    return won


@pytest.mark.slow
def test_two_processes_that_claim_at_once_share_the_items(shared: Desk):
    for i in range(20):
        shared.open(f"h{i}")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        first, second = pool.map(_race, [shared.url] * 2, ["operator", "approver"])
    assert sorted(first + second) == sorted(f"h{i}" for i in range(20))
    for name, won in (("operator", first), ("approver", second)):
        assert all(shared.handoffs.result(handoff_id, "shop").answer == name for handoff_id in won)
    assert [act for act, _ in acts(shared)].count("handoff.edit") == 20


def test_clients_that_ask_at_once_are_delivered_once(desk: Desk):
    desk.open()
    desk.handoffs.approve("h1", desk.shown_digest())
    handoffs = desk.handoffs
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: handoffs.result("h1", "shop").answer, range(6)))
    assert answers == [PROPOSED] * 6
    assert [act for act, _ in acts(desk)].count("handoff.deliver") == 1


def test_the_library_waits_until_somebody_decides(desk: Desk):
    desk.open()
    handoffs, digest = desk.handoffs, desk.shown_digest()

    async def both():
        waiting = asyncio.create_task(handoffs.answered("h1", within_s=30))
        await asyncio.to_thread(handoffs.edit, "h1", digest, OWN_WORDS)
        return await waiting

    result = asyncio.run(both())
    assert (result.state, result.answer) == (S.DELIVERED, OWN_WORDS)


def test_the_library_stops_waiting_when_its_time_is_over_or_the_item_expired(desk: Desk):
    desk.open()
    pending = asyncio.run(desk.handoffs.answered("h1", within_s=0.01, app="shop"))
    assert (pending.state, pending.is_final) == (S.OPEN, False)
    desk.clock.forward(minutes=31)
    assert asyncio.run(desk.handoffs.answered("h1", within_s=30)).state is S.EXPIRED


def test_an_error_says_nothing_of_the_talk(desk: Desk):
    desk.open()
    digest, told = desk.shown_digest(), []
    desk.handoffs.edit("h1", digest, OWN_WORDS)
    for act in (
        lambda: desk.handoffs.approve("h1", digest),
        lambda: desk.handoffs.claim("h1"),
        desk.open,
        lambda: desk.handoffs.edit("h1", digest, "x" * 200_000),
        lambda: desk.handoffs.result("h9", "shop"),
    ):
        with pytest.raises(WorkbenchError) as refused:
            act()
        told.append(str(refused.value))
    for word in (*WORDS, OWN_WORDS):
        assert word not in json.dumps(told)
