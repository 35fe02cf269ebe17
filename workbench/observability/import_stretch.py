"""Consecutive records of a file made ready to be stored: read, checked and sealed, in Arrow columns.

Nothing here depends on the records before, on a store or on who imports, so stretches may be prepared in any process. What does
depend on them (repeats, bundles, permission) is decided from what a stretch says, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from workbench.errors import RecordRefused
from workbench.observability.importers import fields
from workbench.observability.importers.source import Imported, Refused, Row
from workbench.observability.sealed_columns import SealedRows
from workbench.observability.sealing import Sealer

STRETCH_RECORDS = 1000
"""Records in one stretch, at most."""
_STRETCH_CHARACTERS = 4_000_000
_LONGEST_MS = 24 * 3600 * 1000
_LONGEST_WORKFLOW = 200


class Stretch(NamedTuple):
    """What became of consecutive records."""

    last: int
    """Number of its last record."""
    done: int
    """How much of the source is read after it."""
    n: int
    n_behind: int
    """Records behind the mark; those before it are only named, for the repeats that follow."""
    ids: list[str]
    """The request id of each record that could be read, also before the mark."""
    contents: list[int]
    """As of `Imported`, for each of the ids."""
    ats: list[int]
    """The number of the record, for each of the ids."""
    lines: list[int]
    """Where the record stands in the file, for people."""
    unread: list[Refused]
    """Records behind the mark that could not be read."""
    unfit: dict[int, Refused]
    """Records behind the mark that could be read and cannot be stored, by number."""
    tables: dict[str, pa.Table]
    """Sealed rows of the fit records behind the mark, `seq` being the number of the record. `bundle` of a request is what the record
    says about it, which may be a name; other rows have none yet."""
    characters: int


class Preparing(NamedTuple):
    """How stretches are prepared; the same for all of a file."""

    sealer: Sealer
    latest: datetime
    """Times beyond it are refused."""
    mark: int
    """Records up to this number are stored already."""
    most_records: int = STRETCH_RECORDS

    def stretches(self, records: Iterable[Imported | Refused]) -> Iterator[Stretch]:
        """The records as stretches, in their order."""
        made = _Making(self)
        for record in records:
            made.take(record)
            if made.is_full:
                yield made.stretch()
                made = _Making(self)
        if made.last:
            yield made.stretch()


class _Making:
    """A stretch in the making."""

    def __init__(self, how: Preparing) -> None:
        self._how = how
        self._rows = SealedRows(how.sealer)
        self._n = self._n_behind = self.last = self._done = 0
        self._ids: list[str] = []
        self._contents: list[int] = []
        self._ats: list[int] = []
        self._lines: list[int] = []
        self._unread: list[Refused] = []
        self._unfit: dict[int, Refused] = {}
        self._bundles: list[str | None] = []

    @property
    def is_full(self) -> bool:
        return self._n >= self._how.most_records or self._rows.characters >= _STRETCH_CHARACTERS

    def take(self, record: Imported | Refused) -> None:
        self._n += 1
        self.last, self._done = record.at, record.done
        is_behind = record.at > self._how.mark
        self._n_behind += is_behind
        if isinstance(record, Imported):
            request = record.rows.requests[0]
            self._ids.append(request["request_id"])
            self._contents.append(record.content)
            self._ats.append(record.at)
            self._lines.append(record.line or record.at)
            if is_behind:
                self._add(record, request)
        elif is_behind:
            self._unread.append(record)

    def stretch(self) -> Stretch:
        tables = self._rows.tables()
        if any(self._bundles):
            requests = tables["requests"]
            place = requests.column_names.index("bundle")
            tables["requests"] = requests.set_column(place, "bundle", pa.array(self._bundles, pa.string()))
        return Stretch(
            last=self.last,
            done=self._done,
            n=self._n,
            n_behind=self._n_behind,
            ids=self._ids,
            contents=self._contents,
            ats=self._ats,
            lines=self._lines,
            unread=self._unread,
            unfit=self._unfit,
            tables=tables,
            characters=self._rows.characters,
        )

    def _add(self, record: Imported, request: Row) -> None:
        """Take the rows of a record, or note why they cannot be stored."""
        bundle = request.pop("bundle", None)
        for span in record.rows.spans:
            span.pop("bundle", None)
        try:
            _check(request, latest=self._how.latest)
            for score in record.rows.scores:
                score["app"] = request["app"]
            self._rows.add(record.rows, at=record.at)
        except RecordRefused as refusal:
            self._unfit[record.at] = Refused(record.at, record.done, refusal.reason, str(refusal), record.line)
        else:
            self._bundles.append(None if bundle is None else str(bundle))


def _check(request: Row, *, latest: datetime) -> None:
    """Return when the request can be true.

    Raises:
        RecordRefused: when its app is no app name, its workflow no name, it lies in the future or it took longer than a day.
    """
    fields.app_name(request["app"])
    workflow = request.get("workflow")
    if isinstance(workflow, str) and len(workflow) > _LONGEST_WORKFLOW:
        fields.refuse("too_long", "workflow", f"{len(workflow)} characters", f"a name of at most {_LONGEST_WORKFLOW}")
    start, end = request["ts_start"], request.get("ts_end")
    if start > latest or (end is not None and end > latest):
        fields.refuse("future_time", "ts_start" if start > latest else "ts_end", "more than a day in the future", "a time that has been")
    for name in ("latency_ms", "ttft_ms"):
        if (request.get(name) or 0) > _LONGEST_MS:
            fields.refuse("absurd_latency", name, f"{request[name]:g} ms", "at most 24 hours", "is the number in another unit?")
