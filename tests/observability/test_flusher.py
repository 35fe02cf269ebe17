from __future__ import annotations

import contextlib
import multiprocessing
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.forks import Forked, run
from tests.observability.lakes import NOON, Clock, count, open_lake, open_logs, request
from workbench.errors import NewerWorkspace, StoreBusy, StoreError
from workbench.observability import flusher
from workbench.observability.flusher import SpoolReader, adopt, drain, read_marks
from workbench.observability.rows import rows_of
from workbench.observability.spool import UNREAD, Marks, Spool
from workbench.observability.tables import arrow_table


def rows(n: int, **values):
    return {"requests": [request(**values) for _ in range(n)]}


def doubles(lake) -> int:
    sql = "SELECT count(*) FROM (SELECT 1 FROM lake.requests GROUP BY spool_id, seq HAVING count(*) > 1)"
    return lake.read(lambda connection: connection.execute(sql).fetchone()[0])


def test_every_table_of_one_record_lands_in_one_batch(tmp_path):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    logs.record(
        {
            "requests": [request(request_id="a", input_tokens=0)],
            "spans": [{"span_id": "s", "app": "shop", "ts_start": NOON, "retrieved": [{"doc_id": "d", "score": 0.1, "rank": 1}]}],
            "scores": [{"score_id": "c", "app": "shop", "request_id": "a", "name": "success", "value": 1, "ts": NOON}],
            "outcomes": [{"outcome_id": "o", "app": "shop", "kpi": "orders", "value": 2.5, "ts": NOON}],
        }
    )
    assert logs.flush().rows == 4
    for table in ("requests", "spans", "scores", "outcomes"):
        sql = f"SELECT batch_id, CAST(day AS VARCHAR) FROM lake.{table}"
        assert lake.read(lambda connection, sql=sql: connection.execute(sql).fetchall()) == [(1, "2026-03-01")]
    sql = "SELECT from_seq, to_seq, batch_id FROM lake.flushed"
    assert lake.read(lambda connection: connection.execute(sql).fetchall()) == [(1, 4, 1)]
    logs.close()


