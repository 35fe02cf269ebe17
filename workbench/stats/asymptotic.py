"""Asymptotic confidence sequence for the mean of a value without bounds, such as revenue. Valid at every look once n is large.

Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Annals of Statistics 52(6), "Time-uniform central limit theory and asymptotic
confidence sequences", arXiv 2103.06476, theorem 2.2 and, for the tuning, appendix B.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.stats.tilted import Interval

TUNED_FOR = 5000
"""Observations at which the sequence is narrowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """The state: how many values, their sum and the sum of their squares."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None


def update(state: Moments, values: npt.NDArray[np.float64]) -> Moments:
    """The state after these values, added in order, so that batches leave no trace."""
    if not len(values):
        return state
    total = np.add.accumulate(np.concatenate([[state.total], values]))[-1]
    squares = np.add.accumulate(np.concatenate([[state.squares], values * values]))[-1]
    return Moments(n=state.n + len(values), total=float(total), squares=float(squares))


def mean_interval(state: Moments, *, alpha: float = 0.05, fewest: int = 100, tuned_for: int = TUNED_FOR) -> Interval:
    """The mean with both ends; no ends below `fewest` values, where the normal limit cannot be relied on.

    >>> interval = mean_interval(Moments(n=1000, total=500.0, squares=500.0))
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4468, 0.5532)
    """
    if state.n < max(fewest, 2):
        return Interval(estimate=state.mean, low=None, high=None)
    n, mean = state.n, state.total / state.n
    spread = math.sqrt(max(0.0, (state.squares - n * mean * mean) / (n - 1)))
    r2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tuned_for
    half = spread * math.sqrt(2 * (n * r2 + 1) / (n * n * r2) * math.log(math.sqrt(n * r2 + 1) / alpha))
    return Interval(estimate=mean, low=mean - half, high=mean + half)
