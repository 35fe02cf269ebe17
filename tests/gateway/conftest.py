"""A workspace whose app is in service, on each database where that matters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.place import Place, model, opened_place
from tests.postgres import new_database, running_postgres


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory) -> Iterator[str]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture
def place(request, tmp_path: Path) -> Iterator[Place]:
    """On SQLite, or on the database that an indirect parameter names."""
    is_server = getattr(request, "param", "sqlite") == "postgresql"
    url = new_database(request.getfixturevalue("postgres_server")) if is_server else ""
    with model() as told, opened_place(tmp_path, told, ledger_url=url) as opened:
        yield opened
