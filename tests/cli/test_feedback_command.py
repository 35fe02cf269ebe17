"""`workbench feedback` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.observability.importing import record, write
from workbench.cli.main import app
from workbench.workspace import Workspace

RUNNER = CliRunner()


def run(*words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (words, result.exit_code, result.output, result.exception)
    return result.output


@pytest.fixture(autouse=True)
def log(tmp_path: Path) -> None:
    run("import", "openai-jsonl", write(tmp_path, record(1)))


def stored(sql: str) -> list[tuple[object, ...]]:
    with Workspace.open() as ws:
        ws.logs.flush()
        return ws.lake.read(lambda connection: connection.execute(sql).fetchall())


def test_a_score_and_an_outcome_are_in_the_log_and_name_who_told_them():
    said = json.loads(run("feedback", "score", "shop", "r1", "helpful", "--value", "1", "--json"))
    run("feedback", "outcome", "shop", "order_placed", "--value", 12.5, "--currency", "EUR", "--request", "r1", "--id", "order-7")
    assert stored("SELECT score_id, value, source, scorer_id LIKE 'person:%' FROM lake.scores") == [(said["id"], 1.0, "human", True)]
    assert stored("SELECT outcome_id, value, source FROM lake.outcomes") == [("order-7", 12.5, "cli")]


def test_a_mistake_is_one_sentence_and_nothing_is_stored():
    for words, said in (
        (("score", "shop", "r1", "helpful"), "neither a value nor a label"),
        (("outcome", "shop", "order_placed"), "a request_id, a session_id or a unit"),
        (("score", "bank", "r1", "helpful", "--value", "1"), "nobody registered it"),
        (("outcome", "shop", "order_placed", "--unit", "u1", "--at", "yesterday"), "not an ISO 8601 time"),
    ):
        result = RUNNER.invoke(app, ["feedback", *words])
        assert (result.exit_code, said in str(result.exception)) == (1, True), (words, result.exception)
    assert stored("SELECT count(*) FROM lake.scores") == stored("SELECT count(*) FROM lake.outcomes") == [(0,)]


def test_files_of_events_are_imported_by_the_word_for_them(tmp_path: Path):
    path = tmp_path / "orders.csv"
    path.write_text("kpi,request_id,at\norder_placed,r1,2026-01-02T00:00:00Z\norder_placed,,2026-01-02T00:00:00Z\n")
    said = run("import", "outcomes", path, "--app", "shop")
    assert "1 outcome stored, 0 there already, 1 record refused." in said
    assert "orders.csv:3: request_id: nothing that the event followed" in said
