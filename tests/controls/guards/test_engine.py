"""The guards of a bundle over a whole turn, and what happens when one of them fails."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.controls.guards.policies import Scripted, broken, guards, streamed
from workbench.controls.guards.matches import Match
from workbench.controls.guards.model import Action, Finding, Stage, gravest
from workbench.controls.guards.rules import guards_of
from workbench.errors import UsageError

TOPIC = "topics: [{id: codename, stages: [input, output], phrases: [blue heron], action: block, on_error: handoff}]"
JUDGED = """
streaming: hold_all
judges:
  - id: on_topic
    stages: [input, output]
    provider: example
    model: small
    prompt: judge
    labels: {fine: allow, misuse: block, odd: flag}
    unsure: unclear
    timeout: 50ms
    on_error: ON_ERROR
"""


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def judged(said: Any, *, on_error: str = "block") -> tuple[Any, Scripted]:
    scripted = Scripted(said)
    return guards(JUDGED.replace("ON_ERROR", on_error), provider=lambda _name: lambda _clock: scripted), scripted


def input_of(policy: Any, *messages: dict[str, Any]) -> tuple[Finding, ...]:
    return asyncio.run(policy.check_input(messages))


@pytest.mark.parametrize(
    "message",
    [
        user("the blue heron"),
        user([{"type": "text", "text": "the Blue-Heron"}]),
        user([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "blue heron"}]),
        user([{"type": "document", "text": "hello", "source": {"type": "text", "data": "blue heron"}}]),
        user("hello", name="blue_heron"),
        {"role": "tool", "tool_call_id": "1", "content": "blue heron"},
        {"role": "function", "name": "f", "content": "blue heron"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": '{"q": "blue heron"}'}}]},
        {"role": "nobody knows", "content": "blue heron"},
        {"content": "blue heron"},
    ],
    ids=range(10),
)
def test_the_input_is_looked_at_wherever_the_text_stands(message: dict[str, Any]) -> None:
    assert broken(input_of(guards(TOPIC), user("hello"), message)) == [("codename", "block", "matched")]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_what_the_makers_of_the_assistant_write_may_name_the_topic(role: str) -> None:
    (finding,) = input_of(guards(TOPIC), {"role": role, "content": "Never speak of the blue heron."}, user("hello"))
    assert (finding.rule_id, finding.action, finding.reason) == ("codename", Action.ALLOW, "passed")


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instructions_that_hold_what_others_wrote_are_guarded_where_the_policy_says_so(role: str) -> None:
    policy = guards("instructions: guarded\npersonal_data: [{stages: [input], action: redact}]\n" + TOPIC)
    talk = [{"role": role, "content": "Found: blue heron, ann@example.org"}, user("hello")]
    assert {item[:2] for item in broken(input_of(policy, *talk))} == {("personal_data.email", "redact"), ("codename", "block")}
    assert asyncio.run(policy.redacted_input(talk))[0]["content"] == "Found: blue heron, [email removed]"


@pytest.mark.parametrize("content", [None, 7, [], [None, 7, {}, {"text": 7}, "blue heron"], {"text": "x"}])
def test_a_message_of_another_form_has_no_text_and_breaks_nothing(content: Any) -> None:
    assert broken(input_of(guards(TOPIC), user(content, tool_calls=[None, {"function": 7}, {}], name=7))) == []


def test_a_talk_that_is_too_long_is_refused() -> None:
    policy = guards("prompt_size: {most_characters: 20, most_messages: 2}")
    assert broken(input_of(policy, user("x" * 20))) == []
    assert broken(input_of(policy, user("x" * 21))) == [("prompt_size", "block", "too_long")]
    assert broken(input_of(policy, *[user("x")] * 3)) == [("prompt_size", "block", "too_long")]


def test_personal_data_can_be_kept_from_the_model() -> None:
    policy = guards("personal_data: [{stages: [input], action: redact}]")
    call = {"id": "1", "function": {"name": "f", "arguments": '{"to": "ann@example.org"}'}}
    bare = {"id": "2", "function": {"name": "f", "arguments": '{"phone": +49 30 901820 00}'}}
    talk = [
        {"role": "system", "content": "We are help@example.org."},
        user("I am ann@example.org", name="ann@example.org"),
        user([{"type": "text", "text": "or ben@example.org"}, {"type": "image_url", "image_url": {}}]),
        user([{"type": "note", "body": ["eve@example.org"]}, {"type": "note", "body": ["nobody"]}]),
        {"role": "assistant", "content": None, "tool_calls": [call, bare]},
        user("nothing"),
    ]
    assert gravest(input_of(policy, *talk)) is Action.REDACT
    told = asyncio.run(policy.redacted_input(talk))
    assert told == (
        talk[0],
        user("I am [email removed]"),
        user([{"type": "text", "text": "or [email removed]"}, {"type": "image_url", "image_url": {}}]),
        user([{"type": "text", "text": "body\n[email removed]"}, {"type": "note", "body": ["nobody"]}]),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "function": {"name": "f", "arguments": '{"to": "[email removed]"}'}},
                {"id": "2", "function": {"name": "f", "arguments": "{}"}},
            ],
        },
        talk[5],
    )


def test_a_guard_that_finds_nothing_says_that_it_looked() -> None:
    policy = guards("secrets: [{stages: [input, output], action: block}]\n" + TOPIC)
    for findings in (
        input_of(policy, user("hello")),
        asyncio.run(policy.check_output("hello")).findings,
        streamed(policy, ["hello"])[1].findings,
    ):
        assert [(finding.rule_id, finding.action) for finding in findings] == [("secrets", Action.ALLOW), ("codename", Action.ALLOW)]


class Broken:
    """A matcher that fails as it is told to."""

    guards = ("broken",)
    timeout_s = 0.05
    redacts = False

    def __init__(self, on_error: str, fault: Any = ZeroDivisionError) -> None:
        self.on_error = Action(on_error)
        self._fault = fault

    def find(self, _text: str, _start: int) -> list[Match]:
        if self._fault is time.sleep:
            time.sleep(0.3)
            return []
        raise self._fault


@pytest.mark.parametrize("on_error", ["block", "handoff", "allow"])
def test_a_quick_guard_that_raises_orders_what_its_on_error_says(on_error: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = guards("secrets: []")
    policy._matchers = {stage: (Broken(on_error),) for stage in Stage}
    policy._ids = dict.fromkeys(Stage, ("broken",))
    for findings in (
        input_of(policy, user("my secret words")),
        asyncio.run(policy.check_output("my secret words")).findings,
        streamed(policy, ["my secret words. "] * 100)[1].findings,
    ):
        assert [(finding.rule_id, finding.action.value, finding.reason) for finding in findings] == [("broken", on_error, "error")]
    left, checked = streamed(policy, ["my secret words. "] * 100)
    assert "".join(left) + checked.text == ("my secret words. " * 100 if on_error == "allow" else "")
    assert "secret words" not in caplog.text


@pytest.mark.parametrize("stage", [Stage.INPUT, Stage.OUTPUT])
def test_a_long_text_is_searched_beside_the_loop_and_within_the_guard_s_time(stage: Stage) -> None:
    policy = guards("secrets: []")
    policy._matchers = {**policy._matchers, stage: (Broken("handoff", time.sleep),)}
    policy._ids = {**policy._ids, stage: ("broken",)}
    ticks = []

    async def turn() -> tuple[Finding, ...]:
        text = "x" * 100_000
        looking = policy.look_at_input([user(text)]) if stage is Stage.INPUT else policy.check_output(text)
        checking = asyncio.create_task(looking)
        while not checking.done():
            ticks.append(await asyncio.sleep(0.005))
        found = await checking
        return found if isinstance(found, tuple) else found.findings

    assert [(finding.action.value, finding.reason) for finding in asyncio.run(turn())] == [("handoff", "timeout")]
    assert len(ticks) > 2


def test_a_text_beyond_all_measure_is_not_looked_at_and_not_released() -> None:
    assert broken(asyncio.run(guards().check_output("x" * (9 << 20))).findings) == [("secrets", "block", "too_long")]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("fine", []),
        ("Fine.", []),
        (" FINE\n", []),
        ("misuse", [("on_topic", "block", "matched")]),
        ("odd", [("on_topic", "flag", "matched")]),
        ("unclear", [("on_topic", "handoff", "unsure")]),
        ("It is fine.", [("on_topic", "block", "error")]),
        ("fine misuse", [("on_topic", "block", "error")]),
        ("", [("on_topic", "block", "error")]),
        (lambda _request: None, [("on_topic", "block", "error")]),
        (lambda _request: {"choices": []}, [("on_topic", "block", "error")]),
        (lambda _request: {"choices": [{"message": {"content": 7}}]}, [("on_topic", "block", "error")]),
        (lambda _request: 1 / 0, [("on_topic", "block", "error")]),
        (lambda _request: asyncio.sleep(3600), [("on_topic", "block", "timeout")]),
    ],
    ids=range(14),
)
def test_a_judge_answers_with_a_label_or_has_failed(said: Any, expected: list) -> None:
    policy, scripted = judged(said)
    assert broken(input_of(policy, user("hello"))) == expected
    assert broken(asyncio.run(policy.check_output("hello")).findings) == expected
    assert scripted.asked[0]["messages"] == [
        {"role": "system", "content": "Say fine, misuse or unclear."},
        {"role": "user", "content": "hello"},
    ]


@pytest.mark.parametrize("on_error", ["block", "handoff", "allow"])
def test_a_judge_that_hangs_orders_what_its_on_error_says(on_error: str) -> None:
    policy, _ = judged(lambda _request: asyncio.sleep(3600), on_error=on_error)
    (finding,) = [finding for finding in input_of(policy, user("hello")) if finding.rule_id == "on_topic"]
    assert (finding.action.value, finding.reason) == (on_error, "timeout")
    assert finding.duration_ms >= 50


def test_nobody_else_is_asked_where_a_quick_guard_blocks() -> None:
    scripted = Scripted("fine")
    policy = guards(JUDGED.replace("ON_ERROR", "block") + TOPIC, provider=lambda _name: lambda _clock: scripted)
    assert broken(input_of(policy, user("blue heron"))) == [("codename", "block", "matched")]
    assert scripted.asked == []


def test_an_answer_that_somebody_else_judges_is_held_until_it_is_whole() -> None:
    policy, scripted = judged("misuse")
    assert policy.has_slow_output
    assert policy.has_input_judges
    left, checked = streamed(policy, ["Some words. "] * 200, "window")
    assert set(left) == {""}
    assert (checked.text, checked.action) == ("", Action.BLOCK)
    assert scripted.asked[0]["messages"][1]["content"] == "Some words. " * 200


def test_a_redaction_that_cannot_be_made_takes_the_whole_text_out() -> None:
    policy, _ = judged(lambda _request: 1 / 0, on_error="allow")
    assert asyncio.run(policy.redacted_input([user("hello")])) == (user("[removed]"),)


@pytest.mark.parametrize("tier", ["medium", "high", None])
def test_an_answer_may_leave_unchecked_at_the_low_risk_tier_only(tier: str | None) -> None:
    assert guards("streaming: after", risk_tier="low").streaming == "after"
    with pytest.raises(UsageError, match="risk tier"):
        guards("streaming: after", risk_tier=tier)


def test_the_judge_s_prompt_has_to_be_there() -> None:
    with pytest.raises(UsageError, match="judge"):
        guards(JUDGED.replace("ON_ERROR", "block"), prompts={})


def test_a_registered_bundle_s_guards_come_from_its_own_files() -> None:
    files = {"guards.yaml": JUDGED.replace("ON_ERROR", "block").encode() + b"tools: {look_up: {allow: false}}", "judge.md": b"Say a label."}

    class Content:
        def part(self, name: str) -> dict[str, Any]:
            return {
                "policy": {"guards": {"file": "guards.yaml", "sha256": ""}},
                "prompts": {"judge": {"file": "judge.md", "sha256": ""}, "system": {"file": "gone.md", "sha256": ""}},
                "orchestration": {"tools": [{"name": "look_up"}, {"name": "refund"}]},
            }.get(name, {})

        def file(self, reference: dict[str, str]) -> bytes:
            return files[reference["file"]]

    scripted = Scripted("fine")
    policy = guards_of(Content(), provider=lambda _name: lambda _clock: scripted, risk_tier="high", subject="bundle a@1")
    assert broken(input_of(policy, user("hello"))) == []
    assert scripted.asked[0]["messages"][0]["content"] == "Say a label."
    assert [policy.canonical_tool(name) for name in ("look_up", "REFUND")] == [None, "refund"]


def test_what_is_declared_is_told_and_the_way_out_is_chosen_by_it() -> None:
    policy = guards(TOPIC + "\nrefusal: No.")
    assert (policy.are_declared, policy.refusal, guards().are_declared) == (True, "No.", False)
    assert asyncio.run(policy.look_at_input([user("blue heron")])) == input_of(policy, user("blue heron"))
    assert broken(asyncio.run(policy.look_at_input([user("x" * (9 << 20))]))) == [("codename", "handoff", "too_long")]
    way = policy.withhold(is_streamed=False)
    assert way.feed("words " * 1000) == ""
    assert asyncio.run(way.finish()).text == "words " * 1000
    assert policy.withhold(is_streamed=True).feed("words " * 1000) != ""
