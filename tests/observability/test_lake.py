from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from tests.forks import Forked, run
from tests.observability.lakes import SHARED, about_files, count, open_lake, open_logs, request
from tests.postgres import new_database, running_postgres
from workbench.errors import NewerWorkspace, StoreBusy, StoreError, UsageError
from workbench.observability import engine, schema
from workbench.observability import lake as lake_module
from workbench.observability.locks import FileLock
from workbench.observability.server_lock import ServerLock
from workbench.observability.syncing import sync_file_system
from workbench.observability.tables import TABLES, arrow_table, latest_requests_sql


def insert(lake, **values):
    row = {"request_id": "r", "app": "shop", "day": "2026-03-01", "revision": 0, "batch_id": 1, "seq": 1} | values
    sql = f"INSERT INTO lake.requests ({', '.join(row)}) VALUES ({', '.join(repr(value) for value in row.values())})"
    lake.write(lambda connection: connection.execute(sql), what="insert")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["shared"] if SHARED else ["sqlite", "postgres"])
def lake(request, tmp_path):
    catalog = f"postgres:{new_database(request.getfixturevalue('postgres'))}" if request.param == "postgres" else None
    made = open_lake(tmp_path, catalog=catalog)
    yield made
    made.close()


def test_before_the_first_write_every_table_is_there_and_empty(lake, tmp_path):
    assert lake.snapshot() is None
    assert [count(lake, table) for table in TABLES] == [0] * len(TABLES)
    assert not (tmp_path / "lake").exists()


def test_the_first_write_makes_the_lake_and_a_reader_sees_it(lake):
    assert count(lake) == 0
    insert(lake)
    assert count(lake) == 1
    assert lake.snapshot() is not None


def test_an_old_snapshot_reads_as_it_was(lake):
    insert(lake)
    then = lake.snapshot()
    insert(lake, request_id="s")
    sql = f"SELECT count(*) FROM ({latest_requests_sql(then)})"
    assert lake.read(lambda connection: connection.execute(sql).fetchone()) == (1,)


def test_a_failed_write_leaves_nothing(lake):
    insert(lake)

    def half(connection):
        connection.execute("INSERT INTO lake.requests (request_id, app) VALUES ('half', 'shop')")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        lake.write(half, what="fail")
    assert count(lake) == 1
    insert(lake, request_id="after")
    assert count(lake) == 2


def test_the_latest_revision_is_the_greatest_and_then_the_last_stored(lake):
    insert(lake, request_id="a", revision=1, output="second")
    insert(lake, request_id="a", revision=0, output="first, late", batch_id=9)
    insert(lake, request_id="b", output="early", batch_id=2, seq=1)
    insert(lake, request_id="b", output="later", batch_id=2, seq=2)
    sql = f"SELECT request_id, output FROM ({latest_requests_sql()}) ORDER BY 1"
    assert lake.read(lambda connection: connection.execute(sql).fetchall()) == [("a", "second"), ("b", "later")]


def test_one_read_sees_one_snapshot_while_others_write(lake):
    insert(lake)

    def twice(connection):
        before = connection.execute("SELECT count(*) FROM lake.requests").fetchone()
        insert(lake, request_id="s")
        return before, connection.execute("SELECT count(*) FROM lake.requests").fetchone()

    assert lake.read(twice) == ((1,), (1,))
    assert count(lake) == 2


def test_threads_write_and_read_without_an_error(lake):
    insert(lake)
    faults = []

    def work(name):
        try:
            for i in range(5):
                insert(lake, request_id=f"{name}-{i}")
                count(lake)
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert count(lake) == 21


@about_files
def test_a_moved_workspace_still_reads(tmp_path):
    lake = open_lake(tmp_path / "here")
    lake.write(
        lambda c: c.execute("INSERT INTO lake.requests (request_id, app, day) SELECT 'r' || i, 'shop', '2026-03-01' FROM range(100) t(i)"),
        what="insert",
    )
    lake.close()
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert count(open_lake(tmp_path / "there")) == 100


