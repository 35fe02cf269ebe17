"""Real lakes and logs for the storage tests: in a folder, or, where the variable TEST_SHARED_STORES names them, on servers.

The variable holds JSON: `{"postgres": URL, "objects": URL}`. A folder then stands for a database and a prefix of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from tests.objects import BUCKET, objects, remove
from tests.postgres import named_database
from workbench.observability.lake import Lake
from workbench.observability.logs import Logs

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

SHARED: dict[str, str] = json.loads(os.environ.get("TEST_SHARED_STORES", "{}"))
"""The servers that stand for folders; empty where none do."""
about_files = pytest.mark.skipif(bool(SHARED), reason="is about files of this machine, and the stores are on servers")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def open_lake(home: Path, *, catalog: str | None = None, lock_wait_s: float = 30.0) -> Lake:
    return Lake.open(catalog=catalog or catalog_of(home), data=data_of(home), lock=home / "lake" / "write.lock", lock_wait_s=lock_wait_s)


def catalog_of(home: Path) -> str:
    return f"postgres:{_database_of(home)}" if SHARED else f"sqlite:{home / 'lake' / 'catalog.sqlite'}"


def ledger_of(home: Path) -> str:
    return _database_of(home) if SHARED else f"sqlite:///{home / 'ledger.sqlite'}"


def data_of(home: Path) -> str:
    return f"s3://{BUCKET}/{_name_of(home)}" if SHARED else str(home / "lake" / "data")


def stored_files(home: Path) -> dict[str, bytes]:
    """The data's files as they are stored, by their path below it."""
    if SHARED:
        return {key.removeprefix(_name_of(home)): content for key, content in objects(SHARED["objects"], f"{_name_of(home)}/").items()}
    data = home / "lake" / "data"
    return {f"/{path.relative_to(data)}": path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}


def remove_stored(home: Path, name: str) -> None:
    """Take away one of `stored_files`."""
    if SHARED:
        remove(SHARED["objects"], f"{_name_of(home)}{name}")
    else:
        (home / "lake" / "data" / name.removeprefix("/")).unlink()


def _name_of(home: Path) -> str:
    return f"t_{hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:16]}"


@cache
def _database_of(home: Path) -> str:
    return named_database(SHARED["postgres"], _name_of(home))


def open_logs(home: Path, *, lake: Lake | None = None, clock: Callable[[], datetime] | None = None, **more) -> Logs:
    return Logs(lake or open_lake(home), spool_folder=home / "spools", clock=clock or Clock(), **more)


_numbers = itertools.count()


def request(**values):
    return {"request_id": f"r{next(_numbers)}", "app": "shop", "ts_start": NOON, "status": "ok", "latency_ms": 120.0, **values}


def count(lake: Lake, table: str = "requests", where: str = "true") -> int:
    return lake.read(lambda connection: connection.execute(f"SELECT count(*) FROM lake.{table} WHERE {where}").fetchone()[0])
