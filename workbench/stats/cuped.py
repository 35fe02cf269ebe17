"""Means with less noise: what was already different before the experiment is taken out (CUPED).

The adjustment uses nothing that the change could have touched, so it moves the effect only by chance, and its interval is narrower
the better the past predicts the present.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.stats.estimate import at_least

Values = NDArray[np.float64]
MISSING_RULE = "units without a pre-period stand at the mean of those that have one, so they are not adjusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """How one unit's value is corrected: `y - theta (pre - mean pre)`."""

    theta: float
    centre: float
    """Mean of the pre-period over all units that have one."""
    variance_reduction: float
    """Share of the variance within the groups that the adjustment takes away, 0 to 1."""
    n_with_pre: int
    n: int
    """Units of all groups."""

    def apply(self, y: ArrayLike, pre: ArrayLike) -> Values:
        """The corrected values; `pre` is NaN for a unit without a pre-period, which keeps its value."""
        values, before = np.asarray(y, dtype=float), np.asarray(pre, dtype=float)
        return values - self.theta * np.where(np.isnan(before), 0.0, before - self.centre)


def adjustment(groups: Sequence[tuple[ArrayLike, ArrayLike]]) -> Adjustment:
    """The adjustment that all groups share: theta from the pooled data, each group about its own means.

    One theta for both sides keeps their difference a difference of the change alone; centring within groups keeps the effect
    itself out of theta.

    Args:
        groups: for each side (and stratum) the units' values and their pre-period values, NaN where a unit has none.

    Raises:
        InsufficientData: fewer than two units have a pre-period, or it is the same for all of them.

    Source: Deng, Xu, Kohavi & Walker (2013), WSDM, "Improving the sensitivity of online controlled experiments by utilizing
    pre-experiment data", sections 3.2 and 4.3.

    >>> y = [3.0, 5.0, 7.0, 9.0]
    >>> round(adjustment([(y, [1.0, 2.0, 3.0, 4.0])]).theta, 6), round(adjustment([(y, [1.0, 2.0, 3.0, 4.0])]).variance_reduction, 6)
    (2.0, 1.0)
    """
    pairs = [(np.asarray(y, dtype=float), np.asarray(pre, dtype=float)) for y, pre in groups]
    known = np.concatenate([pre[~np.isnan(pre)] for _, pre in pairs]) if pairs else np.empty(0)
    at_least("units with a pre-period", known.size, 2)
    centre = float(known.mean())
    filled = [(y, np.where(np.isnan(pre), centre, pre)) for y, pre in pairs]
    products = math.fsum(float(((y - y.mean()) * (pre - pre.mean())).sum()) for y, pre in filled if y.size)
    before = math.fsum(float(((pre - pre.mean()) ** 2).sum()) for _, pre in filled if pre.size)
    own = math.fsum(float(((y - y.mean()) ** 2).sum()) for y, _ in filled if y.size)
    at_least("units that differ before the experiment", 1 if before > 0 else 0, 1)
    return Adjustment(
        theta=products / before,
        centre=centre,
        variance_reduction=min(1.0, products * products / (before * own)) if own > 0 else 0.0,
        n_with_pre=known.size,
        n=sum(y.size for y, _ in filled),
    )


def linearised(y: ArrayLike, x: ArrayLike) -> Values:
    """One value per unit whose mean is the ratio `Σy / Σx`, and whose spread is that of the ratio.

    Raises:
        InsufficientData: Σx is 0.

    Source: Budylin, Drutsa, Katsev & Tsoy (2018), WSDM, "Consistent transformation of ratio metrics for efficient online controlled
    experiments", section 3, with each side's own ratio.
    """
    ys, xs = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
    total = float(xs.sum())
    at_least("observations", 1 if total else 0, 1)
    ratio = float(ys.sum()) / total
    return ratio + (ys - ratio * xs) * (xs.size / total)
