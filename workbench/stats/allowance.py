"""An absolute allowance: does an event come in more than this fraction of trials? Valid however often one looks.

Source: the mixture of likelihood ratios of Wald's sequential test (1945), over fixed alternatives; Ville (1939) for the bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.stats.tilted import Interval

Floats = npt.NDArray[np.float64]
HARM = (2.0, 4.0, 8.0, 16.0)
SAFE = (0.0, 0.1, 0.25, 0.5)
"""Alternatives to the allowed rate, as multiples of it."""
_NEARLY_ONE = 1 - 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """The state."""

    n: int = 0
    events: int = 0


def e_path(state: Trials, happened: npt.NDArray[np.bool_], rate: float, multiples: Sequence[float]) -> Floats:
    """The e-value after each of these trials, which follow those of the state, against "at most `rate`" (multiples above 1) or "at least".

    A rate of 0 allows nothing: infinite from the first event on, 1 before it.

    Returns:
        n floats.
    """
    events = state.events + np.cumsum(happened)
    quiet = state.n + np.arange(1, len(happened) + 1) - events
    return _e(events.astype(float), quiet.astype(float), rate, multiples)


def e_value(state: Trials, rate: float, multiples: Sequence[float]) -> float:
    """The same, now.

    >>> round(e_value(Trials(n=354, events=0), 0.01, SAFE), 1)
    20.0
    """
    return float(_e(np.array([float(state.events)]), np.array([float(state.n - state.events)]), rate, multiples)[0])


def _e(events: Floats, quiet: Floats, rate: float, multiples: Sequence[float]) -> Floats:
    if rate == 0:
        return np.where(events > 0, np.inf, 1.0)
    total = np.zeros_like(events)
    with np.errstate(over="ignore", under="ignore"):
        for multiple in multiples:
            other = min(rate * multiple, _NEARLY_ONE)
            quiet_gain = math.log1p(-other) - math.log1p(-rate)
            if other == 0:
                total = total + np.where(events > 0, 0.0, np.exp(quiet * quiet_gain))
            else:
                total = total + np.exp(events * (math.log(other) - math.log(rate)) + quiet * quiet_gain)
    return total / len(multiples)


def update(state: Trials, happened: npt.NDArray[np.bool_]) -> Trials:
    """The state after these trials."""
    return Trials(n=state.n + len(happened), events=state.events + int(np.count_nonzero(happened)))


def rate_interval(state: Trials, *, alpha: float = 0.05) -> Interval:
    """The observed rate, and all rates that neither one-sided e-value rejects at alpha/2, at every look at once."""
    if not state.n:
        return Interval(estimate=None, low=None, high=None)
    grid = np.concatenate([np.logspace(-6, -1, 501), np.linspace(0.1, 0.999, 600)[1:]])
    kept = grid[np.maximum(_log_e(state, grid, HARM), _log_e(state, grid, SAFE)) < math.log(2 / alpha)].tolist()
    low = min(kept, default=None)
    high = max(kept, default=None)
    return Interval(
        estimate=state.events / state.n,
        low=None if low is None or low == grid[0] else low,
        high=None if high is None or high == grid[-1] else high,
    )


def _log_e(state: Trials, rates: Floats, multiples: Sequence[float]) -> Floats:
    """The logarithm of the e-value against each of these rates, without overflow."""
    quiet = state.n - state.events
    logs = []
    for multiple in multiples:
        others = np.minimum(rates * multiple, _NEARLY_ONE)
        found = quiet * (np.log1p(-others) - np.log1p(-rates))
        if multiple:
            found = found + state.events * (np.log(others) - np.log(rates))
        elif state.events:
            continue
        logs.append(found)
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - math.log(len(multiples)))
