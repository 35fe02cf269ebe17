"""The built-in gates on what an app declares, in the guide's four families. An absent declaration is FAIL, never MISSING."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from workbench.observability.catalogue import find
from workbench.observability.model import Direction
from workbench.ownership.model import Gap
from workbench.readiness.model import GateResult, Verdict
from workbench.readiness.wording import counted, number
from workbench.spec.app import AppSpec, Kpi
from workbench.spec.gates import Family, GateSpec, GatesSpec
from workbench.spec.metrics import CustomMetric, MetricsSpec
from workbench.spec.people import PeopleSpec, Role
from workbench.spec.plan import EVENTS, PlanSpec, Rollback, can_be_judged
from workbench.spec.rota import RotaSpec
from workbench.versions.declarations import NOTHING

COVER_DAYS = 14
"""How far ahead the rota must be without a gap."""

USAGE_WORDS = frozenset(
    {"activity", "call", "chat", "click", "conversation", "dau", "impression", "login", "mau", "message", "prompt", "query", "request"}
    | {"session", "signup", "token", "traffic", "usage", "user", "view", "visit", "volume", "wau"}
)
"""Words that count activity, in the singular; an outcome named so says how much the assistant is used, not what it changes."""

NEUTRAL_WORDS = frozenset({"active", "count", "daily", "day", "monthly", "new", "number", "of", "per", "total", "unique", "weekly"})
"""Words that leave an activity an activity: `daily_active_users`. `calls_avoided` has another word and is an outcome."""

ACTIVITY_METRICS = frozenset({"undecided_rate", "retrieval_judged_rate"})
ACTIVITY_UNITS = frozenset({"requests", "tokens", "USD", "users", "sessions", "attempts"})
"""Metrics, and units of metrics, that say how much was done, for how much, or how much is unknown: a bar on one proves no quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """What is written down about an app, and what follows from it at the time of the review."""

    app: str
    spec: AppSpec | None = None
    people: PeopleSpec | None = None
    gates: GatesSpec | None = None
    plan: PlanSpec | None = None
    rota: RotaSpec | None = None
    metrics: MetricsSpec | None = None
    gaps: tuple[Gap, ...] = ()
    """Hours without anybody on call in the next `COVER_DAYS`; only meaningful with a rota."""
    earlier: tuple[str, ...] = ()
    """Ids of the bundles registered before the reviewed one, oldest first."""
    plan_digest: str = NOTHING
    """Of the rollout plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a declaration does not hold."""

    reason: str
    sentence: str
    next_step: str


def declared_gates(declared: Declarations, *, now: datetime) -> tuple[GateResult, ...]:
    """One result per built-in gate, always all of them, in the guide's order.

    Args:
        declared: the app's declarations.
        now: the present, UTC; target dates and cover are judged against it.
    """
    return (*_business(declared, now), _quality(declared), *_risk(declared), *_rollback(declared))


def is_usage(kpi: Kpi) -> bool:
    """Whether a KPI counts activity, by its kind or by the name of its event."""
    return kpi.kind == "usage" or names_usage(kpi.outcome)


def names_usage(outcome: str) -> bool:
    """Whether a name only counts activity: `messages`, `active_users`, but not `calls_avoided`."""
    words = [word for word in re.split(r"[^a-z]+", outcome.lower()) if word]
    singular = {"queries": "query", "activities": "activity"}
    plain = {singular.get(word, word if word in USAGE_WORDS else word.removesuffix("s")) for word in words}
    return bool(plain & USAGE_WORDS) and plain <= USAGE_WORDS | NEUTRAL_WORDS


def outcome_kpis(spec: AppSpec | None) -> tuple[Kpi, ...]:
    """The KPIs that measure a business result."""
    return tuple(kpi for kpi in spec.kpis if not is_usage(kpi)) if spec else ()


def quality_gates(gates: Iterable[GateSpec], spec: AppSpec | None, metrics: MetricsSpec | None = None) -> tuple[GateSpec, ...]:
    """The gates that can prove quality: blocking, of that family, on more than activity, with the bar on the side that is worse."""
    kpis = {kpi.name: kpi for kpi in spec.kpis} if spec else {}
    own = {metric.name: metric for metric in metrics.metrics} if metrics else {}
    usage = {name for name, kpi in kpis.items() if is_usage(kpi)} | {name for name, metric in own.items() if metric.unit in ACTIVITY_UNITS}
    candidates = [gate for gate in gates if gate.family is Family.QUALITY and gate.is_blocking]
    return tuple(
        gate
        for gate in candidates
        if gate.metric not in usage and not is_activity(gate.metric) and _stops_the_worse(gate, _direction(gate.metric, {**kpis, **own}))
    )


