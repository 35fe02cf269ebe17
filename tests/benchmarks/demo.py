"""The demo's canaries many times over: customers in another order, divided anew, judged as shipped by the demo's own plan.

Both bundles answer the same customers once, for real; each replay draws who comes when and who is the candidate's. The good candidate has
to be promoted, and neither by chance be taken back; the others have to be taken back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from tests.benchmarks import Figure, Report
from workbench.controls.hosting import HostedBundle
from workbench.demo.customers import customers
from workbench.demo.resources import demo_folder
from workbench.demo.rows import Rows, RowWriter
from workbench.demo.shop import ACCOUNTS_BEFORE_CAMPAIGN, SPRING_ACCOUNTS, Shop
from workbench.demo.story import CROWD, LOOK, LOOKS, MOST_CROWDS
from workbench.demo.traffic import run_traffic
from workbench.observability.model import FAILED
from workbench.observability.redaction import Redactor
from workbench.observability.release_rows import QUALITY, SCORE, ReleaseRows
from workbench.observability.sealing import Sealer
from workbench.release.judge_kinds import Decision
from workbench.release.judge_terms import QUANTILES, Baseline, as_json, judge_plan
from workbench.release.judging import Memory
from workbench.release.model import State
from workbench.spec.loading import load_app_folder
from workbench.spec.plan import PlanSpec
from workbench.stats.proportion import wilson
from workbench.versions.reading import read_bundle

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = b"a key of thirty-two bytes, bench"
SEED = 7
POOL = 6000
"""Customers that each bundle answers."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What one bundle did for each customer, row by row: requests first, then the scores of their answers."""

    begins: npt.NDArray[np.int64]
    """Of each customer's rows, and one more: the end."""
    values: Mapping[str, Floats]
    """By metric, NaN where a row has none."""

    def rows_of(self, people: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of these customers, one after the other."""
        counts = self.begins[people + 1] - self.begins[people]
        offsets = np.repeat(self.begins[people] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        return offsets + np.arange(counts.sum())


@dataclass(frozen=True)
class Told:
    """How one replay ended."""

    state: State
    exposed: int
    step: int


def run() -> Report:
    quick = bool(os.environ.get("BENCH_QUICK"))
    good, bad = (100, 25) if quick else (2000, 250)
    begun, shop = time.perf_counter(), Shop(seed=SEED)
    spec = load_app_folder(demo_folder())
    gates = {gate.metric: gate.at_most for gate in spec.gates.gates if gate.at_most is not None}
    bars, plan = spec.app.score_bars, spec.plan
    live = range(SPRING_ACCOUNTS, SPRING_ACCOUNTS + POOL)
    campaign = range(ACCOUNTS_BEFORE_CAMPAIGN, ACCOUNTS_BEFORE_CAMPAIGN + POOL)
    asked = as_json(*judge_plan(plan, _baseline(_answers("v1", range(POOL), shop, bars), gates, bars)), bars)
    stable, late = _answers("v1", live, shop, bars), _answers("v1", campaign, shop, bars)
    print(f"answers ready after {time.perf_counter() - begun:.0f} s", flush=True)
    figures: list[Figure] = []
    for name, runs in (("v2", good), ("v5", bad), ("v6", bad)):
        candidate = _answers(name, live, shop, bars)
        after = (late, _answers(name, campaign, shop, bars)) if name == "v6" else (stable, candidate)
        told = [_replay(asked, plan, (stable, candidate), after, np.random.default_rng((SEED, run))) for run in range(runs)]
        figures += _figures(name, told)
        print(f"{name} after {time.perf_counter() - begun:.0f} s", flush=True)
    figures.append(Figure(what="duration", value=time.perf_counter() - begun, unit="s"))
    return Report(title=f"demo ({good:,} replays of the good candidate, {bad:,} of each bad one)", figures=figures)


def _figures(name: str, told: Sequence[Told]) -> list[Figure]:
    n, taken_back = len(told), [each for each in told if each.state is State.ROLLED_BACK]
    promoted = sum(each.state is State.PROMOTED for each in told)
    share, undecided = 100 * len(taken_back) / n, n - promoted - len(taken_back)
    bounds = wilson(len(taken_back), n)
    note = f"{len(taken_back):,} of {n:,}, 95 % {100 * (bounds.low or 0):.2f}-{100 * (bounds.high or 0):.2f}; undecided {undecided}"
    if name == "v2":
        users = float(np.median([each.exposed for each in told]))
        return [
            Figure(what="v2 promoted", value=100 * promoted / n, unit="%", at_least=99.9, note=f"{promoted:,}; median {users:.0f} users"),
            Figure(what="v2 taken back", value=share, unit="%", at_most=0.1, note=note),
        ]
    exposed = float(np.median([each.exposed for each in taken_back])) if taken_back else None
    steps = np.bincount([each.step for each in taken_back], minlength=1)
    return [
        Figure(what=f"{name} taken back", value=share, unit="%", at_least=99.0, note=f"{note}; by step {steps.tolist()}"),
        Figure(what=f"{name}: users exposed, median", value=exposed, unit="users"),
    ]


def _answers(name: str, numbers: range, shop: Shop, bars: Mapping[str, float]) -> Answers:
    """What the bundle does for these customers."""
    read = read_bundle(demo_folder() / "bundles" / name)
    writer = RowWriter(seed=SEED, sealer=Sealer(Redactor(KEY), KEY))
    people = list(customers(shop, first=numbers.start, n=len(numbers)))
    place = {Sealer(Redactor(KEY), KEY).unit_hash(person.unit): at for at, person in enumerate(people)}
    found: list[list[dict[str, float]]] = [[] for _ in people]
    for rows in run_traffic(HostedBundle(read.bundle, read.files), people, shop=shop, now=NOW, writer=writer):
        _add(rows, found, place, bars)
    begins = np.concatenate([[0], np.cumsum([len(each) for each in found])])
    flat = [row for each in found for row in each]
    names = sorted({metric for row in flat for metric in row})
    return Answers(begins=begins, values={metric: np.array([row.get(metric, np.nan) for row in flat]) for metric in names})


def _add(rows: Rows, found: list[list[dict[str, float]]], place: Mapping[str, int], bars: Mapping[str, float]) -> None:
    owner = {request["request_id"]: place[request["unit_hash"]] for request in rows["requests"]}
    for request in rows["requests"]:
        values = {
            "failure_rate": float(request["status"] in FAILED or bool(request["is_fallback"])),
            "violation_rate": float(bool(request["violation_rules"])),
            "latency_p95": request["latency_ms"],
            "cost_usd": request["cost_usd"],
        }
        found[owner[request["request_id"]]].append({name: value for name, value in values.items() if value is not None})
    for score in rows["scores"]:
        name = QUALITY if score["name"] == "quality" else f"{SCORE}{score['name']}" if score["name"] in bars else None
        if name is not None:
            found[owner[score["request_id"]]].append({name: score["value"]})


def _baseline(before: Answers, limits: Mapping[str, float], bars: Mapping[str, float]) -> Baseline:
    latency = before.values["latency_p95"]
    values = {name: float(np.nanquantile(latency, int(name.removeprefix("latency_p")) / 100)) for name in QUANTILES}
    means = {name: float(np.nanmean(before.values[name])) for name in (QUALITY, "cost_usd")}
    return Baseline(values={**values, **means}, limits=limits, bars=bars)


Pair = tuple[Answers, Answers]


def _replay(asked: Mapping[str, object], plan: PlanSpec, before: Pair, after: Pair, draws: np.random.Generator) -> Told:
    """One canary by the plan: a crowd comes, the controller looks, as in the story. `after` is how bundles answer at the last step."""
    memory = Memory.of(asked)
    step, run_s, at = 0, 0.0, NOW
    order = draws.permutation(POOL)
    for crowd in range(1, MOST_CROWDS + 1):
        who = np.take(order, np.arange((crowd - 1) * CROWD, crowd * CROWD), mode="wrap")
        share = plan.steps[step].share
        pair = after if step == len(plan.steps) - 1 else before
        memory.feed(_rows(memory.columns, pair, who, draws.random(CROWD) < share, crowd=crowd, share=share), plan)
        at += LOOK * LOOKS
        run_s += (LOOK * LOOKS).total_seconds()
        judged = memory.judged(plan, step=step, canary_s=crowd * (LOOK * LOOKS).total_seconds(), at=at, data_at=at)
        if judged.decision is Decision.ROLLBACK:
            return Told(State.ROLLED_BACK, judged.units_candidate, step)
        if judged.decision is Decision.INVALID:
            return Told(State.HELD, judged.units_candidate, step)
        if judged.decision is Decision.PROMOTE and timedelta(seconds=run_s) >= plan.steps[step].at_least:
            step, run_s = step + 1, 0.0
            if step == len(plan.steps):
                return Told(State.PROMOTED, judged.units_candidate, step)
    return Told(State.CANARY, judged.units_candidate, step)


def _rows(
    metrics: Sequence[str], pair: Pair, who: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_], *, crowd: int, share: float
) -> ReleaseRows:
    """The rows of a crowd in the order in which its customers come, each answered by the bundle of its arm."""
    parts = [(answers, people, answers.rows_of(people)) for answers, people in zip(pair, (who[~chosen], who[chosen]), strict=True)]
    arm = np.concatenate([np.full(len(rows), place) for place, (_, _, rows) in enumerate(parts)])
    units = [np.repeat(people, answers.begins[people + 1] - answers.begins[people]) for answers, people, _ in parts]
    mixed = (np.concatenate(units).astype(np.uint64) + np.uint64(1) + np.uint64(crowd // (POOL // CROWD + 1) * POOL)) * np.uint64(
        0x9E3779B97F4A7C15
    )
    n, came = len(arm), np.concatenate([np.flatnonzero(~chosen), np.flatnonzero(chosen)])
    turns = np.concatenate([answers.begins[people + 1] - answers.begins[people] for answers, people, _ in parts])
    order = np.argsort(
        np.repeat(came, turns), kind="stable"
    )  # the arms mixed as they come: a row of one arm alone looks like a broken split
    values = {}
    for name in metrics:
        column = np.concatenate([answers.values.get(name, np.full(answers.begins[-1], np.nan))[rows] for answers, _, rows in parts])
        values[name] = (np.nan_to_num(column)[order], ~np.isnan(column)[order])
    return ReleaseRows(
        batch_id=np.full(n, crowd),
        place=np.arange(n),
        arm=arm.astype(np.int8)[order],
        share=np.full(n, share),
        unit=mixed[order],
        values=values,
        newest_batch=crowd,
        data_at=NOW,
    )
