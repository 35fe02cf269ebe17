from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.observability.lakes import Clock
from workbench.errors import NewerWorkspace, StoreBusy, StoreError
from workbench.observability import spool as spool_module
from workbench.observability.spool import Spool


def rows_in(path: Path) -> list[tuple[int, str, bytes]]:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT seq, log_table, payload FROM rows ORDER BY seq").fetchall()
    finally:
        connection.close()


@pytest.fixture
def spool(tmp_path):
    made = Spool.create(tmp_path, clock=Clock())
    yield made
    made.close()


def test_a_row_is_readable_by_others_when_wait_returns(spool):
    spool.append([("requests", b"a"), ("spans", b"b")]).wait()
    assert rows_in(spool.path) == [(1, "requests", b"a"), (2, "spans", b"b")]


def test_rows_that_arrive_together_share_a_commit(spool, monkeypatch):
    commits = []
    gate = threading.Event()
    commit = spool._commit

    def slow(group):
        commits.append(len(group))
        gate.wait(10)
        return commit(group)

    monkeypatch.setattr(spool, "_commit", slow)
    tickets = [spool.append([("requests", b"%d" % i)]) for i in range(100)]
    gate.set()
    for ticket in tickets:
        ticket.wait()
    assert sum(commits) == 100
    assert len(commits) <= 3


def test_threads_lose_nothing_and_keep_their_own_order(spool):
    def write(name: int) -> None:
        for i in range(200):
            spool.append([("requests", b"%d %d" % (name, i))], is_awaited=True).wait()

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    payloads = [payload for _, _, payload in rows_in(spool.path)]
    assert len(payloads) == 800
    for name in range(4):
        assert [p for p in payloads if p.startswith(b"%d " % name)] == [b"%d %d" % (name, i) for i in range(200)]


def test_one_append_is_stored_whole_or_not_at_all(spool):
    with pytest.raises(StoreError, match="NOT NULL"):
        spool.append([("requests", b"good"), (None, b"refused by SQLite")], is_awaited=True).wait()
    spool.append([("requests", b"next")]).wait()
    assert [payload for _, _, payload in rows_in(spool.path)] == [b"next"]


def test_a_second_owner_is_refused_and_told_who_holds_it(tmp_path, spool):
    with pytest.raises(StoreBusy, match=f"process {os.getpid()} \\(running"):
        Spool.reopen(spool.path, clock=Clock())


