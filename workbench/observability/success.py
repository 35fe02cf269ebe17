"""Whether a request succeeded: the declared rules of its workflow as one Ibis expression.

True, false or undecided (null). With any declared rule a technical failure is false. Without a rule the newest score
named `success` decides; else a technical failure is false, and anything else is undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

import ibis
import ibis.expr.types as ir
from pydantic import TypeAdapter

from workbench.observability.dimensions import moment
from workbench.observability.model import FAILED
from workbench.spec.app import AppSpec, OutcomeRule, ScoreRule, StatusRule, SuccessRule

DEFAULT_SCORE = "success"
DEFAULT_BAR = 0.5
_RULE: TypeAdapter[SuccessRule] = TypeAdapter(SuccessRule)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredRule:
    """The rule of one workflow."""

    app: str
    workflow: str
    rule: SuccessRule


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessRules:
    """The rules of all apps in a query."""

    rules: tuple[DeclaredRule, ...] = ()

    @classmethod
    def of(cls, specs: Sequence[AppSpec]) -> SuccessRules:
        """The rules that these apps declare."""
        return cls(rules=tuple(DeclaredRule(app=s.app, workflow=w.name, rule=w.success) for s in specs for w in s.workflows))

    @property
    def score_names(self) -> tuple[str, ...]:
        """The scores that the rules read, the default's included."""
        return tuple(sorted({DEFAULT_SCORE, *(d.rule.score for d in self.rules if isinstance(d.rule, ScoreRule))}))

    @property
    def awaited(self) -> tuple[tuple[str, timedelta], ...]:
        """The business events that the rules wait for, each with how long."""
        return tuple(sorted({(d.rule.outcome, d.rule.within) for d in self.rules if isinstance(d.rule, OutcomeRule)}))

    def as_json(self) -> dict[str, Any]:
        """The rules by app and workflow, for a query that is stored."""
        content: dict[str, Any] = {}
        for declared in self.rules:
            content.setdefault(declared.app, {})[declared.workflow] = declared.rule.model_dump(mode="json")
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SuccessRules:
        """The rules that `as_json` wrote."""
        return cls(
            rules=tuple(
                DeclaredRule(app=app, workflow=workflow, rule=_RULE.validate_python(rule))
                for app, workflows in content.items()
                for workflow, rule in workflows.items()
            )
        )


def success(
    t: ir.Table,
    rules: SuccessRules,
    *,
    score: Callable[[str], ir.Value],
    came: Callable[[str, timedelta], ir.Value],
    as_of: datetime | None,
) -> ir.Value:
    """Success of each row of `t`: true, false, or null for undecided.

    Args:
        t: requests.
        rules: the declared rules.
        score: name to the newest value of that score on the row.
        came: event and span to whether it followed the request within the span; never null.
        as_of: until when the log is known; an outcome's window that is not over by then leaves the request undecided,
            so that early events do not count before the missing ones can.
    """
    failed = _failed(t)
    newest = score(DEFAULT_SCORE)
    default = ibis.cases((newest.notnull(), newest >= DEFAULT_BAR), (failed, ibis.literal(value=False)), else_=ibis.null("boolean"))

    def decided(rule: SuccessRule) -> ir.Value:
        match rule:
            case StatusRule():
                known = t.status.notnull() & (t.status != "unknown")
                value = ibis.ifelse(known, t.status == "ok", ibis.null("boolean"))
            case ScoreRule(score=name, at_least=bar):
                value = score(name) >= bar
            case OutcomeRule(outcome=event, within=span):
                ends = t.ts_start + ibis.interval(microseconds=span // timedelta(microseconds=1))
                over = (ends <= moment(as_of)) if as_of else ibis.literal(value=False)
                value = ibis.ifelse(over, came(event, span), ibis.null("boolean"))
        return ibis.ifelse(failed, ibis.literal(value=False), value)

    return _by_rule(t, rules, decided, default)


def success_weight(t: ir.Table, rules: SuccessRules, *, score: Callable[[str], ir.Value], weight: Callable[[str], ir.Value]) -> ir.Value:
    """How many requests the success of each row of `t` stands for: as many as the score that decided it, else 1.

    Args:
        t: requests.
        rules: the declared rules.
        score: name to the newest value of that score on the row.
        weight: name to how many requests that score stands for; never null.
    """
    failed, one = _failed(t), ibis.literal(1.0)

    def decided(rule: SuccessRule) -> ir.Value:
        return ibis.ifelse(failed, one, weight(rule.score)) if isinstance(rule, ScoreRule) else one

    return _by_rule(t, rules, decided, ibis.ifelse(score(DEFAULT_SCORE).notnull(), weight(DEFAULT_SCORE), one))


def failure_reason(t: ir.Table, rules: SuccessRules) -> ir.Value:
    """Why each row of `t`, which has `success`, failed; null for one that did not.

    Its error type or status where it failed technically or by its status, `fallback` where the fallback answered, `score:NAME` where that
    score is below its bar, `outcome:NAME` where that event did not come in time.
    """
    technical = t.error_type.fill_null(t.status)

    def decided(rule: SuccessRule) -> ir.Value:
        match rule:
            case StatusRule():
                return technical
            case ScoreRule(score=name):
                return ibis.literal(f"score:{name}")
            case OutcomeRule(outcome=event):
                return ibis.literal(f"outcome:{event}")

    ruled = _by_rule(t, rules, decided, ibis.literal(f"score:{DEFAULT_SCORE}"))
    reason = ibis.cases((t.status.isin(FAILED), technical), (t.is_fallback.fill_null(False), ibis.literal("fallback")), else_=ruled)  # noqa: FBT003
    return ibis.ifelse((~t.success).fill_null(False), reason, ibis.null("string"))  # noqa: FBT003


def _failed(t: ir.Table) -> ir.Value:
    """Whether a row is a technical failure."""
    return (t.status.isin(FAILED) | t.is_fallback.fill_null(False)).fill_null(False)  # noqa: FBT003


def is_ruled(t: ir.Table, rules: SuccessRules) -> ir.Value:
    """Whether the workflow of each row has a rule."""
    return _by_rule(t, rules, lambda _: ibis.literal(value=True), ibis.literal(value=False))


def _by_rule(t: ir.Table, rules: SuccessRules, decided: Callable[[SuccessRule], ir.Value], default: ir.Value) -> ir.Value:
    """What the rule of each row's workflow says; the default where it has none."""
    alike: dict[SuccessRule, dict[str, list[str]]] = {}
    for (app, workflow), rule in {(declared.app, declared.workflow): declared.rule for declared in rules.rules}.items():
        alike.setdefault(rule, {}).setdefault(app, []).append(workflow)

    def add(otherwise: ir.Value, rule: SuccessRule) -> ir.Value:
        applies = reduce(or_, ((t.app == app) & t.workflow.isin(workflows) for app, workflows in alike[rule].items()))
        return ibis.ifelse(applies.fill_null(False), decided(rule), otherwise)  # noqa: FBT003

    return reduce(add, alike, default)
