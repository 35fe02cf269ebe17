"""Other processes read a file exactly as this one does; one that is killed, or an interrupt, leaves whole chunks and nothing running."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from tests.observability.importing import Allow, Bundles, bundle_named, imports_over, record, rows, write
from tests.observability.lakes import count, open_lake, open_logs
from workbench.errors import NotPermitted, StoreError, UsageError
from workbench.observability import import_chunk, import_workers
from workbench.observability.importers import files
from workbench.observability.importers.formats import IMPORTERS
from workbench.observability.importers.source import ImportOptions

HERE = Path(__file__).parents[2]
STORED = "COLUMNS(name -> name NOT IN ('batch_id', 'ingested_at'))::VARCHAR"


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(import_chunk, "CHUNK_ROWS", 40)
    monkeypatch.setattr(files, "_BLOCK_LINES", 30)


@pytest.fixture
def log_of(tmp_path):
    """Opens a log of its own under a name."""
    opened = []

    def make(name):
        lake = open_lake(tmp_path / name)
        opened.append((open_logs(tmp_path / name, lake=lake), lake))
        return opened[-1]

    yield make
    for logs, lake in opened:
        logs.close()
        lake.close()


def untidy(n: int) -> list[object]:
    """Records as logs have them: repeats near and far, conflicts, faults, personal data, spans, scores, unknown bundles."""
    pick = random.Random(7)
    lines: list[object] = []
    call = {"id": "c", "function": {"name": "mail", "arguments": '{"to": "joe@example.com"}'}}
    choices = {"choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [call]}}]}
    for number in range(n):
        kind = pick.randrange(12)
        lines.append(
            {
                0: "no json",
                1: record(pick.randrange(n)),
                2: record(number, latency_ms=-1),
                3: record(number, app="bank", session_id="joe@example.com"),
                4: record(number, response=choices, scores={"tone": 0.5}),
                5: record(number, bundle="v1" if number % 2 else "v9"),
                6: record(number, timestamp="2099-01-01T00:00:00Z"),
                7: record(number, request={"model": "m", "messages": "call 555-123-2002 or joe@example.com"}),
                8: "",
            }.get(kind, record(number))
        )
    return lines


def _note(steps, *step):
    steps.append(step)


@pytest.mark.parametrize("n", [1, 29, 30, 31, 40, 400])
def test_workers_store_and_count_what_one_process_does(tmp_path, log_of, n):
    path = write(tmp_path, *untidy(n))
    versions = Bundles()
    bundle_named("v1", versions)
    reports, stored = [], []
    steps: list[list[tuple[str, int, int]]] = []
    for workers in (0, 2):
        logs, lake = log_of(str(workers))
        steps.append([])
        note = partial(_note, steps[-1])
        reports.append(imports_over(logs, versions=versions).run("openai-jsonl", [path], workers=workers, progress=note))
        stored.append([rows(lake, STORED, table) for table in ("requests", "spans", "scores")])
        stored[-1].append(rows(lake, "spool_id, max(to_seq)", "flushed GROUP BY ALL"))
    assert reports[0] == reports[1]
    assert stored[0] == stored[1]
    assert steps[0][-1] == steps[1][-1] == (str(path), path.stat().st_size, path.stat().st_size)
    assert steps[1] == sorted(steps[1])


def test_blocks_hold_the_records_of_the_file_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 5000)
    monkeypatch.setattr(files, "_BLOCK", 4000)
    path = write(tmp_path, "\ufeff" + json.dumps(record(0)), *untidy(300), record(301, workflow="x" * 6000), record(302))
    source = IMPORTERS["openai-jsonl"].open(path, ImportOptions(app="shop"))
    blocks = [list(block()) for block in source.blocks()]
    assert len(blocks) > 10
    assert [read for block in blocks for read in block] == list(source.records())


def test_a_resumed_import_reads_on_with_workers(tmp_path, log_of):
    path = write(tmp_path, *untidy(200))
    (whole, whole_lake), (broken, lake) = log_of("whole"), log_of("broken")
    expected = imports_over(whole).run("openai-jsonl", [path], workers=0)

    class Breaking:
        left = 2

        def __getattr__(self, name):
            return getattr(broken, name)

        def append(self, batch, **place):
            self.left -= bool(batch)
            if self.left < 0:
                raise StoreError("log lake", seen="no space left on device")
            return broken.append(batch, **place)

    with pytest.raises(StoreError, match="no space"):
        imports_over(Breaking()).run("openai-jsonl", [path], workers=2)
    stored = count(lake)
    report = imports_over(broken).run("openai-jsonl", [path], workers=2)
    assert 0 < stored < expected.stored
    assert (report.stored + stored, report.read + report.earlier) == (expected.stored, expected.read)
    assert rows(lake, STORED) == rows(whole_lake, STORED)


def test_a_worker_that_is_killed_ends_the_import_with_whole_chunks(tmp_path, log_of, monkeypatch):
    logs, lake = log_of("home")
    path = write(tmp_path, *(record(number) for number in range(400)))
    asked = iter(range(400))
    ask = import_workers._Worker.ask

    def killing(worker, how, block):
        if next(asked) == 5:
            worker.kill()
        return ask(worker, how, block)

    monkeypatch.setattr(import_workers._Worker, "ask", killing)
    imports = imports_over(logs)
    with pytest.raises(StoreError, match=r"import of log.jsonl: a process that read the file ended by signal 9; .*run it again"):
        imports.run("openai-jsonl", [path], workers=2)
    stored = count(lake) if lake.snapshot() is not None else 0
    assert stored % 40 == 0
    assert [report.stored for _, report in imports.recorded.ended] == ([stored] if stored else [])
    monkeypatch.setattr(import_workers._Worker, "ask", ask)
    assert imports.run("openai-jsonl", [path], workers=2).stored == 400 - stored
    assert rows(lake, "count(*), count(DISTINCT request_id)") == [(400, 400)]


def test_a_fault_in_a_worker_is_the_fault_that_one_process_has(tmp_path, log_of):
    """A number beyond what a column holds is found when the columns are made."""
    logs, _ = log_of("home")
    path = write(tmp_path, *(record(number) for number in range(50)), record(50, n_retrievals=2**53), record(51))
    said = []
    for workers in (0, 2):
        try:
            imports_over(logs).run("openai-jsonl", [path], workers=workers)
        except UsageError as error:
            said.append(str(error))
    assert len(set(said)) <= 1
    assert len(said) in (0, 2)


def test_a_block_that_fails_is_told_to_the_importing_process(tmp_path, log_of, monkeypatch):
    logs, _ = log_of("home")
    path = write(tmp_path, *(record(number) for number in range(50)))
    monkeypatch.setattr(import_workers._Worker, "ask", lambda *_: None)
    with pytest.raises(StoreError, match="a process that read the file could not, and this one can"):
        imports_over(logs).run("openai-jsonl", [path], workers=1)


def test_what_the_author_may_not_import_is_not_stored(tmp_path, log_of):
    logs, lake = log_of("home")
    path = write(tmp_path, record(1), record(2, app="bank"))
    with pytest.raises(NotPermitted):
        imports_over(logs, authority=Allow("shop")).run("openai-jsonl", [path], workers=2)
    assert lake.snapshot() is None


def test_only_large_files_that_can_be_divided_are_worth_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    source = IMPORTERS["openai-jsonl"].open(write(tmp_path, record(1)), ImportOptions(app="shop"))
    assert import_workers.workers_for(source) == 0
    large = dataclasses.replace(source, total=1 << 30)
    assert import_workers.workers_for(large) == 4
    assert import_workers.workers_for(dataclasses.replace(large, blocks=None)) == 0
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    assert import_workers.workers_for(large) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1))
    assert import_workers.workers_for(large) == 0


def test_a_small_file_starts_no_process(tmp_path, log_of, monkeypatch):
    logs, _ = log_of("home")
    monkeypatch.setattr(subprocess, "Popen", None)
    assert imports_over(logs).run("openai-jsonl", [write(tmp_path, record(1))]).stored == 1


IMPORTING = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {here!r})
    from tests.observability.importing import imports_over
    from tests.observability.lakes import open_lake, open_logs
    from workbench.observability import import_chunk, import_workers
    from workbench.observability.importers import files
    import_chunk.CHUNK_ROWS, files._BLOCK_LINES = 500, 250
    started = import_workers._Worker.__init__
    def start(worker, *given):
        started(worker, *given)
        print("worker", worker._process.pid, flush=True)
    import_workers._Worker.__init__ = start
    home = Path({home!r})
    lake = open_lake(home)
    imports = imports_over(open_logs(home, lake=lake))
    try:
        imports.run("openai-jsonl", [Path({path!r})], workers=2, progress=lambda *at: print("done", at[1], flush=True))
    except KeyboardInterrupt:
        print("interrupted", [report.stored + report.duplicates for _, report in imports.recorded.ended], flush=True)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_import_leaves_whole_chunks_and_no_process(tmp_path, end):
    home, path = tmp_path / "home", write(tmp_path, *(record(number) for number in range(3000)))
    script = textwrap.dedent(IMPORTING.format(here=str(HERE), home=str(home), path=str(path)))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    lines = iter(process.stdout.readline, "")
    workers = [int(next(lines).split()[1]) for _ in range(2)]
    while next(lines).split()[0] != "done":
        pass
    next(lines)
    os.killpg(process.pid, end)  # as from a keyboard: everybody in the foreground hears it
    said, faults = process.communicate()
    while any(map(is_running, workers)):
        time.sleep(0.05)
    lake = open_lake(home)
    stored = count(lake) if lake.snapshot() is not None else 0
    assert stored % 500 == 0
    assert "Traceback" not in faults, faults
    if end == signal.SIGINT:
        # a commit that was answered by the interruption is found again by the next try, and then counts as there already
        assert f"interrupted {[stored] if stored else []}" in said
    logs = open_logs(home, lake=lake)
    report = imports_over(logs).run("openai-jsonl", [path], workers=2)
    assert report.stored == 3000 - stored
    assert rows(lake, "count(*), count(DISTINCT request_id)") == [(3000, 3000)]
    logs.close()
    lake.close()
