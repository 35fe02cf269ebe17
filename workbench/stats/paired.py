"""Two bundles on the same units: wins and losses, McNemar, and the difference of paired rates and means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.stats.cluster import mean
from workbench.stats.distributions import binomial_cdf, t_tail
from workbench.stats.estimate import Estimate, at_least, check_level
from workbench.stats.proportion import wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class PairCounts:
    """How often candidate and baseline succeeded on the same unit."""

    both: int
    wins: int
    """Candidate only."""
    losses: int
    """Baseline only."""
    neither: int

    @property
    def n(self) -> int:
        return self.both + self.wins + self.losses + self.neither


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p that neither side wins more often; ties say nothing. Also the sign test.

    Source: McNemar (1947), Psychometrika 12:153-157; exact binomial form.

    >>> mcnemar(6, 6), round(mcnemar(12, 0), 5)
    (1.0, 0.00049)
    """
    return min(1.0, 2 * binomial_cdf(min(wins, losses), wins + losses, 0.5))


def paired_rate_difference(pairs: PairCounts, *, level: float = 0.95) -> Estimate:
    """Candidate's rate less the baseline's on the same units, by the paired hybrid score.

    Unlike the t interval on the differences it does not shrink to nothing when no pair differs.

    Raises:
        InsufficientData: without pairs.

    Source: Newcombe (1998), Stat. Med. 17:2635-2650, method 10.
    """
    at_least("pairs", pairs.n, 1)
    first = wilson(pairs.both + pairs.wins, pairs.n, level=check_level(level))
    second = wilson(pairs.both + pairs.losses, pairs.n, level=level)
    phi, difference = _phi(pairs), (pairs.wins - pairs.losses) / pairs.n
    below, above = (_distances(first), _distances(second))
    low = difference - _hybrid(below[0], above[1], phi)
    high = difference + _hybrid(below[1], above[0], phi)
    return Estimate(value=difference, low=low, high=high, level=level, method="newcombe paired score", n=pairs.n)


def _distances(rate: Estimate) -> tuple[float, float]:
    assert rate.low is not None  # noqa: S101 - Wilson's interval has both ends
    assert rate.high is not None  # noqa: S101
    return rate.value - rate.low, rate.high - rate.value


def _hybrid(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))


def _phi(pairs: PairCounts) -> float:
    """The correlation of the two answers, with the method's continuity correction; 0 where it is not defined."""
    margins = (pairs.both + pairs.wins) * (pairs.losses + pairs.neither) * (pairs.both + pairs.losses) * (pairs.wins + pairs.neither)
    cross = pairs.both * pairs.neither - pairs.wins * pairs.losses
    if margins == 0:
        return 0.0
    corrected = max(0.0, cross - pairs.n / 2) if cross > 0 else cross
    return corrected / math.sqrt(margins)


def paired_mean_difference(
    candidate: Sequence[float], baseline: Sequence[float], *, level: float = 0.95, within: tuple[float, float] | None = None
) -> Estimate:
    """Mean of `candidate - baseline` over the same units, with its t interval.

    Args:
        candidate: one value per unit.
        baseline: the same units in the same order.
        level: coverage.
        within: the range of a single difference, where it is known.

    Raises:
        InsufficientData: without pairs.
        ValueError: when the two differ in length.
    """
    differences = [c - b for c, b in zip(candidate, baseline, strict=True)]
    result = mean(differences, level=level, within=within)
    return Estimate(value=result.value, low=result.low, high=result.high, level=level, method="paired t", n=len(differences))


def paired_t_p(candidate: Sequence[float], baseline: Sequence[float]) -> float:
    """Two-sided p of the paired t test.

    Raises:
        InsufficientData: below two pairs.
    """
    differences = [c - b for c, b in zip(candidate, baseline, strict=True)]
    n = len(differences)
    at_least("pairs", n, 2)
    centre = math.fsum(differences) / n
    spread = math.sqrt(math.fsum((d - centre) ** 2 for d in differences) / (n - 1))
    if spread == 0:
        return 1.0 if centre == 0 else 0.0
    return 2 * t_tail(abs(centre) / (spread / math.sqrt(n)), n - 1)