@about_files
def test_tables_are_partitioned_sorted_and_compressed_as_declared(tmp_path):
    lake = open_lake(tmp_path)
    lake.write(
        lambda c: c.execute("INSERT INTO lake.requests (request_id, app, day) SELECT 'r' || i, 'shop', '2026-03-01' FROM range(100) t(i)"),
        what="insert",
    )
    (file,) = (tmp_path / "lake" / "data" / "main" / "requests" / "app=shop" / "day=2026-03-01").iterdir()
    assert duckdb.sql(f"SELECT DISTINCT compression FROM parquet_metadata('{file}')").fetchall() == [("ZSTD",)]
    sorts = lake.read(lambda c: c.execute("SELECT count(*) FROM __ducklake_metadata_lake.ducklake_sort_info").fetchone())
    assert sorts == (sum(bool(table.sort_by) for table in TABLES.values()),)


def test_a_newer_lake_is_refused_for_reading_and_writing(tmp_path):
    lake = open_lake(tmp_path)
    insert(lake)
    lake.write(lambda c: c.execute("INSERT INTO lake.lake_meta (schema_version) VALUES (99)"), what="age")
    lake.close()
    for act in (count, insert):
        with pytest.raises(NewerWorkspace, match="schema version 99"):
            act(open_lake(tmp_path))


def test_an_older_lake_gains_the_columns_it_lacks(tmp_path, monkeypatch):
    lake = open_lake(tmp_path)
    insert(lake)
    lake.write(lambda c: c.execute("ALTER TABLE lake.requests DROP COLUMN workflow"), what="age")
    lake.write(lambda c: c.execute("DROP TABLE lake.outcomes"), what="age")
    lake.write(lambda c: c.execute("UPDATE lake.lake_meta SET schema_version = 0"), what="age")
    lake.close()
    reader = open_lake(tmp_path)
    assert count(reader, where="workflow IS NULL") == 1
    assert count(reader, "outcomes") == 0
    insert(reader, request_id="s", workflow="returns")
    assert reader.read(schema.version_of) == schema.SCHEMA_VERSION


@about_files
def test_a_lake_whose_maker_died_half_way_reads_empty_and_is_made_by_the_next_writer(tmp_path):
    lake = open_lake(tmp_path)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "catalog.sqlite").touch()
    assert (count(lake), lake.snapshot()) == (0, None)
    engine.connect(lake._address, read_only=False).close()
    assert (count(lake), lake.snapshot()) == (0, None)
    insert(lake)
    assert count(lake) == 1


@about_files
@pytest.mark.parametrize("limit", [1, 1024, 4096, 8192, 32_768, 65_536, 131_072])
@pytest.mark.usefixtures("stores_made_anew")
def test_a_lake_whose_maker_was_killed_while_it_wrote_reads_empty_and_is_made_by_the_next_writer(tmp_path, limit):
    program = """
import resource, signal, sys
from pathlib import Path
from tests.observability.lakes import open_lake
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # dies where it writes beyond the limit, as by SIGKILL at that moment
open_lake(Path(sys.argv[1])).write(lambda _: None, what="make the lake")
"""
    died = run([sys.executable, "-c", program, str(tmp_path), str(limit)])
    assert died.returncode == -signal.SIGXFSZ
    lake = open_lake(tmp_path)
    assert (count(lake), lake.snapshot()) == (0, None)
    insert(lake)
    assert count(lake) == 1
    assert not [file.name for file in (tmp_path / "lake").glob("*.new*")]


@about_files
def test_a_catalogue_that_is_something_else_is_a_store_error(tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "catalog.sqlite").write_bytes(b"not a database" * 500)
    for act in (count, insert):
        with pytest.raises(StoreError, match="damaged or not ours"):
            act(open_lake(tmp_path))


@about_files
def test_a_damaged_file_of_rows_is_a_store_error(tmp_path):
    lake = open_lake(tmp_path)
    rows = arrow_table("requests", [request() for _ in range(20)])
    open_logs(tmp_path, lake=lake).append({"requests": rows}, source_id="import:x", from_seq=1, to_seq=20)
    (file,) = (tmp_path / "lake" / "data").rglob("requests/**/*.parquet")
    os.truncate(file, 0)
    with pytest.raises(StoreError, match="damaged or not ours"):
        lake.read(lambda c: c.execute("SELECT sum(latency_ms) FROM lake.requests").fetchone())


@pytest.mark.parametrize("catalog", ["", "mysql:x", "sqlite:", "/home/x"])
def test_an_unknown_kind_of_catalogue_is_refused(tmp_path, catalog):
    with pytest.raises(UsageError, match="WORKBENCH_CATALOG"):
        open_lake(tmp_path, catalog=catalog or ":")


