"""Decisions reach the client's own server: signed, at a declared address only, again until it took them, and marked delivered once."""

from __future__ import annotations

import hmac
import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.controls.desk import PROPOSED, SECRET, START, Clock, Desk
from workbench.controls.callbacks import Courier, Letter, signed, variable
from workbench.controls.handoff import HandoffState, Kind, Mode
from workbench.errors import UsageError
from workbench.ledger.audit import tail
from workbench.ledger.handoffs import erase_unit
from workbench.ledger.store import Ledger
from workbench.spec.app import HandoffRule

S = HandoffState


@dataclass
class Shop:
    """The client's own server: it answers with the statuses that it is told, 200 when they are used up, and remembers what it got."""

    statuses: list[int] = field(default_factory=list)
    got: list[dict[str, Any]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    location: str = ""


@contextmanager
def running(shop: Shop) -> Iterator[Shop]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            shop.got.append({"path": self.path, "headers": dict(self.headers), "body": body})
            self.send_response(shop.statuses.pop(0) if shop.statuses else 200)
            if shop.location:
                self.send_header("Location", shop.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            shop.arrived.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    shop.url = f"http://127.0.0.1:{server.server_address[1]}/hooks/orders"
    try:
        yield shop
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def shop() -> Iterator[Shop]:
    with running(Shop()) as started:
        yield started


@pytest.fixture
def desk(tmp_path: Path, shop: Shop) -> Iterator[Desk]:
    clock = Clock()
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", clock=clock)
    yield Desk(ledger, clock, callbacks={"orders": shop.url})
    ledger.close()


def approve(desk: Desk, handoff_id: str = "h1", **changes: Any) -> None:
    desk.open(handoff_id, callback="orders", **changes)
    desk.handoffs.approve(handoff_id, desk.shown_digest(handoff_id))


def item(desk: Desk, handoff_id: str = "h1"):
    return next(found for found in desk.handoffs.list(only_waiting=False) if found.handoff_id == handoff_id)


def n_delivered(desk: Desk) -> int:
    with desk.ledger.read() as connection:
        return [entry.act for entry in tail(connection, 100)].count("handoff.deliver")


def is_signed(got: dict[str, Any], secret: str = SECRET) -> bool:
    """An independent check, as the specification of Standard Webhooks words it."""
    headers = {name.lower(): value for name, value in got["headers"].items()}
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + got["body"]
    expected = b64encode(hmac.new(b64decode(secret.removeprefix("whsec_")), content, "sha256").digest()).decode()
    return headers["webhook-signature"] == f"v1,{expected}"


def test_the_example_of_the_specification_has_its_signature():
    """The published test vector of Standard Webhooks."""
    letter = Letter(handoff_id="msg_p5jXN8AQM9LWM0D4loKWxJek", app="shop", callback="orders", body=b'{"test": 2432232314}')
    headers = signed(letter, b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), at=datetime.fromtimestamp(1614265330, UTC))
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_decision_is_posted_signed_and_marked_delivered(desk: Desk, shop: Shop):
    approve(desk)
    assert desk.handoffs.deliver() == 1
    (got,) = shop.got
    assert got["path"] == "/hooks/orders"
    assert json.loads(got["body"]) == {
        "handoff_id": "h1",
        "request_id": "req_1",
        "app": "shop",
        "decision": "approved",
        "answer": PROPOSED,
        "tool_calls": [],
    }
    assert is_signed(got)
    assert not is_signed(got, "whsec_" + b64encode(b"x" * 24).decode())
    assert item(desk).state is S.DELIVERED
    assert (desk.handoffs.deliver(), len(shop.got), n_delivered(desk)) == (0, 1, 1)


def test_what_is_rejected_or_answered_is_told_too(desk: Desk, shop: Shop):
    for name in ("h1", "h2", "h3"):
        desk.open(name, callback="orders", kind=Kind.TOOL_CALL, tool_calls=({"id": name},), proposed=None)
    desk.handoffs.reject("h1", desk.shown_digest("h1"), "no")
    desk.handoffs.edit("h2", desk.shown_digest("h2"), "We call you.")
    desk.handoffs.approve("h3", desk.shown_digest("h3"))
    assert desk.handoffs.deliver() == 3
    told = {body["handoff_id"]: body for body in (json.loads(got["body"]) for got in shop.got)}
    assert [(told[name]["decision"], told[name]["answer"], told[name]["tool_calls"]) for name in ("h1", "h2", "h3")] == [
        ("rejected", None, []),
        ("answered", "We call you.", []),
        ("approved", None, [{"id": "h3"}]),
    ]


def test_an_undecided_a_flagged_and_an_expired_item_are_never_posted(desk: Desk, shop: Shop):
    desk.open("h1", callback="orders")
    approve(desk, "h2", mode=Mode.FLAG)
    approve(desk, "h3")
    desk.clock.forward(hours=25)
    assert desk.handoffs.deliver() == 0
    assert desk.handoffs.expire() == 2
    assert (desk.handoffs.deliver(), shop.got) == (0, [])


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
def test_what_the_server_does_not_take_is_tried_again_later(desk: Desk, shop: Shop, caplog, status):
    shop.statuses = [status, status]
    shop.location = "http://127.0.0.1:1/elsewhere"
    approve(desk)
    assert desk.handoffs.deliver() == 0
    assert (item(desk).fault, item(desk).attempts, item(desk).state) == (f"it answered {status}", 1, S.APPROVED)
    desk.clock.forward(seconds=29)
    assert (desk.handoffs.deliver(), len(shop.got)) == (0, 1), "not before its time"
    desk.clock.forward(seconds=1)
    assert desk.handoffs.deliver() == 0
    desk.clock.forward(seconds=60)
    assert desk.handoffs.deliver() == 1
    assert len({got["headers"]["webhook-id"] for got in shop.got}) == 1
    assert (item(desk).state, item(desk).fault, n_delivered(desk)) == (S.DELIVERED, None, 1)
    assert PROPOSED not in caplog.text


def test_a_server_that_is_away_is_tried_until_the_text_is_gone(desk: Desk, caplog):
    desk.callbacks = {"orders": "http://127.0.0.1:1/"}
    approve(desk)
    attempts = 0
    while desk.clock.now < START + timedelta(hours=25):
        desk.handoffs.deliver()
        attempts = item(desk).attempts
        desk.clock.forward(minutes=15)
    assert 90 < attempts < 110
    assert item(desk).fault == "it cannot be reached"
    assert desk.handoffs.expire() == 1
    assert (item(desk).state, n_delivered(desk)) == (S.EXPIRED, 0)
    assert caplog.text.count("it cannot be reached") == 1, "said once, not at each attempt"


def test_a_client_that_fetched_it_is_not_told_again(desk: Desk, shop: Shop):
    approve(desk)
    desk.handoffs.result("h1", "shop")
    assert (desk.handoffs.deliver(), shop.got, n_delivered(desk)) == (0, [], 1)


def test_what_is_fetched_while_its_letter_is_on_the_way_is_delivered_once(desk: Desk, shop: Shop, monkeypatch):
    approve(desk)
    post = Courier.post

    def fetched_meanwhile(self, letters, *, at):
        desk.handoffs.result("h1", "shop")
        return post(self, letters, at=at)

    monkeypatch.setattr(Courier, "post", fetched_meanwhile)
    assert desk.handoffs.deliver() == 0
    assert (len(shop.got), n_delivered(desk), item(desk).state) == (1, 1, S.DELIVERED)


def test_what_is_erased_while_its_letter_is_on_the_way_stays_erased(desk: Desk, monkeypatch):
    approve(desk)
    post = Courier.post

    def erased_meanwhile(self, letters, *, at):
        with desk.ledger.write() as act:
            erase_unit(act.connection, act.connection.exec_driver_sql("SELECT unit_hash FROM handoffs").scalar())
        return post(self, letters, at=at)

    monkeypatch.setattr(Courier, "post", erased_meanwhile)
    assert desk.handoffs.deliver() == 0
    assert desk.handoffs.list(only_waiting=False) == ()


def test_processes_that_deliver_at_once_send_each_letter_once(desk: Desk, shop: Shop):
    for i in range(8):
        approve(desk, f"h{i}")
    threads = [threading.Thread(target=desk.handoffs.deliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got["headers"]["webhook-id"] for got in shop.got) == [f"h{i}" for i in range(8)]
    assert n_delivered(desk) == 8


def test_the_thread_delivers_by_itself_and_ends(desk: Desk, shop: Shop):
    handoffs = desk.handoffs
    handoffs.start(every_s=0.01)
    handoffs.start(every_s=0.01)
    approve(desk)
    assert shop.arrived.wait(30)
    handoffs.close()
    assert item(desk).state is S.DELIVERED
    assert not [thread for thread in threading.enumerate() if thread.name == "handoffs"]


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        (None, "it is not set"),
        ("geheim", "no secret of a webhook"),
        ("whsec_%%%", "no secret of a webhook"),
        ("whsec_" + b64encode(b"short").decode(), "no secret of a webhook"),
        (b64encode(b"x" * 24).decode(), "no secret of a webhook"),
    ],
)
def test_without_a_good_secret_nothing_is_sent_and_it_is_not_quoted(desk: Desk, shop: Shop, secret, told):
    desk.environ = {} if secret is None else {variable("shop", "orders"): secret}
    approve(desk)
    assert (desk.handoffs.deliver(), shop.got) == (0, [])
    assert told in item(desk).fault
    assert "WORKBENCH_CALLBACK_SHOP__ORDERS_KEY" in item(desk).fault
    assert secret is None or secret not in item(desk).fault


