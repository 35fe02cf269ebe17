"""The tilted-label e-process: is an event more frequent in one of two arms? Valid however often one looks, and while shares change.

Only units with the event are looked at. By Bayes' rule, whatever the base rate is and however it drifts, such a unit is one of the
candidate's with probability `q = share * ratio / (share * ratio + 1 - share)`, where `ratio` is the candidate's risk over stable's. So the
likelihood of a ratio needs no base rate, and it depends on the events through their numbers by share and arm alone: those are the
state. It is whole numbers, so its order of arrival and how it was cut into batches leave no trace.

Source: Lindon & Malek (2022), NeurIPS, arXiv 2011.03567 (inhomogeneous Bernoulli and Poisson processes); Ville (1939) for the bound:
P(E >= 1/alpha, ever) <= alpha.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HARM = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)
"""Alternatives to "not worse", as multiples of its ratio."""
SAFE = (1 / 1.25, 1 / 1.5, 1 / 2.0, 1 / 3.0, 1 / 4.0)
"""Alternatives to "worse than the margin", as multiples of it."""
SPLIT = (0.5, 0.67, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0)
"""Alternatives to "units come in the declared shares", as ratios of the odds."""
_WIDEST = 1e6
"""Ratios beyond it, either way, count as unbounded."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """Units with an event that were seen in one step of a release, at one share."""

    step: int
    share: float
    """Of the candidate, strictly between 0 and 1."""
    stable: int
    candidate: int


Counts = tuple[Cell, ...]
"""The state: cells ascending by step and share, none twice."""
NOTHING: Counts = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Events in the order they are judged by, as columns of equal length n."""

    step: npt.NDArray[np.int64]
    share: Floats
    """Strictly between 0 and 1."""
    is_candidate: npt.NDArray[np.bool_]


def tilted(share: float | Floats, ratio: float | Floats) -> Floats:
    """The probability that a unit with the event is one of the candidate's.

    >>> float(tilted(0.05, 1.0)), float(tilted(0.5, 3.0))
    (0.05, 0.75)
    """
    odds = np.asarray(share) * ratio
    return np.asarray(odds / (odds + 1 - np.asarray(share)))


def update(state: Counts, events: Events) -> Counts:
    """The state after these events."""
    for piece in _stretches(events):
        state = _after(state, _running(state, piece))
    return state


Key = tuple[int, float]
"""Step and share."""
Running = dict[Key, tuple[Floats, Floats]]
"""Events of stable and of the candidate so far, after each of some events; of the cells that these are in."""


def _running(state: Counts, events: Events) -> Running:
    """How the cells that the events are in fill with them."""
    before = {(cell.step, cell.share): (float(cell.stable), float(cell.candidate)) for cell in state}
    n, keys = len(events.step), _keys(events)
    running: Running = {}
    for key in keys:
        stable, candidate = before.get(key, (0.0, 0.0))
        if len(keys) == 1:
            rises = np.cumsum(events.is_candidate, dtype=np.float64)
            running[key] = (stable + (np.arange(1.0, n + 1) - rises), candidate + rises)
        else:
            is_here = (events.step == key[0]) & (events.share == key[1])
            rises = np.cumsum(is_here & events.is_candidate, dtype=np.float64)
            running[key] = (stable + (np.cumsum(is_here, dtype=np.float64) - rises), candidate + rises)
    return running


def _keys(events: Events) -> list[Key]:
    """The cells that the events are in; events that are in one begin and end there, if they come from `_stretches`."""
    first, last = ((int(events.step[at]), float(events.share[at])) for at in (0, -1))
    if first == last and not _edges(events).size:
        return [first]
    steps = {share: np.unique(events.step[events.share == share]) for share in np.unique(events.share).tolist()}
    return sorted((int(step), share) for share, found in steps.items() for step in found)


