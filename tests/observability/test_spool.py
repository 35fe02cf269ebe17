from __future__ import annotations

import errno
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
from workbench.errors import StoreBusy, StoreError
from workbench.observability import locks
from workbench.observability import spool as spool_module
from workbench.observability.locks import FileLock
from workbench.observability.spool import Marks, Spool, wait_until_committed


def rows_in(path: Path) -> list[tuple[int, str, bytes]]:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT seq, log_table, payload FROM rows ORDER BY seq").fetchall()
    finally:
        connection.close()


def lock_of(spool_path: Path) -> FileLock:
    return FileLock(spool_path.with_suffix(".lock"))


@pytest.fixture
def spool(tmp_path):
    made = Spool.create(tmp_path, clock=Clock())
    yield made
    made.close()


@pytest.fixture
def gated(spool, monkeypatch):
    """The spool, whose commits wait for the gate; and the gate."""
    gate = threading.Event()
    commit = spool._commit
    monkeypatch.setattr(spool, "_commit", lambda group: gate.wait(10) and commit(group))
    yield spool, gate
    gate.set()


def full_disk(_):
    return StoreError("spool", seen="the disk is full")


def test_a_row_is_readable_by_others_when_its_future_is_done(spool):
    spool.append([("requests", b"a"), ("spans", b"b")]).result(10)
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
    futures = [spool.append([("requests", b"%d" % i)]) for i in range(100)]
    gate.set()
    for future in futures:
        future.result(10)
    assert sum(commits) == 100
    assert len(commits) <= 3


def test_threads_lose_nothing_and_keep_their_own_order(spool):
    def write(name: int) -> None:
        for i in range(200):
            spool.append([("requests", b"%d %d" % (name, i))]).result(10)

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
        spool.append([("requests", b"good"), (None, b"refused by SQLite")]).result(10)
    spool.append([("requests", b"next")]).result(10)
    assert [payload for _, _, payload in rows_in(spool.path)] == [b"next"]


def test_a_second_owner_is_refused_and_told_who_holds_it(spool):
    with pytest.raises(StoreBusy, match=f"process {os.getpid()} \\(running"):
        lock_of(spool.path).acquire(what="adopt it", wait_s=0)


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
            lock_of(path).acquire(what="adopt it", wait_s=0)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    lock = lock_of(path)
    assert lock.try_acquire()
    lock.release()


