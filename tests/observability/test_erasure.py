"""Erasing a unit: before, it is found; afterwards nowhere, and nothing else has changed.

What is stored is decoded before it is searched, and its bytes are searched too.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.forks import Forked, run
from tests.observability.erasing import BEGAN, MARK, NOWHERE, Stores, hash_of, places_of_mark, record_of
from tests.postgres import new_database, running_postgres
from workbench.errors import UsageError
from workbench.ledger.audit import tail
from workbench.ledger.tables import handoffs
from workbench.observability.erased import left_after
from workbench.observability.metrics import ERASED, SAME
from workbench.observability.rollup import hourly_sql
from workbench.observability.tables import arrow_table, latest_requests_sql
from workbench.observability.upkeep_plan import Step

KILLED_AFTER = ["take out a unit's rows", Step.FLUSH, Step.REWRITE, Step.EXPIRE, "narrow the catalogue's statistics", "vacuum"]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def stores(tmp_path):
    made = Stores(tmp_path)
    yield made
    made.close()


def fill(stores: Stores, *, unit: str = "marked", flushes: int = 4) -> None:
    """Small flushes, which DuckLake inlines, and a large one; the unit among others and alone in a file."""
    for i in range(flushes):
        for name in (unit, "anna", "bert") if i % 2 else (unit,):
            for n in range(12 if i == 3 else 2):
                stores.logs.record(record_of(name, 100 * i + n))
        stores.logs.flush()


def others(stores: Stores) -> list[list[tuple[object, ...]]]:
    """Every row of the log tables without the mark."""
    return [
        stores.rows(f"SELECT to_json(t)::VARCHAR AS text FROM lake.{table} t WHERE NOT contains(text, '{MARK}') ORDER BY ALL")
        for table in ("requests", "spans", "scores", "outcomes")
    ]


def rolled_up_anew(stores: Stores) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """The hourly sums as they are stored, and as they are made from the stored requests."""
    stored = "SELECT to_json(t)::VARCHAR FROM lake.requests_hourly t ORDER BY ALL"
    anew = hourly_sql(f"({latest_requests_sql()}) AS latest")
    return stores.rows(stored), stores.rows(
        f"SELECT to_json(t)::VARCHAR FROM (SELECT * REPLACE (hour::TIMESTAMPTZ AS hour) FROM ({anew})) t ORDER BY ALL"
    )


def test_a_unit_is_in_no_store_after_it_was_erased_and_nothing_else_changed(stores):
    fill(stores)
    stores.logs.record(record_of("marked", 999))
    before, rows, where = places_of_mark(stores), others(stores), {"bundle": "shop@1"}
    assert (before["lake"], before["spools"], bool(before["bytes"])) == (True, True, True)
    first = stores.erasure.erase("marked", reason="asked by the customer")
    assert (first.is_done, first.parts[0].removed) == (False, {"requests": 19, "spans": 38, "scores": 19, "outcomes": 57})
    assert stores.rows(f"SELECT count(*) FROM lake.requests WHERE unit_hash = '{hash_of('marked')}'") == [(0,)]
    (report,) = stores.erasure.finish()
    assert (report.is_done, report.n_removed, stores.erasure.pending()) == (True, first.n_removed, ())
    assert places_of_mark(stores) == NOWHERE
    assert others(stores) == rows
    stored, anew = rolled_up_anew(stores)
    assert stored == anew
    assert stores.metrics.query("volume", app="shop", where=where)["volume"].item() == len(rows[0]) == 28
    bounds = "SELECT min(request_id), max(request_id), count_if(request_id < 'anna 2'), count_if(request_id > 'b') FROM lake.requests"
    assert stores.rows(bounds) == [("anna 100", "bert 311", 2, 14)], "narrowed statistics do not hide rows"


def test_a_catalogue_on_postgresql_forgets_as_well(postgres, tmp_path):
    url = new_database(postgres)
    stores = Stores(tmp_path, catalog=f"postgres:{url}")

    def files_with_mark() -> list[str]:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            folder, database = connection.execute(
                "SELECT current_setting('data_directory'), oid FROM pg_database WHERE datname = current_database()"
            ).fetchone()
        return [path.name for path in (Path(folder) / "base" / str(database)).iterdir() if MARK.encode() in path.read_bytes()]

    fill(stores)
    assert files_with_mark()
    stores.erasure.erase("marked", reason="asked")
    (report,) = stores.erasure.finish()
    assert report.is_done, report
    assert places_of_mark(stores) == NOWHERE
    assert files_with_mark() == []
    stores.close()


def test_rows_that_arrive_late_are_dropped_from_a_spool_and_from_a_file(stores):
    """A gateway had a request of the unit under way, and somebody imports an old file: both after the erasure."""
    fill(stores, flushes=1)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.observability.erasing import Stores, record_of\n"
        "stores = Stores(Path(sys.argv[1]))\n"
        "stores.logs.record(record_of('marked', 50))\n"
        "print('recorded', flush=True); sys.stdin.readline()\n"
        "stores.logs.record(record_of('marked', 51)); stores.logs.record(record_of('anna', 51))\n"
        "print('recorded', flush=True); sys.stdin.readline()\n"
        "stores.logs.record(record_of('marked', 52, at=stores.now()))\n"
        "stores.logs.flush(); print('flushed', flush=True); sys.stdin.readline()\n"
        "stores.close()\n"
    )
    command = [sys.executable, "-c", script, str(stores.home)]
    with Forked(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "recorded\n"
        report = stores.erasure.erase("marked", reason="asked")
        assert report.parts[0].removed["requests"] == 3, "the living process' spool is brought in first"
        assert not places_of_mark(stores)["spools"]
        for answer in ("recorded\n", "flushed\n"):
            other.stdin.write("go on\n")
            other.stdin.flush()
            assert other.stdout.readline() == answer
        left = "SELECT request_id FROM lake.requests ORDER BY 1"
        back = f"{MARK} marked 52"
        assert stores.rows(left) == [(back,), ("anna 51",)], "what the unit did afterwards is kept"
        assert stores.rows("SELECT count(*) FROM lake.spans") == [(4,)]
        assert stores.rows("SELECT count(*) FROM lake.scores") == [(2,)]
        batch = {name: arrow_table(name, rows) for name, rows in record_of("marked", 53).items()}
        assert stores.logs.append(batch, source_id="import:old", from_seq=1, to_seq=9)
        assert stores.rows(left) == [(back,), ("anna 51",)]
        stores.erasure.erase("marked", reason="asked again")
        (done,) = stores.erasure.finish()
        assert done.is_done, done
        other.communicate("go on\n", timeout=60)
    assert places_of_mark(stores) == NOWHERE


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.observability.erasing import Stores
from workbench.observability.lake import Lake
from workbench.observability.upkeep import Upkeep
home, unit, place = sys.argv[1:]
write = Lake.write_in_turn
def killed(self, works, *, what):
    result = write(self, works, what=what)
    if str(what) == place:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
Lake.write_in_turn = killed
if place == "vacuum":
    Upkeep.vacuum = lambda self: os.kill(os.getpid(), signal.SIGKILL)
Stores(Path(home)).erasure.erase(unit, reason="asked")
"""


