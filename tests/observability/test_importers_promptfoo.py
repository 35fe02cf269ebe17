"""What a provider answered to a prompt in a test is one request; each pair of provider and prompt is a bundle."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.observability.any_json import VALUES, places, stored_or_refused, with_value
from tests.observability.importing import imports_over
from tests.observability.lakes import NOON, open_lake, open_logs
from workbench.errors import UsageError
from workbench.observability.importers.formats import IMPORTERS
from workbench.observability.importers.source import Imported, ImportOptions, Refused
from workbench.observability.metrics import Metrics

GRADING = {
    "pass": True,
    "score": 0.9,
    "reason": "All assertions passed",
    "componentResults": [
        {"pass": True, "score": 1, "reason": "has it", "assertion": {"type": "contains", "value": "Tuesday"}},
        {"pass": True, "score": 0.8, "reason": "kind enough", "assertion": {"type": "llm-rubric", "metric": "tone"}},
        {"pass": True, "score": 1, "componentResults": [{"pass": False, "score": 0, "assertion": {"type": "not-contains"}}]},
        {"pass": True, "score": 1, "assertion": {"type": "contains", "value": "order"}},
        {"pass": True, "score": 1, "assertion": {"type": "human"}},
    ],
}
ROW = {
    "id": "row-1",
    "promptIdx": 0,
    "testIdx": 0,
    "provider": {"id": "acme:chat:wise-2025-06-01", "label": "Wise"},
    "prompt": {"raw": '[{"role": "user", "content": "Where is A-1?"}]', "label": "short"},
    "promptId": "p-short",
    "vars": {"order": "A-1", "sessionId": "s-1", "_conversation": []},
    "testCase": {"vars": {"order": "A-1"}, "metadata": {"workflow": "orders"}},
    "response": {
        "output": "On Tuesday.",
        "finishReason": "stop",
        "tokenUsage": {"prompt": 20, "completion": 5, "total": 25, "completionDetails": {"reasoning": 2, "cacheReadInputTokens": 8}},
    },
    "tokenUsage": {"prompt": 20, "completion": 5, "total": 25, "assertions": {"prompt": 900, "completion": 90, "total": 990}},
    "latencyMs": 640,
    "cost": 0.0004,
    "success": True,
    "score": 0.9,
    "namedScores": {"tone": 0.8, "length": 0.5},
    "failureReason": 0,
    "gradingResult": GRADING,
}


def row(number: int, *, prompt: int = 0, **values: object) -> dict:
    provider = {"id": "acme:chat:wise-2025-06-01", "label": "Wise"} if prompt == 0 else {"id": "file://own.py"}
    variables = {"order": f"A-{number}"}
    made = {"id": f"r{prompt}-{number}", "testIdx": number, "promptIdx": prompt, "provider": provider, "vars": variables}
    return ROW | made | values


RESULTS = {
    "evalId": "eval-abc-2026-02-01T10:00:00",
    "results": {
        "version": 3,
        "timestamp": "2026-02-01T10:00:00.000Z",
        "prompts": [
            {"raw": "Where is {{order}}?", "label": "short", "provider": "Wise"},
            {"raw": "Please say where {{order}} is.", "label": "polite", "provider": "file://own.py"},
        ],
        "results": [ROW],
        "stats": {"successes": 1, "failures": 0, "errors": 0},
    },
    "config": {
        "description": "Where is my order",
        "tags": {"app": "shop"},
        "providers": [
            {"id": "acme:chat:wise-2025-06-01", "label": "Wise", "config": {"temperature": 0.2, "max_tokens": 90, "apiKey": "k"}},
            "file://own.py",
        ],
    },
    "shareableUrl": None,
}


def of(*rows: dict) -> dict:
    return RESULTS | {"results": RESULTS["results"] | {"results": list(rows)}}


def write(folder: Path, results: object, name: str = "results.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(results))
    return path


def write_lines(folder: Path, *rows: object) -> Path:
    path = folder / "results.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows))
    return path


def read(path: Path, **options: object) -> list[Imported | Refused]:
    return list(IMPORTERS["promptfoo"].open(path, ImportOptions(**options)).records())


def record_of(folder: Path, **values: object) -> Imported:
    (record,) = read(write(folder, of(ROW | values)))
    assert isinstance(record, Imported), record
    return record


def request_of(folder: Path, **values: object) -> dict:
    return record_of(folder, **values).rows.requests[0]


def test_a_result_becomes_one_request(tmp_path: Path) -> None:
    request = request_of(tmp_path)
    expected = {
        "request_id": "promptfoo-row-1",
        "app": "shop",
        "workflow": "orders",
        "session_id": "s-1",
        "ts_start": datetime(2026, 2, 1, 10, tzinfo=UTC),
        "latency_ms": 640.0,
        "provider": "acme",
        "model_requested": "wise-2025-06-01",
        "status": "ok",
        "error_type": None,
        "input_tokens": 20,
        "output_tokens": 5,
        "reasoning_tokens": 2,
        "cache_read_tokens": 8,
        "cost_usd": 0.0004,
        "input": [{"role": "user", "content": "Where is A-1?"}],
        "output": "On Tuesday.",
        "n_tool_calls": 0,
    }
    assert {key: request[key] for key in expected} == expected


def test_assertions_are_scores_of_rules_judges_and_people(tmp_path: Path) -> None:
    scores = {score["name"]: (score["value"], score["source"]) for score in record_of(tmp_path).rows.scores}
    assert scores == {
        "success": (1.0, "rule"),
        "score": (0.9, "rule"),
        "quality": (0.9, "rule"),
        "contains": (1.0, "rule"),
        "tone": (0.8, "judge"),
        "not-contains": (0.0, "rule"),
        "contains #2": (1.0, "rule"),
        "human": (1.0, "human"),
        "length": (0.5, "rule"),
    }


def test_quality_is_left_out_where_scores_are_no_shares_or_the_test_broke(tmp_path: Path) -> None:
    records = read(write(tmp_path, of(row(0), row(1, score=7))))
    assert not any(score["name"] == "quality" for record in records for score in record.rows.scores)
    broke = record_of(tmp_path, failureReason=2, error="API error: 500", success=False, score=0)
    assert {score["name"] for score in broke.rows.scores} >= {"success", "score"}
    assert "quality" not in {score["name"] for score in broke.rows.scores}


STATUSES = [
    ({"failureReason": 1, "error": "Expected Tuesday", "success": False}, "ok", None),
    ({"failureReason": 2, "error": "API error for Jane Doe"}, "error", "error"),
    ({"failureReason": 2, "error": "Request timed out after 300 s"}, "timeout", "timeout"),
    ({"failureReason": 2, "response": {"error": "x y", "metadata": {"http": {"status": 429}}}}, "error", "http_429"),
    ({"failureReason": None, "error": "Expected Tuesday"}, "ok", None),
    ({"failureReason": None, "error": "it broke", "gradingResult": None}, "error", "error"),
    ({"response": {"output": "On", "finishReason": "length"}}, "truncated", None),
    ({"response": {"output": "", "finishReason": "content_filter"}}, "blocked", None),
]


@pytest.mark.parametrize(("change", "status", "error_type"), STATUSES)
def test_a_failed_assertion_is_an_answer_and_an_error_is_none(tmp_path: Path, change: dict, status: str, error_type: str | None) -> None:
    request = request_of(tmp_path, **change)
    assert (request["status"], request["error_type"]) == (status, error_type)


def test_answers_from_the_cache_have_no_latency_tokens_or_cost_and_leave_a_note(tmp_path: Path) -> None:
    cached = {"response": {"output": "On Tuesday.", "cached": True, "tokenUsage": {"cached": 25, "total": 25}}, "latencyMs": 2}
    path = write(tmp_path, of(row(0, **cached), row(1)))
    request = read(path)[0].rows.requests[0]
    assert [request.get(name) for name in ("latency_ms", "input_tokens", "cost_usd")] == [None, None, None]
    assert "1 of 2 answers came from promptfoo's cache" in IMPORTERS["promptfoo"].open(path, ImportOptions()).notes[0]


def test_a_cost_of_zero_with_tokens_used_is_unpriced(tmp_path: Path) -> None:
    assert request_of(tmp_path, cost=0)["cost_usd"] is None
    assert request_of(tmp_path, cost=0, response={"output": "x"}, tokenUsage={})["cost_usd"] == 0.0


def test_each_provider_and_prompt_is_a_bundle_and_tests_pair_by_unit(tmp_path: Path) -> None:
    path = write(tmp_path, of(row(0), row(1), row(0, prompt=1), row(1, prompt=1)))
    source = IMPORTERS["promptfoo"].open(path, ImportOptions())
    requests = [record.rows.requests[0] for record in source.records()]
    assert requests[0]["unit"] == requests[2]["unit"] != requests[1]["unit"] == requests[3]["unit"]
    wise, own = (source.bundles[requests[place]["bundle"]] for place in (0, 2))
    assert (wise.spec.model.provider, wise.spec.model.name, wise.spec.model.version) == ("acme", "wise-2025-06-01", "2025-06-01")
    assert wise.spec.model.params == {"temperature": 0.2, "max_tokens": 90}, "no secrets"
    assert wise.files == {"prompt.md": b"Where is {{order}}?"}
    assert (own.spec.model.provider, own.spec.model.name) == ("file", "file://own.py")
    assert own.spec.name == "file://own.py · polite"


def test_a_test_without_variables_is_its_number(tmp_path: Path) -> None:
    assert request_of(tmp_path, vars={}, testCase={})["unit"] == "test:0"
    assert request_of(tmp_path, vars={"sessionId": "a"})["unit"] == "test:0", "what differs in every run is no unit"


def test_lines_and_older_documents_say_the_same(tmp_path: Path) -> None:
    rows = [row(0), row(0, prompt=1), row(1, success=False)]
    whole = read(write(tmp_path, of(*rows)))

    def values(records: list[Imported | Refused]) -> list[object]:
        keys = ("request_id", "unit", "latency_ms", "input_tokens", "status", "ts_start", "provider")
        return [[record.rows.requests[0][key] for key in keys] for record in records]

    lines = write_lines(tmp_path, *(one | {"evalId": RESULTS["evalId"]} for one in rows))
    assert values(read(lines, app="shop")) == values(whole)
    assert len(IMPORTERS["promptfoo"].open(lines, ImportOptions(app="shop")).bundles) == 2
    shared = {"id": RESULTS["evalId"], "createdAt": 1769940000000, "config": RESULTS["config"], "results": rows}
    assert values(read(write(tmp_path, shared))) == values(whole)
    assert values(read(write(tmp_path, {"data": RESULTS | {"results": of(*rows)["results"]}}))) == values(whole)


def test_lines_without_any_time_are_dated_by_the_file_with_a_note(tmp_path: Path) -> None:
    path = write_lines(tmp_path, {"testIdx": 0, "promptIdx": 0, "success": True, "score": 1.0, "response": {"output": "x"}})
    os.utime(path, (1769940000, 1769940000))
    source = IMPORTERS["promptfoo"].open(path, ImportOptions(app="shop"))
    (record,) = source.records()
    assert record.rows.requests[0]["ts_start"] == datetime(2026, 2, 1, 10, tzinfo=UTC)
    assert record.rows.requests[0]["bundle"] is None
    assert [note.split(":")[0][:24] for note in source.notes] == ["its results carry no tim", "1 of 1 results name no p"]


def test_ids_without_id_depend_on_run_test_prompt_and_provider(tmp_path: Path) -> None:
    other = of(ROW | {"id": None}) | {"evalId": "eval-xyz-2026-02-02T10:00:00"}
    documents = [
        of(ROW | {"id": None} | change) for change in ({}, {"testIdx": 1}, {"promptIdx": 1}, {"provider": "x:y"}, {"vars": {"a": 1}})
    ]
    ids = {read(write(tmp_path, document))[0].rows.requests[0]["request_id"] for document in (*documents, other)}
    assert len(ids) == 6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"latencyMs": -1}, "negative_latency"),
        ({"latencyMs": "fast"}, "wrong_type"),
        ({"latencyMs": 1e300}, "out_of_range"),
        ({"success": "yes"}, "wrong_type"),
        ({"score": "high"}, "wrong_type"),
        ({"cost": -1}, "out_of_range"),
        ({"testIdx": -1}, "negative_count"),
        ({"gradingResult": []}, "wrong_type"),
        ({"response": {"output": "x", "tokenUsage": {"prompt": 1.5}}}, "wrong_type"),
    ],
)
def test_a_wrong_result_is_refused_with_its_reason(tmp_path: Path, change: dict, reason: str) -> None:
    (record,) = read(write(tmp_path, of(ROW | change)))
    assert isinstance(record, Refused)
    assert record.reason == reason


def test_a_broken_line_costs_that_line_only(tmp_path: Path) -> None:
    records = read(write_lines(tmp_path, row(0), "{broken", "[1]", row(1)), app="shop")
    assert [getattr(record, "reason", None) for record in records] == [None, "not_json", "not_an_object", None]
    assert [record.at for record in records] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no records"),
        (b"{broken", "not one JSON document"),
        (b"[1]", "without `results.results`"),
        (json.dumps(of()).encode(), "no results in it"),
        (json.dumps(RESULTS | {"config": {}}).encode(), "--app"),
        (json.dumps(RESULTS | {"config": {"tags": {"app": "My Shop"}}}).encode(), "no app name"),
        (b'{"id": 1, "messages": []}\n{"id": 2}\n', "openai-jsonl"),
        (b"PK\x03\x04", "zip archive"),
    ],
)
def test_another_file_is_an_error_that_says_what_it_is(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read(path)


PLACES = list(places(RESULTS))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=VALUES, is_lines=st.booleans())
def test_any_value_in_any_place_is_stored_or_refused(tmp_path: Path, place: tuple, value: object, is_lines: bool) -> None:
    results = with_value(RESULTS, place, value)
    rows = results["results"].get("results") if isinstance(results["results"], dict) else None
    if is_lines and isinstance(rows, list):
        stored_or_refused("promptfoo", write_lines(tmp_path, ROW, *rows), app="shop")
    else:
        stored_or_refused("promptfoo", write(tmp_path, results))


def test_two_providers_are_compared_by_bundle_and_totals_are_those_of_the_rows(tmp_path: Path) -> None:
    rows = [row(number, success=number % 4 > 0) for number in range(8)] + [
        row(number, prompt=1, success=number % 2 > 0) for number in range(8)
    ]
    rows.append(row(8, prompt=1, success=False, failureReason=2, error="API error", response={}, tokenUsage={}, gradingResult=None))
    lake = open_lake(tmp_path / "home")
    logs = open_logs(tmp_path / "home", lake=lake)
    path = write(tmp_path, of(*deepcopy(rows), row(9, latencyMs=-1)))
    report = imports_over(logs).run("promptfoo", [path])
    assert (report.read, report.stored, report.refused, len(report.files[0].bundles)) == (18, 17, 1, 2)
    assert imports_over(logs).run("promptfoo", [path]).stored == 0
    frame = Metrics(lake, app_spec={}.get, clock=lambda: NOON).query(
        ["volume", "success_rate", "input_tokens"], by=["provider"], app="shop"
    )
    seen = {
        provider: (volume, rate, tokens)
        for provider, volume, rate, tokens in frame.select("provider", "volume", "success_rate", "input_tokens").rows()
    }
    for prompt, provider in enumerate(("acme", "file")):
        mine = [one for one in rows if one["promptIdx"] == prompt]
        spent = [one["response"]["tokenUsage"]["prompt"] for one in mine if one["response"]]
        volume, rate, tokens = seen[provider]
        assert volume == len(mine)
        assert rate == pytest.approx(sum(one["success"] for one in mine) / len(mine))
        assert tokens == sum(spent)
    logs.close()
    lake.close()
