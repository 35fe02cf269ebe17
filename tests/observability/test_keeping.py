"""The log is kept by one process at a time, a run that dies costs nothing, and how it went is told."""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.forks import run
from tests.observability.erasing import ADMIN, Anybody, Stores, record_of
from tests.observability.lakes import Clock, about_files, open_lake, stored_files
from tests.postgres import new_database, running_postgres
from workbench.errors import StoreBusy, StoreError
from workbench.observability.health import LakeHealth, Partition, State, findings, look, of_orphans, of_retention
from workbench.observability.keeping import BY_ITSELF, Keeper
from workbench.observability.kept import Kept, begun, is_due
from workbench.observability.retention import Retention
from workbench.observability.upkeep import Upkeep
from workbench.observability.upkeep_plan import Step

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERY = timedelta(minutes=5)
GRACE = timedelta(minutes=15)


def keeper_of(stores: Stores, clock=None) -> Keeper:
    retention = Retention(stores.ledger, stores.lake, authority=Anybody(), author=ADMIN, clock=clock or stores.now, clean=str)
    upkeep = Upkeep(stores.lake, cited=frozenset, grace=timedelta(0), retention=timedelta(0))
    return Keeper(stores.ledger, stores.lake, retention, upkeep, stores.erasure, clock=clock or stores.now)


def fill(stores: Stores, n: int = 4) -> None:
    for i in range(n):
        for k in range(12 if i % 2 else 2):
            stores.logs.record(record_of("anna", 100 * i + k))
        stores.logs.flush()


@pytest.fixture
def stores(tmp_path):
    made = Stores(tmp_path)
    yield made
    made.close()


def test_it_is_time_after_the_interval_and_where_the_clock_was_set_back():
    last = Kept(began_at=NOW, by="process 1")
    due = [is_due(last, every=EVERY, now=NOW + timedelta(seconds=s)) for s in (-1, 0, 299, 300)]
    assert due == [True, False, False, True]
    assert is_due(None, every=EVERY, now=NOW)


def test_a_run_is_noted_and_nobody_repeats_it_before_its_time(stores):
    clock = Clock(NOW)
    keeper = keeper_of(stores, clock)
    assert (keeper.run_if_due(BY_ITSELF, every=EVERY), keeper.last()) == (None, None), "a lake that was never written needs nothing"
    fill(stores)
    assert keeper.run_if_due(BY_ITSELF, every=EVERY).upkeep.done[Step.MERGE] > 0
    last = keeper.last()
    assert (last.began_at, last.ended_at, last.succeeded_at, last.fault, last.failures_in_a_row) == (NOW, NOW, NOW, None, 0)
    assert last.done[Step.MERGE] > 0
    assert keeper.run_if_due(BY_ITSELF, every=EVERY) is None
    clock.move(300)
    assert keeper.run_if_due(BY_ITSELF, every=EVERY) is not None


def test_a_fault_is_raised_and_noted(stores, monkeypatch):
    fill(stores, 1)
    keeper = keeper_of(stores)

    def fails(*_args, **_more):
        raise StoreError("log lake", seen="the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Upkeep, "run", fails)
        for _ in range(2):
            with pytest.raises(StoreError):
                keeper.run(BY_ITSELF)
    assert (keeper.last().fault, keeper.last().failures_in_a_row) == ("log lake: the disk is full", 2)
    keeper.run(BY_ITSELF)
    assert (keeper.last().fault, keeper.last().failures_in_a_row) == (None, 0)


@about_files
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_one_process_keeps_a_lake_on_whichever_host(kind, tmp_path):
    with running_postgres(tmp_path) if kind == "postgres" else contextlib.nullcontext() as url:
        catalog = f"postgres:{new_database(url)}" if url else f"sqlite:{tmp_path / 'lake' / 'catalog.sqlite'}"
        first = open_lake(tmp_path, catalog=catalog)
        second = open_lake(tmp_path / "other host" if url else tmp_path, catalog=catalog)
        with first.kept(), pytest.raises(StoreBusy, match="upkeep"), second.kept():
            pass
        with second.kept():
            second.write(lambda c: c.execute("INSERT INTO lake.requests (request_id, app) VALUES ('r', 'shop')"), what="insert")
        first.close()
        second.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.observability.erasing import Stores
from tests.observability.test_keeping import keeper_of
from workbench.observability.keeping import BY_ITSELF
from workbench.observability.lake import Lake
home, place = sys.argv[1:]
write = Lake.write_in_turn
def killed(self, works, *, what):
    def dies(connection):
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, (*works, dies) if str(what) == place else works, what=what)
Lake.write_in_turn = killed
keeper_of(Stores(Path(home))).run(BY_ITSELF)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_at_any_step_costs_nothing_and_the_next_goes_on(stores):
    steps = [Step.FLUSH, Step.MERGE, Step.EXPIRE, Step.ORPHANS]
    for number, step in enumerate(steps):
        fill(stores, 3)
        command = [sys.executable, "-c", KILLED, str(stores.home), str(step)]
        assert run(command).returncode == -signal.SIGKILL, step
        assert keeper_of(stores).last().failures_in_a_row == number + 1
    rows = stores.rows("SELECT request_id, output FROM lake.requests ORDER BY ALL")
    assert len(rows) == 16 * len(steps)
    keeper = keeper_of(stores)
    for _ in range(2):
        keeper.run(BY_ITSELF)
    assert keeper.last().failures_in_a_row == 0
    assert stores.rows("SELECT request_id, output FROM lake.requests ORDER BY ALL") == rows
    assert len([name for name in stored_files(stores.home) if "/requests/" in name]) == 1


