from __future__ import annotations

import os
import sys
import threading

import pytest

from tests.ledger.writers import open_ledger, raw, write_act
from workbench.errors import StoreError
from workbench.ledger import forking
from workbench.ledger.audit import verify
from workbench.ledger.forking import at_work, in_each_child


def in_child(act) -> int:
    """The process id of a forked child that does `act` and exits with 0, or with 1 when it fails."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException as fault:
            print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def acts(url: str) -> set[str]:
    return {subject for (subject,) in raw(url, "SELECT subject FROM audit")}


def test_parent_and_child_write_side_by_side(url):
    ledger = open_ledger(url)
    write_act(ledger, "before")
    child = in_child(lambda: [write_act(ledger, f"child {i}") for i in range(20)])
    for i in range(20):
        write_act(ledger, f"parent {i}")
    assert exit_code(child) == 0
    with ledger.read() as connection:
        assert (verify(connection).is_whole, verify(connection).n) == (True, 41)
    ledger.close()


def test_what_a_child_writes_after_its_parent_closed_is_kept(url):
    """SQLite removes the log of writes with the last connection; the child's must not pass for closed."""
    ledger = open_ledger(url)
    write_act(ledger, "before")
    wrote, closed = os.pipe(), os.pipe()

    def write_around_the_close():
        write_act(ledger, "child, first")
        os.write(wrote[1], b".")
        os.read(closed[0], 1)
        write_act(ledger, "child, then")

    child = in_child(write_around_the_close)
    os.read(wrote[0], 1)
    ledger.close()
    os.write(closed[1], b".")
    assert exit_code(child) == 0
    for end in (*wrote, *closed):
        os.close(end)
    assert acts(url) == {"before", "child, first", "child, then"}


def test_a_fork_waits_until_no_other_thread_is_at_work():
    is_inside, ended = threading.Event(), []

    def work():
        with at_work():
            is_inside.set()
            for _ in range(50):
                threading.Event().wait(0.002)
            ended.append("work")

    thread = threading.Thread(target=work)
    thread.start()
    is_inside.wait(10)
    child = in_child(lambda: ended.index("work"))
    thread.join()
    assert exit_code(child) == 0


def test_a_child_that_is_forked_inside_a_transaction_is_refused(url):
    ledger = open_ledger(url)

    def is_refused():
        with pytest.raises(StoreError, match=r"inside a transaction.*spawn"):
            write_act(ledger, "child")

    with ledger.write():
        child = in_child(is_refused)
    assert exit_code(child) == 0
    write_act(ledger, "parent")
    assert acts(url) == {"parent"}
    ledger.close()


def test_a_fork_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(forking, "_LONGEST_WAIT_S", 0.01)
    is_inside, go_on = threading.Event(), threading.Event()

    def work():
        with at_work():
            is_inside.set()
            go_on.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    is_inside.wait(10)

    def is_refused():
        with pytest.raises(StoreError, match="inside a transaction"), at_work():
            pass

    child = in_child(is_refused)
    go_on.set()
    thread.join()
    assert exit_code(child) == 0


def test_who_is_gone_is_not_started_anew():
    class Owner:
        pass

    owner, started = Owner(), []
    in_each_child(owner, started.append)
    del owner
    child = in_child(lambda: started[0])
    assert exit_code(child) == 1