def is_activity(metric: str) -> bool:
    """Whether a metric says how much was done, for how much, or how much is unknown."""
    known = find(metric)
    return known is not None and (known.unit in ACTIVITY_UNITS or metric in ACTIVITY_METRICS)


def _direction(metric: str, declared: Mapping[str, Kpi | CustomMetric]) -> Direction | None:
    """Which way is better; None for a metric that nobody knows."""
    known = find(metric)
    if known is not None:
        return known.direction
    return Direction(declared[metric].direction) if metric in declared else None


def _stops_the_worse(gate: GateSpec, direction: Direction | None) -> bool:
    match direction:
        case Direction.HIGHER:
            return gate.at_most is None
        case Direction.LOWER:
            return gate.at_least is None
        case Direction.NEITHER:
            return False
    return True


def reachable(people: PeopleSpec | None, name: str) -> bool:
    """Whether a person is known and has a way to be called."""
    person = people.people.get(name) if people else None
    return person is not None and bool(person.contact or person.slack)


def _business(declared: Declarations, now: datetime) -> Iterable[GateResult]:
    kpis = outcome_kpis(declared.spec)
    every = declared.spec.kpis if declared.spec else ()
    owner = kpis[0].owner if kpis else _owner(declared)
    fault = None
    if not every:
        fault = _fault(
            "not_declared",
            "No business KPI is declared.",
            "declare a KPI with baseline, target, target date and owner in app.yaml",
        )
    elif not kpis:
        names = ", ".join(kpi.name for kpi in every)
        fault = _fault(
            "usage_only",
            f"Only usage is declared ({names}); activity is not a business result.",
            "declare a KPI on an outcome, for example a problem solved or a sale kept",
        )
    yield _result("business.kpi", "Business KPI", fault=fault, passed=f"The result to move is declared: {_names(kpis)}.", owner=owner)
    missing = _fault(
        "not_declared",
        "No KPI on a business outcome is declared, so there is no target.",
        "declare one in app.yaml",
    )
    faults = [fault for kpi in kpis if (fault := _target_fault(kpi, now)) is not None]
    target = missing if not kpis else faults[0] if faults else None
    yield _result("business.target", "KPI target", fault=target, passed=" ".join(_target_words(kpi) for kpi in kpis), owner=owner)
    ownerless = [kpi for kpi in kpis if kpi.owner is None or declared.people is None or kpi.owner not in declared.people.people]
    lacking = missing if not kpis else None
    if ownerless:
        lacking = _fault(
            "no_owner",
            f"Nobody known answers for {_names(ownerless)}.",
            "name an owner from people.yaml for each KPI in app.yaml",
        )
    answering = ", ".join(f"{kpi.owner} answers for {kpi.name}" for kpi in kpis)
    yield _result("business.owner", "KPI owner", fault=lacking, passed=f"{answering}.", owner=owner)


def _target_fault(kpi: Kpi, now: datetime) -> Fault | None:
    absent = [name.replace("_", " ") for name in ("baseline", "target", "target_date") if getattr(kpi, name) is None]
    if absent or kpi.baseline is None or kpi.target is None or kpi.target_date is None:
        return _fault(
            "not_declared",
            f"KPI {kpi.name} lacks its {' and '.join(absent)}.",
            f"complete {kpi.name} in app.yaml",
        )
    if kpi.target_date < now.date():
        return _fault(
            "date_passed",
            f"KPI {kpi.name}: the target date {kpi.target_date} has passed.",
            "set a new target and date",
        )
    gain = kpi.target - kpi.baseline if kpi.direction == "higher_is_better" else kpi.baseline - kpi.target
    if gain <= 0:
        seen = f"{number(kpi.target, kpi.unit)} is not better than the baseline {number(kpi.baseline, kpi.unit)}"
        return _fault(
            "target_not_better",
            f"KPI {kpi.name}: the target {seen}.",
            "set a target that improves on the baseline",
        )
    return None


def _target_words(kpi: Kpi) -> str:
    return f"{kpi.name}: from {number(kpi.baseline, kpi.unit)} to {number(kpi.target, kpi.unit)} by {kpi.target_date}."