@pytest.mark.slow
def test_an_erasure_that_was_killed_anywhere_is_finished_by_the_next_call(stores):
    for number, place in enumerate(KILLED_AFTER):
        fill(stores, unit=f"marked{number}")
        command = [sys.executable, "-c", KILLED, str(stores.home), f"marked{number}", str(place)]
        assert run(command).returncode == -signal.SIGKILL, place
    rows = others(stores)
    assert len(stores.erasure.pending()) == len(KILLED_AFTER)
    reports = stores.erasure.finish()
    assert [report.is_done for report in reports] == [True] * len(KILLED_AFTER), reports
    assert {report.parts[0].removed["requests"] for report in reports} == {18}, "what was taken out before the kill is counted"
    assert places_of_mark(stores) == NOWHERE
    assert others(stores) == rows


FINISHED = """
import json, sys
from datetime import timedelta
from pathlib import Path
from tests.observability.erasing import Stores
stores = Stores(Path(sys.argv[1]), grace=timedelta(minutes=int(sys.argv[2])))
print(json.dumps([[report.is_done, report.until is not None] for report in stores.erasure.finish()]))
stores.close()
"""


def finished(stores, *, grace_minutes: int) -> list[list[bool]]:
    """Of each erasure whether it is done and whether it waits, as the next command finds it: in a process of its own."""
    command = [sys.executable, "-c", FINISHED, str(stores.home), str(grace_minutes)]
    return json.loads(run(command).stdout)


