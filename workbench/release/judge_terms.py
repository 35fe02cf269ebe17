"""What the judge is asked about a release: the plan's metrics and margins, with what the stable bundle did before. Pure.

Margins, for a tolerated ratio r of the plan and the ratio m that a step must rule out:

    events      failures, violations …   harm: ratio above r                                   safe: ratio below m, at least 1.25 r
    violations  with a gate's limit      harm: the candidate's rate above the limit            safe: below m times the limit
    latencies   p50, p90, p95            harm: above r x the stable quantiles of before        safe: such requests' ratio below m
    scores      quality in [0, 1]        harm: loss above (1 - 1/r) of the stable mean         safe: 0.03 above that, at least 0.05
    cost        USD of a request         harm: rise above (r - 1) of the stable mean           safe: (m - 1) of it, at least twice that
    KPI, rate   talks that reached it    harm: stable/candidate ratio above r                  safe: ratio below m, at least 1.25 r
    KPI, amount value of a talk          harm: loss above (1 - 1/r) of the stable mean         safe: (1 - 1/m) of it

Where most talks reach a KPI few miss it, and those tell more of harm: its harm margin is then the ratio of misses that r makes of the
stable rate p before the release, (1 - p/r) / (1 - p), which is 1 where r is. Its safe margin stays m of those that reached it: a margin of
misses, made at 0.9, would let a total loss pass where stable has come down to 0.6. For the same reason harm is looked for among those that
reached it, too, above r. Where r is above 1 and stable's rate has risen since, a tolerated loss, but never a candidate that loses nothing,
is taken back more often than alpha. Where less of a KPI is better, its margins are those of an event, and of an amount those of a cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from workbench.errors import UsageError
from workbench.observability.impact_model import TalksBefore
from workbench.observability.release_results import Awaited
from workbench.release.judge_kinds import DECIDING, Kind, Role
from workbench.release.judge_model import JudgePlan, MetricPlan, plain
from workbench.spec.gates import GatesSpec
from workbench.spec.plan import EVENTS, PlanSpec, is_latency

QUALITY, COST = "quality_mean", "cost_usd"
QUANTILES = ("latency_p50", "latency_p90", "latency_p95")
FAILURES, VIOLATIONS = "failure_rate", "violation_rate"
_WEIGHT_OF_FAILURES = 4.0
"""They are the first fault to be expected, and the one that users meet; latency and quality have a value in every request, so that
their evidence grows fast even on a small stake."""
_MOST_SHARE = 0.99
_FEW_MISS = 0.5
"""Share of talks that reach a KPI above which those that miss it tell more."""
_EVENT_ROOM, _SCORE_ROOM, _LEAST_SAFE_LOSS, _LEAST_SAFE_RISE = 1.25, 0.03, 0.05, 0.1
_COST_RANGE = 20.0
"""Greatest cost of a request that can be, in stable means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the stable bundle did before the release, by metric; a metric without data is not there."""

    values: Mapping[str, float]
    limits: Mapping[str, float] = field(default_factory=dict)
    """The most that a gate allows, by metric: what holds where there is nothing to compare with, and for violations always."""
    bars: Mapping[str, float] = field(default_factory=dict)
    """Name of each score that decides success to the value below which it says failure."""
    is_compared: bool = True
    """Whether a stable bundle serves beside the candidate; a first release has none."""
    results: Mapping[str, TalksBefore] = field(default_factory=dict)
    """What the stable bundle's talks came to, by KPI: those of the app's KPIs that the plan names."""
    units_per_day: float | None = None
    """Different units that come to the app in a day; None where that is not known."""


def limits_of(gates: GatesSpec | None) -> dict[str, float]:
    """The most that the gates allow in the whole app, by metric: the least of several.

    A gate of one workflow is no limit of the whole app, and one that blocks nothing limits nothing.
    """
    limits: dict[str, float] = {}
    for gate in gates.gates if gates else ():
        if gate.at_most is not None and gate.is_blocking and not gate.where:
            limits[gate.metric] = min(gate.at_most, limits.get(gate.metric, gate.at_most))
    return limits


def weight_of(metric: str) -> float:
    """The weight of a metric whose plan gives it none."""
    return _WEIGHT_OF_FAILURES if metric == FAILURES else 1.0


def judge_plan(plan: PlanSpec, baseline: Baseline) -> tuple[JudgePlan, tuple[str, ...]]:
    """What the judge is asked, and one sentence for each metric of the plan that it cannot follow.

    Raises:
        UsageError: no metric that may take the candidate back can be judged.
    """
    left_out: list[str] = []
    metrics = tuple(_metrics(plan, baseline, left_out))
    if not any(metric.may_take_back for metric in metrics):
        raise UsageError(
            "rollback criteria",
            seen="; ".join(left_out) or "there are none",
            needed=f"one of {', '.join(sorted(EVENTS))}, or another metric that the stable bundle has data of",
            next_step="correct rollback.criteria in plan.yaml",
        )
    return (
        JudgePlan(
            metrics=metrics,
            n_steps=len(plan.steps),
            min_units=tuple(step.min_units for step in plan.steps),
        ),
        tuple(left_out),
    )


def as_json(
    plan: JudgePlan, left_out: Sequence[str] = (), bars: Mapping[str, float] | None = None, awaited: Sequence[Awaited] = ()
) -> dict[str, Any]:
    """The judge's plan for the ledger, with what it leaves out, which scores are failures, and how its KPIs are read.

    `from_json`, `bars_of` and `awaited_of` give it back.
    """
    known = {each.name: plain(getattr(plan, each.name)) for each in fields(plan)}
    return {**known, "left_out": list(left_out), "bars": dict(bars or {}), "awaited": [each.as_json() for each in awaited]}


def awaited_in(plan: JudgePlan, baseline: Baseline) -> tuple[Awaited, ...]:
    """How the KPIs of the judge's plan are read."""
    kpis = [baseline.results[metric.name].kpi for metric in plan.metrics if metric.within_us is not None]
    return tuple(Awaited.of(kpi, kpi.within) for kpi in kpis if kpi.within is not None)


