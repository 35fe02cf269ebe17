"""The rules of others. Each looks every 400 requests at the same five metrics as the judge.

A rule makes of a run one number per metric and look, and stops the canary when such numbers were above their limits often enough. So
every rule can be taken with its customary limits, or with those that give it a wanted false-alarm rate on some stream.

Sources: Argo Rollouts, documentation of analysis (failureLimit); Flagger, documentation of canary analysis (threshold); the rank rule of
Kayenta in `kayenta.py`; the sequential test of GrowthBook, documentation of its statistics; Lan & DeMets (1983), Biometrika 70:659-663.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from tests.benchmarks.rivals.streams import METRICS, N, Run

LOOK = 400
LOOKS = N // LOOK
_WHICH = np.repeat(np.arange(LOOKS), LOOK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What the rules read of many runs: arrays (run, look, arm, metric); arm 1 is the candidate, greater values are worse."""

    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    units: np.ndarray
    """(run, look): different units that the candidate had served by then."""

    def of(self, runs: slice) -> Looks:
        return Looks(n=self.n[runs], total=self.total[runs], squares=self.squares[runs], units=self.units[runs])


def read(run: Run, slow_ms: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One run's part of `Looks`. Of latencies they read how many are above a fixed threshold; of quality what is missing to 1."""
    place = 2 * _WHICH + run.is_candidate
    n, total, squares = (np.zeros((LOOKS, 2, len(METRICS)), dtype=np.float32) for _ in range(3))
    for m, name in enumerate(METRICS):
        values, at = getattr(run, name), place
        if name == "latency":
            values = (values > slow_ms).astype(float)
        if name == "quality":
            values, at = 1 - values[run.has_quality], place[run.has_quality]
        n[:, :, m] = np.bincount(at, minlength=2 * LOOKS).reshape(LOOKS, 2)
        total[:, :, m] = np.bincount(at, weights=values, minlength=2 * LOOKS).reshape(LOOKS, 2)
        is_binary = name != "quality"
        squares[:, :, m] = total[:, :, m] if is_binary else np.bincount(at, weights=values * values, minlength=2 * LOOKS).reshape(LOOKS, 2)
    return n, total, squares, exposed(run)[LOOK - 1 :: LOOK]


def exposed(run: Run) -> np.ndarray:
    """Different units that the candidate has served up to and with each row."""
    shown = np.flatnonzero(run.is_candidate)
    first = np.zeros(N, dtype=np.int64)
    first[shown[np.unique(run.unit[shown], return_index=True)[1]]] = 1
    return np.cumsum(first)


def gathered(parts: list[tuple[np.ndarray, ...]]) -> Looks:
    n, total, squares, units = (np.stack(one) for one in zip(*parts, strict=True))
    return Looks(n=n, total=total, squares=squares, units=units)


Statistic = Callable[[Looks], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One way to stop a canary."""

    name: str
    statistic: Statistic
    """(run, look, metric) numbers; NaN where it has none."""
    needed: int = 1
    """Looks above a limit before it stops."""
    pooled: bool = False
    """Whether looks of all metrics count together, each at most once; else each metric's by itself."""
    shipped: tuple[float, ...] = ()
    """Customary limits by metric; empty: none are."""
    style: str = ""
    """The bar that it stands for."""

    def stops(self, numbers: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """The look at which each run is stopped, from 0; LOOKS: never."""
        with np.errstate(invalid="ignore"):
            above = numbers > limits
        if self.pooled:
            above = above.any(axis=2, keepdims=True)
        reached = (np.cumsum(above, axis=1) >= self.needed).any(axis=2)
        return np.where(reached.any(axis=1), reached.argmax(axis=1), LOOKS)

    def tuned(self, numbers: np.ndarray, wanted: float = 0.05) -> np.ndarray:
        """The limits at which a share `wanted` of these healthy runs is stopped, each metric alone as often as the others."""
        numbers = np.nan_to_num(numbers, nan=-np.inf)
        ordered = np.sort(
            numbers.reshape(-1, numbers.shape[2]) if self.pooled else -np.sort(-numbers, axis=1)[:, self.needed - 1, :], axis=0
        )
        low, high = 0.0, wanted
        limits = np.full(numbers.shape[2], np.inf)
        for _ in range(18):
            alone = (low + high) / 2
            tried = ordered[min(len(ordered) - 1, math.ceil((1 - alone) * (len(ordered) - 1)))]
            if (self.stops(numbers, tried) < LOOKS).mean() <= wanted:
                low, limits = alone, tried
            else:
                high = alone
        return limits


def interval_rate(looks: Looks) -> np.ndarray:
    """The candidate's mean in each interval."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return looks.total[:, :, 1] / looks.n[:, :, 1]


def rank_z(looks: Looks) -> np.ndarray:
    """The Mann-Whitney statistic of all intervals' means so far, candidate against stable."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = looks.total / looks.n
    out = np.empty((means.shape[0], LOOKS, means.shape[3]), dtype=np.float32)
    n = np.arange(1, LOOKS + 1)
    for m in range(means.shape[3]):
        for start in range(0, means.shape[0], 250):
            candidate, stable = means[start : start + 250, :, 1, m], means[start : start + 250, :, 0, m]
            wins = np.sign(candidate[:, :, None] - stable[:, None, :])
            cumulated = np.nan_to_num(wins).cumsum(axis=1).cumsum(axis=2)
            u = cumulated[:, np.arange(LOOKS), np.arange(LOOKS)] / 2
            out[start : start + 250, :, m] = u / np.sqrt(n * n * (2 * n + 1) / 12)
    return out


def pooled_z(looks: Looks) -> np.ndarray:
    """The z of the difference of the two means of all that came so far."""
    n, total, squares = (one.cumsum(axis=1, dtype=float) for one in (looks.n, looks.total, looks.squares))
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = n.sum(axis=2)
        variance = squares.sum(axis=2) / whole - (total.sum(axis=2) / whole) ** 2
        return (total[:, :, 1] / n[:, :, 1] - total[:, :, 0] / n[:, :, 0]) / np.sqrt(variance * (1 / n[:, :, 0] + 1 / n[:, :, 1]))


def stratified_z(looks: Looks) -> np.ndarray:
    """The z of the candidate's excess over what its share of each interval's total lets expect, summed over the intervals so far."""
    with np.errstate(invalid="ignore", divide="ignore"):
        n, n_all = looks.n[:, :, 1].astype(float), looks.n.sum(axis=2).astype(float)
        total, squares = looks.total.sum(axis=2).astype(float), looks.squares.sum(axis=2).astype(float)
        excess = looks.total[:, :, 1] - n * total / n_all
        spread = n * (n_all - n) / (n_all * (n_all - 1)) * (squares - total * total / n_all)
        return np.nan_to_num(excess).cumsum(axis=1) / np.sqrt(np.nan_to_num(spread).cumsum(axis=1))


def growthbook(looks: Looks, *, tuned_for: float = 5000, alpha: float = 0.05) -> np.ndarray:
    """How far the difference is beyond its confidence sequence: above 1 it excludes "not worse"."""
    n = looks.n.cumsum(axis=1, dtype=float)
    z, whole = pooled_z(looks), n.sum(axis=2)
    r2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tuned_for
    with np.errstate(invalid="ignore", divide="ignore"):
        return z / np.sqrt(2 * (whole * r2 + 1) / (whole * r2) * np.log(np.sqrt(whole * r2 + 1) / (2 * alpha)))


@cache
def obrien_fleming(alpha: float = 0.01) -> np.ndarray:
    """One-sided limits of z at each look that spend alpha as O'Brien and Fleming do, for information that grows evenly."""
    from scipy.stats import norm

    share = np.arange(1, LOOKS + 1) / LOOKS
    spent = 2 * (1 - norm.cdf(norm.ppf(1 - alpha / 2) / np.sqrt(share)))
    rng = np.random.default_rng(1983)
    walk, alive, limits, lost = np.zeros(200_000), np.ones(200_000, dtype=np.bool_), np.empty(LOOKS), 0.0
    for look in range(LOOKS):
        walk += rng.standard_normal(len(walk))
        z, due = walk / math.sqrt(look + 1), round((spent[look] - lost) * len(walk))
        limits[look] = np.sort(z[alive])[-due] if due else np.inf
        lost += (alive & (z >= limits[look])).mean()
        alive &= z < limits[look]
    return limits


def group_sequential(looks: Looks) -> np.ndarray:
    """How far z is beyond the limit of its look: above 0 it stops. Five metrics share alpha 0.05."""
    return stratified_z(looks) - np.minimum(obrien_fleming(), 8.0)[None, :, None]


_CUSTOMARY = (0.05, 0.03, 0.05, 0.2, 0.3)
"""Of failures, violations, tool errors, slow requests, and missing quality: what a careful person writes without looking at the data."""
RULES = (
    Rule(name="argo, limit 0", statistic=interval_rate, style="threshold"),
    Rule(name="argo, limit 1", statistic=interval_rate, needed=2, style="threshold"),
    Rule(name="argo, limit 3", statistic=interval_rate, needed=4, shipped=_CUSTOMARY, style="threshold"),
    Rule(name="flagger, 3 checks", statistic=interval_rate, needed=3, pooled=True, style="threshold"),
    Rule(name="flagger, 5 checks", statistic=interval_rate, needed=5, pooled=True, shipped=_CUSTOMARY, style="threshold"),
    Rule(name="ranks", statistic=rank_z, shipped=(2.326,) * 5, style="threshold"),
    Rule(name="z, pooled", statistic=pooled_z, shipped=(1.645,) * 5, style="z"),
    Rule(name="z, by interval", statistic=stratified_z, shipped=(1.645,) * 5, style="z"),
    Rule(name="group-sequential", statistic=group_sequential, shipped=(0.0,) * 5, style="reference"),
    Rule(name="growthbook", statistic=growthbook, shipped=(1.0,) * 5, style="reference"),
)
