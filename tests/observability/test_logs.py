from __future__ import annotations

import asyncio
import os
import threading

import pyarrow as pa
import pytest

from tests.observability.lakes import NOON, Clock, count, open_lake, open_logs, request
from workbench.errors import ConflictError, StoreBusy, StoreError, UsageError
from workbench.observability import logs as logs_module
from workbench.observability import spool as spool_module
from workbench.observability.logs import FlushLoop
from workbench.observability.spool import Spool
from workbench.observability.tables import arrow_table


@pytest.fixture
def lake(tmp_path):
    made = open_lake(tmp_path)
    yield made
    made.close()


@pytest.fixture
def logs(tmp_path, lake):
    made = open_logs(tmp_path, lake=lake)
    yield made
    made.close()


def batch(*ids, **values):
    return {"requests": arrow_table("requests", [request(request_id=key, **values) for key in ids])}


def test_one_bad_row_keeps_the_whole_record_out(logs, lake):
    with pytest.raises(UsageError, match="latency_ms"):
        logs.record({"requests": [request(), request(latency_ms=-1)]})
    assert logs.flush().rows == 0


def test_nothing_to_record_makes_no_spool(logs, tmp_path):
    logs.record({"requests": []})
    assert not (tmp_path / "spools").exists()


def test_a_table_that_there_is_not_is_refused_also_without_rows(logs):
    for write in (logs.record, logs.submit):
        with pytest.raises(UsageError, match=r"log table 'requets': no such table; needed: requests, "):
            write({"requets": []})


def test_nothing_to_submit_is_done_at_once_and_makes_no_spool(logs, tmp_path):
    assert logs.submit({"requests": []}).done()
    assert not (tmp_path / "spools").exists()


def test_one_event_loop_awaits_the_commits_of_many_and_they_share_them(logs, lake, monkeypatch):
    groups = []
    commit = Spool._commit
    monkeypatch.setattr(Spool, "_commit", lambda spool, group: groups.append(len(group)) or commit(spool, group))

    async def answer(key):
        await asyncio.wrap_future(logs.submit({"requests": [request(request_id=key)]}))
        return logs.waiting()

    async def all_at_once():
        return await asyncio.gather(*(answer(f"a{i}") for i in range(100)))

    asyncio.run(all_at_once())
    assert sum(groups) == 100
    assert len(groups) < 50
    assert logs.flush().rows == 100
    assert count(lake) == 100


def test_a_request_that_is_given_up_is_recorded_all_the_same(logs, lake):
    async def give_up():
        waiting = asyncio.wrap_future(logs.submit({"requests": [request()]}))
        waiting.cancel()
        await asyncio.wrap_future(logs.submit({"requests": [request()]}))

    asyncio.run(give_up())
    logs.flush()
    assert count(lake) == 2


def test_what_keeps_a_submitted_row_out_is_the_error_of_its_future(logs, monkeypatch):
    with pytest.raises(UsageError, match="latency_ms"):
        logs.submit({"requests": [request(latency_ms=-1)]})
    monkeypatch.setattr(Spool, "_commit", lambda *_: StoreError("spool", seen="the disk is full"))

    async def answer():
        await asyncio.wrap_future(logs.submit({"requests": [request()]}))

    with pytest.raises(StoreError, match="the disk is full"):
        asyncio.run(answer())


def test_a_disk_that_stands_still_blocks_no_submit(logs, monkeypatch):
    monkeypatch.setattr(spool_module, "_MOST_QUEUED_BYTES", 1000)
    gate = threading.Event()
    commit = Spool._commit
    monkeypatch.setattr(Spool, "_commit", lambda spool, group: gate.wait(20) and commit(spool, group))
    futures = []
    with pytest.raises(StoreBusy, match="wait to be written"):
        futures.extend(logs.submit({"requests": [request()]}) for _ in range(100))
    gate.set()
    for future in futures:
        future.result(20)
    assert logs.flush().rows == len(futures) < 100


def test_a_flush_takes_what_was_submitted_and_not_yet_committed(logs, lake):
    for _ in range(50):
        logs.submit({"requests": [request()]})
    assert logs.flush().rows == 50


def test_a_bulk_batch_is_stored_once(logs, lake):
    assert logs.mark("import:a") == 0
    assert logs.append(batch("a", "b"), source_id="import:a", from_seq=1, to_seq=2)
    assert not logs.append(batch("a", "b"), source_id="import:a", from_seq=1, to_seq=2)
    assert logs.append(batch("c"), source_id="import:a", from_seq=3, to_seq=9)
    assert logs.mark("import:a") == 9
    assert count(lake) == 3


def test_a_batch_without_rows_still_moves_the_mark(logs, lake):
    assert logs.append({}, source_id="import:a", from_seq=1, to_seq=5)
    assert logs.mark("import:a") == 5
    assert not logs.append({}, source_id="import:a", from_seq=1, to_seq=5)


