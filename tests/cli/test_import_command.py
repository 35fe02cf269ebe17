"""`workbench import` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.observability.importing import record, write
from workbench.cli.main import app
from workbench.ledger.audit import tail
from workbench.workspace import Workspace, default_home

RUNNER = CliRunner()


def run(*words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (words, result.exit_code, result.output, result.exception)
    return result.output


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path, record(1), record(2), record(3, latency_ms=-1))


def audited() -> list[str]:
    with Workspace.open() as ws, ws.ledger.read() as connection:
        return [entry.act for entry in tail(connection, 100)]


def test_a_dry_run_says_what_an_import_would_do_and_stores_nothing(log: Path):
    run("import", "openai-jsonl", write(log.parent, record(1), name="first.jsonl"))
    acts, files = audited(), sorted(default_home().rglob("*.parquet"))
    said = run("import", "openai-jsonl", log, "--dry-run")
    assert "Dry run: 1 request would be stored, 1 there already, 1 record refused. Nothing was stored." in said
    assert "latency_ms: -1 ms is negative" in said
    assert "Next: the same without --dry-run" in said
    assert (audited(), sorted(default_home().rglob("*.parquet"))) == (acts, files)
    dry = json.loads(run("import", "openai-jsonl", log, "--dry-run", "--json"))
    real = json.loads(run("import", "openai-jsonl", log, "--workers", "1", "--json"))
    assert dry | {"is_dry_run": False} == real


def test_a_dry_run_without_a_workspace_makes_none(log: Path):
    assert "2 requests would be stored" in run("import", "openai-jsonl", log, "--dry-run")
    assert not default_home().exists()


def test_a_dry_run_of_which_every_record_is_refused_ends_like_an_import(tmp_path: Path):
    path = write(tmp_path, record(1, latency_ms=-1))
    assert "Next: correct the file" in run("import", "openai-jsonl", path, "--dry-run", code=1)


def test_an_import_says_which_requests_got_their_bundle(log: Path, tmp_path: Path):
    run("init", tmp_path / "shop")
    run("bundle", "register", tmp_path / "shop" / "bundles" / "v1")
    run("import", "openai-jsonl", log)
    said = run("import", "openai-jsonl", log, "--bundle", "v1")
    assert "0 requests stored, 2 there already, 2 of them given their bundle, 1 record refused." in said
    assert "2 requests that were there without a bundle get this one, as a new revision each" in said
    assert audited()[-4:] == ["log.import.begin", "log.import"] * 2
