from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.forks import Forked
from tests.ledger.writers import append_many, open_ledger, write_act
from workbench.ledger.audit import verify
from workbench.ledger.tables import audit, settings

ROOT = Path(__file__).resolve().parents[2]


def _state(url: str) -> tuple[int, set[str], set[str]]:
    """Entries in a whole chain, the acts they tell of, and the acts that are stored."""
    ledger = open_ledger(url)
    with ledger.read() as connection:
        report = verify(connection)
        told, stored = set(connection.scalars(select(audit.c.subject))), set(connection.scalars(select(settings.c.name)))
    ledger.close()
    assert report.is_whole, report.reason
    return report.n, told, stored


def _writer(url: str, how: str) -> subprocess.Popen[str]:
    return Forked([sys.executable, "-m", "tests.ledger.writers", url, how], stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.slow
def test_processes_that_open_a_new_ledger_at_once_all_succeed_and_chain_whole(url):
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(append_many, [url] * 3, "abc", [25] * 3))
    n, told, stored = _state(url)
    assert n == sum(done) == len(told) == 75
    assert told == stored


@pytest.mark.slow
def test_a_writer_killed_inside_its_transaction_leaves_no_half_act(url):
    ledger = open_ledger(url)
    write_act(ledger, "before")
    writer = _writer(url, "hang")
    assert writer.stdout.readline() == "inside\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    write_act(ledger, "after")
    ledger.close()
    assert _state(url) == (2, {"before", "after"}, {"before", "after"})


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_chain_and_every_act_it_reported(url):
    moments = random.Random(7)
    for attempt in range(4):
        writer = _writer(url, f"w{attempt}")
        writer.stdout.readline()
        time.sleep(moments.uniform(0, 0.2))
        writer.send_signal(signal.SIGKILL)
        reported = 1 + len(writer.stdout.readlines())
        writer.wait()
        writer.stdout.close()
        n, told, stored = _state(url)
        assert told == stored
        assert n == len(told)
        assert len([name for name in stored if name.startswith(f"w{attempt}-")]) in (reported, reported + 1)