def test_numbered_rows_behind_a_mark_inside_the_batch_are_stored(logs, lake):
    logs.append(batch("a", "b"), source_id="import:a", from_seq=1, to_seq=2)
    numbered = {"requests": arrow_table("requests", [request(request_id=key, seq=seq) for seq, key in enumerate("abc", start=1)])}
    assert logs.append(numbered, source_id="import:a", from_seq=1, to_seq=3)
    assert count(lake) == 3


def test_rows_without_numbers_across_a_mark_are_refused(logs, lake):
    logs.append(batch("a", "b"), source_id="import:a", from_seq=1, to_seq=2)
    with pytest.raises(ConflictError, match="rows from 3"):
        logs.append(batch("a", "b", "c"), source_id="import:a", from_seq=1, to_seq=3)
    assert count(lake) == 2


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (-1, -1)])
def test_a_stretch_that_is_none_is_refused(logs, first, last):
    with pytest.raises(UsageError, match="from_seq"):
        logs.append({}, source_id="import:a", from_seq=first, to_seq=last)


def test_a_source_id_may_hold_any_text(logs):
    name = "import:'; DROP TABLE lake.requests; --\"\n"
    logs.append({}, source_id=name, from_seq=1, to_seq=1)
    assert logs.mark(name) == 1


def test_a_bulk_batch_notes_its_hours_like_a_flush(logs, lake):
    logs.append(batch("a", "b", cost_usd=0.25), source_id="import:a", from_seq=1, to_seq=2)
    sql = "SELECT app, n, batch_id FROM lake.unsummed_hours"
    assert lake.read(lambda connection: connection.execute(sql).fetchall()) == [("shop", 2, 1)]


def test_known_ids_are_those_in_the_lake(logs):
    assert logs.known_requests([("shop", "a")]) == (set(), 0)
    logs.append(batch("a", "b'c", "d"), source_id="import:a", from_seq=1, to_seq=3)
    asked = [("shop", "b'c"), ("shop", "x"), ("shop", "a"), ("shop", "a"), ("other", "d")]
    assert logs.known_requests(asked) == ({("shop", "a"), ("shop", "b'c")}, 1)
    assert logs.known_requests([]) == (set(), 1)


def test_close_brings_everything_into_the_lake_and_leaves_no_spool(tmp_path, lake):
    logs = open_logs(tmp_path, lake=lake)
    logs.record({"requests": [request()]})
    logs.submit({"requests": [request()]})
    logs.close()
    assert count(lake) == 2
    assert list((tmp_path / "spools").iterdir()) == []
    logs.record({"requests": [request()]})
    logs.close()
    assert count(lake) == 3


def test_rows_that_cannot_be_flushed_at_close_are_adopted_later(tmp_path, lake, monkeypatch):
    logs = open_logs(tmp_path, lake=lake)
    logs.record({"requests": [request()]})
    with monkeypatch.context() as patch:
        patch.setattr(lake, "write", _full)
        with pytest.raises(StoreError, match="the disk is full"):
            logs.close()
    assert open_logs(tmp_path, lake=lake).flush().rows == 1


def test_a_thread_that_is_late_for_close_is_refused_or_its_row_is_in_the_lake(tmp_path, lake, monkeypatch):
    """It took the spool before `close`, and appends at whatever point of it."""
    logs = open_logs(tmp_path, lake=lake)
    logs.record({"requests": [request()]})
    spool = logs._spool
    acknowledged = []

    def late(key):
        try:
            spool.append(logs_module.rows_of({"requests": [request(request_id=key)]})).result(10)
        except StoreError:
            return
        acknowledged.append(key)

    def around(act, key):
        def both(*args, **more):
            late(f"before {key}")
            result = act(*args, **more)
            late(f"after {key}")
            return result

        return both

    with monkeypatch.context() as patch:
        patch.setattr(logs_module, "drain", around(logs_module.drain, "drain"))
        patch.setattr(spool, "end", around(spool.end, "end"))
        patch.setattr(spool_module, "remove_files", around(spool_module.remove_files, "remove"))
        logs.close()
    assert acknowledged == ["before end"]
    assert count(lake) == 2
    assert count(lake, where="request_id = 'before end'") == 1


