"""A ledger on each database, and somebody who writes to it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.ledger.writers import Writer
from tests.postgres import new_database, running_postgres
from workbench.ledger.store import Ledger


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path) -> str:
    """The address of a ledger that does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite"
    return new_database(request.getfixturevalue("postgres_server"))


@pytest.fixture
def clock():
    ticks = iter(range(10_000_000))
    return lambda: datetime(2026, 3, 1, 9, tzinfo=UTC) + timedelta(seconds=next(ticks))


@pytest.fixture
def ledger(url, clock) -> Iterator[Ledger]:
    opened = Ledger.open(url, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def primary() -> Writer:
    return Writer()
