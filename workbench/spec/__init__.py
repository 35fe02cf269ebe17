"""What people write down: app, people, bundle, gates, plan, rota, objectives, metrics, scorers. `loading` reads them with exact errors."""

from workbench.spec.app import AppSpec, Kpi, OutcomeRule, ScoreRule, StatusRule, SuccessRule, Workflow
from workbench.spec.bundle import BundleSpec
from workbench.spec.gates import AgainstBaseline, Family, GateSpec, GatesSpec
from workbench.spec.metrics import CustomMetric, MetricsSpec
from workbench.spec.online import OnlineSpec, ScorerSpec
from workbench.spec.people import PeopleSpec, Person, Role
from workbench.spec.plan import PlanSpec
from workbench.spec.rota import RotaSpec
from workbench.spec.slo import Objective, SloSpec

__all__ = [
    "AgainstBaseline",
    "AppSpec",
    "BundleSpec",
    "CustomMetric",
    "Family",
    "GateSpec",
    "GatesSpec",
    "Kpi",
    "MetricsSpec",
    "Objective",
    "OnlineSpec",
    "OutcomeRule",
    "PeopleSpec",
    "Person",
    "PlanSpec",
    "Role",
    "RotaSpec",
    "ScoreRule",
    "ScorerSpec",
    "SloSpec",
    "StatusRule",
    "SuccessRule",
    "Workflow",
]
