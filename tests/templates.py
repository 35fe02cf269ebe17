"""Empty stores, made once a process by the workbench and copied for each test: hundreds of tests do not wait for the same tables.

A test of the making itself takes the fixture `stores_made_anew`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from unittest import mock

import duckdb
from sqlalchemy import Engine

from workbench.ledger import store
from workbench.ledger.store import Ledger
from workbench.observability import engine
from workbench.observability.lake import Lake

_MAKE_CATALOG, _BRING_UP_TO_DATE = engine._make_catalog, store.bring_up_to_date


class Templates:
    """An empty catalogue and an empty ledger, made when they are first needed.

    Args:
        folder: where they are put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _catalog(self) -> Path:
        file = self._folder / "catalog.sqlite"
        with made_anew():
            lake = Lake.open(catalog=f"sqlite:{file}", data=str(self._folder / "log"), lock=self._folder / "lake.lock")
            lake.write(lambda _: None, what="make the template")
            lake.close()
        return file

    @cached_property
    def _ledger(self) -> Path:
        file = self._folder / "ledger.sqlite"
        with made_anew():
            Ledger.open(f"sqlite:///{file}", clock=lambda: datetime.now(UTC)).close()
        return file

    def make_catalog(self, connection: duckdb.DuckDBPyConnection, file: Path) -> None:
        """As the workbench does, and with its tables. The path of the data in it is the template's: each opening names its own."""
        del connection
        made = file.with_name(f"{file.name}.new")
        shutil.copyfile(self._catalog, made)
        made.replace(file)

    def bring_up_to_date(self, opened: Engine, place: str) -> None:
        """As the workbench does; a ledger in a file that is not there yet begins as a copy."""
        file = Path(place)
        if opened.dialect.name == "sqlite" and file.parent.is_dir() and not file.exists():
            with contextlib.suppress(OSError):  # the workbench says what is wrong with the place
                shutil.copyfile(self._ledger, file)
        _BRING_UP_TO_DATE(opened, place)


@contextlib.contextmanager
def copied(templates: Templates) -> Iterator[None]:
    """In the block each new store begins as a copy."""
    with (
        mock.patch.object(engine, "_make_catalog", templates.make_catalog),
        mock.patch.object(store, "bring_up_to_date", templates.bring_up_to_date),
    ):
        yield


@contextlib.contextmanager
def made_anew() -> Iterator[None]:
    """In the block each new store is made as it is elsewhere."""
    with mock.patch.object(engine, "_make_catalog", _MAKE_CATALOG), mock.patch.object(store, "bring_up_to_date", _BRING_UP_TO_DATE):
        yield