def _quality(declared: Declarations) -> GateResult:
    gates = quality_gates(declared.gates.gates, declared.spec, declared.metrics) if declared.gates else ()
    fault = None
    if not gates:
        seen = "gates.yaml is not declared" if declared.gates is None else "gates.yaml has no blocking gate that bounds quality from below"
        fault = _fault(
            "not_declared",
            f"No quality threshold of this app: {seen}.",
            "declare at least one quality gate in gates.yaml; volume, tokens and cost are no quality",
        )
    passed = f"{counted(len(gates), 'quality threshold')} declared: {', '.join(gate.id for gate in gates)}."
    return _result("quality.thresholds", "Quality thresholds", fault=fault, passed=passed, owner=_owner(declared))


def _risk(declared: Declarations) -> Iterable[GateResult]:
    yield _owner_gate(declared)
    spec, owner = declared.spec, _owner(declared)
    risks = spec.risks if spec else ()
    bare = [risk.name for risk in risks if not risk.control.strip()]
    fault = None
    if not risks:
        fault = _fault("not_declared", "No risk is declared.", "list in app.yaml what must not happen, each with its control")
    elif bare:
        fault = _fault("no_control", f"Nothing stands against {', '.join(bare)}.", "name a control for each risk in app.yaml")
    held = ", ".join(risk.name for risk in risks)
    yield _result(
        "risk.controls", "Risk controls", fault=fault, passed=f"{counted(len(risks), 'risk')} with a control: {held}.", owner=owner
    )
    yield _escalation_gate(declared)
    fallback = spec.fallback if spec else None
    fault = None if fallback else _fault("not_declared", "No fallback response is declared.", "declare fallback in app.yaml")
    kinds = {"canned": "a prepared answer", "human": "a person", "off": "the assistant is switched off"}
    words = f"When the assistant cannot answer: {kinds[fallback.kind]}." if fallback else ""
    yield _result("risk.fallback", "Fallback response", fault=fault, passed=words, owner=owner)
    has_switch = bool(spec and spec.kill_switch and spec.kill_switch.strip())
    fault = None if has_switch else _fault("not_declared", "No kill switch is declared.", "write into app.yaml how to switch it off")
    yield _result("risk.kill_switch", "Kill switch", fault=fault, passed="How to switch the assistant off is written down.", owner=owner)
    yield _cover_gate(declared)
    yield _approver_gate(declared)


def _owner_gate(declared: Declarations) -> GateResult:
    owner = _owner(declared)
    fault = None
    if owner is None:
        fault = _fault("not_declared", "No accountable owner is declared.", "name an owner in app.yaml")
    elif declared.people is None or owner not in declared.people.people:
        fault = _fault("unknown_person", f"The owner {owner} is not in people.yaml.", f"add {owner} to people.yaml")
    return _result("risk.owner", "Accountable owner", fault=fault, passed=f"{owner} answers for this app.", owner=owner)


def _escalation_gate(declared: Declarations) -> GateResult:
    steps = declared.spec.escalation if declared.spec else ()
    unreachable = sorted({step.to for step in steps if not reachable(declared.people, step.to)})
    persons = list(dict.fromkeys(step.to for step in steps))
    fault = None
    if not steps:
        fault = _fault("not_declared", "No escalation path is declared.", "declare at least two escalation steps in app.yaml")
    elif unreachable:
        fault = _fault(
            "unreachable",
            f"The escalation path leads to {', '.join(unreachable)}, who cannot be reached.",
            "give each a contact or a Slack id in people.yaml",
        )
    elif len(persons) == 1:
        fault = _fault(
            "one_step",
            f"The escalation path ends at one person, {persons[0]}.",
            "add a second person to it in app.yaml",
        )
    return _result(
        "risk.escalation", "Escalation path", fault=fault, passed=f"Escalation goes to {', then '.join(persons)}.", owner=_owner(declared)
    )


def _cover_gate(declared: Declarations) -> GateResult:
    fault = None
    if declared.rota is None:
        fault = _fault("not_declared", "No on-call rota is declared.", "declare rota.yaml")
    elif declared.gaps:
        first, hours = declared.gaps[0], sum(gap.hours for gap in declared.gaps)
        fault = _fault(
            "gap",
            f"Nobody is on call for {hours:,.1f} h in the next {COVER_DAYS} days; the first of {counted(len(declared.gaps), 'gap')} "
            f"begins {first.start:%Y-%m-%d %H:%M} UTC ({first.reason}).",
            "fill the gaps in rota.yaml; the gaps are listed by `workbench owner gaps`",
        )
    passed = f"Somebody reachable is on call without a gap for the next {COVER_DAYS} days."
    return _result("risk.cover", "After-hours cover", fault=fault, passed=passed, owner=_owner(declared))


