"""The gateway on the real controls, in this process: bad luck and bad input, as the caller and the log see it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.gateway.place import APP, FALLBACK, Place, put_in_canary, wait_until
from tests.gateway.standin import Got, ask
from workbench.gateway import server
from workbench.gateway.server import running

ASK = {"model": APP, "messages": [{"role": "user", "content": "Where is my order?"}]}


def rows(place: Place, columns: str) -> list[tuple]:
    """Every revision of every request in the lake, oldest first."""
    place.ws.logs.flush()
    return place.ws.lake.read(lambda lake: lake.execute(f"SELECT {columns} FROM lake.requests ORDER BY seq").fetchall())


def test_a_question_goes_to_the_released_bundle_and_its_record_to_the_lake(place: Place):
    with running(place.ws) as url:
        got = ask(url, {**ASK, "user": "u-1"}, key=place.key, x_workbench_workflow="orders")
    assert got.json["choices"][0]["message"]["content"] == "Your parcel is on its way."
    assert (got.json["model"], got.json["usage"]["total_tokens"]) == ("house-1", 14)
    assert (got.headers["x-workbench-bundle"], got.headers["x-workbench-arm"]) == (place.v1, "stable")
    assert place.model.seen[0]["messages"][0]["content"] == "You are v1.\n"
    found = rows(place, "request_id, revision, is_final, status, bundle, arm, workflow, source, unit_hash IS NOT NULL")
    request_id = got.headers["x-request-id"]
    shared = (place.v1, "stable", "orders", "gateway", True)
    assert found == [(request_id, 0, False, "unknown", *shared), (request_id, 1, True, "ok", *shared)]


def test_a_stream_is_answered_by_the_released_bundle_and_on_record(place: Place):
    with running(place.ws) as url:
        got = ask(url, {**ASK, "user": "u-1", "stream": True, "stream_options": {"include_usage": True}}, key=place.key)
    *chunks, usage, done = [event.removeprefix("data: ") for event in got.body.decode().removesuffix("\n\n").split("\n\n")]
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == "Your parcel is on its way."
    assert (json.loads(usage)["usage"]["total_tokens"], done) == (14, "[DONE]")
    assert (got.headers["x-workbench-bundle"], got.headers["x-workbench-arm"]) == (place.v1, "stable")
    request_id = got.headers["x-request-id"]
    assert rows(place, "request_id, is_final, status") == [(request_id, False, "unknown"), (request_id, True, "ok")]


def test_whoever_names_nobody_is_served_by_stable(place: Place):
    put_in_canary(place.ws, place.v2, 1.0)
    with running(place.ws) as url:
        nobody = ask(url, ASK, key=place.key)
        somebody = ask(url, {**ASK, "user": "u-1"}, key=place.key)
        in_a_session = ask(url, ASK, key=place.key, x_workbench_session="s-1")
    assert [got.headers["x-workbench-arm"] for got in (nobody, somebody, in_a_session)] == ["stable", "candidate", "candidate"]
    assert place.ws.controls.status().no_unit == 1


def test_a_unit_stays_with_its_bundle_however_it_is_named(place: Place):
    put_in_canary(place.ws, place.v2, 0.5)
    with running(place.ws) as url:
        for number in range(12):
            unit = f"u-{number}"
            named: list[Callable[[], Got]] = [
                lambda unit=unit: ask(url, {**ASK, "user": unit}, key=place.key),
                lambda unit=unit: ask(url, {**ASK, "safety_identifier": unit}, key=place.key),
                lambda unit=unit: ask(url, ASK, key=place.key, x_workbench_unit=unit),
                lambda unit=unit: ask(url, {**ASK, "metadata": {"session_id": unit}}, key=place.key),
            ]
            assert len({call().headers["x-workbench-bundle"] for call in named}) == 1


def test_a_deadline_that_is_past_asks_no_model_and_is_recorded(place: Place):
    with running(place.ws) as url:
        got = [ask(url, ASK, key=place.key, x_deadline_ms=left) for left in ("0", "-5000", "20")]
    assert {(answer.status, answer.error["code"]) for answer in got} == {(504, "deadline_passed")}
    assert place.model.seen == []
    assert rows(place, "request_id, status, error_type") == [
        (answer.headers["x-request-id"], "timeout", "deadline_passed") for answer in got
    ]


def silent_port() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def down(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    del place
    monkeypatch.setenv("WORKBENCH_PROVIDER_HOUSE_URL", silent_port())


def failing(place: Place, _: pytest.MonkeyPatch) -> None:
    place.model.status = 500


def garbled(place: Place, _: pytest.MonkeyPatch) -> None:
    place.model.body = b"<html>not today</html>"


def slow(place: Place, _: pytest.MonkeyPatch) -> None:
    place.model.delay_s = 1.0


@pytest.mark.parametrize(
    ("misfortune", "status", "error_type"),
    [
        (down, "error", "upstream_down"),
        (failing, "error", "upstream_500"),
        (garbled, "error", "upstream_garbage"),
        (slow, "timeout", "timeout"),
    ],
)
def test_where_the_model_fails_the_fallback_answers_and_both_sides_see_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, misfortune: Callable, status: str, error_type: str
):
    misfortune(place, monkeypatch)
    with running(place.ws) as url:
        got = ask(url, {**ASK, "user": "u-1"}, key=place.key, x_deadline_ms="500" if misfortune is slow else "10000")
    assert (got.status, got.json["choices"][0]["message"]["content"]) == (200, FALLBACK)
    assert got.headers["x-workbench-fallback"] == "true"
    assert got.json["choices"][0]["finish_reason"] == "stop"
    assert rows(place, "status, error_type, is_fallback")[-1] == (status, error_type, True)


def test_a_client_that_leaves_has_its_end_too(place: Place):
    place.model.delay_s = 1.0
    with running(place.ws) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.request("POST", "/v1/chat/completions", json.dumps(ASK), {"authorization": f"Bearer {place.key}"})
        wait_until(lambda: place.model.seen)
        connection.close()
        wait_until(lambda: place.ws.controls.status().in_flight == 0)
    assert rows(place, "status, is_final, error_type")[1:] == [("cancelled", True, "client_left")]


def test_a_request_that_the_gateways_end_cancels_is_recorded_as_stopped(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "DRAIN_S", 0)
    place.model.delay_s = 1.0
    got: list[Got] = []
    with running(place.ws) as url:
        client = threading.Thread(target=lambda: got.append(ask(url, ASK, key=place.key)))
        client.start()
        wait_until(lambda: place.model.seen)
    client.join()
    assert (got[0].status, got[0].error["code"]) == (503, "stopping")
    assert rows(place, "status, is_final, error_type")[1:] == [("cancelled", True, "stopping")]


def test_two_gateways_in_one_process_share_what_is_below(place: Place):
    with running(place.ws) as first, running(place.ws) as second:
        assert {ask(url, ASK, key=place.key).status for url in (first, second)} == {200}
    with running(place.ws) as third:
        assert ask(third, ASK, key=place.key).status == 200


def test_a_talk_that_does_not_end_with_the_user_is_refused_by_name(place: Place):
    with running(place.ws) as url:
        got = ask(url, {**ASK, "messages": [{"role": "assistant", "content": "Hello."}]}, key=place.key)
    assert (got.status, got.error["code"]) == (400, "bad_request")
    assert "last message" in got.error["message"]
