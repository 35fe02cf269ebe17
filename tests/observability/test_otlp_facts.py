"""What one span says, whatever dialect it speaks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.observability.real_data import real
from tests.observability.traces import chat, facts, request, span
from workbench.observability.otlp import aliases
from workbench.observability.otlp.model import Hit
from workbench.observability.tables import SPAN_KINDS


def sample(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(real("otlp", name).read_text())
    return found


@pytest.mark.parametrize("name", ["otel_genai_client_span_tool_calls.json", "openinference_client_span_tool_calls.json"])
def test_one_call_in_both_forms_has_the_known_numbers(name: str):
    row = request(span(1, attributes=sample(name)))
    assert (row["input_tokens"], row["output_tokens"], row["n_tool_calls"]) == (97, 52, 1)
    assert (row["model_requested"], row["model_served"], row["provider"]) == ("gpt-4", "gpt-4-0613", "openai")


def test_one_call_in_both_forms_gives_the_same_row():
    one, other = (request(span(1, attributes=sample(f"{name}_client_span_tool_calls.json"))) for name in ("otel_genai", "openinference"))
    assert one == other


def test_the_tool_of_the_sample_is_the_call_that_was_asked_for():
    (only,) = facts(span(1, attributes=sample("otel_genai_tool_execution_span.json")))
    assert (only.kind, only.texts["tool_name"], only.texts["tool_call_id"]) == ("tool", "get_weather", "1234")
    assert only.tool_arguments == {"city": "New York"}
    assert only.tool_result["status"] == "success"


PARTS = [
    {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
    {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "get_weather", "arguments": {"b": 1, "a": 2}}]},
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
]
MESSAGES = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"a":2,"b":1}'}}],
    },
    {"role": "tool", "content": "rain", "tool_call_id": "c1"},
]


@pytest.mark.parametrize(
    "told",
    [
        {"gen_ai.input.messages": PARTS},
        {"gen_ai.input.messages": json.dumps(PARTS)},
        {"gen_ai.input.messages": json.dumps(PARTS).replace('"response"', '"result"')},
        {"gen_ai.prompt": json.dumps(MESSAGES)},
        {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "Weather?",
            "gen_ai.prompt.1.role": "assistant",
            "gen_ai.prompt.1.tool_calls.0.id": "c1",
            "gen_ai.prompt.1.tool_calls.0.name": "get_weather",
            "gen_ai.prompt.1.tool_calls.0.arguments": '{"b": 1, "a": 2}',
            "gen_ai.prompt.2.role": "tool",
            "gen_ai.prompt.2.content": "rain",
            "gen_ai.prompt.2.tool_call_id": "c1",
        },
        {
            "llm.input_messages.10.message.role": "tool",
            "llm.input_messages.10.message.content": "rain",
            "llm.input_messages.10.message.tool_call_id": "c1",
            "llm.input_messages.2.message.role": "assistant",
            "llm.input_messages.2.message.tool_calls.0.tool_call.id": "c1",
            "llm.input_messages.2.message.tool_calls.0.tool_call.function.name": "get_weather",
            "llm.input_messages.2.message.tool_calls.0.tool_call.function.arguments": '{"b":1,"a":2}',
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.content": "Weather?",
        },
        {"input.value": json.dumps({"model": "m", "messages": MESSAGES})},
    ],
)
def test_messages_of_every_dialect_are_the_same_talk(told: dict[str, Any]):
    (only,) = facts(chat(1, attributes=told))
    assert only.input == MESSAGES
    assert [call.call_id for call in only.earlier_calls] == ["c1"]


def test_messages_that_come_as_events_are_a_talk_too():
    events = [
        ("gen_ai.system.message", 0, {"content": "Be kind."}),
        ("gen_ai.user.message", 1, {"content": "Hello"}),
        ("gen_ai.choice", 2, {"index": 0, "finish_reason": "stop", "message": json.dumps({"content": "Hi", "role": "assistant"})}),
    ]
    (only,) = facts(chat(1, events=events))
    assert only.input == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert only.output == [{"role": "assistant", "content": "Hi"}]
    assert only.texts["finish_reason"] == "stop"


def test_system_instructions_come_first():
    (only,) = facts(
        chat(1, attributes={"gen_ai.system_instructions": '[{"type":"text","content":"Be kind."}]', "gen_ai.input.messages": PARTS[:1]})
    )
    assert only.input == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Weather?"}]


def test_a_gap_in_flattened_numbers_costs_no_memory():
    (only,) = facts(
        chat(1, attributes={"gen_ai.prompt.999999999.content": "x", "gen_ai.prompt.999999999.role": "user", "gen_ai.prompt.0": "y"})
    )
    assert len(only.input) <= 2


@pytest.mark.parametrize("value", ["", "{", "[1, 2", "null", '{"a": 1}', "plain words", '["a", 1]', "[[[[[]]]]]"])
def test_whatever_stands_where_messages_should_be_something_is_kept_and_nothing_breaks(value: str):
    for name in (
        *aliases.INPUTS,
        *aliases.OUTPUTS,
        "llm.input_messages.0",
        "llm.input_messages.0.message",
        "gen_ai.completion.0.tool_calls",
    ):
        (only,) = facts(chat(1, attributes={name: value}))
        assert only.kind == "model"


@pytest.mark.parametrize(
    ("told", "kind", "operation"),
    [
        ({"openinference.span.kind": "LLM"}, "model", "chat"),
        ({"openinference.span.kind": "RETRIEVER"}, "retrieval", "retrieval"),
        ({"openinference.span.kind": "CHAIN"}, "agent", "invoke_workflow"),
        ({"openinference.span.kind": "GUARDRAIL"}, "guard", None),
        ({"openinference.span.kind": "EVALUATOR"}, "other", None),
        ({"gen_ai.operation.name": "embeddings"}, "model", "embeddings"),
        ({"gen_ai.operation.name": "invoke_agent"}, "agent", "invoke_agent"),
        ({"traceloop.span.kind": "workflow"}, "agent", "invoke_workflow"),
        ({"traceloop.span.kind": "tool"}, "tool", "execute_tool"),
        ({"llm.request.type": "chat"}, "model", "chat"),
        ({"gen_ai.usage.prompt_tokens": 3}, "model", None),
        ({"vector_db.vendor": "x"}, "retrieval", None),
    ],
)
def test_kinds_of_all_dialects(told: dict[str, Any], kind: str, operation: str | None):
    (only,) = facts(span(1, attributes=told))
    assert (only.kind, only.texts.get("operation"), only.is_ai) == (kind, operation, True)


def test_the_table_names_only_kinds_that_the_log_knows():
    assert {kind for kinds in aliases.KINDS.values() for kind in kinds.values()} <= set(SPAN_KINDS)
    assert {kind for _, kind in aliases.KIND_BY_PRESENCE} <= set(SPAN_KINDS)


def test_a_span_of_something_else_has_nothing_to_do_with_a_model():
    for told in ({}, {"http.request.method": "GET"}, {"workbench.app": "shop", "workbench.unit": "u", "workbench.bundle": "b"}):
        (only,) = facts(span(1, kind="server", attributes=told))
        assert not only.is_ai


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        ("gen_ai.usage.input_tokens", "input_tokens"),
        ("gen_ai.usage.prompt_tokens", "input_tokens"),
        ("llm.token_count.prompt", "input_tokens"),
        ("gen_ai.usage.completion_tokens", "output_tokens"),
        ("llm.token_count.completion", "output_tokens"),
        ("gen_ai.usage.cache_creation.input_tokens", "cache_write_tokens"),
        ("gen_ai.usage.cache_write.input_tokens", "cache_write_tokens"),
        ("gen_ai.usage.cache_read_input_tokens", "cache_read_tokens"),
        ("llm.token_count.prompt_details.cache_read", "cache_read_tokens"),
        ("gen_ai.usage.reasoning.output_tokens", "reasoning_tokens"),
        ("llm.token_count.completion_details.reasoning", "reasoning_tokens"),
    ],
)
def test_tokens_of_all_dialects_and_zero_is_a_value(dialect: str, name: str):
    for value in (0, 7, "7", 7.0):
        (only,) = facts(span(1, attributes={dialect: value}))
        assert only.counts == {name: int(value)}
    for value in (-1, "x", 1.5, True, 10**13):
        (only,) = facts(span(1, attributes={dialect: value}))
        assert only.counts == {}


def test_documents_of_all_dialects_are_hits():
    wanted = (Hit("d1", 0.5, 1), Hit("d2", None, 2))
    told: list[dict[str, Any]] = [
        {"attributes": {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": '[{"id":"d1","score":0.5},{"id":"d2"}]'}},
        {"attributes": {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": [{"id": "d1", "score": 0.5}, {"id": "d2"}]}},
        {
            "attributes": {
                "openinference.span.kind": "RETRIEVER",
                "retrieval.documents.0.document.id": "d1",
                "retrieval.documents.0.document.score": 0.5,
                "retrieval.documents.1.document.id": "d2",
                "retrieval.documents.1.document.content": "text",
            }
        },
        {
            "attributes": {"vector_db.vendor": "x"},
            "events": [
                ("db.query.result", 1, {"db.query.result.id": "d1", "db.query.result.score": 0.5}),
                ("db.query.result", 1, {"db.query.result.id": "d2"}),
            ],
        },
    ]
    for more in told:
        (only,) = facts(span(1, **more))
        assert only.hits == wanted


def test_scores_come_from_evaluation_events():
    event = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.8, "gen_ai.evaluation.explanation": "fits"}
    (only,) = facts(
        chat(1, events=[("gen_ai.evaluation.result", 10, event), ("gen_ai.evaluation.result", 10, {"gen_ai.evaluation.name": "x"})])
    )
    assert [(score.name, score.value, score.explanation, score.source) for score in only.scores] == [("relevance", 0.8, "fits", "judge")]


def test_openinference_s_judgements_are_scores_with_their_judge():
    told = {
        "evaluations.0.evaluation.name": "relevance",
        "evaluations.0.evaluation.score": 1,
        "evaluations.0.evaluation.annotator_kind": "CODE",
        "annotations.0.annotation.name": "tone",
        "annotations.0.annotation.label": "kind",
        "annotations.0.annotation.annotator_kind": "HUMAN",
        "annotations.1.annotation.name": "says nothing",
    }
    (only,) = facts(chat(1, attributes=told))
    assert [(score.name, score.value, score.label, score.source, score.number) for score in only.scores] == [
        ("relevance", 1.0, None, "rule", 0),
        ("tone", None, "kind", "human", 1),
    ]


def test_the_older_form_of_a_call_is_one():
    told = {
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.function_call_name": "get_weather",
        "llm.output_messages.0.message.function_call_arguments_json": '{"b": 1, "a": 2}',
    }
    (only,) = facts(chat(1, attributes=told))
    assert [call.name for call in only.calls] == ["get_weather"]
    assert only.output[0]["tool_calls"][0]["function"]["arguments"] == '{"a":2,"b":1}'


@pytest.mark.parametrize(
    ("more", "status", "error_type"),
    [
        ({}, "ok", None),
        ({"error": "boom"}, "error", "error"),
        ({"attributes": {"error.type": "ReadTimeout"}}, "timeout", "ReadTimeout"),
        ({"error": "x", "events": [("exception", 1, {"exception.type": "openai.RateLimitError"})]}, "error", "openai.RateLimitError"),
        ({"error": "x", "attributes": {"error.type": "asyncio.CancelledError"}}, "cancelled", "asyncio.CancelledError"),
        ({"attributes": {"gen_ai.response.finish_reasons": ["length"]}}, "truncated", None),
        ({"attributes": {"gen_ai.response.finish_reasons": '["content_filter"]'}}, "blocked", None),
    ],
)
def test_how_a_span_ended(more: dict[str, Any], status: str, error_type: str | None):
    (only,) = facts(chat(1, **more))
    assert (only.status, only.error_type) == (status, error_type)