def _approver_gate(declared: Declarations) -> GateResult:
    owner = _owner(declared)
    people = declared.people.people if declared.people else {}
    approvers = [
        name
        for name, person in people.items()
        if name != owner and any(Role.APPROVER in person.roles.get(scope, ()) for scope in (declared.app, "*"))
    ]
    fault = None
    if not approvers:
        fault = _fault(
            "no_approver",
            "Nobody but the owner may approve a release.",
            "give somebody else the role approver in people.yaml",
        )
    return _result(
        "risk.approver", "Second person", fault=fault, passed=f"May approve besides the owner: {', '.join(approvers)}.", owner=owner
    )


def _rollback(declared: Declarations) -> Iterable[GateResult]:
    plan, owner = declared.plan, _owner(declared)
    rollback = plan.rollback if plan else None
    fault = None
    if plan is None:
        fault = _fault("not_declared", "No rollout plan is declared.", "declare plan.yaml")
    elif rollback is None:
        fault = _fault("no_rollback", "The rollout plan has no rollback section.", "add rollback to plan.yaml")
    tier = declared.spec.risk_tier if declared.spec else None
    shares = " → ".join(number(step.share, "share") for step in plan.stepped(tier).steps) if plan else ""
    yield _result("rollback.plan", "Rollback plan", fault=fault, passed=f"The plan goes {shares} and can be taken back.", owner=owner)
    criteria = rollback.criteria if rollback else ()
    fault = None
    if not criteria:
        fault = _fault(
            "not_declared",
            "No rollback criterion is declared.",
            "add at least one metric to rollback.criteria in plan.yaml",
        )
    kpis = declared.spec.kpis if declared.spec else ()
    judged = [item for item in criteria if can_be_judged(item.metric, kpis)]
    if criteria and not judged:
        fault = _fault(
            "not_judged",
            f"No rollback criterion can be judged during a canary: {', '.join(item.metric for item in criteria)}.",
            f"name one of {', '.join(sorted(EVENTS))}, a latency, quality_mean, cost_usd, or a KPI that is a rate with `within`, "
            "in rollback.criteria of plan.yaml",
        )
    words = ", ".join(f"{item.metric} beyond {number(item.ratio, 'ratio')} stable" for item in judged)
    yield _result("rollback.criteria", "Rollback criteria", fault=fault, passed=f"Taken back by itself on: {words}.", owner=owner)
    fault, words = _target(declared, rollback)
    yield _result("rollback.target", "Rollback target", fault=fault, passed=words, owner=owner)


def _target(declared: Declarations, rollback: Rollback | None) -> tuple[Fault | None, str]:
    if rollback is None:
        return _fault("not_declared", "No rollback target is declared.", "add rollback.target to plan.yaml"), ""
    if rollback.target == "last_good" and declared.earlier:
        return None, f"A rollback restores the last good bundle; {counted(len(declared.earlier), 'bundle')} registered before this one."
    if rollback.target == "off":
        return None, "A rollback switches the assistant off."
    if declared.spec is not None and declared.spec.fallback is not None:
        why = "This is the first bundle, so a" if rollback.target == "last_good" else "A"
        return None, f"{why} rollback goes to the declared fallback."
    return _fault(
        "no_target",
        "There is nothing to roll back to: no earlier bundle and no declared fallback.",
        "declare fallback in app.yaml, or rollback.target: off in plan.yaml",
    ), ""


def _fault(reason: str, sentence: str, next_step: str) -> Fault:
    return Fault(reason=reason, sentence=sentence, next_step=next_step)


def _result(gate_id: str, title: str, *, fault: Fault | None, passed: str, owner: str | None) -> GateResult:
    return GateResult(
        gate_id=gate_id,
        title=title,
        family=Family(gate_id.partition(".")[0]),
        is_blocking=True,
        verdict=Verdict.PASS if fault is None else Verdict.FAIL,
        reason="declared" if fault is None else fault.reason,
        sentence=passed if fault is None else fault.sentence,
        owner=owner,
        next_step="" if fault is None else fault.next_step,
    )


def _owner(declared: Declarations) -> str | None:
    return declared.spec.owner if declared.spec else None


def _names(kpis: Sequence[Kpi]) -> str:
    return ", ".join(kpi.name for kpi in kpis)
