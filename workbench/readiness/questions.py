"""What a review asks of the log, and what it is answered: every measured gate, each question once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from workbench.errors import InsufficientData, IntegrityError, UsageError
from workbench.observability.measuring import Sitting
from workbench.observability.model import Evidence
from workbench.readiness.declared import Declarations, declared_gates, outcome_kpis, quality_gates
from workbench.readiness.gates import DEFAULT_GATES, assess, assess_default, coverage, unmeasurable
from workbench.readiness.model import GateResult
from workbench.readiness.rehearsal import DEFAULT_GATE, DEFAULT_ID, Rehearsal, assess_rehearsal
from workbench.spec.app import Kpi
from workbench.spec.base import parse_duration
from workbench.spec.gates import DRILL_METRIC, Family, GateSpec

SUCCESS, LATENCY = "success_rate", "latency_p95"
"""What the comparison sentence speaks of, whatever the gates ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a review measured."""

    results: tuple[GateResult, ...]
    success: Evidence | None
    """Comparisons with the baseline that the review speaks of, whatever its gates ask."""
    latency: Evidence | None
    score_sources: Mapping[str, int]
    taken: tuple[Evidence, ...]
    """Every record that was read."""


class Questions:
    """The measurements of one review; each is asked once. Without a log (no sitting) there are none but the newest rollback drill."""

    def __init__(self, sitting: Sitting | None, *, has_baseline: bool, drill: Rehearsal | IntegrityError | None = None) -> None:
        self._sitting = sitting
        self.has_baseline = has_baseline
        self._drill = drill
        self._seen: dict[_Key, Evidence] = {}

    @property
    def taken(self) -> tuple[Evidence, ...]:
        """Every record so far."""
        return tuple(self._seen.values())

    def of(self, gate: GateSpec) -> Evidence | None:
        """The evidence that a gate asks for; None when nothing was ever logged or there is no baseline.

        Gates share a record when they ask the same with the same `min_n`, the rank at which it says how old it is.
        """
        is_relative = gate.against_baseline is not None
        if self._sitting is None or (is_relative and not self.has_baseline):
            return None
        key = _Key(is_relative=is_relative, metric=gate.metric, where=tuple(sorted(gate.where.items())), min_n=gate.min_n)
        if key not in self._seen:
            ask = self._sitting.compare if is_relative else self._sitting.measure
            self._seen[key] = ask(gate.metric, gate.where, min_n=gate.min_n)
        return self._seen[key]

    def drill(self) -> Rehearsal | None:
        """The newest rollback drill; None before the first.

        Raises:
            IntegrityError: its record is gone or altered.
        """
        if isinstance(self._drill, IntegrityError):
            raise self._drill
        return self._drill

    def comparison(self, metric: str) -> Evidence | None:
        """A comparison of all requests, one that a gate asked for where there is one.

        None without a baseline, and where rows of one bundle cannot be read as this metric, which the gates on it say.
        """
        asked = [record for key, record in self._seen.items() if key.is_relative and (key.metric, key.where) == (metric, ())]
        if asked:
            return asked[0]
        if self._sitting is None or not self.has_baseline:
            return None
        try:
            record = self._sitting.compare(metric)
        except (UsageError, InsufficientData):
            return None
        self._seen[_Key(is_relative=True, metric=metric, where=(), min_n=None)] = record
        return record

    def score_sources(self) -> Mapping[str, int]:
        """How many scores the bundle's requests have, by source."""
        return self._sitting.score_sources() if self._sitting is not None else {}


class _Key(NamedTuple):
    """What tells two questions of a review apart."""

    is_relative: bool
    metric: str
    where: tuple[tuple[str, str], ...]
    min_n: int | None


def answers_of(declared: Declarations, asked: Questions, *, now: datetime, is_first: bool) -> Answers:
    """The results of every gate, and what else the review says about the log."""
    results = _results(declared, asked, now=now, is_first=is_first)
    success, latency = asked.comparison(SUCCESS), asked.comparison(LATENCY)
    return Answers(results=results, success=success, latency=latency, score_sources=asked.score_sources(), taken=asked.taken)


def latency_gates(declared: Declarations) -> frozenset[str]:
    """Ids of the gates on a latency."""
    gates = (declared.gates or DEFAULT_GATES).gates
    return frozenset(gate.id for gate in gates if gate.metric.startswith("latency_"))


def _results(declared: Declarations, asked: Questions, *, now: datetime, is_first: bool) -> tuple[GateResult, ...]:
    owner = declared.spec.owner if declared.spec else None
    gates = (declared.gates or DEFAULT_GATES).gates
    judge = assess if declared.gates else assess_default

    def result(gate: GateSpec) -> GateResult:
        if gate.metric == DRILL_METRIC:
            return of_drill(gate)
        try:
            evidence = asked.of(gate)
        except (UsageError, InsufficientData) as error:
            return unmeasurable(gate, error, owner=owner)
        return judge(gate, evidence, now=now, has_baseline=asked.has_baseline, is_first=is_first, owner=owner)

    def of_drill(gate: GateSpec) -> GateResult:
        try:
            return assess_rehearsal(gate, asked.drill(), plan_digest=declared.plan_digest, now=now, owner=owner)
        except IntegrityError as error:
            return unmeasurable(gate, error, owner=owner)

    measured = [result(gate) for gate in gates]
    quality = {gate.id for gate in quality_gates(gates, declared.spec, declared.metrics)}
    shown = [
        replace(result(_kpi_gate(kpi)), gate_id=f"kpi.{kpi.name}", owner=kpi.owner)
        for kpi in outcome_kpis(declared.spec)
        if kpi.target is not None
    ]
    is_drill_declared = any(gate.metric == DRILL_METRIC for gate in gates)
    drill = () if is_drill_declared else (replace(of_drill(DEFAULT_GATE), gate_id=DEFAULT_ID),)
    return (*measured, coverage(measured, quality=quality, owner=owner), *shown, *declared_gates(declared, now=now), *drill)


def _kpi_gate(kpi: Kpi) -> GateSpec:
    """The target of a KPI as a bar that is shown and does not block: before the release it can rarely be reached."""
    bar = {"at_least" if kpi.direction == "higher_is_better" else "at_most": kpi.target}
    return GateSpec(
        id="kpi",
        title=f"KPI {kpi.name.replace('_', ' ')} against its target",
        family=Family.BUSINESS,
        metric=kpi.name,
        min_n=30,
        max_age=parse_duration("30d"),
        is_blocking=False,
        **bar,  # type: ignore[arg-type]
    )
