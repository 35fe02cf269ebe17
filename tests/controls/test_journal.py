"""Records that must be stored: a log that refuses or hangs stops answers, and nothing piles up behind it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from tests.controls.tiny import NOW
from workbench.controls.journal import Journal
from workbench.errors import RequestRefused, StoreError, UsageError

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
