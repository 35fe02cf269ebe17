"""Where the specs of one app contradict each other: names that nobody declared, and rules that would lock everybody out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workbench.spec.app import AppSpec
from workbench.spec.document import Path
from workbench.spec.faults import suggestion
from workbench.spec.gates import GatesSpec
from workbench.spec.metrics import MetricsSpec
from workbench.spec.people import PeopleSpec, Role
from workbench.spec.plan import OF_CATALOGUE, PlanSpec, can_be_judged
from workbench.spec.rota import RotaSpec
from workbench.spec.slo import SloSpec

UNASSIGNED = "unassigned"
"""The workflow of requests that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One place in one file that does not fit another file."""

    file: str
    path: Path
    text: str


def disagreements(
    *,
    app: AppSpec | None,
    people: PeopleSpec | None,
    gates: GatesSpec | None,
    plan: PlanSpec | None,
    rota: RotaSpec | None,
    slo: SloSpec | None = None,
    metrics: MetricsSpec | None = None,
) -> Iterator[Disagreement]:
    """Every contradiction between the specs that are there; what is None is not checked against."""
    if people is not None:
        named = [*(_people_of_app(app) if app else ()), *(_people_of_rota(rota) if rota else ()), *(_people_of_slo(slo) if slo else ())]
        yield from _unknown_people(named, people)
    if app is not None and people is not None:
        yield from _locked_out(app, people)
    if app is not None and gates is not None:
        yield from _unknown_workflows(app, _gate_workflows(gates))
    if app is not None and slo is not None:
        yield from _unknown_workflows(app, _slo_workflows(slo))
    if app is not None and metrics is not None:
        yield from _names_of_kpis(app, metrics)
    if app is not None and plan is not None:
        yield from _kpis_of_plan(app, plan)
    if app is not None and plan is not None and plan.rollback is not None and plan.rollback.target == "fallback" and app.fallback is None:
        yield Disagreement(file="plan.yaml", path=("rollback", "target"), text='got "fallback", but app.yaml declares no fallback')
    if app is not None and plan is not None and plan.shadow is not None and app.serving == "external":
        text = "app.yaml says `serving: external`: its requests do not come through the gateway, so none can be mirrored; leave it out"
        yield Disagreement(file="plan.yaml", path=("shadow",), text=text)


_Named = tuple[str, Path, str]


def _people_of_app(app: AppSpec) -> Iterator[_Named]:
    if app.owner is not None:
        yield "app.yaml", ("owner",), app.owner
    for index, kpi in enumerate(app.kpis):
        if kpi.owner is not None:
            yield "app.yaml", ("kpis", index, "owner"), kpi.owner
    for index, risk in enumerate(app.risks):
        if risk.owner is not None:
            yield "app.yaml", ("risks", index, "owner"), risk.owner
    for index, step in enumerate(app.escalation):
        yield "app.yaml", ("escalation", index, "to"), step.to


def _people_of_rota(rota: RotaSpec) -> Iterator[_Named]:
    for index, layer in enumerate(rota.layers):
        for position, person in enumerate(layer.people):
            yield "rota.yaml", ("layers", index, "people", position), person
    for index, override in enumerate(rota.overrides):
        yield "rota.yaml", ("overrides", index, "person"), override.person
    for index, absence in enumerate(rota.absences):
        yield "rota.yaml", ("absences", index, "person"), absence.person


def _people_of_slo(slo: SloSpec) -> Iterator[_Named]:
    if slo.owner is not None:
        yield "slo.yaml", ("owner",), slo.owner
    for index, objective in enumerate(slo.objectives):
        if objective.owner is not None:
            yield "slo.yaml", ("objectives", index, "owner"), objective.owner


def _unknown_people(named: Iterable[_Named], people: PeopleSpec) -> Iterator[Disagreement]:
    for file, path, person in named:
        if person not in people.people:
            yield Disagreement(file=file, path=path, text=f'"{person}" is not in people.yaml{suggestion(person, people.people)}')


def _locked_out(app: AppSpec, people: PeopleSpec) -> Iterator[Disagreement]:
    """A people.yaml under which nobody could ever change people.yaml again."""
    admins = {
        name: person for name, person in people.people.items() if Role.ADMIN in (*person.roles.get(app.app, ()), *person.roles.get("*", ()))
    }
    path: Path = ("people",)
    if not admins:
        yield Disagreement(
            file="people.yaml", path=path, text=f'nobody has the role "admin" for {app.app} or "*": nobody could change this file again'
        )
    elif not any(person.os or person.slack for person in admins.values()):
        text = f"no admin ({', '.join(sorted(admins))}) has an `os` login or a `slack` id: nobody could change this file again"
        yield Disagreement(file="people.yaml", path=path, text=text)


def _names_of_kpis(app: AppSpec, metrics: MetricsSpec) -> Iterator[Disagreement]:
    kpis = {kpi.name for kpi in app.kpis}
    for index, metric in enumerate(metrics.metrics):
        if metric.name in kpis:
            yield Disagreement(
                file="metrics.yaml", path=("metrics", index, "name"), text=f'"{metric.name}" is a KPI of app.yaml; rename one'
            )


def _kpis_of_plan(app: AppSpec, plan: PlanSpec) -> Iterator[Disagreement]:
    """KPIs that a canary cannot be judged by as the plan wants, and names that are none."""
    kpis = {kpi.name: kpi for kpi in app.kpis}
    for index, criterion in enumerate(plan.rollback.criteria if plan.rollback else ()):
        kpi = kpis.get(criterion.metric)
        path: Path = ("rollback", "criteria", index, "metric")
        if can_be_judged(criterion.metric, app.kpis):
            continue
        if kpi is None:
            judged = (*OF_CATALOGUE, *(each.name for each in app.kpis if can_be_judged(each.name, app.kpis)))
            text = f'"{criterion.metric}" takes no candidate back: no canary is judged by it{suggestion(criterion.metric, judged)}'
            yield Disagreement(file="plan.yaml", path=path, text=text)
        elif kpi.aggregate != "rate":
            text = f'KPI "{kpi.name}" is a {kpi.aggregate}, which may hold a release and takes none back; name it in watch with role: kpi'
            yield Disagreement(file="plan.yaml", path=path, text=text)
        elif kpi.within is None:
            yield Disagreement(file="plan.yaml", path=path, text=_NEVER_OVER.format(kpi.name))
    for index, watched in enumerate(plan.watch):
        kpi, path = kpis.get(watched.metric), ("watch", index, "metric")
        if can_be_judged(watched.metric, app.kpis):
            continue
        if kpi is not None and kpi.within is None:
            yield Disagreement(file="plan.yaml", path=path, text=_NEVER_OVER.format(kpi.name))
        elif kpi is None and watched.role == "kpi":
            text = f'KPI "{watched.metric}" is not declared in app.yaml{suggestion(watched.metric, kpis)}'
            yield Disagreement(file="plan.yaml", path=path, text=text)


_NEVER_OVER = 'KPI "{}" has no `within` in app.yaml: a canary would never know that it was missed'


def _gate_workflows(gates: GatesSpec) -> Iterator[_Named]:
    for index, gate in enumerate(gates.gates):
        if "workflow" in gate.where:
            yield "gates.yaml", ("gates", index, "where", "workflow"), gate.where["workflow"]


def _slo_workflows(slo: SloSpec) -> Iterator[_Named]:
    for index, objective in enumerate(slo.objectives):
        if objective.workflow is not None:
            yield "slo.yaml", ("objectives", index, "workflow"), objective.workflow


def _unknown_workflows(app: AppSpec, named: Iterable[_Named]) -> Iterator[Disagreement]:
    known = [workflow.name for workflow in app.workflows]
    for file, path, workflow in named:
        if workflow not in (*known, UNASSIGNED):
            text = f'workflow "{workflow}" is not declared in app.yaml{suggestion(workflow, known)}'
            yield Disagreement(file=file, path=path, text=text)
