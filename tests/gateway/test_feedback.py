"""What happened after an answer, told at the gateway: it is in the log of the key's app, whole, or the teller hears why not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.gateway.guarded import opened
from tests.gateway.place import processes as gateways
from tests.gateway.scripted import Said, scripted
from tests.gateway.standin import KEY, KEY_OF_BANK, Got, StandIn, gateway, send
from workbench.errors import RecordRefused, StoreBusy

SCORE = {"request_id": "req_1", "name": "helpful", "value": 1}


@pytest.fixture
def controls() -> StandIn:
    return StandIn()


@pytest.fixture
def url(controls: StandIn) -> Iterator[str]:
    with gateway(controls) as at:
        yield at


def tell(url: str, path: str, told: object, *, key: str = KEY) -> Got:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return send(url, "POST", path, body=body, headers={"authorization": f"Bearer {key}"})


def test_one_event_or_many_are_told_to_the_app_of_the_key(url: str, controls: StandIn):
    assert tell(url, "/v1/feedback", SCORE).json == {"ids": ["ev_0"]}
    outcomes = [{"kpi": "order_placed", "unit": "u1"}, {"kpi": "order_placed", "unit": "u2"}]
    assert tell(url, "/v1/outcomes", {"events": outcomes}, key=KEY_OF_BANK).json == {"ids": ["ev_0", "ev_1"]}
    assert controls.told == [("scores", "support", [SCORE]), ("outcomes", "bank", outcomes)]


@pytest.mark.parametrize("told", [b"", b"{", b"[]", b"7", {"events": {}}, {"events": [], "more": 1}, b'{"a":' * 200 + b"1" + b"}" * 200])
def test_what_is_no_event_is_refused(url: str, controls: StandIn, told: object):
    got = tell(url, "/v1/feedback", told)
    assert (got.status, controls.told) == (400, [])


def test_a_refusal_names_the_place_and_what_is_needed(url: str, controls: StandIn):
    controls.tells = RecordRefused("events[3].value", reason="wrong_type", seen="text", needed="a number")
    got = tell(url, "/v1/feedback", SCORE)
    assert got.status == 400
    assert got.json["error"] == {
        "message": "events[3].value: text; needed: a number.",
        "type": "invalid_request_error",
        "param": "events[3].value",
        "code": "wrong_type",
    }


def test_while_the_log_takes_nothing_the_teller_is_asked_to_come_again(url: str, controls: StandIn):
    controls.tells = StoreBusy("spool", seen="it is full")
    got = tell(url, "/v1/outcomes", {"kpi": "order_placed", "unit": "u1"})
    assert (got.status, got.json["error"]["code"], got.headers["retry-after"]) == (503, "log_unavailable", "1")


def test_without_a_key_nothing_is_told(url: str, controls: StandIn):
    assert send(url, "POST", "/v1/feedback", body=json.dumps(SCORE).encode()).status == 401
    assert tell(url, "/v1/feedback", SCORE, key="wb_nobody").status == 401
    assert controls.told == []


def test_a_real_gateway_has_committed_what_it_acknowledged_when_it_is_killed(tmp_path):
    fine = lambda _request: Said(text="fine")  # noqa: E731
    with scripted(fine) as model, scripted(fine) as judge, opened(tmp_path, model, judge) as place:
        with gateways(1, place) as [running]:
            key = place.keys["bare"]
            score = {**SCORE, "comment": "write to ann.lee@example.org"}
            told = tell(running.url, "/v1/feedback", score, key=key)
            event = {"kpi": "order_placed", "unit": "u1", "value": 12.5, "currency": "EUR", "id": "order-7"}
            assert tell(running.url, "/v1/outcomes", event, key=key).json == {"ids": ["order-7"]}
            running.kill()
        place.ws.logs.flush()
        read = place.ws.lake.read(
            lambda lake: (
                lake.execute("SELECT app, score_id, explanation FROM lake.scores").fetchall(),
                lake.execute("SELECT app, outcome_id, value, unit_hash IS NOT NULL FROM lake.outcomes").fetchall(),
            )
        )
    assert read[0][0][:2] == ("bare", told.json["ids"][0])
    assert "ann.lee" not in read[0][0][2]
    assert read[1] == [("bare", "order-7", 12.5, True)]