def test_a_stopped_owner_is_named_as_stopped(tmp_path):
    program = (
        "import sys, time; from pathlib import Path\n"
        "from tests.observability.lakes import Clock; from workbench.observability.spool import Spool\n"
        "spool = Spool.create(Path(sys.argv[1]), clock=Clock()); print(spool.path, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        path = Path(child.stdout.readline().strip())
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(StoreBusy, match=rf"process {child.pid} \(stopped.*kill -CONT {child.pid}"):
            Spool.reopen(path, clock=Clock())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    Spool.reopen(path, clock=Clock()).close()


def test_sequence_numbers_are_never_used_again_even_after_the_file_was_emptied(tmp_path):
    first = Spool.create(tmp_path, clock=Clock())
    first.append([("requests", b"a"), ("requests", b"b")]).wait()
    first.delete_to(2)
    first.append([("requests", b"c")]).wait()
    first.delete_to(3)
    first.close()
    again = Spool.reopen(first.path, clock=Clock())
    again.append([("requests", b"d")]).wait()
    assert rows_in(again.path)[-1] == (4, "requests", b"d")
    again.close()


def test_deleting_goes_in_small_steps_beside_the_writing(spool, monkeypatch):
    monkeypatch.setattr(spool_module, "_DELETED_AT_ONCE", 10)
    spool.append([("requests", b"x")] * 95).wait()
    spool.delete_to(90)
    for _ in range(100):
        spool.append([("requests", b"y")]).wait()
        if rows_in(spool.path)[0][0] == 91:
            break
    assert rows_in(spool.path)[0][0] == 91


def test_a_failure_nobody_waited_for_is_raised_by_the_next_caller(spool, monkeypatch):
    monkeypatch.setattr(spool, "_commit", lambda _: StoreError("spool", seen="the disk is full"))
    ticket = spool.append([("requests", b"a")])
    while not ticket.is_done:
        threading.Event().wait(0.001)
    with pytest.raises(StoreError, match="the disk is full"):
        spool.append([("requests", b"b")])
    monkeypatch.undo()
    spool.append([("requests", b"c")]).wait()


def test_a_failure_nobody_waited_for_is_raised_by_close(tmp_path, monkeypatch):
    spool = Spool.create(tmp_path, clock=Clock())
    monkeypatch.setattr(spool, "_commit", lambda _: StoreError("spool", seen="the disk is full"))
    spool.append([("requests", b"a")])
    with pytest.raises(StoreError, match="the disk is full"):
        spool.close()


def test_a_failure_that_was_waited_for_is_raised_once(spool, monkeypatch):
    monkeypatch.setattr(spool, "_commit", lambda _: StoreError("spool", seen="the disk is full"))
    with pytest.raises(StoreError, match="the disk is full"):
        spool.append([("requests", b"a")], is_awaited=True).wait()
    monkeypatch.undo()
    spool.append([("requests", b"b")]).wait()


def test_the_death_of_the_writer_thread_reaches_everybody(tmp_path, monkeypatch):
    run = Spool._run

    def run_to_its_death(spool):
        with pytest.raises(MemoryError):  # caught inside the thread, so that no hook of the process sees it
            run(spool)

    def dies(group):
        raise MemoryError

    monkeypatch.setattr(Spool, "_run", run_to_its_death)
    spool = Spool.create(tmp_path, clock=Clock())
    monkeypatch.setattr(spool, "_commit", dies)
    with pytest.raises(StoreError, match="writer thread died"):
        spool.append([("requests", b"a")], is_awaited=True).wait()
    with pytest.raises(StoreError, match="writer thread died"):
        spool.append([("requests", b"b")])
    spool._thread.join()


def test_a_closed_spool_takes_nothing(tmp_path):
    spool = Spool.create(tmp_path, clock=Clock())
    spool.close()
    with pytest.raises(StoreError, match="closed"):
        spool.append([("requests", b"a")])


def test_close_commits_what_is_queued(tmp_path):
    spool = Spool.create(tmp_path, clock=Clock())
    for i in range(500):
        spool.append([("requests", b"%d" % i)])
    spool.close()
    assert len(rows_in(spool.path)) == 500


def test_a_full_queue_makes_the_caller_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "_MOST_QUEUED_BYTES", 10)
    monkeypatch.setattr(spool_module, "_WAIT_S", 0.05)
    spool = Spool.create(tmp_path, clock=Clock())
    gate = threading.Event()
    commit = spool._commit
    monkeypatch.setattr(spool, "_commit", lambda group: gate.wait(10) and commit(group))
    spool.append([("requests", b"0123456789")])
    with pytest.raises(StoreBusy, match="queue was full"):
        spool.append([("requests", b"x")])
    gate.set()
    monkeypatch.setattr(spool_module, "_WAIT_S", 10)
    spool.append([("requests", b"x")]).wait()
    spool.close()


def test_a_newer_spool_is_left_alone(tmp_path):
    spool = Spool.create(tmp_path, clock=Clock())
    spool.close()
    connection = sqlite3.connect(spool.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NewerWorkspace, match="format 99"):
        Spool.reopen(spool.path, clock=Clock())


def test_durable_mode_syncs_every_commit(tmp_path):
    spool = Spool.create(tmp_path, clock=Clock(), mode="durable")
    assert spool._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    spool.close()


def _append_in_child(spool, queue):
    try:
        spool.append([("requests", b"child")])
    except StoreError as fault:
        queue.put(str(fault))
    else:
        queue.put("no error")


def test_a_forked_child_is_refused_and_does_not_unlock_its_parents_spool(spool):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_append_in_child, args=(spool, queue))
    child.start()
    assert "belongs to the parent process" in queue.get(timeout=20)
    child.join()
    with pytest.raises(StoreBusy):
        Spool.reopen(spool.path, clock=Clock())
    spool.append([("requests", b"parent")]).wait()
    assert [payload for _, _, payload in rows_in(spool.path)] == [b"parent"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/spools.*could not be written"):
        Spool.create(tmp_path / "file" / "spools", clock=Clock())
