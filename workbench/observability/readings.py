"""From sums to a number with its interval: one metric in one group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from workbench.observability.metric import Kind, Metric
from workbench.stats.cluster import ClusterSums, clustered_ratio, effective_size
from workbench.stats.estimate import Estimate
from workbench.stats.proportion import clustered_rate, wilson
from workbench.stats.quantile import METHOD as ORDER_STATISTICS
from workbench.stats.quantile import bounded

TOTAL = "total, no interval"
_SUMS = ("y", "x", "k", "bad", "eligible", "measured", "groups", "named", "spread", "squares", "low", "high")


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
    n_clusters: int | None
    """Units under the number, a request without one counted as its own; None where no unit is known, or none was asked for."""
    n_effective: float | None
    """Observations of equal weight from units of their own that say as much; None where clusters were not asked for."""
    n_eligible: int | None
    """Rows that should hold an observation; None where nobody can say."""
    measured_share: float | None
    """Of the eligible rows, the share that holds an observation or that a sampled one stands for; None without eligible rows."""
    fault: str | None = None
    """What the stored rows say that cannot be; then there is no value."""

    def as_estimate(self) -> Estimate | None:
        """The same as an estimate; None without data."""
        if self.value is None:
            return None
        return Estimate(value=self.value, low=self.low, high=self.high, level=self.level, method=self.method, n=self.n)


def read(metric: Metric, sums: Mapping[str, Any], number: int, *, level: float) -> Reading:
    """The number under those of the sums `_SUMS` that have this number as suffix."""
    own = {name: sums[numbered] for name in _SUMS if (numbered := f"{name}{number}") in sums}
    y, x, n = own.get("y"), own.get("x"), int(own.get("k") or 0)
    is_unusable = bool(own.get("bad"))
    is_known = not is_unusable and n and y is not None and (x or not _divides(metric))
    estimate = _estimate(metric, own, level) if is_known else None
    return Reading(
        value=estimate.value if estimate else None,
        n=n,
        count=int(y or 0) if metric.kind is Kind.RATE else None,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        level=level,
        method=estimate.method if estimate else _METHODS[metric.kind],
        n_clusters=int(own["groups"]) if own.get("named") else None,
        n_effective=_effective(metric, own),
        n_eligible=int(own["eligible"] or 0) if "eligible" in own else None,
        measured_share=min(1.0, float(own["measured"] or 0) / int(own["eligible"])) if own.get("eligible") else None,
        fault=_fault(metric, own) if is_unusable else None,
    )


def _divides(metric: Metric) -> bool:
    return metric.kind in {Kind.RATE, Kind.MEAN, Kind.RATIO}


def _fault(metric: Metric, own: Mapping[str, Any]) -> str:
    bad = int(own["bad"])
    rows = f"{bad:,} {'row says' if bad == 1 else 'rows say'}"
    if metric.kind is Kind.RATE:
        return f"{rows} that a part is larger than its whole; all rows together count {int(own['y'] or 0):,} of {int(own['x'] or 0):,}"
    return f"{rows} a value that cannot be, among {int(own['k'] or 0):,} observations"


def _effective(metric: Metric, own: Mapping[str, Any]) -> float | None:
    if own.get("groups") is None:
        return None
    weight = float(own["x" if _divides(metric) else "k"] or 0)
    return effective_size(weight, float(own["spread"] or 0), most=int(own["groups"]))


def _estimate(metric: Metric, own: Mapping[str, Any], level: float) -> Estimate:
    y, x, n = float(own["y"]), float(own["x"] or 0), int(own["k"])
    if metric.kind is Kind.QUANTILE:
        return bounded(y, own.get("low"), own.get("high"), level=level, n=n)
    if not _divides(metric):
        return Estimate(value=y, low=None, high=None, level=level, method=TOTAL, n=n)
    if own.get("groups") is None:
        return Estimate(value=y / x, low=None, high=None, level=level, method=_METHODS[metric.kind], n=n)
    groups = int(own["groups"])
    if metric.kind is Kind.RATE and groups == n:
        return wilson(y, x, level=level)
    clusters = ClusterSums(n=n, groups=groups, y=y, x=x, squares=float(own["squares"] or 0), spread=float(own["spread"] or 0))
    if metric.kind is Kind.RATE:
        return clustered_rate(clusters, level=level)
    estimate = clustered_ratio(clusters, level=level, within=metric.within)
    return _within(estimate, 0.0, 1.0) if metric.is_weighted and metric.unit == "share" else estimate


def _within(estimate: Estimate, least: float, most: float) -> Estimate:
    low, high = estimate.low, estimate.high
    return replace(estimate, low=None if low is None else max(least, low), high=None if high is None else min(most, high))


_METHODS = {
    Kind.COUNT: TOTAL,
    Kind.SUM: TOTAL,
    Kind.DISTINCT: TOTAL,
    Kind.QUANTILE: ORDER_STATISTICS,
    Kind.RATE: "wilson",
    Kind.MEAN: "t",
    Kind.RATIO: "t",
}
