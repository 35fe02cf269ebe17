"""The judge, and what the rivals read, over many runs of one stream, on all cores."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tests.benchmarks.rivals.rules import Looks, exposed, gathered, read
from tests.benchmarks.rivals.streams import METRICS, PER_STEP, SHARES, Effect, N, Run, Stream, baseline_ms, draw
from workbench.release.judge import begin, observe
from workbench.release.judge_kinds import Kind
from workbench.release.judge_metrics import e_safe
from workbench.release.judge_model import Column, JudgePlan, MetricPlan, Observation
from workbench.release.judge_terms import QUANTILES, Baseline, judge_plan
from workbench.spec.plan import PlanSpec

NEVER = N
SHIPPED = PlanSpec.model_validate(
    {
        "steps": [{"share": share, "at_least": "1h"} for share in SHARES.tolist()],
        "rollback": {
            "criteria": [
                {"metric": "failure_rate", "role": "critical"},
                {"metric": "violation_rate", "role": "critical"},
                {"metric": "tool_error_rate"},
                {"metric": "latency_p95"},
                {"metric": "quality_mean"},
            ]
        },
    }
)
"""A plan that names the five metrics and nothing else: every margin and weight is the one that holds without a word."""
_NAMES = {"latency": "latency_p95", "quality": "quality_mean"}
"""What the streams call differently."""
_CUTS = (0, 3_000, 8_000, 16_000, 20_000, 24_000)
"""The judge reads every row; it is asked for its advice to promote at the ends of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What the judge did in each run."""

    stopped: np.ndarray
    """Row at which it took the candidate back, from 0; `NEVER`."""
    exposed: np.ndarray
    """Different units that the candidate had served by then, or in all."""
    blame: np.ndarray
    """Name of the metric."""
    is_promoted: np.ndarray
    is_invalid: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Many runs of one stream with one effect."""

    looks: Looks
    judge: Outcomes


def shipped_plan(thresholds_ms: Sequence[float]) -> JudgePlan:
    """What the judge is asked by that plan, where these were the quantiles of stable's latency before."""
    baseline = Baseline(values={**dict(zip(QUANTILES, thresholds_ms, strict=True)), "quality_mean": 0.8})
    plan, left_out = judge_plan(SHIPPED, baseline)
    assert not left_out
    return plan


def observation(run: Run, start: int, end: int) -> Observation:
    rows = np.arange(start, end)
    values = {_NAMES.get(name, name): Column(values=getattr(run, name)[start:end]) for name in METRICS if name != "quality"}
    return Observation(
        batch_id=rows // 400,
        seq=rows % 400,
        arm=run.is_candidate[start:end].astype(np.int8),
        share=run.share[start:end],
        step=run.step[start:end],
        unit=run.unit[start:end],
        values={**values, "quality_mean": Column(values=run.quality[start:end], is_present=run.has_quality[start:end])},
    )


def joined(batches: Sequence[Observation]) -> Observation:
    """The batches one after the other, as one piece of the log."""
    names = ("arm", "share", "step", "unit", "seq")
    last = itertools.accumulate((int(batch.batch_id[-1]) + 1 for batch in batches), initial=0)
    values = {}
    for name in batches[0].values:
        columns = [batch.values[name] for batch in batches]
        present = [column.is_present for column in columns if column.is_present is not None]
        values[name] = Column(
            values=np.concatenate([column.values for column in columns]), is_present=np.concatenate(present) if present else None
        )
    whole = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in names}
    ids = np.concatenate([batch.batch_id + first for batch, first in zip(batches, last, strict=False)])
    return Observation(batch_id=ids, values=values, **whole)


def judged(run: Run, plan: JudgePlan) -> tuple[int, int, str, bool, bool]:
    """Row, exposed units, blame, promoted? and invalid? of one run."""
    state, is_promoted, is_invalid, units = begin(plan), False, False, exposed(run)
    for start, end in itertools.pairwise(_CUTS):
        state = observe(state, plan, observation(run, start, end))
        if state.harmed and (state.invalid is None or state.harmed.place <= state.invalid.place):
            row = state.harmed.place.batch_id * 400 + state.harmed.place.seq
            return row, int(units[row]), state.harmed.blame, is_promoted, is_invalid
        if state.invalid:
            return NEVER, int(units[-1]), "", is_promoted, True
        if end > _LAST_STEP and all(e_safe(state.metrics[metric.name], metric, 2) >= 1 / plan.beta for metric in plan.metrics):
            return NEVER, int(units[-1]), "", True, is_invalid
    return NEVER, int(units[-1]), "", is_promoted, is_invalid


_LAST_STEP = 16_000
_Task = tuple[Stream, int, Effect, int, int, int]


def _part(task: _Task) -> tuple[tuple[np.ndarray, ...], list[tuple[int, int, str, bool, bool]]]:
    stream, stream_at, effect, effect_at, start, end = task
    thresholds = baseline_ms(stream)
    plan = shipped_plan(thresholds)
    parts, outcomes = [], []
    for seed in range(start, end):
        run = draw(stream, effect, (stream_at, effect_at, seed))
        parts.append(read(run, 1.1 * thresholds[1]))
        outcomes.append(judged(run, plan))
    looks = gathered(parts)
    return (looks.n, looks.total, looks.squares, looks.units), outcomes


def replayed(stream: Stream, stream_at: int, effects: Sequence[tuple[Effect, int]]) -> list[Cell]:
    """The stream with each of these effects, so many runs of it; the same seeds give the same."""
    tasks: list[_Task] = []
    for effect_at, (effect, n) in enumerate(effects):
        tasks += [(stream, stream_at, effect, effect_at, start, min(start + 50, n)) for start in range(0, n, 50)]
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        done = pool.map(_part, tasks, chunksize=1)
    cells = []
    for effect, _ in effects:
        mine = [result for task, result in zip(tasks, done, strict=True) if task[2] == effect]
        arrays = [np.concatenate(one) for one in zip(*(looks for looks, _ in mine), strict=True)]
        rows = [row for _, outcomes in mine for row in outcomes]
        stopped, units, blame, promoted, invalid = (np.array(one) for one in zip(*rows, strict=True))
        judge = Outcomes(stopped=stopped, exposed=units, blame=blame, is_promoted=promoted, is_invalid=invalid)
        cells.append(Cell(looks=Looks(n=arrays[0], total=arrays[1], squares=arrays[2], units=arrays[3]), judge=judge))
    return cells


_FAILURES = MetricPlan(name="failure_rate", kind=Kind.EVENT)
_LOOKS_OF_STEP = 8


def wrongly_proven(stream: Stream, step: int, n: int) -> np.ndarray:
    """In which of n runs failures alone are proven better than the step's margin while they stand exactly at it, at any of 8 looks."""
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        return np.array(pool.starmap(_is_proven, [(stream, step, seed) for seed in range(n)], chunksize=10))


def _is_proven(stream: Stream, step: int, seed: int) -> bool:
    plan = JudgePlan(metrics=(_FAILURES,))
    run = draw(stream, Effect(name="margin", ratio=_FAILURES.safe_at(step)), (7, step, seed))
    state, first, piece = begin(plan), step * PER_STEP, PER_STEP // _LOOKS_OF_STEP
    for start, end in itertools.pairwise((0, *range(first, first + PER_STEP + 1, piece))):
        if end > start:
            whole = observation(run, start, end)
            state = observe(state, plan, replace(whole, values={_FAILURES.name: whole.values[_FAILURES.name]}))
        if end > first and e_safe(state.metrics[_FAILURES.name], _FAILURES, step) >= 1 / plan.beta:
            return True
    return False
