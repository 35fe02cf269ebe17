"""From what people wrote to guards at work: a bundle's guards.yaml over the defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from workbench.controls.guards.engine import Guards
from workbench.controls.guards.judge import LabelJudge
from workbench.controls.guards.matches import Matcher, Rule
from workbench.controls.guards.model import Action, Stage, gravest_of
from workbench.controls.guards.personal_data import SECRET, Detecting
from workbench.controls.guards.phrases import Topics
from workbench.controls.guards.presidio import PresidioGuard
from workbench.controls.guards.slow import SlowGuard
from workbench.controls.guards.tool_calls import tool_policy
from workbench.controls.providers import ProviderFactory
from workbench.errors import UsageError
from workbench.spec.guards import Guard, GuardsSpec, PersonalData, Secrets
from workbench.spec.loading import parse_spec
from workbench.versions.guards import guards_reference

LOW = "low"
"""The risk tier at which an answer may leave before it is checked."""


def open_guards(
    spec: GuardsSpec | None,
    *,
    tools: Sequence[Mapping[str, Any]],
    thresholds: Mapping[str, float],
    prompts: Mapping[str, str],
    provider: Callable[[str], ProviderFactory],
    risk_tier: str | None,
    subject: str,
) -> Guards:
    """The guards of a bundle.

    Args:
        spec: its guards.yaml; None where it has none.
        tools: its `orchestration.tools`.
        thresholds: its `policy.thresholds`.
        prompts: name to text.
        provider: finds the provider of a judge by its name.
        risk_tier: of the app; None where nobody declared one.
        subject: what errors are about, for example `bundle support@1a2b3c4d5e6f`.

    Raises:
        UsageError: they cannot be enforced here: something that they name is missing, or not installed.
    """
    are_declared, spec = spec is not None, spec or GuardsSpec()
    if spec.streaming == "after" and risk_tier != LOW:
        raise UsageError(
            subject,
            seen=f"its guards look at an answer after it left, at risk tier {risk_tier or 'unknown'}",
            needed="`streaming: window` or `hold_all`, or `risk_tier: low` in app.yaml",
        )
    matchers = {stage: _matchers(spec, stage) for stage in Stage}
    return Guards(
        tool_policy(tools, spec.tools, thresholds, matchers=matchers[Stage.TOOL_CALL], subject=subject),
        matchers,
        _slow(spec, prompts, provider, subject),
        prompt_size=spec.prompt_size,
        handoff=spec.handoff,
        streaming=spec.streaming,
        refusal=spec.refusal,
        trusts_instructions=spec.instructions == "trusted",
        are_declared=are_declared,
    )


class Content(Protocol):
    """A bundle's parts as declared, and its files."""

    def part(self, name: str) -> Mapping[str, Any]:
        """One part; empty when the bundle has none."""

    def file(self, reference: Mapping[str, str]) -> bytes:
        """The content behind `{"file": path, "sha256": hex}`."""


def guards_of(content: Content, *, provider: Callable[[str], ProviderFactory], risk_tier: str | None, subject: str) -> Guards:
    """The guards of a registered bundle; arguments and faults as of `open_guards`.

    Raises:
        SpecError: this version cannot read its guards.yaml.
    """
    policy, tools = content.part("policy"), content.part("orchestration").get("tools", ())
    reference = guards_reference(policy)
    spec = None if reference is None else parse_spec(GuardsSpec, reference["file"], content.file(reference), subject=subject)
    used = {judge.prompt for judge in spec.judges} if spec else set()
    prompts = {name: content.file(file).decode() for name, file in content.part("prompts").items() if name in used}
    thresholds = policy.get("thresholds", {})
    return open_guards(spec, tools=tools, thresholds=thresholds, prompts=prompts, provider=provider, risk_tier=risk_tier, subject=subject)


def _matchers(spec: GuardsSpec, stage: Stage) -> tuple[Matcher, ...]:
    return tuple(matcher for matcher in (_detecting(spec, stage), _topics(spec, stage)) if matcher is not None)


def _detecting(spec: GuardsSpec, stage: Stage) -> Detecting | None:
    """What looks for personal data and secrets; of several orders for one kind the gravest counts."""
    rules: dict[str, Rule] = {}
    used: list[PersonalData | Secrets] = []
    declared: tuple[PersonalData | Secrets, ...] = (*spec.personal_data, *spec.secrets)
    for guard in declared:
        action = Action(guard.action)
        if stage not in guard.stages or action is Action.ALLOW:
            continue
        used.append(guard)
        for kind in _kinds(guard):
            before = rules.get(kind)
            if before is None or gravest_of((before.action, action)) is not before.action:
                rule_id = "secrets" if kind == SECRET else f"personal_data.{kind}"
                rules[kind] = Rule(rule_id=rule_id, action=action, label=f"{kind} removed")
    if not rules:
        return None
    guards = tuple(dict.fromkeys("secrets" if isinstance(guard, Secrets) else "personal_data" for guard in used))
    return Detecting(rules, guards=guards, on_error=_on_error(used), timeout_s=_timeout_s(used))


def _kinds(guard: PersonalData | Secrets) -> tuple[str, ...]:
    return guard.detectors if isinstance(guard, PersonalData) else (SECRET,)


def _topics(spec: GuardsSpec, stage: Stage) -> Topics | None:
    topics = [topic for topic in spec.topics if stage in topic.stages and topic.action != "allow"]
    rules = [(topic, Rule(rule_id=topic.id, action=Action(topic.action), sentence=topic.sentence)) for topic in topics]
    if not rules:
        return None
    return Topics(
        [(phrase, rule) for topic, rule in rules for phrase in topic.phrases],
        [(pattern, rule) for topic, rule in rules for pattern in topic.patterns],
        guards=tuple(topic.id for topic in topics),
        on_error=_on_error(topics),
        timeout_s=_timeout_s(topics),
    )


def _slow(spec: GuardsSpec, prompts: Mapping[str, str], provider: Callable[[str], ProviderFactory], subject: str) -> tuple[SlowGuard, ...]:
    unknown = sorted({judge.prompt for judge in spec.judges} - prompts.keys())
    if unknown:
        raise UsageError(subject, seen=f"its judges use the prompts {', '.join(unknown)}", needed="prompts that bundle.yaml names")
    judges = [LabelJudge(judge, prompt=prompts[judge.prompt], provider=provider(judge.provider)) for judge in spec.judges]
    return (*judges, *([PresidioGuard(spec.presidio, subject=subject)] if spec.presidio else ()))


def _on_error(guards: Sequence[Guard]) -> Action:
    return gravest_of(Action(guard.on_error) for guard in guards)


def _timeout_s(guards: Sequence[Guard]) -> float:
    return min(guard.timeout.total_seconds() for guard in guards)
