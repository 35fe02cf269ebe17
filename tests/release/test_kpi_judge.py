"""Business results before the judge: what a plan may ask of a KPI, and what candidates that halve it, or leave it alone, are told."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from tests.release.canary import PLAN
from tests.release.judging import AT, FAILURES, advice, part, rows, seen, with_values
from tests.release.test_judging import BASELINE
from workbench.observability.impact_model import TalksBefore
from workbench.observability.release_results import Awaited
from workbench.release.judge import begin, observe
from workbench.release.judge_kinds import Decision, Kind, Role
from workbench.release.judge_metrics import e_safe
from workbench.release.judge_model import JudgePlan, MetricPlan, Observation
from workbench.release.judge_terms import Baseline, as_json, awaited_in, awaited_of, from_json, judge_plan
from workbench.release.outlook import beforehand
from workbench.spec.agreement import disagreements
from workbench.spec.app import AppSpec, Kpi
from workbench.spec.plan import PlanSpec, can_be_judged

KPIS = [
    {"name": "ordered", "outcome": "order", "within": "3h"},
    {"name": "solved", "outcome": "solved", "within": "1h"},
    {"name": "returned", "outcome": "return", "within": "1d", "direction": "lower_is_better"},
    {"name": "revenue", "outcome": "order", "within": "3h", "aggregate": "sum", "unit": "EUR"},
    {"name": "minutes", "outcome": "closed", "within": "1h", "aggregate": "mean", "unit": "minutes", "direction": "lower_is_better"},
    {"name": "loyal", "outcome": "return_visit"},
]
APP = AppSpec.model_validate({"app": "shop", "title": "Shop", "risk_tier": "medium", "kpis": KPIS})
MEANS = {"ordered": 0.05, "solved": 0.8, "returned": 0.1, "revenue": 4.0, "minutes": 10.0, "loyal": 0.3}
BEFORE = replace(BASELINE, results={kpi.name: TalksBefore(kpi=kpi, n=900, mean=MEANS[kpi.name], high=300.0) for kpi in APP.kpis})


def planned(*criteria: dict[str, object], watch: tuple[dict[str, object], ...] = ()) -> PlanSpec:
    return PlanSpec.model_validate({**PLAN, "rollback": {"criteria": [{"metric": "failure_rate"}, *criteria]}, "watch": list(watch)})


def asked_of(name: str, *, role: str = "kpi", ratio: float = 1.0, before: Baseline = BEFORE) -> MetricPlan | str:
    """What the judge is asked about the KPI, or why it cannot be."""
    named = {"metric": name, "role": role, "ratio": ratio}
    plan = planned(named) if role == "guardrail" else planned(watch=(named,))
    asked, left_out = judge_plan(plan, before)
    return left_out[0] if left_out else asked.metrics[-1]


def test_each_kpi_is_judged_by_what_it_is():
    kinds = {name: asked_of(name).kind for name in MEANS if name != "loyal"}
    assert kinds == {
        "ordered": Kind.REACHED,
        "solved": Kind.MOSTLY_REACHED,
        "returned": Kind.EVENT,
        "revenue": Kind.AMOUNT,
        "minutes": Kind.AMOUNT,
    }
    ordered, revenue, minutes = (asked_of(name, ratio=1.25) for name in ("ordered", "revenue", "minutes"))
    assert (ordered.harm, ordered.safe, ordered.within_us) == (1.25, (2.0, 1.5625), 3 * 3600 * 10**6)
    assert (revenue.harm, revenue.high, revenue.unit) == (pytest.approx(0.8), 300.0, "EUR of a talk")
    assert (minutes.harm, minutes.is_lower_better) == (pytest.approx(2.5), True)


def test_the_harm_margin_of_what_most_reach_is_the_same_in_a_ratio_of_those_that_miss_it():
    solved = asked_of("solved", role="guardrail", ratio=1.1)
    assert 1 - solved.harm * (1 - 0.8) == pytest.approx(0.8 / 1.1), "a candidate at the margin reaches 1/ratio of stable's share"
    assert asked_of("solved").harm == 1.0
    assert solved.safe == asked_of("ordered", role="guardrail", ratio=1.1).safe == (2.0, 1.5), "whatever stable's share was before"
    always = replace(BEFORE, results={"solved": TalksBefore(kpi=APP.kpis[1], n=900, mean=1.0)})
    assert asked_of("solved", before=always).kind is Kind.REACHED, "where nobody missed it before no ratio of misses is known"


def test_what_cannot_be_judged_says_why():
    assert asked_of("loyal") == "loyal: the app declares no `within` of it, so nobody knows when it was missed"
    assert asked_of("revenue", role="guardrail") == "revenue: an amount takes no candidate back; name it in `watch` with `role: kpi`"
    for mean, words in (
        (None, "the stable bundle has no data of it"),
        (0.0, "of a mean of 0 before the release no ratio"),
        (-2.0, "of a mean of -2"),
    ):
        unseen = replace(BEFORE, results={"revenue": TalksBefore(kpi=APP.kpis[3], n=0, mean=mean)})
        assert words in asked_of("revenue", before=unseen)
    assert (
        "a first release has nothing"
        in judge_plan(planned(watch=({"metric": "ordered", "role": "kpi"},)), replace(BEFORE, results={}, is_compared=False))[1][0]
    )
    assert (
        asked_of("ordered", before=replace(BEFORE, results={"ordered": TalksBefore(kpi=APP.kpis[0], n=0, mean=None)})).kind is Kind.REACHED
    )


def test_a_plan_that_names_what_the_app_does_not_declare_is_refused_where_it_stands():
    def faults(plan: PlanSpec) -> list[str]:
        found = disagreements(app=APP, people=None, gates=None, plan=plan, rota=None)
        return [f"{each.file} {'.'.join(map(str, each.path))}: {each.text}" for each in found]

    assert faults(planned({"metric": "ordered"}, watch=({"metric": "revenue", "role": "kpi"}, {"metric": "returned"}))) == []
    (unknown,) = faults(planned(watch=({"metric": "revenues", "role": "kpi"},)))
    assert unknown == 'plan.yaml watch.0.metric: KPI "revenues" is not declared in app.yaml; did you mean "revenue"?'
    (amount,) = faults(planned({"metric": "revenue"}))
    assert amount.startswith('plan.yaml rollback.criteria.1.metric: KPI "revenue" is a sum, which may hold a release and takes none back')
    for wrong, right in (
        ("orderd", "ordered"),
        ("failure_rat", "failure_rate"),
        ("latency_p95_ms", "latency_p95"),
    ):
        (mistyped,) = faults(planned({"metric": wrong}, {"metric": "cost_usd"}, {"metric": "latency_p42"}))
        what = f'"{wrong}" takes no candidate back: no canary is judged by it; did you mean "{right}"?'
        assert mistyped == f"plan.yaml rollback.criteria.1.metric: {what}"
    (strange,) = faults(planned({"metric": "success_rate"}))
    assert strange.endswith(
        "known: cost_usd, failure_rate, fallback_rate, latency_p50, latency_p90, latency_p95, latency_p99, ordered, "
        "quality_mean, returned, solved, tool_error_rate, violation_rate"
    ), "an amount and an endless KPI are none"
    endless = faults(planned({"metric": "loyal"}, watch=({"metric": "minutes", "role": "kpi"},)))
    assert endless == [
        'plan.yaml rollback.criteria.1.metric: KPI "loyal" has no `within` in app.yaml: a canary would never know that it was missed'
    ]
    named = [{**KPIS[3], "name": "latency_to_order"}, {**KPIS[5], "name": "latency_to_return"}]
    other = APP.model_copy(update={"kpis": tuple(map(Kpi.model_validate, named))})
    plan = planned({"metric": "latency_to_order"}, watch=({"metric": "latency_to_return", "role": "kpi"},))
    texts = [each.text for each in disagreements(app=other, people=None, gates=None, plan=plan, rota=None)]
    assert [text.split(",")[0] for text in texts] == [
        'KPI "latency_to_order" is a sum',
        'KPI "latency_to_return" has no `within` in app.yaml: a canary would never know that it was missed',
    ], "a KPI of such a name is no latency"
    assert not can_be_judged("latency_to_order", other.kpis)
    assert [can_be_judged(name, APP.kpis) for name in ("ordered", "revenue", "loyal", "cost_usd")] == [True, False, False, True]


def test_how_kpis_are_read_is_stored_with_what_the_judge_is_asked():
    plan = planned({"metric": "ordered"}, watch=({"metric": "revenue", "role": "kpi"}, {"metric": "loyal"}))
    asked, left_out = judge_plan(plan, BEFORE)
    awaited = awaited_in(asked, BEFORE)
    assert [(each.name, each.outcome, each.reading, each.currency) for each in awaited] == [
        ("ordered", "order", "reached", None),
        ("revenue", "order", "total", "EUR"),
    ]
    stored = json.loads(json.dumps(as_json(asked, left_out, {}, awaited)))
    assert (from_json(stored), awaited_of(stored)) == (asked, awaited)
    del stored["awaited"]
    assert awaited_of(stored) == (), "as it was stored before there were any"


def test_a_window_that_outlasts_the_first_step_or_the_deadline_is_told_beforehand():
    plan = planned(watch=({"metric": "ordered", "role": "kpi"}, {"metric": "returned"}))
    (line,) = beforehand(plan, replace(BEFORE, units_per_day=10_000.0)).lines
    assert line == "ordered is known 3 hours after a talk began: the first step waits for that, beyond the 30 s that it lasts at least."
    short = PlanSpec.model_validate({**plan.model_dump(mode="json"), "deadline": "2h"})
    (line,) = beforehand(short, replace(BEFORE, units_per_day=10_000.0)).lines
    assert line == "ordered is known 3 hours after a talk began, and the deadline is 2 hours: no step is proven before it."


# What the judge says


def kpi_plan(kind: Kind, *, role: Role = Role.KPI, **columns: object) -> JudgePlan:
    metric = MetricPlan(name="kpi", kind=kind, role=role, is_lower_better=False, within_us=1, **columns)
    return JudgePlan(metrics=(*FAILURES.metrics, metric))


MONEY = kpi_plan(Kind.AMOUNT, high=900.0, harm=0.0, safe=(2.0,), unit="EUR of a talk")


def stream(seed: int, value: str, ratio: float, *, n: int = 12_000) -> Observation:
    """Talks of a shop: a few order, most are solved, an order's value has a heavy tail; the candidate has `ratio` of stable's share."""
    batch, rng = rows(n, seed), np.random.default_rng(seed + 7)
    share = {"few": 0.03, "most": 0.8, "money": 0.1}[value] * np.where(batch.arm == 1, ratio, 1.0)
    reached = rng.random(n) < share
    worth = reached * (rng.lognormal(3.5, 1.2, n) if value == "money" else 1.0)
    return with_values(batch, failure_rate=rng.random(n) < 0.02, kpi=worth)


def ever_holds(batch: Observation, plan: JudgePlan, *, looks: int = 8) -> bool:
    """Whether the KPI looks worse at any look."""
    state, harmful = begin(plan), False
    for piece in np.array_split(np.arange(batch.n), looks):
        state = observe(state, plan, part(batch, piece))
        harmful = harmful or next(each for each in advice(state, plan).metrics if each.name == "kpi").is_harmful
    return harmful


TWINS = [("few", kpi_plan(Kind.REACHED), 12_000), ("most", kpi_plan(Kind.MOSTLY_REACHED), 12_000), ("money", MONEY, 24_000)]


@pytest.mark.parametrize(("value", "plan", "n"), TWINS)
def test_a_candidate_that_changes_nothing_is_held_in_few_runs_however_often_one_looks(value, plan, n):
    held = [ever_holds(stream(1000 + seed, value, 1.0, n=n), plan) for seed in range(20)]
    assert sum(held) <= 3, "with a probability of 0.05 each, four of twenty are seen in 1.6 % of tests"


@pytest.mark.parametrize(("value", "plan", "n"), TWINS)
def test_a_candidate_that_halves_the_kpi_holds_and_is_not_taken_back(value, plan, n):
    for seed in range(3):
        state = seen(stream(seed, value, 0.5, n=n), plan)
        judgement = advice(state, plan)
        assert (judgement.decision, judgement.reason) == (Decision.HOLD, "kpi"), judgement.sentence
        assert judgement.blame != "kpi", "what may only hold has no part in what takes back"


def test_a_rate_that_is_a_guardrail_takes_back_and_is_blamed():
    for kind, value in ((Kind.REACHED, "few"), (Kind.MOSTLY_REACHED, "most")):
        plan = kpi_plan(kind, role=Role.GUARDRAIL, safe=(3.0, 2.0, 1.5))
        judgement = advice(seen(stream(5, value, 0.5), plan), plan)
        assert (judgement.decision, judgement.blame) == (Decision.ROLLBACK, "kpi")
        good = advice(seen(stream(6, value, 1.3 if value == "few" else 1.2, n=24_000), plan), plan)
        assert next(each for each in good.metrics if each.name == "kpi").is_safe
    late = stream(8, "few", 1.0, n=24_000)
    worse = stream(8, "few", 0.2, n=24_000)
    values = np.where(late.step > 0, worse.values["kpi"].values, late.values["kpi"].values)
    judgement = advice(
        seen(with_values(late, kpi=values), kpi_plan(Kind.REACHED, role=Role.GUARDRAIL)), kpi_plan(Kind.REACHED, role=Role.GUARDRAIL)
    )
    assert judgement.decision is Decision.ROLLBACK


def test_more_of_a_kpi_in_stable_is_as_much_evidence_as_more_of_a_failure_in_the_candidate():
    """The arms exchanged are the same test: an independent way to its numbers."""
    batch = stream(9, "few", 0.6)
    mirrored = replace(batch, arm=(1 - batch.arm).astype(np.int8), share=1 - batch.share)
    events = replace(kpi_plan(Kind.REACHED), metrics=(*FAILURES.metrics, MetricPlan(name="kpi", kind=Kind.EVENT)))
    one = next(each for each in advice(seen(batch, kpi_plan(Kind.REACHED)), kpi_plan(Kind.REACHED)).metrics if each.name == "kpi")
    other = next(each for each in advice(seen(mirrored, events), events).metrics if each.name == "kpi")
    assert (one.e_harm, one.estimate, one.low, one.high) == (other.e_harm, other.estimate, other.low, other.high)
    assert one.n_stable + one.n_candidate == batch.n, "talks that are decided, not those that reached it"


LIVE = [(0.6, (0.6, 0.6)), (0.9, (0.9, 0.9)), (0.97, (0.97, 0.97)), (0.9, (0.6, 0.6)), (0.9, (0.95, 0.5)), (0.6, (0.9, 0.9))]
"""Stable's share of talks that reach a KPI before the release, and in its canary from the first talk to the last."""


