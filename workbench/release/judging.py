"""Canaries judged from the log: rows behind the last batch go to the judge, whose memory is kept while this process leads.

A process that takes over reads the release's rows from the first one on, which gives the same memory bit by bit.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import numpy as np

from workbench.errors import UsageError
from workbench.observability.release_results import Awaited
from workbench.observability.release_rows import SCORE, ReleaseReader, ReleaseRows
from workbench.release.judge import begin, observe
from workbench.release.judge_decision import decide
from workbench.release.judge_model import Bools, Column, Judgement, JudgePlan, Observation
from workbench.release.judge_rows import observation as at_steps
from workbench.release.judge_state import JudgeState
from workbench.release.judge_terms import COST, FAILURES, as_json, awaited_in, awaited_of, bars_of, from_json, judge_plan
from workbench.release.model import Release
from workbench.release.ports import Before, ReleaseLog
from workbench.release.shadowing import ShadowJudgement, judge_shadow
from workbench.spec.plan import PlanSpec


@dataclass(slots=True)
class Memory:
    """What the judge knows of one release."""

    plan: JudgePlan
    state: JudgeState
    bars: Mapping[str, float]
    """Name of a score to the value below which its request failed."""
    awaited: tuple[Awaited, ...] = ()
    """The KPIs among its metrics."""
    data_at: datetime | None = None
    """Until when the log was known then."""

    @classmethod
    def of(cls, plan: Mapping[str, Any]) -> Self:
        """Before the first row.

        Args:
            plan: as `LakeJudging.plan_of` gave it.
        """
        asked = from_json(plan)
        return cls(plan=asked, state=begin(asked), bars=bars_of(plan), awaited=awaited_of(plan))

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics that rows must have."""
        return columns_of(self.plan, self.bars)

    def reader(self, log: ReleaseLog, release: Release) -> ReleaseReader:
        """Reads the release's rows, with `columns`, from the first one on."""
        return log.reader(release.app, release.release_id, self.columns, self.awaited)

    def feed(self, rows: ReleaseRows, plan: PlanSpec | None, *, seen_as: Callable[[Observation], Observation] = lambda seen: seen) -> None:
        """Takes in the next rows.

        Args:
            rows: of the release, with `columns`.
            plan: of the release.
            seen_as: what the judge is shown of them; by default all.
        """
        if rows.n:
            self.state = observe(self.state, self.plan, seen_as(observation(rows, self.plan, plan, self.bars)))
            self.data_at = rows.data_at

    def judged(self, plan: PlanSpec | None, *, step: int, canary_s: float, at: datetime, data_at: datetime | None) -> Judgement:
        """What the judge says of what it has read.

        Args:
            plan: of the release; it has the deadline.
            step: the present one, from 0.
            canary_s: seconds of the canary that count.
            at: now.
            data_at: until when the log was known.
        """
        deadline = plan.deadline if plan else None
        return decide(
            self.state,
            self.plan,
            at,
            step=step,
            data_at=data_at,
            deadline=at + deadline - timedelta(seconds=canary_s) if deadline else None,
        )


class LakeJudging:
    """Judges the canaries of a workspace.

    Args:
        log: where they are.
        baseline: what the stable bundle of an app did before the release.
    """

    def __init__(self, log: ReleaseLog, baseline: Before) -> None:
        self._log = log
        self._baseline = baseline
        self._memories: dict[str, tuple[Memory, ReleaseReader]] = {}

    def plan_of(self, release: Release) -> Mapping[str, Any]:
        """What the judge is asked, fixed from now on.

        Raises:
            UsageError: nothing of the plan can be judged.
            StoreError: the log cannot be read.
        """
        planned = release.plan or PlanSpec()
        baseline = self._baseline(release.app, release.previous_stable, planned)
        plan, left_out = judge_plan(planned, baseline)
        return as_json(plan, left_out, baseline.bars, awaited_in(plan, baseline))

    def judge(self, release: Release, plan: Mapping[str, Any], *, canary_s: float, at: datetime) -> Judgement:
        """What the judge says now, after all rows that are in the log.

        Raises:
            StoreError: the log cannot be read.
        """
        memory, reader = self._memory(release, Memory.of(plan))
        rows = reader.read()
        try:
            memory.feed(rows, release.plan)
        except BaseException:
            del self._memories[release.release_id]  # it lacks rows that count as read
            raise
        return memory.judged(release.plan, step=release.step or 0, canary_s=canary_s, at=at, data_at=memory.data_at)

    def _memory(self, release: Release, asked: Memory) -> tuple[Memory, ReleaseReader]:
        """What is known of a release; nothing where another process had fixed another plan first."""
        known = self._memories.get(release.release_id)
        if known is None or _asked(known[0]) != _asked(asked):
            known = asked, asked.reader(self._log, release)
            self._memories[release.release_id] = known
        return known

    def judge_shadow(self, release: Release, *, at: datetime) -> ShadowJudgement:
        """What the shadow stage of a release shows now.

        Raises:
            UsageError: its plan has none.
            StoreError: the log cannot be read.
        """
        if release.shadow_stage is None:
            raise UsageError(f"release {release.release_id}", seen="its plan has no shadow stage", next_step="promote it or abort it")
        return judge_shadow(self._log.shadow(release.app, release.release_id), release.shadow_stage, at=at)

    def digest(self, release_id: str) -> str | None:
        """Of the judge's memory of a release; None where there is none."""
        known = self._memories.get(release_id)
        return known[0].state.digest if known else None

    def forget(self, kept: Collection[str]) -> None:
        """Keep in memory only what belongs to these releases."""
        for release_id in set(self._memories) - set(kept):
            del self._memories[release_id]


def _asked(memory: Memory) -> tuple[JudgePlan, Mapping[str, float], tuple[Awaited, ...]]:
    return memory.plan, memory.bars, memory.awaited


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
    """Whether each score is below its bar; a score that is no number says nothing."""
    return Column(values=(column.values < bar).astype(np.float64), is_present=_present(column) & ~np.isnan(column.values))


def _either(one: Column, other: Column) -> Column:
    """What one of the two columns says; a row is a request or a score, so never both do."""
    here, there = _present(one), _present(other)
    return Column(values=np.where(here, one.values, other.values), is_present=here | there)


def _present(column: Column) -> Bools:
    return np.ones(len(column.values), dtype=np.bool_) if column.is_present is None else column.is_present