def test_rows_that_cannot_be_sorted_at_once_go_in_by_pieces_of_one_batch(tmp_path, monkeypatch):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    given = arrow_table("requests", [request(request_id=f"r{n}", ts_start=NOON + timedelta(minutes=n)) for n in range(100)])
    given = given.append_column("seq", pa.array(range(1, 101), pa.int64()))
    monkeypatch.setattr(flusher, "_SORTED_SHARE", lake.memory // (given.nbytes // 7))
    assert logs.append({"requests": given.slice(0, 30)}, source_id="given", from_seq=1, to_seq=30)
    assert logs.append({"requests": given}, source_id="given", from_seq=1, to_seq=100)
    sql = "SELECT count(*), count(DISTINCT request_id), max(batch_id), count(*) FILTER (batch_id = 1) FROM lake.requests"
    assert lake.read(lambda connection: connection.execute(sql).fetchall()) == [(100, 100, 2, 30)]
    noted = "SELECT sum(n)::INT FROM lake.unsummed_hours GROUP BY hour ORDER BY hour"
    assert lake.read(lambda connection: connection.execute(noted).fetchall()) == [(60,), (40,)]
    logs.close()


def test_batch_ids_rise_and_each_covers_what_its_mark_says(tmp_path):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    for n in (3, 1, 15):
        logs.record(rows(n))
        logs.flush()
    sql = (
        "SELECT f.batch_id, f.to_seq - f.from_seq + 1, count(*) FROM lake.flushed f JOIN lake.requests r "
        "ON r.batch_id = f.batch_id AND r.spool_id = f.spool_id AND r.seq BETWEEN f.from_seq AND f.to_seq GROUP BY ALL ORDER BY 1"
    )
    assert lake.read(lambda connection: connection.execute(sql).fetchall()) == [(1, 3, 3), (2, 1, 1), (3, 15, 15)]
    logs.close()


def test_a_large_spool_goes_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(flusher, "_ROWS_AT_ONCE", 7)
    lake, clock = open_lake(tmp_path), Clock()
    logs = open_logs(tmp_path, lake=lake, clock=clock)
    for n in (1, 1, 8, 7, 3):
        clock.move(1)
        logs.record(rows(n))
    logs.flush()
    assert (count(lake), count(lake, "flushed"), doubles(lake)) == (20, 3, 0)
    sql = "SELECT to_seq - from_seq + 1 FROM lake.flushed ORDER BY from_seq"
    pieces = lake.read(lambda connection: connection.execute(sql).fetchall())
    assert pieces == [(10,), (7,), (3,)], "a record is never cut"
    logs.close()


def test_an_idle_flush_touches_nothing(tmp_path):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    assert logs.flush().rows == 0
    assert not (tmp_path / "lake").exists()
    logs.record(rows(1))
    logs.flush()
    before = lake.snapshot()
    assert logs.flush().rows == 0
    assert lake.snapshot() == before
    logs.close()


class InjectedError(RuntimeError):
    pass


@pytest.mark.parametrize("point", ["before the insert", "after the insert", "before the mark is noticed", "before the delete"])
def test_a_failure_at_any_point_loses_and_doubles_nothing(tmp_path, monkeypatch, point):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    logs.record(rows(2))
    logs.flush()
    logs.record(rows(5))
    with monkeypatch.context() as patch:
        if point == "before the insert":
            patch.setattr(flusher, "read_marks", _raising(InjectedError()))
        elif point == "after the insert":
            patch.setattr(flusher, "_insert", _then_raise(flusher._insert, InjectedError()))
        elif point == "before the mark is noticed":
            patch.setattr(lake, "write", _then_raise(lake.write, InjectedError()))
        else:
            patch.setattr(Spool, "delete_to", _raising(InjectedError()))
        with pytest.raises(InjectedError):
            logs.flush()
    logs.record(rows(1))
    logs.flush()
    assert (count(lake), doubles(lake)) == (8, 0)
    sql = "SELECT sum(n) FROM lake.unsummed_hours"
    assert lake.read(lambda connection: connection.execute(sql).fetchone()) == (8,)
    logs.close()


def _raising(fault):
    def act(*args, **more):
        raise fault

    return act


def _then_raise(act, fault):
    def both(*args, **more):
        act(*args, **more)
        raise fault

    return both


def test_a_commit_that_reported_failure_but_happened_is_not_repeated(tmp_path, monkeypatch):
    """The first try commits and then fails with a conflict: the second finds its own mark."""
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    logs.record(rows(3))
    write_once = lake._write_once
    left = [1]

    def commits_and_fails(work, what):
        result = write_once(work, what)
        if left:
            left.pop()
            raise duckdb.TransactionException("Failed to commit: database is locked")
        return result

    monkeypatch.setattr(lake, "_write_once", commits_and_fails)
    logs.flush()
    assert (count(lake), doubles(lake), count(lake, "flushed")) == (3, 0, 1)
    logs.close()


def test_rows_stay_in_the_spool_while_the_lake_cannot_be_had(tmp_path):
    lake = open_lake(tmp_path, lock_wait_s=0.05)
    logs = open_logs(tmp_path, lake=lake)
    logs.record(rows(3))
    from workbench.observability.locks import FileLock

    (tmp_path / "lake").mkdir(exist_ok=True)
    other = FileLock(tmp_path / "lake" / "write.lock")
    assert other.try_acquire("hold")
    with pytest.raises(StoreBusy):
        logs.flush()
    other.release()
    assert logs.flush().rows == 3
    logs.close()


def test_two_drains_of_one_spool_store_it_once(tmp_path):
    lake = open_lake(tmp_path)
    spool_logs = open_logs(tmp_path, lake=lake)
    spool_logs.record(rows(10))
    path = spool_logs._spool.path
    stale = list(SpoolReader(path).stretches(0))
    assert drain(lake, path, after=UNREAD, clock=Clock()).rows == 10
    spool_logs.record(rows(1))
    assert [flusher.store(lake, stretch, now=NOON).is_new for stretch in stale] == [False]
    assert drain(lake, path, after=UNREAD, clock=Clock()).rows == 1
    assert (count(lake), doubles(lake)) == (11, 0)
    spool_logs.close()


def test_a_dead_process_spool_is_adopted_and_removed(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from tests.observability.lakes import open_logs, request\n"
        "logs = open_logs(Path(sys.argv[1])); logs.record({'requests': [request() for _ in range(5)]}); os.kill(os.getpid(), 9)"
    )
    run([sys.executable, "-c", program, str(tmp_path)])
    assert len(list((tmp_path / "spools").glob("*.sqlite"))) == 1
    lake = open_lake(tmp_path)
    report = open_logs(tmp_path, lake=lake).flush()
    assert (report.rows, len(report.adopted)) == (5, 1)
    assert list((tmp_path / "spools").iterdir()) == []
    assert count(lake) == 5


def test_what_an_owner_left_that_died_while_it_made_its_spool_is_taken_back_and_removed(tmp_path):
    """The change to a write-ahead log is written under a rollback journal: death within it leaves one that must be played back."""
    program = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA cache_size = 1')\n"
        "connection.execute('CREATE TABLE half (x)')\n"
        "connection.execute('BEGIN')\n"
        "connection.executemany('INSERT INTO half VALUES (?)', [(bytes(4096),)] * 100)\n"
        "os.kill(os.getpid(), 9)"
    )
    folder = tmp_path / "spools"
    folder.mkdir()
    subprocess.run([sys.executable, "-c", program, str(folder / "dead.sqlite")], check=False)
    assert (folder / "dead.sqlite-journal").stat().st_size > 0
    report = open_logs(tmp_path).flush()
    assert (report.faults, report.rows, len(report.adopted)) == ((), 0, 1)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("own", "adopted"), [("2", "480"), ("6", "804"), ("a", "048")])
