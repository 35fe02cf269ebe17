"""Records that must be stored: a log that refuses or hangs stops answers, and nothing piles up behind it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from datetime import timedelta

import orjson
import pytest

from tests.controls.tiny import NOW
from workbench.controls.journal import Journal
from workbench.errors import RequestRefused, StoreError, UsageError
from workbench.observability.gaps import Gap

ROW = {"requests": [{"request_id": "r1", "app": "support", "ts_start": NOW}]}
DISK_FULL = StoreError("spool", seen="could not be written: disk full")


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def journal(tape, now):
    return Journal(tape, wait_s=0.05, monotonic=lambda: now[0])


def test_a_committed_record_is_in_the_log(journal, tape):
    asyncio.run(journal.commit(ROW))
    assert tape.batches == [ROW]
    assert journal.fault is None


def test_a_refused_record_refuses_the_call_and_is_forgotten_after_the_next_success(journal, tape):
    tape.faults = [DISK_FULL]
    with pytest.raises(RequestRefused, match="could not be stored") as refused:
        asyncio.run(journal.commit(ROW))
    assert (refused.value.code, refused.value.http_status) == ("audit_unavailable", 503)
    assert "disk full" in journal.fault
    asyncio.run(journal.commit(ROW))
    assert journal.fault is None


def test_an_old_failure_says_nothing_about_now(journal, tape, now):
    tape.faults = [DISK_FULL]
    with pytest.raises(RequestRefused):
        asyncio.run(journal.commit(ROW))
    now[0] += 10
    assert journal.fault is None


def test_a_log_that_cannot_even_take_the_rows_refuses_the_call(journal, tape, monkeypatch):
    def closed(_rows):
        raise DISK_FULL

    monkeypatch.setattr(tape, "submit", closed)
    with pytest.raises(RequestRefused):
        asyncio.run(journal.commit(ROW))
    journal.leave(ROW)
    assert "disk full" in journal.fault


def test_a_row_that_does_not_fit_is_our_mistake_not_the_disks(journal):
    wrong = {"requests": [{"request_id": "r1"}]}
    for store in (lambda: asyncio.run(journal.commit(wrong)), lambda: journal.leave(wrong)):
        with pytest.raises(UsageError):
            store()
    assert journal.fault is None


def test_a_stuck_log_refuses_at_once_until_it_moves_again(journal, tape, now):
    tape.is_stuck = True
    with pytest.raises(RequestRefused, match="no commit within"):
        asyncio.run(journal.commit(ROW))
    now[0] += 1000
    with pytest.raises(RequestRefused, match="still being written"):
        asyncio.run(journal.commit(ROW))
    journal.leave(ROW)
    assert len(tape.pending) == 1, "nothing may queue behind a stuck commit"
    assert journal.fault
    tape.pending[0].set_result(None)
    tape.is_stuck = False
    asyncio.run(journal.commit(ROW))
    assert journal.fault is None


def test_a_failure_of_what_nobody_waits_for_is_noted(journal, tape):
    tape.faults = [DISK_FULL]
    journal.leave(ROW)
    assert "disk full" in journal.fault


def test_a_caller_who_leaves_takes_no_record_back(journal, tape):
    async def leave():
        tape.is_stuck = True
        task = asyncio.create_task(journal.commit(ROW))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not tape.pending[0].cancelled()
        tape.pending[0].set_result(None)
        await asyncio.sleep(0.01)

    asyncio.run(leave())


class Grouped:
    """A log that commits from a thread of its own, many at once."""

    def __init__(self) -> None:
        self.waiting: list[Future[None]] = []
        self.lock = threading.Lock()

    def submit(self, _rows):
        future: Future[None] = Future()
        with self.lock:
            self.waiting.append(future)
        return future

    def commit(self) -> int:
        with self.lock:
            group, self.waiting = self.waiting, []
        for future in group:
            future.set_result(None)
        return len(group)


def test_every_waiter_of_every_loop_is_woken():
    log, ended = Grouped(), threading.Event()
    journal = Journal(log, wait_s=20)

    def write():
        while not ended.is_set():
            log.commit()

    async def many():
        async def some():
            for _ in range(50):
                await journal.commit(ROW)

        await asyncio.gather(*(some() for _ in range(20)))

    writer = threading.Thread(target=write)
    writer.start()
    loops = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join()
    ended.set()
    writer.join()
    assert journal.fault is None


def test_a_commit_that_ends_after_its_loop_harms_nobody():
    log = Grouped()
    journal = Journal(log, wait_s=20)

    async def leave():
        task = asyncio.create_task(journal.commit(ROW))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    assert log.commit() == 1


START = {"requests": [{"request_id": "r1", "app": "support", "ts_start": NOW, "is_final": False}]}
END = {"requests": [{"request_id": "r1", "app": "support", "ts_start": NOW, "is_final": True, "ts_end": NOW + timedelta(seconds=2)}]}
ONE_CALL = Gap(app="support", n=2, since=NOW, until=NOW + timedelta(seconds=2))


def counted(row):
    return orjson.loads(row["attributes"])["records"]


@pytest.fixture
def lenient(tape, now):
    return Journal(tape, may_go_on=lambda app: app == "support", wait_s=0.05, monotonic=lambda: now[0])


def test_a_call_that_may_goes_on_and_its_gap_is_written_once_the_log_works_again(lenient, tape):
    tape.faults = [DISK_FULL, DISK_FULL]
    asyncio.run(lenient.commit(START))
    asyncio.run(lenient.commit(END))
    assert lenient.gaps == (ONE_CALL,)
    assert "disk full" in lenient.fault
    assert tape.batches == []
    asyncio.run(lenient.commit(ROW))
    stored, gap = tape.batches
    assert stored == ROW
    assert [(row["app"], row["error_type"], row["ts_start"], row["duration_ms"], counted(row)) for row in gap["spans"]] == [
        ("support", "audit_gap", NOW, 2000.0, 2)
    ]
    asyncio.run(lenient.commit(ROW))
    assert len(tape.batches) == 3, "it is written once"
    assert lenient.gaps == (ONE_CALL,), "and shown as long as the process lives"


def test_a_gap_that_could_not_be_written_is_written_later_with_what_came_since(lenient, tape):
    tape.faults = [DISK_FULL, None, DISK_FULL, DISK_FULL]
    asyncio.run(lenient.commit(START))
    asyncio.run(lenient.commit(ROW))
    asyncio.run(lenient.commit(END))
    assert [set(batch) for batch in tape.batches] == [{"requests"}]
    asyncio.run(lenient.commit(ROW))
    assert [counted(row) for row in tape.batches[-1]["spans"]] == [2]


def test_a_stuck_log_keeps_nobody_waiting_who_may_go_on(lenient, tape):
    tape.is_stuck = True
    asyncio.run(lenient.commit(START))
    lenient.check("support")
    with pytest.raises(RequestRefused):
        lenient.check("other")
    asyncio.run(lenient.commit(END))
    assert len(tape.pending) == 1, "nothing may queue behind a stuck commit"
    assert [gap.n for gap in lenient.gaps] == [1], "the stuck one may still be stored"
    tape.pending[0].set_exception(DISK_FULL)
    assert lenient.gaps == (ONE_CALL,)


def test_without_leave_the_call_is_refused_and_only_what_happened_is_a_gap(journal, tape):
    tape.faults = [DISK_FULL]
    with pytest.raises(RequestRefused):
        asyncio.run(journal.commit(START))
    assert journal.gaps == (), "the call was refused before anything happened"
    tape.faults = [DISK_FULL, DISK_FULL]
    with pytest.raises(RequestRefused):
        asyncio.run(journal.commit(END))
    journal.leave(END)
    assert [gap.n for gap in journal.gaps] == [2]


def test_what_fails_after_its_caller_left_is_counted(journal, tape):
    async def leave():
        tape.is_stuck = True
        task = asyncio.create_task(journal.commit(END))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    tape.pending[0].set_exception(DISK_FULL)
    assert [gap.n for gap in journal.gaps] == [1]


def test_a_journal_that_closes_writes_its_gap_or_says_it_in_the_process_log(lenient, tape, caplog):
    lenient.close()
    assert tape.batches == []
    tape.faults = [DISK_FULL, DISK_FULL]
    asyncio.run(lenient.commit(START))
    lenient.close()
    assert "could not be written down: support: 1 audit records" in caplog.text
    lenient.close()
    assert [counted(row) for row in tape.batches[0]["spans"]] == [1]
