"""A question without an answer says why: which values there are, and when the newest request came."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, request
from workbench.observability.model import Window

NOW = NOON + timedelta(days=1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Fixture(tmp_path_factory.mktemp("empty"))
    made.add([
        request(workflow="refund", ts_start=NOON - timedelta(days=7, minutes=20), release_id="shop.1"),
        request(workflow="billing", ts_start=NOON - timedelta(days=20), status="error"),
        request(app="bank", workflow="transfer"),
    ])  # fmt: skip
    yield made
    made.close()


NEWEST = f"came in the hour from {NOON - timedelta(days=7, hours=1):%Y-%m-%d %H:%M} UTC: a window of 9d reaches it."


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({"window": "7d", "app": "shop"}, f"The newest request of shop {NEWEST}"),
        ({"window": "7d", "where": {"app": "shop"}}, f"The newest request of shop {NEWEST}"),
        ({"window": "7d", "app": "shop", "where": {"workflow": "refund"}}, f"The newest request that matches {NEWEST}"),
        (
            {"app": "shop", "where": {"workflow": "refunds"}},
            "No request of shop has workflow=refunds; known are billing, refund (did you mean 'refund'?).",
        ),
        ({"app": "shop", "where": {"workflow": "transfer"}}, "No request of shop has workflow=transfer; known are billing, refund."),
        ({"where": {"model_served": "m-1"}}, "No request has model_served=m-1; none has a value there."),
        (
            {"app": "shop", "where": {"workflow": "refund", "status": "error"}},
            "No request of shop has all of status=error, workflow=refund; each of them is known.",
        ),
        (
            {"app": "shop", "where": {"release_id": "shop.9"}},
            "No request of shop has release_id=shop.9; known are shop.1 (did you mean 'shop.1'?).",
        ),
        ({"app": "shop", "window": Window(until=NOON - timedelta(days=30))}, "Widen the window or the filter."),
        ({"app": "house"}, "No request of house is in the log; import one first."),
    ],
)
def test_it_names_what_the_log_knows(shop, question, says):
    assert shop.metrics.query("volume", **question).is_empty()
    assert shop.metrics.why_empty(**question) == says


def test_the_window_that_is_named_has_the_request(shop):
    assert shop.metrics.query("volume", app="shop", window="9d")["volume"].to_list() == [1]
    assert shop.metrics.query("volume", app="shop", window="8d").is_empty()


def test_no_request_is_read_for_it(shop, monkeypatch):
    from workbench.observability import metrics

    def never(*_):
        raise AssertionError("requests were read")

    monkeypatch.setattr(metrics, "readings", never)
    assert "known are" in shop.metrics.why_empty(app="shop", where={"workflow": "refunds"})


def test_before_the_first_row_it_says_so(tmp_path):
    empty = Fixture(tmp_path)
    assert empty.metrics.why_empty(window="7d") == "No request is in the log; import one first."
    empty.close()
