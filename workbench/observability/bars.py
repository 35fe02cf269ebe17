"""Do the gates, the plan and the objectives of an app name metrics that exist, with bars in the metric's unit? Pure."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.observability.catalogue import CATALOGUE, Kind, Metric, kpi_metric
from workbench.spec.app import AppSpec
from workbench.spec.faults import suggestion
from workbench.spec.gates import GatesSpec
from workbench.spec.plan import PlanSpec
from workbench.spec.slo import INDICATORS, SloSpec


def faults(app: AppSpec, gates: GatesSpec | None, plan: PlanSpec | None, slo: SloSpec | None = None) -> tuple[str, ...]:
    """One sentence for each metric that nobody defines and each bar that its metric cannot reach, with file and place."""
    known = {**{kpi.name: kpi_metric(kpi) for kpi in app.kpis}, **CATALOGUE}
    return (*_gate_faults(gates, known), *_plan_faults(plan, known), *_slo_faults(slo))


def _gate_faults(gates: GatesSpec | None, known: dict[str, Metric]) -> Iterator[str]:
    for number, gate in enumerate(gates.gates if gates else ()):
        place = f"gates.yaml: gates[{number}]"
        if gate.metric not in known:
            yield f"{place}.metric: no metric is called {gate.metric}{suggestion(gate.metric, known)}"
            continue
        for name in ("at_least", "at_most"):
            bar = getattr(gate, name)
            if bar is not None and known[gate.metric].unit == "share" and not 0 <= bar <= 1:
                yield f"{place}.{name}: got {bar:g}; {gate.metric} is a share, from 0 to 1 (90 % is 0.9)"


def _plan_faults(plan: PlanSpec | None, known: dict[str, Metric]) -> Iterator[str]:
    for number, criterion in enumerate(plan.rollback.criteria if plan and plan.rollback else ()):
        if criterion.metric not in known:
            near = suggestion(criterion.metric, known)
            yield f"plan.yaml: rollback.criteria[{number}].metric: no metric is called {criterion.metric}{near}"


def _slo_faults(slo: SloSpec | None) -> Iterator[str]:
    rates = [metric.name for metric in CATALOGUE.values() if metric.kind is Kind.RATE]
    for number, objective in enumerate(slo.objectives if slo else ()):
        if objective.indicator not in (*INDICATORS, *rates):
            near = suggestion(objective.indicator, (*INDICATORS, *rates))
            yield f"slo.yaml: objectives[{number}].indicator: no indicator and no rate is called {objective.indicator}{near}"