def test_a_file_system_without_locks_is_an_error_and_not_an_endless_search(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    with pytest.raises(StoreError, match=r"No locks available.*WORKBENCH_HOME"):
        Spool.create(tmp_path, clock=Clock())


def test_sequence_numbers_are_never_used_again_even_after_the_file_was_emptied(spool):
    spool.append([("requests", b"a"), ("requests", b"b")]).result(10)
    spool.delete_to(Marks(2))
    while rows_in(spool.path):
        spool.sync()
    spool.append([("requests", b"c")]).result(10)
    assert rows_in(spool.path) == [(3, "requests", b"c")]


def test_deleting_goes_in_small_steps_beside_the_writing(spool, monkeypatch):
    monkeypatch.setattr(spool_module, "_DELETED_AT_ONCE", 10)
    spool.append([("requests", b"x")] * 95).result(10)
    spool.delete_to(Marks(90))
    for _ in range(100):
        spool.append([("requests", b"y")]).result(10)
        if rows_in(spool.path)[0][0] == 91:
            break
    assert rows_in(spool.path)[0][0] == 91


def test_a_queue_that_never_runs_empty_does_not_keep_the_file_growing(spool, monkeypatch):
    monkeypatch.setattr(spool_module, "_DELETED_AT_ONCE", 10)
    spool.append([("requests", b"x")] * 95).result(10)
    deleted, ended = [], threading.Event()
    delete_chunk = spool._delete_chunk
    monkeypatch.setattr(spool, "_delete_chunk", lambda to: deleted.append(n := delete_chunk(to)) or n)

    def once_more(left):
        """The callback of a commit queues the next row, so the queue is never empty."""
        if left:
            spool.append([("requests", b"y")]).add_done_callback(lambda _: once_more(left - 1))
        else:
            ended.set()

    spool.delete_to(Marks(95))
    once_more(30)
    assert ended.wait(20)
    assert sum(deleted) == 95


def test_a_failure_is_told_to_the_one_it_befell_and_to_nobody_else(spool, monkeypatch):
    monkeypatch.setattr(spool, "_commit", full_disk)
    failed = spool.append([("requests", b"a")])
    with pytest.raises(StoreError, match="the disk is full"):
        wait_until_committed(failed)
    monkeypatch.undo()
    spool.append([("requests", b"b")]).result(10)
    spool.sync()
    assert [payload for _, _, payload in rows_in(spool.path)] == [b"b"]


def test_a_waiter_that_gives_up_does_not_take_its_rows_back(gated):
    spool, gate = gated
    future = spool.append([("requests", b"a")])
    assert not future.cancel()
    with pytest.raises(StoreBusy, match="no commit within"):
        wait_until_committed(future, 0.01)
    gate.set()
    future.result(10)
    spool.append([("requests", b"b")]).result(10)
    assert [payload for _, _, payload in rows_in(spool.path)] == [b"a", b"b"]


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
        spool.append([("requests", b"a")]).result(10)
    faults = []
    for _ in range(2):
        with pytest.raises(StoreError, match="writer thread died") as caught:
            spool.append([("requests", b"b")])
        faults.append(caught.value)
    assert faults[0] is not faults[1], "one error raised again and again would gather the frames of every caller"
    spool.close()


@pytest.mark.parametrize("suffix", [".lock", ".sqlite"])
def test_rows_that_go_into_a_removed_file_are_not_acknowledged(spool, suffix):
    spool.append([("requests", b"a")]).result(10)
    spool.path.with_suffix(suffix).unlink()
    with pytest.raises(StoreError, match="removed or replaced"):
        spool.append([("requests", b"b")]).result(10)


def test_rows_that_go_into_an_adopted_spool_are_not_acknowledged(spool):
    spool.path.with_suffix(".lock").unlink()
    thief = lock_of(spool.path)
    assert thief.try_acquire()
    with pytest.raises(StoreError, match="removed or replaced"):
        spool.append([("requests", b"b")]).result(10)
    thief.release()


def test_an_ended_spool_takes_nothing_and_can_still_be_read(tmp_path):
    spool = Spool.create(tmp_path, clock=Clock())
    spool.append([("requests", b"a")])
    spool.end()
    with pytest.raises(StoreError, match="closed"):
        spool.append([("requests", b"b")])
    assert [payload for _, _, payload in rows_in(spool.path)] == [b"a"]
    assert not lock_of(spool.path).try_acquire()
    spool.close()


def test_close_commits_what_is_queued(tmp_path):
    spool = Spool.create(tmp_path, clock=Clock())
    for i in range(500):
        spool.append([("requests", b"%d" % i)])
    spool.close()
    assert len(rows_in(spool.path)) == 500


def test_a_full_queue_refuses_who_cannot_wait_and_lets_the_others_wait(gated, monkeypatch):
    monkeypatch.setattr(spool_module, "_MOST_QUEUED_BYTES", 10)
    spool, gate = gated
    spool.append([("requests", b"0123456789")])
    for wait_s in (0, 0.05):
        with pytest.raises(StoreBusy, match="wait to be written"):
            spool.append([("requests", b"x")], wait_s=wait_s)
    patient = []
    thread = threading.Thread(target=lambda: patient.append(spool.append([("requests", b"y")], wait_s=10)))
    thread.start()
    gate.set()
    thread.join()
    patient[0].result(10)
    assert [payload for _, _, payload in rows_in(spool.path)] == [b"0123456789", b"y"]


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
    assert not lock_of(spool.path).try_acquire()
    spool.append([("requests", b"parent")]).result(10)
    assert [payload for _, _, payload in rows_in(spool.path)] == [b"parent"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/spools.*could not be written"):
        Spool.create(tmp_path / "file" / "spools", clock=Clock())


def filled(spool) -> tuple[list[float], StoreError]:
    """The pressure after each row of 8 kB that a spool takes, and what it says when it takes no more."""
    pressures = []
    for _ in range(1000):
        refused = spool.append([("requests", b"x" * 8000)]).exception(10)
        if refused is not None:
            return pressures, refused
        pressures.append(spool.pressure)
    raise AssertionError("it took 8 MB")


def test_a_full_quota_refuses_until_the_lake_has_some_of_the_rows(tmp_path):
    spool = Spool.create(tmp_path, clock=Clock(), quota_bytes=1 << 20)
    for _ in range(3):
        pressures, refused = filled(spool)
        stored = rows_in(spool.path)
        assert "its quota of 1 MB is used" in str(refused)
        assert "WORKBENCH_SPOOL_QUOTA" in str(refused)
        assert 100 < len(stored) == len(pressures) < 132, "what was acknowledged is there; a megabyte holds some 130 such rows"
        assert pressures == sorted(pressures)
        assert pressures[0] < 0.1
        assert pressures[-1] > 0.8
        assert spool.pressure == 1.0
        spool.delete_to(Marks(stored[-1][0]))
        while rows_in(spool.path):  # the thread deletes beside us
            spool.sync()
    assert spool.pressure < 0.1
    assert spool.path.stat().st_size <= 1 << 20
    spool.close()


_ON_A_FULL_DISK = """
import resource, signal, sqlite3, sys
from datetime import UTC, datetime
from pathlib import Path
from workbench.errors import StoreError
from workbench.observability.spool import Spool

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = Spool.create(Path(sys.argv[1]), clock=lambda: datetime.now(UTC), mode=sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
acknowledged, refused = set(), set()
for number in range(300):
    try:
        spool.append([("requests", b"%d %s" % (number, b"x" * 3000)), ("spans", b"%d" % number)]).result(20)
    except StoreError:
        refused.add(number)
    else:
        acknowledged.add(number)
    if number == 200:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
connection = sqlite3.connect(f"{spool.path.as_uri()}?mode=ro", uri=True)
stored = [[int(payload.split()[0]) for (payload,) in connection.execute("SELECT payload FROM rows WHERE log_table = ?", (table,))]
          for table in ("requests", "spans")]
assert stored[0] == stored[1] == sorted(acknowledged), "acknowledged and stored differ, or an append was torn"
assert min(acknowledged) < 200 < max(acknowledged) and refused, (len(acknowledged), len(refused))
assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
spool.close(remove=True)
"""


@pytest.mark.parametrize("mode", ["write", "durable"])
def test_a_disk_that_takes_no_more_acknowledges_nothing_and_works_again_afterwards(tmp_path, mode):
    subprocess.run([sys.executable, "-c", _ON_A_FULL_DISK, str(tmp_path), mode], check=True, timeout=100)
