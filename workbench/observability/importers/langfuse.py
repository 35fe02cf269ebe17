"""Exports of Langfuse: what its UI, its API and its blob storage write about traces. One trace is one request.

The files of one import are read together, so that traces, observations and scores that lie in tables of their own find each
other: `workbench import langfuse traces.jsonl observations.jsonl scores.jsonl`. Enriched observations (`observations_v2`) need no traces
beside them. `langfuse_files` says which files are read, `langfuse_rows` what each trace becomes.

What several rows say about one trace, observation or score is put together; where they differ, the newest (`updated_at`), else the later
row counts. A score whose trace is in none of the files is refused, for nobody knows its request; what people say later about requests
that are stored is what `workbench import scores` is for.

Times without a zone are UTC, as the exports have them, unless the import names another zone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from workbench.errors import RecordRefused, UsageError
from workbench.observability.importers import fields, files, loose
from workbench.observability.importers.langfuse_files import Record, Unread, records_of
from workbench.observability.importers.langfuse_rows import Trace, rows
from workbench.observability.importers.source import Imported, ImportOptions, Refused, Source

_UTC = ZoneInfo("UTC")
_NO_TRACE = Unread("no_trace", "score: its trace is in none of the files; needed: the traces or observations beside it")


class Langfuse:
    """The importer of Langfuse exports."""

    name = "langfuse"
    summary = "exports of Langfuse (JSON, JSON lines, CSV or Parquet, also .gz); one trace is one request"

    def open(self, path: Path, options: ImportOptions) -> Source:
        """One file as a source.

        Raises:
            UsageError: when it is no export of Langfuse, or has scores only.
        """
        return self.open_together([path], options)

    def open_together(self, paths: Sequence[Path], options: ImportOptions) -> Source:
        """The files as one source, named after the first that has traces or observations.

        Raises:
            UsageError: when one of them is no export of Langfuse, or all have scores only.
        """
        joined = _Joined()
        main: Path | None = None
        for path in paths:
            before = joined.n_traces
            joined.take(records_of(path), subject=str(path))
            main = path if main is None and joined.n_traces > before else main
        if main is None:
            step = "name the files with the traces or observations, too"
            raise UsageError(str(paths[0]), seen="holds no trace and no observation", needed="a trace in one of the files", next_step=step)
        others = [path for path in paths if path != main]
        records = joined.records()
        settings = {"app": options.app, "zone": options.zone.key if options.zone else None}
        return Source(
            path=main,
            digest=files.sha256_of(main),
            settings=settings | ({"with": [files.sha256_of(path) for path in others]} if others else {}),
            total=len(records),
            records=partial(_read, records, options.app, options.zone or _UTC),
            app=options.app,
            adds=frozenset({"scores"}),
            notes=(f"read together with {', '.join(path.name for path in others)}",) if others else (),
        )


class _Joined:
    """The records of several files, each with the trace it belongs to."""

    def __init__(self) -> None:
        self._traces: dict[str, Trace] = {}
        self._known: set[str] = set()
        self._unread: list[Unread] = []

    @property
    def n_traces(self) -> int:
        """Those that a trace or an observation speaks of."""
        return len(self._known)

    def take(self, records: Iterator[Record | Unread], *, subject: str) -> None:
        """Put the records of a file to the others.

        Raises:
            UsageError: when none of them is one of Langfuse.
        """
        n_read, unread = 0, list[Unread]()
        for record in records:
            if isinstance(record, Unread):
                unread.append(record)
                continue
            n_read += 1
            try:
                self._put(record)
            except RecordRefused as refusal:
                unread.append(Unread(refusal.reason, str(refusal)))
        if not n_read:
            seen = f"no row of Langfuse in it ({unread[0].sentence})" if unread else "no row in it"
            raise UsageError(subject, seen=seen, needed="traces, observations or scores of Langfuse")
        self._unread += unread

    def records(self) -> list[Trace | Unread]:
        """The traces in the order in which the files first speak of them, then what cannot be read."""
        orphans = [_NO_TRACE for name, trace in self._traces.items() if name not in self._known for _ in trace.scores]
        return [*(trace for name, trace in self._traces.items() if name in self._known), *self._unread, *orphans]

    def _put(self, record: Record) -> None:
        values = record.values
        own_id = fields.text(values, "id")
        trace_id = own_id if record.kind == "trace" else fields.text(values, "trace_id")
        if trace_id is None:
            if record.kind == "score":
                fields.refuse("no_trace", "trace_id", "a score of no trace", "a score of a trace")
            fields.refuse("missing_field", "id" if record.kind == "trace" else "trace_id", "nothing", "the trace's id")
        if own_id is None and record.kind == "observation":
            fields.refuse("missing_field", "id", "nothing", "the observation's id")
        trace = self._traces.setdefault(trace_id, Trace(trace_id))
        if record.kind != "score":
            self._known.add(trace_id)
        if record.kind == "trace":
            trace.own = _merged(trace.own, {key: value for key, value in values.items() if key not in ("observations", "scores")})
            return
        kept = trace.observations if record.kind == "observation" else trace.scores
        key = own_id or f"#{len(kept)}"
        kept[key] = _merged(kept.get(key, {}), values)


def _merged(known: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the newer over the older, and what is empty over nothing."""
    older, newer = (
        (known, more) if (loose.text(known.get("updated_at")) or "") <= (loose.text(more.get("updated_at")) or "~") else (more, known)
    )
    return {**older, **{key: value for key, value in newer.items() if value not in (None, "") or key not in older}}


def _read(records: Sequence[Trace | Unread], app: str | None, zone: ZoneInfo) -> Iterator[Imported | Refused]:
    for number, record in enumerate(records, start=1):
        if isinstance(record, Unread):
            yield Refused(number, number, record.reason, record.sentence)
            continue
        try:
            yield Imported(number, number, _content(record), rows(record, app=app, zone=zone))
        except RecordRefused as refusal:
            yield Refused(number, number, refusal.reason, str(refusal))


def _content(trace: Trace) -> int:
    try:
        return hash(orjson.dumps([trace.own, trace.observations, trace.scores], option=orjson.OPT_SORT_KEYS))
    except orjson.JSONEncodeError:
        fields.refuse("too_deep", "trace", "nested too deeply to be stored", "at most 250 levels")
