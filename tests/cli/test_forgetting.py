"""`workbench erase`, `lake maintain` and `audit evidence` as a person types them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.observability.importing import record, write
from tests.versions.folders import write_app, write_yaml
from workbench.cli.main import app
from workbench.errors import UsageError
from workbench.observability.upkeep import Upkeep
from workbench.spec.login import login_of_process
from workbench.workspace import Workspace

RUNNER = CliRunner()
GATES = {
    "gates": [
        {"id": "enough", "title": "Enough traffic", "family": "quality", "metric": "volume", "at_least": 1, "min_n": 1, "max_age": "9999d"}
    ]
}


def run(*words: object, code: int = 0, said: str | None = None) -> str:
    result = RUNNER.invoke(app, [str(word) for word in words], input=said)
    assert result.exit_code == code, (words, result.exit_code, result.output, result.exception)
    return result.output


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """An app with a registered bundle, traffic of six units on it, and an administrator."""
    folder = write_app(tmp_path / "shop", spec={"app": "shop", "name": "v1", "model": {"provider": "house", "name": "m", "version": "1"}})
    write_yaml(folder / "app.yaml", {"app": "shop", "title": "Shop", "risk_tier": "low", "owner": "primary"})
    roles = {"os": [login_of_process()], "roles": {"shop": ["admin", "operator", "viewer"]}}
    write_yaml(folder / "people.yaml", {"people": {"primary": roles}})
    write_yaml(folder / "gates.yaml", GATES)
    run("bundle", "register", folder / "bundles" / "v1")
    run("import", "openai-jsonl", write(tmp_path, *(record(number) for number in range(1, 7))), "--bundle", "v1")
    return folder


def test_a_unit_read_from_standard_input_is_gone_at_once_and_its_files_later(shop: Path, monkeypatch: pytest.MonkeyPatch):
    said = run("erase", "--unit", "-", "--reason", "asked by the customer", said="u3\n")
    assert "goes on after" in said
    assert "not reached: " in said
    assert "u3" not in said, "the unit itself is repeated nowhere"
    assert json.loads(run("metrics", "show", "volume", "--json"))[0]["volume"] == 5
    assert "goes on after" in run("erase", "--pending")
    real = Upkeep.__init__
    monkeypatch.setattr(Upkeep, "__init__", lambda self, *args, **more: real(self, *args, **{**more, "grace": timedelta(0)}))
    for _ in range(3):
        run("erase", "--finish")
    assert run("erase", "--pending").strip() == "no erasure is pending"
    assert json.loads(run("erase", "--pending", "--json")) == []
    with Workspace.open() as ws:
        assert "erase" in {entry["act"].partition(".")[0] for entry in json.loads(run("audit", "tail", "--json"))}
        assert ws.metrics.query("volume", app="shop")["volume"].item() == 5


def test_wrong_use_of_erase_erases_nothing(shop: Path):
    for words, said in (
        ((), "not exactly one of them"),
        (("--unit", "u1", "--finish"), "not exactly one of them"),
        (("--unit", "", "--reason", "why"), "unit"),
        (("--unit", "u1"), "reason"),
    ):
        result = RUNNER.invoke(app, ["erase", *words])
        assert isinstance(result.exception, UsageError), (words, result.exception)
        assert said in str(result.exception)
    assert json.loads(run("metrics", "show", "volume", "--json"))[0]["volume"] == 6


def test_upkeep_says_what_it_did(shop: Path):
    assert "write inlined rows to files: " in run("lake", "maintain")
    assert json.loads(run("metrics", "show", "volume", "--json"))[0]["volume"] == 6


def test_what_a_review_rests_on_is_asked_again(shop: Path):
    review = json.loads(RUNNER.invoke(app, ["readiness", "shop", "--json"]).output)
    answers = json.loads(run("audit", "evidence", review["review_id"], "--json"))
    assert answers
    assert set(answers.values()) == {"SAME"}
    assert "SAME" in run("audit", "evidence", review["review_id"][:8])
