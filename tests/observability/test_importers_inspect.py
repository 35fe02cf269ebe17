"""One epoch of one sample of an Inspect log is one request, with its spans and scores."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.observability.any_json import VALUES, places, stored_or_refused, with_value
from tests.observability.importing import imports_over
from tests.observability.lakes import NOON, open_lake, open_logs
from tests.observability.real_data import real
from workbench.errors import UsageError
from workbench.observability.importers import archives
from workbench.observability.importers.formats import IMPORTERS
from workbench.observability.importers.source import Imported, ImportOptions, Refused
from workbench.observability.metrics import Metrics

USAGE = {"input_tokens": 40, "output_tokens": 30, "total_tokens": 130, "input_tokens_cache_read": 60, "reasoning_tokens": 12}
MODEL = {
    "event": "model",
    "timestamp": "2026-01-05T10:00:01+00:00",
    "completed": "2026-01-05T10:00:03+00:00",
    "model": "acme/wise-2025-06-01",
    "output": {"model": "wise-2025-06-01", "choices": [], "usage": USAGE | {"total_cost": 0.002}},
}
TOOL = {
    "event": "tool",
    "timestamp": "2026-01-05T10:00:03+00:00",
    "completed": "2026-01-05T10:00:03.500000+00:00",
    "id": "call-1",
    "function": "look_up",
    "arguments": {"order": "attachment://0123456789abcdef0123456789abcdef"},
    "result": "tc://0123456789abcdef0123456789abcdef",
    "error": {"type": "timeout", "message": "too slow"},
}
JUDGE = deepcopy(MODEL) | {"model": "acme/judge", "timestamp": "2026-01-05T10:00:09+00:00", "completed": "2026-01-05T10:00:12+00:00"}
JUDGE["output"] = {"model": "judge", "choices": [], "usage": {"input_tokens": 500, "output_tokens": 5, "total_tokens": 505}}
SAMPLE = {
    "id": 7,
    "epoch": 2,
    "uuid": "u-7-2",
    "input": "Where is my order?",
    "target": "on its way",
    "messages": [{"role": "user", "content": "Where is my order?"}, {"role": "assistant", "content": "On its way."}],
    "output": {
        "model": "wise-2025-06-01",
        "choices": [{"message": {"role": "assistant", "content": "On its way."}, "stop_reason": "stop"}],
    },
    "scores": {"model_graded_qa": {"value": "C", "answer": "On its way.", "explanation": "It says so."}, "words": {"value": 3}},
    "events": [
        {"event": "span_begin", "id": "s1", "type": "solver", "name": "generate", "timestamp": "2026-01-05T10:00:00+00:00"},
        MODEL | {"span_id": "s1"},
        TOOL | {"span_id": "s1"},
        {"event": "span_begin", "id": "s2", "type": None, "name": "scorers", "timestamp": "2026-01-05T10:00:09+00:00"},
        {"event": "span_begin", "id": "s3", "parent_id": "s2", "type": "scorer", "name": "qa", "timestamp": "2026-01-05T10:00:09+00:00"},
        JUDGE | {"span_id": "s3"},
        {"event": "score", "span_id": "s3", "timestamp": "2026-01-05T10:00:12+00:00", "score": {"value": "C"}},
        {"event": "span_end", "id": "s3", "timestamp": "2026-01-05T10:00:12+00:00"},
    ],
    "model_usage": {"acme/wise-2025-06-01": USAGE | {"total_cost": 0.002}, "acme/judge": JUDGE["output"]["usage"]},
    "started_at": "2026-01-05T10:00:00+00:00",
    "completed_at": "2026-01-05T10:00:12+00:00",
    "total_time": 11.5,
    "working_time": 4.5,
    "attachments": {"0123456789abcdef0123456789abcdef": "A-1"},
}
LOG = {
    "version": 2,
    "status": "success",
    "eval": {
        "run_id": "run-1",
        "task_id": "task-1",
        "task": "orders",
        "created": "2026-01-05T09:59:59+00:00",
        "model": "acme/wise-2025-06-01",
        "model_args": {"quantized": True, "api_key": "k"},
        "dataset": {"sample_ids": [7]},
        "config": {"epochs": 1, "message_limit": 20},
        "scorers": [{"name": "model_graded_qa"}],
    },
    "plan": {
        "steps": [
            {"solver": "system_message", "params": {"template": "Be brief."}},
            {"solver": "inspect_ai/use_tools", "params": {"tools": [{"type": "tool", "name": "shop/look_up", "params": {}}]}},
            {"solver": "generate", "params": {}},
        ],
        "config": {"temperature": 0.5, "max_connections": 4},
    },
    "results": {"total_samples": 1, "scores": [{"name": "model_graded_qa", "scorer": "model_graded_qa"}]},
    "stats": {"started_at": "2026-01-05T09:59:59+00:00"},
    "samples": [SAMPLE],
}


def write(folder: Path, log: object, name: str = "log.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(log))
    return path


def changed(**values: object) -> dict:
    log = deepcopy(LOG)
    log["samples"][0].update(values)
    return log


def several(*samples: dict) -> dict:
    made = [SAMPLE | {"id": number, "uuid": f"u{number}"} | sample for number, sample in enumerate(samples)]
    return LOG | {"samples": made, "results": LOG["results"] | {"total_samples": len(made)}}


def packed(path: Path, members: dict[str, bytes], *, method: int = 93) -> Path:
    """A zip archive with members of a method that the standard library may not know."""
    body, directory = b"", b""
    for name, content in members.items():
        data = content if method == 0 else pa.compress(content, codec="zstd", asbytes=True)
        common = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 0, zlib.crc32(content), len(data), len(content), len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + common + name.encode() + data
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\x05\x06" + end)
    return path


def members_of(log: dict) -> dict[str, bytes]:
    """The log as an archive has it."""
    samples = {f"samples/{sample['id']}_epoch_{sample['epoch']}.json": json.dumps(sample).encode() for sample in log["samples"]}
    header = {key: value for key, value in log.items() if key != "samples"}
    summaries = [{"id": sample["id"], "epoch": sample["epoch"], "scores": sample.get("scores")} for sample in log["samples"]]
    start = json.dumps({key: header[key] for key in ("version", "eval", "plan")}).encode()
    return {
        "_journal/start.json": start,
        **samples,
        "summaries.json": json.dumps(summaries).encode(),
        "header.json": json.dumps(header).encode(),
    }


def read(path: Path, **options: object) -> list[Imported | Refused]:
    return list(IMPORTERS["inspect"].open(path, ImportOptions(**options)).records())


def record_of(folder: Path, log: dict, **options: object) -> Imported:
    (record,) = read(write(folder, log), **options)
    assert isinstance(record, Imported), record
    return record


def request_of(folder: Path, log: dict, **options: object) -> dict:
    return record_of(folder, log, **options).rows.requests[0]


def values_of(record: Imported) -> dict[str, float | None]:
    return {score["name"]: score["value"] for score in record.rows.scores}


def test_a_sample_becomes_one_request(tmp_path: Path) -> None:
    expected = {
        "app": "orders",
        "workflow": "orders",
        "unit": "7",
        "ts_start": datetime(2026, 1, 5, 10, tzinfo=UTC),
        "ts_end": datetime(2026, 1, 5, 10, 0, 12, tzinfo=UTC),
        "latency_ms": 11500.0,
        "status": "ok",
        "error_type": None,
        "finish_reason": "stop",
        "provider": "acme",
        "model_requested": "wise-2025-06-01",
        "operation": "invoke_agent",
        "n_tool_calls": 1,
        "n_tool_errors": 1,
        "attempts": None,
        "input": [{"role": "user", "content": "Where is my order?"}],
        "output": [{"role": "assistant", "content": "On its way."}],
    }
    request = request_of(tmp_path, LOG)
    assert {key: request[key] for key in expected} == expected


def test_tokens_are_the_apps_own_and_cached_ones_are_within(tmp_path: Path) -> None:
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost_usd")
    request = request_of(tmp_path, LOG)
    assert [request[name] for name in tokens] == [100, 30, 60, None, 12, 0.002], "the judge's 500 and 5 are not the app's"
    within = USAGE | {"input_tokens": 100, "total_tokens": 130}
    request = request_of(tmp_path, changed(model_usage={"acme/wise": within}, events=[]))
    assert [request[name] for name in tokens[:2]] == [100, 30], "a total that counts cached tokens once says that they are within"
    beside = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 22, "reasoning_tokens": 7}
    assert request_of(tmp_path, changed(model_usage={"m": beside}, events=[]))["output_tokens"] == 12
    usage = {"m": {"input_tokens": 12, "output_tokens": 3}}
    graded = changed(model_usage=usage, role_usage={"grader": {"input_tokens": 5, "output_tokens": 1}}, events=[])
    assert request_of(tmp_path, graded)["input_tokens"] == 7, "without events the role tells"
    assert request_of(tmp_path, changed(model_usage={}, events=[]))["input_tokens"] is None, "no usage is missing, not 0"
    assert request_of(tmp_path, changed(model_usage={}))["input_tokens"] == 100, "the events tell where the sample does not"
    cached = [MODEL | {"cache": "read"}]
    assert request_of(tmp_path, changed(model_usage={}, events=cached))["input_tokens"] is None, "Inspect's own cache costs no tokens"


def test_model_and_tool_events_before_scoring_are_spans(tmp_path: Path) -> None:
    spans = record_of(tmp_path, LOG).rows.spans
    assert [span["kind"] for span in spans] == ["agent", "model", "tool"], "the judge is no part of the app"
    model, tool = spans[1:]
    assert (model["duration_ms"], model["model"], model["provider"], model["input_tokens"]) == (2000.0, "wise-2025-06-01", "acme", 100)
    assert (tool["status"], tool["error_type"], tool["duration_ms"], tool["tool_call_id"]) == ("error", "timeout", 500.0, "call-1")
    assert (tool["tool_arguments"], tool["tool_result"]) == ({"order": "A-1"}, "A-1"), "references are resolved, of both spellings"
    assert len({span["span_id"] for span in spans}) == 3


def test_older_logs_with_steps_a_transcript_and_nested_events_are_read_alike(tmp_path: Path) -> None:
    steps = [
        {"event": "step", "action": "begin", "type": "solver", "name": "generate", "timestamp": "2026-01-05T10:00:00+00:00"},
        {"event": "subtask", "name": "plan", "timestamp": "2026-01-05T10:00:00+00:00", "events": [MODEL, TOOL]},
        {"event": "step", "action": "begin", "type": "scorer", "name": "qa", "timestamp": "2026-01-05T10:00:09+00:00"},
        JUDGE,
        {"event": "step", "action": "end", "type": "scorer", "name": "qa", "timestamp": "2026-01-05T10:00:12+00:00"},
    ]
    gone = dict.fromkeys(("started_at", "completed_at", "total_time", "working_time", "uuid"))
    record = record_of(tmp_path, changed(events=[], transcript={"events": steps}, **gone))
    assert [span["kind"] for span in record.rows.spans] == ["agent", "model", "tool"]
    request = record.rows.requests[0]
    assert (request["latency_ms"], request["input_tokens"]) == (3500.0, 100), "until the last event before scoring"
    no_events = record_of(tmp_path, changed(events=[], model_usage={}, **gone | {"working_time": 2})).rows.requests[0]
    assert (no_events["ts_start"], no_events["latency_ms"]) == (datetime(2026, 1, 5, 9, 59, 59, tzinfo=UTC), 2000.0)


STATUSES = [
    ({"error": {"message": "RuntimeError('Jane Doe called')"}}, "error", "RuntimeError"),
    ({"error": {"message": "it broke for Jane Doe"}}, "error", "error"),
    ({"error": {"message": "CancelledError()"}}, "cancelled", "CancelledError"),
    ({"limit": {"type": "time", "limit": 60}}, "timeout", "limit_time"),
    ({"limit": {"type": "working", "limit": 60}}, "timeout", "limit_working"),
    ({"limit": {"type": "token", "limit": 60}}, "truncated", "limit_token"),
    ({"limit": {"type": "operator", "limit": 1}}, "cancelled", "limit_operator"),
    ({"limit": "message"}, "truncated", "limit_message"),
    ({"output": {"choices": [{"stop_reason": "max_tokens"}]}}, "truncated", None),
    ({"output": {"choices": [{"stop_reason": "content_filter"}]}}, "blocked", None),
    ({"output": {"choices": [], "error": "down"}}, "error", "model_error"),
    ({"output": {"choices": []}}, "ok", None),
]


@pytest.mark.parametrize(("change", "status", "error_type"), STATUSES)
def test_errors_and_limits_are_statuses(tmp_path: Path, change: dict, status: str, error_type: str | None) -> None:
    request = request_of(tmp_path, changed(**change))
    assert (request["status"], request["error_type"]) == (status, error_type)


def test_retried_errors_count_as_attempts(tmp_path: Path) -> None:
    assert request_of(tmp_path, changed(error_retries=[{"message": "a"}, {"message": "b"}]))["attempts"] == 3


def test_scores_are_numbers_as_inspect_reads_them(tmp_path: Path) -> None:
    record = record_of(tmp_path, LOG)
    assert values_of(record) == {"model_graded_qa": 1.0, "words": 3.0, "quality": 1.0, "success": 1.0}
    by_name = {score["name"]: score for score in record.rows.scores}
    assert (by_name["success"]["source"], by_name["words"]["source"]) == ("judge", "rule")
    assert (by_name["model_graded_qa"]["label"], by_name["model_graded_qa"]["explanation"]) == ("C", "It says so.")
    scores = {"a": {"value": "I"}, "b": {"value": "P"}, "c": {"value": "N"}, "d": {"value": True}, "e": {"value": "0.25"}}
    scores |= {"f": {"value": "blue"}, "g": {"value": {"x": 0.5, "y": None}}, "h": {"value": [1, 2]}, "i": {"value": None}, "j": 4}
    assert values_of(record_of(tmp_path, changed(scores=scores) | {"results": None})) == (
        {"a": 0.0, "b": 0.5, "c": 0.0, "d": 1.0, "e": 0.25, "f": None, "g:x": 0.5, "h:1": 1.0, "h:2": 2.0, "j": 4.0}
        | {"quality": 0.0, "success": 0.0}
    )
    assert values_of(record_of(tmp_path, changed(scores=None, score={"value": "C"})))["success"] == 1.0, "format 1 has one score"
    assert record_of(tmp_path, changed(scores=None)).rows.scores == [], "no score is undecided, not a failure"


def test_success_and_quality_are_decided_for_the_whole_log(tmp_path: Path) -> None:
    def main(values: list[object]) -> list[dict]:
        samples = [{"scores": {"model_graded_qa": {"value": value}}} for value in values]
        found = read(write(tmp_path, several(*samples)))
        return [{name: one for name, one in values_of(record).items() if name in ("success", "quality")} for record in found]

    assert main(["C", "P", "N"]) == [{"quality": 1, "success": 1}, {"quality": 0.5, "success": 0}, {"quality": 0, "success": 0}]
    assert main([1.0, 0.7]) == [{"quality": 1.0}, {"quality": 0.7}], "a score of 1 among fractions is no success"
    assert main([1, 7]) == [{}, {}]
    assert main([True, False, None]) == [{"quality": 1, "success": 1}, {"quality": 0, "success": 0}, {}]


def test_units_pair_and_ids_tell_epochs_and_runs_apart(tmp_path: Path) -> None:
    other_run = deepcopy(LOG)
    other_run["eval"]["run_id"] = "run-2"
    assert request_of(tmp_path, LOG)["request_id"] == request_of(tmp_path, other_run)["request_id"], "a retry took the sample over"
    nameless, other_run["samples"] = changed(uuid=None), [SAMPLE | {"uuid": None}]
    ids = {request_of(tmp_path, log)["request_id"] for log in (nameless, other_run, changed(uuid=None, epoch=3), changed(uuid=None, id=8))}
    assert len(ids) == 4
    assert request_of(tmp_path, other_run)["unit"] == "7"


def test_the_model_and_its_plan_become_a_bundle(tmp_path: Path) -> None:
    bundle = IMPORTERS["inspect"].open(write(tmp_path, LOG), ImportOptions()).bundle
    assert bundle is not None
    model = bundle.spec.model
    assert (model.provider, model.name, model.version) == ("acme", "wise-2025-06-01", "2025-06-01")
    assert model.params == {"temperature": 0.5, "quantized": True}, "how the run was carried out and secrets are left out"
    assert bundle.files["system_message.md"] == b"Be brief."
    assert [tool.name for tool in bundle.spec.orchestration.tools] == ["look_up"]
    assert bundle.spec.orchestration.limits == {"message_limit": 20}
    assert b'"generate"' in bundle.files["plan.json"]


@pytest.mark.parametrize("method", [0, 93])
def test_an_archive_says_what_the_document_says(tmp_path: Path, method: int) -> None:
    log = several({}, {"scores": {"model_graded_qa": {"value": "I"}}}, {"error": {"message": "ValueError()"}, "scores": None})
    whole = [record.rows for record in read(write(tmp_path, log))]
    path = packed(tmp_path / "log.eval", members_of(log), method=method)
    assert [record.rows for record in read(path)] == whole
    with zipfile.ZipFile(tmp_path / "deflated.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members_of(log).items():
            archive.writestr(name, content)
    assert [record.rows for record in read(tmp_path / "deflated.eval")] == whole
    without = {name: content for name, content in members_of(log).items() if name != "summaries.json"}
    assert [record.rows for record in read(packed(path, without, method=method))] == whole, "the samples themselves tell the scores"


def test_a_killed_run_and_missing_samples_leave_a_note(tmp_path: Path) -> None:
    members = {name: content for name, content in members_of(LOG).items() if name != "header.json"}
    source = IMPORTERS["inspect"].open(packed(tmp_path / "log.eval", members), ImportOptions())
    assert source.notes == ("the run did not end well (status started)",)
    log = LOG | {"status": "error", "results": {"total_samples": 3}}
    notes = IMPORTERS["inspect"].open(write(tmp_path, log), ImportOptions()).notes
    assert notes == (
        "the log holds 1 of 3 samples; the others left no record and are in no number",
        "the run did not end well (status error)",
    )
    assert IMPORTERS["inspect"].open(write(tmp_path, LOG), ImportOptions()).notes == ()


def test_nan_is_an_unscored_sample_and_text_that_says_so_stays(tmp_path: Path) -> None:
    text = json.dumps(changed(scores={"model_graded_qa": {"value": float("nan")}, "w": {"value": float("-inf")}}, input='a "NaN" \\'))
    path = tmp_path / "log.json"
    path.write_text(text)
    (record,) = read(path)
    assert isinstance(record, Imported)
    assert record.rows.scores == []


def test_a_damaged_or_oversized_member_costs_its_sample_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = several({}, {}, {})
    members = members_of(log)
    path = packed(tmp_path / "log.eval", members)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"samples/1_epoch_2.json") + 60
    raw[at : at + 8] = bytes(8)
    path.write_bytes(raw)
    first, second, third = read(path)
    assert isinstance(first, Imported)
    assert isinstance(third, Imported)
    assert isinstance(second, Refused)
    assert second.reason == "damaged"
    bomb = packed(path, members | {"samples/2_epoch_2.json": b" " * 100_000})
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 50_000)
    assert [getattr(record, "reason", None) for record in read(bomb)] == [None, None, "too_large"]
    monkeypatch.setattr(archives, "_LARGEST_ARCHIVE", 90_000)
    with pytest.raises(UsageError, match="unpacks to"):
        read(bomb)


def test_a_member_that_unpacks_to_more_than_declared_is_refused(tmp_path: Path) -> None:
    for method in (8, 93):
        content = json.dumps(SAMPLE).encode()
        path = tmp_path / "log.eval"
        if method == 93:
            packed(path, members_of(LOG))
        else:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in members_of(LOG).items():
                    archive.writestr(name, data)
        size = struct.pack("<I", len(content))
        path.write_bytes(path.read_bytes().replace(size, struct.pack("<I", 100)))
        (record,) = read(path)
        assert isinstance(record, Refused), method
        assert record.reason == "damaged"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": None}, "missing_field"),
        ({"id": [1]}, "wrong_type"),
        ({"total_time": -1}, "negative_latency"),
        ({"completed_at": "2026-01-05T09:00:00+00:00"}, "end_before_start"),
        ({"started_at": "yesterday"}, "bad_time"),
        ({"started_at": "2026-01-05T10:00:00"}, "no_zone"),
        ({"total_time": 1e300, "completed_at": None}, "out_of_range"),
        ({"events": [MODEL | {"completed": None, "working_time": 1e308}]}, "out_of_range"),
        ({"model_usage": {"m": {"input_tokens": 10**12}, "n": {"input_tokens": 1}}}, "out_of_range"),
        ({"messages": "none"}, "wrong_type"),
        ({"scores": {"a": {"value": {"x": [1]}}}}, "wrong_type"),
        ({"model_usage": {"m": {"input_tokens": -1}}}, "negative_count"),
        ({"model_usage": {"m": 5}}, "wrong_type"),
        ({"invalidation": {"author": "primary", "reason": "wrong target"}}, "invalidated"),
    ],
)
def test_a_wrong_sample_is_refused_with_its_reason(tmp_path: Path, change: dict, reason: str) -> None:
    (record,) = read(write(tmp_path, changed(**change)))
    assert isinstance(record, Refused)
    assert record.reason == reason


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no records"),
        (b"{broken", "not one JSON document"),
        (b"[1]", "JSON without `eval`"),
        (json.dumps(LOG | {"samples": None}).encode(), "no samples"),
        (json.dumps(LOG | {"version": 3}).encode(), "log format 3.*inspect log convert"),
        (json.dumps(LOG | {"eval": LOG["eval"] | {"model": None}}).encode(), "eval.model"),
        (json.dumps(LOG | {"eval": LOG["eval"] | {"task": "What is it?"}}).encode(), "--app"),
        (b'{"id": 1, "messages": []}\n{"id": 2}\n', "openai-jsonl"),
        (b"PK\x03\x04garbage", "zip archive cannot be opened"),
        (b"PK\x05\x06" + bytes(18), "without `header.json`"),
        (b"\x1f\x8b123", "gzip"),
    ],
)
def test_another_file_is_an_error_that_says_what_it_is(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read(path)


def test_a_log_with_chunked_samples_names_the_command_that_converts_it(tmp_path: Path) -> None:
    path = packed(tmp_path / "log.eval", members_of(LOG) | {"samples/7_epoch_1/sample.json": b"{}"})
    with pytest.raises(UsageError, match="inspect log convert"):
        read(path)


PLACES = [place for place in places(LOG) if place != ("samples",)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_in_any_place_is_stored_or_refused(tmp_path: Path, place: tuple, value: object) -> None:
    stored_or_refused("inspect", write(tmp_path, with_value(LOG, place, value)))


@pytest.fixture
def place(tmp_path):
    """Imports into a lake of its own, and the metrics over it."""
    lake = open_lake(tmp_path / "home")
    logs = open_logs(tmp_path / "home", lake=lake)
    yield imports_over(logs), Metrics(lake, app_spec={}.get, clock=lambda: NOON)
    logs.close()
    lake.close()


def test_an_errored_sample_counts_as_a_failure_and_a_second_import_stores_nothing(tmp_path, place) -> None:
    imports, metrics = place
    wrong, broken = {"scores": {"model_graded_qa": {"value": "I"}}}, {"scores": None, "error": {"message": "ValueError()"}}
    path = write(tmp_path, several({}, wrong, broken, {"id": None}))
    report = imports.run("inspect", [path])
    assert (report.read, report.stored, report.refused) == (4, 3, 1)
    assert len(report.files[0].bundles) == 1
    again = imports.run("inspect", [packed(tmp_path / "log.eval", members_of(several({}, wrong, broken)))])
    assert (again.stored, again.duplicates) == (0, 3), "the same run as an archive"
    frame = metrics.query(["success_rate", "quality_mean", "volume", "tool_error_rate"], app="orders", detail=True)
    assert frame["success_rate"].item() == pytest.approx(1 / 3)
    assert frame["quality_mean"].item() == 0.5
    assert frame["volume"].item() == 3


def test_the_published_log_gives_the_accuracy_that_stands_in_it(place) -> None:
    imports, metrics = place
    path = next(real("inspect-logs").glob("*popularity*.eval"))
    report = imports.run("inspect", [path])
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("header.json"))
        totals = [json.loads(archive.read(name)) for name in archive.namelist() if name.startswith("samples/")]
    measured = header["results"]["scores"][0]["metrics"]
    assert (report.stored, report.refused) == (10, 0)
    frame = metrics.query(["success_rate", "quality_mean", "input_tokens", "output_tokens"], app="popularity", detail=True)
    rate = frame["success_rate"].item()
    assert rate == frame["quality_mean"].item() == measured["accuracy"]["value"] == 0.8
    assert (rate * (1 - rate) / 9) ** 0.5 == pytest.approx(measured["stderr"]["value"])
    usage = header["stats"]["model_usage"]["openai/gpt-4o-mini"]
    assert sum(next(iter(sample["model_usage"].values()))["input_tokens"] for sample in totals) == usage["input_tokens"] == 620
    records = [record.rows.requests[0] for record in read(path)]
    assert sum(request["input_tokens"] for request in records) == usage["input_tokens"]
    assert sum(request["output_tokens"] for request in records) == usage["output_tokens"]


def test_the_two_published_forms_of_one_log_are_one_request() -> None:
    forms = [read(real("inspect-logs", f"log_formats.{suffix}")) for suffix in ("json", "eval")]
    (document,), (archived,) = forms
    assert document.rows == archived.rows
