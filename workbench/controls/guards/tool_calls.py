"""Which tools may be called, with which arguments, how often. Pure.

A name is compared in one form for all cases, widths and separators, and what is passed on is the name that the policy spells. A name that
only looks like it, with letters of another script, is another name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.controls.events import ToolCall
from workbench.controls.guards.arguments import BadArguments, Condition, read_arguments, strings_in
from workbench.controls.guards.matches import Matcher, findings_of
from workbench.controls.guards.model import Action, Finding, Stage, gravity
from workbench.errors import UsageError
from workbench.spec.folding import folded
from workbench.spec.guards import Predicate, ToolGuard
from workbench.spec.patterns import compiled
from workbench.spec.tool_schemas import validator_of

_LONGEST_NAME = 256
NOT_DECLARED = "tool_not_declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRules:
    """What the policy says of one tool."""

    name: str
    is_allowed: bool
    schema: Any
    conditions: tuple[Condition, ...]
    most_per_request: int | None
    needs_approval: bool


class ToolPolicy:
    """The tools that may be called.

    Args:
        rules: of each tool that the bundle declares.
        matchers: look at the arguments' text, as it is written and as it is read: JSON may spell each letter as an escape.
    """

    def __init__(self, rules: Sequence[ToolRules], matchers: Sequence[Matcher] = ()) -> None:
        self._rules = {rule.name: rule for rule in rules}
        spellings = Counter(folded(rule.name) for rule in rules)
        self._folded = {folded(rule.name): rule for rule in rules if spellings[folded(rule.name)] == 1 and folded(rule.name)}
        self._matchers = matchers

    @property
    def needs_approval(self) -> bool:
        """Whether a person has to approve any of the tools."""
        return any(rule.needs_approval for rule in self._rules.values())

    def canonical(self, name: str) -> str | None:
        """The name as the policy spells it; None where no tool is meant that may be called."""
        rules = self._named(name)
        return rules.name if rules is not None and rules.is_allowed else None

    def check(self, call: ToolCall, counts: Mapping[str, int], requested: Collection[str] | None) -> tuple[Finding, ...]:
        """What the policy says of a call; of what forbids it outright only the first."""
        rules = self._named(call.name)
        if rules is None:
            return (_found(NOT_DECLARED, Action.BLOCK, "not_allowed", "This is not a tool of this assistant.", None),)
        unwanted = self._unwanted(rules, counts, requested)
        if unwanted is not None:
            return (unwanted,)
        try:
            arguments = read_arguments(call.arguments)
        except BadArguments as fault:
            return (_blocked("tool_arguments", "bad_arguments", f"The arguments of {rules.name} cannot be read: {fault}.", rules),)
        misfit = next(rules.schema.iter_errors(arguments), None)
        if misfit is not None:
            return (_blocked("tool_arguments", "bad_arguments", _does_not_fit(rules, misfit), rules),)
        return self._judged(rules, arguments, call.arguments)

    def _unwanted(self, rules: ToolRules, counts: Mapping[str, int], requested: Collection[str] | None) -> Finding | None:
        """Why a tool may not be called now, whatever the arguments."""
        if not rules.is_allowed:
            return _blocked("tool_not_allowed", "not_allowed", f"{rules.name} may not be called.", rules)
        if requested is not None and not self._is_among(rules, requested):
            return _blocked("tool_not_requested", "not_requested", f"{rules.name} is not offered in this request.", rules)
        most = rules.most_per_request
        if most is not None and counts.get(rules.name, 0) >= most:
            return _blocked("tool_too_often", "too_many", f"{rules.name} may be called at most {most} times for one request.", rules)
        return None

    def _judged(self, rules: ToolRules, arguments: Mapping[str, Any], text: str) -> tuple[Finding, ...]:
        """What is said of a call in good form, the gravest first."""
        findings = [
            Finding(
                rule_id=condition.rule_id,
                stage=Stage.TOOL_CALL,
                action=condition.action,
                reason="not_met",
                sentence=condition.sentence or f"{rules.name} may not be called with this {'.'.join(condition.path)}.",
                tool=rules.name,
            )
            for condition in rules.conditions
            if not condition.is_met(arguments)
        ]
        texts = (text, "\n".join(strings_in(arguments))) if self._matchers else ()
        for matcher in self._matchers:
            matches = [match for each in texts for match in matcher.find(each, 0)]
            findings += findings_of(matches, Stage.TOOL_CALL, passed=matcher.guards)
        if rules.needs_approval:
            sentence = f"A person has to approve {rules.name} first."
            findings.append(_found("tool_needs_approval", Action.HANDOFF, "needs_approval", sentence, rules))
        findings.append(_found("tools", Action.ALLOW, "passed", "", rules))
        return tuple(sorted(findings, key=lambda finding: -gravity(finding.action)))

    def _named(self, name: str) -> ToolRules | None:
        if len(name) > _LONGEST_NAME:
            return None
        return self._rules.get(name) or self._folded.get(folded(name))

    def _is_among(self, rules: ToolRules, requested: Collection[str]) -> bool:
        return rules.name in requested or any(self._named(name) is rules for name in requested)


def tool_policy(
    declared: Sequence[Mapping[str, Any]],
    guards: Mapping[str, ToolGuard],
    thresholds: Mapping[str, float],
    *,
    matchers: Sequence[Matcher] = (),
    subject: str,
) -> ToolPolicy:
    """The policy over the tools that a bundle declares.

    Args:
        declared: `orchestration.tools` of the bundle.
        guards: `tools` of its guards.
        thresholds: `policy.thresholds` of the bundle.
        matchers: look at the arguments' text.
        subject: what errors are about.

    Raises:
        UsageError: a schema, a name or a threshold is wrong.
    """
    names = [tool["name"] for tool in declared]
    unknown = sorted(set(guards) - set(names))
    if unknown:
        raise UsageError(subject, seen=f"its guards speak of {', '.join(unknown)}", needed="tools that orchestration.tools declares")
    rules = [_rules(tool, guards.get(tool["name"], ToolGuard()), thresholds, subject) for tool in declared]
    return ToolPolicy(rules, matchers)


def _rules(tool: Mapping[str, Any], guard: ToolGuard, thresholds: Mapping[str, float], subject: str) -> ToolRules:
    name = tool["name"]
    try:
        return ToolRules(
            name=name,
            is_allowed=guard.allow,
            schema=validator_of(guard.parameters if guard.parameters is not None else tool.get("parameters", {})),
            conditions=tuple(_condition(predicate, thresholds) for predicate in guard.arguments),
            most_per_request=guard.most_per_request,
            needs_approval=guard.needs_approval,
        )
    except ValueError as error:
        raise UsageError(subject, seen=f"the tool {name}: {error}", needed="a JSON Schema of its arguments") from error
    except KeyError as error:
        raise UsageError(
            subject, seen=f"the tool {name}: policy.thresholds has no {error}", needed="every threshold that is named"
        ) from error


def _condition(predicate: Predicate, thresholds: Mapping[str, float]) -> Condition:
    value: Any = thresholds[predicate.threshold] if predicate.threshold is not None else predicate.value
    return Condition(
        rule_id=predicate.id,
        path=tuple(predicate.field.split(".")),
        op=predicate.op,
        value=compiled(value) if predicate.op == "matches" else value,
        action=Action(predicate.action),
        sentence=predicate.sentence,
    )


def _blocked(rule_id: str, reason: str, sentence: str, rules: ToolRules) -> Finding:
    return _found(rule_id, Action.BLOCK, reason, sentence, rules)


def _found(rule_id: str, action: Action, reason: str, sentence: str, rules: ToolRules | None) -> Finding:
    return Finding(
        rule_id=rule_id, stage=Stage.TOOL_CALL, action=action, reason=reason, sentence=sentence, tool=rules.name if rules else None
    )


def _does_not_fit(rules: ToolRules, misfit: Any) -> str:
    """What the model is told; only the schema is quoted, never a value."""
    return f"The arguments of {rules.name} do not fit its schema at {'/'.join(map(str, misfit.schema_path))[:200]}."
