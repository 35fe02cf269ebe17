"""The commands as a person types them: words, exit codes, and nothing half-done."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench.cli.main import app, main

RUNNER = CliRunner()


def run(*words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (words, result.exit_code, result.output, result.exception)
    return result.output


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object, code: int = 2) -> str:
    """What stands on stderr when the real entry point refuses."""
    monkeypatch.setattr("sys.argv", ["workbench", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == code
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    run("init", tmp_path / "shop")
    run("bundle", "register", tmp_path / "shop" / "bundles" / "v1")
    return tmp_path / "shop"


def test_a_starter_app_lacks_only_measurements(starter: Path):
    review = json.loads(run("readiness", "shop", "--json", code=3))
    assert review["verdict"] == "NOT_ENOUGH_EVIDENCE"
    assert {gate["verdict"] for gate in review["gates"] if gate["is_blocking"]} == {"PASS", "MISSING"}
    assert review["findings"] == []


def test_the_same_review_is_asked_twice_and_has_one_identity(starter: Path):
    first, second = (json.loads(run("readiness", "shop", "--json", code=3)) for _ in range(2))
    assert first["review_id"] == second["review_id"]


def test_a_declaration_taken_away_makes_the_review_no_go(starter: Path):
    plan = starter / "plan.yaml"
    plan.unlink()
    text = (starter / "app.yaml").read_text().replace("kill_switch:", "# kill_switch:")
    (starter / "app.yaml").write_text(text)
    run("app", "register", starter)
    assert "NO GO" in run("readiness", "shop", code=1)


def test_registering_again_changes_nothing(starter: Path):
    before = run("audit", "verify")
    run("bundle", "register", starter / "bundles" / "v1")
    assert run("app", "register", starter).strip() == "nothing changed"
    assert run("audit", "verify") == before


def test_every_list_is_also_json(starter: Path):
    bundles = json.loads(run("bundle", "list", "--json"))
    assert [bundle["bundle"]["name"] for bundle in bundles] == ["v1"]
    assert json.loads(run("app", "list", "--json"))[0]["app"] == "shop"
    assert json.loads(run("audit", "tail", "--json"))[-1]["act"] == "bundle.register"
    assert json.loads(run("owner", "gaps", "shop", "--json")) == []
    assert {row["metric"] for row in json.loads(run("metrics", "list", "--json"))} >= {"volume", "success_rate", "latency_p95"}


def test_an_altered_byte_is_named(starter: Path, tmp_path: Path):
    with sqlite3.connect(tmp_path / "workspace" / "ledger.sqlite") as connection:
        connection.execute("UPDATE audit SET subject = subject || 'x' WHERE seq = 3")
    assert "entry 3" in run("audit", "verify", code=1)


def test_a_cut_tail_is_named_and_a_kept_head_proves_it(starter: Path, tmp_path: Path):
    head = json.loads(run("audit", "verify", "--json"))["head"]
    kept = f"{head['seq']}:{head['digest']}"
    assert "whole" in run("audit", "verify", "--head", kept)
    with sqlite3.connect(tmp_path / "workspace" / "ledger.sqlite") as connection:
        connection.execute("DELETE FROM audit WHERE seq = ?", (head["seq"],))
    assert f"entry {head['seq']}" in run("audit", "verify", code=1)
    assert f"entry {head['seq']}" in run("audit", "verify", "--head", kept, code=1)


def test_bundle_diff_shows_the_prompt_text(starter: Path):
    prompt = starter / "bundles" / "v1" / "prompts" / "system.md"
    old = json.loads(run("bundle", "list", "--json"))[0]["bundle"]["bundle_id"]
    prompt.write_text(prompt.read_text() + "\nNever promise a date.\n")
    run("bundle", "register", starter / "bundles" / "v1")
    new = json.loads(run("bundle", "list", "--json"))[1]["bundle"]["bundle_id"]
    shown = run("bundle", "diff", old, new)
    assert "+Never promise a date." in shown
    assert re.search(r"\bprompts\b", shown)


def test_a_report_is_one_file_that_fetches_nothing(starter: Path, tmp_path: Path):
    page = tmp_path / "review.html"
    run("report", "readiness", "shop", "--html", page)
    html = page.read_text()
    assert "NOT ENOUGH EVIDENCE" in html
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", html)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("bundle", "show", "shop@deadbeef"), "shop@deadbeef"),
        (("readiness", "shop_typo"), "shop_typo"),
        (("metrics", "show", "sucess_rate"), "success_rate"),
        (("metrics", "show", "volume", "--by", "wrkflow"), "workflow"),
        (("metrics", "show", "volume", "--where", "workflow"), "dimension=value"),
        (("metrics", "show", "volume", "--window", "soon"), "7d"),
        (("owner", "show", "nobody"), "nobody"),
        (("audit", "verify", "--head", "5"), "NUMBER:sha256"),
        (("--as", "primary", "readiness", "shop"), "demo workspace"),
        (("report", "readiness", "shop", "--html", "/nowhere/at/all.html"), "/nowhere/at/all.html"),
        (("demo",), "real workspace"),
    ],
)
def test_wrong_use_is_one_message_with_the_next_step(starter: Path, monkeypatch, capsys, words, says):
    assert says in fails(monkeypatch, capsys, *words)


def test_a_missing_workspace_is_named_with_what_makes_one(monkeypatch, capsys):
    assert "workbench demo" in fails(monkeypatch, capsys, "bundle", "list")


def test_a_broken_spec_names_file_and_line_and_stores_nothing(starter: Path, monkeypatch, capsys):
    before = run("audit", "verify")
    gates = starter / "gates.yaml"
    gates.write_text(gates.read_text().replace("at_least:", "at_leest:", 1))
    message = fails(monkeypatch, capsys, "app", "register", starter)
    assert re.search(r"gates\.yaml:\d+", message)
    assert "at_least" in message
    assert run("audit", "verify") == before
