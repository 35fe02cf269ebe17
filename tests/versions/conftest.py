"""A whole app folder with one bundle, and a registry that allows what it is told to allow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.postgres import new_database, running_postgres
from tests.versions.folders import Gatekeeper, Person, write_app
from workbench.ledger.store import Ledger
from workbench.versions.service import Versions


@pytest.fixture
def app_dir(tmp_path) -> Path:
    return write_app(tmp_path / "support")


@pytest.fixture
def bundle_dir(app_dir) -> Path:
    return app_dir / "bundles" / "v1"


@pytest.fixture
def gatekeeper() -> Gatekeeper:
    return Gatekeeper()


@pytest.fixture
def clock():
    ticks = iter(range(10_000_000))
    return lambda: datetime(2026, 3, 1, 9, tzinfo=UTC) + timedelta(seconds=next(ticks))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request, tmp_path, clock) -> Iterator[Ledger]:
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/ledger.sqlite" if is_file else new_database(request.getfixturevalue("postgres_server"))
    opened = Ledger.open(url, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def versions(ledger, gatekeeper, clock) -> Versions:
    return Versions(ledger, authority=gatekeeper, author=Person(), clock=clock)
