"""From the lake to the judgement: read bit by bit, read at once, the same."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from tests.observability.lakes import NOON, Clock, open_lake, open_logs
from tests.release.judging import AT, THRESHOLDS_MS
from workbench.observability.release_rows import ReleaseReader
from workbench.release.judge import begin, decide, observe
from workbench.release.judge_kinds import Decision, Kind, Role
from workbench.release.judge_model import JudgePlan, MetricPlan
from workbench.release.judge_rows import observation, steps_of

PLAN = JudgePlan(
    metrics=(
        MetricPlan(name="failure_rate", kind=Kind.EVENT, role=Role.CRITICAL),
        MetricPlan(name="latency_p95", kind=Kind.LATENCY, thresholds_ms=THRESHOLDS_MS),
        MetricPlan(name="quality_mean", kind=Kind.SCORE, is_lower_better=False, harm=0.02, safe=(0.05,)),
    )
)
SHARES = (0.25, 0.5)


def logged(number: int, rng: np.random.Generator):
    """A request and its score; the candidate fails five times as often."""
    share = SHARES[number >= 600]
    is_candidate = bool(rng.random() < share)
    row = {
        "request_id": f"r{number}",
        "revision": 1,
        "is_final": True,
        "app": "shop",
        "ts_start": NOON + timedelta(seconds=number),
        "arm": "candidate" if is_candidate else "stable",
        "traffic_share": share,
        "release_id": "shop.1",
        "unit_hash": f"{rng.integers(0, 2**63):016x}{'0' * 48}",
        "status": "error" if rng.random() < (0.25 if is_candidate else 0.05) else "ok",
        "latency_ms": float(rng.lognormal(6, 0.5)),
    }
    score = {
        "score_id": f"s{number}",
        "request_id": f"r{number}",
        "app": "shop",
        "name": "quality",
        "value": float(rng.beta(6, 2)),
        "scorer_id": "rules",
        "source": "rule",
        "ts": NOON,
    }
    return row, score


def test_a_release_is_judged_the_same_bit_by_bit_and_at_once(tmp_path):
    lake, rng, late = open_lake(tmp_path), np.random.default_rng(2), []
    logs = open_logs(tmp_path, lake=lake)

    names = [metric.name for metric in PLAN.metrics]
    reader, state = ReleaseReader(lambda: lake, "shop", "shop.1", names), begin(PLAN)
    for first in range(0, 1200, 300):
        pairs = [logged(number, rng) for number in range(first, first + 300)]
        logs.record({"requests": [row for row, _ in pairs], "scores": late})
        logs.flush()
        late = [score for _, score in pairs]
        state = observe(state, PLAN, observation(reader.read(), SHARES))
    whole = ReleaseReader(lambda: lake, "shop", "shop.1", names).read()
    once = observe(begin(PLAN), PLAN, observation(whole, SHARES))
    assert once.digest == state.digest
    judgements = [decide(one, PLAN, AT, step=1, data_at=AT) for one in (once, state)]
    assert judgements[0] == judgements[1]
    assert (judgements[0].decision, judgements[0].blame) == (Decision.ROLLBACK, "failure_rate")
    assert judgements[0].metrics[2].n_stable > 500
    logs.close()


def test_the_newest_batch_says_how_fresh_the_log_is_whatever_another_clock_said_before(tmp_path):
    lake, rng, clock = open_lake(tmp_path), np.random.default_rng(3), Clock()
    logs = open_logs(tmp_path, lake=lake, clock=clock)
    for number, ahead_s in enumerate((86_400, -86_390)):
        clock.move(ahead_s)
        logs.record({"requests": [logged(number, rng)[0]]})
        logs.flush()
    rows = ReleaseReader(lambda: lake, "shop", "shop.1", ["failure_rate"]).read()
    assert rows.data_at == clock.at == NOON + timedelta(seconds=10)
    logs.close()


def test_a_share_that_was_set_by_hand_belongs_to_the_last_step_that_it_reaches():
    shares = np.array([0.01, 0.05, 0.2, 0.25, 0.5, 1.0, np.nan])
    assert steps_of(shares, (0.05, 0.25, 0.5)).tolist() == [0, 0, 0, 1, 2, 2, 0]
