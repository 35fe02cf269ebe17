"""Export files of Langfuse as plain records: JSON, JSON lines, CSV or Parquet, from the UI, the API or blob storage.

A record is an object with keys in `snake_case`, whatever their spelling in the file (`traceId`, `trace_id`, `Trace ID`), and of one of
three kinds: an observation has a `start_time`; a score has a `name` and a `value` or `string_value`; a trace has a `timestamp` or
`observations`. Lists under `data` (the API), a trace under `trace` beside its observations (the UI's download of one), and the observations
and scores inside a trace are records of their own. In CSV, cells with JSON objects and lists and those of number columns are read as such.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import RecordRefused, UsageError
from workbench.observability.importers import fields, files, lenient_json

_NEEDED = "an export of Langfuse as JSON, JSON lines, CSV or Parquet"
_LARGEST = 1024**3
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NUMBERS = re.compile(r"(latency|value|time_to_first_token|prompt_version|usage|.*_(tokens|cost|usage|count))")
_LISTS = ("data", "traces", "observations", "scores")


class Record(NamedTuple):
    """One row of a table."""

    kind: str
    """`trace`, `observation` or `score`."""
    values: Mapping[str, Any]


class Unread(NamedTuple):
    """A row that is no record."""

    reason: str
    sentence: str


def records_of(path: Path) -> Iterator[Record | Unread]:
    """The records of a file.

    Raises:
        UsageError: when it is no export of Langfuse.
    """
    head = files.first_bytes(path, subject=str(path))
    if head.startswith(b"PAR1"):
        yield from _from_parquet(path)
        return
    content = _content(path, is_packed=head.startswith(b"\x1f\x8b"))
    text = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise files.no_records(str(path), "the file is empty")
    if text[:1] in (b"{", b"["):
        yield from _from_json(text)
    else:
        yield from _from_csv(content.removeprefix(b"\xef\xbb\xbf"), str(path))


def _content(path: Path, *, is_packed: bool) -> bytes:
    with path.open("rb") as file:
        try:
            content = (gzip.GzipFile(fileobj=file) if is_packed else file).read(_LARGEST + 1)
        except (OSError, EOFError, zlib.error) as fault:
            raise UsageError(str(path), seen="gzip that is damaged or cut off", needed=_NEEDED) from fault
    if len(content) > _LARGEST:
        raise UsageError(str(path), seen="more than 1 GiB", needed="smaller files, each with whole traces")
    return content


def _from_json(text: bytes) -> Iterator[Record | Unread]:
    """One document, or one in each line."""
    try:
        found = lenient_json.loads(text)
    except orjson.JSONDecodeError:
        for line in filter(None, map(bytes.strip, text.split(b"\n"))):
            try:
                yield from _of(files.object_of(line))
            except RecordRefused as refusal:
                yield Unread(refusal.reason, str(refusal))
    else:
        yield from _of(found)


def _from_csv(content: bytes, subject: str) -> Iterator[Record | Unread]:
    try:
        table = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
        named = [_snake(name) for name in table.fieldnames or ()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(subject, seen="neither JSON nor CSV in UTF-8", needed=_NEEDED) from error
    if not {"id", "trace_id"} & set(named):
        raise UsageError(subject, seen="a table without a column `id` or `trace_id`", needed=_NEEDED)
    before = csv.field_size_limit(files.LONGEST_LINE)
    try:
        for row in table:
            yield from _of({name: _cell(name, row.get(given)) for name, given in zip(named, table.fieldnames or (), strict=True)})
    except csv.Error:
        yield Unread("not_csv", "line: CSV that breaks off or has a cell above 10 MB; needed: a whole file")
    finally:
        csv.field_size_limit(before)


def _cell(name: str, text: Any) -> Any:
    if not isinstance(text, str) or not text:
        return None
    if text[:1] in "{[" or _NUMBERS.fullmatch(name):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text


def _from_parquet(path: Path) -> Iterator[Record | Unread]:
    try:
        table = pq.ParquetFile(path)
        for batch in table.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                yield from _of({name: _plain(value) for name, value in row.items()})
    except (pa.ArrowException, OSError) as error:
        raise UsageError(str(path), seen="a Parquet file that cannot be read", needed=_NEEDED) from error


def _plain(value: Any) -> Any:
    """A value of Arrow as JSON has it."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        is_map = bool(value) and all(isinstance(pair, tuple) for pair in value)
        return {str(key): _plain(part) for key, part in value} if is_map else [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value if isinstance(value, (str, int, float, bool)) else None


def _of(found: Any) -> Iterator[Record | Unread]:
    """The records that a JSON value holds."""
    waiting: list[Any] = [found]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
        elif not isinstance(value, dict):
            yield Unread("not_an_object", f"record: {fields.type_name(value)}; needed: an object")
        elif isinstance(value.get("trace"), dict) or isinstance(value.get("data"), list):
            waiting += [value[key] for key in reversed(_LISTS) if isinstance(value.get(key), list)]
            waiting += [value["trace"]] if isinstance(value.get("trace"), dict) else []
        else:
            yield from _record(value, waiting)


def _record(value: Mapping[str, Any], waiting: list[Any]) -> Iterator[Record | Unread]:
    """A single record; what lies inside of a trace waits for its turn."""
    values = {_snake(name): part for name, part in value.items()}
    if values.get("start_time") is not None:
        yield Record("observation", values)
    elif values.get("name") is not None and ("value" in values or "string_value" in values):
        yield Record("score", values)
    elif values.get("timestamp") is not None or "observations" in values:
        yield Record("trace", values)
        for name in ("scores", "observations"):
            inner = values.get(name)
            waiting += _belonging(reversed(inner), values.get("id")) if isinstance(inner, list) else ()
    else:
        yield Unread(
            "unknown_table", "record: neither `start_time`, `timestamp` nor a score's `name` and `value`; needed: a row of Langfuse"
        )


def _belonging(inner: Iterable[Any], trace_id: Any) -> Iterator[Any]:
    """The objects of a list inside a trace, which is theirs; ids alone say nothing."""
    for one in inner:
        if isinstance(one, dict):
            has_trace = one.get("traceId") is not None or one.get("trace_id") is not None
            yield one if has_trace else {**one, "trace_id": trace_id}


def _snake(name: str) -> str:
    return _CAMEL.sub("_", name.strip()).replace(" ", "_").replace("-", "_").lower()
