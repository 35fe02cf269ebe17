"""One trace of Langfuse is one request, whichever of its exports the files are."""

from __future__ import annotations

import csv
import gzip
import json
import re
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.observability.any_json import VALUES, places, stored_or_refused, with_value
from tests.observability.importing import imports_over
from tests.observability.lakes import NOON, open_lake, open_logs
from workbench.errors import UsageError
from workbench.observability.import_report import ImportReport
from workbench.observability.importers.formats import IMPORTERS
from workbench.observability.importers.langfuse_usage import usage_of
from workbench.observability.importers.source import Imported, ImportOptions, Refused
from workbench.observability.importers.usage import whole
from workbench.observability.metrics import Metrics

TRACE = {
    "id": "t1",
    "timestamp": "2026-02-01T10:00:00.000Z",
    "name": "order_status",
    "userId": "u1",
    "sessionId": "s1",
    "metadata": {"bundle": None},
    "input": "Where is my order?",
    "output": "On Tuesday.",
}
OBSERVATIONS = [
    {
        "id": "o1",
        "traceId": "t1",
        "type": "AGENT",
        "name": "assistant",
        "startTime": "2026-02-01T10:00:00.000Z",
        "endTime": "2026-02-01T10:00:04.500Z",
        "level": "DEFAULT",
        "parentObservationId": None,
        "usageDetails": {"input": 999},
    },
    {
        "id": "o2",
        "traceId": "t1",
        "type": "TOOL",
        "name": "look_up",
        "startTime": "2026-02-01T10:00:01.000Z",
        "endTime": "2026-02-01T10:00:01.250Z",
        "level": "ERROR",
        "statusMessage": "no such order for Jane Doe",
        "parentObservationId": "o1",
        "input": {"order": "A-1"},
        "output": "nothing",
    },
    {
        "id": "o3",
        "traceId": "t1",
        "type": "GENERATION",
        "name": "answer",
        "startTime": "2026-02-01T10:00:02.000Z",
        "completionStartTime": "2026-02-01T10:00:02.400Z",
        "endTime": "2026-02-01T10:00:04.000Z",
        "level": "DEFAULT",
        "parentObservationId": "o1",
        "providedModelName": "claude-wise-2025-06-01",
        "modelParameters": '{"temperature": 0.5}',
        "usageDetails": {"input": 40, "output": 30, "input_cached_tokens": 60, "output_reasoning_tokens": 12, "total": 142},
        "costDetails": {"input": 0.001, "output": 0.002, "total": 0.003},
        "totalCost": 0.003,
    },
    {
        "id": "o4",
        "traceId": "t1",
        "type": "RETRIEVER",
        "name": "articles",
        "startTime": "2026-02-01T10:00:01.500Z",
        "endTime": "2026-02-01T10:00:01.700Z",
        "level": "DEFAULT",
        "parentObservationId": "o1",
        "input": "order late",
    },
]
SCORES = [
    {"id": "c1", "traceId": "t1", "name": "success", "value": 1, "dataType": "BOOLEAN", "source": "ANNOTATION", "stringValue": "True"},
    {"id": "c2", "traceId": "t1", "observationId": "o3", "name": "quality", "value": 0.75, "dataType": "NUMERIC", "source": "EVAL"},
    {"id": "c3", "traceId": "t1", "name": "tone", "value": 2, "dataType": "CATEGORICAL", "source": "API", "stringValue": "kind"},
    {"id": "c4", "traceId": "t1", "name": "user-feedback", "value": 0, "dataType": "TEXT", "source": "API", "stringValue": "It came late."},
]
for _score in SCORES:
    _score["timestamp"] = "2026-02-01T10:05:00.000Z"
WHOLE = TRACE | {"latency": 4.5, "totalCost": 0.003, "observations": OBSERVATIONS, "scores": SCORES}


def snake(record: dict) -> dict:
    """As blob storage has it: snake_case keys, and times without a zone."""
    made = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower(): value for key, value in record.items()}
    return {key: value[:-1].replace("T", " ") if isinstance(value, str) and value.endswith("Z") else value for key, value in made.items()}


def enriched() -> list[dict]:
    context = {"trace_name": "order_status", "user_id": "u1", "session_id": "s1"}
    rows = [snake(one) | context | {"parent_observation_id": one["parentObservationId"] or ""} for one in OBSERVATIONS]
    rows[0] |= {"input": TRACE["input"], "output": TRACE["output"]}
    return rows


