"""Success by each rule, and what stays undecided."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, outcome, request, score, spec
from workbench.observability.model import Window
from workbench.observability.success import SuccessRules

ORDER = {"rule": "outcome", "outcome": "order", "within": "60m"}
RESOLVED = {"rule": "score", "score": "resolved", "at_least": 4}
STATUS = {"rule": "status"}


@pytest.fixture
def shop(tmp_path):
    made = Fixture(tmp_path, {"shop": spec(buy=ORDER, ask=RESOLVED, browse=STATUS)})
    yield made
    made.close()


def rates(shop: Fixture, **how) -> tuple[int, int, int]:
    """How many requests succeeded, failed, and are undecided."""
    frame = shop.metrics.query(["success_rate", "failure_rate", "undecided_rate"], app="shop", detail=True, **how)
    row = frame.row(0, named=True)
    return row["success_rate_count"], row["failure_rate_count"], row["undecided_rate_count"]


@pytest.mark.parametrize("status", ["error", "timeout", "truncated"])
@pytest.mark.parametrize("workflow", ["buy", "ask", "browse", None])
def test_a_technical_failure_is_a_failure_under_every_rule(shop, workflow, status):
    shop.add([request(workflow=workflow, status=status)])
    assert rates(shop) == (0, 1, 0)


@pytest.mark.parametrize("workflow", ["buy", "ask", "browse", None])
def test_a_fallback_is_a_failure_under_every_rule(shop, workflow):
    shop.add([request(workflow=workflow, is_fallback=True)])
    assert rates(shop) == (0, 1, 0)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("ok", (1, 0, 0)), ("blocked", (0, 1, 0)), ("handed_off", (0, 1, 0)), ("unknown", (0, 0, 1)), (None, (0, 0, 1))],
)
def test_the_status_rule_takes_ok_and_leaves_the_unknown_undecided(shop, status, expected):
    shop.add([request(workflow="browse", status=status)])
    assert rates(shop) == expected


@pytest.mark.parametrize(("value", "expected"), [(4.0, (1, 0, 0)), (3.9, (0, 1, 0)), (None, (0, 0, 1))])
def test_the_score_rule_compares_with_the_bar_in_the_scores_own_unit(shop, value, expected):
    r = request(workflow="ask")
    shop.add([r], scores=[score(r, "resolved", value), score(r, "success", 1.0)])
    assert rates(shop) == expected


def test_the_newest_score_decides_and_what_was_stored_later_wins_a_tie(shop):
    early, tied = request(workflow="ask"), request(workflow="ask")
    shop.add(
        [early, tied],
        scores=[
            score(early, "resolved", 5, minute=9),
            score(early, "resolved", 1, minute=3),
            score(tied, "resolved", 5),
            score(tied, "resolved", 1),
        ],
    )
    assert rates(shop) == (1, 1, 0)


def test_a_score_taken_back_leaves_the_request_undecided(shop):
    r = request(workflow="ask")
    shop.add([r], scores=[score(r, "resolved", 5), score(r, "resolved", None, minute=1)])
    assert rates(shop) == (0, 0, 1)


def test_without_a_rule_the_score_named_success_decides_before_the_status(shop):
    good, bad, failed, open_ = (request(status=s) for s in ("error", "ok", "error", "ok"))
    shop.add([good, bad, failed, open_], scores=[score(good, "success", 0.5), score(bad, "success", 0.4)])
    assert rates(shop) == (1, 2, 1)


def test_an_app_that_nobody_declared_is_judged_by_the_default(tmp_path):
    shop = Fixture(tmp_path)
    r = request(workflow="buy")
    shop.add([r, request(workflow="buy")], scores=[score(r, "success", 1.0)])
    assert rates(shop) == (1, 0, 1)
    shop.close()


def test_an_event_in_time_is_success_and_none_in_time_is_failure(shop):
    came, late, never, later = (request(workflow="buy", session_id=f"s{i}") for i in range(4))
    later |= {"ts_start": NOON + timedelta(hours=5)}
    shop.add(
        [came, late, never, later],
        outcomes=[
            outcome("order", minute=60, session_id="s0"),
            outcome("order", minute=61, session_id="s1"),
            outcome("other", session_id="s2"),
        ],
    )
    assert rates(shop) == (1, 2, 1)


def test_a_window_that_is_not_over_is_undecided_even_if_the_event_came(shop):
    came, open_ = request(workflow="buy"), request(workflow="buy")
    shop.add([came, open_], outcomes=[outcome("order", minute=1, request_id=came["request_id"])])
    assert rates(shop) == (0, 0, 2)
    shop.add([request(workflow="browse", ts_start=NOON + timedelta(minutes=60))])
    assert rates(shop, where={"workflow": "buy"}) == (1, 1, 0)


def test_cutting_the_log_short_never_raises_the_success_rate(shop):
    rows = [request(workflow="buy", ts_start=NOON + timedelta(minutes=i)) for i in range(0, 180, 10)]
    events = [outcome("order", minute=10 * i + 5, request_id=row["request_id"]) for i, row in enumerate(rows) if i % 2]
    shop.add(rows, outcomes=events)
    whole = shop.one("success_rate", app="shop")
    for minute in range(30, 180, 30):
        value, _ = shop.one("success_rate", app="shop", window=Window(until=NOON + timedelta(minutes=minute)))
        assert value is None or value <= whole[0]


def test_the_end_of_the_window_is_as_far_as_the_log_is_read(shop):
    shop.add([request(workflow="buy"), request(workflow="buy", ts_start=NOON + timedelta(hours=9))])
    assert rates(shop, window=Window(until=NOON + timedelta(minutes=59))) == (0, 0, 1)
    assert rates(shop, window=Window(until=NOON + timedelta(minutes=60))) == (0, 1, 0)
    assert rates(shop, window=Window(until=NOON + timedelta(days=400))) == (0, 1, 1)  # the log does not reach that far


def test_an_event_of_a_session_counts_for_the_requests_before_it(shop):
    before, after = request(workflow="buy", session_id="s"), request(workflow="buy", session_id="s", ts_start=NOON + timedelta(minutes=30))
    shop.add([before, after, request(ts_start=NOON + timedelta(hours=9))], outcomes=[outcome("order", minute=20, session_id="s")])
    assert rates(shop, where={"workflow": "buy"}) == (1, 1, 0)


def test_an_event_that_names_a_request_is_not_its_neighbours(shop):
    mine, other = request(workflow="buy", session_id="s"), request(workflow="buy", session_id="s")
    event = outcome("order", minute=5, session_id="s", request_id=mine["request_id"])
    shop.add([mine, other, request(ts_start=NOON + timedelta(hours=9))], outcomes=[event])
    assert rates(shop, where={"workflow": "buy"}) == (1, 1, 0)


def test_a_later_revision_replaces_the_earlier(shop):
    first = request(workflow="browse", status="error")
    shop.add([first])
    shop.add([first | {"revision": 1, "status": "ok"}])
    assert rates(shop) == (1, 0, 0)


def test_rules_survive_being_stored():
    rules = SuccessRules.of([spec(buy=ORDER, ask=RESOLVED, browse=STATUS)])
    assert SuccessRules.from_json(rules.as_json()) == rules
    assert rules.awaited == (("order", timedelta(minutes=60)),)
    assert rules.score_names == ("resolved", "success")