def test_a_callback_that_is_not_declared_is_refused_at_once_and_later_not_sent(desk: Desk, shop: Shop):
    with pytest.raises(UsageError, match=r'the app declares none of that name; did you mean "orders"'):
        desk.open(callback="order")
    with pytest.raises(UsageError, match="declares none"):
        desk.open(callback=shop.url)
    approve(desk)
    desk.callbacks = {}
    assert (desk.handoffs.deliver(), shop.got) == (0, [])
    assert "declares none of that name" in item(desk).fault


def test_two_apps_never_share_a_variable():
    assert variable("a-b", "c") == "WORKBENCH_CALLBACK_A_B__C_KEY"
    assert variable("a", "b-c") == "WORKBENCH_CALLBACK_A__B_C_KEY"


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/x?y=1", "https://10.0.0.8:8443/", "http://127.0.0.1:9/", "http://localhost/", "http://[::1]:80/x"]
)
def test_an_address_that_is_encrypted_or_on_this_machine_can_be_declared(url):
    assert HandoffRule.model_validate({"callbacks": {"orders": url}}).callbacks["orders"] == url


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.8/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "https://user:geheim@example.com/",
        "https://example.com/#x",
        "https:///x",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://exa mple.com/",
        "https://exämple.com/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "//example.com",
        "orders",
        "",
    ],
)
def test_no_other_address_can_be_declared(url):
    with pytest.raises(ValidationError):
        HandoffRule.model_validate({"callbacks": {"orders": url}})


def test_nobody_may_be_given_more_time_than_a_text_is_kept():
    assert HandoffRule.model_validate({"due": "72h"}).due == timedelta(hours=72)
    with pytest.raises(ValidationError, match="at most 72h"):
        HandoffRule.model_validate({"due": "73h"})
