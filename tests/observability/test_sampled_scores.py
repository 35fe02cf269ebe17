"""Rates whose scores are sampled: each judged request stands for those that were not, and certain failures do not outweigh them."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, request, score, spec
from workbench.observability.metrics import SAME


@pytest.fixture
def shop(tmp_path):
    made = Fixture(tmp_path, {"shop": spec(ask={"rule": "score", "score": "resolved", "at_least": 1})})
    yield made
    made.close()


def traffic(n: int, *, p: float, bundle: str = "one", broken: int = 0, bad: int = 0, lost: int = 0, seed: int = 1):
    """Requests, of which `broken` fail and `bad` disappoint; and scores of all but the broken with probability p, less `lost` ones."""
    rng = random.Random(seed)
    rows = [request(workflow="ask", bundle=bundle, status="error" if i < broken else "ok", cost_usd=1.0) for i in range(n)]
    judged = [(row, i) for i, row in enumerate(rows) if i >= broken and rng.random() < p]
    rng.shuffle(judged)
    return rows, [score(row, "resolved", float(i >= broken + bad), sample_probability=p) for row, i in judged[lost:]]


def measured(shop, metric="success_rate", **how):
    return shop.metrics.measure(metric, app="shop", bundle="one", **how).statistics


def test_a_tenth_of_the_scores_measures_the_whole(shop):
    rows, scores = traffic(4000, p=0.1, bad=400)
    shop.add(rows, scores=scores)
    found = measured(shop)
    assert found["measured_share"] == pytest.approx(1.0, abs=0.1)
    assert found["n"] == len(scores)
    assert found["low"] < 0.9 < found["high"]
    assert found["n_effective"] == pytest.approx(len(scores))


def test_scores_that_are_lost_show_in_the_measured_share(shop):
    rows, scores = traffic(4000, p=0.1, lost=300)
    shop.add(rows, scores=scores)
    assert measured(shop)["measured_share"] == pytest.approx(10 * len(scores) / 4000)
    assert measured(shop)["measured_share"] < 0.4


def test_certain_failures_do_not_outweigh_the_judged_ones(shop):
    rows, scores = traffic(5000, p=0.1, broken=100)
    shop.add(rows, scores=scores)
    found, failures = measured(shop), measured(shop, "failure_rate")
    assert found["n"] == 100 + len(scores)
    assert found["estimate"] == pytest.approx(10 * len(scores) / (10 * len(scores) + 100))
    assert found["estimate"] == pytest.approx(0.98, abs=0.005)
    assert failures["estimate"] == pytest.approx(1 - found["estimate"])
    assert 0 <= found["low"] < found["estimate"] < found["high"] <= 1
    assert found["count"] is None
    assert found["n_effective"] < found["n"]


def test_a_success_costs_what_all_requests_cost(shop):
    rows, scores = traffic(4000, p=0.1)
    shop.add(rows, scores=scores)
    assert measured(shop, "cost_per_success")["estimate"] == pytest.approx(4000 / (10 * len(scores)))


def test_sampling_the_baseline_makes_the_candidate_no_better(shop):
    """Unweighted, the baseline's technical failures would count five times, and a worse candidate would pass for an equal one."""
    for rows, scores in (traffic(4000, p=1.0, bad=600), traffic(4000, p=0.2, broken=200, bundle="two")):
        shop.add(rows, scores=scores)
    found = shop.metrics.compare("success_rate", app="shop", bundle="one", baseline="two").statistics
    assert found["candidate"]["estimate"] == pytest.approx(0.85)
    assert found["baseline"]["estimate"] == pytest.approx(0.95, abs=0.01)
    assert found["difference"]["high"] < 0
    assert found["difference"]["low"] < -0.1 < found["difference"]["high"]


def test_sampled_pairs_are_not_taken_for_all_pairs(shop):
    """Both sides are as good. Of the candidate's failures every one is known, of its successes a fifth."""
    for bundle in ("one", "two"):
        rows, scores = traffic(1000, p=0.2, broken=50, bundle=bundle, seed=len(bundle))
        for i, row in enumerate(rows):
            row["unit_hash"] = f"u{(i * 7) % 1000 if bundle == 'two' else i}"
        shop.add(rows, scores=scores)
    found = shop.metrics.compare("success_rate", app="shop", bundle="one", baseline="two").statistics
    assert (found["design"], found["difference"]["n_pairs"], found["difference"]["wins"]) == ("unpaired", None, None)
    assert found["difference"]["estimate"] == pytest.approx(0.0, abs=0.01)


def test_without_sampling_the_record_is_that_of_a_plain_rate(shop):
    rows, scores = traffic(200, p=1.0, bad=20)
    shop.add(rows, scores=[{**row, "sample_probability": None if i % 2 else 1.0} for i, row in enumerate(scores)])
    found = measured(shop)
    assert (found["method"], found["count"], found["n"], found["measured_share"]) == ("wilson", 180, 200, 1.0)


def test_only_the_scores_under_the_number_weigh(shop):
    """A sampled score of another bundle, of another name or of a failed request changes no record."""
    rows, scores = traffic(100, p=1.0, bad=10, broken=5)
    shop.add(rows, scores=scores)
    before = shop.metrics.measure("success_rate", app="shop", bundle="one")
    other = request(workflow="ask", bundle="two")
    more = [score(rows[50], "tone", 1.0), score(rows[0], "resolved", 1.0), score(other, "resolved", 1.0)]
    shop.add([other], scores=[{**row, "sample_probability": 0.1} for row in more])
    assert shop.metrics.measure("success_rate", app="shop", bundle="one").evidence_id == before.evidence_id


def test_an_impossible_probability_weighs_nothing(shop):
    rows, scores = traffic(100, p=1.0)
    shop.add(rows, scores=[{**row, "sample_probability": 0.0} for row in scores])
    assert measured(shop)["method"] == "wilson"


def test_a_sampled_record_verifies_and_the_retrieval_judge_weighs_too(shop):
    rows = [request(n_retrievals=1, ts_start=NOON + timedelta(seconds=i)) for i in range(400)]
    shop.add(rows, scores=[score(row, "retrieval_hit", 1.0, sample_probability=0.25) for row in rows[::4]])
    record = shop.metrics.measure("retrieval_hit_rate", app="shop", bundle="one", min_n=50)
    assert (record.statistics["estimate"], record.statistics["measured_share"], record.statistics["n"]) == (1.0, 1.0, 100)
    assert 0.9 < record.statistics["low"] < 1.0
    assert shop.metrics.verify(record) == SAME
