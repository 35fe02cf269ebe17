"""Who may ask what: every endpoint, each kind of key."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.gateway.standin import ASK, KEY, KEY_OF_BANK, Got, StandIn, backing_of, gateway, send
from workbench.gateway.asgi import Gateway

OPEN = {"/healthz", "/readyz", "/metrics"}
"""What whoever runs the gateway asks; it tells no content and no unit."""
BODIES = {
    "/v1/chat/completions": ASK,
    "/v1/embeddings": {"model": "support", "input": "text"},
    "/ofrep/v1/evaluate/flags": {"context": {"targetingKey": "u-1"}},
    "/ofrep/v1/evaluate/flags/{key}": {"context": {"targetingKey": "u-1"}},
    "/v1/feedback": {"request_id": "req_1", "name": "helpful", "value": 1},
    "/v1/outcomes": {"kpi": "order", "request_id": "req_1"},
    "/v1/traces": {"resourceSpans": []},
}
TELLING = {"/v1/feedback", "/v1/outcomes", "/v1/traces"}
"""What is told there is the app's whose key it comes with."""
NAMED = {"model": "support", "key": "support", "id": "req_1"}
ROUTES = Gateway(backing_of(StandIn())).routes
KEYED = [(method, route) for method, route in ROUTES if route not in OPEN]


@pytest.fixture
def controls() -> StandIn:
    return StandIn(known={("support", "req_1"): {"request_id": "req_1", "status": "ok"}})


@pytest.fixture
def url(controls: StandIn) -> Iterator[str]:
    with gateway(controls) as base:
        yield base


def asked(url: str, method: str, route: str, key: str | None) -> Got:
    body = json.dumps(BODIES[route]).encode() if method == "POST" else None
    headers = {"content-type": "application/json"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    return send(url, method, route.format(**NAMED), body=body, headers=headers)


def test_every_endpoint_is_walked():
    assert {route for method, route in ROUTES if method == "POST"} == BODIES.keys()
    assert {route for _, route in ROUTES} > OPEN
    assert len(ROUTES) == len(set(ROUTES)) == 14


@pytest.mark.parametrize(("method", "route"), KEYED)
def test_the_apps_own_key_opens_every_endpoint(url: str, method: str, route: str):
    assert asked(url, method, route, KEY).status == 200


@pytest.mark.parametrize(("method", "route"), KEYED)
@pytest.mark.parametrize("key", [None, "wb_wrong", KEY[:-1] + "0"])
def test_no_endpoint_opens_without_a_key(controls: StandIn, url: str, method: str, route: str, key: str | None):
    assert asked(url, method, route, key).status == 401
    assert controls.asked == []


@pytest.mark.parametrize(("method", "route"), KEYED)
def test_the_key_of_another_app_gets_nothing_of_this_one(controls: StandIn, url: str, method: str, route: str):
    got = asked(url, method, route, KEY_OF_BANK)
    if route in TELLING:
        assert {app for _, app, _ in controls.told} | {told["app"] for told in controls.asked} == {"bank"}
        return
    nothing = {"/v1/models": ["bank"], "/ofrep/v1/evaluate/flags": []}  # what they list is the key's own
    if route in nothing:
        listed = got.json["data"] if route == "/v1/models" else got.json["flags"]
        assert (got.status, [one["id"] for one in listed]) == (200, nothing[route])
    else:
        assert got.status in {403, 404}
    assert controls.asked == []
    assert b"support@" not in got.body


@pytest.mark.parametrize("route", sorted(OPEN))
def test_what_runs_the_gateway_needs_no_key_and_learns_nothing_that_was_said(url: str, route: str):
    asked(url, "POST", "/v1/chat/completions", KEY)
    got = send(url, "GET", route)
    assert got.status == 200
    assert "parcel" not in got.body.decode() + str(got.headers)


def test_what_the_log_knows_of_a_request_is_told_to_its_app(url: str):
    headers = {"authorization": f"Bearer {KEY}"}
    got = send(url, "GET", "/v1/requests/req_1", headers=headers)
    assert (got.json, got.headers["cache-control"]) == ({"request_id": "req_1", "status": "ok"}, "no-store")
    for path in ("/v1/requests/req_2", "/v1/requests/", "/v1/requests/a/b", "/v1/requests/%00", "/v1/requests/" + "x" * 200):
        missing = send(url, "GET", path, headers=headers)
        assert (missing.status, missing.error["code"]) == (404, "unknown_request")


def test_a_held_answer_is_polled_and_never_by_head(url: str):
    headers = {"authorization": f"Bearer {KEY}"}
    assert send(url, "GET", "/v1/handoffs/req_1", headers=headers).status == 200
    assert send(url, "GET", "/v1/handoffs/h-2", headers=headers).error["code"] == "unknown_handoff"
    assert send(url, "HEAD", "/v1/handoffs/req_1", headers=headers).status == 405
