"""CSV logs of any shape: a mapping file says which column is which field.

```yaml
# mapping.yaml
app: shop                       # a constant; or a column under `columns`
zone: Europe/Berlin             # zone of times without one; `--zone` overrules it
separator: ";"                  # default ","
null_markers: ["", "NULL", "-"] # cells that mean "no value"; default empty cells
columns:                        # field: column, or field: {column, unit | format | values}
  ts_start: {column: TIMESTAMP, format: "%d.%m.%Y %H:%M:%S"}
  latency_ms: {column: seconds, unit: s}
  input_tokens: ContextTokens
  status: {column: result, values: {OK: ok, FAIL: error}}
constants: {workflow: code, model_requested: gpt-4}
request_id: [run, row]          # columns that make the id; default is the row's number and the file's digest
scores: {csat: {column: stars}} # score name: column with a number
```

A time is ISO 8601 text, text in the `format` given (`strptime`), or a number with `unit: s`, `ms`, `us` or `ns` since 1970.
A duration has the unit `ms`, unless `unit: s` or `us` says otherwise. The first row names the columns.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from workbench.errors import RecordRefused, SpecError, UsageError
from workbench.observability.importers import fields, files
from workbench.observability.importers.completions import declared_status
from workbench.observability.importers.source import Imported, ImportOptions, Refused, Row, Rows, Source
from workbench.spec.base import Name, Spec
from workbench.spec.loading import load_spec

_TIMES = ("ts_start", "ts_end")
_DURATIONS = ("latency_ms", "ttft_ms")
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_COUNTS = (*_TOKENS, "n_tool_calls", "n_tool_errors", "n_retrievals", "attempts")
_IDS = ("request_id", "app", "workflow", "session_id", "unit", "bundle", "arm", "release_id", "trace_id")
_TEXTS = (*_IDS, "operation", "provider", "model_requested", "model_served", "error_type", "finish_reason")
_BODIES = ("input", "output")
FIELDS = (*_TIMES, *_DURATIONS, *_COUNTS, *_TEXTS, *_BODIES, "status", "cost_usd", "is_fallback")
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_TRUE, _FALSE = ("true", "1", "yes", "t", "y"), ("false", "0", "no", "f", "n")
_SCORES = "scores."
_ARMS = ("stable", "candidate", "shadow", "none")


class MappedColumn(Spec):
    """One column and how its cells are read."""

    column: str
    unit: Literal["s", "ms", "us", "ns"] | None = None
    """Of a duration, or of a number since 1970 for a time."""
    format: str | None = None
    """`strptime` format of a time."""
    values: dict[str, str] = Field(default_factory=dict)
    """Cell to value, for example `{OK: ok}`. Cells that are not named stay as they are."""


class CsvMapping(Spec):
    """How a CSV file becomes requests."""

    app: Name | None = None
    zone: str | None = None
    separator: str = Field(default=",", min_length=1, max_length=1)
    null_markers: tuple[str, ...] = ("",)
    columns: dict[str, MappedColumn]
    """Field of a request to column."""
    constants: dict[str, str | int | float | bool] = Field(default_factory=dict)
    request_id: tuple[str, ...] = ()
    """Columns whose cells together name a request."""
    scores: dict[str, MappedColumn] = Field(default_factory=dict)

    @field_validator("columns", "scores", mode="before")
    @classmethod
    def _short_form(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        return {key: {"column": value} if isinstance(value, str) else value for key, value in given.items()}

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str | None) -> str | None:
        if zone is not None:
            zone_of(zone)
        return zone

    @model_validator(mode="after")
    def _fields_exist(self) -> Self:
        for name in (*self.columns, *self.constants):
            if name not in FIELDS:
                near = difflib.get_close_matches(name, FIELDS, n=1)
                raise ValueError(
                    f"{name!r} is no field of a request"
                    + (f"; did you mean {near[0]!r}?" if near else f"; the fields are {', '.join(FIELDS)}")
                )
        if "ts_start" not in self.columns:
            raise ValueError("`columns` must say where ts_start is")
        wrong = next((name for name, column in self.columns.items() if column.unit == "ns" and name in _DURATIONS), None)
        if wrong:
            raise ValueError(f"{wrong}: the unit of a duration is s, ms or us")
        return self


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        ValueError: when there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone; write a name such as UTC or Europe/Berlin") from error


class MappedCsv:
    """The importer of CSV files with a mapping."""

    name = "csv"
    summary = "any CSV file with a header, read by a mapping file (--mapping)"

    def open(self, path: Path, options: ImportOptions) -> Source:
        """The table as a source.

        Raises:
            UsageError: without a mapping, or when the file is no table.
            SpecError: when the mapping is wrong or names a column that the file lacks.
        """
        if options.mapping is None:
            needed = "a mapping file that says which column is which field"
            raise UsageError(f"import csv {path}", seen="no mapping", needed=needed, next_step="give it with --mapping FILE")
        mapping = _mapping_of(options.mapping)
        head = files.checked_head(path, subject=str(path))
        header = header_of(head, mapping.separator, path)
        _check_columns(mapping, header, options.mapping, path)
        digest = files.sha256_of(path)
        zone = options.zone or (zone_of(mapping.zone) if mapping.zone else None)
        reading = _Reading(mapping=mapping, app=options.app or mapping.app, zone=zone, digest=digest)
        settings = {"app": options.app, "zone": zone.key if zone else None, "mapping": mapping.model_dump(mode="json")}
        return Source(
            path=path,
            digest=digest,
            settings=settings,
            total=path.stat().st_size,
            records=partial(_records, path, header, reading),
            app=options.app or mapping.app,
        )


def _mapping_of(path: Path) -> CsvMapping:
    try:
        if path.stat().st_size == 0:
            raise UsageError(f"--mapping {path}", seen="is empty", needed="at least `columns`, with `ts_start`")
        return load_spec(CsvMapping, path)
    except FileNotFoundError as error:
        raise UsageError(f"--mapping {path}", seen="no such file", next_step="check the path") from error
    except SpecError as error:
        raise SpecError("--mapping", seen=error.seen, needed=error.needed, next_step=error.next_step) from error


def header_of(head: bytes, separator: str, path: Path) -> list[str]:
    """The names of a table's columns.

    Raises:
        UsageError: it is no table, names a column twice, or has no row.
    """
    if files.looks_like(head) in ("openai-jsonl", "tau2"):
        raise UsageError(str(path), seen="JSON, not a table", needed="CSV with a header", next_step=files.hint_at(head, wanted="csv"))
    table = csv.reader(io.StringIO(head.decode("utf-8", "replace"), newline=""), delimiter=separator)
    names = [name.strip() for name in next(table, [])]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(str(path), seen=f"the column {twice[0]!r} is there more than once", needed="a name for each column")
    if not any(table) and path.stat().st_size < files.HEAD:
        raise files.no_records(str(path), "there is no row below the header")
    return names


def _check_columns(mapping: CsvMapping, header: list[str], mapping_path: Path, path: Path) -> None:
    named = {f"columns.{field}": column.column for field, column in mapping.columns.items()}
    named |= {f"scores.{name}": column.column for name, column in mapping.scores.items()}
    named |= {f"request_id[{index}]": column for index, column in enumerate(mapping.request_id)}
    faults = []
    for place, column in named.items():
        if column not in header:
            near = difflib.get_close_matches(column, header, n=1, cutoff=0.4)
            faults.append(f"{place}: {path.name} has no column {column!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if faults:
        raise SpecError(str(mapping_path), seen="\n".join(faults), needed=f"columns of the file: {', '.join(header)}")


def _records(path: Path, header: list[str], reading: _Reading) -> Iterator[Imported | Refused]:
    for row in rows_of(path, header, reading.separator):
        try:
            if isinstance(row.cells, RecordRefused):
                raise row.cells
            yield Imported(row.number, row.done, row.content, reading.rows(row.cells, row.number), row.line)
        except RecordRefused as refusal:
            yield Refused(row.number, row.done, refusal.reason, str(refusal), row.line)


class CsvRow(NamedTuple):
    """One row below the header."""

    number: int
    """From 1."""
    line: int
    done: int
    """Bytes read so far."""
    content: int
    """Hash of its cells."""
    cells: Mapping[str, str] | RecordRefused
    """Column to cell; or why it is no row."""


def rows_of(path: Path, header: list[str], separator: str) -> Iterator[CsvRow]:
    """The rows of a table, good and bad."""
    with path.open("rb") as file:
        progress = _Progress()
        table = csv.reader(_decoded(file, progress), delimiter=separator, strict=True)
        next(table, None)  # the header
        for number in itertools.count(1):
            line = table.line_num + 1
            content = 0
            try:
                read = next(table, None)
                if read is None:
                    return
                content = hash(tuple(read))
                cells: Mapping[str, str] | RecordRefused = _row(header, read)
            except csv.Error as error:
                cells = RecordRefused("row", reason="not_csv", seen=f"not CSV ({error})")
            except RecordRefused as refusal:
                cells = refusal
            yield CsvRow(number, line, progress.done, content, cells)


class _Progress:
    done = 0


def _decoded(file: Any, progress: _Progress) -> Iterator[str]:
    for _, done, line in files.lines_of(file):
        progress.done = done
        yield "\0" if line is None else line.decode("utf-8", "surrogateescape")


def _row(header: list[str], cells: list[str]) -> dict[str, str]:
    if not cells:
        fields.refuse("empty_line", "row", "empty", "one cell for each column")
    if len(cells) != len(header):
        fields.refuse("wrong_width", "row", f"{len(cells)} cells", f"{len(header)}, as in the header")
    if any("\0" in cell for cell in cells):
        fields.refuse("bad_text", "row", "a NUL character or a line above 10 MB", "plain text")
    if any("\udc80" <= char <= "\udcff" for cell in cells if not cell.isascii() for char in cell):
        fields.refuse("not_utf8", "row", "not UTF-8", "UTF-8 text")
    return dict(zip(header, cells, strict=True))


class _Reading:
    """Turns one row of cells into a request."""

    def __init__(self, *, mapping: CsvMapping, app: str | None, zone: ZoneInfo | None, digest: str) -> None:
        self._mapping = mapping
        self._app = app
        self._zone = zone
        self._digest = digest
        self._nulls = frozenset(mapping.null_markers)
        self.separator = mapping.separator

    def rows(self, cells: Mapping[str, str], number: int) -> Rows:
        """The request of a row, and its scores.

        Raises:
            RecordRefused: when a cell cannot be read as its field says; it names the field and its column.
        """
        try:
            return self._read(cells, number)
        except RecordRefused as refusal:
            column = self._mapping.columns.get(refusal.subject) or self._mapping.scores.get(refusal.subject.removeprefix(_SCORES))
            raise (fields.of_column(refusal, column.column, column.values) if column else refusal) from None

    def _read(self, cells: Mapping[str, str], number: int) -> Rows:
        request: Row = {"revision": 0, "is_final": True, "arm": "none", "operation": "chat", "workflow": "unassigned", "source": "csv"}
        request |= self._mapping.constants
        for field, column in self._mapping.columns.items():
            value = self._value(field, column, cells[column.column])
            if value is not None:
                request[field] = value
        return self._checked(request, cells, number)

    def _checked(self, request: Row, cells: Mapping[str, str], number: int) -> Rows:
        if "ts_start" not in request:
            fields.refuse("missing_field", "ts_start", "no value", "a start time")
        request.setdefault("app", self._app)
        if request["app"] is None:
            fields.refuse("missing_app", "app", "no app", "`app` in the mapping", "or name it with --app")
        if request["arm"] not in _ARMS:
            fields.refuse("unknown_value", "arm", "another value", ", ".join(_ARMS))
        request["request_id"] = request.get("request_id") or self._request_id(cells, number)
        request["status"] = _status(request)
        _fill_times(request)
        return Rows(requests=[request], scores=list(self._scores(request, cells)))

    def _request_id(self, cells: Mapping[str, str], number: int) -> str:
        own = [cells[column] for column in self._mapping.request_id]
        if own and not any(cell in self._nulls for cell in own):
            return own[0] if len(own) == 1 else ":".join(own)
        return "csv-" + hashlib.sha256(f"{self._digest}\0{number}".encode()).hexdigest()[:32]

    def _scores(self, request: Row, cells: Mapping[str, str]) -> Iterator[Row]:
        for name, column in self._mapping.scores.items():
            cell = column.values.get(cells[column.column].strip(), cells[column.column].strip())
            if cell in self._nulls:
                continue
            yield {
                "score_id": f"{request['request_id']}:{name}",
                "request_id": request["request_id"],
                "name": name,
                "value": _number(cell, _SCORES + name),
                "scorer_id": f"csv:{column.column}",
                "source": "rule",
                "ts": request.get("ts_end") or request["ts_start"],
            }

    def _value(self, field: str, column: MappedColumn, cell: str) -> Any:
        """The cell as the field's value; None for a null marker."""
        cell = cell if field in _BODIES else cell.strip()
        if cell in self._nulls:
            return None
        cell = column.values.get(cell, cell)
        if field in _TIMES:
            return self._time(field, column, cell)
        if field in _DURATIONS:
            return fields.milliseconds({field: _number(cell, field) * 1000 / _PER_SECOND[column.unit or "ms"]}, field)
        return _READERS.get(field, _text)(cell, field)

    def _time(self, field: str, column: MappedColumn, cell: str) -> datetime:
        if column.unit is not None:
            return fields.unix(_number(cell, field) / _PER_SECOND[column.unit], field)
        if column.format is None:
            return fields.moment(cell, field, self._zone)
        try:
            instant = datetime.strptime(cell, column.format)  # noqa: DTZ007 - the zone is put on below
        except ValueError:
            fields.refuse("bad_time", field, "another form of time", f"the format {column.format}")
        return fields.aware(instant, field, self._zone)


