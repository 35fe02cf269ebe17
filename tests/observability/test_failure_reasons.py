"""Why requests fail, by workflow; what a redacted answer counts as; single scores and rules by name."""

from __future__ import annotations

import pytest

from tests.observability.metric_logs import Fixture, outcome, request, score, spec
from workbench.errors import UnknownSubject, UsageError

RULES = {
    "buy": {"rule": "outcome", "outcome": "order", "within": "1h"},
    "ask": {"rule": "score", "score": "resolved", "at_least": 0.7},
    "browse": {"rule": "status"},
}


@pytest.fixture
def shop(tmp_path):
    made = Fixture(tmp_path, {"shop": spec(kpis=[{"name": "conversion", "outcome": "order"}], **RULES)})
    yield made
    made.close()


def test_each_failure_has_its_reason_and_what_did_not_fail_has_none(shop):
    asked = [request(workflow="ask") for _ in range(3)]
    shop.add(
        [
            *asked,
            request(workflow="ask", status="timeout"),
            request(workflow="ask", status="error", error_type="rate_limited"),
            request(workflow="ask", is_fallback=True),
            request(workflow="buy", session_id="s"),
            request(workflow="buy"),
            request(workflow="browse", status="cancelled", error_type="client_left"),
            request(workflow=None, status="truncated"),
        ],
        scores=[score(asked[0], "resolved", 0.2), score(asked[1], "resolved", 0.9)],
        outcomes=[outcome("order", minute=5, session_id="s"), outcome("order", minute=600)],
    )
    frame = shop.metrics.query(["volume", "failure_rate"], by=["workflow", "failure_reason"])
    found = {(row["workflow"], row["failure_reason"]): (row["volume"], row["failure_rate"]) for row in frame.iter_rows(named=True)}
    assert found == {
        ("ask", "score:resolved"): (1, 1.0),
        ("ask", "timeout"): (1, 1.0),
        ("ask", "rate_limited"): (1, 1.0),
        ("ask", "fallback"): (1, 1.0),
        ("ask", None): (2, 0.0),
        ("buy", "outcome:order"): (1, 1.0),
        ("buy", None): (1, 0.0),
        ("browse", "client_left"): (1, 1.0),
        (None, "truncated"): (1, 1.0),
    }


def test_reasons_are_grouped_by_and_not_filtered_by(shop):
    shop.add([request()])
    with pytest.raises(UsageError, match=r"filter failure_reason: it follows from the rules of success.*group by it: --by failure_reason"):
        shop.metrics.query("volume", where={"failure_reason": "timeout"})
    with pytest.raises(UsageError, match="KPI conversion: asked by failure_reason"):
        shop.metrics.query("conversion", by="failure_reason", app="shop")
    with pytest.raises(UnknownSubject, match=r"one of app, workflow.*failure_reason"):
        shop.metrics.query("volume", by="reason")


def test_a_redacted_answer_was_checked_and_reached_its_user(shop):
    shop.add(
        [
            request(violation_rules=[], blocked_rules=["pii"]),  # redacted, then released
            request(violation_rules=["tone"], blocked_rules=[]),  # flagged
            request(violation_rules=[], blocked_rules=[]),
            request(status="blocked", violation_rules=[], blocked_rules=["no_way"]),
            request(status="handed_off", violation_rules=[], blocked_rules=["needs_person"]),  # held by a guard
            request(status="handed_off", violation_rules=[], blocked_rules=[], handoff_id="h"),  # the assistant's own handoff
            request(violation_rules=None, blocked_rules=None),
        ]
    )
    assert shop.one("violation_rate") == (0.25, 4)
    assert shop.one("block_rate") == (0.5, 6)


def test_violations_and_blocks_can_be_asked_by_rule(shop):
    shop.add(
        [
            request(violation_rules=["tone", "it's"], blocked_rules=[]),
            request(violation_rules=["tone"], blocked_rules=["pii"]),
            request(violation_rules=[], blocked_rules=["pii"], status="blocked"),
        ]
    )
    assert shop.one("violation_rate:tone") == (1.0, 2)
    assert shop.one("violation_rate:it's") == (0.5, 2)
    assert shop.one("violation_rate:nobody") == (0.0, 2)
    assert shop.one("block_rate:pii") == (2 / 3, 3)


def test_any_score_can_be_asked_by_its_name(shop):
    first, second = request(), request(bundle="two")
    shop.add(
        [first, second, request()],
        scores=[
            score(first, "tone of voice", 4.0, scorer_id="a"),
            score(first, "tone of voice", 2.0, minute=1, scorer_id="a"),
            score(first, "tone of voice", 5.0, scorer_id="b"),
            score(second, "tone of voice", 1.0, sample_probability=0.5),
            score(second, "quality", 0.5),
        ],
    )
    assert shop.one("score:tone of voice") == ((2.0 + 5.0 + 2 * 1.0) / 4, 3)
    assert shop.one("score:quality") == shop.one("quality_mean") == (0.5, 1)
    frame = shop.metrics.query(["score:tone of voice", "score:nobody"], by="bundle", detail=True)
    assert frame["score:tone of voice"].to_list() == [3.5, 1.0]
    assert frame["score:nobody"].to_list() == [None, None]


def test_users_and_sessions_are_counted_once_each(shop):
    shop.add(
        [
            request(unit_hash="a", session_id="s"),
            request(unit_hash="a", session_id="s", bundle="two"),
            request(unit_hash="b", session_id="t"),
            request(unit_hash="c", session_id=None),
            request(unit_hash=None, session_id="t"),
        ]
    )
    assert shop.one("users") == (3, 4)
    assert shop.one("sessions") == (2, 4)
    assert shop.one("requests_per_session") == (4 / 3, 4)  # s under each of two bundles, and t
    assert shop.metrics.query("users", by="bundle").rows() == [("one", 3, 3), ("two", 1, 1)]
    assert shop.metrics.query("users").schema["users"] == shop.metrics.query("volume").schema["volume"]