def test_processes_that_find_the_same_dead_spools_begin_at_different_ones(tmp_path, monkeypatch, own, adopted):
    folder = tmp_path / "spools"
    folder.mkdir()
    for name in "048":
        (folder / f"{name}.sqlite").touch()
    monkeypatch.setattr("workbench.observability.spool.secrets.token_hex", lambda _: own)
    with contextlib.closing(open_logs(tmp_path)) as logs:
        logs.record(rows(1))
        assert logs.flush().adopted == tuple(adopted)


def test_rows_that_come_in_while_one_dead_spool_is_adopted_do_not_wait_for_the_next(tmp_path, monkeypatch):
    for _ in range(3):
        with contextlib.closing(Spool.create(tmp_path / "spools", clock=Clock())) as dead:
            dead.append(rows_of(rows(1)))
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    logs.record(rows(1))
    seen = []

    def slowly(*given, **named):
        seen.append(count(lake))
        logs.record(rows(1))
        return adopt(*given, **named)

    monkeypatch.setattr("workbench.observability.logs.adopt", slowly)
    report = logs.flush()
    assert seen == [1, 3, 5]
    assert (report.rows, count(lake), doubles(lake)) == (7, 7, 0)
    assert (len(report.adopted), len(report.drained), len({*report.drained})) == (3, 4, 4)
    logs.close()


def test_a_living_owner_is_left_alone_until_its_rows_are_old(tmp_path):
    lake = open_lake(tmp_path)
    clock = Clock()
    owner = open_logs(tmp_path, lake=lake, clock=clock)
    owner.record(rows(3))
    other = open_logs(tmp_path, lake=lake, clock=clock)
    assert other.flush().rows == 0
    clock.move(6)
    assert other.flush().rows == 3
    assert other.flush().drained == ()
    owner.record(rows(2))
    assert owner.flush().rows == 2
    assert (count(lake), doubles(lake)) == (5, 0)
    owner.close()