@pytest.mark.slow
def test_two_erasures_and_a_writer_and_readers_at_once_disturb_nobody(stores):
    fill(stores, unit="marked1")
    fill(stores, unit="marked2")
    stores.upkeep.grace = timedelta(minutes=15)
    faults: list[Exception] = []
    stop = threading.Event()
    volumes = []

    def guarded(work) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except Exception as fault:
                faults.append(fault)
                stop.set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def read() -> None:
        while not stop.wait(0.05):
            volumes.append(stores.metrics.query("volume", app="shop")["volume"].item())

    def read_slowly() -> None:
        def work(connection) -> None:
            sql = "SELECT count(*), count(DISTINCT output) FROM lake.requests"
            while not stop.wait(0.05):
                connection.execute(sql).fetchone()

        stores.lake.read(work)

    def write() -> None:
        n = 1000
        while not stop.wait(0.05):
            n += 1
            stores.logs.record(record_of("anna", n))
            stores.logs.flush()

    threads = [guarded(read), guarded(read_slowly), guarded(write)]
    script = (
        "import sys; from pathlib import Path; from datetime import timedelta; from tests.observability.erasing import Stores\n"
        "stores = Stores(Path(sys.argv[1]), grace=timedelta(minutes=15)); stores.erasure.erase(sys.argv[2], reason='asked'); stores.close()"
    )
    erasing = [Forked([sys.executable, "-c", script, str(stores.home), unit]) for unit in ("marked1", "marked2")]
    codes = [process.wait(250) for process in erasing]
    stop.set()
    for thread in threads:
        thread.join()
    assert (codes, faults) == ([0, 0], [])
    assert volumes
    assert places_of_mark(stores)["lake"], "files are kept for those who may still read them"
    assert finished(stores, grace_minutes=15) == [[False, True]] * 2
    finished(stores, grace_minutes=0)
    assert [is_done for is_done, _ in finished(stores, grace_minutes=0)] == [True] * 2
    assert places_of_mark(stores) == NOWHERE
    n_recorded = 28 * 2 + sum(1 for (key,) in stores.rows("SELECT request_id FROM lake.requests") if key > "anna 1000" and len(key) == 9)
    assert stores.rows("SELECT count(*) FROM lake.requests") == [(n_recorded,)]


def test_a_unit_that_nobody_knows_is_recorded_and_costs_no_snapshot(stores):
    fill(stores, flushes=2)
    snapshots = stores.rows("SELECT snapshot_id FROM ducklake_snapshots('lake')")
    report = stores.erasure.erase("nobody", reason="asked by nobody, as NOBODY says")
    assert (report.is_done, report.n_removed) == (True, 0)
    assert {*snapshots} <= {*stores.rows("SELECT snapshot_id FROM ducklake_snapshots('lake')")}
    with stores.ledger.read() as connection:
        entries = tail(connection, 9)
    assert [(entry.act, entry.subject) for entry in entries] == [("erase", hash_of("nobody")), ("erase.done", hash_of("nobody"))]
    assert entries[0].detail["reason"] == "asked by the unit, as the unit says"
    assert (stores.erasure.pending(), stores.erasure.finish()) == ((), ())