@pytest.mark.parametrize(
    "catalog", ["postgres:postgresql://u:geheim@127.0.0.1:1/x", "postgres:host=127.0.0.1 port=1 user=u password=geheim"]
)
def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path, catalog):
    for act in (count, insert):
        with pytest.raises(StoreError) as caught:
            act(open_lake(tmp_path, catalog=catalog))
        assert "geheim" not in str(caught.value)
        assert "WORKBENCH_CATALOG" in str(caught.value)


def test_a_missing_extension_names_the_package(monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StoreError, match=r"readiness-workbench\[shared\]"):
        engine.extension_path("postgres_scanner")


def test_a_lock_held_by_a_stopped_process_is_reported_with_its_pid(tmp_path):
    lake = open_lake(tmp_path, lock_wait_s=0.2)
    insert(lake)
    program = (
        "import sys, time; from pathlib import Path; from workbench.observability.locks import FileLock\n"
        "lock = FileLock(Path(sys.argv[1])); assert lock.try_acquire('hold'); print(1, flush=True); time.sleep(60)"
    )
    child = Forked([sys.executable, "-c", program, str(tmp_path / "lake" / "write.lock")], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        with pytest.raises(StoreBusy, match=rf"process {child.pid} \(running"):
            insert(lake, request_id="s")
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(StoreBusy, match=rf"process {child.pid} \(stopped.*kill -CONT {child.pid}"):
            insert(lake, request_id="s")
        assert count(lake) == 1
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    insert(lake, request_id="s")
    assert count(lake) == 2


def test_a_removed_lock_file_does_not_let_two_in(tmp_path):
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.try_acquire()
    first.remove()
    assert second.try_acquire()
    third = FileLock(tmp_path / "lock")
    assert not third.try_acquire()
    second.release()
    assert third.try_acquire()
    third.release()


def test_the_lock_on_a_server_keeps_a_second_host_out(postgres):
    first, second = ServerLock(postgres), ServerLock(postgres)
    first.acquire(what="write", wait_s=1)
    with pytest.raises(StoreBusy, match=f"workbench writer {os.getpid()}"):
        second.acquire(what="write", wait_s=0.1)
    first.release()
    second.acquire(what="write", wait_s=1)
    second.close()
    first.acquire(what="write", wait_s=1)
    first.close()


def test_a_write_whose_server_lock_was_lost_is_not_committed(tmp_path, postgres):
    lake = open_lake(tmp_path, catalog=f"postgres:{new_database(postgres)}")
    insert(lake)

    def loses_the_lock(connection):
        connection.execute("INSERT INTO lake.requests (request_id, app) VALUES ('s', 'shop')")
        import psycopg

        with psycopg.connect(lake._address.target, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'workbench writer%'")

    with pytest.raises(StoreError, match="writer lock"):
        lake.write(loses_the_lock, what="write")
    assert count(lake) == 1
    insert(lake, request_id="s")
    assert count(lake) == 2
    lake.close()


def test_a_host_that_vanishes_with_the_lock_does_not_keep_it_for_hours(postgres):
    lock = ServerLock(postgres)
    lock.acquire(what="write", wait_s=1)
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    shown = [lock._session().execute(f"SHOW {name}").fetchone()[0] for name in names]
    lock.close()
    assert shown == ["15", "5", "3", "30000"]


class Session:
    """The lock's session, where the sentence that holds `needle` fails after it was said."""

    closed = False

    def __init__(self, connection, needle, fault):
        self._connection, self._needle, self._fault = connection, needle, fault
        self.close = connection.close

    def execute(self, sentence):
        answer = self._connection.execute(sentence)
        if self._needle in sentence:
            raise self._fault
        return answer


def test_a_wait_for_the_lock_that_is_interrupted_keeps_nobody_out(postgres):
    first, second = ServerLock(postgres), ServerLock(postgres)
    first._connection = Session(first._session(), "pg_advisory_lock(", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        first.acquire(what="write", wait_s=1)
    second.acquire(what="write", wait_s=5)
    second.close()


def test_who_holds_the_lock_is_told_only_if_the_server_says_so(postgres):
    import psycopg

    first, second = ServerLock(postgres), ServerLock(postgres)
    first.acquire(what="write", wait_s=1)
    second._connection = Session(second._session(), "pg_locks", psycopg.OperationalError("the connection is lost"))
    with pytest.raises(StoreBusy, match="held by another session"):
        second.acquire(what="write", wait_s=0.1)
    first.close()
    second.close()


@about_files
def test_every_file_that_a_commit_names_is_on_the_disk_before_it(tmp_path, monkeypatch):
    lake = open_lake(tmp_path)
    insert(lake)
    named = "SELECT count(*) FROM __ducklake_metadata_lake.ducklake_data_file"
    synced = []

    def sync(folder):
        files = {str(path) for path in folder.rglob("*.parquet")}
        synced.append((files, lake.read(lambda c: c.execute(named).fetchone()[0])))
        sync_file_system(folder)

    monkeypatch.setattr(lake_module, "sync_file_system", sync)
    rows = arrow_table("requests", [request(app=app) for app in ("bank", "shop") for _ in range(20)])
    open_logs(tmp_path, lake=lake).append({"requests": rows}, source_id="import:x", from_seq=1, to_seq=40)
    ((files, named_then),) = synced
    assert len(files) == 2
    assert (named_then, lake.read(lambda c: c.execute(named).fetchone()[0])) == (0, 2)


@about_files
def test_a_disk_that_refuses_the_data_stores_nothing(tmp_path, monkeypatch):
    lake = open_lake(tmp_path)
    insert(lake)

    def fails(folder):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lake_module, "sync_file_system", fails)
    with pytest.raises(StoreError, match=r"Input/output error.*check the disk"):
        insert(lake, request_id="s")
    assert count(lake) == 1


def test_a_conflict_is_repeated_and_a_broken_instance_replaced(tmp_path):
    lake = open_lake(tmp_path)
    insert(lake)
    faults = [
        duckdb.TransactionException("Failed to commit: database is locked"),
        duckdb.FatalException("database has been invalidated because of a previous fatal error"),
    ]

    def work(connection):
        connection.execute("INSERT INTO lake.requests (request_id, app) VALUES ('s', 'shop')")
        if faults:
            raise faults.pop()

    lake.write(work, what="write")
    assert count(lake) == 2


def test_a_fault_that_repeating_cannot_help_is_not_repeated(tmp_path):
    lake = open_lake(tmp_path)
    calls = []

    def work(connection):
        calls.append(1)
        raise duckdb.TransactionException("Failed to commit: database or disk is full")

    with pytest.raises(StoreError, match=r"disk is full.*free space"):
        lake.write(work, what="write")
    assert calls == [1]


def test_a_reader_whose_file_was_cleaned_away_tries_again_once(tmp_path):
    lake = open_lake(tmp_path)
    insert(lake)
    calls = []

    def work(connection):
        calls.append(1)
        if len(calls) == 1:
            raise duckdb.IOException('IO Error: Cannot open file "x.parquet": No such file or directory')
        return connection.execute("SELECT count(*) FROM lake.requests").fetchone()

    assert lake.read(work) == (1,)


def test_a_question_that_no_disk_can_go_on_for_says_what_to_ask_instead(tmp_path):
    lake = open_lake(tmp_path)
    insert(lake)

    def work(connection):
        connection.execute("SET memory_limit = '30MB'")
        return connection.execute("SELECT len(list(i)) FROM range(20000000) t(i)").fetchone()

    with pytest.raises(StoreError, match=r"more memory than the log's engine may have.*shorter window.*WORKBENCH_LOG_MEMORY"):
        lake.read(work)


SPILL = """
import os, sys
from pathlib import Path
from tests.observability.lakes import open_lake
lake = open_lake(Path(sys.argv[1]))
def work(connection):
    connection.execute("SET memory_limit = '60MB'")
    connection.execute("SET threads = 1")
    connection.execute("CREATE TEMP TABLE large AS SELECT md5(i::VARCHAR) AS text FROM range(2000000) t(i)")
    print(connection.execute("SELECT count(*) FROM large").fetchone()[0])
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), 9)
lake.read(work)
"""


def test_a_query_that_outgrows_the_memory_goes_on_on_disk_and_a_killed_one_leaves_nothing_for_ever(tmp_path):
    insert(open_lake(tmp_path))
    scratch = tmp_path / "lake" / "scratch"
    command = [sys.executable, "-c", SPILL, str(tmp_path)]
    assert run([*command, "ends"]).stdout == "2000000\n"
    assert list(scratch.rglob("*.*")) == []
    run([*command, "killed"])
    assert [path for path in scratch.rglob("*") if path.is_file()] != []
    assert count(open_lake(tmp_path)) == 1
    assert list(scratch.iterdir()) == []


def test_a_mistake_in_a_query_stays_what_it_is(tmp_path):
    with pytest.raises(duckdb.BinderException):
        open_lake(tmp_path).read(lambda connection: connection.execute("SELECT colour FROM lake.requests"))


def test_a_closed_lake_says_so(tmp_path):
    lake = open_lake(tmp_path)
    lake.close()
    with pytest.raises(StoreError, match="closed"):
        count(lake)


def _write_in_child(lake, queue):
    insert(lake, request_id="child")
    queue.put(count(lake))


def test_a_forked_child_gets_an_instance_of_its_own(tmp_path):
    lake = open_lake(tmp_path)
    insert(lake)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_write_in_child, args=(lake, queue))
    child.start()
    assert queue.get(timeout=30) == 2
    child.join()
    insert(lake, request_id="parent")
    assert count(lake) == 3


@contextlib.contextmanager
def mounted(folder: Path, options: str):
    """A small file system, or a skip where this user may not mount one."""
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a small file system takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@about_files
def test_a_full_disk_is_named_and_nothing_is_half_written(tmp_path):
    with mounted(tmp_path / "small", "size=6m"):
        home = tmp_path / "small"
        lake = open_lake(home)
        logs = open_logs(home, lake=lake)
        logs.record({"requests": [request()]})
        logs.flush()
        filler = home / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        noise = [request(output=os.urandom(2000).hex()) for _ in range(500)]
        with pytest.raises(StoreError, match=r"small/spools/.*full.*free space"):
            logs.record({"requests": noise})
        with pytest.raises(StoreError, match=r"small/spools/.*full.*free space"):
            logs.submit({"requests": noise}).result(30)
        with pytest.raises(StoreError, match=r"full|No space.*free space"):
            logs.append({"requests": arrow_table("requests", noise)}, source_id="import:x", from_seq=1, to_seq=500)
        with contextlib.suppress(StoreError):  # a reader needs 32 KB for its index file; it may say so, but never a wrong count
            assert count(lake) == 1
        filler.unlink()
        assert count(lake) == 1
        logs.record({"requests": [request()]})
        logs.flush()
        assert logs.append({"requests": arrow_table("requests", noise)}, source_id="import:x", from_seq=1, to_seq=500)
        assert count(lake) == 502
        logs.close()
        lake.close()


def test_a_limit_on_file_size_acts_like_a_full_disk(tmp_path):
    program = """
import resource, signal, sys
from pathlib import Path
from tests.observability.lakes import SHARED, about_files, count, open_lake, open_logs, request
from workbench.errors import StoreError
home = Path(sys.argv[1])
lake = open_lake(home); logs = open_logs(home, lake=lake)
logs.record({"requests": [request()]}); logs.flush()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    logs.record({"requests": [request(output="x" * 100_000) for _ in range(40)]})
except StoreError as fault:
    print(fault)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
logs.record({"requests": [request()]}); logs.flush()
print(count(lake))
logs.close()
"""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    assert hard == resource.RLIM_INFINITY
    done = run([sys.executable, "-c", program, str(tmp_path)])
    first, second = done.stdout.splitlines()
    assert "could not be written" in first
    assert "free space" in first
    assert second == "2"


@about_files
def test_a_read_only_store_is_named_for_writing(tmp_path):
    with mounted(tmp_path / "store", "size=16m"):
        home = tmp_path / "store"
        lake = open_lake(home)
        insert(lake)
        lake.close()
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        with pytest.raises(StoreError, match=r"Read-only|read-only"):
            insert(open_lake(home))
        with pytest.raises(StoreError, match=r"Read-only|read-only"):
            open_logs(home).record({"requests": [request()]})
        with pytest.raises(StoreError, match="catalogue cannot be opened"):
            count(open_lake(home))


@pytest.mark.slow
def test_two_processes_that_make_the_lake_at_once_make_one(tmp_path):
    program = """
import sys, time
from pathlib import Path
from tests.observability.lakes import open_logs, request
while time.time() < float(sys.argv[2]): pass
logs = open_logs(Path(sys.argv[1])); logs.record({"requests": [request()]}); logs.close()
"""
    start = str(time.time() + 2.5)
    children = [Forked([sys.executable, "-c", program, str(tmp_path), start]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    lake = open_lake(tmp_path)
    assert count(lake) == 3
    assert count(lake, "lake_meta") == 1
