"""What may be wrong between the log and the judge: scores that are no numbers, and a plan that another process fixed first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from tests.release.house import APP, PLAN, House
from workbench.observability.release_rows import SCORE, ReleaseRows
from workbench.release.judge_terms import Baseline, judge_plan
from workbench.release.judging import LakeJudging, observation
from workbench.spec.plan import PlanSpec

NOW = datetime(2026, 10, 5, 9, tzinfo=UTC)


def rows(**values: list[float]) -> ReleaseRows:
    """One row of the candidate for each value."""
    n = len(next(iter(values.values())))
    return ReleaseRows(
        batch_id=np.ones(n, np.int64),
        place=np.arange(n),
        arm=np.ones(n, np.int8),
        share=np.full(n, 0.05),
        unit=np.arange(n, dtype=np.uint64),
        values={name.replace("score_", SCORE): (np.array(column), np.ones(n, np.bool_)) for name, column in values.items()},
        newest_batch=1,
        data_at=NOW,
    )


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf, 0.9])
def test_a_score_that_is_no_number_neither_fails_its_request_nor_clears_it(value: float):
    plan = PlanSpec.model_validate(PLAN)
    asked, _ = judge_plan(plan, Baseline(values={}))
    seen = rows(failure_rate=[0.0, 0.0], score_resolved=[value, 0.2])
    of_scores = {**seen.values, "failure_rate": (np.zeros(2), np.zeros(2, np.bool_))}
    column = observation(replace(seen, values=of_scores), asked, plan, {"resolved": 0.5}).values["failure_rate"]
    assert column.is_present.tolist() == [not np.isnan(value), True]
    assert column.values[column.is_present].tolist() == [*([] if np.isnan(value) else [float(value < 0.5)]), 1.0]


def test_a_memory_under_another_plan_than_the_stored_one_is_made_anew(house: House):
    """Two processes may both ask for a first look; the one whose plan is not stored goes by the other's from then on."""
    house.promoted("v1")
    release = house.canary("v2")
    log = SimpleNamespace(reader=lambda *_about: SimpleNamespace(read=lambda: rows(failure_rate=[0.0])))
    judging = LakeJudging(log, lambda _app, _stable, _plan: Baseline(values={"latency_p95": 1.0}))
    own = judging.plan_of(release)
    judging.judge(release, own, canary_s=0.0, at=NOW)
    before, _ = judging._memories[release.release_id]
    judging.judge(release, own, canary_s=1.0, at=NOW)
    assert judging._memories[release.release_id][0] is before
    stored = {**own, "min_units": [7 for _ in own["min_units"]]}
    judging.judge(release, stored, canary_s=2.0, at=NOW)
    after, _ = judging._memories[release.release_id]
    assert after is not before
    assert set(after.plan.min_units) == {7}
    assert judging.judge(release, stored, canary_s=3.0, at=NOW).rows == 1
    assert release.app == APP
