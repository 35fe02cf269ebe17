"""Rows of turns: whatever a turn did, its rows fit the log and add up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.controls.tiny import ASK, NOW
from workbench.controls.assignment import assign
from workbench.controls.model import Call, Route
from workbench.controls.recording import Recorder, derived_id, span_rows, status_of, turn_columns
from workbench.controls.refusals import bad_request, deadline_passed, overloaded
from workbench.controls.turn import Step, Turn, said
from workbench.demo.chance import identity
from workbench.observability.redaction import Redactor
from workbench.observability.rows import rows_of
from workbench.observability.sealing import Sealer

KEY = b"a key of thirty-two bytes, tests"
RECORDER = Recorder(Sealer(Redactor(KEY), KEY))
seconds = st.floats(0, 1000)
tokens = st.integers(0, 10**6)
model_details = st.fixed_dictionaries(
    {},
    optional={
        "model": st.text(max_size=9),
        "input_tokens": tokens,
        "output_tokens": tokens,
        "cost_usd": st.floats(0, 10).map(lambda v: round(v, 9)),
    },
)
tool_details = st.fixed_dictionaries(
    {
        "tool_call_id": st.text(max_size=9),
        "arguments": st.dictionaries(st.text(max_size=5), st.text(max_size=9)),
        "side_effect": st.sampled_from(["read", "write", "unknown"]),
    }
)
kinds = st.sampled_from(
    [
        ("model", model_details),
        ("tool", tool_details),
        ("retrieval", st.just({"query": "q", "retrieved": [{"doc_id": "d", "score": 1.0, "rank": 1}]})),
        ("guard", st.just({"rule_id": "r", "action": "block", "tool": "t"})),
        ("fallback", st.just({})),
    ]
)


@st.composite
def steps(draw) -> Step:
    kind, details = draw(kinds)
    return Step(
        kind=kind,
        name=draw(st.text(max_size=9)),
        start_s=draw(seconds),
        duration_s=draw(seconds),
        status=draw(st.sampled_from(["ok", "error", "timeout", "cancelled"])),
        attempt=draw(st.integers(1, 4)),
        details=draw(details),
    )


def turn(made=(), **changes) -> Turn:
    about = {
        "choices": said("Hello", "stop"),
        "status": "ok",
        "is_fallback": False,
        "error_type": None,
        "blocked_rules": (),
        "handoff_id": None,
        "start_s": 0.5,
        "latency_s": 1.0,
        "ttft_s": 0.25,
        "steps": tuple(made),
    }
    return Turn(**{**about, **changes})


def call(**changes) -> Call:
    about = {
        "request_id": "req_1",
        "app": "support",
        "messages": tuple(ASK),
        "unit": "u1",
        "session_id": "s1",
        "workflow": None,
        "metadata": {},
        "received_at": NOW,
        "deadline_s": 60.0,
        "source": "library",
    }
    return Call(**{**about, **changes})


ROUTE = Route(
    app="support",
    stable="support@1",
    candidate=None,
    share=0.0,
    salt="s",
    release_id=None,
    without_stable="off",
    route_version=1,
    changed_at=NOW,
)


def start_of(made: Call):
    return RECORDER.start(made, assign(ROUTE, made.unit), provider="scripted", model="small")


@given(st.lists(steps(), max_size=8))
def test_whatever_a_turn_did_its_rows_fit_the_log_and_add_up(made):
    start = start_of(call())
    rows = RECORDER.end(start, call(), turn(made), turn_columns(turn(made)), output={"content": "Hello"}, latency_s=2.0, zero=NOW)
    assert len(rows_of({"requests": [start]})) == 1
    assert len(rows_of(rows)) == 2 + len(made)
    (end,) = rows["requests"]
    said = [step.details["input_tokens"] for step in made if step.kind == "model" and "input_tokens" in step.details]
    assert end["input_tokens"] == (sum(said) if said else None)
    assert end["n_tool_calls"] == sum(step.kind == "tool" for step in made)
    assert end["n_tool_errors"] == sum(step.kind == "tool" and step.status != "ok" for step in made)
    costs = [span["cost_usd"] for span in rows["spans"] if span.get("cost_usd") is not None]
    assert end["cost_usd"] == (pytest.approx(sum(costs), abs=1e-8) if costs else None)
    assert len({span["span_id"] for span in rows["spans"]}) == len(rows["spans"])
    root, *children = rows["spans"]
    assert {span["parent_span_id"] for span in children} <= {root["span_id"]}


def test_times_count_from_the_calls_arrival():
    zero = NOW - timedelta(seconds=100)
    made = turn([Step(kind="model", name="m", start_s=100.5, duration_s=1.0)], start_s=100.5, ttft_s=0.25)
    (end,) = RECORDER.end(start_of(call()), call(), made, turn_columns(made), output={"content": "x"}, latency_s=2.0, zero=zero)["requests"]
    assert (end["ts_start"], end["ts_end"]) == (NOW, NOW + timedelta(seconds=2))
    assert (end["latency_ms"], end["ttft_ms"]) == (2000.0, 750.0)
    (_, span) = span_rows(made.steps, end, zero=zero)
    assert (span["ts_start"], span["duration_ms"]) == (NOW + timedelta(seconds=0.5), 1000.0)


def test_a_call_that_names_no_workflow_is_unassigned():
    assert start_of(call())["workflow"] == "unassigned"
    assert start_of(call(workflow="returns"))["workflow"] == "returns"


def test_metadata_stands_on_the_requests_own_span_and_nothing_there_without_it():
    for metadata, attributes in (({}, None), ({"mail": "a@example.com"}, '{"metadata":{"mail":"<EMAIL:')):
        made = call(metadata=metadata)
        spans = RECORDER.end(start_of(made), made, turn(), turn_columns(turn()), output={"content": "x"}, latency_s=1.0, zero=NOW)["spans"]
        assert (spans[0]["attributes"] or "").startswith(attributes or "")
        assert bool(spans[0]["attributes"]) == bool(metadata)


@pytest.mark.parametrize(("refusal", "status"), [(deadline_passed(0), "timeout"), (bad_request("x"), "blocked"), (overloaded(3), "error")])
def test_a_refusal_is_one_final_row_without_what_was_asked(refusal, status):
    rows = RECORDER.refused(call(), refusal, at=NOW)
    (row,) = rows["requests"]
    assert rows_of(rows)
    assert (row["status"], row["error_type"], row["is_final"], row["revision"]) == (status, refusal.code, True, 0)
    assert status_of(refusal) == status
    assert "input" not in row


@given(st.text(), st.integers())
def test_ids_that_are_derived_are_the_same_everywhere(label, number):
    assert derived_id("req_", label, number) == derived_id("req_", label, number)
    if label.isascii():
        assert derived_id("req_", label, number) == identity("req_", label, number)
