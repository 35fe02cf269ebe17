"""`workbench feedback` as a person types it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.observability.importing import record, write
from workbench.cli.main import app
from workbench.errors import StoreError
from workbench.observability.logs import Logs
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


def test_an_event_that_is_stored_is_named_also_where_the_log_cannot_be_read(monkeypatch: pytest.MonkeyPatch):
    def unreadable(*_: object) -> None:
        raise StoreError("log lake", seen="a file is damaged", next_step="restore it from a backup")

    monkeypatch.setattr(Logs, "known_requests", unreadable)
    said = run("feedback", "outcome", "shop", "order_placed", "--request", "r1", "--id", "order-7")
    assert "outcome order-7 is in the log" in said
    assert "Note: whether anything knows its names is not known: log lake: a file is damaged" in said


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


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The app of the log, declared: its KPIs and rules read `solved_without_contact`, `csat_given` and so on."""
    run("init", tmp_path / "shop")
    declared = tmp_path / "shop" / "app.yaml"
    text = declared.read_text()
    assert "outcome:" in text
    run("app", "register", tmp_path / "shop")
    return declared


def outcomes_of(declared: Path) -> list[str]:
    return re.findall(r"^\s*outcome: (\w+)", declared.read_text(), re.MULTILINE)


def test_what_names_nothing_that_is_known_is_stored_and_said(shop: Path):
    known = outcomes_of(shop)[0]
    said = run("feedback", "score", "shop", "r-9999", "helpful", "--value", "1")
    assert "is in the log" in said
    assert "Note: no request r-9999 of shop is in the log yet; it counts when that comes" in said
    assert "Note" not in run("feedback", "score", "shop", "r1", "helpful", "--value", "1")
    said = " ".join(run("feedback", "outcome", "shop", known[:-1], "--request", "r1").split())
    assert f"Note: no KPI, rule of success or metric of shop reads the outcome '{known[:-1]}' (known: " in said
    assert f"did you mean '{known}'?)" in said
    assert "Note" not in run("feedback", "outcome", "shop", known, "--request", "r1")
    assert json.loads(run("feedback", "outcome", "shop", known, "--request", "r2", "--json"))["notes"] == [
        "no request r2 of shop is in the log yet; it counts when that comes"
    ]
    assert stored("SELECT count(*) FROM lake.scores")[0] == (2,)


def test_a_file_of_names_that_are_not_known_says_how_many_of_its_rows_and_where(shop: Path, tmp_path: Path):
    scores = tmp_path / "scores.csv"
    scores.write_text("request_id,name,value\nr1,helpful,1\nr-8,helpful,1\nr-8,clear,1\nr-9,helpful,0\n")
    said = " ".join(run("import", "scores", scores, "--app", "shop").split())
    assert "3 of 4 scores (scores.csv:3 the first) name requests that are not in the log of shop yet; they count when those come" in said
    outcomes, known = tmp_path / "outcomes.csv", outcomes_of(shop)[0]
    outcomes.write_text("kpi,request_id\nwrong_kpi,r1\nann@example.org,r1\nwrong_kpi,r1\n")
    said = " ".join(run("import", "outcomes", outcomes, "--app", "shop").split())
    assert "2 of 3 outcomes (outcomes.csv:2 the first): no KPI, rule of success or metric of shop reads the outcome 'wrong_kpi'" in said
    assert ("example.org" in said, "1 of 3 outcomes (outcomes.csv:3): its `kpi` is none that" in said) == (False, True)
    assert "Next: correct the names of the outcomes, or declare what reads them under `kpis` in app.yaml" in said
    assert "metrics list" not in said
    outcomes.write_text(f"kpi,request_id\n{known},r1\n")
    assert "metrics list --app shop` names what counts them" in run("import", "outcomes", outcomes, "--app", "shop")


def test_a_file_asks_the_log_once_however_many_rows_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from workbench.observability.logs import Logs

    asked: list[int] = []
    ask = Logs.known_requests
    monkeypatch.setattr(Logs, "known_requests", lambda logs, keys: asked.append(len(keys)) or ask(logs, keys))
    path = tmp_path / "scores.csv"
    path.write_text("request_id,name,value\n" + "".join(f"r{n % 40},helpful,1\n" for n in range(100)))
    run("import", "scores", path, "--app", "shop")
    assert asked == [40]


def test_files_of_events_are_imported_by_the_word_for_them(tmp_path: Path):
    path = tmp_path / "orders.csv"
    path.write_text("kpi,request_id,at\norder_placed,r1,2026-01-02T00:00:00Z\norder_placed,,2026-01-02T00:00:00Z\n")
    said = run("import", "outcomes", path, "--app", "shop", code=1)
    assert "1 outcome stored, 0 there already, 1 record refused." in said
    assert "orders.csv:3: request_id: nothing that the event followed" in said