def _after(state: Counts, running: Running) -> Counts:
    cells = {(cell.step, cell.share): cell for cell in state}
    cells |= {key: Cell(*key, int(stable[-1]), int(candidate[-1])) for key, (stable, candidate) in running.items()}
    return tuple(cells[key] for key in sorted(cells))


_FEW = 16
"""Changes of step or share among some events up to which they are taken stretch by stretch."""


def _edges(events: Events) -> Ints:
    """Where step or share change."""
    step, share = events.step, events.share
    return np.flatnonzero((step[1:] != step[:-1]) | (share[1:] != share[:-1])) + 1


def _stretches(events: Events) -> list[Events]:
    """The events cut where step or share change, which makes their paths cheap; uncut where that is often."""
    n = len(events.step)
    if not n:
        return []
    edges = _edges(events).tolist()
    if not edges or len(edges) > _FEW:
        return [events]
    cuts = [slice(start, end) for start, end in itertools.pairwise([0, *edges, n])]
    return [Events(step=events.step[cut], share=events.share[cut], is_candidate=events.is_candidate[cut]) for cut in cuts]


def log_likelihood_ratio(state: Counts, ratios: Sequence[float], null: float = 1.0, *, since: int = 0) -> list[float]:
    """Log-likelihood of each `null * ratio` over that of `null`, from the events of step `since` on."""
    logs = [0.0] * len(ratios)
    for cell in state:
        if cell.step >= since:
            for k, ratio in enumerate(ratios):
                up, down = _gains(cell.share, ratio, null)
                logs[k] = logs[k] + (cell.candidate * up + cell.stable * down)
    return logs


@lru_cache(maxsize=4096)
def _gains(share: float, ratio: float, null: float) -> tuple[float, float]:
    """What an event of the candidate, and one of stable, adds to the log-likelihood ratio."""
    rest = 1 - share
    whole = math.log(share * null + rest) - math.log(share * null * ratio + rest)
    return math.log(ratio) + whole, whole


def e_value(state: Counts, ratios: Sequence[float], null: float = 1.0, *, since: int = 0) -> float:
    """The e-value against "the ratio is at most `null`" (ratios above 1) or "at least" (below 1): the mean likelihood ratio.

    >>> round(e_value((Cell(0, 0.5, 2, 8),), HARM), 2)
    4.62
    """
    logs = log_likelihood_ratio(state, ratios, null, since=since)
    return float(_mean_exp([np.array([log]) for log in logs])[0])


def e_path(
    state: Counts, events: Events, ratios: Sequence[float], null: float = 1.0, *, stakes: Sequence[float] = (1.0,), every: int = 1
) -> Path:
    """The e-value after each of the events, which follow those of the state.

    Args:
        state: what came before.
        events: n of them.
        ratios: the alternatives.
        null: the ratio that is tested.
        stakes: on each step, from 0, as the one from which on the alternative holds; the e-value is the mean with these weights.
        every: look at every such event only, counted from the first of all.
    """
    pieces, places, done = [np.zeros(0)], [np.zeros(0, np.int64)], 0
    for piece in _stretches(events):
        running, n = _running(state, piece), len(piece.step)
        if every == 1:
            looked, seen = np.arange(n), running
        else:
            looked = np.flatnonzero((number(state) + np.arange(1, n + 1)) % every == 0)
            seen = {key: (stable[looked], candidate[looked]) for key, (stable, candidate) in running.items()}
        pieces.append(_weighted(state, seen, n=len(looked), ratios=ratios, null=null, stakes=stakes))
        places.append(looked + done)
        state, done = _after(state, running), done + n
    return Path(places=np.concatenate(places), e=np.concatenate(pieces), state=state)


def staked(state: Counts, ratios: Sequence[float], null: float, stakes: Sequence[float]) -> float:
    """The e-value at the end of such a path, bit by bit."""
    return float(_weighted(state, {}, n=1, ratios=ratios, null=null, stakes=stakes)[0])


def number(state: Counts) -> int:
    """How many events there were."""
    return sum(cell.stable + cell.candidate for cell in state)


