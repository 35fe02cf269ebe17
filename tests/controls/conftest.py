"""A workspace with one released bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controls.tiny import NOW, Model, Tape, put_route, register
from workbench.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(tmp_path / "home", clock=lambda: NOW) as opened:
        yield opened


@pytest.fixture
def released(ws: Workspace) -> Workspace:
    """The workspace with bundle v1 on all of the traffic."""
    put_route(ws, stable=register(ws, "v1").bundle_id)
    return ws


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def tape() -> Tape:
    return Tape()
