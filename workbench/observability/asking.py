"""What is asked, resolved: names to metrics, apps to their rules, words to windows. Pure but for the callables it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import ibis
import ibis.expr.types as ir

from workbench.errors import SpecError, UsageError
from workbench.observability.catalogue import CATALOGUE, FAMILIES, check_percentile, find, kpi_metric
from workbench.observability.custom_metrics import custom_metric
from workbench.observability.dimensions import FAILURE_REASON, TIME, Filters, condition, unknown
from workbench.observability.facts import ASKED, Selection, kpi_facts, request_facts
from workbench.observability.metric import Metric, needs_of
from workbench.observability.model import Window
from workbench.observability.query import contributions
from workbench.observability.success import SuccessRules
from workbench.spec.app import AppSpec, Kpi
from workbench.spec.metrics import CustomMetric, MetricsSpec

FIRST_SESSION_RULES, SESSION_RULES = 1, 2
"""Of a rate with `within`. 1: a session's time ran from its newest request, an event's from its own. 2: both from the session's first."""
_LISTED = "`workbench metrics list` names all, with --app APP its KPIs and own metrics too"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """The declarations under a query: success rules, and the KPIs and the apps' own metrics by name and app."""

    rules: SuccessRules = field(default_factory=SuccessRules)
    kpis: Mapping[str, Mapping[str, Kpi]] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, CustomMetric]] = field(default_factory=dict)

    @classmethod
    def of(cls, specs: Sequence[AppSpec], metrics: Mapping[str, MetricsSpec] | None = None) -> Definitions:
        """The declarations of these apps, with their metrics by app."""
        own: dict[str, dict[str, CustomMetric]] = {}
        for app, declared in (metrics or {}).items():
            for metric in declared.metrics:
                own.setdefault(metric.name, {})[app] = metric
        kpis: dict[str, dict[str, Kpi]] = {}
        for spec in specs:
            for kpi in spec.kpis:
                kpis.setdefault(kpi.name, {})[spec.app] = kpi
        return cls(rules=SuccessRules.of(specs), kpis=kpis, own=own)

    @classmethod
    def declared(
        cls, apps: Sequence[str], app_spec: Callable[[str], AppSpec | None], app_metrics: Callable[[str], MetricsSpec | None]
    ) -> Definitions:
        """What these apps declare; nobody has to have declared an app."""
        specs = [spec for app in apps if (spec := app_spec(app)) is not None]
        return cls.of(specs, {app: metrics for app in apps if (metrics := app_metrics(app)) is not None})

    def metric(self, name: str) -> Metric:
        """The metric of that name, from the catalogue, from a KPI or from an app's own metrics.

        Raises:
            UnknownSubject: when there is none.
            SpecError: when a KPI or an app's own metric has the name of another.
            UsageError: when apps declare it differently.
        """
        declared, own = self.kpis.get(name, {}), self.own.get(name, {})
        known = find(name)
        if own:
            return self._own_metric(name, own)
        if known is not None and declared:
            raise SpecError(
                f"KPI {name} of {', '.join(declared)}",
                seen="the metric catalogue has a metric of this name",
                needed="a name of its own",
                next_step="rename the KPI in app.yaml",
            )
        if known is not None:
            return known
        if not declared:
            check_percentile(name)
            known_names = (*CATALOGUE, *self.kpis, *self.own, *(family.name for family in FAMILIES))
            raise unknown("metric", name, known_names, listed_by=_LISTED)
        if len({(kpi.aggregate, kpi.unit, kpi.direction) for kpi in declared.values()}) > 1:
            apps = ", ".join(declared)
            raise UsageError(f"KPI {name}", seen=f"{apps} declare it with different units or aggregates", next_step="ask for one app")
        return kpi_metric(next(iter(declared.values())))

    def _own_metric(self, name: str, own: Mapping[str, CustomMetric]) -> Metric:
        if find(name) is not None or name in self.kpis:
            raise SpecError(
                f"metric {name} of {', '.join(own)}",
                seen=f"{'the metric catalogue' if find(name) is not None else 'app.yaml'} has a metric of this name",
                needed="a name of its own",
                next_step="rename the metric in metrics.yaml",
            )
        first = next(iter(own.values()))
        if any(each != first for each in own.values()):
            raise UsageError(f"metric {name}", seen=f"{', '.join(own)} declare it differently", next_step="ask for one app")
        return custom_metric(first, sorted(own))

    def narrowed(self, metric: Metric) -> Definitions:
        """Only what the metric depends on."""
        rules = self.rules if "success" in metric.needs else SuccessRules()
        kpis = {metric.name: self.kpis[metric.name]} if metric.kpi else {}
        own = {metric.name: self.own[metric.name]} if metric.name in self.own else {}
        return Definitions(rules=rules, kpis=kpis, own=own)

    def as_json(self) -> dict[str, Any]:
        """The declarations, for a query that is stored."""
        kpis = {name: {app: _kpi_json(kpi) for app, kpi in by_app.items()} for name, by_app in self.kpis.items()}
        own = {
            name: {app: metric.model_dump(mode="json", exclude_defaults=True) for app, metric in by_app.items()}
            for name, by_app in self.own.items()
        }
        return {"success": self.rules.as_json(), "kpis": kpis, **({"metrics": own} if own else {})}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Definitions:
        """The declarations that `as_json` wrote."""
        kpis = {name: {app: Kpi.model_validate(kpi) for app, kpi in by_app.items()} for name, by_app in content["kpis"].items()}
        own = {
            name: {app: CustomMetric.model_validate(metric) for app, metric in by_app.items()}
            for name, by_app in content.get("metrics", {}).items()
        }
        return cls(rules=SuccessRules.from_json(content["success"]), kpis=kpis, own=own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A metric query, resolved."""

    metrics: tuple[Metric, ...]
    dims: tuple[str, ...] = ()
    grain: str | None = None
    filters: Filters
    window: Window
    definitions: Definitions
    as_of: datetime | None = None
    min_n: int | None = None
    """Of how many of the newest units the record says when they were observed; None when nobody asks."""
    session_rules: int = SESSION_RULES
    """By which rules the sessions of a rate with `within` are counted; those of this program, unless a stored record asked."""

    @property
    def selection(self) -> Selection:
        """Which rows, judged how."""
        start, until = self.window.start, self.window.until
        return Selection(filters=self.filters, start=start, until=until, rules=self.definitions.rules, as_of=self.as_of)

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns to group by."""
        return (*self.dims, TIME) if self.grain else self.dims

    @property
    def awaited(self) -> tuple[str, ...]:
        """The events for which what is asked waits, so that the answer depends on how far the log reaches: of success, and of KPIs."""
        is_success_asked = self.needs(self.metrics) & {"success", FAILURE_REASON}
        rules = self.definitions.rules.awaited if is_success_asked else ()
        return (*(event for event, _ in rules), *sorted({kpi.outcome for kpi in self.timed_rates}))

    @property
    def timed_rates(self) -> tuple[Kpi, ...]:
        """The KPIs that are asked for and count sessions whose time is over."""
        kpis = (own for metric in self.metrics if metric.kpi for own in self.definitions.kpis[metric.kpi.name].values())
        return tuple(kpi for kpi in kpis if kpi.aggregate == "rate" and kpi.within is not None)

    def needs(self, metrics: Sequence[Metric]) -> frozenset[str]:
        """The derived columns that the metrics read, or that the question groups by."""
        return needs_of(metrics) | {FAILURE_REASON} if FAILURE_REASON in self.dims else needs_of(metrics)

    def rows(self, metrics: Sequence[Metric]) -> ir.Table:
        """The contributions to metrics that all count the same rows: requests, or the sessions or events of one KPI."""
        return contributions(self.facts(kpi_of(metrics), self.needs(metrics)), metrics, self.dims, self.grain)

    def rows_among(self, facts: ir.Table, metrics: Sequence[Metric]) -> ir.Table:
        """As `rows`, from facts that hold more than these."""
        predicates = condition(facts, self.filters, self.window.start, self.window.until)
        return contributions(facts.filter(*predicates) if predicates else facts, metrics, self.dims, self.grain)

    def facts(self, kpi: Kpi | None, needs: frozenset[str]) -> ir.Table:
        """The rows that a KPI counts, or that every other metric counts, with the derived columns in `needs`."""
        selection = self.selection
        if kpi is None:
            return request_facts(selection, condition(ASKED, self.filters, self.window.start, self.window.until), needs)
        if FAILURE_REASON in self.dims:
            raise UsageError(f"KPI {kpi.name}", seen=f"asked by {FAILURE_REASON}", needed="a dimension that sessions and events have too")
        parts = [kpi_facts(own, app, selection) for app, own in sorted(self.definitions.kpis[kpi.name].items())]
        return ibis.union(*parts) if len(parts) > 1 else parts[0]


def _kpi_json(kpi: Kpi) -> dict[str, Any]:
    """The KPI as a record keeps it; what came into the format later only where it is declared: earlier records stay as they are."""
    content = kpi.model_dump(mode="json")
    return {name: value for name, value in content.items() if name not in _LATER or name in kpi.model_fields_set}


_LATER = frozenset({"within", "per"})


def kpi_of(metrics: Sequence[Metric]) -> Kpi | None:
    """The KPI that is asked for, which is asked for alone."""
    return metrics[0].kpi if metrics else None
