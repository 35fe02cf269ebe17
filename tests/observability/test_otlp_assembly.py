"""Requests from spans: which span is one, what they add up to, and that neither order nor repetition matters."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.observability.traces import TRACE, agent, asking, chat, facts, request, requests, span, tool
from workbench.observability.otlp.assembly import assemble
from workbench.observability.otlp.model import Facts

WEB = {"name": "POST /ask", "kind": "server"}


def ids(*spans: dict[str, Any]) -> list[str]:
    return [one.request_id for one in requests(*spans)]


def test_latency_is_the_root_s_and_its_status_the_request_s():
    row = request(span(1, ms=900, **WEB), chat(2, 1, at=100, ms=300, error="x"), chat(3, 1, at=500, ms=300))
    assert (row["latency_ms"], row["status"], row["request_id"], row["trace_id"]) == (900.0, "ok", TRACE, TRACE)
    failed = request(span(1, ms=900, error="500", **WEB), chat(2, 1, attributes={"error.type": "RateLimitError"}))
    assert (failed["status"], failed["error_type"]) == ("error", "RateLimitError")


def test_without_its_root_a_request_lasts_from_the_first_to_the_last_span():
    row = request(chat(2, 1, at=100, ms=300), tool(3, 1, at=500, ms=200))
    assert row["latency_ms"] == 600.0


def test_a_request_without_an_end_has_no_latency():
    assert request(agent(1, ms=None))["latency_ms"] is None


def test_totals_that_an_agent_repeats_are_not_counted_twice():
    row = request(
        agent(1, ms=900, attributes={"gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 10}), chat(2, 1), chat(3, 1, at=50)
    )
    assert (row["input_tokens"], row["output_tokens"]) == (20, 10)


def test_a_wrapper_of_a_model_call_is_not_another_one():
    assert request(chat(1, ms=900), chat(2, 1), chat(3, 2))["input_tokens"] == 10


def test_one_response_seen_by_two_instrumentations_is_counted_once():
    response = {"gen_ai.response.id": "resp-1"}
    row = request(span(1, ms=900, **WEB), chat(2, 1, attributes=response), chat(3, 1, attributes=response))
    assert (row["input_tokens"], row["output_tokens"]) == (10, 5)


def test_what_only_the_agent_tells_is_taken_from_it():
    row = request(agent(1, attributes={"gen_ai.usage.input_tokens": 7}), chat(2, 1, attributes={"gen_ai.usage.input_tokens": "?"}))
    assert (row["input_tokens"], row["output_tokens"]) == (7, 5)


def test_details_are_parts_and_zero_is_not_missing():
    details = {"gen_ai.usage.cache_read.input_tokens": 8, "gen_ai.usage.reasoning.output_tokens": 0}
    row = request(chat(1, attributes=details))
    assert {name: row[name] for name in row if name.endswith("_tokens")} == {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_tokens": 8,
        "cache_write_tokens": None,
        "reasoning_tokens": 0,
    }


@pytest.mark.parametrize(
    ("spans", "calls", "errors"),
    [
        ([chat(1)], None, None),
        ([chat(1, attributes={"gen_ai.response.finish_reasons": ["stop"]})], 0, 0),
        ([chat(1, attributes={"gen_ai.output.messages": asking("a", "b")})], 2, None),
        (
            [
                agent(1),
                chat(2, 1, attributes={"gen_ai.output.messages": asking("a", "b")}),
                tool(3, 1, call_id="a"),
                tool(4, 1, call_id="b"),
            ],
            2,
            0,
        ),
        ([agent(1), chat(2, 1, attributes={"gen_ai.output.messages": asking("a", "b")}), tool(3, 1), tool(4, 1, error="x")], 2, 1),
        ([agent(1), chat(2, 1, attributes={"gen_ai.output.messages": asking(None)}), tool(3, 1)], 1, 0),
        (
            [agent(1), chat(2, 1, attributes={"gen_ai.output.messages": asking("a")}), tool(3, 1, call_id="a"), tool(4, 1, call_id="z")],
            2,
            0,
        ),
        ([agent(1), tool(2, 1), tool(3, 1, at=10)], 2, 0),
        ([agent(1), tool(2, 1, call_id="a", error="x"), tool(3, 1, at=200, call_id="a")], 1, 0),
        ([agent(1), tool(2, 1, call_id="a"), tool(3, 2)], 1, 0),
    ],
)
def test_calls_of_tools_are_counted_once_each(spans: list[dict[str, Any]], calls: int | None, errors: int | None):
    row = request(*spans)
    assert (row["n_tool_calls"], row["n_tool_errors"]) == (calls, errors)


def test_the_next_question_repeats_the_calls_of_its_turn_and_no_earlier_ones():
    history = (
        '[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"old","function":{"name":"f"}}]},'
        '{"role":"user","content":"b"},{"role":"assistant","tool_calls":[{"id":"new","function":{"name":"f"}}]}]'
    )
    row = request(
        agent(1),
        chat(2, 1, attributes={"gen_ai.output.messages": asking("new")}),
        chat(3, 1, at=50, attributes={"gen_ai.input.messages": history}),
    )
    assert row["n_tool_calls"] == 1


def test_first_token_counts_from_the_request_s_beginning():
    told = {"gen_ai.response.time_to_first_chunk": 0.05}
    assert request(span(1, ms=900, **WEB), chat(2, 1, at=100, attributes=told))["ttft_ms"] == 150.0


def test_guards_that_looked_and_found_nothing_are_told_from_none_that_looked():
    assert request(chat(1))["violation_rules"] is None
    told: tuple[dict[str, Any], ...] = (
        {},
        {"workbench.rule": "no_codes", "workbench.action": "flag"},
        {"guardrail.name": "secrets", "guardrail.action": "block"},
    )
    guards = [span(number, 1, attributes={"openinference.span.kind": "GUARDRAIL", **each}) for number, each in enumerate(told, start=2)]
    guarded = request(agent(1), *guards)
    assert (guarded["violation_rules"], guarded["blocked_rules"]) == (["no_codes"], ["secrets"])


def test_the_version_that_served_and_the_unit_come_from_whichever_span_tells():
    serving = {"workbench.bundle": "shop@0123456789ab", "workbench.arm": "candidate", "workbench.share": 0.05, "workbench.route_version": 7}
    (found,) = requests(
        span(1, ms=900, **WEB),
        chat(2, 1, attributes={**serving, "workbench.unit": "u-1", "session.id": "s-1", "workbench.workflow": "orders"}),
    )
    row = found.row
    assert (row["bundle"], row["arm"], row["traffic_share"], row["route_version"]) == ("shop@0123456789ab", "candidate", 0.05, 7)
    assert (found.unit, row["session_id"], row["workflow"]) == ("u-1", "s-1", "orders")
    (by_process,) = requests(chat(1), resource={"workbench.bundle": "shop@0123456789ab", "service.name": "x"})
    assert by_process.row["bundle"] == "shop@0123456789ab"
    (by_session,) = requests(chat(1, attributes={"gen_ai.conversation.id": "c-1"}))
    assert by_session.unit == "c-1"


@pytest.mark.parametrize("told", [{"workbench.arm": "both"}, {"workbench.share": 3}, {"workbench.route_version": "x"}])
def test_what_cannot_be_true_of_the_serving_version_is_not_taken(told: dict[str, Any]):
    row = request(chat(1, attributes=told))
    assert (row["arm"], row.get("traffic_share"), row.get("route_version")) == ("none", None, None)


def test_a_trace_without_ai_is_no_request():
    assert requests(span(1, **WEB), span(2, 1, kind="client")) == ()


def test_a_web_request_is_one_however_many_agents_it_asks():
    assert ids(span(1, ms=900, **WEB), agent(2, 1), agent(3, 1, at=200)) == [TRACE]


def test_agents_beside_each_other_in_a_batch_are_a_request_each():
    spans = (span(1, ms=900, name="nightly"), agent(2, 1), chat(3, 2), agent(4, 1, at=200), chat(5, 4, at=210), chat(6, 4, at=250))
    first, second = requests(*spans)
    assert (first.request_id, second.request_id) == (TRACE, f"{TRACE}-{4:016x}")
    assert (first.row["input_tokens"], second.row["input_tokens"]) == (10, 20)
    assert (first.row["latency_ms"], second.row["latency_ms"]) == (100.0, 100.0)


def test_an_agent_below_an_agent_is_a_step_of_it():
    assert ids(agent(1, ms=900), agent(2, 1), agent(3, 1, at=200)) == [TRACE]


def test_agents_whose_parent_is_still_to_come_are_one_request():
    assert ids(agent(2, 1), agent(3, 1, at=200)) == [TRACE]


def test_marked_spans_are_requests_wherever_they_stand():
    marked = {"workbench.request": True}
    found = requests(span(1, ms=900, **WEB), chat(2, 1, attributes=marked), chat(3, 1, at=200, attributes=marked), chat(4, 3, at=210))
    assert [(one.request_id, one.row["input_tokens"]) for one in found] == [(TRACE, 10), (f"{TRACE}-{3:016x}", 10)]


def test_spans_in_a_circle_and_a_very_deep_trace_are_put_together():
    assert ids(chat(1, 2), chat(2, 3), chat(3, 1)) == [TRACE]
    deep = [agent(1, ms=9000), *(chat(number, number - 1) for number in range(2, 3000))]
    assert request(*deep)["input_tokens"] == 10


@st.composite
def traces(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Spans of all kinds, some below others, some below what is missing."""
    spans = []
    for number in range(1, draw(st.integers(2, 9))):
        parent = draw(st.none() | st.integers(1, 10))
        make = draw(st.sampled_from((chat, agent, tool, span)))
        told: dict[str, Any] = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "gen_ai.usage.input_tokens": st.integers(0, 50),
                    "workbench.unit": st.sampled_from(("u1", "u2")),
                    "workbench.request": st.sampled_from((True,)),
                    "gen_ai.response.id": st.sampled_from(("r1", "r2")),
                    "gen_ai.output.messages": st.sampled_from((asking("a"), asking("a", "b"), asking(None))),
                    "llm.cost.total": st.sampled_from((0.1, 0.2, 0.7)),
                },
            )
        )
        kind = draw(st.sampled_from(("internal", "server")))
        spans.append(make(number, parent, at=draw(st.integers(0, 20)), ms=draw(st.none() | st.integers(0, 50)), attributes=told, kind=kind))
    return spans


