"""Many rows sealed at once, as Arrow tables: what `sealing.Sealer` does row by row, at a fraction of its cost.

Most texts hold nothing. So a column is looked at as a whole first (`first_look`), and only what is suspected there is redacted one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from workbench.observability.first_look import suspects
from workbench.observability.importers.source import Row, Rows
from workbench.observability.redaction import REDACTION_VERSION
from workbench.observability.sealing import BODIES, NAMES, TEXTS, Sealer, canonical_body, parsed
from workbench.observability.tables import arrow_table

_PROOFS = tuple((name, f"{name}_hmac") for name in BODIES["requests"])


class SealedRows:
    """Rows that are sealed together."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._tables = {name: _Waiting(name) for name in NAMES}
        self.characters = 0
        """Bytes of text that the rows keep, before redaction."""

    def add(self, rows: Rows, *, at: int) -> None:
        """Take the rows of the record with this number. They are changed.

        Raises:
            RecordRefused: when a body is nested too deeply; nothing of the record is taken.
        """
        request = rows.requests[0]
        unit = request.pop("unit", None)
        bodies = _written(request, BODIES["requests"])
        of_spans = [_written(span, BODIES["spans"], is_text=True) for span in rows.spans]
        if unit is not None:
            request["unit_hash"] = self._sealer.unit_hash(unit)
        for name, proof in _PROOFS:
            raw = request.get(name)
            if raw is not None:
                request[proof] = self._sealer.proof(raw)
        request["redaction_version"] = REDACTION_VERSION
        self._take("requests", request, bodies, unit, at)
        for span, its in zip(rows.spans, of_spans, strict=True):
            self._take("spans", span, its, unit, at)
        for score in rows.scores:
            self._take("scores", score, (), unit, at)

    def tables(self) -> dict[str, pa.Table]:
        """Log table to sealed rows, each with its record's number as `seq`; tables without rows are left out."""
        return {name: self._sealed(waiting) for name, waiting in self._tables.items() if waiting.rows}

    def _take(self, table: str, row: Row, bodies: Sequence[Any], unit: str | None, at: int) -> None:
        row["seq"] = at
        waiting = self._tables[table]
        waiting.rows.append(row)
        waiting.bodies.append(bodies)
        waiting.units.append(unit)
        for name in BODIES[table]:
            self.characters += len(row.get(name) or ())

    def _sealed(self, waiting: _Waiting) -> pa.Table:
        arrow = arrow_table(waiting.table, waiting.rows)
        for name, places in _suspected(arrow, (*NAMES[waiting.table], *TEXTS[waiting.table], *BODIES[waiting.table])).items():
            texts = arrow.column(name).to_pylist()
            for place in places:
                texts[place] = self._redacted(waiting, name, place, texts[place])
            arrow = arrow.set_column(arrow.column_names.index(name), name, pa.array(texts, pa.string()))
        return arrow

    def _redacted(self, waiting: _Waiting, name: str, place: int, text: str) -> str:
        redactor, unit = self._sealer.redactor, waiting.units[place]
        if name in BODIES[waiting.table]:
            return redactor.json_text(waiting.bodies[place][BODIES[waiting.table].index(name)], unit, raw=text.encode())
        return redactor.text(text, unit) if name in TEXTS[waiting.table] else redactor.identifier(text)


class _Waiting:
    """Rows of one table that are not sealed yet."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.rows: list[Row] = []
        self.units: list[str | None] = []
        self.bodies: list[Sequence[Any]] = []
        """Of each row the values of `BODIES`; in the row itself stands their JSON text."""


def _written(row: Row, names: tuple[str, ...], *, is_text: bool = False) -> list[Any]:
    """The bodies of a row as values, while their canonical JSON takes their place."""
    bodies = []
    for name in names:
        value = row.get(name)
        if value is not None:
            value = parsed(value) if is_text else value
            row[name] = canonical_body(value)
        bodies.append(value)
    return bodies


def _suspected(arrow: pa.Table, names: Sequence[str]) -> dict[str, list[int]]:
    """Column to the places of its texts in which something may be found. They are looked at as one column: each look has its price."""
    columns = {name: arrow.column(name).combine_chunks() for name in names if arrow.column(name).null_count < arrow.num_rows}
    found: dict[str, list[int]] = {}
    if columns:
        for place in suspects(pa.concat_arrays(columns.values())):
            column, row = divmod(place, arrow.num_rows)
            found.setdefault(tuple(columns)[column], []).append(row)
    return found
