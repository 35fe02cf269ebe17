"""What is wrong in guards.yaml is told with line and path."""

from __future__ import annotations

import re

import pytest

from workbench.errors import SpecError
from workbench.spec.bundle import BundleSpec
from workbench.spec.guards import GuardsSpec, disagreements
from workbench.spec.loading import parse_spec

BUNDLE = BundleSpec.model_validate(
    {
        "app": "support",
        "name": "v1",
        "model": {"provider": "p", "name": "m"},
        "prompts": {"judge": "judge.md"},
        "orchestration": {"tools": [{"name": "refund"}]},
        "policy": {"thresholds": {"refund_limit_eur": 100}},
    }
)


def faults(text: str) -> str:
    with pytest.raises(SpecError) as refused:
        parse_spec(GuardsSpec, "guards.yaml", text.encode(), check=lambda spec: disagreements(spec, BUNDLE))
    return refused.value.seen


JUDGE = "{id: a, stages: [input], provider: p, model: m, prompt: judge, labels: {fine: allow}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tools:\n  refnd: {}", r'guards.yaml:2: tools.refnd: .*no such tool; did you mean "refund"'),
        (
            "tools:\n  refund:\n    arguments:\n      - {id: a, field: x, op: '<', threshold: limit}",
            r"guards.yaml:4: tools.refund.arguments\[0\].threshold: .*no limit",
        ),
        ("tools: {refund: {parameters: {type: objekt}}}", "not a JSON Schema"),
        ("tools: {refund: {most_per_request: 0}}", "at least 1"),
        ("tools: {refund: {arguments: [{id: a, field: x, op: '<', value: abc}]}}", "compares with a number"),
        ("tools: {refund: {arguments: [{id: a, field: x, op: in, value: abc}]}}", "list of values"),
        ("tools: {refund: {arguments: [{id: a, field: x, op: '==', value: [abc]}]}}", "one value"),
        ("tools: {refund: {arguments: [{id: a, field: x, op: '==', value: 1, threshold: b}]}}", "either value or threshold"),
        ("tools: {refund: {arguments: [{id: a, field: x, op: matches, value: '(?=a)'}]}}", "RE2 does not accept"),
        ("tools: {refund: {arguments: [{id: a, field: x, op: like, value: 1}]}}", "allowed: <="),
        (
            "topics:\n  - id: a\n    stages: [output]\n    patterns: ['ok', '(?<=a)b']",
            r"guards.yaml:4: topics\[0\].patterns\[1\]: RE2 does not accept",
        ),
        (
            "topics:\n  - id: a\n    stages: [output]\n    phrases: ['...']",
            r"guards.yaml:4: topics\[0\].phrases\[0\]: a phrase has letters",
        ),
        ("topics: [{id: a, stages: [output]}]", "has phrases or patterns"),
        ("topics: [{id: a, stages: [], phrases: [b]}]", "at least 1"),
        ("topics: [{id: a, stages: [tool_call], phrases: [b], action: redact}]", "cannot be redacted"),
        ("topics: [{id: a, stages: [outptu], phrases: [b]}]", 'did you mean "output"'),
        ("topics: [{id: a, stages: [output], phrases: [b], on_error: ignore}]", "allowed: block, handoff, allow"),
        ("topics: [{id: a, stages: [output], phrases: [b], timeout: 2}]", "duration"),
        (f"judges: [{JUDGE}}}]\ntopics: [{{id: a, stages: [input], phrases: [b]}}]", "unique; a appears"),
        (f"judges: [{JUDGE}, unsure: FINE}}]", "must be unique"),
        (f"judges: [{JUDGE.replace('prompt: judge', 'prompt: juge')}}}]", r'judges\[0\].prompt: .*no juge; did you mean "judge"'),
        (f"judges: [{JUDGE.replace('input', 'output')}}}]", "set streaming to hold_all"),
        ("presidio: {stages: [output]}", "set streaming to hold_all"),
        ("personal_data: [{stages: [output], detectors: [emial]}]", 'did you mean "email"'),
        ("handoff: {asked_for_person: {phrases: []}}", "at least 1"),
        ("handoff: {token_logprob: {below: 1}}", "less than 0"),
        ("handoff: {sla: 96h}", "at most 72h"),
        ("streming: window", 'did you mean "streaming"'),
        ("- a", "needed a mapping"),
        ("a: \x00", "control character"),
    ],
    ids=range(30),
)
def test_each_fault_is_told_with_its_place(text: str, says: str) -> None:
    assert re.search(says, faults(text)), faults(text)


def test_bytes_that_are_no_text_are_told() -> None:
    for content, says in ((b"\xff\xfe\x00", "UTF-16"), (b"a: \xff", "not UTF-8"), (b"#" * (1 << 21), "larger than")):
        with pytest.raises(SpecError, match=says):
            parse_spec(GuardsSpec, "guards.yaml", content)


def test_the_defaults_take_secrets_out_of_answers_and_let_a_person_decide() -> None:
    spec = GuardsSpec()
    assert [(guard.stages, guard.action) for guard in spec.secrets] == [(("output",), "redact")]
    assert (spec.handoff.needs_approval, spec.handoff.unsure, spec.streaming) == ("hold", "hold", "window")
    assert list(disagreements(spec, BUNDLE)) == []
