"""A company that releases, on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres import new_database, running_postgres
from tests.release.canary import Live
from tests.release.house import Clock, House, person
from workbench.demo.place import fresh_workspace
from workbench.ledger.store import Ledger
from workbench.workspace import Workspace


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(tmp_path, clock) -> Iterator[House]:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", clock=clock)
    yield House(ledger, tmp_path / "shop", clock)
    ledger.close()


@pytest.fixture
def live(tmp_path, clock: Clock) -> Iterator[Live]:
    with fresh_workspace(tmp_path / "ws"):
        pass
    seconds = [1000.0]
    with Workspace.open(tmp_path / "ws", clock=clock, actor=person("requester"), monotonic=lambda: seconds[0]) as ws:
        house = Live(ws, tmp_path / "shop", clock, seconds)
        house.promoted("v1")
        house.canary("v2")
        yield house


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    """The address of a ledger that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite"
    return new_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def shared_house(url, tmp_path, clock) -> Iterator[House]:
    """The company on a ledger that other processes can open too."""
    ledger = Ledger.open(url, clock=clock)
    yield House(ledger, tmp_path / "shop", clock)
    ledger.close()
