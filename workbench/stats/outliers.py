"""How much of a total hangs on its few greatest values, and the values with those cut to a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.stats.estimate import at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The greatest values of a sample."""

    share_of_units: float
    """For example 0.001: the top 0.1 %."""
    n: int
    """How many units that is, at least 1."""
    share_of_total: float
    """Of the sum of the absolute values, the share that they hold, 0 to 1."""
    limit: float
    """The greatest absolute value that is not among them."""
    largest: float


def tail(values: ArrayLike, *, share: float = 0.001) -> Tail:
    """The tail of the values of all sides together: one limit for all, so that cutting favours none.

    Raises:
        InsufficientData: below two values.

    >>> found = tail([1.0] * 998 + [500.0, 2.0], share=0.001)
    >>> found.n, round(found.share_of_total, 3), found.limit
    (1, 0.333, 2.0)
    """
    sizes = np.sort(np.abs(np.asarray(values, dtype=float)))
    at_least("values", sizes.size, 2)
    n = max(1, math.floor(sizes.size * share + 1e-9))
    total = float(sizes.sum())
    return Tail(
        share_of_units=share,
        n=n,
        share_of_total=float(sizes[-n:].sum()) / total if total else 0.0,
        limit=float(sizes[-n - 1]),
        largest=float(sizes[-1]),
    )


def winsorised(values: ArrayLike, limit: float) -> NDArray[np.float64]:
    """The values, none further from 0 than the limit.

    Source: Tukey & McLaughlin (1963), Sankhya A 25:331-352.
    """
    cut: NDArray[np.float64] = np.clip(np.asarray(values, dtype=float), -limit, limit)
    return cut
