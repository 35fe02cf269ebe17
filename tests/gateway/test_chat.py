"""The dialect, read and written: pure."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.standin import ANSWER, ASK, NOW
from workbench.controls.events import Choice
from workbench.controls.model import Asked
from workbench.errors import RequestRefused
from workbench.gateway.about import About
from workbench.gateway.chat import ChatRequest, read_chat
from workbench.gateway.completions import completion, told
from workbench.gateway.problem import Problem


def read(headers: dict[str, str] | None = None, /, *, serving: str = "hosted", **changes: object) -> ChatRequest:
    body = {name: value for name, value in {**ASK, **changes}.items() if value is not ...}
    named = {name.encode(): value.encode() for name, value in (headers or {}).items()}
    return read_chat(json.dumps(body).encode(), named, serving_of=lambda _app: serving)


def read_raw(body: bytes, headers: dict[bytes, bytes]) -> ChatRequest:
    return read_chat(body, headers, serving_of=lambda _app: "hosted")


def refused(headers: dict[str, str] | None = None, /, **changes: object) -> Problem:
    with pytest.raises(Problem) as found:
        read(headers, **changes)
    return found.value


def test_a_plain_request_is_an_app_and_its_messages():
    request = read()
    assert (request.app, request.messages) == ("support", ({"role": "user", "content": "Where is my order?"},))
    assert request.about == About(unit=None, session=None, workflow=None, metadata={}, deadline_s=None)
    assert (request.asked, request.ignored) == (Asked(), ())


def test_headers_say_who_waits_where_a_held_answer_goes_and_how_often_the_client_tried():
    about = read({"x-workbench-priority": "batch", "x-workbench-callback": "desk", "x-stainless-retry-count": "2"}).about
    assert (about.priority, about.callback, about.retries) == ("batch", "desk", 2)
    assert read({"x-stainless-retry-count": "many"}).about.retries == 0
    assert read({"x-stainless-retry-count": "9" * 5000}).about.retries == 100
    assert refused({"x-workbench-priority": "vip"}).param == "x-workbench-priority"


def test_the_unit_is_the_header_else_safety_identifier_else_user_else_the_session():
    headers = {"x-workbench-unit": "of-header", "x-workbench-session": "of-session"}
    fields = {"safety_identifier": "of-safety", "user": "of-user"}
    assert read(headers, **fields).about.unit == "of-header"
    headers.pop("x-workbench-unit")
    assert read(headers, **fields).about.unit == "of-safety"
    fields.pop("safety_identifier")
    assert read(headers, **fields).about.unit == "of-user"
    assert read(headers).about.unit == read(headers).about.session == "of-session"
    assert read(metadata={"session_id": "of-metadata"}).about.unit == "of-metadata"


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_unit_is_none(blank: str):
    assert read({"x-workbench-unit": blank}, safety_identifier=blank, user=blank).about.unit is None
    assert read({"x-workbench-unit": blank}, user="of-user").about.unit == "of-user"


@given(unit=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100))
def test_a_unit_is_the_same_string_however_it_comes(unit: str):
    found = {read({"x-workbench-unit": unit}).about.unit, read(user=unit).about.unit, read(safety_identifier=unit).about.unit}
    assert found == {unit.strip() or None}


def test_session_and_workflow_come_by_header_or_metadata_and_the_header_wins():
    metadata = {"session_id": "s-1", "workflow": "returns", "other": "kept"}
    request = read(metadata=metadata)
    assert (request.about.session, request.about.workflow, request.about.metadata) == ("s-1", "returns", metadata)
    request = read({"x-workbench-session": "s-2", "x-workbench-workflow": "orders"}, metadata=metadata)
    assert (request.about.session, request.about.workflow) == ("s-2", "orders")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-deadline-ms": "1500"}, 1.5),
        ({"x-deadline-ms": "0"}, 0.0),
        ({"x-deadline-ms": "-20"}, -0.02),
        ({"x-stainless-read-timeout": "600"}, 600.0),
        ({"x-stainless-read-timeout": "2.5"}, 2.5),
        ({"x-deadline-ms": "100", "x-stainless-read-timeout": "600"}, 0.1),
    ],
)
def test_the_deadline_is_in_seconds_and_our_own_header_wins(headers: dict[str, str], seconds: float | None):
    assert read(headers).about.deadline_s == seconds


@pytest.mark.parametrize("name", ["x-deadline-ms", "x-stainless-read-timeout"])
@pytest.mark.parametrize("value", ["soon", "", "nan", "inf", "1 000"])
def test_a_deadline_that_is_no_number_is_refused(name: str, value: str):
    problem = refused({name: value})
    assert (problem.status, problem.param) == (400, name)


def test_parts_of_text_become_one_text():
    parts = [{"type": "text", "text": "Where is"}, {"type": "text", "text": "my order?"}]
    assert read(messages=[{"role": "user", "content": parts}]).messages[0]["content"] == "Where is\nmy order?"


def test_a_talk_with_tools_keeps_its_form_and_nothing_that_we_do_not_know():
    call = {"id": "call_1", "type": "function", "function": {"name": "order", "arguments": "{}"}}
    talk = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Where is it?", "name": "customer"},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "audio": {"id": "a"}},
        {"role": "tool", "content": "on its way", "tool_call_id": "call_1"},
    ]
    request = read(messages=talk)
    assert request.messages == (talk[0], talk[1], {"role": "assistant", "content": None, "tool_calls": [call]}, talk[3])
    assert request.ignored == ("messages.audio",)


def test_what_has_no_effect_is_named_back():
    request = read(temperature=0.2, tools=[{"type": "function"}], seed=None, safety_identifer="misspelt", **{"bad\r\nheader": 1})
    assert request.ignored == ("safety_identifer", "temperature", "tools")
    assert (b"x-workbench-ignored", b"safety_identifer, temperature, tools") in told(ANSWER, ignored=request.ignored)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": ...}, "model"),
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"messages": ...}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"content": "hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "boss", "content": "hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant"}]}, "messages[1].content"),
        ({"messages": [{"role": "tool", "content": "42"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls[0].type"),
        ({"user": 5}, "user"),
        ({"user": "x" * 257}, "user"),
        ({"safety_identifier": ["a"]}, "safety_identifier"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {"x" * 65: "a"}}, "metadata"),
        ({"metadata": {f"k{i}": "" for i in range(17)}}, "metadata"),
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": "1"}, "n"),
        ({"stream": "true"}, "stream"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], param: str):
    problem = refused(**changes)
    assert (problem.status, problem.param) == (400, param)
    assert json.loads(problem.body)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"model": "\\ud800"}', b"[" * 5000, b"NaN", b"null", b"[]", b'"text"', b"7"])
def test_what_is_no_object_of_json_is_refused(body: bytes):
    with pytest.raises(Problem) as found:
        read_raw(body, {})
    assert found.value.status == 400


SECRET = "anna.meier@example.com"


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": [{"role": SECRET, "content": "x"}]},
        {"messages": [{"role": "user", "content": {SECRET: SECRET}}]},
        {"messages": SECRET},
        {"user": [SECRET]},
        {"metadata": {SECRET: 5}},
        {"metadata": {SECRET + "x" * 64: SECRET}},
        {"n": SECRET},
        {"stream": SECRET},
    ],
)
def test_no_refusal_repeats_what_was_sent(changes: dict[str, object]):
    problem = refused(**changes)
    assert SECRET not in problem.body.decode() + str(problem) + repr(problem)
    assert problem.__cause__ is None


@given(
    body=st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_body_is_a_request_or_a_problem(body: bytes):
    with pytest.raises(Problem):
        read_raw(body, {})


@given(
    role=st.sampled_from(["system", "developer", "user", "assistant"]),
    content=st.text(),
    extra=st.dictionaries(st.text(max_size=20), st.integers() | st.text(max_size=5), max_size=4),
)
def test_every_message_of_text_arrives_as_it_was_sent(role: str, content: str, extra: dict[str, object]):
    message = {**{f"x_{name}": value for name, value in extra.items()}, "role": role, "content": content}
    try:
        body = json.dumps({"model": "support", "messages": [message]}, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # half of a pair is no text in UTF-8
    assert read_raw(body, {}).messages == ({"role": role, "content": content},)


def test_a_header_that_is_not_utf8_or_too_long_is_refused():
    for value in (b"\xff", b"x" * 257):
        with pytest.raises(Problem) as found:
            read_raw(json.dumps(ASK).encode(), {b"x-workbench-unit": value})
        assert (found.value.status, found.value.param) == (400, "x-workbench-unit")


def test_an_answer_has_every_field_of_a_chat_completion():
    answer = replace(ANSWER, request_id="req_1")
    assert json.loads(completion(answer, app="support", at=NOW)) == {
        "id": "req_1",
        "object": "chat.completion",
        "created": 1772355600,
        "model": "local-1",
        "system_fingerprint": "support@0123456789ab",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Your parcel is on its way.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
    }


def test_tokens_that_nobody_counted_are_left_out_and_a_fallback_names_the_app():
    body = json.loads(completion(replace(ANSWER, model_served=None, input_tokens=None, bundle_id=None), app="support", at=NOW))
    assert "usage" not in body
    assert (body["model"], body["system_fingerprint"]) == ("support", None)


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        ("ok", "stop", "stop"),
        ("truncated", "length", "length"),
        ("error", None, "stop"),
        ("handed_off", "handoff", "stop"),
        ("blocked", None, "content_filter"),
        ("blocked", "stop", "stop"),
    ],
)
def test_the_finish_reason_is_one_of_the_dialects(status: str, reason: str | None, said: str):
    body = json.loads(
        completion(replace(ANSWER, status=status, choices=(Choice(content="", finish_reason=reason),)), app="support", at=NOW)
    )
    assert body["choices"][0]["finish_reason"] == said


def test_the_headers_say_what_the_controls_did():
    assert dict(told(ANSWER)) == {
        b"x-workbench-bundle": b"support@0123456789ab",
        b"x-workbench-arm": b"stable",
        b"x-workbench-release": b"rel-1",
        b"x-workbench-attempts": b"2",
        b"x-workbench-fallback": b"false",
    }
    fallback = replace(ANSWER, bundle_id=None, release_id=None, is_fallback=True, attempts=0, arm="none", handoff_id="h-1")
    assert dict(told(fallback)) == {
        b"x-workbench-arm": b"none",
        b"x-workbench-attempts": b"0",
        b"x-workbench-fallback": b"true",
        b"x-handoff-id": b"h-1",
    }


@given(text=st.text(min_size=1, max_size=20))
def test_a_value_that_would_break_the_headers_is_left_out(text: str):
    found = dict(told(replace(ANSWER, handoff_id=text, release_id=text))).get(b"x-handoff-id")
    assert found == (text.encode() if text.isascii() and text.isprintable() else None)


@pytest.mark.parametrize(
    ("status", "retry_after_s", "kind", "headers"),
    [
        (503, 0.25, "server_error", {b"retry-after": b"1"}),
        (429, 3.0, "rate_limit_error", {b"retry-after": b"3"}),
        (504, None, "server_error", {b"x-should-retry": b"false"}),
        (404, None, "invalid_request_error", {b"x-should-retry": b"false"}),
        (401, None, "invalid_request_error", {b"x-should-retry": b"false", b"www-authenticate": b"Bearer"}),
    ],
)
def test_a_refusal_of_the_controls_is_an_error_in_openais_shape(status: int, retry_after_s: float | None, kind: str, headers: dict):
    problem = Problem.of(
        RequestRefused("app support", code="some_code", http_status=status, seen="why", next_step="what to do", retry_after_s=retry_after_s)
    )
    assert json.loads(problem.body) == {
        "error": {"message": "app support: why; what to do", "type": kind, "param": None, "code": "some_code"}
    }
    assert dict(problem.headers) == headers
