"""One simulation of a tau2 run file is one request, with its spans and scores."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tests.observability.real_data import real
from workbench.errors import UsageError
from workbench.observability.importers.formats import IMPORTERS
from workbench.observability.importers.source import Imported, ImportOptions, Refused

CALL = {"id": "c1", "name": "find_user", "arguments": {"zip": "78712"}, "requestor": "assistant"}
USER_CALL = {"id": "c2", "name": "toggle", "arguments": {}, "requestor": "user"}
MESSAGES = [
    {"role": "assistant", "content": "Hi!", "timestamp": "2025-08-01T10:00:00.100000", "usage": None, "cost": 0.0},
    {"role": "user", "content": "Help", "timestamp": "2025-08-01T10:00:01", "usage": {"prompt_tokens": 900, "completion_tokens": 9}},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [CALL],
        "timestamp": "2025-08-01T10:00:02.500000",
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
        "cost": 0.001,
    },
    {"role": "tool", "id": "c1", "content": "not found", "error": True, "requestor": "assistant", "timestamp": "2025-08-01T10:00:03"},
    {"role": "user", "content": None, "tool_calls": [USER_CALL], "timestamp": "2025-08-01T10:00:04"},
    {"role": "tool", "id": "c2", "content": "on", "error": True, "requestor": "user", "timestamp": "2025-08-01T10:00:04"},
    {
        "role": "assistant",
        "content": "Done",
        "timestamp": "2025-08-01T10:00:05",
        "usage": {"prompt_tokens": 200, "completion_tokens": 20},
        "cost": 0.002,
    },
]
SIMULATION = {
    "id": "s1",
    "task_id": "[billing]late_fee[PERSONA:Easy]",
    "trial": 0,
    "start_time": "2025-08-01T10:00:00",
    "end_time": "2025-08-01T10:00:10.500000",
    "duration": 10.25,
    "termination_reason": "user_stop",
    "agent_cost": 0.003,
    "reward_info": {"reward": 1.0},
    "messages": MESSAGES,
}
RUN = {
    "timestamp": "2025-08-01T09:59:00",
    "info": {
        "max_steps": 200,
        "max_errors": 10,
        "agent_info": {"llm": "gpt-4.1-2025-04-14", "llm_args": {"temperature": 0.0}},
        "environment_info": {"domain_name": "telecom", "policy": "# Policy\nBe kind.", "tool_defs": None},
    },
    "simulations": [SIMULATION],
}


def write(folder: Path, run: object, name: str = "run.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(run))
    return path


def changed(**values: object) -> dict:
    run = deepcopy(RUN)
    run["simulations"][0].update(values)
    return run


def read(path: Path, **options: object) -> list[Imported | Refused]:
    return list(IMPORTERS["tau2"].open(path, ImportOptions(**options)).records())


def request_of(folder: Path, run: dict, **options: object) -> dict:
    (record,) = read(write(folder, run), **options)
    assert isinstance(record, Imported), record
    return record.rows.requests[0]


def refusal_of(folder: Path, run: dict) -> Refused:
    (record,) = read(write(folder, run))
    assert isinstance(record, Refused)
    return record


def test_a_simulation_becomes_one_request(tmp_path: Path) -> None:
    request = request_of(tmp_path, RUN)
    expected = {
        "app": "telecom",
        "workflow": "billing",
        "unit": "[billing]late_fee[PERSONA:Easy]",
        "session_id": "s1",
        "latency_ms": 10250.0,
        "status": "ok",
        "error_type": None,
        "finish_reason": "user_stop",
        "n_tool_calls": 1,
        "n_tool_errors": 1,
        "input_tokens": 300,
        "output_tokens": 30,
        "cost_usd": 0.003,
        "provider": "openai",
        "model_requested": "gpt-4.1-2025-04-14",
        "ts_start": datetime(2025, 8, 1, 10, tzinfo=UTC),
    }
    assert {key: request[key] for key in expected} == expected
    assert request["output"] == [{"role": "assistant", "content": "Done"}]


def test_model_and_tool_spans_carry_arguments_result_and_time(tmp_path: Path) -> None:
    (record,) = read(write(tmp_path, RUN))
    assert isinstance(record, Imported)
    kinds = [span["kind"] for span in record.rows.spans]
    assert kinds == ["agent", "model", "tool", "model"], "the greeting was not generated, and the user's tools are no part of the agent"
    tool = record.rows.spans[2]
    assert (tool["tool_arguments"], tool["tool_result"], tool["status"]) == ({"zip": "78712"}, "not found", "error")
    assert tool["duration_ms"] == 500.0
    assert record.rows.spans[1]["duration_ms"] == 1500.0
    assert len({span["span_id"] for span in record.rows.spans}) == 4


def test_reward_and_success_are_scores(tmp_path: Path) -> None:
    (record,) = read(write(tmp_path, changed(reward_info={"reward": 0.5})))
    assert isinstance(record, Imported)
    assert {score["name"]: score["value"] for score in record.rows.scores} == {"reward": 0.5, "success": 0.0}
    (record,) = read(write(tmp_path, changed(reward_info=None)))
    assert isinstance(record, Imported)
    assert record.rows.scores == [], "no reward is undecided, not a failure"


ENDINGS = {"user_stop": "ok", "agent_stop": "ok", "max_steps": "truncated", "too_many_errors": "error", "alien": "unknown", None: "unknown"}


@pytest.mark.parametrize(("ending", "status"), ENDINGS.items())
def test_the_ending_decides_the_status(tmp_path: Path, ending: str | None, status: str) -> None:
    request = request_of(tmp_path, changed(termination_reason=ending))
    assert request["status"] == status
    assert (request["error_type"] is None) == (status == "ok")


def test_a_cost_of_zero_with_tokens_used_is_unpriced(tmp_path: Path) -> None:
    assert request_of(tmp_path, changed(agent_cost=0.0))["cost_usd"] is None
    assert request_of(tmp_path, changed(agent_cost=0.0, messages=[]))["cost_usd"] == 0.0
    assert request_of(tmp_path, changed(agent_cost=None))["cost_usd"] is None


def test_no_usage_anywhere_is_missing_and_not_zero(tmp_path: Path) -> None:
    messages = [message | {"usage": None} for message in MESSAGES]
    request = request_of(tmp_path, changed(messages=messages))
    assert request["input_tokens"] is None
    assert request["output_tokens"] is None


def test_times_are_read_in_the_zone_given(tmp_path: Path) -> None:
    request = request_of(tmp_path, RUN, zone=ZoneInfo("Europe/Berlin"))
    assert request["ts_start"] == datetime(2025, 8, 1, 8, tzinfo=UTC)


def test_only_times_without_zone_leave_a_note(tmp_path: Path) -> None:
    def notes(run: dict, **options: object) -> tuple[str, ...]:
        return IMPORTERS["tau2"].open(write(tmp_path, run), ImportOptions(**options)).notes

    assert "read as UTC" in notes(RUN)[0]
    assert notes(RUN, zone=ZoneInfo("Europe/Berlin")) == ()
    assert notes(changed(start_time="2025-08-01T10:00:00Z", end_time="2025-08-01T10:00:10Z")) == ()


def test_the_request_id_depends_on_run_task_trial_and_simulation(tmp_path: Path) -> None:
    other_run = deepcopy(RUN)
    other_run["timestamp"] = "2025-08-02T09:59:00"
    runs = [RUN, changed(trial=1), changed(task_id="x"), changed(id="s2"), other_run]
    assert len({request_of(tmp_path, run)["request_id"] for run in runs}) == 5
    assert request_of(tmp_path, RUN)["request_id"] == request_of(tmp_path, deepcopy(RUN))["request_id"]


def test_the_agent_becomes_a_bundle(tmp_path: Path) -> None:
    run = deepcopy(RUN)
    function = {"name": "find_user", "description": "d", "parameters": {"type": "object"}}
    run["info"]["environment_info"]["tool_defs"] = [{"type": "function", "function": function}]
    bundle = IMPORTERS["tau2"].open(write(tmp_path, run), ImportOptions()).bundle
    assert bundle is not None
    assert (bundle.spec.app, bundle.spec.name, bundle.spec.model.version) == ("telecom", "gpt-4.1-2025-04-14", "2025-04-14")
    assert bundle.files == {"policy.md": b"# Policy\nBe kind."}
    assert [tool.name for tool in bundle.spec.orchestration.tools] == ["find_user"]
    assert bundle.spec.orchestration.limits == {"max_steps": 200, "max_errors": 10}


def test_a_model_without_a_date_has_no_version(tmp_path: Path) -> None:
    run = deepcopy(RUN)
    run["info"]["agent_info"]["llm"] = "claude-next"
    bundle = IMPORTERS["tau2"].open(write(tmp_path, run), ImportOptions()).bundle
    assert bundle is not None
    assert (bundle.spec.model.provider, bundle.spec.model.version) == ("anthropic", None)


def test_the_app_option_overrules_the_domain(tmp_path: Path) -> None:
    assert request_of(tmp_path, RUN, app="helpdesk")["app"] == "helpdesk"


def test_a_domain_that_is_no_app_name_asks_for_one(tmp_path: Path) -> None:
    run = deepcopy(RUN)
    run["info"]["environment_info"]["domain_name"] = "Air Line!"
    with pytest.raises(UsageError, match="--app"):
        read(write(tmp_path, run))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"duration": -1.0}, "negative_latency"),
        ({"end_time": "2025-08-01T09:00:00"}, "end_before_start"),
        ({"start_time": None}, "wrong_type"),
        ({"start_time": "yesterday"}, "bad_time"),
        ({"start_time": "0001-01-01T00:00:00"}, "out_of_range"),
        ({"task_id": None}, "missing_field"),
        ({"end_time": None, "duration": None}, "missing_field"),
        ({"messages": "none"}, "wrong_type"),
        ({"reward_info": {"reward": "high"}}, "wrong_type"),
        ({"agent_cost": -0.5}, "out_of_range"),
        ({"trial": -1}, "negative_count"),
        ({"messages": [MESSAGES[2] | {"usage": {"prompt_tokens": -1}}]}, "negative_count"),
    ],
)
def test_a_wrong_simulation_is_refused_with_its_reason(tmp_path: Path, change: dict, reason: str) -> None:
    assert refusal_of(tmp_path, changed(**change)).reason == reason


def test_a_simulation_that_is_no_object_is_refused(tmp_path: Path) -> None:
    assert refusal_of(tmp_path, RUN | {"simulations": [7]}).reason == "wrong_type"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no records"),
        (b"{broken", "not one JSON document"),
        (b"[1]", "without `info`"),
        (b'{"simulations": []}', "without `info`"),
        (b'{"id": 1, "messages": []}\n{"id": 2}\n', "openai-jsonl"),
        (b"a,b,c\n1,2,3\n", "csv"),
        (b"\xff\xfe{", "UTF-16"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"\x1f\x8b123", "gzip"),
    ],
)
def test_another_file_is_an_error_that_names_what_it_looks_like(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read(path)


def test_no_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path, says in ((tmp_path / "absent.json", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(UsageError, match=says):
            read(path)


@pytest.mark.parametrize(
    ("run", "p50_s", "p95_s", "success", "errors", "is_priced"),
    [
        ("retail/gpt-4.1_retail_1trial.json", 24.8, 35.0, 0.85, 12, True),
        ("retail/ft-gpt-4.1-sft_retail_1trial.json", 35.1, 62.7, 0.85, 23, False),
        ("telecom/gpt-4.1_telecom_1trial.json", 53.0, 76.6, 0.45, 0, True),
        ("telecom/ft-gpt-4.1-sft_telecom_1trial.json", 56.4, 175.4, 0.75, 10, False),
    ],
)
def test_published_runs_give_the_known_answers(
    run: str, p50_s: float, p95_s: float, success: float, errors: int, *, is_priced: bool
) -> None:
    records = read(real("tau2", *run.split("/")))
    rows = [record.rows for record in records if isinstance(record, Imported)]
    requests = [row.requests[0] for row in rows]
    assert len(requests) == len(records) == 40
    p50, p95 = np.percentile([request["latency_ms"] for request in requests], [50, 95]) / 1000
    assert (round(p50, 1), round(p95, 1)) == (p50_s, p95_s)
    assert sum(request["n_tool_errors"] for request in requests) == errors
    assert np.mean([score["value"] for row in rows for score in row.scores if score["name"] == "success"]) == success
    assert all((request["cost_usd"] is not None) == is_priced for request in requests)


def units(path: Path) -> set[str]:
    return {record.rows.requests[0]["unit"] for record in read(path) if isinstance(record, Imported)}


def test_two_runs_of_the_same_tasks_have_the_same_units() -> None:
    for domain in ("retail", "telecom"):
        folder = real("tau2", domain)
        first, second = (units(path) for path in sorted(folder.glob("*.json")))
        assert first == second
