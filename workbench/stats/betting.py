"""Block-paired betting: is the mean of a bounded value lower in one of two arms? Valid however often one looks.

A block closes when both arms have an observation, by a rule that looks at labels and never at values. Its difference of means is one
round of a game: whoever bets a fixed fraction of their capital on "the loss is greater than the margin" cannot be expected to gain while
it is not. Pairs are close in time, so what drifts moves both sides alike. Nothing is assumed of variance or shape.

Source: Waudby-Smith & Ramdas (2024), JRSS B 86:1-27, "Estimating means of bounded random variables by betting", the hedged capital process
with fixed fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FRACTIONS = (0.05, 0.1, 0.2, 0.35, 0.55, 0.8)
"""Of the capital at stake in each round; the mean over them is the e-value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBlock:
    """The observations since the last block closed, all of one arm."""

    is_candidate: bool = False
    total: float = 0.0
    n: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Blocks that closed."""

    stable: Floats
    """Mean of each block's stable values."""
    candidate: Floats
    closed_by: npt.NDArray[np.int64]
    """Row that closed each block."""


def close_blocks(opened: OpenBlock, is_candidate: npt.NDArray[np.bool_], values: Floats) -> tuple[OpenBlock, Blocks]:
    """The blocks that these rows close, and what stays open.

    Args:
        opened: what stood open before them.
        is_candidate: arm of each row.
        values: one per row, finite.
    """
    carried = int(opened.n > 0)
    if carried:  # what is open counts as one row that weighs as many as it holds: its sum goes on where it ended
        is_candidate = np.concatenate([[opened.is_candidate], is_candidate])
        values = np.concatenate([[opened.total], values])
    n = len(values)
    if not n:
        nothing = np.zeros(0)
        return opened, Blocks(stable=nothing, candidate=nothing, closed_by=np.zeros(0, np.int64))
    counts = np.ones(n)
    if carried:
        counts[0] = opened.n
    closes = _closers(is_candidate)
    block: npt.NDArray[np.int64] = np.cumsum(closes) - closes
    n_closed = int(np.count_nonzero(closes))
    place = 2 * block + is_candidate
    sums = np.bincount(place, weights=values, minlength=2 * n_closed + 2)
    numbers = np.bincount(place, weights=counts, minlength=2 * n_closed + 2)
    with np.errstate(invalid="ignore"):
        means = sums[: 2 * n_closed] / numbers[: 2 * n_closed]
    arm = int(numbers[2 * n_closed + 1] > 0)
    at = 2 * n_closed + arm
    rest = OpenBlock(is_candidate=bool(arm), total=float(sums[at]), n=int(numbers[at])) if numbers[at] else OpenBlock()
    return rest, Blocks(stable=means[0::2], candidate=means[1::2], closed_by=np.flatnonzero(closes) - carried)


def _closers(is_candidate: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows close a block: the first of the other arm, after a block's first row.

    A row closes a block where its arm changes, unless the row before it closed one. So in stretches of changes every second one
    closes, beginning with the first; a row that repeats its arm begins a new stretch.
    """
    changes = np.concatenate([[False], is_candidate[1:] != is_candidate[:-1]])
    rows = np.arange(len(changes))
    since = rows - np.maximum.accumulate(np.where(changes, -1, rows))
    return np.asarray(changes & (since % 2 == 1))


def log_factors(loss: Floats, margin: float, *, is_safe: bool = False) -> list[Floats]:
    """What each round multiplies the capital by, as logs, for each of `FRACTIONS`.

    Args:
        loss: mean of stable less mean of the candidate, from -1 to 1, one per block.
        margin: at most this is expected under the null; at least this, where `is_safe`.
        is_safe: whether to bet that the loss is smaller than the margin.
    """
    gain = (margin - loss if is_safe else loss - margin) / (1 + margin)
    return [np.log1p(fraction * gain) for fraction in FRACTIONS]


def grow(logs: Sequence[float], factors: Sequence[Floats]) -> list[Floats]:
    """The capital's log before the first round and after each, by fraction; added in order, so batches leave no trace.

    Returns:
        for each fraction n + 1 floats.
    """
    return [np.add.accumulate(np.concatenate([[log], factor])) for log, factor in zip(logs, factors, strict=True)]


def e_values(paths: Sequence[Floats]) -> Floats:
    """The e-value at each place of the paths: the mean capital over the fractions."""
    total = np.zeros_like(paths[0])
    with np.errstate(over="ignore", under="ignore"):
        for path in paths:
            total = total + np.exp(path)
    return total / len(paths)