def proven(seed: int, plan: JudgePlan, live: tuple[float, float], ratio: float, *, n: int = 6_000, looks: int = 12) -> int | None:
    """Talks until the KPI is proven safe, in a canary whose candidate reaches 1/ratio of stable's share; None where it never is."""
    batch, rng = rows(n, seed), np.random.default_rng(seed + 7)
    reached = rng.random(n) < np.linspace(*live, n) / np.where(batch.arm == 1, ratio, 1.0)
    batch, state = with_values(batch, kpi=reached), begin(plan)
    for piece in np.array_split(np.arange(n), looks):
        state = observe(state, plan, part(batch, piece))
        if e_safe(state.metrics["kpi"], plan.metrics[-1], 2) >= 1 / plan.beta:
            return int(piece[-1]) + 1
    return None


def solved_plan(before: float, margin: float, *, ratio: float = 1.0) -> JudgePlan:
    """What is asked of a KPI that this share of talks reached before the release."""
    known = replace(BEFORE, results={"solved": TalksBefore(kpi=APP.kpis[1], n=900, mean=before)})
    metric = asked_of("solved", role="guardrail", ratio=ratio, before=known)
    assert isinstance(metric, MetricPlan)
    assert metric.kind is Kind.MOSTLY_REACHED
    return JudgePlan(metrics=(*FAILURES.metrics, replace(metric, name="kpi", safe=(margin,))))


