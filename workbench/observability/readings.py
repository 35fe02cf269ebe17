"""From sums to a number with its interval: one metric in one group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.observability.catalogue import Kind, Metric
from workbench.stats.cluster import ClusterSums, clustered_ratio
from workbench.stats.estimate import Estimate
from workbench.stats.proportion import clustered_rate, wilson
from workbench.stats.quantile import METHOD as ORDER_STATISTICS
from workbench.stats.quantile import bounded

TOTAL = "total, no interval"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a metric says in one group. Without data `value` is None, and so are the ends of the interval."""

    value: float | None
    n: int
    count: int | None
    low: float | None
    high: float | None
    level: float
    method: str

    def as_estimate(self) -> Estimate | None:
        """The same as an estimate; None without data."""
        if self.value is None:
            return None
        return Estimate(value=self.value, low=self.low, high=self.high, level=self.level, method=self.method, n=self.n)


def read(metric: Metric, sums: Mapping[str, Any], number: int, *, level: float) -> Reading:
    """The number under the sums `y x k groups squares low high` with this number as suffix."""
    y, x, k = (sums.get(f"{letter}{number}") for letter in "yxk")
    n = int(k or 0)
    count = int(y or 0) if metric.kind is Kind.RATE else None
    estimate = _estimate(metric, sums, number, level) if n and y is not None and (x or not _divides(metric)) else None
    if estimate is None:
        return Reading(value=None, n=n, count=count, low=None, high=None, level=level, method=_METHODS[metric.kind])
    low, high, method = estimate.low, estimate.high, estimate.method
    return Reading(value=estimate.value, n=n, count=count, low=low, high=high, level=level, method=method)


def _divides(metric: Metric) -> bool:
    return metric.kind in {Kind.RATE, Kind.MEAN, Kind.RATIO}


def _estimate(metric: Metric, sums: Mapping[str, Any], number: int, level: float) -> Estimate:
    y, x, n = float(sums[f"y{number}"]), float(sums[f"x{number}"] or 0), int(sums[f"k{number}"])
    if metric.kind is Kind.QUANTILE:
        return bounded(y, sums.get(f"low{number}"), sums.get(f"high{number}"), level=level, n=n)
    if not _divides(metric):
        return Estimate(value=y, low=None, high=None, level=level, method=TOTAL, n=n)
    known = sums.get(f"groups{number}")
    if known is None:
        return Estimate(value=y / x, low=None, high=None, level=level, method=_METHODS[metric.kind], n=n)
    groups = int(known)
    if metric.kind is Kind.RATE and groups == n:
        return wilson(y, x, level=level)
    clusters = ClusterSums(n=n, groups=groups, y=y, x=x, squares=float(sums[f"squares{number}"] or 0))
    return clustered_rate(clusters, level=level) if metric.kind is Kind.RATE else clustered_ratio(clusters, level=level)


_METHODS = {
    Kind.COUNT: TOTAL,
    Kind.SUM: TOTAL,
    Kind.QUANTILE: ORDER_STATISTICS,
    Kind.RATE: "wilson",
    Kind.MEAN: "t",
    Kind.RATIO: "t",
}
