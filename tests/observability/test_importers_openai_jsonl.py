"""Each line of a chat completion log is one request, or is refused with its reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from workbench.errors import UsageError
from workbench.observability.importers.formats import IMPORTERS
from workbench.observability.importers.source import Imported, ImportOptions, Refused

RESPONSE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "gpt-4.1-2025-04-14",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 30},
    },
}
REQUEST = {"model": "gpt-4.1", "user": "u1", "messages": [{"role": "user", "content": "Hi"}]}
PAIR = {
    "request_id": "r1",
    "timestamp": "2026-01-01T00:00:00Z",
    "latency_ms": 800,
    "request": REQUEST,
    "response": RESPONSE,
}
FLAT = RESPONSE | {"messages": REQUEST["messages"], "user": "u1", "latency_ms": 800}
CALL = {"id": "call_1", "type": "function", "function": {"name": "refund", "arguments": '{"order": "W1"}'}}


def read(folder: Path, *records: object, app: str | None = "shop", zone: str | None = None) -> list[Imported | Refused]:
    path = folder / "log.jsonl"
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    path.write_bytes(b"\n".join(lines) + b"\n")
    options = ImportOptions(app=app, zone=ZoneInfo(zone) if zone else None)
    return list(IMPORTERS["openai-jsonl"].open(path, options).records())


def request_of(folder: Path, record: dict, **options: str | None) -> dict:
    (imported,) = read(folder, record, **options)
    assert isinstance(imported, Imported), imported
    return imported.rows.requests[0]


@pytest.mark.parametrize("record", [PAIR, FLAT | {"id": "r1"}])
def test_a_pair_and_a_flat_record_give_the_same_request(tmp_path: Path, record: dict) -> None:
    request = request_of(tmp_path, record)
    expected = {
        "request_id": "r1",
        "app": "shop",
        "workflow": "unassigned",
        "unit": "u1",
        "ts_start": datetime(2026, 1, 1, tzinfo=UTC),
        "ts_end": datetime(2026, 1, 1, 0, 0, 0, 800_000, tzinfo=UTC),
        "latency_ms": 800.0,
        "model_served": "gpt-4.1-2025-04-14",
        "status": "ok",
        "finish_reason": "stop",
        "n_tool_calls": 0,
        "input": [{"role": "user", "content": "Hi"}],
        "output": [{"role": "assistant", "content": "Hello"}],
    }
    assert {key: request[key] for key in expected} == expected


def test_cached_and_reasoning_tokens_are_never_added_to_the_totals(tmp_path: Path) -> None:
    request = request_of(tmp_path, PAIR)
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")
    assert [request[name] for name in names] == [100, 50, 40, 30]


def test_no_usage_is_missing_and_not_zero(tmp_path: Path) -> None:
    request = request_of(tmp_path, PAIR | {"response": RESPONSE | {"usage": None}})
    assert request.get("input_tokens") is None


def test_metadata_names_workflow_unit_and_session(tmp_path: Path) -> None:
    metadata = {"workflow": "refund", "unit": "u2", "session": "s1", "bundle": "shop@1", "arm": "candidate"}
    request = request_of(tmp_path, PAIR | {"request": REQUEST | {"metadata": metadata}})
    expected = {"workflow": "refund", "unit": "u2", "session_id": "s1", "bundle": "shop@1", "arm": "candidate"}
    assert {key: request[key] for key in expected} == expected


def test_the_line_overrules_its_metadata(tmp_path: Path) -> None:
    request = request_of(tmp_path, PAIR | {"workflow": "a", "app": "other", "metadata": {"workflow": "b", "app": "third"}})
    assert (request["workflow"], request["app"]) == ("a", "other")


def test_a_batch_output_line_is_read(tmp_path: Path) -> None:
    good = {"id": None, "custom_id": "c1", "response": {"status_code": 200, "request_id": "q", "body": RESPONSE}, "error": None}
    body = {"error": {"code": "rate_limit", "message": "joe@example.com"}, "created": 1767225600}
    bad = {"custom_id": "c2", "response": {"status_code": 429, "body": body}}
    first, second = (record.rows.requests[0] for record in read(tmp_path, good, bad) if isinstance(record, Imported))
    assert (first["request_id"], first["status"], first["input_tokens"]) == ("c1", "ok", 100)
    assert (second["request_id"], second["status"], second["error_type"]) == ("c2", "error", "rate_limit")


@pytest.mark.parametrize(
    ("change", "status", "error_type"),
    [
        ({"status": "timeout"}, "timeout", None),
        ({"status": "failed"}, "error", None),
        ({"status": 503}, "error", "http_503"),
        ({"status": 504}, "timeout", "http_504"),
        ({"status": 200}, "ok", None),
        ({"status": 204, "response": None}, "ok", None),
        ({"status": "408"}, "timeout", "http_408"),
        ({"status": "in_progress"}, "unknown", None),
        ({"error": {"type": "server_error", "message": "for joe"}}, "error", "server_error"),
        ({"error": "Request timed out for joe"}, "timeout", "timeout"),
        ({"error": "something odd about joe"}, "error", "error"),
        ({"response": RESPONSE | {"choices": [{"finish_reason": "length"}]}}, "truncated", None),
        ({"response": RESPONSE | {"choices": [{"finish_reason": "content_filter"}]}}, "blocked", None),
        ({"response": None}, "unknown", None),
    ],
)
def test_status_comes_from_what_the_record_declares_or_shows(tmp_path: Path, change: dict, status: str, error_type: str | None) -> None:
    request = request_of(tmp_path, PAIR | change)
    assert (request["status"], request["error_type"]) == (status, error_type)


def test_tool_calls_are_counted_and_become_spans(tmp_path: Path) -> None:
    choices = [{"finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": [CALL, CALL]}}]
    (imported,) = read(tmp_path, PAIR | {"response": RESPONSE | {"choices": choices}})
    assert isinstance(imported, Imported)
    assert imported.rows.requests[0]["n_tool_calls"] == 2
    assert [span["tool_name"] for span in imported.rows.spans] == ["refund", "refund"]
    assert len({span["span_id"] for span in imported.rows.spans}) == 2


def test_scores_and_feedback_become_scores(tmp_path: Path) -> None:
    scores = {"resolved": True, "tone": 0.7, "judge": {"value": 4, "label": "good", "explanation": "x", "source": "judge"}}
    (imported,) = read(tmp_path, PAIR | {"scores": scores, "feedback": "down"})
    assert isinstance(imported, Imported)
    seen = {score["name"]: (score["value"], score["source"]) for score in imported.rows.scores}
    assert seen == {"resolved": (1.0, "rule"), "tone": (0.7, "rule"), "judge": (4.0, "judge"), "feedback": (0.0, "user")}


def test_a_time_without_a_zone_needs_one(tmp_path: Path) -> None:
    record = PAIR | {"timestamp": "2026-01-01T01:00:00"}
    assert request_of(tmp_path, record, zone="Europe/Berlin")["ts_start"] == datetime(2026, 1, 1, tzinfo=UTC)
    (refused,) = read(tmp_path, record)
    assert isinstance(refused, Refused)
    assert refused.reason == "no_zone"
    assert "--zone" in refused.sentence


def test_a_record_without_id_is_named_by_its_content(tmp_path: Path) -> None:
    record = {key: value for key, value in PAIR.items() if key != "request_id"} | {"response": RESPONSE | {"id": None}}
    first, second = read(tmp_path, record, record)
    assert isinstance(first, Imported)
    assert isinstance(second, Imported)
    assert first.rows.requests[0]["request_id"] == second.rows.requests[0]["request_id"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"{not json", "not_json"),
        (b'{"latency_ms": NaN}', "not_json"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b"   ", "empty_line"),
        (b"[1, 2]", "not_an_object"),
        (b'{"hello": "world"}', "not_a_completion"),
        (PAIR | {"latency_ms": -1}, "negative_latency"),
        (PAIR | {"latency_ms": "fast"}, "wrong_type"),
        (PAIR | {"latency_ms": True}, "wrong_type"),
        (PAIR | {"latency_ms": 1e300}, "out_of_range"),
        (PAIR | {"end_time": "2025-12-31T23:59:59Z"}, "end_before_start"),
        (PAIR | {"timestamp": "soon"}, "bad_time"),
        (PAIR | {"timestamp": 1767225600000}, "out_of_range"),
        ({"messages": [], "latency_ms": 1}, "missing_field"),
        (PAIR | {"response": RESPONSE | {"usage": {"prompt_tokens": -1}}}, "negative_count"),
        (PAIR | {"response": RESPONSE | {"usage": {"prompt_tokens": 1.5}}}, "wrong_type"),
        (PAIR | {"response": RESPONSE | {"usage": {"prompt_tokens": 10**30}}}, "out_of_range"),
        (PAIR | {"response": "text"}, "wrong_type"),
        (PAIR | {"response": RESPONSE | {"choices": {}}}, "wrong_type"),
        (PAIR | {"response": RESPONSE | {"usage": {"prompt_tokens": 10**12 + 1}}}, "out_of_range"),
        (PAIR | {"cost_usd": -1}, "out_of_range"),
        (PAIR | {"cost_usd": 999_999_999.5}, "out_of_range"),
        (PAIR | {"traffic_share": 2}, "out_of_range"),
        (PAIR | {"is_fallback": "no"}, "wrong_type"),
        (PAIR | {"arm": "left"}, "unknown_value"),
        (PAIR | {"request_id": "x" * 600}, "too_long"),
        (PAIR | {"request_id": ["x"]}, "wrong_type"),
        (PAIR | {"scores": {"a": None}}, "missing_field"),
        (PAIR | {"scores": {"a": {"value": 1, "source": "oracle"}}}, "unknown_value"),
        (PAIR | {"status": ["ok"]}, "wrong_type"),
        (PAIR | {"status": "odd"}, "unknown_value"),
        (PAIR | {"status": 302}, "unknown_value"),
        (PAIR | {"status": 9}, "unknown_value"),
    ],
)
def test_a_wrong_line_is_refused_and_the_next_one_read(tmp_path: Path, record: object, reason: str) -> None:
    good, refused, after = read(tmp_path, PAIR, record, PAIR | {"request_id": "r2"})
    assert isinstance(refused, Refused)
    assert refused.reason == reason
    assert refused.at == 2
    assert isinstance(good, Imported)
    assert isinstance(after, Imported)


def test_a_record_without_any_app_is_refused(tmp_path: Path) -> None:
    (refused,) = read(tmp_path, PAIR, app=None)
    assert isinstance(refused, Refused)
    assert refused.reason == "missing_app"
    assert "--app" in refused.sentence


def test_no_refusal_quotes_the_record(tmp_path: Path) -> None:
    private = "joe@example.com"
    score = {"a": {"value": 1, "source": private}}
    wrong = [{"timestamp": private}, {"status": [private]}, {"arm": private}, {"latency_ms": private}, {"scores": score}]
    records = read(tmp_path, PAIR, *(PAIR | change for change in wrong))
    refused = [record for record in records if isinstance(record, Refused)]
    assert len(refused) == len(wrong)
    assert all(private not in record.sentence for record in refused)


def test_an_overlong_line_is_refused_without_harm_to_the_next(tmp_path: Path) -> None:
    huge = json.dumps(PAIR | {"padding": "x" * (11 * 1024 * 1024)}).encode()
    first, second, third = read(tmp_path, PAIR, huge, PAIR | {"request_id": "r2"})
    assert isinstance(second, Refused)
    assert (second.reason, second.at) == ("line_too_long", 2)
    assert isinstance(first, Imported)
    assert isinstance(third, Imported)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + b"\r\n" + json.dumps(PAIR | {"request_id": "r2"}).encode())
    records = list(IMPORTERS["openai-jsonl"].open(path, ImportOptions(app="shop")).records())
    assert [type(record) for record in records] == [Imported, Imported]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hello\nworld\n", "no line is a JSON object"),
        (b"a,b\n1,2\n", "looks like csv"),
        (b'{\n "info": {"agent_info": 1},\n "simulations": []\n}', "looks like tau2"),
        (b"PK\x03\x04...", "zip"),
        (b"caf\xe9\n{}", "not UTF-8"),
        (b"", "holds no records"),
        (b"\xef\xbb\xbf \n", "holds no records"),
        (b'[{"model": "m"}, {"model": "m"}]', r"jq -c '\.\[\]' "),
        (b'[\n  {"model": "m"},\n  {"model": "m"}\n]\n', r"jq -c '\.\[\]' "),
    ],
)
def test_a_file_of_another_kind_is_an_error_before_anything_is_read(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        IMPORTERS["openai-jsonl"].open(path, ImportOptions(app="shop"))


def test_wrong_token_counts_and_latencies_say_what_is_needed(tmp_path: Path) -> None:
    wrong = [{"response": RESPONSE | {"usage": {"prompt_tokens": value}}} for value in (-1, 1.5, "many")]
    refused = read(tmp_path, *(PAIR | change for change in (*wrong, {"latency_ms": -3})))
    sentences = [record.sentence for record in refused if isinstance(record, Refused)]
    assert all("needed: a whole number, at least 0" in sentence for sentence in sentences[:3])
    assert sentences[3] == "latency_ms: -3 ms is negative; needed: 0 or more"