@pytest.mark.parametrize(("unit", "reason"), [("", "why"), (" ", "why"), ("marked", ""), ("marked", "  ")])
def test_an_erasure_without_a_unit_or_a_reason_is_refused(stores, unit, reason):
    with pytest.raises(UsageError):
        stores.erasure.erase(unit, reason=reason)
    assert stores.erasure.pending() == ()


def test_outcomes_of_a_session_that_others_took_part_in_are_left(stores):
    shared = record_of("marked", 1, session_id="a shared session")
    foreign = record_of("anna", 1, session_id="a shared session")
    event = {"app": "shop", "outcome_id": "shared", "kpi": "order", "value": 1.0, "session_id": "a shared session", "ts": BEGAN}
    stores.logs.record({**shared, "outcomes": [*shared["outcomes"], event]})
    stores.logs.record(foreign)
    report = stores.erasure.erase("marked", reason="asked")
    assert report.parts[0].left == "1 outcomes that name only a session in which other units took part"
    assert stores.rows("SELECT count(*) FROM lake.outcomes WHERE outcome_id = 'shared'") == [(1,)]


def test_evidence_of_other_units_stays_true_and_of_the_erased_one_says_why_not(stores):
    fill(stores, flushes=2)
    stores.logs.record(record_of("bert", 500, bundle="shop@2"))
    stores.logs.flush()
    of_others = stores.metrics.measure("volume", app="shop", bundle="shop@2")
    of_unit = stores.metrics.measure("volume", app="shop", bundle="shop@1")
    stores.erasure.erase("marked", reason="asked")
    assert (stores.metrics.verify(of_others), stores.metrics.verify(of_unit)) == (SAME, ERASED)


def test_what_waits_for_people_goes_too(stores):
    stores.logs.record(record_of("anna", 1))
    stores.logs.flush()
    with stores.ledger.write() as act:
        for n, unit in enumerate(("marked", "anna")):
            texts = {
                "app": "shop",
                "request_id": MARK if unit == "marked" else "r",
                "workflow": "w",
                "kind": "answer",
                "mode": "hold",
                "state": "open",
            }
            moments = dict.fromkeys(("created_at", "due_at", "expires_at"), BEGAN)
            row = {**texts, **moments, "handoff_id": f"h{n}", "unit_hash": hash_of(unit), "signals": [], "attempts": 0, "version": 1}
            act.connection.execute(handoffs.insert().values(row))
    assert places_of_mark(stores)["ledger"]
    report = stores.erasure.erase("marked", reason="asked")
    assert (report.parts[2].store, report.parts[2].removed) == ("handoffs", {"rows": 1})
    assert places_of_mark(stores) == NOWHERE


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.booleans())), st.dictionaries(st.sampled_from("abc"), st.integers(0, 5))
)
def test_late_rows_are_dropped_by_unit_and_time_together_with_what_names_them(made, erased):
    at = [BEGAN + timedelta(microseconds=moment) for _, moment, _ in made]
    requests = [
        {"app": "shop", "request_id": f"r{n}", "ts_start": at[n], "unit_hash": unit if has_unit else None}
        for n, (unit, _, has_unit) in enumerate(made)
    ]
    scores = [{**row, "score_id": row["request_id"], "name": "x", "ts": row["ts_start"]} for row in requests]
    for row in scores:
        del row["unit_hash"], row["ts_start"]
    tables = {"requests": arrow_table("requests", requests), "scores": arrow_table("scores", scores)} if made else {}
    us = {unit: int(BEGAN.timestamp()) * 10**6 + moment for unit, moment in erased.items()}
    kept = {f"r{n}" for n, (unit, moment, has_unit) in enumerate(made) if not (has_unit and moment <= erased.get(unit, -1))}
    for arrow in left_after(tables, us).values():
        assert isinstance(arrow, pa.Table)
        assert set(arrow["request_id"].to_pylist()) == kept
