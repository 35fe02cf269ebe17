"""The rank rule of Kayenta: Mann-Whitney with a tolerance on the shift, written anew from its documentation.

A metric is High where the interval of the Hodges-Lehmann shift, candidate less stable, lies wholly above the tolerance times the
estimate's size; Low where it lies below its negative. Equal arrays, and arrays of one value, pass.

Source: Kayenta, documentation of the canary judge; Hollander & Wolfe (1999), Nonparametric Statistical Methods, section 4.3.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from tests.benchmarks.rivals.rules import LOOKS, Looks

TOLERANCE, LEVEL = 0.25, 0.98


def classify(
    control: np.ndarray, experiment: np.ndarray, *, direction: str = "Either", tolerance: float = TOLERANCE, level: float = LEVEL
) -> str:
    """`Pass`, `High`, `Low` or `Nodata`.

    Args:
        control: stable's points.
        experiment: the candidate's points.
        direction: `Increase`, `Decrease` or `Either` is bad.
        tolerance: part of the estimate that the interval has to clear.
        level: of the interval.
    """
    control, experiment = (one[np.isfinite(one)] for one in (np.asarray(control, float), np.asarray(experiment, float)))
    if not len(control) or not len(experiment):
        return "Nodata"
    if np.array_equal(np.sort(control), np.sort(experiment)) or len(np.unique(np.concatenate([control, experiment]))) == 1:
        return "Pass"
    low, estimate, high = shift(control, experiment, level=level)
    margin = tolerance * abs(estimate)
    if direction in ("Increase", "Either") and low > margin:
        return "High"
    return "Low" if direction in ("Decrease", "Either") and high < -margin else "Pass"


def shift(control: np.ndarray, experiment: np.ndarray, *, level: float) -> tuple[float, float, float]:
    """The Hodges-Lehmann shift between the ends of its interval, by the normal approximation with ties.

    As R's `wilcox.test(exact = FALSE, conf.int = TRUE)`: each is the root, to 1e-4, of the standardised rank sum less a normal quantile,
    with continuity for the ends. Where many values are equal the rank sum jumps at 0, and the root is a number close to it.
    """
    n, m = len(experiment), len(control)

    def standardised(shifted_by: float, quantile: float, correction: float) -> float:
        ranks = rankdata(np.concatenate([experiment - shifted_by, control]))
        excess = ranks[:n].sum() - n * (n + 1) / 2 - n * m / 2
        counts = np.unique(ranks, return_counts=True)[1].astype(float)
        ties = float(np.sum(counts**3 - counts)) / ((n + m) * (n + m - 1))
        return float((excess - np.sign(excess) * correction) / math.sqrt(n * m / 12 * (n + m + 1 - ties)) - quantile)

    def root(quantile: float, correction: float = 0.5) -> float:
        least, most = float(experiment.min() - control.max()), float(experiment.max() - control.min())
        if standardised(least, quantile, correction) <= 0:
            return least
        if standardised(most, quantile, correction) >= 0:
            return most
        return float(brentq(standardised, least, most, args=(quantile, correction), xtol=1e-4))

    quantile = float(norm.ppf((1 + level) / 2))
    return root(quantile), root(0.0, 0.0), root(-quantile)


RUNS = (20, 40, 60)
"""Looks at which the rule is asked: at the end of each step, about all intervals so far."""


def stops(looks: Looks) -> np.ndarray:
    """The look at which each run is stopped because a metric is High, from 0; LOOKS: never. Customary tolerance and level."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = looks.total.astype(float) / looks.n
    found = np.full(len(means), LOOKS)
    for run, points in enumerate(means):
        for end in RUNS:
            if any(classify(points[:end, 0, m], points[:end, 1, m], direction="Increase") == "High" for m in range(points.shape[2])):
                found[run] = end - 1
                break
    return found