@given(spans=traces(), seed=st.integers(0, 1 << 32))
@settings(max_examples=50, deadline=None)
def test_order_and_repetition_do_not_matter(spans: list[dict[str, Any]], seed: int):
    said = facts(*spans)
    chance = random.Random(seed)
    again: list[Facts] = [*said, *chance.choices(said, k=3)]
    chance.shuffle(again)
    assert [one.row for one in assemble(again, app="shop")] == [one.row for one in assemble(said, app="shop")]


@given(spans=traces(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_every_span_belongs_to_one_request_and_no_token_counts_twice(spans: list[dict[str, Any]], data: st.DataObject):
    said = facts(*spans)
    found = assemble(said, app="shop")
    assert len({one.request_id for one in found}) == len(found)
    if not found:
        return
    assert found[0].request_id == TRACE
    assert sorted(facts.span_id for one in found for facts in one.spans) == sorted(facts.span_id for facts in said)
    told = sum(one.row["input_tokens"] or 0 for one in found)
    assert told <= sum(one.counts.get("input_tokens", 0) for one in said)
    known = [one for one in said if "input_tokens" in one.counts]
    assert (len(known) > 0) == any(one.row["input_tokens"] is not None for one in found)
    for one in found:
        assert (one.row["n_tool_errors"] or 0) <= (one.row["n_tool_calls"] or 0)


@given(spans=traces())
@settings(max_examples=25, deadline=None)
def test_the_id_of_the_trace_is_a_request_from_the_first_ai_span_on(spans: list[dict[str, Any]]):
    for n in range(1, len(spans) + 1):
        found = requests(*spans[:n])
        assert not found or found[0].request_id == TRACE
