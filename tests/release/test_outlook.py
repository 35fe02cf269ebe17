"""What a plan leaves open is told before and during its canary: no criterion without data, no step without its users, nothing invented."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.observability.lakes import NOON, open_lake, open_logs
from tests.release.house import APP, PLAN, House, person
from tests.release.test_judging import BASELINE
from workbench.errors import StoreError, UsageError, WorkbenchError
from workbench.observability.metrics import Metrics
from workbench.release.judge_terms import Baseline, as_json, judge_plan
from workbench.release.outlook import beforehand, under_way
from workbench.spec.plan import PlanSpec

WATCHED = {**PLAN, "steps": [*PLAN["steps"][:2], {"share": 0.9, "at_least": "1h", "min_units": 500}]}
"""At each of its steps somebody is left to compare with."""
SLOW = PlanSpec.model_validate({**WATCHED, "deadline": "10d"})
"""Its first step takes 100 units at a share of 0.05, its last one 500 of nearly all."""
COSTLY = PlanSpec.model_validate({**WATCHED, "rollback": {"criteria": [{"metric": "failure_rate"}, {"metric": "cost_usd"}]}})


def known(units_per_day: float | None, **values: float) -> Baseline:
    return Baseline(values=values, units_per_day=units_per_day)


def test_steps_that_the_traffic_cannot_fill_are_named():
    assert beforehand(SLOW, known(1000.0)).lines == ()
    (line,) = beforehand(SLOW, known(100.0)).lines
    assert line == "Step 1 takes 100 units at a share of 0.05: at 100 units a day it needs 20 days, and the deadline is 10 days."
    assert len(beforehand(SLOW, known(0.0)).lines) == 2


def test_traffic_that_nobody_knows_is_said_and_not_invented():
    (line,) = beforehand(SLOW, known(None)).lines
    assert line.startswith("How many users come in a day is not known yet")
    free = PlanSpec.model_validate({**PLAN, "steps": [{"share": 0.5, "at_least": "1h"}]})
    assert beforehand(free, known(None)).lines == (), "where no step takes units nobody has to count"


def test_criteria_that_cannot_be_measured_are_named_before_the_first_look_and_after_it():
    said = ("Not measured: cost_usd: the stable bundle has no data of it before the release.",)
    assert beforehand(COSTLY, known(1000.0)).lines == said
    assert beforehand(COSTLY, known(1000.0, cost_usd=0.01)).lines == ()
    asked, left_out = judge_plan(COSTLY, known(1000.0))
    assert under_way(as_json(asked, left_out)).lines == said
    assert under_way({}).lines == ()
    assert under_way(as_json(*judge_plan(COSTLY, BASELINE))).lines == ()


def test_a_step_that_leaves_nobody_to_compare_with_is_named():
    (line,) = beforehand(PlanSpec.model_validate(PLAN), known(10_000.0)).lines
    assert line.startswith(
        "At step 3 the candidate serves everybody: with nobody left to compare with, only what a gate limits takes it back"
    )


def test_a_plan_of_which_nothing_can_be_judged_takes_nothing_back_and_says_so():
    alone = Baseline(values={}, is_compared=False, units_per_day=1000.0)
    (line,) = beforehand(SLOW, alone).lines
    assert line.startswith("Nothing takes the candidate back by itself: rollback criteria: failure_rate: a first release has nothing")


def test_whoever_starts_or_looks_at_a_release_is_told(house: House):
    house.releases._before = lambda app, stable, _plan: known(3.0) if (app, stable) == (APP, None) else known(1000.0)
    house.declare(plan={**PLAN, "deadline": "10d"})
    release = house.ready()
    assert house.releases.left_open(release.release_id) == house.releases.status(APP).left_open
    assert [line[:9] for line in house.releases.status(APP).left_open] == ["Step 1 ta", "Step 3 ta", "At step 3"]
    house.releases.abort(APP, reason="not today", actor=person("requester"))
    assert house.releases.status(APP).left_open == ()


def test_what_was_told_at_the_start_is_read_again_without_the_log(house: House):
    asked = []

    def before(app: str, stable: str | None, _plan: PlanSpec) -> Baseline:
        asked.append((app, stable))
        return known(3.0)

    house.releases._before = before
    house.declare(plan={**PLAN, "deadline": "10d"})
    release = house.ready()
    lines = [house.releases.status(APP).left_open for _ in range(3)]
    assert lines == [house.releases.left_open(release.release_id)] * 3
    assert lines[0][0].startswith("Step 1 takes 100 units")
    house.releases.approve(release.release_id, actor=person("approver"))
    assert house.releases.status(APP).left_open == lines[0], "whoever approves is told the same"
    assert len(asked) == 1, "the log was read by who started it"


@pytest.mark.parametrize("fault", [StoreError("log lake", seen="it is gone"), UsageError("log lake", seen="it is gone")])
def test_a_log_that_cannot_be_read_or_used_stops_nobody_who_starts_or_looks(house: House, fault: WorkbenchError):
    def broken(_app: str, _stable: str | None, _plan: PlanSpec) -> Baseline:
        raise fault

    house.releases._before = broken
    house.ready()
    assert house.releases.status(APP).left_open == ("What of its plan can be measured is not known: log lake: it is gone.",)
    house.releases._before = lambda *_: known(1000.0)
    assert house.releases.status(APP).left_open[0].startswith("At step 3"), "it is asked again"


def test_users_of_a_day_are_counted_by_the_days_that_the_log_knows(tmp_path):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)

    def per_day(after: timedelta) -> float | None:
        return Metrics(lake, app_spec=lambda _: None, clock=lambda: NOON + after).units_per_day(APP)

    assert per_day(timedelta(days=1)) is None
    rows = [
        {"request_id": f"{day}/{k}", "app": APP, "ts_start": NOON + timedelta(days=day), "unit_hash": f"{k % 3}", "status": "ok"}
        for day in range(4)
        for k in range(6)
    ]
    logs.record({"requests": [*rows, {**rows[0], "request_id": "nobody", "unit_hash": None}]})
    logs.flush()
    assert per_day(timedelta()) is None, "the first came just now"
    assert per_day(timedelta(hours=5)) is None, "less than a day is no day"
    assert per_day(timedelta(days=4)) == pytest.approx(3.0)
    assert per_day(timedelta(days=6)) == pytest.approx(2.0)
    assert per_day(timedelta(days=30)) == 0.0, "it had users, and has none of late"
    logs.close()
    lake.close()
