"""The metrics by which a canary is judged where its plan names no others."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.release.judge_model import Kind, MetricPlan, Role

QUANTILES = (0.5, 0.9, 0.95)
"""Of stable's latency before the release, whose values become thresholds."""


FAILURE_RATE = "failure_rate"
FAILURES = 4.0
"""Weight of failures against 1 of each other metric: they are the first fault to be expected, and the one that users meet.

Latency and quality have a value in every request, so that their evidence grows fast even on a small stake.
"""


def weight_of(metric: str) -> float:
    """The weight of a metric whose plan gives it none."""
    return FAILURES if metric == FAILURE_RATE else 1.0


def standard_metrics(thresholds_ms: Sequence[float] = ()) -> tuple[MetricPlan, ...]:
    """Failures, violations, tool errors, latency and quality.

    Args:
        thresholds_ms: the quantiles `QUANTILES` of stable's latency before the release; none: latency is not judged.
    """
    latency = (MetricPlan(name="latency", kind=Kind.LATENCY, thresholds_ms=tuple(thresholds_ms)),) if thresholds_ms else ()
    return (
        MetricPlan(name=FAILURE_RATE, kind=Kind.EVENT, role=Role.CRITICAL, weight=weight_of(FAILURE_RATE)),
        MetricPlan(name="violation_rate", kind=Kind.EVENT, role=Role.CRITICAL),
        MetricPlan(name="tool_error_rate", kind=Kind.EVENT),
        *latency,
        MetricPlan(name="quality", kind=Kind.SCORE, is_lower_better=False, harm=0.02, safe=(0.1, 0.07, 0.05)),
    )
