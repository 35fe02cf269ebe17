"""A log whose files are damaged or gone: each command says which, and doctor ends its round."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.test_commands import fails, run
from tests.readiness.test_review_service import OPERATOR, write_app
from workbench.observability.tables import arrow_table
from workbench.spec.login import login_of_process
from workbench.workspace import Workspace

OF_THE_LAKE = {
    "lake files",
    "rows in the catalogue",
    "snapshots",
    "given-up files",
    "upkeep",
    "clocks",
    "files of killed writers",
    "retention",
}
CHECKS = {"ledger", "lake", "spools", "vault", "unfinished requests", "audit gaps"} | OF_THE_LAKE


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The Parquet files that the log of an app names, whose requests are summed by the hour."""
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    now = datetime.now(UTC)
    rows = [
        {"request_id": f"r{n}", "app": "support", "ts_start": now - timedelta(hours=n), "status": "ok", "latency_ms": 9.0}
        for n in range(60)
    ]
    folder = write_app(tmp_path / "app")
    people = folder / "people.yaml"
    people.write_text(people.read_text().replace("os: [primary]", f"os: [primary, {login_of_process()}]"))
    (folder / "slo.yaml").write_text("objectives: [{name: answers, indicator: availability, target: 0.9}]\n")
    with Workspace.open(actor=OPERATOR) as ws:
        ws.versions.declare(folder)
        ws.logs.append({"requests": arrow_table("requests", rows)}, source_id="import:x", from_seq=1, to_seq=len(rows))
    run("bundle", "register", folder / "bundles" / "v1")
    run("lake", "maintain")
    with Workspace.open() as ws:
        sql = "SELECT path FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL"
        named = {Path(path).name for (path,) in ws.lake.read(lambda connection: connection.execute(sql).fetchall())}
    return sorted(file for file in (tmp_path / "home" / "lake" / "data").rglob("*.parquet") if file.name in named)


def overwrite(files: Iterable[Path]) -> None:
    for file in files:
        file.write_bytes(random.Random(1).randbytes(file.stat().st_size))


def checked(code: int) -> dict[str, dict[str, str]]:
    return {row["check"]: row for row in json.loads(run("doctor", "--json", code=code))}


def test_doctor_finds_a_whole_log_whole(files):
    rows = checked(0)
    assert set(rows) >= CHECKS
    assert f"whose {len(files)} files are there" in rows["lake"]["seen"]


def test_doctor_names_a_file_that_is_gone(files):
    gone = next(file for file in files if "requests" in file.parts)
    gone.unlink()
    row = checked(1)["lake"]
    assert row["state"] == "broken"
    assert f"of the {len(files)} files of snapshot" in row["seen"]
    assert f"1 missing: main/requests/{gone.parent.parent.name}/{gone.parent.name}/{gone.name} is missing" in row["seen"]
    assert "restore them from a backup" in row["seen"]


@pytest.mark.parametrize("which", ["requests", "all"])
def test_every_command_that_reads_damaged_rows_says_which_file_it_is_and_doctor_goes_on(files, tmp_path, monkeypatch, capsys, which):
    damaged = [file for file in files if which == "all" or any(part.startswith("requests") for part in file.parts)]
    overwrite(damaged)
    for words in (
        ("metrics", "show", "volume", "--app", "support"),
        ("export", "--parquet", tmp_path / "out"),
        ("readiness", "support"),
        ("slo", "check", "support"),
    ):
        message = fails(monkeypatch, capsys, *words)
        assert "could not" in message, words
        assert ".parquet is damaged or not ours" in message, words
        assert "restore it from a backup" in message, words
    rows = checked(1)
    assert rows["ledger"]["state"] == rows["spools"]["state"] == "ok"
    assert rows["lake"]["state"] == rows["unfinished requests"]["state"] == "broken"
    if which == "requests":
        assert set(rows) >= CHECKS
        assert f"{len(damaged)} damaged: main/" in rows["lake"]["seen"]
        assert rows["snapshots"]["state"] == "ok"
    else:  # also that which says of what version the lake is: nothing of it can be read before that is back
        assert set(rows) >= CHECKS - OF_THE_LAKE
        assert "main/lake_meta/" in rows["lake"]["seen"]
