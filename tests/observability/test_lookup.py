"""One request looked up: its newest record and its guards, of its own app alone, and no text."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, request, spec


@pytest.fixture
def shop(tmp_path):
    made = Fixture(tmp_path, {"shop": spec()})
    yield made
    made.close()


def test_a_request_is_found_in_its_newest_revision_with_its_guards(shop):
    first = request(request_id="r1", status="unknown", is_final=False, input='{"messages":[]}')
    last = {**first, "revision": 1, "status": "blocked", "is_final": True, "ts_end": NOON + timedelta(seconds=1), "blocked_rules": ["no"]}
    guard = {
        "trace_id": "t",
        "span_id": "s1",
        "request_id": "r1",
        "app": "shop",
        "kind": "guard",
        "name": "output",
        "ts_start": NOON,
        "duration_ms": 0.1,
        "status": "ok",
        "rule_id": "no",
        "action": "block",
    }
    shop.add(requests=[first, last], spans=[guard])
    found = shop.metrics.request("shop", "r1")
    assert (found["status"], found["blocked_rules"], found["ts_end"]) == ("blocked", ["no"], "2026-03-01T12:00:01+00:00")
    assert found["guards"] == [{"rule_id": "no", "action": "block", "name": "output", "status": "ok"}]
    assert not {"input", "output", "unit_hash"} & found.keys()


def test_another_apps_request_and_an_unknown_one_are_not_found(shop):
    assert shop.metrics.request("shop", "r1") is None
    shop.add(requests=[request(request_id="r1")])
    assert shop.metrics.request("desk", "r1") is None
    assert shop.metrics.request("shop", "r1' OR 'a' = 'a") is None