def test_an_owner_that_flushes_is_left_alone_whatever_it_has_not_deleted_yet(tmp_path, monkeypatch):
    lake = open_lake(tmp_path)
    clock = Clock()
    owner = open_logs(tmp_path, lake=lake, clock=clock)
    owner.record(rows(3))
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "delete_to", lambda *_: None)
        owner.flush()
    clock.move(60)
    owner.record(rows(2))
    other = open_logs(tmp_path, lake=lake, clock=clock)
    assert other.flush().rows == 0
    clock.move(6)
    assert other.flush().rows == 2
    owner.close()


def test_a_spool_that_cannot_be_read_is_reported_and_does_not_stop_the_others(tmp_path):
    lake = open_lake(tmp_path)
    folder = tmp_path / "spools"
    folder.mkdir()
    (folder / "broken.sqlite").write_bytes(b"nonsense" * 1000)
    foreign = Spool.create(folder, clock=Clock())
    foreign.append([("requests", b"not json")]).result(10)
    foreign.close()
    good = Spool.create(folder, clock=Clock())
    from workbench.observability.rows import rows_of

    good.append(rows_of(rows(2))).result(10)
    good.close()
    report = open_logs(tmp_path, lake=lake).flush()
    assert report.rows == 2
    assert len(report.faults) == 2
    assert (folder / "broken.sqlite").exists()
    assert foreign.path.exists()


def test_a_spool_that_somebody_adopts_while_another_looks_at_it_is_no_fault(tmp_path, monkeypatch):
    lake = open_lake(tmp_path)
    clock = Clock()
    gone = Spool.create(tmp_path / "spools", clock=clock)
    gone.append([("requests", b"{}")]).result(10)
    clock.move(60)
    oldest = SpoolReader.oldest

    def adopted_meanwhile(reader, after):
        if reader.path.exists():
            gone.close(remove=True)
        return oldest(reader, after)

    monkeypatch.setattr(SpoolReader, "oldest", adopted_meanwhile)
    assert open_logs(tmp_path, lake=lake, clock=clock).flush().faults == ()


def test_remains_of_a_half_removed_or_half_made_spool_are_cleared(tmp_path):
    folder = tmp_path / "spools"
    folder.mkdir()
    (folder / "a.lock").touch()
    (folder / "a.sqlite-wal").touch()
    (folder / "b.lock").touch()
    (folder / "b.sqlite").touch()
    assert open_logs(tmp_path).flush().faults == ()
    assert list(folder.iterdir()) == []


def test_a_mark_never_hides_rows_that_come_after_the_file_was_emptied(tmp_path):
    lake = open_lake(tmp_path)
    from workbench.observability.rows import rows_of

    spool = Spool.create(tmp_path / "spools", clock=Clock())
    spool.append(rows_of(rows(4))).result(10)
    spool.delete_to(drain(lake, spool.path, after=UNREAD, clock=Clock()).marks)
    while SpoolReader(spool.path).count(0):
        spool.sync()
    spool.append(rows_of(rows(2))).result(10)
    assert drain(lake, spool.path, after=UNREAD, clock=Clock()).rows == 2
    assert count(lake) == 6
    spool.close()


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["record", "flush", "foreign flush", "fail after commit", "fail before commit"]), max_size=8))
def test_whatever_happens_each_row_is_stored_once(tmp_path_factory, acts):
    home = tmp_path_factory.mktemp("lake")
    lake = open_lake(home)
    clock = Clock()
    logs = open_logs(home, lake=lake, clock=clock)
    other = open_logs(home, lake=lake, clock=clock)
    n = 0
    for act in acts:
        clock.move(6)
        if act == "record":
            logs.record(rows(3))
            n += 3
        elif act == "foreign flush":
            other.flush()
        elif act == "flush":
            logs.flush()
        else:
            with pytest.MonkeyPatch.context() as patch:
                if act == "fail after commit":
                    patch.setattr(lake, "write", _then_raise(lake.write, InjectedError()))
                else:
                    patch.setattr(flusher, "_insert", _then_raise(flusher._insert, InjectedError()))
                with contextlib.suppress(InjectedError):
                    logs.flush()
    logs.close()
    assert (count(lake), doubles(lake)) == (n, 0)
    lake.close()


