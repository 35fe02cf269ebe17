"""Four processes, each of which writes, reads, keeps the lake and erases units, and each of which may be killed at any moment."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from tests.forks import Forked
from tests.observability.erasing import Stores
from tests.postgres import new_database, running_postgres
from tests.soak.mixed_process import keeper_of, open_stores
from workbench.observability.keeping import BY_ITSELF

pytestmark = pytest.mark.usefixtures("two_threads")  # the log's upkeep works on several threads, as it does in service

PROCESSES = 4
LEAST_DONE = 30
"""Lines of a process' journal before it may be killed: on a busy machine none would come to anything."""


class Crowd:
    """The processes of one run."""

    def __init__(self, home: Path, catalog: str) -> None:
        self._home = home
        self._catalog = catalog
        self._rng = random.Random(5)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.names: list[str] = []

    def start(self) -> None:
        name = f"p{len(self.names)}"
        command = [sys.executable, "-m", "tests.soak.mixed_process", str(self._home), self._catalog, name]
        self._running[name] = Forked(command)
        self.names.append(name)

    def wait_until_at_work(self) -> None:
        ends = time.monotonic() + 120
        while not all(self.journal(name) for name in self._running):
            assert time.monotonic() < ends, "the processes do not start"
            time.sleep(0.05)

    def kill_one(self) -> bool:
        """Kill and replace one of those that have done a little; False when none has yet."""
        at_work = [name for name in sorted(self._running) if len(self.journal(name)) >= LEAST_DONE]
        if not at_work:
            return False
        process = self._running.pop(self._rng.choice(at_work))
        process.kill()
        process.wait()
        self.start()
        return True

    def stop(self) -> list[int]:
        """Have them end by themselves; their exit codes."""
        (self._home / "stop").touch()
        return [process.wait(120) for process in self._running.values()]

    def end(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def journal(self, name: str) -> list[list[str]]:
        path = self._home / f"{name}.journal"
        return [line.split(" ") for line in path.read_text().splitlines()] if path.exists() else []


def soak(home: Path, catalog: str, *, seconds: float, pause: tuple[float, float]) -> Counter[str]:
    """What happened, after everything was checked."""
    open_stores(home, catalog).close()
    crowd, rng, totals = Crowd(home, catalog), random.Random(7), Counter[str]()
    try:
        for _ in range(PROCESSES):
            crowd.start()
        crowd.wait_until_at_work()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(rng.uniform(*pause))
            totals["killed"] += crowd.kill_one()
        assert set(crowd.stop()) == {0}
    finally:
        crowd.end()
    stores = open_stores(home, catalog)
    try:
        return totals + checked(stores, crowd)
    finally:
        stores.close()


def checked(stores: Stores, crowd: Crowd) -> Counter[str]:
    """The counts: every record that was acknowledged is there once and whole, every erased unit is gone, no read was disturbed."""
    totals: Counter[str] = Counter()
    lines = [(name, line) for name in crowd.names for line in crowd.journal(name)]
    assert [line for _, line in lines if line[0] in {"fault", "torn"}] == []
    assert stores.logs.flush(everything=True).faults == ()
    erased = {line[1] for _, line in lines if line[0] == "erase"}
    for unit in erased - {line[1] for _, line in lines if line[0] == "erased"}:
        stores.erasure.erase(unit, reason="soak")  # who was to do it died, perhaps before it was on record
        totals["erasures_cut_off"] += 1
    stored = {
        table: Counter(key for (key,) in stores.rows(f"SELECT {key} FROM lake.{table}"))
        for table, key in (("requests", "request_id"), ("spans", "span_id"))
    }
    assert all(set(rows.values()) <= {1} for rows in stored.values()), "double rows"
    acknowledged = {(name, line[1]) for name, line in lines if line[0] == "ack"}
    expected: Counter[str] = Counter()
    for name, (word, *rest) in lines:
        totals[{"kept": "runs_of_upkeep", "others": "met_another_keeper", "read": "reads", "erased": "units_erased"}.get(word, word)] += 1
        if word == "try":
            i, n, unit = rest
            found = sum(f"{name}/{i}/{k}/{n}" in stored["requests"] for k in range(int(n)))
            if unit in erased:
                assert found == 0, f"{unit} is erased, and {found} rows of record {i} are there"
            else:
                assert found == int(n) or (found == 0 and (name, i) not in acknowledged), f"{name}: record {i} has {found} of {n} rows"
            expected["rows"] += found
    assert {table: len(rows) for table, rows in stored.items()} == dict.fromkeys(stored, expected["rows"])
    keeper = keeper_of(stores, timedelta(0))
    stores.upkeep.grace = timedelta(0)
    for _ in range(3):
        keeper.run(BY_ITSELF)
    assert {table: len(stores.rows(f"SELECT 1 FROM lake.{table}")) for table in stored} == dict.fromkeys(stored, expected["rows"])
    for name in ("try", "ack", "erase"):
        del totals[name]
    return totals + Counter(processes=len(crowd.names), records=len(acknowledged), rows=expected["rows"])


def run(kind: str, home: Path, *, seconds: float, pause: tuple[float, float]) -> None:
    if kind == "sqlite":
        totals = soak(home, "", seconds=seconds, pause=pause)
    else:
        with running_postgres(home) as url:
            totals = soak(home, f"postgres:{new_database(url)}", seconds=seconds, pause=pause)
    print(f"\nlog lake on {kind}, {seconds:g} s, {PROCESSES} processes that write, read, keep and erase; nothing lost or double, no fault")
    for what, n in totals.items():
        print(f"  {what.replace('_', ' '):<34}{n:>10,}")


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kind", "seconds"), [("sqlite", 600), ("postgres", 600)])
def test_processes_that_do_everything_at_once_and_are_killed_lose_nothing(kind, seconds, tmp_path):
    run(kind, tmp_path, seconds=seconds, pause=(0.5, 4.0))


@pytest.mark.slow
def test_processes_that_do_everything_at_once_and_are_killed_lose_nothing_in_short(tmp_path):
    run("sqlite", tmp_path, seconds=12, pause=(1.5, 3.0))