def test_a_loss_just_beyond_the_margin_is_rarely_called_safe_whatever_stables_share_was_before():
    """The margin is one of those that reached it, so it means the same where stable's share fell or rose since.

    By misses, made at 0.9, four times stable's would be allowed, and a total loss at 0.6 has two and a half times.
    """
    wrong, margin = {}, 1.5
    for before, live in LIVE:
        plan = solved_plan(before, margin)
        wrong[before, live] = sum(proven(3000 + seed, plan, live, margin * 1.001) is not None for seed in range(20))
        assert proven(4000, plan, live, 1e9) is None, "a total loss"
    assert sum(wrong.values()) <= 13, f"of 120; with a probability of 0.05 each, more are seen in 0.3 % of tests: {wrong}"
    assert max(wrong.values()) <= 5, f"of 20; more are seen in 0.03 % of tests of one: {wrong}"
    by_misses = replace(solved_plan(0.9, 1.5).metrics[1], kind=Kind.MISSED, safe=((1 - 0.9 / 1.5) / 0.1,))
    assert proven(4000, JudgePlan(metrics=(*FAILURES.metrics, by_misses)), (0.6, 0.6), 1e9), "this test would see it"


def test_a_candidate_that_keeps_what_most_reach_is_proven_soon():
    """At the default margin of an even split; failures of 3 % take ten thousand requests."""
    for before, live in LIVE:
        needed = [proven(5000 + seed, solved_plan(before, 1.5), live, 1.0) for seed in range(6)]
        assert None not in needed
        assert max(needed) <= 3000, (before, live, needed)


