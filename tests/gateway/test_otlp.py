"""OTLP at the gateway, on a stand-in for the log: forms, packing, limits, keys, and errors that exporters understand."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.gateway.standin import KEY, KEY_OF_BANK, Got, StandIn, gateway, send
from workbench.errors import RecordRefused, StoreError
from workbench.gateway import otlp
from workbench.gateway.problem import Problem
from workbench.observability.otlp.decode import Unread
from workbench.observability.otlp.receiving import Received

PROTOBUF, JSON = "application/x-protobuf", "application/json"
SOME = Received(n_accepted=1, refused=(Unread("no_ai", "no model in it", 2), Unread("bad_time", "end before start", 1)))


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[StandIn, str]]:
    controls = StandIn()
    with gateway(controls) as url:
        yield controls, url


@pytest.fixture
def controls(served: tuple[StandIn, str]) -> StandIn:
    served[0].asked.clear()
    served[0].take = lambda _body: Received(n_accepted=1)
    return served[0]


@pytest.fixture
def url(served: tuple[StandIn, str]) -> str:
    return served[1]


def post(url: str, body: bytes = b"{}", *, form: str = JSON, key: str | None = KEY, **headers: str) -> Got:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    authorization = {} if key is None else {"authorization": f"Bearer {key}"}
    return send(url, "POST", "/v1/traces", body=body, headers={"content-type": form, **authorization, **named})


def status_of(body: bytes) -> tuple[int, str]:
    """Code and message of a google.rpc.Status, read by hand."""
    assert body[0] == 0x08
    assert body[2] == 0x12
    assert body[3] < 0x80 or body[4] == 1
    return body[1], body[4 if body[3] < 0x80 else 5 :].decode()


def test_the_answer_has_the_form_of_the_question(controls: StandIn, url: str):
    by_json, by_protobuf = post(url), post(url, b"\x0a\x00", form=PROTOBUF)
    assert (by_json.status, by_json.headers["content-type"], by_json.body) == (200, JSON, b"{}")
    assert (by_protobuf.status, by_protobuf.headers["content-type"], by_protobuf.body) == (200, PROTOBUF, b"")
    assert [(asked["body"], asked["is_json"], asked["app"]) for asked in controls.asked] == [
        (b"{}", True, "support"),
        (b"\x0a\x00", False, "support"),
    ]
    assert post(url, form="application/json; charset=utf-8").status == 200


def test_partial_success_says_how_many_and_why(controls: StandIn, url: str):
    controls.take = lambda _body: SOME
    told = post(url).json["partialSuccess"]
    assert told["rejectedSpans"] == "3"
    assert "2 × no_ai: no model in it" in told["errorMessage"]
    message = ExportTraceServiceResponse.FromString(post(url, form=PROTOBUF).body)
    assert (message.partial_success.rejected_spans, message.partial_success.error_message) == (3, told["errorMessage"])


def test_the_key_says_which_app_is_written(controls: StandIn, url: str):
    assert post(url, key=KEY_OF_BANK).status == 200
    assert controls.asked[0]["app"] == "bank"


@pytest.mark.parametrize(("key", "code"), [(None, 16), (f"{KEY[:-1]}x", 16)])
def test_without_a_good_key_nothing_is_taken(controls: StandIn, url: str, key: str | None, code: int):
    got = post(url, key=key)
    assert (got.status, got.json["code"]) == (401, code)
    binary = post(url, form=PROTOBUF, key=key)
    assert (binary.status, status_of(binary.body)[0], binary.headers["content-type"]) == (401, code, PROTOBUF)
    assert controls.asked == []


def test_gzip_is_unpacked_of_one_member_or_several(controls: StandIn, url: str):
    assert post(url, gzip.compress(b"{}", mtime=0), content_encoding="gzip").status == 200
    assert post(url, gzip.compress(b"{", mtime=0) + gzip.compress(b"}", mtime=0), content_encoding="GZIP").status == 200
    assert [asked["body"] for asked in controls.asked] == [b"{}", b"{}"]


@pytest.mark.parametrize(
    "body", [b"{}", gzip.compress(b"x" * 1000, mtime=0)[:-9], b"\x1f\x8b\x08", gzip.compress(b"{}", mtime=0) + b"rest"]
)
def test_what_is_no_whole_gzip_is_refused(controls: StandIn, url: str, body: bytes):
    got = post(url, body, content_encoding="gzip")
    assert (got.status, got.json["code"]) == (400, 3)
    assert controls.asked == []


def test_a_small_body_that_unpacks_to_a_great_one_is_refused_before_it_does():
    bomb = gzip.compress(gzip.compress(b"\0" * (1 << 20)) + b"\0" * (1 << 20))
    with pytest.raises(Problem) as caught:
        otlp.unpacked(bomb, most_bytes=100_000)
    assert caught.value.status == 413
    several = gzip.compress(b"\0" * 60_000, mtime=0) * 2
    with pytest.raises(Problem):
        otlp.unpacked(several, most_bytes=100_000)
    assert otlp.unpacked(gzip.compress(b"\0" * 100_000, mtime=0), most_bytes=100_000) == b"\0" * 100_000


def test_other_forms_and_encodings_are_refused(controls: StandIn, url: str):
    for more in ({"form": "text/plain"}, {"content_encoding": "br"}, {"content_encoding": "gzip, gzip"}):
        got = post(url, **more)  # type: ignore[arg-type]
        assert (got.status, got.json["code"]) == (415, 3)
    assert send(url, "GET", "/v1/traces").status == 405
    assert controls.asked == []


def test_a_body_that_is_too_long_is_not_read(controls: StandIn, url: str):
    got = post(url, b"", content_length=str(otlp.MOST_BYTES + 1))
    assert (got.status, got.json["code"]) == (413, 8)
    assert controls.asked == []


def raising(error: Exception) -> Any:
    def take(_body: bytes) -> Received:
        raise error

    return take


def test_what_is_no_message_is_not_to_be_sent_again_and_a_full_log_is(controls: StandIn, url: str):
    controls.take = raising(RecordRefused("body", reason="not_otlp", seen="no message"))
    refused = post(url, form=PROTOBUF)
    assert (refused.status, status_of(refused.body)) == (400, (3, "body: no message"))
    assert "retry-after" not in refused.headers
    controls.take = raising(StoreError("spool /secret/place", seen="full"))
    full = post(url)
    assert (full.status, full.json["code"], full.headers["retry-after"]) == (503, 14, "5")
    assert "secret" not in full.body.decode()
    controls.take = raising(RuntimeError("anna@example.com"))
    broken = post(url)
    assert (broken.status, broken.json["code"]) == (500, 13)
    assert "anna" not in broken.body.decode()


def test_more_at_once_than_there_is_room_for_is_sent_later(controls: StandIn, url: str):
    begun, go_on = threading.Event(), threading.Event()

    def slowly(_body: bytes) -> Received:
        begun.set()
        go_on.wait(20)
        return Received(n_accepted=1)

    controls.take = slowly
    got: list[Got] = []
    clients = [threading.Thread(target=lambda: got.append(post(url))) for _ in range(12)]
    for client in clients:
        client.start()
    begun.wait(20)
    while len(got) < 4:
        threading.Event().wait(0.005)
    go_on.set()
    for client in clients:
        client.join()
    assert sorted(one.status for one in got) == [200] * 8 + [429] * 4
    assert {one.headers["retry-after"] for one in got if one.status == 429} == {"1"}
    assert post(url).status == 200, "places are given back"
