"""Sealed rows on their way into the lake, and the tables they stand in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

CHUNK_ROWS = 100_000
"""Requests in one transaction, at most: each transaction writes a file for every app and day that it touches."""
_CHUNK_SPANS = 200_000
_CHUNK_CHARACTERS = 64_000_000

Tables = Mapping[str, pa.Table]
"""Log table to rows. `seq` is the number of the record that a row comes from."""


class Chunk:
    """Rows that wait for their transaction."""

    def __init__(self) -> None:
        self._parts: dict[str, list[pa.Table]] = {}
        self._characters = 0
        self.has_unknown_bundle = False
        """A record was refused that can be stored once its bundle is registered."""

    @property
    def is_full(self) -> bool:
        n_rows = self._n_rows
        return n_rows("requests") >= CHUNK_ROWS or n_rows("spans") >= _CHUNK_SPANS or self._characters >= _CHUNK_CHARACTERS

    def add(self, tables: Tables, *, characters: int) -> None:
        self._characters += characters
        for name, table in tables.items():
            if table.num_rows:
                self._parts.setdefault(name, []).append(table)

    def tables(self) -> Tables:
        """What was added; tables without rows are left out."""
        return {name: pa.concat_tables(parts) for name, parts in self._parts.items()}

    def _n_rows(self, table: str) -> int:
        return sum(part.num_rows for part in self._parts.get(table, ()))


def without(tables: Tables, numbers: Collection[int]) -> Tables:
    """The tables without the rows of the records with these numbers."""
    if not numbers:
        return tables
    gone = pa.array(sorted(numbers), pa.int64())
    return {name: table.filter(pc.invert(pc.is_in(table["seq"], gone))) for name, table in tables.items()}


def with_bundles(tables: Tables, bundles: Sequence[str | None]) -> Tables:
    """The tables with a bundle for each of the requests, which their spans have too."""
    bundle_of = dict(zip(tables["requests"]["seq"].to_pylist(), bundles, strict=True))
    return {name: _with_bundle(table, bundle_of) if "bundle" in table.column_names else table for name, table in tables.items()}


def _with_bundle(table: pa.Table, bundle_of: Mapping[int, str | None]) -> pa.Table:
    bundles = pa.array([bundle_of[number] for number in table["seq"].to_pylist()], pa.string())
    return table.set_column(table.column_names.index("bundle"), "bundle", bundles)