def test_rows_recorded_between_a_flush_and_a_close_that_overlap_are_kept(tmp_path, lake, monkeypatch):
    """The mark of the spool that is being closed says nothing about the one that a late record opens."""
    logs = open_logs(tmp_path, lake=lake)
    logs.record({"requests": [request() for _ in range(50)]})
    is_drained, go_on = threading.Event(), threading.Event()
    drain = logs_module.drain

    def slow(*args, **more):
        stored = drain(*args, **more)
        is_drained.set()
        go_on.wait(20)
        return stored

    monkeypatch.setattr(logs_module, "drain", slow)
    flush = threading.Thread(target=logs.flush)
    flush.start()
    is_drained.wait(20)
    close = threading.Thread(target=logs.close)
    close.start()
    _until(lambda: logs._spool is None)
    for _ in range(5):
        logs.record({"requests": [request()]})
    go_on.set()
    flush.join()
    close.join()
    assert logs.flush().rows == 5
    logs.close()
    assert count(lake) == 55


def test_a_child_that_is_forked_during_a_flush_records_and_closes(tmp_path, lake, monkeypatch):
    logs = open_logs(tmp_path, lake=lake)
    logs.record({"requests": [request()]})
    is_inside, go_on = threading.Event(), threading.Event()
    write = lake.write

    def slow(*args, **more):
        is_inside.set()
        go_on.wait(60)
        return write(*args, **more)

    monkeypatch.setattr(lake, "write", slow)
    flush = threading.Thread(target=logs.flush)
    flush.start()
    is_inside.wait(20)
    monkeypatch.undo()
    child = os.fork()
    if child == 0:
        try:
            logs.record({"requests": [request()]})
            logs.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    go_on.set()
    flush.join()
    logs.close()
    assert count(lake) == 2


@pytest.mark.parametrize(
    ("numbers", "seen"), [([1, None, 3], "1 rows without a number"), ([0, 1, 2], "numbers 0 to 2"), ([2, 3, 4], "numbers 2 to 4")]
)
def test_numbers_that_a_mark_would_hide_are_refused(logs, lake, numbers, seen):
    rows = {"requests": arrow_table("requests", [request(seq=number) for number in numbers])}
    with pytest.raises(UsageError, match=seen):
        logs.append(rows, source_id="import:a", from_seq=1, to_seq=3)
    assert count(lake) == 0


def _full(*args, **more):
    raise StoreError("log lake", seen="the disk is full")


def test_threads_record_while_a_loop_flushes(tmp_path, lake):
    clock = Clock()
    logs = open_logs(tmp_path, lake=lake, clock=clock)

    def write():
        for _ in range(50):
            logs.record({"requests": [request()]})

    with FlushLoop(logs, clock=clock, interval_s=0.01) as loop:
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    logs.close()
    assert loop.status.last_fault is None
    assert count(lake) == 200
    assert count(lake, "flushed") >= 1


def test_a_loop_keeps_its_failures_in_view_and_goes_on(tmp_path, lake, monkeypatch):
    clock = Clock()
    logs = open_logs(tmp_path, lake=lake, clock=clock)
    logs.record({"requests": [request()]})
    loop = FlushLoop(logs, clock=clock, interval_s=0.005)
    with monkeypatch.context() as patch:
        patch.setattr(lake, "write", _full)
        loop.start()
        _until(lambda: loop.status.failures_in_a_row >= 2)
        assert loop.status.is_running
    _until(lambda: loop.status.rows == 1)
    loop.stop()
    status = loop.status
    assert (status.is_running, status.failures_in_a_row, status.last_success) == (False, 0, NOON)
    assert "the disk is full" in status.last_fault
    logs.close()


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("a bug"), pa.ArrowMemoryError("malloc failed")])
def test_nothing_ends_a_loop_unseen(logs, monkeypatch, fault):
    def fails():
        raise fault

    with monkeypatch.context() as patch, FlushLoop(logs, clock=Clock(), interval_s=0.005) as loop:
        patch.setattr(logs, "flush", fails)
        _until(lambda: loop.status.failures_in_a_row >= 2)
        assert loop.status.is_running
        assert loop.status.last_fault in {str(fault), type(fault).__name__}


def _until(is_so, tries=2000):
    for _ in range(tries):
        if is_so():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to be")


def test_a_large_arrow_batch_without_numbers_is_numbered_by_place(logs, lake):
    arrow = arrow_table("requests", [request() for _ in range(100)])
    logs.append(
        {
            "requests": arrow,
            "spans": pa.table({"span_id": ["s"], "app": ["shop"], "ts_start": pa.array([NOON], pa.timestamp("us", "UTC"))}),
        },
        source_id="i",
        from_seq=11,
        to_seq=20,
    )
    sql = "SELECT min(seq), max(seq), count(DISTINCT seq) FROM lake.requests"
    assert lake.read(lambda connection: connection.execute(sql).fetchone()) == (11, 110, 100)


def test_what_waits_in_a_spool_is_counted_until_it_is_flushed(logs):
    assert logs.waiting() == {}
    logs.record({"requests": [request(request_id="a"), request(request_id="b")]})
    assert list(logs.waiting().values()) == [2]
    logs.flush()
    assert logs.waiting() == {}
