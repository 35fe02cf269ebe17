"""`workbench retrieval` as a person types it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from workbench.cli.main import app

RUNNER = CliRunner()


def run(*words: object) -> str:
    result = RUNNER.invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.output


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "ws"))
    (tmp_path / "qrels").write_text("t1 0 a 1\nt1 0 b 2\nt2 0 c 1\nt3 0 d 0\n")
    (tmp_path / "run").write_text("t1 Q0 x 1 3 me\nt1 Q0 b 2 2 me\nt9 Q0 a 1 1 me\n")
    return tmp_path


def test_a_run_is_measured_without_a_workspace_and_tells_what_it_leaves_out(files):
    text = run("retrieval", "evaluate", files / "run", "--qrels", files / "qrels", "-m", "recip_rank", "-m", "recall_5", "-q")
    assert [line.split() for line in text.splitlines() if line.lstrip().startswith(("t1", "all"))] == [
        ["t1", "0.5000", "0.5000"],
        ["all", "0.5000", "0.5000"],
    ]
    assert "2 judged topics without a list in the run (t2, t3), in no number: --complete counts them as 0." in text
    assert "1 topic of the run that nobody judged (t9), in no number." in text
    assert not (files / "ws").exists()
    whole = json.loads(run("retrieval", "evaluate", files / "run", "--qrels", files / "qrels", "-m", "recip_rank", "-c", "--json"))
    assert whole["means"]["recip_rank"] == pytest.approx(0.5 / 3)


def test_judgments_are_stored_once_and_a_run_is_measured_against_them(files):
    text = run("retrieval", "judge", files / "qrels", "--app", "shop")
    assert "4 judgments on 3 topics: 4 stored, 0 there already." in text
    assert "1 topic without a relevant document (t3): their lookups are not measured." in text
    assert "0 stored, 4 there already" in run("retrieval", "judge", files / "qrels", "--app", "shop")
    assert run("retrieval", "judgments").split()[-2:-1]
    assert json.loads(run("retrieval", "judgments", "--json"))[0]["relevant"] == 3


def test_the_list_shows_every_family(files):
    text = run("metrics", "list")
    assert "score:<NAME>" in text
    assert "retrieval_hit@<K>" in text
