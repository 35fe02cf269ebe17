"""Streams for the judge's tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from workbench.release.judge import begin, decide, observe
from workbench.release.judge_kinds import Kind, Role
from workbench.release.judge_model import Column, Judgement, JudgePlan, MetricPlan, Observation
from workbench.release.judge_state import JudgeState

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
SHARES = (0.05, 0.25, 0.5)
THRESHOLDS_MS = (400.0, 760.0, 910.0)
PLAN = JudgePlan(
    metrics=(
        MetricPlan(name="failure_rate", kind=Kind.EVENT, role=Role.CRITICAL, weight=4.0),
        MetricPlan(name="violation_rate", kind=Kind.EVENT, role=Role.CRITICAL),
        MetricPlan(name="tool_error_rate", kind=Kind.EVENT),
        MetricPlan(name="latency", kind=Kind.LATENCY, thresholds_ms=THRESHOLDS_MS),
        MetricPlan(name="quality", kind=Kind.SCORE, is_lower_better=False, harm=0.02, safe=(0.1, 0.07, 0.05)),
    )
)
"""A metric of each kind that compares the arms."""
FAILURES = JudgePlan(metrics=(MetricPlan(name="failure_rate", kind=Kind.EVENT, role=Role.CRITICAL),))
QUALITY = JudgePlan(
    metrics=(MetricPlan(name="quality", kind=Kind.SCORE, is_lower_better=False, harm=0.02, safe=(0.05,)),),
)


def rows(n: int, seed: int, *, shares: tuple[float, ...] = SHARES, **columns: np.ndarray) -> Observation:
    """N requests of n units over the steps, without any values."""
    rng = np.random.default_rng(seed)
    step = np.minimum(np.arange(n) * len(shares) // max(n, 1), len(shares) - 1)
    share = np.array(shares)[step]
    found = Observation(
        batch_id=np.arange(n) // 100 + 1,
        seq=np.arange(n) % 100 + 1,
        arm=(rng.random(n) < share).astype(np.int8),
        share=share,
        step=step,
        unit=rng.integers(1, 2**63, n, dtype=np.uint64),
        values={},
    )
    return replace(found, **columns)


def with_values(batch: Observation, **values: np.ndarray) -> Observation:
    return replace(batch, values={**batch.values, **{name: Column(values=np.asarray(one, dtype=float)) for name, one in values.items()}})


def failing(n: int, seed: int, *, base: float, ratio: float) -> Observation:
    """Requests whose failures are `ratio` times as frequent in the candidate."""
    batch, rng = rows(n, seed), np.random.default_rng(seed + 1)
    return with_values(batch, failure_rate=rng.random(n) < base * np.where(batch.arm == 1, ratio, 1.0))


def whole(n: int, seed: int, *, ratio: float = 1.0) -> Observation:
    """Requests with all of the standard metrics."""
    rng = np.random.default_rng(seed + 2)
    return with_values(
        failing(n, seed, base=0.03, ratio=ratio),
        violation_rate=rng.random(n) < 0.02,
        tool_error_rate=rng.random(n) < 0.02,
        latency=rng.lognormal(6, 0.5, n),
        quality=rng.beta(6.4, 1.6, n),
    )


def part(batch: Observation, chosen: slice | np.ndarray) -> Observation:
    """Some of the rows."""
    names = ("batch_id", "seq", "arm", "share", "step", "unit")
    values = {
        name: Column(values=one.values[chosen], is_present=None if one.is_present is None else one.is_present[chosen])
        for name, one in batch.values.items()
    }
    return Observation(**{name: getattr(batch, name)[chosen] for name in names}, values=values)


def seen(batch: Observation, plan: JudgePlan) -> JudgeState:
    return observe(begin(plan), plan, batch)


def advice(state: JudgeState, plan: JudgePlan, *, step: int = 2, age_s: float = 1.0, deadline: datetime | None = None) -> Judgement:
    return decide(state, plan, AT, step=step, data_at=AT - timedelta(seconds=age_s), deadline=deadline)


def judged(batch: Observation, plan: JudgePlan, *, step: int = 2) -> Judgement:
    return advice(seen(batch, plan), plan, step=step)
