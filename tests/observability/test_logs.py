from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from tests.observability.lakes import NOON, Clock, count, open_lake, open_logs, request
from workbench.errors import ConflictError, StoreError, UsageError
from workbench.observability.logs import FlushLoop
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


def test_a_ticket_says_when_its_rows_are_committed(logs):
    ticket = logs.record_nowait({"requests": [request()]})
    ticket.wait()
    assert ticket.is_done
    assert logs.flush().rows == 1


def test_a_flush_takes_what_was_recorded_without_waiting(logs, lake):
    for _ in range(50):
        logs.record_nowait({"requests": [request()]})
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


def test_a_bulk_batch_is_rolled_up_like_a_flush(logs, lake):
    logs.append(batch("a", "b", cost_usd=0.25), source_id="import:a", from_seq=1, to_seq=2)
    sql = "SELECT n, CAST(cost_usd_sum AS VARCHAR) FROM lake.requests_hourly"
    assert lake.read(lambda connection: connection.execute(sql).fetchall()) == [(2, "0.500000000")]


def test_known_ids_are_those_in_the_lake(logs):
    assert logs.known_requests([("shop", "a")]) == set()
    logs.append(batch("a", "b'c", "d"), source_id="import:a", from_seq=1, to_seq=3)
    asked = [("shop", "b'c"), ("shop", "x"), ("shop", "a"), ("shop", "a"), ("other", "d")]
    assert logs.known_requests(asked) == {("shop", "a"), ("shop", "b'c")}
    assert logs.known_requests([]) == set()


def test_close_brings_everything_into_the_lake_and_leaves_no_spool(tmp_path, lake):
    logs = open_logs(tmp_path, lake=lake)
    logs.record({"requests": [request()]})
    logs.record_nowait({"requests": [request()]})
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
