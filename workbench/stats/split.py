"""Did the units arrive in the shares that were declared? If not, some of them were lost on the way, and no effect can be trusted.

The share of the candidate grows over time, so each stretch of one share is judged by itself: the units that came in it for the first
time. The stretches are independent, and their statistics add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.stats.distributions import chi_squared_tail
from workbench.stats.estimate import at_least

MISMATCH = 0.001
"""Below this p the split is broken. Strict, because nobody means to find it and it is looked at often."""
FEWEST = 5.0
"""Expected units per side below which a stretch is judged together with the other small ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The units that came for the first time while one share was declared."""

    share: float
    """Declared for the candidate, 0 to 1."""
    candidate: int
    baseline: int

    @property
    def n(self) -> int:
        return self.candidate + self.baseline

    @property
    def excess(self) -> float:
        """Units of the candidate beyond those expected."""
        return self.candidate - self.n * self.share

    @property
    def variance(self) -> float:
        return self.n * self.share * (1 - self.share)

    @property
    def is_certain(self) -> bool:
        """Whether the declared share leaves nothing to chance."""
        return self.share in (0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitTest:
    """What the counts say of the declared shares."""

    p: float
    """Of counts at least as far from the declared shares, if those were kept."""
    statistic: float
    """Sum of the squared standardised deviations."""
    df: int
    n: int
    """Units that were judged."""
    expected: float
    """Units of the candidate that the shares let expect."""
    observed: int

    @property
    def is_broken(self) -> bool:
        return self.p < MISMATCH


def split_test(stretches: Sequence[Stretch]) -> SplitTest:
    """Whether units arrived in the declared shares, over all stretches.

    Stretches whose share is 0 or 1 say nothing of chance and are left out: while the candidate is withheld, or a talk is served to
    its end by the bundle that began it, units stand there that the share alone would not put there. Where even all stretches
    together are small the exact binomial test decides.

    Raises:
        InsufficientData: without units in a stretch that has two sides.

    Source: Fabijan et al. (2019), KDD, "Diagnosing sample ratio mismatch in online controlled experiments"; Pearson's chi-square
    with known shares, whose sum over independent stretches is chi-square with the sum of the degrees of freedom.

    >>> round(split_test([Stretch(share=0.5, candidate=815, baseline=849)]).p, 4)
    0.4048
    """
    open_ones = [stretch for stretch in stretches if stretch.n and not stretch.is_certain]
    at_least("units in a split", sum(stretch.n for stretch in open_ones), 1)
    parts = _judged_together(open_ones)
    statistic = math.fsum(excess * excess / variance for excess, variance in parts)
    p = _exact(open_ones) if _is_small(open_ones) else chi_squared_tail(statistic, len(parts))
    return SplitTest(
        p=p,
        statistic=statistic,
        df=len(parts),
        n=sum(stretch.n for stretch in open_ones),
        expected=math.fsum(stretch.n * stretch.share for stretch in open_ones),
        observed=sum(stretch.candidate for stretch in open_ones),
    )


def _judged_together(stretches: Sequence[Stretch]) -> list[tuple[float, float]]:
    """Excess and variance of each stretch; the small ones as one."""
    large = [(stretch.excess, stretch.variance) for stretch in stretches if _is_large(stretch)]
    small = [stretch for stretch in stretches if not _is_large(stretch)]
    if not small:
        return large
    return [*large, (math.fsum(s.excess for s in small), math.fsum(s.variance for s in small))]


def _is_large(stretch: Stretch) -> bool:
    return stretch.n * min(stretch.share, 1 - stretch.share) >= FEWEST


def _is_small(stretches: Sequence[Stretch]) -> bool:
    """Whether even together the stretches expect too few units on a side for the approximation."""
    candidate = math.fsum(stretch.n * stretch.share for stretch in stretches)
    return min(candidate, sum(stretch.n for stretch in stretches) - candidate) < FEWEST


def _exact(stretches: Sequence[Stretch]) -> float:
    """The exact p where all is small: of the counts of all stretches under their mean share, which is the most spread they can have."""
    n = sum(stretch.n for stretch in stretches)
    share = math.fsum(stretch.n * stretch.share for stretch in stretches) / n
    from scipy.stats import binomtest  # noqa: PLC0415 - slow to import, rarely needed

    return float(binomtest(sum(stretch.candidate for stretch in stretches), n, share).pvalue)
