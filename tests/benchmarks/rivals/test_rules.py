"""The rivals of the benchmark are what they are said to be."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from tests.benchmarks.rivals.kayenta import classify, shift
from tests.benchmarks.rivals.replay import judged, observation, shipped_plan
from tests.benchmarks.rivals.rules import LOOK, LOOKS, RULES, exposed, gathered, obrien_fleming, pooled_z, rank_z, read
from tests.benchmarks.rivals.streams import EFFECTS, NULL, STREAMS, N, draw
from tests.observability.real_data import FOLDER

KNOWN = FOLDER / "kayenta" / "classifier_known_answers.json"


@pytest.mark.skipif(not KNOWN.exists(), reason="the published cases are not on this machine")
def test_the_rank_rule_gives_the_published_classes():
    cases = json.loads(KNOWN.read_text())
    assert len(cases) >= 8
    for case in cases:
        direction = case["classify_call"][0].rsplit(".", 1)[1]
        found = classify(case["control"], case["canary"], direction=direction, tolerance=0.10, level=0.95)
        assert f"result.classification == {found}" in case["asserts"], case["test"]


def test_the_rank_rule_passes_what_users_complain_of():
    """A candidate of which every tenth point is an error, while stable never has one."""
    errors = np.where(np.arange(50) % 10 == 0, 1.0, 0.0)
    assert classify(np.zeros(50), errors) == "Pass"
    assert classify(np.zeros(0), errors) == "Nodata"
    assert classify(np.ones(5), np.ones(7)) == "Pass"


def test_the_interval_of_the_shift_excludes_zero_as_the_test_rejects():
    rng, disagreed = np.random.default_rng(4), 0
    for _ in range(200):
        control, experiment = rng.normal(size=25), rng.normal(0.6, 1, 25)
        low, estimate, high = shift(control, experiment, level=0.95)
        assert low <= estimate <= high
        disagreed += (low > 0 or high < 0) != (mannwhitneyu(experiment, control, method="asymptotic").pvalue < 0.05)
    assert disagreed <= 4


def test_rules_read_what_the_run_says():
    run = draw(STREAMS[0], EFFECTS[2], (1,))
    looks = gathered([read(run, 500.0)] * 2)
    first = np.arange(N) < 3 * LOOK
    candidate, stable = run.failure_rate[first & run.is_candidate], run.failure_rate[first & ~run.is_candidate]
    pooled = run.failure_rate[first].var()
    z = (candidate.mean() - stable.mean()) / np.sqrt(pooled * (1 / len(candidate) + 1 / len(stable)))
    assert pooled_z(looks)[1, 2, 0] == pytest.approx(z)
    rates = [
        [run.failure_rate[np.arange(N) // LOOK == k][run.is_candidate[np.arange(N) // LOOK == k] == arm].mean() for k in range(20)]
        for arm in (0, 1)
    ]
    u = mannwhitneyu(rates[1], rates[0]).statistic - 200
    assert rank_z(looks)[0, 19, 0] == pytest.approx(u / np.sqrt(400 * 41 / 12), rel=1e-5)
    assert looks.units[0, -1] == run.is_candidate.sum() == exposed(run)[-1]


def test_a_tuned_rule_stops_as_many_healthy_runs_as_wanted():
    looks = gathered([read(draw(STREAMS[1], NULL, (2, seed)), 900.0) for seed in range(150)])
    for rule in RULES:
        numbers = rule.statistic(looks)
        stopped = (rule.stops(numbers, rule.tuned(numbers, 0.1)) < LOOKS).mean()
        assert 0.03 <= stopped <= 0.1, rule.name


def test_the_spent_limits_are_strict_early_and_near_the_fixed_test_at_the_end():
    limits = obrien_fleming()
    assert 2.3 < limits[-1] < 2.6
    assert np.all(limits[:5] > 4.5)


def test_streams_are_the_same_for_the_same_seed_and_the_judge_stops_the_bad_one():
    plan = shipped_plan((400.0, 760.0, 910.0))
    once, again = (draw(STREAMS[0], EFFECTS[3], (5,)) for _ in range(2))
    assert judged(once, plan) == judged(again, plan)
    row, units, blame, is_promoted, is_invalid = judged(once, plan)
    assert (blame, is_promoted, is_invalid) == ("failure_rate", False, False)
    assert units == exposed(once)[row] < 300
    assert observation(once, 0, 10).n == 10
