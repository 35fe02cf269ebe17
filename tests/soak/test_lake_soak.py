"""Four writers and two readers; writers are killed and restarted, one is stopped, drained by others and continued."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from tests.forks import Forked
from tests.postgres import running_postgres
from tests.soak.lake_processes import GRACE_S, now, open_lake, open_logs
from workbench.observability.lake import Lake
from workbench.observability.locks import FileLock

pytestmark = pytest.mark.usefixtures("two_threads")  # the log's upkeep works on several threads, as it does in service

WRITERS, READERS = 4, 2


@dataclass
class Town:
    """The processes of one run."""

    home: Path
    catalog: str
    rng: random.Random
    numbers: itertools.count = field(default_factory=itertools.count)
    writers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    readers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    n_killed: int = 0

    def start(self, role: str) -> str:
        name = f"{role}{next(self.numbers)}"
        command = [sys.executable, "-m", "tests.soak.lake_processes", role, str(self.home), self.catalog, name]
        (self.writers if role == "writer" else self.readers)[name] = Forked(command)
        if role == "writer":
            self.names.append(name)
        return name

    def journal(self, name: str) -> list[str]:
        path = self.home / f"{name}.journal"
        return path.read_text().splitlines() if path.exists() else []

    def has_written(self, name: str) -> bool:
        return (self.home / f"{name}.spool").exists()

    def kill_one(self) -> None:
        name = self.rng.choice(sorted(self.writers))
        if not self.has_written(name) and self.rng.random() < 0.8:
            return
        process = self.writers.pop(name)
        process.kill()
        process.wait()
        self.n_killed += 1
        self.start("writer")

    def end(self) -> None:
        for process in (*self.writers.values(), *self.readers.values()):
            process.kill()
            process.wait()


def _stopped_writer(town: Town) -> tuple[str, datetime]:
    """A writer that is stopped and does not hold the lake's lock (holding it, it would stop everybody), and since when."""
    for _ in range(100):
        name = town.rng.choice([name for name in sorted(town.writers) if town.has_written(name)] or sorted(town.writers))
        town.writers[name].send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, town.writers[name].pid, os.WSTOPPED | os.WNOWAIT)
        since = now()
        if town.has_written(name) and _can_be_had(town.home / "lake" / "write.lock", 2):
            return name, since
        town.writers[name].send_signal(signal.SIGCONT)
        time.sleep(0.3)
    raise AssertionError("no writer could be stopped outside the lock")


def _can_be_had(path: Path, seconds: float) -> bool:
    lock = FileLock(path)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if lock.try_acquire("probe"):
            lock.release()
            return True
        time.sleep(0.002)
    return False


def _drained_by_others(town: Town, name: str, since: datetime, seconds: float) -> bool:
    """Whether somebody stored rows of the stopped writer's spool after `since`, waiting for it."""
    lake = open_lake(town.home, town.catalog)
    spool = (town.home / f"{name}.spool").read_text()
    sql = f"SELECT count(*) FROM lake.flushed WHERE spool_id = '{spool}' AND flushed_at > TIMESTAMPTZ '{since.isoformat()}'"
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends:
            if lake.read(lambda connection: connection.execute(sql).fetchone())[0]:
                return True
            time.sleep(0.1)
        return False
    finally:
        lake.close()


def _run(town: Town, seconds: float) -> None:
    for _ in range(READERS):
        town.start("reader")
    for _ in range(WRITERS):
        town.start("writer")
    begins = time.monotonic()
    while not all(town.has_written(name) for name in town.writers) or not (town.home / "lake" / "write.lock").exists():
        assert time.monotonic() - begins < 120, "the writers do not start"
        time.sleep(0.1)
    ends = time.monotonic() + seconds
    has_stopped = False
    while time.monotonic() < ends:
        time.sleep(town.rng.uniform(0.3, 1.5))
        town.kill_one()
        if not has_stopped and time.monotonic() > ends - seconds * 0.7:
            has_stopped = True
            name, since = _stopped_writer(town)
            assert _drained_by_others(town, name, since, GRACE_S + 60), f"nobody drained the stopped {name}"
            town.writers[name].send_signal(signal.SIGCONT)
            n = len(town.journal(name))
            time.sleep(1.5)
            assert len(town.journal(name)) > n, f"{name} did not go on"
    (town.home / "stop").touch()
    for process in town.readers.values():
        process.wait(60)
    town.end()