def _weighted(state: Counts, running: Running, *, n: int, ratios: Sequence[float], null: float, stakes: Sequence[float]) -> Floats:
    """The weighted e-value at n moments.

    Cells are added from the last step down, so that each step's sum is on the way to that of the step before it.
    """
    counts: Running = {(cell.step, cell.share): (np.array([float(cell.stable)]), np.array([float(cell.candidate)])) for cell in state}
    counts |= running
    cells = sorted(counts, reverse=True)
    logs: list[Floats] = [np.zeros(1) for _ in ratios]
    total = np.zeros(n)
    for since in range(len(stakes) - 1, -1, -1):
        while cells and (cells[0][0] >= since or since == 0):
            key = cells.pop(0)
            stable, candidate = counts[key]
            for k, ratio in enumerate(ratios):
                up, down = _gains(key[1], ratio, null)
                logs[k] = logs[k] + (candidate * up + stable * down)
        total = total + stakes[since] * _mean_exp(logs)
    return total


def _mean_exp(logs: Sequence[Floats]) -> Floats:
    """The mean of the exponentials, added up in the order given; too much for a float is infinite."""
    total = np.zeros_like(logs[0])
    with np.errstate(over="ignore", under="ignore"):
        for log in logs:
            total = total + np.exp(log)
    return total / len(logs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """E-values along events."""

    places: Ints
    """Which events they are after, ascending."""
    e: Floats
    state: Counts
    """After all of the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence sequence's value at one moment."""

    estimate: float | None
    low: float | None
    """None: unbounded."""
    high: float | None


def ratio_interval(state: Counts, *, alpha: float = 0.05) -> Interval:
    """The ratio that fits best, and all ratios that neither one-sided e-value rejects at alpha/2, at every look at once."""
    if not sum(cell.candidate + cell.stable for cell in state):
        return Interval(estimate=None, low=None, high=None)
    limit = math.log(2 / alpha)
    low = _border(lambda ratios: _log_e(state, HARM, ratios) >= limit)
    high = _border(lambda ratios: _log_e(state, SAFE, ratios) < limit)
    return Interval(estimate=_most_likely(state), low=low, high=high)


def _log_e(state: Counts, ratios: Sequence[float], nulls: Floats) -> Floats:
    """The logarithm of the e-value against each of these nulls, without overflow."""
    multiples = np.array(ratios)[:, None]
    logs = np.zeros((len(ratios), len(nulls)))
    for cell in state:
        rest = 1 - cell.share
        n = cell.stable + cell.candidate
        whole = np.log(cell.share * nulls + rest) - np.log(cell.share * nulls * multiples + rest)
        logs += cell.candidate * np.log(multiples) + n * whole
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - math.log(len(ratios)))


def _border(is_below: Callable[[Floats], npt.NDArray[np.bool_]]) -> float | None:
    """Where the condition, true for small ratios, becomes false; None where it does not in the range."""
    low, high = -math.log(_WIDEST), math.log(_WIDEST)
    for _ in range(4):
        grid = np.linspace(low, high, 65)
        below = int(np.count_nonzero(is_below(np.exp(grid))))
        if below in (0, len(grid)):
            return None
        low, high = float(grid[below - 1]), float(grid[below])
    return math.exp((low + high) / 2)


def _most_likely(state: Counts) -> float:
    """The ratio at which as many events of the candidate are expected as were seen; 0 or infinite where only one arm has any."""
    candidate, stable = sum(cell.candidate for cell in state), sum(cell.stable for cell in state)
    if not candidate or not stable:
        return math.inf if candidate else 0.0

    def expects_fewer(ratios: Floats) -> npt.NDArray[np.bool_]:
        expected = np.zeros(len(ratios))
        for cell in state:
            expected += (cell.candidate + cell.stable) * tilted(cell.share, ratios)
        return np.asarray(expected < candidate)

    return _border(expects_fewer) or math.inf
