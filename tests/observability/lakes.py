"""Real lakes and logs for the storage tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from workbench.observability.lake import Lake
from workbench.observability.logs import Logs

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def open_lake(home: Path, *, catalog: str | None = None, lock_wait_s: float = 30.0) -> Lake:
    catalog = catalog or f"sqlite:{home / 'lake' / 'catalog.sqlite'}"
    return Lake.open(catalog=catalog, data=str(home / "lake" / "data"), lock=home / "lake" / "write.lock", lock_wait_s=lock_wait_s)


def open_logs(home: Path, *, lake: Lake | None = None, clock: Callable[[], datetime] | None = None, **more) -> Logs:
    return Logs(lake or open_lake(home), spool_folder=home / "spools", clock=clock or Clock(), **more)


_numbers = itertools.count()


def request(**values):
    return {"request_id": f"r{next(_numbers)}", "app": "shop", "ts_start": NOON, "status": "ok", "latency_ms": 120.0, **values}


def count(lake: Lake, table: str = "requests", where: str = "true") -> int:
    return lake.read(lambda connection: connection.execute(f"SELECT count(*) FROM lake.{table} WHERE {where}").fetchone()[0])
