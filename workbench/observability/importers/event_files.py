"""Files of scores and outcomes: CSV with a header, or JSON lines; read as events with the fields of `feedback`.

```yaml
# mapping.yaml, for CSV files with names of their own
columns: {kpi: event_type, value: amount, at: created, session_id: visit}
constants: {currency: EUR}
zone: Europe/Berlin
separator: ";"
null_markers: ["", "NULL"]
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import orjson
from pydantic import Field, model_validator

from workbench.errors import RecordRefused, SpecError, UsageError
from workbench.observability.importers import fields, files
from workbench.observability.importers.mapped_csv import header_of, rows_of, zone_of
from workbench.spec.base import Spec
from workbench.spec.loading import load_spec

_NUMBERS = ("value", "sample_probability")


class EventMapping(Spec):
    """Which column of a CSV file is which field."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Field to column; a field that is not named is looked for under its own name."""
    constants: dict[str, str | float] = Field(default_factory=dict)
    """Field to the value that it has in every record."""
    zone: str | None = None
    """Of times that carry none."""
    separator: str = Field(default=",", min_length=1, max_length=1)
    null_markers: tuple[str, ...] = ("",)
    """Cells that mean "no value"."""

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        twice = sorted(self.columns.keys() & self.constants.keys())
        if twice:
            raise ValueError(f"{twice[0]} is named under columns and under constants")
        if self.zone is not None:
            zone_of(self.zone)
        return self

    @property
    def tzinfo(self) -> ZoneInfo | None:
        """The zone."""
        return zone_of(self.zone) if self.zone else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One event as it stands in its file."""

    number: int
    """From 1."""
    line: int
    done: int
    """Bytes read so far."""
    event: Callable[[], Mapping[str, Any]]
    """Its fields; raises RecordRefused where it is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSource:
    """A file, checked as a whole and ready to be read."""

    digest: str
    """SHA-256 of its bytes, hex."""
    total: int
    """Bytes."""
    records: Callable[[], Iterator[Record]]
    columns: Mapping[str, str]
    """Field to column of a table; empty for JSON lines."""


def mapping_of(path: Path | None) -> EventMapping:
    """The mapping in the file; where there is none the columns have the fields' names.

    Raises:
        UsageError: there is no such file.
        SpecError: it is wrong.
    """
    if path is None:
        return EventMapping()
    try:
        return load_spec(EventMapping, path)
    except FileNotFoundError as error:
        raise UsageError(f"--mapping {path}", seen="no such file", next_step="check the path") from error
    except SpecError as error:
        raise SpecError("--mapping", seen=error.seen, needed=error.needed, next_step=error.next_step) from error


def opened(path: Path, mapping: EventMapping, *, known: tuple[str, ...]) -> EventSource:
    """The file as a source.

    Raises:
        UsageError: it cannot be read, or has neither form.
        SpecError: the mapping names a field or a column that does not exist.
    """
    head = files.checked_head(path, subject=str(path))
    is_json = head.lstrip()[:1] == b"{"
    columns: Mapping[str, str] = {}
    records: Callable[[], Iterator[Record]] = partial(_json_records, path)
    if not is_json:
        header = header_of(head, mapping.separator, path)
        columns = _columns(path, header, mapping, known)
        records = partial(_read_csv, path, header, columns, mapping)
    return EventSource(digest=files.sha256_of(path), total=path.stat().st_size, records=records, columns=columns)


def _json_records(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        number = 0
        for line in files.lines_of(file):
            if line.text is not None and not line.text.strip():
                continue
            number += 1
            yield Record(number=number, line=line.number, done=line.done, event=partial(_json_event, line.text))


def _json_event(line: bytes | None) -> Mapping[str, Any]:
    if line is None:
        fields.refuse("too_long", "line", "longer than 10 MB", "one event on each line")
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields.refuse("not_json", "line", "not JSON", "one JSON object on each line")
    if not isinstance(event, dict):
        fields.refuse("not_an_object", "line", fields.type_name(event), "one JSON object on each line")
    return event


def _columns(path: Path, header: list[str], mapping: EventMapping, known: tuple[str, ...]) -> Mapping[str, str]:
    """Field to column."""
    unknown = [name for name in (*mapping.columns, *mapping.constants) if name not in known]
    if unknown:
        raise SpecError("--mapping", seen=f"{unknown[0]} is no field of such an event", needed=f"one of {', '.join(known)}")
    missing = [column for column in mapping.columns.values() if column not in header]
    if missing:
        raise SpecError("--mapping", seen=f"{path.name} has no column {missing[0]!r}", needed=f"columns of the file: {', '.join(header)}")
    columns = {name: mapping.columns.get(name, name) for name in known if mapping.columns.get(name, name) in header}
    if not columns:
        needed = f"a header that names {', '.join(known)}"
        raise UsageError(str(path), seen="no column of that kind", needed=needed, next_step="or say which column is which: --mapping FILE")
    return columns


def _read_csv(path: Path, header: list[str], columns: Mapping[str, str], mapping: EventMapping) -> Iterator[Record]:
    for row in rows_of(path, header, mapping.separator):
        yield Record(number=row.number, line=row.line, done=row.done, event=partial(_csv_event, row.cells, columns, mapping))


def _csv_event(cells: Mapping[str, str] | RecordRefused, columns: Mapping[str, str], mapping: EventMapping) -> Mapping[str, Any]:
    if isinstance(cells, RecordRefused):
        raise cells
    event: dict[str, Any] = dict(mapping.constants)
    for name, column in columns.items():
        cell = cells[column].strip()
        if cell not in mapping.null_markers:
            event[name] = _number(cell, name) if name in _NUMBERS else cell
    return event


def _number(cell: str, name: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return fields.refuse("wrong_type", name, "text", "a number with a decimal point")