def write(folder: Path, value: object, name: str = "export.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def write_lines(folder: Path, name: str, records: list) -> Path:
    path = folder / name
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return path


def write_csv(folder: Path, name: str, records: list[dict]) -> Path:
    path = folder / name
    columns = list(dict.fromkeys(key for record in records for key in record))
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for record in records:
            cells = (record.get(column) for column in columns)
            table.writerow(["" if cell is None else json.dumps(cell) if isinstance(cell, (dict, list)) else cell for cell in cells])
    return path


def read(*paths: Path, **options: object) -> list[Imported | Refused]:
    return list(IMPORTERS["langfuse"].open_together(paths, ImportOptions(**{"app": "shop"} | options)).records())


def record_of(folder: Path, value: object, **options: object) -> Imported:
    (record,) = read(write(folder, value), **options)
    assert isinstance(record, Imported), record
    return record


def changed(place: int, **values: object) -> dict:
    made = deepcopy(WHOLE)
    made["observations"][place].update(values)
    return made


EXPECTED = {
    "request_id": "langfuse-t1",
    "trace_id": "t1",
    "app": "shop",
    "workflow": "order_status",
    "unit": "u1",
    "session_id": "s1",
    "ts_start": datetime(2026, 2, 1, 10, tzinfo=UTC),
    "latency_ms": 4500.0,
    "ttft_ms": 2400.0,
    "status": "ok",
    "provider": "anthropic",
    "model_served": "claude-wise-2025-06-01",
    "input_tokens": 100,
    "output_tokens": 42,
    "cache_read_tokens": 60,
    "reasoning_tokens": 12,
    "cost_usd": 0.003,
    "n_tool_calls": 1,
    "n_tool_errors": 1,
    "n_retrievals": 1,
    "input": "Where is my order?",
    "output": "On Tuesday.",
}


def test_a_trace_of_the_api_becomes_one_request(tmp_path: Path) -> None:
    request = record_of(tmp_path, WHOLE).rows.requests[0]
    assert {key: request[key] for key in EXPECTED} == EXPECTED


def test_every_kind_of_export_says_the_same(tmp_path: Path) -> None:
    traces, observations, scores = [snake(TRACE)], [snake(one) for one in OBSERVATIONS], [snake(one) for one in SCORES]
    packed = tmp_path / "observations.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(map(json.dumps, observations)).encode()))
    columnar = tmp_path / "observations.parquet"
    types = pa.schema([("usage_details", pa.map_(pa.string(), pa.int64())), ("start_time", pa.timestamp("us", "UTC"))])
    keys = dict.fromkeys(key for one in observations for key in one)
    columns = {key: [one.get(key) for one in observations] for key in keys if key not in ("usage_details", "start_time", "cost_details")}
    columns["input"] = [json.dumps(value) if isinstance(value, dict) else value for value in columns["input"]]
    table = pa.table(columns)
    usage = pa.array([list(one.get("usage_details", {}).items()) for one in observations], types.field("usage_details").type)
    starts = pa.array(
        [datetime.fromisoformat(one["start_time"]).replace(tzinfo=UTC) for one in observations], types.field("start_time").type
    )
    pq.write_table(table.append_column("usage_details", usage).append_column("start_time", starts), columnar)
    scores_file = write_lines(tmp_path, "scores.jsonl", scores)
    whole_record = record_of(tmp_path, WHOLE)
    exports = {
        "legacy tables": (write_lines(tmp_path, "traces.jsonl", traces), packed, scores_file),
        "in another order": (scores_file, packed, write(tmp_path, traces, "traces.json")),
        "enriched": (write_lines(tmp_path, "observations_v2.jsonl", enriched()), scores_file),
        "csv": tuple(write_csv(tmp_path, f"{number}.csv", table) for number, table in enumerate((traces, observations, scores))),
        "parquet": (write_lines(tmp_path, "traces.jsonl", traces), columnar, scores_file),
        "api pages": (write(tmp_path, {"data": [WHOLE], "meta": {"page": 1}}, "page.json"),),
        "download": (write(tmp_path, {"trace": TRACE, "observations": OBSERVATIONS, "scores": SCORES}, "one.json"),),
        "ui tables": (write(tmp_path, [TRACE], "a.json"), write(tmp_path, OBSERVATIONS, "b.json"), write(tmp_path, SCORES, "c.json")),
    }
    for name, paths in exports.items():
        (record,) = read(*paths)
        assert isinstance(record, Imported), (name, record)
        assert {key: record.rows.requests[0][key] for key in EXPECTED} == EXPECTED, name
        assert record.rows.scores == whole_record.rows.scores, name
        assert [span["span_id"] for span in record.rows.spans] == [span["span_id"] for span in whole_record.rows.spans], name


def test_observations_are_spans_of_their_kind(tmp_path: Path) -> None:
    agent, tool, retrieval, model = record_of(tmp_path, WHOLE).rows.spans
    assert [span["kind"] for span in (agent, tool, retrieval, model)] == ["agent", "tool", "retrieval", "model"]
    assert tool["parent_span_id"] == agent["span_id"]
    assert (tool["status"], tool["error_type"], tool["duration_ms"], tool["tool_arguments"]) == ("error", "error", 250.0, {"order": "A-1"})
    assert retrieval["retrieval_query"] == "order late"
    assert (model["model"], model["input_tokens"], model["output_tokens"]) == ("claude-wise-2025-06-01", 100, 42)
    assert model["attributes"] == {"model_parameters": '{"temperature": 0.5}'}


def test_scores_are_numbers_labels_and_words_with_their_source(tmp_path: Path) -> None:
    scores = {score["name"]: score for score in record_of(tmp_path, WHOLE).rows.scores}
    seen = {name: (score["value"], score.get("label"), score["source"]) for name, score in scores.items()}
    assert seen == {
        "success": (1.0, "True", "human"),
        "quality": (0.75, None, "judge"),
        "tone": (None, "kind", "rule"),
        "user-feedback": (None, None, "user"),
    }
    assert scores["user-feedback"]["explanation"] == "It came late."
    assert scores["success"]["ts"] == datetime(2026, 2, 1, 10, 5, tzinfo=UTC)


USAGES = [
    ({"usage_details": {"input": 100, "output": 42, "input_cached_tokens": 60, "total": 142}}, (100, 42, 60)),
    ({"usage_details": {"input": 40, "output": 42, "input_cached_tokens": 60}}, (100, 42, 60)),
    ({"usage_details": {"input": 40, "output": 42, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 5}}, (105, 42, 60)),
    ({"usage_details": {"input": 40, "output": 42, "input_audio_tokens": 3, "total": 85}}, (43, 42, None)),
    ({"usage": {"input": 5, "output": 6, "total": 11, "unit": "TOKENS"}}, (5, 6, None)),
    ({"usage": {"promptTokens": 5, "completionTokens": 6, "totalTokens": 11}}, (5, 6, None)),
    ({"usage": {"input": 5000, "output": 6, "unit": "CHARACTERS"}}, (None, None, None)),
    ({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}, (5, 6, None)),
    ({"input_usage": 5, "output_usage": 0, "total_usage": 5}, (5, 0, None)),
    ({"usage_details": {"total": 11}}, (None, None, None)),
    ({}, (None, None, None)),
]


@pytest.mark.parametrize(("values", "tokens"), USAGES)
def test_tokens_are_counted_once_whatever_their_names(values: dict, tokens: tuple) -> None:
    row = usage_of(values)
    assert tuple(row.get(name) for name in ("input_tokens", "output_tokens", "cache_read_tokens")) == tokens


def test_details_are_within_or_beside_as_the_total_says() -> None:
    assert whole(40, 30, 130, 60, 0) == (100, 30)
    assert whole(100, 30, 130, 60, 12) == (100, 30)
    assert whole(10, 5, 22, 0, 7) == (10, 12)
    assert whole(10, 5, None, 4, 7) == (14, 12)


def test_costs_of_all_ages_are_read_and_zero_with_tokens_is_unpriced() -> None:
    assert usage_of({"calculated_total_cost": 0.5})["cost_usd"] == 0.5
    assert usage_of({"cost_details": {"input": 0.25, "output": 0.5}})["cost_usd"] == 0.75
    assert usage_of({"cost_details": {"input": 0.25, "output": 0.5, "total": 0.75}})["cost_usd"] == 0.75
    assert "cost_usd" not in usage_of({"usage_details": {"input": 1}, "total_cost": 0})


def test_sums_of_others_and_judges_are_not_counted(tmp_path: Path) -> None:
    wrapping = changed(0, type="GENERATION", usageDetails={"input": 100, "output": 42, "total": 142})
    assert record_of(tmp_path, wrapping).rows.requests[0]["input_tokens"] == 100, "the outer generation sums up the inner"
    judge = deepcopy(WHOLE)
    evaluator = {**OBSERVATIONS[1], "id": "e", "type": "EVALUATOR", "level": "DEFAULT"}
    judge["observations"] += [evaluator, {**OBSERVATIONS[2], "id": "g", "parentObservationId": "e"}]
    request = record_of(tmp_path, judge).rows.requests[0]
    assert (request["input_tokens"], request["cost_usd"]) == (100, 0.003)


@pytest.mark.parametrize(
    ("change", "status", "error_type"),
    [
        ({"level": "ERROR", "statusMessage": "rate_limit_exceeded"}, "error", "rate_limit_exceeded"),
        ({"level": "ERROR", "statusMessage": "the call timed out"}, "timeout", "timeout"),
        ({"level": "ERROR", "statusMessage": "Jane Doe was here"}, "error", "error"),
        ({"level": "WARNING"}, "ok", None),
        ({"endTime": None}, "unknown", None),
    ],
)
def test_the_root_decides_the_status(tmp_path: Path, change: dict, status: str, error_type: str | None) -> None:
    request = record_of(tmp_path, changed(0, **change)).rows.requests[0]
    assert (request["status"], request["error_type"]) == (status, error_type)


def test_a_trace_alone_has_its_own_latency_and_tokens_and_no_status(tmp_path: Path) -> None:
    alone = TRACE | {"latency": 1.5, "inputTokens": 7, "outputTokens": 8, "totalTokens": 15, "totalCost": 0.5}
    request = record_of(tmp_path, [alone]).rows.requests[0]
    assert [request[name] for name in ("latency_ms", "input_tokens", "cost_usd", "status", "n_tool_calls")] == [
        1500.0,
        7,
        0.5,
        "unknown",
        None,
    ]
    assert record_of(tmp_path, [alone | {"level": "ERROR"}]).rows.requests[0]["status"] == "error"


def test_metadata_names_app_workflow_and_bundle(tmp_path: Path) -> None:
    named = WHOLE | {"metadata": {"app": "desk", "workflow": "refund", "bundle": "v2"}}
    request = record_of(tmp_path, named, app=None).rows.requests[0]
    assert [request[name] for name in ("app", "workflow", "bundle")] == ["desk", "refund", "v2"]
    (refused,) = read(write(tmp_path, WHOLE), app=None)
    assert (refused.reason, "--app" in refused.sentence) == ("missing_app", True)


def test_the_newest_row_counts_and_overlapping_exports_are_one(tmp_path: Path) -> None:
    early = write_lines(tmp_path, "early.jsonl", [one | {"updated_at": "2026-02-01 11:00:00", "trace_name": "old"} for one in enriched()])
    late = write_lines(tmp_path, "late.jsonl", [one | {"updated_at": "2026-02-01 12:00:00"} for one in enriched()])
    for paths in ((early, late), (late, early)):
        (record,) = read(*paths)
        assert record.rows.requests[0]["workflow"] == "order_status"
        assert record.rows.requests[0]["input_tokens"] == 100


def test_rings_of_parents_end(tmp_path: Path) -> None:
    ring = deepcopy(WHOLE)
    ring["observations"][0]["parentObservationId"] = "o3"
    ring["observations"][2]["parentObservationId"] = "o1"
    assert isinstance(read(write(tmp_path, ring))[0], Imported)


def test_orphan_scores_and_strange_rows_are_counted(tmp_path: Path) -> None:
    scores = [SCORES[0] | {"traceId": "elsewhere"}, SCORES[1] | {"traceId": None}]
    lines = write_lines(
        tmp_path, "mixed.jsonl", [WHOLE, "{broken", {"id": "x"}, 7, OBSERVATIONS[0] | {"traceId": "t2", "id": None}, *scores]
    )
    records = read(lines)
    reasons = sorted(record.reason for record in records if isinstance(record, Refused))
    assert reasons == ["missing_field", "no_trace", "no_trace", "not_an_object", "not_json", "unknown_table"]
    assert sum(isinstance(record, Imported) for record in records) == 1
    assert [record.at for record in records] == list(range(1, len(records) + 1))


@pytest.mark.parametrize(
    ("place", "change", "reason"),
    [
        (0, {"startTime": "yesterday"}, "bad_time"),
        (0, {"endTime": "2026-02-01T09:00:00Z"}, "end_before_start"),
        (2, {"usageDetails": {"input": -1}}, "negative_count"),
        (2, {"usageDetails": [1]}, "wrong_type"),
        (2, {"totalCost": -1}, "out_of_range"),
        (1, {"name": ["x"]}, "wrong_type"),
    ],
)
def test_a_wrong_observation_refuses_its_trace_with_the_reason(tmp_path: Path, place: int, change: dict, reason: str) -> None:
    (record,) = read(write(tmp_path, changed(place, **change)))
    assert isinstance(record, Refused)
    assert record.reason == reason


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"{broken", "no row of Langfuse"),
        (b"[]", "no row"),
        (b"a,b\n1,2\n", "without a column"),
        (b"\xff\xfe\x00", "neither JSON nor CSV"),
        (b"PAR1garbage", "Parquet"),
        (b"\x1f\x8bgarbage", "gzip"),
        (json.dumps(SCORES).encode(), "name the files with the traces"),
    ],
)
def test_another_file_is_an_error_that_says_what_it_is(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "export"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read(path)


PLACES = list(places(WHOLE))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_in_any_place_is_stored_or_refused(tmp_path: Path, place: tuple, value: object) -> None:
    stored_or_refused("langfuse", write(tmp_path, with_value(WHOLE, place, value)), app="shop")


def test_totals_are_those_of_the_rows_and_a_second_import_stores_nothing(tmp_path: Path) -> None:
    observations, scores = [], []
    for number in range(12):
        for one in OBSERVATIONS:
            parent = one["parentObservationId"] and f"{one['parentObservationId']}-{number}"
            observations.append(
                snake(one)
                | {"id": f"{one['id']}-{number}", "trace_id": f"t{number}", "parent_observation_id": parent, "user_id": f"u{number}"}
            )
        scores.append(snake(SCORES[0]) | {"id": f"c{number}", "trace_id": f"t{number}", "value": int(number % 3 == 0)})
    paths = [write_csv(tmp_path, "observations.csv", observations), write_lines(tmp_path, "scores.jsonl", scores)]
    lake = open_lake(tmp_path / "home")
    logs = open_logs(tmp_path / "home", lake=lake)
    report = imports_over(logs).run("langfuse", paths, app="shop")
    assert (report.read, report.stored, report.refused) == (12, 12, 0)
    assert report.files[0].notes[0] == "read together with scores.jsonl"
    assert imports_over(logs).run("langfuse", paths, app="shop").stored == 0
    metrics = Metrics(lake, app_spec={}.get, clock=lambda: NOON)
    frame = metrics.query(["volume", "success_rate", "input_tokens", "output_tokens", "tool_error_rate", "latency_p50"], app="shop")
    usages = [one["usage_details"] for one in observations if one["type"] == "GENERATION"]
    assert frame["volume"].item() == 12
    assert frame["success_rate"].item() == pytest.approx(sum(one["value"] for one in scores) / len(scores))
    assert frame["input_tokens"].item() == sum(one["input"] + one["input_cached_tokens"] for one in usages)
    assert frame["output_tokens"].item() == sum(one["output"] + one["output_reasoning_tokens"] for one in usages)
    assert frame["tool_error_rate"].item() == 1.0
    assert frame["latency_p50"].item() == 4500.0
    logs.close()
    lake.close()


def test_a_later_export_adds_the_scores_that_came_since(tmp_path: Path) -> None:
    observations = [snake(one) | {"user_id": "u"} for one in OBSERVATIONS]
    early, late = (snake(SCORES[0]) | {"id": name, "trace_id": observations[0]["trace_id"]} for name in ("early", "late"))
    lake = open_lake(tmp_path / "home")
    logs = open_logs(tmp_path / "home", lake=lake)

    def imported(name: str, *scores: dict) -> ImportReport:
        paths = [write_csv(tmp_path, f"{name}.csv", observations), write_lines(tmp_path, f"{name}.jsonl", list(scores))]
        return imports_over(logs).run("langfuse", paths, app="shop")

    assert imported("first", early).stored == 1
    again = imported("second", early, late)
    assert (again.stored, again.duplicates, again.files[0].notes[-1]) == (0, 1, "1 score is new, of requests that were there")
    assert imported("third", late, early).files[0].notes[1:] == ()
    assert lake.read(lambda c: c.execute("SELECT score_id FROM lake.scores ORDER BY ts, score_id").fetchall()) == [
        ("langfuse-early",),
        ("langfuse-late",),
    ]
    logs.close()
    lake.close()
