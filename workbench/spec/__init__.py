"""What people write down: app, people, bundle, gates, plan, rota and objectives. See `loading` for reading them with exact errors."""

from workbench.spec.app import AppSpec, Kpi, OutcomeRule, ScoreRule, StatusRule, SuccessRule, Workflow
from workbench.spec.bundle import BundleSpec
from workbench.spec.gates import AgainstBaseline, Family, GateSpec, GatesSpec
from workbench.spec.people import PeopleSpec, Person, Role
from workbench.spec.plan import PlanSpec
from workbench.spec.rota import RotaSpec
from workbench.spec.slo import Objective, SloSpec

__all__ = [
    "AgainstBaseline",
    "AppSpec",
    "BundleSpec",
    "Family",
    "GateSpec",
    "GatesSpec",
    "Kpi",
    "Objective",
    "OutcomeRule",
    "PeopleSpec",
    "Person",
    "PlanSpec",
    "Role",
    "RotaSpec",
    "ScoreRule",
    "SloSpec",
    "StatusRule",
    "SuccessRule",
    "Workflow",
]