def test_what_was_decided_by_misses_alone_is_decided_the_same_again():
    """Plans that were stored before safety was one of those that reached it keep their kind, the judge's memory and its judgement."""
    plan = kpi_plan(Kind.MISSED, role=Role.GUARDRAIL, harm=1.2, safe=(3.0, 2.0, 1.5))
    state = seen(stream(5, "most", 0.9), from_json(json.loads(json.dumps(as_json(plan)))))
    assert state.digest == "84e129ebf8d45051074f5ce238159a0adabf8950ac8e74c30870030bb3fdfce3"
    metric = next(each for each in advice(state, plan).metrics if each.name == "kpi")
    assert (metric.harm, metric.safe, metric.e_safe) == (1.2, 1.5, pytest.approx(0.0004112900919502727))


def test_a_loss_is_taken_back_after_a_fall_of_stables_share_and_a_candidate_without_one_goes_on_after_a_rise():
    """What a tolerated ratio above 1 is in misses is made of stable's share before the release."""
    for seed, (before, live, ratio, decision) in enumerate([(0.9, 0.6, 4.0, Decision.ROLLBACK), (0.8, 0.95, 1.0, Decision.PROMOTE)]):
        known = replace(BEFORE, results={"solved": TalksBefore(kpi=APP.kpis[1], n=900, mean=before)})
        metric = asked_of("solved", role="guardrail", ratio=1.25, before=known)
        plan = JudgePlan(metrics=(*FAILURES.metrics, replace(metric, name="kpi")))
        batch, rng = rows(12_000, seed), np.random.default_rng(seed + 7)
        reached = rng.random(batch.n) < live / np.where(batch.arm == 1, ratio, 1.0)
        failed = rng.random(batch.n) < np.where(batch.arm == 1, 0.02, 0.1)
        judgement = advice(seen(with_values(batch, failure_rate=failed, kpi=reached), plan), plan)
        assert judgement.decision is decision, judgement.sentence
        assert ("stable/candidate of those that reached it 3." in judgement.sentence) == (ratio > 1), "by which it is seen"


