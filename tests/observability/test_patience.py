"""A wait is over when somebody looked in vain for as long as it lasts; while its process is stopped nobody looks."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from tests.observability.lakes import open_lake
from workbench.errors import StoreBusy
from workbench.observability import patience
from workbench.observability.locks import FileLock
from workbench.observability.patience import LOOK_S, Patience
from workbench.observability.spool import wait_until_committed


@pytest.fixture
def stopped(monkeypatch):
    """A clock that an hour passes on before each look, as in a process that is stopped again and again, and what it does at a look."""
    looks: list[float] = []
    at_look: dict[int, object] = {}

    def clock() -> float:
        looks.append(3600.0 * len(looks))
        at_look.get(len(looks) - 1, int)()
        return looks[-1]

    monkeypatch.setattr(patience, "monotonic", clock)
    return at_look


def test_looks_in_short_succession_count_as_they_last(monkeypatch):
    now = [5.0]
    monkeypatch.setattr(patience, "monotonic", lambda: now[0])
    waits = Patience(1.0)
    for _ in range(3):
        assert waits.look_s == LOOK_S
        now[0] += LOOK_S
        assert not waits.is_over()
    now[0] += LOOK_S / 2
    assert not waits.is_over()
    assert waits.look_s == LOOK_S / 2
    now[0] += LOOK_S / 2
    assert waits.is_over()
    assert waits.look_s == 0


def test_no_patience_is_one_look():
    assert Patience(0).look_s == 0
    assert Patience(0).is_over()


def test_an_hour_between_two_looks_counts_as_a_second(stopped):
    waits = Patience(30)
    assert [waits.is_over() for _ in range(30)] == [False] * 29 + [True]


def test_who_was_stopped_while_waiting_for_a_lock_goes_on_waiting(tmp_path, stopped):
    held, wanted = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert held.try_acquire()
    stopped[5] = held.release
    wanted.acquire(what="write", wait_s=30)
    with pytest.raises(StoreBusy, match="for more than 30 s"):
        held.acquire(what="write", wait_s=30)
    wanted.release()


def test_who_was_stopped_while_another_of_its_threads_wrote_goes_on_waiting(tmp_path, stopped):
    lake = open_lake(tmp_path, lock_wait_s=30)
    lake._mutex.acquire()
    stopped[1] = lake._mutex.release
    assert lake.write(lambda _: "written", what="write") == "written"
    lake.close()


def test_who_was_stopped_while_rows_were_committed_hears_of_them(stopped):
    committed: Future[None] = Future()
    stopped[1] = lambda: threading.Thread(target=committed.set_result, args=[None]).start()
    wait_until_committed(committed)
    assert committed.done()