def test_a_lake_that_nobody_writes_comes_to_rest(stores):
    fill(stores)
    keeper = keeper_of(stores)
    for _ in range(3):
        keeper.run(BY_ITSELF)
    at_rest = stores.lake.snapshot()
    keeper.run(BY_ITSELF)
    assert stores.lake.snapshot() == at_rest


def test_what_the_catalogue_says_is_told(stores):
    fill(stores)
    health = stores.lake.read(lambda connection: look(connection, now=stores.now()))
    (requests,) = [part for part in health.partitions if part.table == "requests"]
    assert (requests.place, requests.n_files, requests.n_small) == ("shop/2026-03-01", 2, 2)
    assert health.inlined["requests"] == 4
    keeper = keeper_of(stores)
    found = {finding.check: finding for finding in keeper.findings(every=EVERY)}
    assert {check for check, finding in found.items() if finding.state is not State.OK} == {"upkeep"}
    keeper.run(BY_ITSELF)
    found = {finding.check: finding for finding in keeper.findings(every=EVERY)}
    assert {finding.state for finding in (*found.values(), keeper.orphans(), keeper.retention())} == {State.OK}, found


GOOD = LakeHealth(
    seen_at=NOW,
    catalogue_at=NOW,
    partitions=(Partition(table="requests", place="shop/2026-03-01", n_files=3, n_small=2, n_bytes=5 << 20),),
    inlined={"requests": 9},
    n_snapshots=4,
    first_snapshot_at=NOW - timedelta(hours=1),
    last_snapshot_at=NOW,
    n_scheduled=0,
    scheduled_at=None,
)
WELL = Kept(began_at=NOW - EVERY, by="process 1 on a", ended_at=NOW - EVERY + timedelta(seconds=2), succeeded_at=NOW - EVERY)


def judged(health: LakeHealth = GOOD, kept: Kept | None = WELL) -> dict[str, tuple[State, str, str]]:
    found = findings(health, kept, every=EVERY, grace=GRACE)
    return {finding.check: (finding.state, finding.seen, finding.next_step) for finding in found if finding.state is not State.OK}


@pytest.mark.parametrize(
    ("change", "check", "state", "words"),
    [
        ({"partitions": (replace(GOOD.partitions[0], n_files=101),)}, "lake files", State.NOTE, "most in requests shop/2026-03-01: 101"),
        ({"inlined": {"requests": 100_001}}, "rows in the catalogue", State.NOTE, "100,001 of requests"),
        ({"n_scheduled": 3, "scheduled_at": NOW - timedelta(hours=2)}, "given-up files", State.NOTE, "have waited"),
        ({"catalogue_at": NOW + timedelta(seconds=31)}, "clocks", State.BROKEN, "31 s"),
        ({"catalogue_at": NOW - timedelta(seconds=31)}, "clocks", State.BROKEN, "31 s"),
        ({"last_snapshot_at": NOW + timedelta(minutes=2)}, "clocks", State.BROKEN, "120 s"),
    ],
)
def test_each_ailment_is_named_with_what_to_do(change, check, state, words):
    assert judged() == {}
    ((found, (seen_state, seen, step)),) = judged(replace(GOOD, **change)).items()
    assert (found, seen_state) == (check, state)
    assert words in seen
    assert step


def test_upkeep_that_is_late_fails_or_never_was_is_named():
    late = replace(WELL, succeeded_at=NOW - timedelta(minutes=31))
    assert judged(kept=late)["upkeep"][0] is State.NOTE
    assert judged(kept=None)["upkeep"][0] is State.NOTE
    failing = begun(begun(begun(WELL, NOW), NOW), NOW)
    state, seen, _ = judged(kept=replace(failing, fault="the disk is full"))["upkeep"]
    assert state is State.BROKEN
    assert "3 runs in a row did not come to their end: the disk is full" in seen


def test_orphans_and_what_is_older_than_declared_are_named():
    assert (of_orphans(0).state, of_orphans(2).state, of_orphans(2).seen) == (State.OK, State.NOTE, "2")
    assert of_retention(0, 0, n_apps=0).seen == "everything is kept for good"
    assert (of_retention(1, 0, n_apps=0).state, of_retention(1, 5, n_apps=1).state) == (State.OK, State.NOTE)
