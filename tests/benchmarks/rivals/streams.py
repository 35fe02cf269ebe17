"""Streams of requests through a canary at 5, 25 and 50 %, drawn from a seed: healthy ones, and the same with a worse candidate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

N, PER_STEP = 24_000, 8_000
SHARES = np.array([0.05, 0.25, 0.5])
STEP = np.repeat(np.arange(3), PER_STEP)
METRICS = ("failure_rate", "violation_rate", "tool_error_rate", "latency", "quality")
LATE = 10_000
"""First request of a fault that comes late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """How requests come."""

    name: str
    says: str
    failure: float = 0.03
    violation: float = 0.01
    tool_error: float = 0.02
    drift: float = 0.0
    """Amplitude of the daily wave of base rates, three days in a run."""
    mix: bool = False
    """Whether a workflow with other rates and latencies takes over."""
    sticky: int = 0
    """Users who come again and again, with unequal propensities; 0: each request another user."""
    tail: float = 0.5
    """Sigma of the lognormal latency."""
    judged: bool = False
    """Whether quality is a language model's score on a menu of five."""
    delay: float = 0.0
    """Mean number of requests that come between a request and its results."""
    missing: float = 0.0
    """Share of scores that never come, in both arms alike."""
    lost: float = 0.0
    """Share of the candidate's units that are lost on the way."""


STREAMS = (
    Stream(name="a", says="stationary"),
    Stream(name="b", says="daily wave of base rates, x0.4 to x1.6", drift=0.6),
    Stream(name="c", says="traffic moves to a workflow with other rates", mix=True),
    Stream(name="d", says="2,000 users who return, of unequal propensity", sticky=2000, failure=0.02),
    Stream(name="e", says="heavy-tailed latency", tail=1.3),
    Stream(name="f", says="scores of a language model, many ties", judged=True),
    Stream(name="g", says="sparse errors, 0.1 %", failure=0.001, violation=0.0005, tool_error=0.001),
    Stream(name="h", says="late results, a tenth of the scores missing", delay=300.0, missing=0.1),
    Stream(name="i", says="a fifth of the candidate's units lost", lost=0.2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What is wrong with the candidate: its failures times `ratio`, from a request on."""

    name: str
    ratio: float = 1.0
    since: int = 0


NULL = Effect(name="null")
EFFECTS = (
    Effect(name="1.5", ratio=1.5),
    Effect(name="2", ratio=2.0),
    Effect(name="3", ratio=3.0),
    Effect(name="5", ratio=5.0),
    Effect(name="3 late", ratio=3.0, since=LATE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a stream, as columns of N rows in the order their results come in."""

    is_candidate: np.ndarray
    step: np.ndarray
    share: np.ndarray
    unit: np.ndarray
    failure_rate: np.ndarray
    violation_rate: np.ndarray
    tool_error_rate: np.ndarray
    latency: np.ndarray
    quality: np.ndarray
    has_quality: np.ndarray


_WAVE = np.sin(np.arange(N) * (2 * np.pi * 3 / N))


def draw(stream: Stream, effect: Effect, seed: tuple[int, ...]) -> Run:
    """The run of that seed."""
    rng = np.random.default_rng(seed)
    share = SHARES[STEP]
    unit, is_candidate, propensity = _assigned(stream, share, rng)
    factor = 1 + stream.drift * _WAVE if stream.drift else np.ones(N)
    slow = np.zeros(N)
    if stream.mix:
        is_other = rng.random(N) < np.linspace(0.2, 0.7, N)
        factor, slow = np.where(is_other, 2.5, 0.5), np.where(is_other, 0.9, 0.0)
    harm = np.where(is_candidate & (np.arange(N) >= effect.since), effect.ratio, 1.0)
    base = stream.failure * factor if propensity is None else propensity
    run = Run(
        is_candidate=is_candidate,
        step=STEP,
        share=share,
        unit=unit,
        failure_rate=(rng.random(N) < np.minimum(base * harm, 1.0)).astype(float),
        violation_rate=(rng.random(N) < stream.violation * factor).astype(float),
        tool_error_rate=(rng.random(N) < stream.tool_error * factor).astype(float),
        latency=np.exp(6.0 + stream.tail * rng.standard_normal(N) + slow + 0.2 * stream.drift * _WAVE),
        quality=_quality(stream, rng),
        has_quality=rng.random(N) >= stream.missing if stream.missing else np.ones(N, dtype=np.bool_),
    )
    return _late(_lost(run, stream, rng), stream, rng)


def _assigned(stream: Stream, share: np.ndarray, rng: np.random.Generator):
    if not stream.sticky:
        return rng.integers(1, 2**63, N, dtype=np.uint64), rng.random(N) < share, None
    buckets, ids = rng.random(stream.sticky), rng.integers(1, 2**63, stream.sticky, dtype=np.uint64)
    propensities = rng.beta(10 * stream.failure, 10 * (1 - stream.failure), stream.sticky)
    who = rng.integers(0, stream.sticky, N)
    return ids[who], buckets[who] < share, propensities[who]


def _quality(stream: Stream, rng: np.random.Generator) -> np.ndarray:
    if not stream.judged:
        return np.clip(0.8 + 0.14 * rng.standard_normal(N) - 0.03 * stream.drift * _WAVE, 0.0, 1.0)
    return np.round(rng.beta(6.4, 1.6, N) * 4) / 4


def _lost(run: Run, stream: Stream, rng: np.random.Generator) -> Run:
    """A lost unit shows as one of stable's more: the number of rows stays the same for everybody."""
    if not stream.lost:
        return run
    return replace(run, is_candidate=run.is_candidate & (rng.random(N) >= stream.lost))


def _late(run: Run, stream: Stream, rng: np.random.Generator) -> Run:
    if not stream.delay:
        return run
    order = np.argsort(np.arange(N) + rng.exponential(stream.delay, N), kind="stable")
    return Run(**{name: getattr(run, name)[order] for name in Run.__dataclass_fields__})


def baseline_ms(stream: Stream) -> tuple[float, ...]:
    """Median, 90 and 95 % quantile of the latency before the release, from a run of its own."""
    return tuple(float(one) for one in np.quantile(draw(stream, NULL, (9, 9, 9)).latency, (0.5, 0.9, 0.95)))