def test_a_forked_child_records_into_a_spool_of_its_own(tmp_path):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)
    logs.record(rows(2))
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_record_and_close, args=(logs,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    logs.record(rows(1))
    logs.close()
    assert (count(lake), doubles(lake)) == (6, 0)
    assert list((tmp_path / "spools").iterdir()) == []


def _record_and_close(logs):
    logs.record(rows(3))
    logs.close()


WRITER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from tests.observability.lakes import open_logs, request
from workbench.observability.logs import FlushLoop
clock = lambda: datetime.now(UTC)
home, name = Path(sys.argv[1]), sys.argv[2]
logs = open_logs(home, clock=clock)
with open(home / f"{name}.acknowledged", "a", buffering=1) as journal, FlushLoop(logs, clock=clock, interval_s=0.2):
    i = 0
    while True:
        i += 1
        ids = [f"{name}-{i}-{k}" for k in range(5)]
        logs.record({"requests": [request(request_id=id) for id in ids]})
        journal.write("".join(f"{id}\\n" for id in ids))
        time.sleep(0.002)
"""


@pytest.mark.slow
def test_writers_killed_and_stopped_at_random_lose_and_double_nothing(tmp_path):
    rng = random.Random(7)
    (tmp_path / "lake").mkdir(exist_ok=True)
    names = iter(range(1000))
    running = [_writer(tmp_path, next(names)) for _ in range(3)]
    ends = time.monotonic() + 8
    try:
        while time.monotonic() < ends:
            time.sleep(rng.uniform(0.3, 1.2))
            victim = rng.randrange(3)
            if rng.random() < 0.3:
                running[victim].send_signal(signal.SIGSTOP)
                time.sleep(0.7)
                running[victim].send_signal(signal.SIGCONT)
            else:
                running[victim].kill()
                running[victim].wait()
                running[victim] = _writer(tmp_path, next(names))
    finally:
        for child in running:
            child.kill()
            child.wait()
    lake = open_lake(tmp_path)
    report = open_logs(tmp_path, lake=lake).flush()
    assert report.faults == ()
    acknowledged = [line for path in tmp_path.glob("*.acknowledged") for line in path.read_text().splitlines()]
    stored = lake.read(lambda connection: [row[0] for row in connection.execute("SELECT request_id FROM lake.requests").fetchall()])
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    assert list((tmp_path / "spools").iterdir()) == []


def _writer(home: Path, name: int) -> subprocess.Popen[bytes]:
    return Forked([sys.executable, "-c", WRITER, str(home), f"w{name}"])


def test_a_newer_spool_is_left_alone(tmp_path):
    spool = Spool.create(tmp_path / "spools", clock=Clock())
    spool.close()
    connection = sqlite3.connect(spool.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(NewerWorkspace, match="format 99"):
        SpoolReader(spool.path).count(0)
    report = open_logs(tmp_path).flush()
    assert len(report.faults) == 1
    assert spool.path.exists()


def test_the_reader_says_when_a_spool_is_damaged(tmp_path):
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError, match="could not be read"):
        list(SpoolReader(path).stretches(0))
    assert path.exists()
    connection = sqlite3.connect(tmp_path / "y.sqlite")
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    assert list(SpoolReader(tmp_path / "y.sqlite").stretches(0)) == []


def test_who_knows_how_a_source_stood_reads_the_marks_behind_that_alone(tmp_path):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)

    def stands(source: str, known: Marks) -> Marks:
        return lake.read(lambda connection: read_marks(connection, source, known=known))

    known = dict.fromkeys("abc", UNREAD)
    for step, stored in enumerate("abacbbca"):
        logs.append({}, source_id=stored, from_seq=10 * step + 1, to_seq=10 * step + 3)
        assert [stands(source, known[source]) for source in known] == [stands(source, UNREAD) for source in known]
        known[stored] = stands(stored, known[stored])
    assert stands("b", Marks(0, newest=8)) == Marks(0, newest=8), "older ones are not read"
