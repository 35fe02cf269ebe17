"""Traces in files, as OpenTelemetry's collector and exporters write them: each request of each trace is one record.

A file holds OTLP's JSON (one object with `resourceSpans`, or one in each line), or protobuf (one message, or messages behind their length
in four bytes, as the collector's file exporter writes them); either may be packed with gzip. All of a file is read before its first
request is put together, because the spans of a trace lie anywhere in it.

The app is `workbench.app` of the span or its resource, else the import's. Which span is a request, and what its spans add up to, is
said in `observability/otlp/`. A trace without any span of a model, a tool, a retrieval or an agent is refused.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from workbench.errors import RecordRefused, UsageError
from workbench.observability.importers import fields, files
from workbench.observability.importers.source import Imported, ImportOptions, Refused, Row, Rows, Source
from workbench.observability.otlp import aliases, decode
from workbench.observability.otlp.assembly import Assembled, assemble, score_row
from workbench.observability.otlp.decode import Batch, Unread
from workbench.observability.otlp.facts import HIDDEN, facts_of, is_ai
from workbench.observability.otlp.model import Facts, TraceSpan
from workbench.observability.otlp.sealing import row_of

_MOST_BYTES = 1 << 30
_LATEST_US = 4_102_444_800_000_000
"""The year 2100; what lies ahead of the clock is refused later."""
_LENGTH_BYTES = 4
_NO_SPAN = ("not_json", "not_otlp")
"""Why a line is refused of which nobody knows whether it is about a span."""
_NEEDED = "OTLP traces as JSON, JSON lines or protobuf"


class Otlp:
    """The importer of trace files."""

    name = "otlp"
    summary = "OpenTelemetry traces (OTLP as JSON, JSON lines or protobuf, also .gz)"

    def open(self, path: Path, options: ImportOptions) -> Source:
        """The file as a source.

        Raises:
            UsageError: when it holds no traces.
        """
        content = _content(path)
        batches = list(_batches(content, str(path)))
        if all(not batch.spans and all(unread.reason in _NO_SPAN for unread in batch.unread) for batch in batches):
            raise files.no_records(str(path), f"no span stands in it; needed: {_NEEDED}")
        records = list(_records(batches, options.app))
        return Source(
            path=path,
            digest=files.sha256_of(path),
            settings={"app": options.app},
            total=len(records),
            records=partial(_numbered, records),
            app=options.app,
            adds=frozenset({"spans"}),
        )


def _content(path: Path) -> bytes:
    """The file's bytes, unpacked."""
    is_packed = files.first_bytes(path, subject=str(path)).startswith(b"\x1f\x8b")
    with path.open("rb") as file:
        try:
            content = (gzip.GzipFile(fileobj=file) if is_packed else file).read(_MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as fault:
            raise UsageError(str(path), seen="gzip that is damaged or cut off", needed=_NEEDED) from fault
    if len(content) > _MOST_BYTES:
        seen, needed = "more than 1 GiB of traces", "smaller files, each with whole traces"
        raise UsageError(str(path), seen=seen, needed=needed, next_step="send them to a gateway's /v1/traces instead")
    return content


def _batches(content: bytes, subject: str) -> Iterator[Batch]:
    """The messages of a file.

    Raises:
        UsageError: it holds something else.
    """
    text = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    try:
        if text[:1] in (b"{", b"["):
            yield from _of_json(text)
        else:
            for message in _messages(content):
                yield decode.from_protobuf(message, latest_us=_LATEST_US)
    except RecordRefused as refusal:
        raise UsageError(subject, seen=f"{refusal.subject}: {refusal.seen}", needed=_NEEDED) from refusal


def _of_json(text: bytes) -> Iterator[Batch]:
    """One object, a list of such objects, or one in each line; a line that is none is refused alone."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        yield from map(_of_line, filter(None, map(bytes.strip, text.split(b"\n"))))
        return
    for item in found if isinstance(found, list) else [found]:
        if not isinstance(item, dict) or "resourceSpans" not in item:
            raise RecordRefused("file", reason="not_otlp", seen="JSON without `resourceSpans`")
        yield decode.from_object(item, latest_us=_LATEST_US)


def _of_line(line: bytes) -> Batch:
    try:
        return decode.from_json(line, latest_us=_LATEST_US)
    except RecordRefused as refusal:
        return Batch([], [Unread(refusal.reason, str(refusal), 1)])


def _messages(content: bytes) -> Iterator[bytes]:
    """The file as one message, or those behind their lengths."""
    at, found = 0, []
    while at + _LENGTH_BYTES <= len(content):
        length = int.from_bytes(content[at : at + _LENGTH_BYTES], "big")
        at += _LENGTH_BYTES
        found.append(content[at : at + length])
        at += length
    yield from found if found and at == len(content) else [content]


class _Refusal(NamedTuple):
    """Why a record could not be made."""

    reason: str
    sentence: str


def _records(batches: Iterable[Batch], app: str | None) -> Iterator[Rows | _Refusal]:
    """What is to be stored of each request, and what is refused, in the order in which the file first speaks of each trace."""
    traces: dict[tuple[str | None, str], list[TraceSpan]] = {}
    for batch in batches:
        for unread in batch.unread:
            yield from [_Refusal(unread.reason, unread.sentence)] * unread.n
        for span in batch.spans:
            named = span.attributes.get(aliases.APP, span.resource.get(aliases.APP, app))
            traces.setdefault((named if isinstance(named, str) else None, span.trace_id), []).append(span)
    for (named, _), spans in traces.items():
        try:
            yield from _of_trace(spans, named)
        except RecordRefused as refusal:
            yield _Refusal(refusal.reason, str(refusal))


def _of_trace(spans: Sequence[TraceSpan], app: str | None) -> Iterator[Rows]:
    if not any(map(is_ai, spans)):
        fields.refuse(
            "no_ai",
            "trace",
            "no span of a model, a tool, a retrieval or an agent",
            "names of OpenTelemetry GenAI, OpenInference or OpenLLMetry",
        )
    if app is None:
        fields.refuse("missing_app", "app", "no app in the trace", f"`{aliases.APP}`", "or name the app of the file with --app")
    for request in assemble(map(facts_of, spans), app=app):
        yield _rows(request)


def _rows(request: Assembled) -> Rows:
    row: Row = {**request.row, "bundle": request.row.get("bundle"), "revision": 1, "is_final": True, "unit": request.unit}
    for name in ("input_hmac", "output_hmac"):
        row.pop(name)
    spans = [row_of(_without_unit(facts), app=row["app"], request_id=request.request_id) for facts in request.spans]
    scores = [score_row(score, facts, request) for facts in request.spans for score in facts.scores]
    return Rows(requests=[row], spans=spans, scores=scores)


def _without_unit(facts: Facts) -> Facts:
    """The facts of a span whose attributes do not say whom it was for: the request's row holds that, as a hash."""
    span = facts.span
    hidden = replace(
        span,
        attributes=_hidden(span.attributes),
        resource=_hidden(span.resource),
        events=tuple(event._replace(attributes=_hidden(event.attributes)) for event in span.events),
    )
    return replace(facts, span=hidden)


def _hidden(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    named = [name for name in aliases.UNITS if attributes.get(name) not in (None, "")]
    return {**attributes, **dict.fromkeys(named, HIDDEN)} if named else attributes


def _numbered(records: Sequence[Rows | _Refusal]) -> Iterator[Imported | Refused]:
    for number, record in enumerate(records, start=1):
        if isinstance(record, _Refusal):
            yield Refused(number, number, record.reason, record.sentence)
        else:  # sealing changes the rows, and a file may be read again
            copied = Rows(*([dict(row) for row in rows] for rows in record))
            yield Imported(number, number, 0, copied)
