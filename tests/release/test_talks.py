"""What a plan says of talks: what the route says of it, and the judge's twins where talks end where they began."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.release.house import APP, SPECS, House, person
from tests.release.judging import FAILURES, QUALITY, advice, part, seen
from tests.release.talks import Truth, talks
from workbench.release.judge import begin, observe
from workbench.release.judge_model import Decision, JudgePlan

BOTH = JudgePlan(metrics=(*FAILURES.metrics, *QUALITY.metrics))
N_TALKS = 3000


# The route


@pytest.mark.parametrize(("said", "drains"), [({}, True), ({"sessions": "drain"}, True), ({"sessions": "snap"}, False)])
def test_the_route_says_whether_talks_end_where_they_began_and_on_what_after_the_promotion(house: House, said, drains):
    house.declare(plan={**SPECS["plan"], **said})
    house.promoted("v1")
    assert (house.route.drains, house.route.retiring) == (drains, None), "nothing served before"
    house.canary("v2")
    assert (house.route.drains, house.route.retiring) == (drains, None)
    while house.route.candidate:
        house.releases.promote(APP, early="go on", actor=person("requester"))
    assert (house.route.drains, house.route.stable) == (drains, house.bundles["v2"])
    assert house.route.retiring == (house.bundles["v1"] if drains else None)
    house.canary("v3")
    assert house.route.retiring is None, "the next canary ends that"


@pytest.mark.parametrize("act", ["rollback", "abort"])
def test_what_is_taken_back_or_rolled_back_to_leaves_nothing_that_retires(house: House, act: str):
    house.promoted("v1")
    house.canary("v2")
    getattr(house.releases, act)(APP, reason="complaints", actor=person("requester"))
    assert (house.route.stable, house.route.candidate, house.route.retiring) == (house.bundles["v1"], None, None)
    house.promoted("v2")
    assert house.route.retiring == house.bundles["v1"]
    house.releases.rollback(APP, reason="complaints", actor=person("requester"))
    assert (house.route.stable, house.route.retiring, house.route.drains) == (house.bundles["v1"], None, True)


# The judge


def false_alarms(logged: str, *, runs: int, plan: JudgePlan = BOTH) -> list[str]:
    """What is said of harmless candidates."""
    return [advice(seen(talks(N_TALKS, 2000 + run, logged=logged), plan), plan).reason for run in range(runs)]


def test_harmless_twins_of_long_talks_are_seldom_taken_back_and_their_split_and_scores_are_sound():
    """A fifth of the talks last for about a step, and later turns fail more and score less. 5 % of false alarms are allowed."""
    reasons = false_alarms("began", runs=40)
    assert not {"split", "missing"} & set(reasons), reasons
    assert reasons.count("harm") <= 5, "six or more of 40 have a probability below 2 % at 5 %"
    assert reasons.count("proven") >= 10, "and they go on"


def test_with_the_present_share_the_same_talks_would_make_everything_void_and_hide_failures():
    """Why a talk keeps the share of its beginning: the contrast."""
    reasons = false_alarms("present", runs=8)
    assert reasons.count("missing") >= 6, reasons
    harmful = [advice(seen(talks(N_TALKS, seed, truth=Truth(failure_ratio=1.6), logged="present"), BOTH), BOTH) for seed in (1, 2)]
    assert all(found.metrics[0].estimate < 1 for found in harmful), "a candidate that fails 1.6 times as often would seem better"


@pytest.mark.parametrize(
    ("truth", "blame"),
    [
        (Truth(failure_ratio=4.0), "failure_rate"),
        (Truth(failure_ratio=20.0, from_turn=20), "failure_rate"),
        (Truth(quality_drop=0.1), "quality"),
    ],
    ids=["from the first turn", "late in a talk only", "worse answers"],
)
def test_harmful_twins_of_long_talks_are_taken_back(truth: Truth, blame: str):
    """A long talk has 30 turns in the time of a step, so most of its late ones come in a later step than its first."""
    for seed in (11, 12, 13):
        found = advice(seen(talks(8000, seed, truth=truth, per_step=30), BOTH), BOTH)
        assert (found.decision, found.blame) == (Decision.ROLLBACK, blame), found.sentence


def test_with_the_talks_of_earlier_steps_left_out_less_would_be_seen_of_what_goes_wrong_late():
    """Why they are judged, in both arms: left out in both it would be sound as well, and see less."""
    truth, estimates = Truth(failure_ratio=20.0, from_turn=20), []
    for seed in (11, 12, 13):
        batch = talks(8000, seed, truth=truth, per_step=30)
        is_late = batch.step < np.maximum.accumulate(batch.step)
        left_out = replace(batch, share=np.where(is_late, 0.0, batch.share))
        estimates.append([advice(seen(one, BOTH), BOTH).metrics[0].estimate for one in (batch, left_out)])
    assert all(judged > without for judged, without in estimates), estimates


def test_sampled_scores_of_old_and_new_talks_are_not_compared_with_each_other():
    """After a step stable has more old talks, whose turns score less. Blocks of one step each are fair; mixed ones were off by 0.012."""
    losses = []
    for seed in range(40):
        batch = talks(N_TALKS, seed)
        chosen = np.random.default_rng(seed).random(batch.n) < 0.03
        column = replace(batch.values["quality"], is_present=chosen)
        losses.append(seen(replace(batch, values={"quality": column}), QUALITY).metrics["quality"].moments.mean)
    assert abs(np.mean(losses)) < 3 * np.std(losses) / len(losses) ** 0.5 + 0.002


def test_rows_of_several_steps_leave_the_same_memory_however_they_are_cut():
    batch = talks(400, 5)
    whole, state = seen(batch, BOTH), begin(BOTH)
    cuts = np.sort(np.random.default_rng(6).choice(batch.n, 30, replace=False))
    for piece in np.split(np.arange(batch.n), cuts):
        state = observe(state, BOTH, part(batch, piece))
    assert state.digest == whole.digest