def awaited_of(content: Mapping[str, Any]) -> tuple[Awaited, ...]:
    """How its KPIs are read, as it was stored."""
    return tuple(Awaited(**each) for each in content.get("awaited", ()))


def bars_of(content: Mapping[str, Any]) -> Mapping[str, float]:
    """Name of each score that decides success to its bar, as it was stored."""
    return {name: float(bar) for name, bar in content["bars"].items()}


def from_json(content: Mapping[str, Any]) -> JudgePlan:
    """The judge's plan as it was stored."""
    known = {field.name for field in fields(JudgePlan)}
    values = {name: value for name, value in content.items() if name in known}
    metrics = tuple(
        MetricPlan(
            **{
                **metric,
                "kind": Kind(metric["kind"]),
                "role": Role(metric["role"]),
                "safe": tuple(metric["safe"]),
                "thresholds_ms": tuple(metric["thresholds_ms"]),
            }
        )
        for metric in values["metrics"]
    )
    return JudgePlan(**{**values, "metrics": metrics, "min_units": tuple(values["min_units"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """One metric of the plan."""

    name: str
    role: Role
    ratio: float
    weight: float
    margins: tuple[float, ...]
    """The ratio that each step rules out."""

    @property
    def safe(self) -> tuple[float, ...]:
        """The same with room above the ratio that is tolerated."""
        return tuple(max(margin, self.ratio * _EVENT_ROOM) for margin in self.margins)


def _metrics(plan: PlanSpec, baseline: Baseline, left_out: list[str]) -> Iterator[MetricPlan]:
    for wanted in _wanted(plan):
        known = baseline.results.get(wanted.name)
        made = _kpi(wanted, known) if known is not None else _metric(wanted, baseline)
        if isinstance(made, str):
            left_out.append(f"{wanted.name}: {made}")
        else:
            yield made


def _wanted(plan: PlanSpec) -> Iterator[_Wanted]:
    margins = _margins(plan)
    for each in plan.rollback.criteria if plan.rollback else ():
        yield _Wanted(
            name=each.metric, role=Role(each.role), ratio=each.ratio, weight=each.weight or weight_of(each.metric), margins=margins
        )
    for watched in plan.watch:
        yield _Wanted(name=watched.metric, role=Role(watched.role), ratio=watched.ratio, weight=weight_of(watched.metric), margins=margins)


def _metric(wanted: _Wanted, baseline: Baseline) -> MetricPlan | str:
    """How a metric is judged, or why it cannot be."""
    limit = baseline.limits.get(wanted.name)
    if wanted.name in EVENTS and limit is not None and (wanted.name == VIOLATIONS or not baseline.is_compared):
        return _allowance(wanted, limit)
    if not baseline.is_compared:
        return "a first release has nothing to compare with, and no gate limits it"
    if wanted.name in EVENTS:
        return MetricPlan(name=wanted.name, kind=Kind.EVENT, role=wanted.role, weight=wanted.weight, harm=wanted.ratio, safe=wanted.safe)
    if is_latency(wanted.name):
        return _latency(wanted, baseline)
    mean = baseline.values.get(wanted.name)
    if wanted.name in (QUALITY, COST) and mean is not None and mean > 0:
        return _quality(wanted, mean) if wanted.name == QUALITY else _cost(wanted, mean)
    return "the stable bundle has no data of it before the release" if wanted.name in (QUALITY, COST) else "no test of the judge follows it"


def _allowance(wanted: _Wanted, limit: float) -> MetricPlan:
    safe = tuple(min(margin * limit, _MOST_SHARE) for margin in wanted.margins)
    return MetricPlan(name=wanted.name, kind=Kind.BUDGET, role=wanted.role, weight=wanted.weight, harm=limit, safe=safe)


def _latency(wanted: _Wanted, baseline: Baseline) -> MetricPlan | str:
    thresholds = tuple(sorted({baseline.values[name] for name in QUANTILES if baseline.values.get(name, 0) > 0}))
    if not thresholds:
        return "the stable bundle has no data of it before the release"
    return MetricPlan(
        name=wanted.name,
        kind=Kind.LATENCY,
        role=wanted.role,
        weight=wanted.weight,
        safe=wanted.margins,
        thresholds_ms=thresholds,
        slack=wanted.ratio - 1,
    )


def _quality(wanted: _Wanted, mean: float) -> MetricPlan:
    harm = mean * (1 - 1 / wanted.ratio)
    safe = (max(harm + _SCORE_ROOM, _LEAST_SAFE_LOSS),)
    return MetricPlan(
        name=wanted.name, kind=Kind.SCORE, role=wanted.role, is_lower_better=False, weight=wanted.weight, harm=harm, safe=safe
    )


def _cost(wanted: _Wanted, mean: float) -> MetricPlan:
    rise = wanted.ratio - 1
    safe = tuple(max(margin - 1, 2 * rise, _LEAST_SAFE_RISE) * mean for margin in wanted.margins)
    return MetricPlan(
        name=wanted.name,
        kind=Kind.SCORE,
        role=wanted.role,
        weight=wanted.weight,
        harm=rise * mean,
        safe=safe,
        high=_COST_RANGE * mean,
    )


def _kpi(wanted: _Wanted, before: TalksBefore) -> MetricPlan | str:
    kpi = before.kpi
    if kpi.within is None:
        return "the app declares no `within` of it, so nobody knows when it was missed"
    common: dict[str, Any] = {
        "name": wanted.name,
        "role": wanted.role,
        "weight": wanted.weight,
        "is_lower_better": kpi.direction == "lower_is_better",
        "within_us": Awaited.of(kpi, kpi.within).within_us,
    }
    if kpi.aggregate != "rate":
        return _amount(wanted, before, common)
    if common["is_lower_better"]:
        return MetricPlan(**common, kind=Kind.EVENT, harm=wanted.ratio, safe=wanted.safe)
    if before.mean is not None and _FEW_MISS < before.mean <= _MOST_SHARE:
        missed = (1 - before.mean / wanted.ratio) / (1 - before.mean)
        return MetricPlan(**common, kind=Kind.MOSTLY_REACHED, harm=missed, harm_reached=wanted.ratio, safe=wanted.safe)
    return MetricPlan(**common, kind=Kind.REACHED, harm=wanted.ratio, safe=wanted.safe)


def _amount(wanted: _Wanted, before: TalksBefore, common: Mapping[str, Any]) -> MetricPlan | str:
    if wanted.role in DECIDING:
        return "an amount takes no candidate back; name it in `watch` with `role: kpi`"
    if before.mean is None:
        return "the stable bundle has no data of it before the release"
    if before.mean <= 0 or before.high <= before.low:
        return f"of a mean of {before.mean:g} before the release no ratio can be tolerated"
    harm, *safe = (before.mean * (ratio - 1 if common["is_lower_better"] else 1 - 1 / ratio) for ratio in (wanted.ratio, *wanted.safe))
    return MetricPlan(
        **common,
        kind=Kind.AMOUNT,
        harm=harm,
        safe=tuple(safe),
        low=before.low,
        high=before.high,
        unit=f"{before.kpi.unit} of a talk",
    )


def _margins(plan: PlanSpec) -> tuple[float, ...]:
    """The ratio that each step rules out. Where nobody is left for comparison nothing more can be: what was ruled out before stands."""
    found: list[float] = []
    for step in plan.steps:
        found.append(step.ruled_out if step.share < 1 or not found else found[-1])
    return tuple(found)
