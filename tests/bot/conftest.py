"""The company's workspace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bot.office import office
from tests.release.house import Clock
from workbench.workspace import Workspace


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ws(tmp_path, clock) -> Iterator[Workspace]:
    with office(tmp_path / "home", clock=clock) as opened:
        yield opened