def _number(cell: str, field: str) -> float:
    try:
        return float(cell)
    except ValueError:
        fields.refuse("wrong_type", field, "text", "a number with a decimal point")


def _boolean(cell: str, field: str) -> bool:
    word = cell.lower()
    if word not in (*_TRUE, *_FALSE):
        fields.refuse("wrong_type", field, "another word", "true or false")
    return word in _TRUE


def _text(cell: str, field: str) -> str | None:
    return cell if field in _BODIES else fields.text({field: cell}, field)


def _count(cell: str, field: str) -> int | None:
    return fields.count({field: _number(cell, field)}, field)


def _cost(cell: str, field: str) -> float | None:
    return fields.cost({field: _number(cell, field)}, field)


_READERS: Mapping[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(_COUNTS, _count),
    "cost_usd": _cost,
    "is_fallback": _boolean,
}


def _status(request: Row) -> str:
    """The declared status; without a status column, `unknown`."""
    return declared_status(request.get("status", "unknown"), next_step="say what it means under `values`")[0]


def _fill_times(request: Row) -> None:
    start, end, latency_ms = request["ts_start"], request.get("ts_end"), request.get("latency_ms")
    if end is not None and end < start:
        fields.refuse("end_before_start", "ts_end", f"{(start - end).total_seconds():g} s before ts_start", "an end after the start")
    if end is not None and latency_ms is None:
        request["latency_ms"] = (end - start).total_seconds() * 1000
    if end is None and latency_ms is not None:
        request["ts_end"] = start + timedelta(milliseconds=latency_ms)