def test_a_loss_that_begins_late_in_a_step_is_seen_among_users_who_come_back():
    """Each of 400 users has twenty talks in the step; from the middle on the candidate answers nobody."""
    user = np.concatenate([np.random.default_rng(talk).permutation(400) for talk in range(20)])
    batch = rows(len(user), 3, shares=(0.5,))
    batch = replace(batch, arm=(user % 2).astype(np.int8), unit=batch.unit[:400][user])
    is_lost = (batch.arm == 1) & (np.arange(batch.n) >= batch.n // 2)
    reached = (np.random.default_rng(4).random(batch.n) < 0.97) & ~is_lost
    plan = solved_plan(0.97, 1.5)
    judgement = advice(seen(with_values(batch, failure_rate=np.zeros(batch.n), kpi=reached), plan), plan, step=0)
    assert (judgement.decision, judgement.blame) == (Decision.ROLLBACK, "kpi"), judgement.sentence


def test_what_only_later_talks_of_a_step_lose_is_seen_when_the_next_step_begins():
    """Each of 400 users has ten talks in each of two steps; the candidate loses all of them but the very first."""
    user = np.concatenate([np.random.default_rng(talk).permutation(400) for talk in range(20)])
    batch = rows(len(user), 3, shares=(0.5, 0.5))
    batch = replace(batch, arm=(user % 2).astype(np.int8), unit=batch.unit[:400][user])
    is_lost = (batch.arm == 1) & (np.arange(batch.n) >= 400)
    reached = (np.random.default_rng(4).random(batch.n) < 0.9) & ~is_lost
    values = with_values(batch, failure_rate=np.zeros(batch.n), kpi=reached)
    plan = solved_plan(0.9, 1.5, ratio=1.25)
    first = advice(seen(part(values, slice(0, batch.n // 2)), plan), plan, step=0)
    assert first.decision is not Decision.ROLLBACK, "a limit, which the README names"
    judgement = advice(seen(values, plan), plan, step=1)
    assert (judgement.decision, judgement.blame) == (Decision.ROLLBACK, "kpi"), judgement.sentence


TALKS = (Kind.REACHED, Kind.MOSTLY_REACHED)


def test_a_candidate_is_not_proven_because_its_users_come_back_often():
    """Each of 400 users has eight talks in a step, so nearly all of them reach it once, and miss it once, whoever serves them."""
    n_users, visits = 400, 8
    harm = {Kind.REACHED: 1.1, Kind.MOSTLY_REACHED: (1 - 0.8 / 1.1) / 0.2}
    for seed, (kind, ratio) in enumerate(itertools.product(TALKS, (0.25, 1.0))):
        rng = np.random.default_rng(seed)
        user = np.concatenate([rng.permutation(np.repeat(np.arange(n_users), visits)) for _ in range(3)])
        batch = rows(len(user), seed, shares=(0.5, 0.5, 0.5))
        batch = replace(batch, arm=(user % 2).astype(np.int8), unit=batch.unit[:n_users][user])
        reached = rng.random(batch.n) < 0.8 * np.where(batch.arm == 1, ratio, 1.0)
        plan = kpi_plan(kind, role=Role.GUARDRAIL, harm=harm[kind], safe=(3.0, 2.0, 1.5))
        judgement = advice(seen(with_values(batch, failure_rate=np.zeros(batch.n), kpi=reached), plan), plan)
        metric = next(each for each in judgement.metrics if each.name == "kpi")
        assert (metric.is_safe, metric.is_harmful) == (ratio == 1.0, ratio < 1.0), (kind, ratio, metric)


def test_a_kpi_without_results_of_both_arms_is_waited_for_and_never_passed():
    plan = kpi_plan(Kind.REACHED)
    batch = stream(3, "few", 1.0, n=24_000)
    present = {"none": np.zeros(batch.n, np.bool_), "one": batch.arm == 0}
    for which, is_present in present.items():
        column = replace(batch.values["kpi"], values=np.zeros(batch.n), is_present=is_present)
        state = seen(replace(batch, values={**batch.values, "kpi": column}), plan)
        judgement = advice(state, plan)
        assert (judgement.decision, judgement.reason) == (Decision.HOLD, "no_outcome"), which
        assert "no talk of " in judgement.sentence
        overdue = advice(state, plan, deadline=AT)
        assert overdue.decision is Decision.INCONCLUSIVE
    assert advice(seen(batch, plan), plan).decision is Decision.PROMOTE
    shown = kpi_plan(Kind.REACHED, role=Role.SIGNAL)
    nothing = replace(batch, values={"failure_rate": batch.values["failure_rate"]})
    assert advice(seen(nothing, shown), shown).decision is Decision.PROMOTE, "what is only shown is not waited for"


def test_results_that_are_no_numbers_are_refused_and_results_that_never_change_say_nothing():
    batch = stream(4, "money", 1.0)
    broken = batch.values["kpi"].values.copy()
    broken[:90:3], broken[1:90:3], broken[2:90:3] = np.nan, np.inf, -np.inf
    metric = next(each for each in advice(seen(with_values(batch, kpi=broken), MONEY), MONEY).metrics if each.name == "kpi")
    assert metric.n_refused == 90
    assert np.isfinite(metric.estimate)
    half = with_values(batch, kpi=np.full(batch.n, 0.5))
    rate = kpi_plan(Kind.REACHED)
    assert next(each for each in advice(seen(half, rate), rate).metrics if each.name == "kpi").n_refused == batch.n
    for constant in (0.0, 7.0):
        metric = next(
            each for each in advice(seen(with_values(batch, kpi=np.full(batch.n, constant)), MONEY), MONEY).metrics if each.name == "kpi"
        )
        assert (metric.estimate, metric.is_harmful) == (0.0, False)


def test_an_awaited_kpi_is_what_its_stored_form_says():
    one = Awaited.of(Kpi.model_validate(KPIS[0]), APP.kpis[0].within)
    assert Awaited(**one.as_json()) == one
