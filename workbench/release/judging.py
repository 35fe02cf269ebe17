"""Canaries judged from the log: rows behind the last batch go to the judge, whose memory is kept while this process leads.

A process that takes over reads the release's rows from the first one on, which gives the same memory bit by bit.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np

from workbench.observability.release_rows import SCORE, ReleaseRows
from workbench.release.judge import begin, observe
from workbench.release.judge_decision import decide
from workbench.release.judge_model import Bools, Column, Judgement, JudgePlan, Observation
from workbench.release.judge_rows import observation as at_steps
from workbench.release.judge_state import JudgeState
from workbench.release.judge_terms import COST, FAILURES, Baseline, as_json, bars_of, from_json, judge_plan
from workbench.release.model import Release
from workbench.spec.plan import PlanSpec


class ReadRows(Protocol):
    """Reads the rows of a release behind a batch, with these metrics."""

    def __call__(self, app: str, release_id: str, metrics: Sequence[str], *, after: int) -> ReleaseRows: ...


@dataclass(slots=True)
class _Memory:
    """What is known of one release."""

    plan: JudgePlan
    state: JudgeState
    bars: Mapping[str, float] = field(default_factory=dict)
    after: int = 0
    data_at: datetime | None = None


class LakeJudging:
    """Judges the canaries of a workspace.

    Args:
        rows: reads the log.
        baseline: what the stable bundle of an app did before the release.
    """

    def __init__(self, rows: ReadRows, baseline: Callable[[str, str | None], Baseline]) -> None:
        self._rows = rows
        self._baseline = baseline
        self._memories: dict[str, _Memory] = {}

    def plan_of(self, release: Release) -> Mapping[str, Any]:
        """What the judge is asked, fixed from now on.

        Raises:
            UsageError: nothing of the plan can be judged.
            StoreError: the log cannot be read.
        """
        baseline = self._baseline(release.app, release.previous_stable)
        plan, left_out = judge_plan(release.plan or PlanSpec(), baseline)
        return as_json(plan, left_out, baseline.bars)

    def judge(self, release: Release, plan: Mapping[str, Any], *, canary_s: float, at: datetime) -> Judgement:
        """What the judge says now, after all rows that are in the log.

        Raises:
            StoreError: the log cannot be read.
        """
        memory = self._memories.get(release.release_id)
        if memory is None:
            asked = from_json(plan)
            memory = self._memories[release.release_id] = _Memory(plan=asked, state=begin(asked), bars=bars_of(plan))
        rows = self._rows(release.app, release.release_id, columns_of(memory.plan, memory.bars), after=memory.after)
        if rows.n:
            memory.state = observe(memory.state, memory.plan, observation(rows, memory.plan, release.plan, memory.bars))
            memory.data_at = rows.data_at
        memory.after = rows.newest_batch
        deadline = release.plan.deadline if release.plan else None
        return decide(
            memory.state,
            memory.plan,
            at,
            step=release.step or 0,
            data_at=memory.data_at,
            deadline=at + deadline - timedelta(seconds=canary_s) if deadline else None,
        )

    def digest(self, release_id: str) -> str | None:
        """Of the judge's memory of a release; None where there is none."""
        memory = self._memories.get(release_id)
        return memory.state.digest if memory else None

    def forget(self, kept: Collection[str]) -> None:
        """Keep in memory only what belongs to these releases."""
        for release_id in set(self._memories) - set(kept):
            del self._memories[release_id]


def observation(rows: ReleaseRows, judged: JudgePlan, plan: PlanSpec | None, bars: Mapping[str, float]) -> Observation:
    """The rows as the judge reads them.

    Args:
        rows: of the release, with the metrics of `columns_of`.
        judged: what the judge is asked.
        plan: of the release.
        bars: name of a score to the value below which its request failed.
    """
    seen = at_steps(rows, [step.share for step in plan.steps] if plan else [1.0])
    failed = [_below(seen.values[f"{SCORE}{name}"], bar) for name, bar in bars.items() if f"{SCORE}{name}" in seen.values]
    values = {metric.name: seen.values[metric.name] for metric in judged.metrics}
    for metric in judged.metrics:
        if metric.name == COST:
            values[COST] = dataclasses.replace(values[COST], values=np.minimum(values[COST].values, metric.high))
        if metric.name == FAILURES:
            values[FAILURES] = functools.reduce(_either, failed, values[FAILURES])
    return dataclasses.replace(seen, values=values)


def columns_of(judged: JudgePlan, bars: Mapping[str, float]) -> tuple[str, ...]:
    """The metrics that the rows must have."""
    names = [metric.name for metric in judged.metrics]
    return tuple(dict.fromkeys([*names, *(f"{SCORE}{name}" for name in bars if FAILURES in names)]))


def _below(column: Column, bar: float) -> Column:
    return dataclasses.replace(column, values=(column.values < bar).astype(np.float64))


def _either(one: Column, other: Column) -> Column:
    """What one of the two columns says; a row is a request or a score, so never both do."""
    here, there = _present(one), _present(other)
    return Column(values=np.where(here, one.values, other.values), is_present=here | there)


def _present(column: Column) -> Bools:
    return np.ones(len(column.values), dtype=np.bool_) if column.is_present is None else column.is_present
