"""OFREP: the protocol's shapes, and its own client, which meets the same bundles as the controls give."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, OpenFeatureError, TargetingKeyMissingError
from openfeature.flag_evaluation import Reason as Said

from tests.gateway.place import APP, Place, put_in_canary
from tests.gateway.standin import KEY, KEY_OF_BANK, ROUTE, Got, StandIn, ask, gateway, send
from workbench.controls.assignment import assign
from workbench.controls.model import Reason
from workbench.gateway import ofrep
from workbench.gateway.problem import Problem
from workbench.gateway.server import running
from workbench.ledger.routes import change_route, stored_route

FLAGS = "/ofrep/v1/evaluate/flags"
NOBODY = "the default"


@pytest.fixture
def controls() -> StandIn:
    return StandIn()


@pytest.fixture
def url(controls: StandIn) -> Iterator[str]:
    with gateway(controls) as base:
        yield base


def evaluate(url: str, body: Any, *, flag: str | None = "support", key: str = KEY, **headers: str) -> Got:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    path = FLAGS if flag is None else f"{FLAGS}/{flag}"
    return send(url, "POST", path, body=sent, headers={"authorization": f"Bearer {key}", **named})


def of(unit: str) -> dict[str, Any]:
    return {"context": {"targetingKey": unit, "plan": "gold"}}


def provider(url: str, key: str) -> OFREPProvider:
    return OFREPProvider(url, headers_factory=lambda: {"authorization": f"Bearer {key}"})


def test_a_flag_is_the_bundle_of_the_unit_with_the_route_that_decided(controls: StandIn, url: str):
    controls.route = replace(ROUTE, share=1.0)
    assert evaluate(url, of("u-1")).json == {
        "key": "support",
        "value": "support@ba9876543210",
        "variant": "candidate",
        "reason": "SPLIT",
        "metadata": {"share": 1.0, "route_version": 7, "release_id": "support.2", "bundle_name": "v2"},
    }
    assert evaluate(url, of("u-1"), flag=None).json == {"flags": [evaluate(url, of("u-1")).json]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"share": 0.0}, ("SPLIT", "stable", "support@0123456789ab")),
        ({"candidate": None}, ("STATIC", "stable", "support@0123456789ab")),
        ({"stable": None, "share": 0.0}, ("DEFAULT", "none", None)),
    ],
)
def test_the_reason_says_what_decided(controls: StandIn, url: str, changes: dict[str, Any], said: tuple[str, str, str | None]):
    controls.route = replace(ROUTE, **changes)
    flag = evaluate(url, of("u-1")).json
    assert (flag["reason"], flag["variant"], flag.get("value")) == said


def test_every_reason_of_an_assignment_is_one_of_the_protocols():
    for reason in Reason:
        assert ofrep.evaluation(replace(assign(ROUTE, "u-1"), reason=reason), None)["reason"] in {said.value for said in Said}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "PARSE_ERROR"),
        (b"\xff", 400, "PARSE_ERROR"),
        (b'{"context": {"targetingKey": "\\ud800"}}', 400, "PARSE_ERROR"),
        ({}, 400, "TARGETING_KEY_MISSING"),
        ({"context": None}, 400, "TARGETING_KEY_MISSING"),
        ({"context": {"plan": "gold"}}, 400, "TARGETING_KEY_MISSING"),
        (of(""), 400, "TARGETING_KEY_MISSING"),
        (of(" \t"), 400, "TARGETING_KEY_MISSING"),
        ({"context": []}, 400, "INVALID_CONTEXT"),
        ({"context": {"targetingKey": 7}}, 400, "INVALID_CONTEXT"),
        (of("x" * 257), 400, "INVALID_CONTEXT"),
    ],
)
def test_what_is_wrong_is_told_in_the_protocols_words(url: str, body: Any, status: int, code: str):
    one, bulk = evaluate(url, body), evaluate(url, body, flag=None)
    assert (one.status, one.json["errorCode"], one.json["key"]) == (status, code, "support")
    assert (bulk.status, bulk.json["errorCode"], "key" in bulk.json) == (status, code, False)
    assert one.json["errorDetails"]


def test_flags_that_are_not_the_keys_are_refused(controls: StandIn, url: str):
    unknown = evaluate(url, of("u-1"), flag="color")
    assert (unknown.status, unknown.json["errorCode"], unknown.json["key"]) == (404, "FLAG_NOT_FOUND", "color")
    assert evaluate(url, of("u-1"), flag="anna@example.com").json["key"] == ""
    assert evaluate(url, of("u-1"), flag="support/color").status == 404
    other = evaluate(url, of("u-1"), flag="bank")
    assert (other.status, other.json["errorCode"]) == (403, "GENERAL")
    assert evaluate(url, of("u-1"), key="wb_wrong").status == 401
    assert evaluate(url, of("u-1"), flag="bank", key=KEY_OF_BANK).json["errorCode"] == "FLAG_NOT_FOUND"
    assert evaluate(url, of("u-1"), flag=None, key=KEY_OF_BANK).json == {"flags": []}


def test_what_a_client_has_is_not_sent_again_until_it_changes(controls: StandIn, url: str):
    first = evaluate(url, of("u-1"), flag=None)
    tag = first.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = evaluate(url, of("u-1"), flag=None, if_none_match=known)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    controls.route = replace(ROUTE, share=0.25, route_version=8)
    changed = evaluate(url, of("u-1"), flag=None, if_none_match=tag)
    assert (changed.status, changed.json["flags"][0]["metadata"]["share"]) == (200, 0.25)
    assert changed.headers["etag"] != tag


def test_a_bundle_whose_name_cannot_be_told_is_served_without(controls: StandIn, url: str):
    controls.route = replace(ROUTE, stable="support@ffffffffffff", share=0.0)
    flag = evaluate(url, of("u-1")).json
    assert (flag["value"], "bundle_name" in flag["metadata"]) == ("support@ffffffffffff", False)


names = st.sampled_from(["targetingKey", "plan", "", " ", "u-1", "\ud800", "x" * 257])


@given(
    body=st.recursive(
        st.none() | st.integers() | names, lambda v: st.lists(v, max_size=2) | st.dictionaries(names, v, max_size=3), max_leaves=4
    )
)
def test_any_context_is_a_unit_or_a_problem(body: Any):
    try:
        sent = json.dumps({"context": body}, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # half of a pair is no text in UTF-8
    try:
        unit = ofrep.read_asked(sent).unit
    except Problem:
        return
    assert unit == body["targetingKey"].strip()


def test_the_protocols_own_client_understands_answers_and_refusals(controls: StandIn, url: str):
    controls.route = replace(ROUTE, share=1.0)
    client = provider(url, KEY)
    got = client.resolve_string_details("support", NOBODY, EvaluationContext("u-1"))
    assert (got.value, got.variant, got.reason) == ("support@ba9876543210", "candidate", Said.SPLIT)
    assert got.flag_metadata == {"share": 1.0, "route_version": 7, "release_id": "support.2", "bundle_name": "v2"}
    with pytest.raises(TargetingKeyMissingError):
        client.resolve_string_details("support", NOBODY, EvaluationContext())
    with pytest.raises(FlagNotFoundError):
        client.resolve_string_details("color", NOBODY, EvaluationContext("u-1"))
    with pytest.raises(OpenFeatureError, match="forbidden"):
        client.resolve_string_details("bank", NOBODY, EvaluationContext("u-1"))
    stranger = provider(url, "wb_wrong")
    with pytest.raises(OpenFeatureError, match="unauthorized"):
        stranger.resolve_string_details("support", NOBODY, EvaluationContext("u-1"))
    controls.route = replace(ROUTE, stable=None, share=0.0)
    assert client.resolve_string_details("support", NOBODY, EvaluationContext("u-1")).value == NOBODY
    client.session.close()
    stranger.session.close()


def bulk_request(unit: str, key: str) -> bytes:
    body = json.dumps(of(unit)).encode()
    return f"POST {FLAGS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def bulk_answer(answers: IO[bytes]) -> list[dict[str, Any]]:
    """The flags of the next answer on a connection; answers come in the order of their requests."""
    assert answers.readline().startswith(b"HTTP/1.1 200 ")
    length = 0
    while (line := answers.readline().lower()) != b"\r\n":
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return json.loads(answers.read(length))["flags"]


@pytest.mark.slow
def test_10_000_units_get_the_bundle_of_the_controls_and_each_canary_unit_keeps_it(place: Place):
    units = [f"customer-{number}" for number in range(10_000)]
    put_in_canary(place.ws, place.v2, 0.05)
    with running(place.ws) as url, socket.create_connection(urlsplit(url).netloc.split(":"), timeout=60) as wire:
        client, answers = provider(url, place.key), wire.makefile("rb")

        def served() -> dict[str, str]:
            found = {}
            for start in range(0, len(units), 100):
                some = units[start : start + 100]
                wire.sendall(b"".join(bulk_request(unit, place.key) for unit in some))
                found |= {unit: flag["value"] for unit in some for flag in bulk_answer(answers)}
            assert found == {unit: place.ws.controls.assign(APP, unit).bundle_id for unit in units}
            for unit in units[::500]:
                assert client.resolve_string_details(APP, NOBODY, EvaluationContext(unit)).value == found[unit]
            return found

        at_5 = served()
        with place.ws.ledger.write() as act:
            seen = stored_route(act.connection, APP)
            assert seen is not None
            change_route(act, seen, at=place.ws.clock(), values={"share": 0.25})
        while place.ws.controls.assign(APP, "u").share != 0.25:
            pass
        at_25 = served()
        answered = ask(url, {"model": APP, "user": units[0], "messages": [{"role": "user", "content": "Where is it?"}]}, key=place.key)
        assert answered.headers["x-workbench-bundle"] == at_25[units[0]]
        client.session.close()
        answers.close()
    canary_5, canary_25 = ({unit for unit, bundle in found.items() if bundle == place.v2} for found in (at_5, at_25))
    assert canary_5 < canary_25
    assert 420 < len(canary_5) < 580  # 500, and four standard deviations
    assert 2330 < len(canary_25) < 2670
    assert set(at_5.values()) == {place.v1, place.v2}
