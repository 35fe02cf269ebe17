"""The log as Parquet: one snapshot, whole or not at all, and nothing of who was erased."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from tests.observability.lakes import NOON
from tests.observability.metric_logs import outcome, request, score
from workbench.errors import StoreError, UsageError
from workbench.ledger.audit import entries_of
from workbench.observability.export import MANIFEST, read_manifest
from workbench.workspace import Workspace


class Anybody:
    """May everything: who may erase is tested elsewhere."""

    def require(self, _author, _act, _app):
        pass


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A workspace with two apps, revisions, repeated spans, corrected outcomes, and a unit that was erased."""
    place = tmp_path_factory.mktemp("export") / "ws"
    with Workspace.open(place) as ws:
        first, gone = request(unit_hash="kept", latency_ms=5.0), request(unit_hash=None)
        gone["unit_hash"] = ws.erasure._unit_hash("someone")
        span = {"app": "shop", "request_id": first["request_id"], "trace_id": "t", "span_id": "s", "kind": "tool", "ts_start": NOON}
        event = outcome("order", value=3.0, request_id=first["request_id"])
        ws.logs.record({"requests": [first, gone], "spans": [span], "outcomes": [event], "scores": [score(first, "quality", 0.5)]})
        ws.logs.flush()
        later = {**first, "revision": 1, "latency_ms": 7.0}
        desk = request(app="desk", ts_start=NOON + timedelta(days=1))
        ws.logs.record({"requests": [later, desk], "spans": [{**span, "status": "ok"}], "outcomes": [{**event, "value": 4.0}]})
        ws.logs.flush()
        ws.erasure._authority = Anybody()
        ws.erasure.erase("someone", reason="asked for")
    return place


@pytest.fixture
def ws(home):
    with Workspace.open(home) as opened:
        yield opened


def rows(folder: Path, table: str, columns: str) -> list[tuple]:
    sql = f"SELECT {columns} FROM read_parquet('{folder}/{table}/**/*.parquet', hive_partitioning = true) ORDER BY ALL"
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def test_every_row_stands_as_it_holds_now_and_nothing_of_who_was_erased(ws, tmp_path):
    manifest = ws.exports.parquet(tmp_path / "out")
    assert {name: table.rows for name, table in manifest.tables.items()} == {
        "requests": 2,
        "spans": 1,
        "scores": 1,
        "outcomes": 1,
        "judgments": 0,
    }
    assert rows(tmp_path / "out", "requests", "app, unit_hash, revision, latency_ms, day::VARCHAR") == [
        ("desk", None, 0, None, "2026-03-02"),
        ("shop", "kept", 1, 7.0, "2026-03-01"),
    ]
    assert rows(tmp_path / "out", "outcomes", "kpi, value") == [("order", 4.0)]
    assert rows(tmp_path / "out", "spans", "kind, status") == [("tool", "ok")]
    assert rows(tmp_path / "out", "judgments", "topic") == []
    assert manifest.snapshot == ws.lake.snapshot()
    hashed = ws.erasure._unit_hash("someone").encode()
    assert all(hashed not in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_the_manifest_names_every_file_and_is_read_back(ws, tmp_path):
    manifest = ws.exports.parquet(tmp_path / "out")
    assert read_manifest(tmp_path / "out", is_thorough=True) == manifest
    named = {file.path for table in manifest.tables.values() for file in table.files}
    assert named == {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.parquet")}
    for table in manifest.tables.values():
        assert sum(file.rows for file in table.files) == table.rows
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_same_log_has_the_same_rows_and_one_app_can_be_taken_alone(ws, tmp_path):
    manifest = ws.exports.parquet(tmp_path / "desk", apps=["desk"])
    assert manifest.apps == ("desk",)
    assert rows(tmp_path / "desk", "requests", "DISTINCT app") == [("desk",)]
    assert manifest.tables["outcomes"].rows == 0


def test_the_audit_tells_who_took_what_where(ws, tmp_path):
    manifest = ws.exports.parquet(tmp_path / "told")
    with ws.ledger.read() as connection:
        entry = entries_of(connection, "log.export", app=None)[-1]
    assert (entry.subject, entry.detail["digest"], entry.detail["folder"]) == ("told", manifest.digest, str(tmp_path / "told"))


def test_a_folder_that_holds_something_is_left_alone(ws, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(UsageError, match="full: there is something of this name"):
        ws.exports.parquet(tmp_path / "full")
    (tmp_path / "empty").mkdir()
    ws.exports.parquet(tmp_path / "empty")
    assert read_manifest(tmp_path / "empty")


def test_an_empty_log_is_no_export(tmp_path):
    with Workspace.open(tmp_path / "new") as fresh, pytest.raises(StoreError, match="log: nothing was ever logged"):
        fresh.exports.parquet(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("harm", ["manifest", "missing", "cut", "content", "digest"])
def test_an_export_that_is_not_what_was_written_is_refused(ws, tmp_path, harm):
    manifest = ws.exports.parquet(tmp_path / "out")
    path = tmp_path / "out" / manifest.tables["requests"].files[0].path
    if harm == "manifest":
        (tmp_path / "out" / MANIFEST).unlink()
    elif harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "content":
        path.write_bytes(bytes(reversed(path.read_bytes())))
    else:
        content = json.loads((tmp_path / "out" / MANIFEST).read_text())
        content["snapshot"] += 1
        (tmp_path / "out" / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(StoreError, match="export "):
        read_manifest(tmp_path / "out", is_thorough=True)


def _export(home: Path, target: Path, slow) -> None:
    with Workspace.open(home) as ws:
        ws.exports.parquet(target, progress=lambda *_: (slow.set(), time.sleep(30)))


def test_a_killed_export_leaves_nothing_that_looks_like_one_and_the_next_cleans_up(home, ws, tmp_path):
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    child = context.Process(target=_export, args=(home, tmp_path / "out", begun))
    child.start()
    assert begun.wait(60)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out.partial-*"))
    ws.exports.parquet(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
