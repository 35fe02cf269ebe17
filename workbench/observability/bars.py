"""Do the gates, the plan and the objectives of an app name metrics that exist, with bars in the metric's unit? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.observability.catalogue import CATALOGUE, find, kpi_metric
from workbench.observability.custom_metrics import custom_metric
from workbench.observability.metric import Kind, Metric
from workbench.spec.app import AppSpec
from workbench.spec.faults import suggestion
from workbench.spec.gates import DRILL_METRIC, GatesSpec
from workbench.spec.metrics import MetricsSpec
from workbench.spec.plan import PlanSpec
from workbench.spec.slo import INDICATORS, SloSpec


def faults(
    app: AppSpec, gates: GatesSpec | None, plan: PlanSpec | None, slo: SloSpec | None = None, metrics: MetricsSpec | None = None
) -> tuple[str, ...]:
    """One sentence for each metric that nobody or several define and each bar that its metric cannot reach, with file and place."""
    own = {metric.name: custom_metric(metric, (app.app,)) for metric in (metrics.metrics if metrics else ())}
    known = {**{kpi.name: kpi_metric(kpi) for kpi in app.kpis}, **own, **CATALOGUE}
    return (*_taken(own), *_gate_faults(gates, known), *_plan_faults(plan, known), *_slo_faults(slo))


def _taken(own: dict[str, Metric]) -> Iterator[str]:
    for number, name in enumerate(own):
        if find(name) is not None:
            yield f"metrics.yaml: metrics[{number}].name: {name} is a metric of the catalogue; rename it"


def _gate_faults(gates: GatesSpec | None, known: dict[str, Metric]) -> Iterator[str]:
    for number, gate in enumerate(gates.gates if gates else ()):
        if gate.metric == DRILL_METRIC:
            continue
        place = f"gates.yaml: gates[{number}]"
        metric = known.get(gate.metric) or find(gate.metric)
        if metric is None:
            yield f"{place}.metric: no metric is called {gate.metric}{suggestion(gate.metric, known)}"
            continue
        for name in ("at_least", "at_most"):
            bar = getattr(gate, name)
            if bar is not None and metric.unit == "share" and not 0 <= bar <= 1:
                yield f"{place}.{name}: got {bar:g}; {gate.metric} is a share, from 0 to 1 (90 % is 0.9)"


def _plan_faults(plan: PlanSpec | None, known: dict[str, Metric]) -> Iterator[str]:
    criteria = plan.rollback.criteria if plan and plan.rollback else ()
    named = [(f"rollback.criteria[{number}]", criterion.metric) for number, criterion in enumerate(criteria)]
    named += [(f"watch[{number}]", watched.metric) for number, watched in enumerate(plan.watch if plan else ())]
    for place, name in named:
        if name not in known and find(name) is None:
            yield f"plan.yaml: {place}.metric: no metric is called {name}{suggestion(name, known)}"


def _slo_faults(slo: SloSpec | None) -> Iterator[str]:
    rates = [metric.name for metric in CATALOGUE.values() if metric.kind is Kind.RATE]
    for number, objective in enumerate(slo.objectives if slo else ()):
        if objective.indicator not in (*INDICATORS, *rates):
            near = suggestion(objective.indicator, (*INDICATORS, *rates))
            yield f"slo.yaml: objectives[{number}].indicator: no indicator and no rate is called {objective.indicator}{near}"
