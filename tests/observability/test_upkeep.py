"""Upkeep: nothing that somebody may still read is removed, what evidence cites stays, and small files become few."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.observability.erasing import Stores, record_of
from tests.observability.lakes import SHARED, stored_files
from workbench.observability.upkeep import Upkeep
from workbench.observability.upkeep_plan import LakeState, Snapshot, Step, erasure_plan, given_up, upkeep_plan

pytestmark = pytest.mark.usefixtures("two_threads")  # the log's upkeep works on several threads, as it does in service

NOW = datetime(2026, 3, 1, 0, 5, tzinfo=UTC)
GRACE = timedelta(minutes=15)
snapshots = st.lists(st.integers(0, 30), unique=True).map(
    lambda numbers: tuple(Snapshot(snapshot_id=n, at=NOW - timedelta(minutes=30 - n)) for n in sorted(numbers))
)


def state(waiting: timedelta | None, *, has_deleted_rows: bool = False) -> LakeState:
    newest = None if waiting is None else NOW - waiting
    return LakeState(
        now=NOW,
        snapshots=(),
        n_scheduled=0 if newest is None else 3,
        newest_scheduled=newest,
        has_deleted_rows=has_deleted_rows,
        clean_since=None,
    )


def test_while_given_up_files_may_be_read_a_regular_run_does_nothing():
    plan = upkeep_plan(state(timedelta(minutes=14)), grace=GRACE)
    assert (plan.steps, plan.waits_until) == ((), NOW + timedelta(minutes=1))


@pytest.mark.parametrize(("waiting", "first"), [(None, Step.FLUSH), (GRACE, Step.CLEANUP)])
def test_ripe_files_go_before_anything_else_is_given_up(waiting, first):
    plan = upkeep_plan(state(waiting), grace=GRACE)
    assert (plan.steps[0], plan.waits_until) == (first, None)
    assert plan.steps[-3:] == (Step.MERGE, Step.EXPIRE, Step.ORPHANS)


def test_an_erasure_does_not_wait_to_rewrite_but_to_remove():
    plan = erasure_plan(state(timedelta(0), has_deleted_rows=True), grace=GRACE)
    assert plan.steps == (Step.REWRITE, Step.EXPIRE, Step.ORPHANS)
    assert erasure_plan(state(GRACE), grace=GRACE).steps == (Step.CLEANUP, Step.ORPHANS)


@given(snapshots, st.sets(st.integers(0, 30)), st.integers(0, 40))
def test_what_somebody_may_read_and_what_is_cited_is_never_given_up(there, cited, minutes):
    before = NOW - timedelta(minutes=minutes)
    chosen = given_up(there, cited=cited, before=before)
    assert not cited & {*chosen}
    readers = {began_at(there, minute) for minute in range(31) if NOW - timedelta(minutes=30 - minute) >= before}
    assert not readers & {*chosen}, "a transaction that began since then reads it"
    superseded = {there[i].snapshot_id for i in range(len(there) - 1) if there[i + 1].at < before}
    assert {*chosen} == superseded - cited


def began_at(there, minute: int) -> int | None:
    """The snapshot that a transaction which began in that minute reads."""
    return max((snapshot.snapshot_id for snapshot in there if snapshot.snapshot_id <= minute), default=None)


def test_many_flushes_become_few_files_and_cited_snapshots_stay(tmp_path):
    stores = Stores(tmp_path)
    for n in range(12):
        stores.logs.record({name: rows * 11 for name, rows in record_of("anna", n).items()})
        stores.logs.flush()
        if n == 5:
            evidence = stores.metrics.measure("latency_p95", app="shop", bundle="shop@1")
    upkeep = Upkeep(stores.lake, cited=lambda: {evidence.snapshot}, grace=timedelta(0), retention=timedelta(0), fewest=1)
    n_rows = stores.rows("SELECT count(*) FROM lake.requests")
    n_files = len(stored_files(tmp_path))
    first = upkeep.run()
    assert first.done[Step.EXPIRE] > 10
    assert upkeep.run().done[Step.CLEANUP] > 40
    assert len(stored_files(tmp_path)) < 20 < n_files
    assert stores.rows("SELECT count(*) FROM lake.requests") == n_rows
    assert stores.metrics.verify(evidence) == "SAME"
    assert evidence.snapshot in {number for (number,) in stores.rows("SELECT snapshot_id FROM ducklake_snapshots('lake')")}
    stores.close()


def test_a_transaction_on_an_old_snapshot_keeps_its_rows_however_old_it_is(tmp_path):
    """Giving up a snapshot that is being read makes its rows vanish, so age alone must not decide."""
    stores = Stores(tmp_path, grace=GRACE)
    stores.logs.record({name: rows * 12 for name, rows in record_of("marked", 1).items()})
    stores.logs.flush()
    other = Stores(tmp_path, grace=GRACE)

    sql = "SELECT count(*) FROM lake.requests"
    tries = []

    def read(connection) -> tuple[int]:
        seen = connection.execute(sql).fetchone()
        tries.append(seen)
        if len(tries) == 1:
            other.logs.record({name: rows * 12 for name, rows in record_of("marked", 2).items()})
            other.erasure.erase("marked", reason="asked")
            Upkeep(other.lake, cited=frozenset, grace=GRACE, retention=timedelta(0)).run()
        assert connection.execute(sql).fetchone() == seen
        return seen

    expected = [(12,)] if SHARED else [(12,), (0,)]  # where an open transaction sees what upkeep does, it is asked again
    assert stores.lake.read(read) == expected[-1]
    assert tries == expected
    assert stores.rows("SELECT count(*) FROM lake.requests") == [(0,)]
    other.close()
    stores.close()


def test_a_lake_that_was_never_written_needs_no_upkeep(tmp_path):
    stores = Stores(tmp_path)
    assert stores.upkeep.run().done == {}
    assert not (tmp_path / "lake").exists()
    stores.close()
