"""What is asked, resolved: names to metrics, apps to their rules, words to windows. Pure but for the callables it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import ibis
import ibis.expr.types as ir

from workbench.errors import SpecError, UsageError
from workbench.observability.catalogue import CATALOGUE, Metric, kpi_metric
from workbench.observability.dimensions import TIME, Filters, condition, unknown
from workbench.observability.facts import REQUESTS, Selection, kpi_facts, request_facts
from workbench.observability.model import Window
from workbench.observability.query import contributions
from workbench.observability.success import SuccessRules
from workbench.spec.app import AppSpec, Kpi


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """The declarations under a query: success rules, and the KPIs by name and app."""

    rules: SuccessRules = field(default_factory=SuccessRules)
    kpis: Mapping[str, Mapping[str, Kpi]] = field(default_factory=dict)

    @classmethod
    def of(cls, specs: Sequence[AppSpec]) -> Definitions:
        """The declarations of these apps."""
        kpis: dict[str, dict[str, Kpi]] = {}
        for spec in specs:
            for kpi in spec.kpis:
                kpis.setdefault(kpi.name, {})[spec.app] = kpi
        return cls(rules=SuccessRules.of(specs), kpis=kpis)

    def metric(self, name: str) -> Metric:
        """The metric of that name, from the catalogue or from a KPI.

        Raises:
            UnknownSubject: when there is none.
            SpecError: when a KPI has the name of a catalogue metric.
            UsageError: when apps declare the KPI differently.
        """
        declared = self.kpis.get(name, {})
        if name in CATALOGUE and declared:
            raise SpecError(
                f"KPI {name} of {', '.join(declared)}",
                seen="the metric catalogue has a metric of this name",
                needed="a name of its own",
                next_step="rename the KPI in app.yaml",
            )
        if name in CATALOGUE:
            return CATALOGUE[name]
        if not declared:
            raise unknown("metric", name, (*CATALOGUE, *self.kpis))
        if len({(kpi.aggregate, kpi.unit, kpi.direction) for kpi in declared.values()}) > 1:
            apps = ", ".join(declared)
            raise UsageError(f"KPI {name}", seen=f"{apps} declare it with different units or aggregates", next_step="ask for one app")
        return kpi_metric(next(iter(declared.values())))

    def narrowed(self, metric: Metric) -> Definitions:
        """Only what the metric depends on."""
        rules = self.rules if "success" in metric.needs else SuccessRules()
        kpis = {metric.name: self.kpis[metric.name]} if metric.kpi else {}
        return Definitions(rules=rules, kpis=kpis)

    def as_json(self) -> dict[str, Any]:
        """The declarations, for a query that is stored."""
        kpis = {name: {app: _kpi_json(kpi) for app, kpi in by_app.items()} for name, by_app in self.kpis.items()}
        return {"success": self.rules.as_json(), "kpis": kpis}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Definitions:
        """The declarations that `as_json` wrote."""
        kpis = {name: {app: Kpi.model_validate(kpi) for app, kpi in by_app.items()} for name, by_app in content["kpis"].items()}
        return cls(rules=SuccessRules.from_json(content["success"]), kpis=kpis)


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
    def waits_for_outcomes(self) -> bool:
        """Whether success depends on how far the log reaches."""
        return "success" in needs_of(self.metrics) and bool(self.definitions.rules.awaited)

    def rows(self, metrics: Sequence[Metric]) -> ir.Table:
        """The contributions to metrics that all count the same rows: requests, or the sessions or events of one KPI."""
        return contributions(self.facts(kpi_of(metrics), needs_of(metrics)), metrics, self.dims, self.grain)

    def rows_among(self, facts: ir.Table, metrics: Sequence[Metric]) -> ir.Table:
        """As `rows`, from facts that hold more than these."""
        predicates = condition(facts, self.filters, self.window.start, self.window.until)
        return contributions(facts.filter(*predicates) if predicates else facts, metrics, self.dims, self.grain)

    def facts(self, kpi: Kpi | None, needs: frozenset[str]) -> ir.Table:
        """The rows that a KPI counts, or that every other metric counts, with the derived columns in `needs`."""
        selection = self.selection
        if kpi is None:
            return request_facts(selection, condition(REQUESTS, self.filters, self.window.start, self.window.until), needs)
        parts = [kpi_facts(own, app, selection) for app, own in sorted(self.definitions.kpis[kpi.name].items())]
        return ibis.union(*parts) if len(parts) > 1 else parts[0]


def _kpi_json(kpi: Kpi) -> dict[str, Any]:
    """The KPI as a record keeps it; what came into the format later only where it is declared: earlier records stay as they are."""
    content = kpi.model_dump(mode="json")
    return {name: value for name, value in content.items() if name not in _LATER or name in kpi.model_fields_set}


_LATER = frozenset({"within", "per"})


def needs_of(metrics: Sequence[Metric]) -> frozenset[str]:
    """The derived columns that some of these metrics read."""
    return frozenset[str]().union(*(metric.needs for metric in metrics))


def kpi_of(metrics: Sequence[Metric]) -> Kpi | None:
    """The KPI that is asked for, which is asked for alone."""
    return metrics[0].kpi if metrics else None