def _checked(town: Town) -> Counter[str]:
    """The counts of the run, after every spool was drained and every row was looked up."""
    lake = open_lake(town.home, town.catalog)
    report = open_logs(town.home, lake).flush()
    assert report.faults == ()
    assert list((town.home / "spools").iterdir()) == []
    totals = Counter(killed=town.n_killed, adopted_at_the_end=len(report.adopted))
    stored = {
        table: _occurrences(lake, table, key) for table, key in (("requests", "request_id"), ("spans", "span_id"), ("scores", "score_id"))
    }
    for table, rows in stored.items():
        assert set(rows.values()) <= {1}, f"double rows in {table}"
        totals[table] = len(rows)
    expected = Counter[str]()
    for name in town.names:
        _check_writer(town, name, stored, totals, expected)
    assert {table: len(rows) for table, rows in stored.items()} == {table: expected[table] for table in stored}
    for name in town.readers:
        lines = Counter(line.split()[0] for line in town.journal(name))
        assert set(lines) == {"read"}, [line for line in town.journal(name) if not line.startswith("read")][:5]
        totals["reads"] += lines["read"]
    totals["batches"] = lake.read(lambda connection: connection.execute("SELECT count(DISTINCT batch_id) FROM lake.flushed").fetchone()[0])
    assert totals["batches"] == lake.read(lambda connection: connection.execute("SELECT max(batch_id) FROM lake.flushed").fetchone()[0])
    lake.close()
    return totals


def _occurrences(lake: Lake, table: str, key: str) -> Counter[str]:
    return lake.read(lambda connection: Counter(row[0] for row in connection.execute(f"SELECT {key} FROM lake.{table}").fetchall()))


def _check_writer(town: Town, name: str, stored: dict[str, Counter[str]], totals: Counter[str], expected: Counter[str]) -> None:
    journal = [line.split(" ", 1) for line in town.journal(name)]
    assert [rest for kind, rest in journal if kind == "fault"] == []
    acknowledged = {int(rest) for kind, rest in journal if kind == "ack"}
    for kind, rest in journal:
        if kind != "try":
            continue
        i, n = map(int, rest.split())
        found = sum(f"{name}/{i}/{k}" in stored["requests"] for k in range(n))
        assert found == n or (found == 0 and i not in acknowledged), f"{name}: record {i} has {found} of {n} rows"
        totals["acknowledged"] += n if i in acknowledged else 0
        totals["stored_without_acknowledgement"] += found if i not in acknowledged else 0
        expected.update(requests=found, spans=found, scores=bool(found))


def _soak(home: Path, catalog: str, seconds: float) -> None:
    town = Town(home=home, catalog=catalog, rng=random.Random(11))
    try:
        _run(town, seconds)
    finally:
        town.end()
    totals = _checked(town)
    print(f"\nlog lake on {catalog.partition(':')[0]}, {seconds:g} s, {WRITERS} writers, {READERS} readers, no row lost, double or torn")
    for what, n in totals.items():
        print(f"  {what.replace('_', ' '):<34}{n:>10,}")


def _soak_on(kind: str, home: Path, seconds: float) -> None:
    if kind == "sqlite":
        _soak(home, f"sqlite:{home / 'lake' / 'catalog.sqlite'}", seconds)
    else:
        with running_postgres(home) as url:
            _soak(home, f"postgres:{url}", seconds)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_killed_stopped_and_continued_writers_lose_nothing(kind, tmp_path):
    _soak_on(kind, tmp_path, 120)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_killed_stopped_and_continued_writers_lose_nothing_in_short(kind, tmp_path):
    _soak_on(kind, tmp_path, 15)
