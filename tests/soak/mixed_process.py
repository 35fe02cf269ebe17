"""One of the processes of the mixed soak: writes, reads, keeps and erases, as chance has it: `python -m tests.soak.mixed_process …`."""

from __future__ import annotations

import random
import sys
import time
from collections import deque
from datetime import timedelta
from pathlib import Path

from tests.observability.erasing import ADMIN, Anybody, Stores, hash_of
from workbench.errors import StoreBusy
from workbench.observability.keeping import BY_ITSELF, Keeper
from workbench.observability.retention import Retention
from workbench.observability.upkeep import Upkeep

GRACE = timedelta(seconds=5)
ORPHAN_AGE = timedelta(seconds=60)
TORN = """SELECT split_part(request_id, '/', 1) || '/' || split_part(request_id, '/', 2) AS record
          FROM lake.requests GROUP BY record HAVING count(*) <> max(split_part(request_id, '/', 4)::INTEGER)"""
"""Records of which a part is seen; the last word of an id says how many rows its record has."""


def open_stores(home: Path, catalog: str) -> Stores:
    return Stores(home, catalog=catalog or None, grace=GRACE, orphan_age=ORPHAN_AGE)


def keeper_of(stores: Stores, grace: timedelta = GRACE) -> Keeper:
    retention = Retention(stores.ledger, stores.lake, authority=Anybody(), author=ADMIN, clock=stores.now, clean=str)
    upkeep = Upkeep(stores.lake, cited=frozenset, grace=grace, retention=grace, orphan_age=ORPHAN_AGE, fewest=1)
    return Keeper(stores.ledger, stores.lake, retention, upkeep, stores.erasure, clock=stores.now)


class Worker:
    """What one process does until it is killed or told to stop. Its journal has a line before each act and one after it."""

    def __init__(self, home: Path, catalog: str, name: str) -> None:
        self._home = home
        self._name = name
        self._rng = random.Random(name)
        self._stores = open_stores(home, catalog)
        self._keeper = keeper_of(self._stores)
        self._journal = (home / f"{name}.journal").open("ab", buffering=0)
        self._n = 0
        self._units: deque[str] = deque()

    def run(self) -> None:
        acts = {self._write: 60, self._read: 25, self._keep: 10, self._erase: 5}
        self._write()
        while not (self._home / "stop").exists():
            (act,) = self._rng.choices([*acts], [*acts.values()])
            try:
                act()
            except Exception as fault:
                self._note(f"fault {act.__name__} {fault!r}")
            time.sleep(0.01)
        self._stores.close()

    def _note(self, line: str) -> None:
        self._journal.write(f"{' '.join(line.split())}\n".encode())

    def _write(self) -> None:
        """A record of one unit: requests, and as many spans. Every other time it goes to the lake at once."""
        i, n = self._n, self._rng.choice([1, 2, 3, 15])
        self._n += 1
        unit = f"{self._name}-{i // 2}"
        keys = [f"{self._name}/{i}/{k}/{n}" for k in range(n)]
        at = self._stores.now()
        common = {"ts_start": at, "status": "ok", "latency_ms": 1.0 + i, "unit_hash": hash_of(unit)}
        rows = {
            "requests": [{"request_id": key, "app": f"app{i % 2}", **common} for key in keys],
            "spans": [{"span_id": key, "request_id": key, "app": f"app{i % 2}", "ts_start": at, "kind": "model"} for key in keys],
        }
        self._note(f"try {i} {n} {unit}")
        self._stores.logs.record(rows)
        self._note(f"ack {i}")
        if i % 2:
            self._units.append(unit)
            self._stores.logs.flush()

    def _read(self) -> None:
        """Twice in one transaction: no record is seen in part, and nothing changes."""

        def look(connection) -> tuple[list[tuple[str]], set[tuple[int, ...]]]:
            counts = "SELECT (SELECT count(*) FROM lake.requests), (SELECT count(*) FROM lake.spans), (SELECT count(*) FROM lake.flushed)"
            seen = {connection.execute(counts).fetchone()}
            torn = connection.execute(TORN).fetchall()
            time.sleep(self._rng.uniform(0, 0.2))
            return torn, seen | {connection.execute(counts).fetchone()}

        torn, seen = self._stores.lake.read(look)
        self._note(f"torn {torn[:3]} {seen}" if torn or len(seen) > 1 else "read")

    def _keep(self) -> None:
        try:
            self._keeper.run(BY_ITSELF)
        except StoreBusy as fault:
            if "keeps it" not in str(fault):
                raise
            self._note("others keep")
        else:
            self._note("kept")

    def _erase(self) -> None:
        if not self._units:
            return
        unit = self._units.popleft()
        self._note(f"erase {unit}")
        self._stores.erasure.erase(unit, reason="soak")
        self._note(f"erased {unit}")


if __name__ == "__main__":
    Worker(Path(sys.argv[1]), sys.argv[2], sys.argv[3]).run()
