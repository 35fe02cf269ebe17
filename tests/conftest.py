"""What every test gets: no workspace of the person who runs it, and no network beyond this machine."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings

from tests.templates import Templates, copied, made_anew
from tests.wheels import build_wheel

DUCKDB_THREADS = "SLURM_CPUS_ON_NODE"
"""The variable that tells DuckDB how many threads it has, here and in the processes that tests start."""
os.environ[DUCKDB_THREADS] = "1"  # on the small lakes of tests more threads spend a third of the time on each other
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # no test asserts how fast this machine is


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_patience, reverse=True)  # the slowest first, so that no worker ends alone with one


def pytest_collection_finish() -> None:
    gc.freeze()  # thousands of collected tests stay; looking through them again and again is a twentieth of all work


def _patience(item: pytest.Item) -> float:
    """Seconds after which the test is given up; 0 for a quick one."""
    if item.get_closest_marker("slow") is None:
        return 0.0
    given = item.get_closest_marker("timeout")
    return float(given.args[0] if given else item.config.getini("timeout"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session", autouse=True)
def _templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with copied(Templates(tmp_path_factory.mktemp("templates"))):
        yield


@pytest.fixture(scope="session", autouse=True)
def _commands() -> Iterator[None]:
    """The tree of commands is made once a process, as in any process that runs one: making it is most of a short command."""
    made = cache(typer.main.get_command)
    with mock.patch.object(typer.main, "get_command", made), mock.patch.object(typer.testing, "_get_command", made):
        yield


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    """Lakes that are opened in this module work on two threads, whose parts come to an end in whatever order."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(DUCKDB_THREADS, "2")
        yield


@pytest.fixture
def stores_made_anew() -> Iterator[None]:
    """Stores of this test are made as they are elsewhere, and not copied."""
    with made_anew():
        yield


@pytest.fixture(autouse=True)
def _own_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in (
        "WORKBENCH_LEDGER",
        "WORKBENCH_CATALOG",
        "WORKBENCH_DATA",
        "WORKBENCH_SPOOL",
        "WORKBENCH_SPOOL_QUOTA",
        "WORKBENCH_UPKEEP",
        "WORKBENCH_VAULT_KEY",
        "WORKBENCH_VAULT_KEY_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORKBENCH_PERSON", "")  # what `--as` sets in the process is undone after the test
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "workspace"))


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"a test tried to reach {address[0]}; tests stay on this machine")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
