"""`workbench import` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.observability.importing import record, write
from tests.observability.real_data import real
from workbench.cli.main import app
from workbench.ledger.audit import tail
from workbench.settings import default_home
from workbench.workspace import Workspace

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
    said = run("import", "openai-jsonl", log, "--dry-run", code=1)
    assert "Dry run: 1 request would be stored, 1 there already, 1 record refused. Nothing was stored." in said
    assert "latency_ms: -1 ms is negative" in said
    assert "Next: the same without --dry-run" in said
    assert (audited(), sorted(default_home().rglob("*.parquet"))) == (acts, files)
    dry = json.loads(run("import", "openai-jsonl", log, "--dry-run", "--json", code=1))
    real = json.loads(run("import", "openai-jsonl", log, "--workers", "1", "--json", code=1))
    assert dry | {"is_dry_run": False} == real


def test_a_dry_run_without_a_workspace_makes_none(log: Path):
    assert "2 requests would be stored" in run("import", "openai-jsonl", log, "--dry-run", code=1)
    assert not default_home().exists()


def test_a_dry_run_of_which_every_record_is_refused_ends_like_an_import(tmp_path: Path):
    path = write(tmp_path, record(1, latency_ms=-1))
    assert "Next: correct the file" in run("import", "openai-jsonl", path, "--dry-run", code=1)


def stored(table: str = "requests") -> int:
    with Workspace.open() as ws:
        return ws.lake.read(lambda connection: connection.execute(f"SELECT count(*) FROM lake.{table}").fetchone()[0])


def test_a_file_of_which_a_part_is_refused_ends_as_one_that_is_refused_and_names_the_rows(tmp_path: Path):
    mapping = tmp_path / "calls.yaml"
    columns = "{ts_start: at, latency_ms: {column: seconds, unit: s}, status: {column: result, values: {OK: ok}}}"
    mapping.write_text(f"app: shop\nzone: UTC\ncolumns: {columns}\n")
    cells = ["2026-01-01 10:00,1.5,OK", *["2026-01-01 10:00,slow,OK"] * 12, "2026-01-01 10:00,1,ann@example.org"]
    (tmp_path / "bad1.csv").write_text("\n".join(["at,seconds,result", *cells]) + "\n")
    said = run("import", "csv", tmp_path / "bad1.csv", "--mapping", mapping, code=1)
    said = " ".join(said.split())
    assert "12 × wrong_type; the first: bad1.csv:3: latency_ms (column 'seconds'): text; needed: a number with a decimal point" in said
    assert "status (column 'result'): a value without a meaning here, and none that the mapping names: OK; needed: one of" in said
    assert "example.org" not in said
    assert "Next: correct bad1.csv:3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 3 more, and import those records in a file of their own" in said
    again = run("import", "csv", tmp_path / "bad1.csv", "--mapping", mapping, code=1)
    assert "0 requests stored, 1 there already, 13 records refused." in again
    assert "Next: correct what was refused of bad1.csv" in again
    assert stored() == 1


@pytest.mark.parametrize(
    ("format_", "good", "bad"),
    [
        ("openai-jsonl", json.dumps(record(1)), json.dumps(record(2, latency_ms=-1))),
        ("scores", '{"request_id": "r1", "name": "helpful", "value": 1}', '{"request_id": "r1", "name": "helpful", "value": "great"}'),
        ("outcomes", '{"request_id": "r1", "kpi": "order_placed"}', '{"request_id": "r1"}'),
    ],
)
def test_every_format_ends_alike_and_a_repetition_says_and_stores_the_same(tmp_path: Path, format_: str, good: str, bad: str):
    name = {"openai-jsonl": "requests"}.get(format_, format_)
    some, none, whole = (tmp_path / f"{part}.jsonl" for part in ("some", "none", "whole"))
    some.write_text(f"{good}\n{bad}\n")
    none.write_text(f"{bad}\n")
    whole.write_text(f"{good}\n")
    for again in ("", "again"):
        assert ("1 record refused" in run("import", format_, some, "--app", "shop", code=1), again) == (True, again)
        assert "correct the file" in run("import", format_, none, "--app", "shop", code=1)
        assert stored(name) == 1
    run("import", format_, whole, "--app", "shop")


def test_a_column_that_no_file_fills_is_left_out(log: Path):
    assert "bundles" not in run("import", "openai-jsonl", log, code=1)


def test_a_bundle_of_an_app_that_nobody_registered_is_refused_in_these_words(tmp_path: Path):
    said = run("import", "openai-jsonl", write(tmp_path, record(1, app="other", bundle="v1")), code=1)
    said = " ".join(said.split())
    assert "bundle: names no registered bundle of app other, of which nobody registered one; register it first: `workbench" in said


def test_an_import_says_which_requests_got_their_bundle(log: Path, tmp_path: Path):
    run("init", tmp_path / "shop")
    run("bundle", "register", tmp_path / "shop" / "bundles" / "v1")
    run("import", "openai-jsonl", log, code=1)
    said = run("import", "openai-jsonl", log, "--bundle", "v1", code=1)
    assert "0 requests stored, 2 there already, 2 of them given their bundle, 1 record refused." in said
    assert "2 requests that were there without a bundle get this one, as a new revision each" in said
    assert audited()[-4:] == ["log.import.begin", "log.import"] * 2


def test_a_published_hour_of_requests_gives_its_known_percentiles_busiest_minute_and_silence(tmp_path: Path):
    mapping = tmp_path / "azure.yaml"
    columns = "{ts_start: TIMESTAMP, input_tokens: ContextTokens, output_tokens: GeneratedTokens}"
    mapping.write_text(f"app: code\nzone: UTC\ncolumns: {columns}\n")
    run("import", "csv", real("azure", "AzureLLMInferenceTrace_code.csv"), "--mapping", mapping)
    known = {"input_tokens_p50": 1469, "input_tokens_p95": 7303.3, "input_tokens_p99": 7436}
    known |= {"output_tokens_p50": 13, "output_tokens_p95": 90, "output_tokens_p99": 251.46}
    known |= {"volume": 8819, "input_tokens": 18_059_974, "output_tokens": 245_896}
    [told] = json.loads(run("metrics", "show", *known, "--json"))
    assert {name: told[name] for name in known} == pytest.approx(known)
    minutes = json.loads(run("metrics", "show", "volume", "--grain", "1m", "--json"))
    busiest = max(minutes, key=lambda minute: minute["volume"])
    assert (len(minutes), busiest["volume"], busiest["ts"][11:16]) == (45, 585, "18:31")
    assert "no request in 13 of 58 steps: 2023-11-16 18:18 (2), " in run("metrics", "show", "volume", "--grain", "1m")
